//! Probes beyond one class a sample and all labels:
//! - `multi_label`: samples with any number of labels
//! - `regression`: targets that are numbers
//! - `label_curve`: what is reached with 1, 5, 10, ... labels a class
//! - `segmentation`: a class for every place of an image
//! - `detection`: boxes, by linear functions of the places of an image
//! - `attentive`: one query that looks at the tokens of a sample
//! - `maps`: the maps that these take, checked

pub mod attentive;
pub mod detection;
pub mod label_curve;
mod maps;
pub mod multi_label;
pub mod regression;
pub mod segmentation;
