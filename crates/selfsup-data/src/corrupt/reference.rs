//! What the tests share: pictures and draws that both sides make, and the comparison with Python.
//!
//! ```python
//! # imagecorruptions 1.1.2 (the authors' functions for any size), NumPy 2.4.6, SciPy 1.17.1, scikit-image 0.26.0, OpenCV 5.0.0, Pillow 13.0.0
//! import numpy as np, imagecorruptions.corruptions as ic
//! def picture(h, w, c):
//!     i = np.arange(c * h * w).astype(float)
//!     return ((np.sin(i * 0.37) * 0.5 + 0.5) * 255).round().astype(np.uint8).reshape(h, w, c)
//! y = picture(24, 32, 3) / 255.
//! def draws(k, first=0): i = np.arange(first, first + k); return (i * 7919 % 10007) / 10007 * 2 - 1
//! def show(a):
//!     a = a.transpose(2, 0, 1).ravel(); wave = np.sin(np.arange(len(a)) * .11)
//!     print(a[:6].round(6), a.sum().round(4), (a * wave).sum().round(4))
//! each = lambda f: np.stack([f(y[:, :, c]) for c in range(3)], -1)
//! ```

use super::plane::{Plane, planes};
use crate::Image;

/// `picture(height, width, channels)`.
pub(super) fn picture(height: usize, width: usize, channels: usize) -> Image {
    let value = |i: usize| (((i as f64 * 0.37).sin() * 0.5 + 0.5) * 255.0).round_ties_even() as u8;
    let pixels = (0..height * width * channels).map(value).collect();
    Image::new(pixels, [height, width, channels]).unwrap()
}

/// `y`
pub(super) fn y() -> Vec<Plane> {
    planes(&picture(24, 32, 3))
}

/// `draws`, one after the other.
pub(super) fn draws() -> impl FnMut() -> f64 {
    let mut i = 0;
    move || {
        i += 1;
        ((i - 1) * 7919 % 10007) as f64 / 10007.0 * 2.0 - 1.0
    }
}

/// Compares with what `show` prints; planes are cut to 0 to 1 first.
pub(super) fn assert_shows(all: &[Plane], first: [f64; 6], sum: f64, wave: f64) {
    let values: Vec<f64> = all.iter().flat_map(|plane| &plane.values).map(|v| v.clamp(0.0, 1.0)).collect();
    for (found, expected) in values.iter().zip(first) {
        assert!((found - expected).abs() < 2e-6, "{:?} instead of {first:?}", &values[..6]);
    }
    let total: f64 = values.iter().sum();
    assert!((total - sum).abs() < 2e-4, "sum {total} instead of {sum}");
    let weighted: f64 = values.iter().enumerate().map(|(i, v)| v * (i as f64 * 0.11).sin()).sum();
    assert!((weighted - wave).abs() < 2e-4, "weighted sum {weighted} instead of {wave}");
}
