//! What to label next.

pub mod cluster_uncertainty;
pub mod core_set;
pub mod pool;
pub mod typiclust;
pub mod uncertainty;
pub mod weighted_ranks;

#[cfg(test)]
mod promises;
