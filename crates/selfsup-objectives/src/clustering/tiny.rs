//! What the tests of this family share: a linear encoder, numbers that Python makes too, and two ranks in one process.

use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{
    Communicator, Device, Encoder, ImageViews, Kind, Mode, Result, Tensor, check_shape, nn, tch,
};
use std::sync::Mutex;

/// A linear layer on an image's four quarters.
#[derive(Debug)]
pub(crate) struct Pixels(Linear);

impl Pixels {
    pub(crate) fn new(path: nn::Path) -> Self {
        Pixels(Linear::new(path, 4, 4, Bias::No))
    }
}

impl Encoder for Pixels {
    fn dim(&self) -> i64 {
        4
    }

    fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
        check_shape("images", x, [-1, 1, -1, -1])?;
        Ok(self.0.forward(&x.adaptive_avg_pool2d([2, 2]).flatten(1, -1)))
    }
}

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

/// One step of gradient descent on everything that has a gradient.
pub(crate) fn descend(store: &nn::VarStore, rate: f64) {
    tch::no_grad(|| {
        for x in store.trainable_variables().iter_mut().filter(|x| x.grad().defined()) {
            let step = x.grad() * rate;
            let _ = x.g_sub_(&step);
            x.zero_grad();
        }
    });
}

/// Plays rank `rank` of two, one after the other: each notes what it says, and hears what the other noted when it last
/// ran. Once that is what the other says again, both are as if they had run together.
#[derive(Default)]
pub(crate) struct TwoRanks {
    pub(crate) rank: i64,
    said: [Mutex<Vec<Tensor>>; 2],
    calls: Mutex<usize>,
}

impl TwoRanks {
    /// Lets `run` play both ranks, three times, and returns what the two come to in the end.
    pub(crate) fn play<T>(mut run: impl FnMut(&TwoRanks) -> T) -> [T; 2] {
        let mut ranks = TwoRanks::default();
        let mut play = |rank| {
            ranks.rank = rank;
            if let Ok(mut calls) = ranks.calls.lock() {
                *calls = 0;
            }
            run(&ranks)
        };
        for _ in 0..2 {
            let _ = (play(0), play(1));
        }
        [play(0), play(1)]
    }

    /// What the two ranks say at this call: the one that runs now, and the other as it was noted.
    fn hear(&self, x: &Tensor) -> [Tensor; 2] {
        let mut calls = self.calls.lock().unwrap();
        let (mine, other) = (self.rank as usize, 1 - self.rank as usize);
        let mut said = self.said[mine].lock().unwrap();
        said.truncate(*calls);
        said.push(x.detach().copy());
        let other =
            self.said[other].lock().unwrap().get(*calls).map_or_else(|| x.detach(), Tensor::shallow_clone);
        *calls += 1;
        if self.rank == 0 { [x.shallow_clone(), other] } else { [other, x.shallow_clone()] }
    }
}

impl Communicator for TwoRanks {
    fn rank(&self) -> i64 {
        self.rank
    }

    fn world_size(&self) -> i64 {
        2
    }

    fn gather(&self, x: &Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&self.hear(x), 0))
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        let [a, b] = self.hear(x);
        Ok(a + b)
    }
}
