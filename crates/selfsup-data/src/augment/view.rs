//! What a loader asks of a view.

use super::gaussian_blur::Blur;
use super::planes::{Normalize, Planes};
use super::resample::Resampler;
use crate::Image;
use selfsup_core::{Result, Rng};

/// Makes one network input of an image, straight into the batch's memory.
pub trait View: Send + Sync {
    /// The shape of what it writes: height, width, channels.
    fn shape(&self) -> [usize; 3];

    /// Writes the view of `image` to `out`, in the order row, column, channel. All randomness comes from `rng`.
    ///
    /// # Errors
    /// When the image cannot become such a view.
    fn write(&self, image: &Image, rng: &mut Rng, scratch: &mut Scratch, out: &mut [f32]) -> Result<()>;

    /// What it does to its pixels at the end, where it says: batches of bytes ask for that.
    fn normalize(&self) -> Option<&Normalize> {
        None
    }
}

/// Working memory for [`View::write`], one for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) planes: Planes,
    pub(crate) resampler: Resampler,
    pub(crate) blur: Blur,
}
