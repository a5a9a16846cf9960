//! What is left of an accuracy when the input is disturbed:
//! - `corruption`: by noise, blur, weather and compression, at several severities
//! - `attack`: by the smallest change that misleads most

pub mod attack;
pub mod corruption;
