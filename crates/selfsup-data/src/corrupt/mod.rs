//! What can go wrong with a picture, for judging how much of it an encoder bears: the common corruptions of Hendrycks and
//! Dietterich ("Benchmarking neural network robustness to common corruptions and perturbations", 2019), shifts, occlusion.
//!
//! | family | corruptions |
//! |---|---|
//! | noise | Gaussian, shot, impulse |
//! | blur | defocus, frosted glass, motion, zoom |
//! | weather | snow, frost, fog, brightness |
//! | digital | contrast, elastic, pixelate, JPEG |
//!
//! Each has five severities. The constants are those of the authors' programs: images whose shorter side has 64 pixels or less get
//! those of CIFAR-10-C, larger ones those of ImageNet-C. Corrupt a picture at the size at which the network sees it, as they do.
//! Arithmetic is theirs, in 64-bit floats, cut to bytes at the end.
//!
//! Some differ from the published sets by more than their draws: **frost** is drawn, where the authors lay photographs over the
//! picture, and its numbers are not to be compared with published ones; **motion blur** and **snow** streak as ImageMagick does, but
//! for its rounding between steps; **elastic** is not rounded to a 32nd of a pixel, as OpenCV's once was; **JPEG** transforms in
//! floats, so that now and then a coefficient is rounded the other way than by libjpeg.
//!
//! These are for testing. To train on them is to know the answers.
//!
//! ```
//! use selfsup_data::Image;
//! use selfsup_data::corrupt::{Corruption, Disturbance, Severity};
//! let grey = Image::new(vec![128; 32 * 32 * 3], [32, 32, 3])?;
//! let fog = Disturbance::Corruption(Corruption::Fog, Severity::new(3)?);
//! let foggy = fog.apply(&grey, 0, 17)?;
//! assert_eq!(foggy, fog.apply(&grey, 0, 17)?); // a function of seed, sample, corruption and severity
//! assert_ne!(foggy, fog.apply(&grey, 0, 18)?);
//! # Ok::<(), selfsup_core::Error>(())
//! ```

mod blur;
mod corruption;
mod digital;
mod displace;
mod disturbed;
mod jpeg;
mod level;
mod noise;
mod plane;
mod plasma;
#[cfg(test)]
mod reference;
mod weather;

pub use corruption::{Corruption, Disturbance, Family};
pub use disturbed::DisturbedImages;
pub use level::Severity;
