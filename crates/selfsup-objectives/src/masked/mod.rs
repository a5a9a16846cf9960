//! Methods that hide patches of an image and predict them from the rest.
//!
//! [`mae`] and [`simmim`] predict pixels, [`i_jepa`] predicts features. [`patches`] cuts images and puts them
//! together again, [`pixel_loss`] compares pixels, [`token_decoder`] is the small Transformer that predicts,
//! and [`block_masks`] draws the blocks of I-JEPA.

pub mod block_masks;
pub mod i_jepa;
pub mod mae;
pub mod patches;
pub mod pixel_loss;
#[cfg(test)]
mod reference;
pub mod simmim;
pub mod token_decoder;
#[cfg(test)]
mod whole_size;
