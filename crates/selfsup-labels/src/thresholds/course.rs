//! Twenty batches of a made-up training: predictions of 4 classes that grow surer and come unbalanced.

use selfsup_core::{Device, Kind, Logits, Probabilities, Tensor};

pub const STEPS: i64 = 20;

// def logits(t):
//     i = torch.arange(32, dtype=torch.float64) + 32 * t
//     z = (i ** 1.5 * 0.37).sin().reshape(8, 4) * (1 + 0.35 * t)
//     return (z + torch.tensor([0.6, 0.2, 0.0, -0.4], dtype=torch.float64)).float()
/// The logits of step `t`, `[8, 4]` Float.
pub fn logits(t: i64) -> Tensor {
    let i = Tensor::arange(32, (Kind::Double, Device::Cpu)) + 32 * t;
    let z = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([8, 4]) * (1.0 + 0.35 * t as f64);
    (z + Tensor::from_slice(&[0.6, 0.2, 0.0, -0.4])).to_kind(Kind::Float)
}

/// Their softmax.
pub fn probabilities(t: i64) -> Probabilities {
    Logits::new(&logits(t)).unwrap().softmax(1.0).unwrap()
}

/// The weights above 0 as the bits of a number, the first sample lowest.
pub fn bits(weights: &Tensor) -> u8 {
    let kept = Vec::<bool>::try_from(weights.gt(0.0)).unwrap();
    kept.iter().enumerate().map(|(i, &kept)| u8::from(kept) << i).sum()
}

/// Asserts that values are near reference values.
pub fn assert_near(found: &Tensor, expected: &[f64], tolerance: f64) {
    let found = Vec::<f64>::try_from(found.to_kind(Kind::Double).reshape([-1])).unwrap();
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{f} instead of {e} at {i}: {found:?}");
    }
}
