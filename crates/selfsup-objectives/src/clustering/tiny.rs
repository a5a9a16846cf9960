//! By which formulas the tests of this family, and their Python snippets, make batches and parameters.

pub(crate) use crate::fixtures::{Pixels, TwoRanks, assert_gradients, descend};
use selfsup_core::{Device, ImageViews, Kind, Tensor, nn, tch};

/// `torch.sin(torch.arange(n) * 0.7 + shift)` in 64 bits, as Float.
pub(crate) fn waves(shape: &[i64], shift: f64) -> Tensor {
    let x = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu)) * 0.7 + shift;
    x.sin().to_kind(Kind::Float).reshape(shape)
}

/// Gives the floating-point parameters of a store such values, the i-th in the order of names with shift i.
pub(crate) fn fill(store: &nn::VarStore) {
    let mut variables: Vec<_> = store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    tch::no_grad(|| {
        for (i, (_, x)) in variables.into_iter().enumerate() {
            x.shallow_clone().copy_(&waves(&x.size(), i as f64));
        }
    });
}

/// A batch whose k-th view of `sizes[k]` pixels a side has shift `k + shift`.
pub(crate) fn batch(n: i64, sizes: &[i64], shift: f64) -> ImageViews {
    let view = |(k, &size): (usize, &i64)| waves(&[n, 1, size, size], k as f64 + shift);
    ImageViews {
        views: sizes.iter().enumerate().map(view).collect(),
        indices: Tensor::arange(n, (Kind::Int64, Device::Cpu)),
        labels: None,
    }
}
