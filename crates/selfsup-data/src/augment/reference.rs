//! What the transforms' tests share: the picture that both sides make, and the comparison with torchvision.
//!
//! ```python
//! import torch, torchvision.transforms.v2.functional as F
//! def image(c, h=12, w=16):
//!     i = torch.arange(c * h * w).reshape(h, w, c).double()
//!     return ((torch.sin(i * 0.37) * 0.5 + 0.5) * 255).round().permute(2, 0, 1).float() / 255
//! def reference(t):
//!     t = t.double().flatten()
//!     wave = torch.sin(torch.arange(len(t)).double() * 0.11)
//!     print([round(v, 5) for v in t[:8].tolist()], round(t.sum().item(), 3), round((t * wave).sum().item(), 4))
//! ```

use super::planes::Planes;
use crate::Image;

/// `image(channels)`.
pub(super) fn picture(channels: usize) -> Image {
    let value = |i: usize| (((i as f64 * 0.37).sin() * 0.5 + 0.5) * 255.0).round_ties_even() as u8;
    Image::new((0..channels * 12 * 16).map(value).collect(), [12, 16, channels]).unwrap()
}

/// Compares with what `reference` prints: the first values, the sum, and the sum weighted by a wave, which sees where
/// the values stand.
pub(super) fn assert_equals(planes: &Planes, first: [f32; 8], sum: f64, wave: f64) {
    for (found, expected) in planes.values.iter().zip(first) {
        assert!((found - expected).abs() < 2e-5, "{:?} instead of {first:?}", &planes.values[..8]);
    }
    let total: f64 = planes.values.iter().map(|&v| f64::from(v)).sum();
    assert!((total - sum).abs() < 3e-3, "sum {total} instead of {sum}");
    let weighted = planes.values.iter().enumerate().map(|(i, &v)| f64::from(v) * (i as f64 * 0.11).sin());
    let weighted: f64 = weighted.sum();
    assert!((weighted - wave).abs() < 3e-3, "weighted sum {weighted} instead of {wave}");
}

/// Kolmogorov and Smirnov's distance of a sample from the uniform distribution on `[low, high]`, times the square
/// root of the sample's size: above 1.95 in one of 1,000 cases.
pub(super) fn distance_from_uniform(mut sample: Vec<f64>, low: f64, high: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let gaps = sample.iter().enumerate().map(|(i, v)| {
        let expected = (v - low) / (high - low);
        (expected - i as f64 / n).abs().max((expected - (i + 1) as f64 / n).abs())
    });
    gaps.fold(0.0, f64::max) * n.sqrt()
}
