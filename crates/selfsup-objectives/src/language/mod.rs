//! Methods that predict parts of a text from the rest.

pub mod masked_language_modelling;
