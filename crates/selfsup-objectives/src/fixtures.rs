//! What the tests of all families share: small encoders, two ranks in one process, a look at gradients. The formulas by
//! which a family and its Python snippets fill parameters and batches stand in the family's own folder.

use selfsup_core::layers::{Affine, BatchNorm, Bias, Linear};
use selfsup_core::{
    Communicator, Device, Encoder, Kind, Mode, Result, SingleProcess, Site, Tensor, TensorExt, check_shape,
    nn, tch,
};
use std::sync::Mutex;

/// A linear layer on an image's four quarters; of an image of 2 x 2 these are the pixels.
#[derive(Debug)]
pub(crate) struct Pixels(Linear);

impl Pixels {
    pub(crate) fn new(path: nn::Path) -> Self {
        Pixels(Linear::new(path, 4, 4, Bias::No))
    }

    pub(crate) fn with_bias(path: nn::Path) -> Self {
        Pixels(Linear::new(path, 4, 4, Bias::Yes))
    }

    /// A store, and in it the encoder with a bias.
    pub(crate) fn stored() -> (nn::VarStore, Self) {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::with_bias(store.root() / Site::<Pixels>::ENCODER);
        (store, encoder)
    }

    /// Its site, with six samples.
    pub(crate) fn site<'a>(store: &'a nn::VarStore, encoder: &'a Self) -> Site<'a, Self> {
        Site::new(store, encoder, 6, |path| Ok(Box::new(Pixels::with_bias(path))))
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

/// BatchNorm on the pixels of an image of 2 x 2, which tells what passes as one batch.
#[derive(Debug)]
pub(crate) struct Normalised(BatchNorm);

impl Normalised {
    pub(crate) fn new(path: nn::Path) -> Self {
        Normalised(BatchNorm::new(path, 4, Affine::Yes))
    }
}

impl Encoder for Normalised {
    fn dim(&self) -> i64 {
        4
    }

    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.0.forward(&x.flatten(1, -1), mode))
    }
}

/// Every parameter has a finite gradient that is not zero, but for those named, where it is zero by construction; no
/// other variable has any.
pub(crate) fn assert_gradients(store: &nn::VarStore, zero: &[&str]) {
    let variables = store.variables();
    for name in zero {
        assert!(variables.contains_key(*name), "there is no {name}");
    }
    let size = |gradient: &Tensor| gradient.abs().max().scalar().unwrap();
    let gradients = variables.values().map(Tensor::grad).filter(Tensor::defined);
    // What cancels out leaves the rounding of what was added up.
    let largest = gradients.map(|gradient| size(&gradient)).fold(0.0, f64::max);
    for (name, x) in variables {
        let gradient = x.grad();
        if !x.requires_grad() {
            assert!(!gradient.defined(), "{name} is not to learn");
            continue;
        }
        assert!(gradient.defined(), "{name} has no gradient");
        let most = size(&gradient);
        if zero.contains(&name.as_str()) {
            assert!(
                most < 1e-5 * largest.max(1.0),
                "{name}: {most} of {largest}, where nothing is to be learned"
            );
        } else {
            assert!(most.is_finite() && most > 1e-9, "{name}: {most}");
        }
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
/// ran. Once that is what the other says again, both are as if they had run together. Gradients reach the other too.
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
        said.push(x.copy());
        let other = self.said[other].lock().unwrap();
        let other = other.get(*calls).map_or_else(|| x.detach(), Tensor::shallow_clone);
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

/// The mean of the losses of two ranks, and its gradient, are those of one rank with all eight samples of both views.
pub(crate) fn assert_two_ranks_equal_one(loss: &dyn Fn(&Tensor, &Tensor, &dyn Communicator) -> Tensor) {
    let views = || {
        [0.0, 1.0].map(|shift| {
            let i = Tensor::arange(24, (Kind::Float, Device::Cpu));
            (&i * &i * 0.37 + shift).sin().reshape([8, 3]).set_requires_grad(true)
        })
    };
    let ([z0, z1], [w0, w1]) = (views(), views());
    let whole = loss(&z0, &z1, &SingleProcess);
    whole.backward();
    let of_ranks = TwoRanks::play(|comm| {
        let mine = |view: &Tensor| view.narrow(0, comm.rank * 4, 4);
        loss(&mine(&w0), &mine(&w1), comm)
    });
    let mean = Tensor::stack(&of_ranks, 0).mean(None);
    mean.backward();
    assert!((mean.scalar().unwrap() - whole.scalar().unwrap()).abs() < 1e-4);
    assert!((w0.grad() - z0.grad()).abs().max().scalar().unwrap() < 1e-5);
    assert!((w1.grad() - z1.grad()).abs().max().scalar().unwrap() < 1e-5);
}
