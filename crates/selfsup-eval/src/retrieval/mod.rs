//! Retrieval:
//! - `search`: every query against the gallery, and the means over queries
//! - `tied_ranking`: the measures of one ranking, ties in expectation

pub mod search;
mod tied_ranking;
