//! Methods that hide patches of an image and predict them from the rest.
//!
//! [`mae`] and [`simmim`] predict pixels. [`patches`] cuts images and puts them together
//! again, [`pixel_loss`] compares pixels, and [`token_decoder`] is the small Transformer that predicts.

pub mod mae;
pub mod patches;
pub mod pixel_loss;
#[cfg(test)]
mod reference;
pub mod simmim;
pub mod token_decoder;
