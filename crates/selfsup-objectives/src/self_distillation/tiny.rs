//! What the tests of this family share: a comparison.

use selfsup_core::{Kind, Tensor};

/// Whether the elements of a tensor, in its order, are these, to 1e-5 of the largest.
pub(crate) fn assert_near(found: &Tensor, expected: &[f64]) {
    let found: Vec<f64> = Vec::try_from(found.detach().to_kind(Kind::Double).reshape([-1])).unwrap();
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-5 * scale, "element {i}: {found} where {expected} is right");
    }
}
