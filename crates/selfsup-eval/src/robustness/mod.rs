//! What is left of an accuracy when the input is disturbed:
//! - `corruption`: by noise, blur, weather and compression, at several severities
//! - `resampled`: the same from right and wrong answers, with intervals
//! - `attack`: by the smallest change that misleads most
//! - `label_noise`: when some of the labels that a probe learns from are wrong

pub mod attack;
pub mod corruption;
pub mod label_noise;
pub mod resampled;
