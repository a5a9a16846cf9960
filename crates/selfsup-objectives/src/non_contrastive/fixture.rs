//! A small encoder, batches and weights for the tests of the family, the same as in the Python that made their values.

use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{
    Communicator, Device, Encoder, ImageViews, Kind, Mode, Objective, Result, SingleProcess, Site, Step,
    Tensor, TensorExt, check_shape, nn, tch,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A linear layer on the pixels.
#[derive(Debug)]
pub(crate) struct Pixels(Linear);

impl Encoder for Pixels {
    fn dim(&self) -> i64 {
        4
    }
    fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
        check_shape("images", x, [-1, 1, 2, 2])?;
        Ok(self.0.forward(&x.flatten(1, -1)))
    }
}

/// An objective on [`Pixels`], in a store of its own.
pub(crate) fn build<O>(make: impl FnOnce(&Site<Pixels>) -> Result<O>) -> Result<(nn::VarStore, Pixels, O)> {
    let store = nn::VarStore::new(Device::Cpu);
    let new = |path: nn::Path| Pixels(Linear::new(path, 4, 4, Bias::Yes));
    let encoder = new(store.root() / Site::<Pixels>::ENCODER);
    let objective = make(&Site::new(&store, &encoder, 6, |path| Ok(Box::new(new(path)))))?;
    fill(&store);
    Ok((store, encoder, objective))
}

fn parameters(store: &nn::VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect()
}

/// Matrix i in the order of names becomes `0.5 * sin(0.7 * arange + i)`, biases become 0; scales of norms are 1 already.
fn fill(store: &nn::VarStore) {
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

/// Every parameter has a finite gradient, and all but those that `constant` names one that is not zero; no other
/// variable has any.
pub(crate) fn assert_gradients(store: &nn::VarStore, constant: &[&str]) {
    for (name, x) in store.variables() {
        let gradient = x.grad();
        if !x.requires_grad() {
            assert!(!gradient.defined(), "{name} is not to learn");
            continue;
        }
        assert!(gradient.defined() && gradient.isfinite().all().scalar().unwrap() == 1.0, "{name}");
        let learns = gradient.abs().max().scalar().unwrap() > 1e-5;
        assert!(learns != constant.contains(&name.as_str()), "{name} {gradient:?}");
    }
}

/// One of two ranks, which knows both views of the whole batch.
struct TwoRanks {
    rank: i64,
    whole: [Mutex<Tensor>; 2],
}

impl Communicator for TwoRanks {
    fn rank(&self) -> i64 {
        self.rank
    }
    fn world_size(&self) -> i64 {
        2
    }
    fn gather(&self, x: &Tensor) -> Result<Tensor> {
        let whole = self.whole.iter().map(|view| view.lock().unwrap().shallow_clone());
        let n = x.size()[0];
        let holds_mine =
            |whole: &Tensor| (whole.narrow(0, self.rank * n, n) - x).abs().max().scalar().unwrap() < 1e-6;
        Ok(whole.into_iter().find(holds_mine).expect("one of the two views"))
    }
    fn all_reduce(&self, _x: &Tensor) -> Result<Tensor> {
        unreachable!("only for losses that gather")
    }
}

/// The mean of the losses of two ranks, and its gradient, are those of one rank with all samples.
pub(crate) fn assert_two_ranks_equal_one(loss: &dyn Fn(&Tensor, &Tensor, &dyn Communicator) -> Tensor) {
    let views = || (wave(&[8, 3], 0.0), wave(&[8, 3], 1.0));
    let ((z0, z1), (w0, w1)) = (views(), views());
    let whole = loss(&z0, &z1, &SingleProcess);
    whole.backward();
    let of = |rank| {
        let comm = TwoRanks { rank, whole: [w0.shallow_clone().into(), w1.shallow_clone().into()] };
        loss(&w0.narrow(0, rank * 4, 4), &w1.narrow(0, rank * 4, 4), &comm)
    };
    let mean: Tensor = (of(0) + of(1)) / 2.0;
    mean.backward();
    assert!((mean.scalar().unwrap() - whole.scalar().unwrap()).abs() < 1e-4);
    assert!((w0.grad() - z0.grad()).abs().max().scalar().unwrap() < 1e-5);
    assert!((w1.grad() - z1.grad()).abs().max().scalar().unwrap() < 1e-5);
}
