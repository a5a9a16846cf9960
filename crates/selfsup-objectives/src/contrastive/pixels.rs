//! By which formulas the tests of this family, and their Python snippets, make batches and parameters.

pub(crate) use crate::fixtures::{Pixels, assert_gradients};
use selfsup_core::tch::no_grad;
use selfsup_core::{Device, ImageViews, Kind, Tensor, TensorExt, nn};

/// `torch.sin(torch.arange(rows * columns) * rate + shift).reshape(rows, columns)`
pub(crate) fn waves(rows: i64, columns: i64, shift: f64, rate: f64) -> Tensor {
    (Tensor::arange(rows * columns, (Kind::Float, Device::Cpu)) * rate + shift).sin().reshape([rows, columns])
}

/// Views of `n` images, the first beginning at `shift`, the next half a radian on.
pub(crate) fn batch(n: i64, views: usize, shift: f64) -> ImageViews {
    let view = |k: usize| waves(n, 4, shift + 0.5 * k as f64, 0.7).reshape([n, 1, 2, 2]);
    ImageViews {
        views: (0..views).map(view).collect(),
        indices: Tensor::arange(n, (Kind::Int64, Device::Cpu)),
        labels: None,
    }
}

/// Fills the i-th of the named variables with `sin(0.7 * arange + i) / 2`.
pub(crate) fn fill(store: &nn::VarStore, names: &[&str]) {
    let variables = store.variables();
    for (i, name) in names.iter().enumerate() {
        let mut x = variables[*name].shallow_clone();
        let values = waves(1, x.numel() as i64, i as f64, 0.7).reshape(x.size()) * 0.5;
        no_grad(|| x.copy_(&values));
    }
}

/// A step of plain gradient descent on the named variables, which then have no gradient.
pub(crate) fn descend(store: &nn::VarStore, names: &[&str], rate: f64) {
    let variables = store.variables();
    for mut x in names.iter().map(|name| variables[*name].shallow_clone()) {
        no_grad(|| {
            let step = x.grad() * rate;
            let _ = x.g_sub_(&step);
        });
        x.zero_grad();
    }
}

/// To 1e-5 of the largest expected value, and of 1 where all are smaller.
pub(crate) fn assert_near(x: &Tensor, expected: &[f32]) {
    assert_within(x, expected, 1e-5);
}

/// The same with another tolerance: what 32 bits round away can grow from step to step, most of all through BatchNorm in a
/// batch of six.
pub(crate) fn assert_within(x: &Tensor, expected: &[f32], tolerance: f64) {
    let difference = (x.reshape([-1]) - Tensor::from_slice(expected)).abs().max().scalar().unwrap();
    let scale = expected.iter().fold(1.0_f64, |most, x| most.max(f64::from(x.abs())));
    assert!(
        difference < tolerance * scale,
        "{difference}: {:?}",
        Vec::<f32>::try_from(x.reshape([-1])).unwrap()
    );
}
