//! What the views of a batch are made of on their way to the device.
//!
//! A step on an accelerator waits for its batch to cross the bus. bfloat16 halves what crosses, bytes halve it again; [`Unpack`]
//! makes both the numbers that a network takes, on the device. On a CPU nothing crosses, and 32 bits are fastest.

use crate::augment::{Normalize, View};
use selfsup_core::{Error, ImageViews, Kind, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The numbers that the views of a batch are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pixels {
    /// Normalised, of 32 bits.
    #[default]
    Float32,
    /// Normalised, rounded to the nearest bfloat16: to 1 part in 256.
    Bfloat16,
    /// Before normalisation, rounded to the nearest of 256 steps, as image files have them.
    Uint8,
}

/// Makes the views of a batch numbers of 32 bits, normalised, on the device where they are.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// What bytes of each view are normalised by; empty where none come.
    normalizes: Vec<Normalize>,
}

impl Unpack {
    /// For batches of `views` made of `pixels`.
    ///
    /// # Errors
    /// [`Error::Config`] when bytes are asked of a view that does not say how it normalises.
    pub fn new(views: &[Arc<dyn View>], pixels: Pixels) -> Result<Self> {
        if pixels != Pixels::Uint8 {
            return Ok(Unpack { normalizes: Vec::new() });
        }
        let normalizes = views.iter().map(|view| normalize_of(view.as_ref()).cloned());
        Ok(Unpack { normalizes: normalizes.collect::<Result<_>>()? })
    }

    /// The batch with views `[N, C, H, W]` Float.
    ///
    /// # Errors
    /// [`Error::Shape`] when a batch of bytes has more views than this was made for.
    pub fn apply(&self, batch: ImageViews) -> Result<ImageViews> {
        let views = batch.views.iter().enumerate().map(|(v, view)| match view.kind() {
            Kind::Float => Ok(view.shallow_clone()),
            Kind::Uint8 => {
                let normalize = self.normalizes.get(v).ok_or_else(|| Error::Shape {
                    name: "views".to_owned(),
                    expected: format!("{} views of bytes", self.normalizes.len()),
                    found: format!("{} of them", batch.views.len()),
                })?;
                Ok(normalize.bytes(view))
            }
            _ => Ok(view.to_kind(Kind::Float)),
        });
        Ok(ImageViews { views: views.collect::<Result<_>>()?, ..batch })
    }
}

/// How a view normalises.
pub(crate) fn normalize_of(view: &dyn View) -> Result<&Normalize> {
    view.normalize().ok_or_else(|| {
        let expected = "float32 or bfloat16, where a view does not say how it normalises (View::normalize)";
        Error::config("pixels", "uint8", expected)
    })
}

/// The bits of the nearest bfloat16, ties to the even one; NaN stays NaN.
pub(crate) fn to_bfloat16(x: f32) -> i16 {
    let bits = x.to_bits();
    let even = (bits >> 16) & 1;
    let rounded = if x.is_nan() { bits | 0x0040_0000 } else { bits.wrapping_add(0x7fff + even) };
    (rounded >> 16) as u16 as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{ViewConfig, two_views};
    use crate::dataset::ArrayImages;
    use crate::{Collate, ImageCollate};
    use selfsup_core::{Dataset, Key, Rng, Tensor};

    fn config() -> ViewConfig {
        ViewConfig { size: 12, mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.3], ..ViewConfig::default() }
    }

    fn views(pixels: Pixels) -> (ImageViews, Unpack) {
        let bytes = (0..9 * 16 * 16 * 3_u32).map(|i| (i * 97 % 251) as u8).collect();
        let dataset = Arc::new(ArrayImages::new(bytes, [16, 16, 3]).unwrap());
        let views = two_views(&config(), 3).unwrap();
        let unpack = Unpack::new(&views, pixels).unwrap();
        let all: Vec<usize> = (0..dataset.len()).collect();
        (ImageCollate { dataset, views, pixels }.collate(&all, Key::new(3)).unwrap(), unpack)
    }

    fn farthest(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn packed_views_are_those_of_32_bits_to_their_own_precision() {
        let (exact, _) = views(Pixels::Float32);
        for (pixels, kind) in [(Pixels::Bfloat16, Kind::BFloat16), (Pixels::Uint8, Kind::Uint8)] {
            let (packed, unpack) = views(pixels);
            assert!(packed.views.iter().all(|view| view.kind() == kind));
            let found = unpack.apply(packed).unwrap();
            for (x, y) in exact.views.iter().zip(&found.views) {
                assert_eq!((y.kind(), y.size(), y.stride()), (Kind::Float, x.size(), x.stride()));
                // Half a step of a byte, divided by the least std; half of the last bit of bfloat16's eight.
                let largest = x.abs().max().double_value(&[]);
                let allowed = if kind == Kind::Uint8 { 0.5 / 255.0 / 0.2 } else { largest / 256.0 };
                let off = farthest(x, y);
                assert!(off > 0.0 && off <= allowed + 1e-6, "{pixels:?}: {off} of {allowed}");
            }
        }
    }

    #[test]
    fn bfloat16_rounds_as_libtorch_does() {
        let mut values =
            vec![0.0, -0.0, 1.0, 1.003_906_3, 1.011_718_8, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE];
        values.extend((0..1000).map(|i| (i as f32 * 0.37).sin() * 10_f32.powi(i % 40 - 20)));
        let expected = Tensor::from_slice(&values).to_kind(Kind::BFloat16).view_dtype(Kind::Int16);
        let found: Vec<i16> = values.into_iter().map(to_bfloat16).collect();
        assert_eq!(found, Vec::<i16>::try_from(expected).unwrap());
        assert!(f32::from_bits(u32::from(to_bfloat16(f32::NAN) as u16) << 16).is_nan());
    }

    #[test]
    fn batches_of_32_bits_pass_unchanged() {
        let (exact, unpack) = views(Pixels::Float32);
        let before: Vec<_> = exact.views.iter().map(Tensor::data_ptr).collect();
        let after = unpack.apply(exact).unwrap();
        assert_eq!(after.views.iter().map(Tensor::data_ptr).collect::<Vec<_>>(), before);
    }

    #[test]
    fn bytes_are_refused_of_a_view_that_does_not_say_how_it_normalises() {
        struct Plain;
        impl View for Plain {
            fn shape(&self) -> [usize; 3] {
                [1, 1, 1]
            }

            fn write(
                &self,
                _image: &crate::Image,
                _rng: &mut Rng,
                _scratch: &mut crate::augment::Scratch,
                out: &mut [f32],
            ) -> Result<()> {
                out.fill(0.5);
                Ok(())
            }
        }
        let error = Unpack::new(&[Arc::new(Plain)], Pixels::Uint8).unwrap_err().to_string();
        assert!(error.starts_with("pixels = uint8: float32 or bfloat16"), "{error}");
        Unpack::new(&[Arc::new(Plain)], Pixels::Bfloat16).unwrap();
    }
}
