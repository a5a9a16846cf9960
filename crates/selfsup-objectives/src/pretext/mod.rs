//! Pretext tasks: labels that are made from the data, and the objective that predicts them.

pub mod predict_labels;
