//! Random changes of images, with torchvision's semantics.
//!
//! Every transform comes in two parts: *drawing* its parameters from a keyed generator, into a plain struct that can
//! be stored and shown, and *applying* them, which is a pure function. One file holds one transform.
//!
//! | to | use |
//! |---|---|
//! | make a training view in one pass | [`ViewConfig`] and [`AugmentedView`] |
//! | make an evaluation view | [`PlainConfig`] and [`PlainView`] |
//! | make several views a sample | [`two_views`], [`multi_crop`] |
//! | put transforms together in any order, one's own among them, as one view | [`Pipeline`] |
//! | apply single transforms | [`RandomResizedCrop`] or [`RandomCrop`], then [`RandomFlip`], [`ColorJitter`], [`RandomGrayscale`], [`GaussianBlur`], [`Solarize`], [`RandAugment`], [`Cutout`], with [`Chain`] |
//! | add a transform of one's own | implement [`Augment`](selfsup_core::Augment) for [`Planes`], or the whole [`View`] |
//!
//! Arithmetic is in floats from 0 to 1 from the first byte to the last, as torchvision's on float tensors. On byte
//! tensors and PIL images torchvision cuts to whole bytes after every step, which loses up to 1/255 each time.

// What a view does is compiled for vectors of several widths (`vectors`), and so has to be a part of its caller.
#![allow(clippy::inline_always)]

mod affine;
mod augmented_view;
mod chain;
mod color_jitter;
mod cutout;
mod flip;
mod gaussian_blur;
mod grayscale;
mod lines;
mod multi_view;
mod padded_crop;
mod pipeline;
mod plain_view;
mod planes;
mod rand_augment;
#[cfg(test)]
mod reference;
mod resample;
mod resized_crop;
mod solarize;
mod taps;
mod vectors;
mod view;

pub use affine::Sampling;
pub use augmented_view::{AugmentedView, ViewConfig, ViewParams};
pub use chain::Chain;
pub use color_jitter::{Change, ColorJitter, Jitter};
pub use cutout::{Cutout, Hole};
pub use flip::RandomFlip;
pub use gaussian_blur::{GaussianBlur, gaussian_blur};
pub use grayscale::{RandomGrayscale, grayscale};
pub use multi_view::{multi_crop, two_views};
pub use padded_crop::{Padding, RandomCrop};
pub use pipeline::{Pipeline, Transform, Window};
pub use plain_view::{PlainConfig, PlainView};
pub use planes::Planes;
pub use rand_augment::{Operation, RandAugment, Strength};
pub use resample::{CropBox, Flip, Interpolation};
pub use resized_crop::{RandomResizedCrop, resized_crop};
pub use solarize::{Solarize, solarize};
pub use view::{Scratch, View};

use rand::RngExt;
use selfsup_core::{Error, Result, Rng};

/// The luma of ITU-R 601, with torchvision's rounding of its first weight.
#[inline(always)]
fn luma(r: f32, g: f32, b: f32) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

/// The mean, summed in 16 lanes: exact enough for any picture, and in vector instructions.
#[inline(always)]
fn mean(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    (lanes.iter().sum::<f32>() + rest) / values.len() as f32
}

/// A number from `[low, high)`, or `low` where they are equal.
fn uniform([low, high]: [f64; 2], rng: &mut Rng) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// True with probability `p`. One number is drawn whatever `p` is, so that another `p` shifts no later draw.
fn chance(p: f64, rng: &mut Rng) -> bool {
    rng.random::<f64>() < p
}

fn check_probability(field: &str, p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) { Ok(()) } else { Err(Error::config(field, p, "a probability from 0 to 1")) }
}

fn check_range(field: &str, [low, high]: [f64; 2], least: f64, most: f64) -> Result<()> {
    if least <= low && low <= high && high <= most {
        return Ok(());
    }
    let bounds = if most == f64::MAX { "above 0".to_owned() } else { format!("above 0 and at most {most}") };
    Err(Error::config(field, format!("[{low}, {high}]"), format!("smallest and largest value, {bounds}")))
}
