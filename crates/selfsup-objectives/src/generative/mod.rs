//! Methods that learn by making what was taken from an image, and the decoder and the pixels that they share.

pub mod colorization;
pub mod decoder;
pub mod denoising;
pub mod image_gpt;
pub mod inpainting;
pub mod pixels;
#[cfg(test)]
mod reference;
