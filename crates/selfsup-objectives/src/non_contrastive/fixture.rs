//! By which formulas the tests of this family, and their Python snippets, make batches and parameters.

pub(crate) use crate::fixtures::{Normalised, Pixels, assert_gradients, assert_two_ranks_equal_one};
use selfsup_core::{Device, ImageViews, Kind, Objective, Result, Site, Step, Tensor, TensorExt, nn, tch};
use std::collections::BTreeMap;

/// An objective on [`Pixels`], in a store of its own.
pub(crate) fn build<O>(make: impl FnOnce(&Site<Pixels>) -> Result<O>) -> Result<(nn::VarStore, Pixels, O)> {
    let (store, encoder) = Pixels::stored();
    let objective = make(&Pixels::site(&store, &encoder))?;
    fill(&store);
    Ok((store, encoder, objective))
}

fn parameters(store: &nn::VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect()
}

/// Matrix i in the order of names becomes `0.5 * sin(0.7 * arange + i)`, biases become 0; scales of norms are 1 already.
pub(crate) fn fill(store: &nn::VarStore) {
    let (matrices, others): (Vec<_>, Vec<_>) = parameters(store).into_iter().partition(|(_, p)| p.dim() > 1);
    tch::no_grad(|| {
        for (i, (_, p)) in matrices.iter().enumerate() {
            let values =
                (Tensor::arange(p.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7 + i as f64).sin();
            p.shallow_clone().copy_(&(values.view_as(p) * 0.5));
        }
        for (_, p) in others.iter().filter(|(name, _)| name.ends_with("bias")) {
            let _ = p.shallow_clone().zero_();
        }
    });
}

/// `sin(0.37 * arange^2 + shift)`, whose rows and columns are independent of each other.
pub(crate) fn wave(shape: &[i64], shift: f64) -> Tensor {
    let i = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu));
    (&i * &i * 0.37 + shift).sin().reshape(shape).set_requires_grad(true)
}

/// The batch of step `step`: view k is a [`wave`] with the shift `k + 10 * step`.
pub(crate) fn batch(n: i64, views: usize, step: u64) -> ImageViews {
    let view = |k: usize| wave(&[n, 1, 2, 2], k as f64 + 10.0 * step as f64).detach();
    ImageViews {
        views: (0..views).map(view).collect(),
        indices: Tensor::arange(n, (Kind::Int64, Device::Cpu)),
        labels: None,
    }
}

/// One loss of six samples with two views, with its gradients in the store.
pub(crate) fn one_loss<O: Objective<Pixels, Batch = ImageViews>>(encoder: &Pixels, objective: &mut O) -> f64 {
    let loss = objective.loss(encoder, &batch(6, 2, 0), &Step::single(0, 10, 0, 0)).unwrap().total;
    loss.backward();
    loss.scalar().unwrap()
}

/// The losses of five steps of SGD with a rate of 0.1, of ten that the run has.
pub(crate) fn five_steps<O: Objective<Pixels, Batch = ImageViews>>(
    store: &nn::VarStore,
    encoder: &Pixels,
    objective: &mut O,
) -> Vec<f64> {
    let one = |k| {
        let step = Step::single(k, 10, 0, 0);
        let loss = objective.loss(encoder, &batch(6, 2, k), &step).unwrap().total;
        loss.backward();
        tch::no_grad(|| {
            for mut p in parameters(store).into_values().filter(|p| p.grad().defined()) {
                let _ = p.g_sub_(&(p.grad() * 0.1));
                p.zero_grad();
            }
        });
        objective.after_step(store, &step).unwrap();
        loss.scalar().unwrap()
    };
    (0..5).map(one).collect()
}

/// Holds a tensor to stored values.
pub(crate) fn assert_close(what: &str, found: &Tensor, expected: &[f64], tolerance: f64) {
    let expected = Tensor::from_slice(expected);
    assert_eq!(found.numel(), expected.numel(), "{what}");
    let difference = (found.detach().reshape([-1]).to_kind(Kind::Double) - expected).abs().max();
    assert!(difference.scalar().unwrap() < tolerance, "{what}: {difference:?}, {found:?}");
}
