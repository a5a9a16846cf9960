//! How tests compare a network with its original in Python: both sides fill all parameters by one formula, so that a
//! few stored outputs suffice. The formula there, beside which every test shows the network and the input:
//!
//! ```python
//! import torch, torchvision, timm, transformers
//! def wave(k, shape):
//!     i = torch.arange(torch.Size(shape).numel())
//!     return ((i * i * 31 + i * 7919 + k * 104729) % 1009 / 504.0 - 1).reshape(shape)
//! @torch.no_grad()
//! def fill(model):
//!     for k, (name, x) in enumerate(sorted(model.state_dict().items())):
//!         u = wave(k, x.shape)
//!         if name.endswith("num_batches_tracked"): continue
//!         elif name.endswith("running_var"): u = 1 + 0.5 * u
//!         elif x.ndim in (2, 4): u = u * (3 / x[0].numel()) ** 0.5
//!         elif x.ndim == 3: u = 0.5 * u
//!         elif name.endswith("weight"): u = 1 + 0.1 * u
//!         else: u = 0.1 * u
//!         x.copy_(u)
//!     return model.eval()
//! def fingerprint(model):  # FNV-1a over the sorted lines "name:shape"
//!     h = 0xcbf29ce484222325
//!     for line in sorted(f"{n}:{','.join(map(str, x.shape))}\n" for n, x in model.state_dict().items()):
//!         for byte in line.encode(): h = (h ^ byte) * 0x100000001b3 % 2**64
//!     return hex(h)
//! def ends(y): return y[0].flatten()[:4].tolist() + y[-1].flatten()[-4:].tolist()
//! ```

use selfsup_core::{Device, Kind, Tensor, TensorExt, nn, tch};

pub(crate) fn wave(k: i64, shape: &[i64]) -> Tensor {
    let i = Tensor::arange(shape.iter().product::<i64>(), (Kind::Int64, Device::Cpu));
    let mixed: Tensor = &i * &i * 31 + &i * 7919 + k * 104729;
    (mixed.remainder(1009).to_kind(Kind::Float) / 504.0 - 1.0).reshape(shape)
}

/// The input of most tests.
pub(crate) fn images(shape: [i64; 4]) -> Tensor {
    wave(1000, &shape)
}

pub(crate) fn fill(store: &nn::VarStore) {
    let mut all: Vec<_> = store.variables().into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (k, (name, mut x)) in (0..).zip(all) {
        let u = wave(k, &x.size());
        let value = match x.dim() {
            _ if name.ends_with("num_batches_tracked") => continue,
            _ if name.ends_with("running_var") => 1.0 + 0.5 * u,
            2 | 4 => u * (3.0 / x.get(0).numel() as f64).sqrt(),
            3 => 0.5 * u,
            _ if name.ends_with("weight") => 1.0 + 0.1 * u,
            _ => 0.1 * u,
        };
        tch::no_grad(|| x.copy_(&value));
    }
}

pub(crate) fn fingerprint(store: &nn::VarStore) -> u64 {
    let line = |(name, x): (String, Tensor)| {
        let sizes: Vec<_> = x.size().iter().map(ToString::to_string).collect();
        format!("{name}:{}\n", sizes.join(","))
    };
    let mut lines: Vec<_> = store.variables().into_iter().map(line).collect();
    lines.sort();
    let bytes = lines.iter().flat_map(|line| line.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

pub(crate) fn parameters(store: &nn::VarStore) -> usize {
    store.trainable_variables().iter().map(Tensor::numel).sum()
}

/// The largest difference, relative to the largest value.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    ((a - b).abs().max() / b.abs().max()).scalar().unwrap()
}

/// Compares the first four and the last four values.
pub(crate) fn assert_ends(y: &Tensor, expected: [f32; 8]) {
    let flat = y.flatten(0, -1);
    let ends = Tensor::cat(&[flat.slice(0, None, 4, 1), flat.slice(0, -4, None, 1)], 0);
    assert!(difference(&ends, &Tensor::from_slice(&expected)) < 1e-4, "{ends}");
}

/// Lets every feature count differently, and looks at every trainable parameter's gradient.
pub(crate) fn assert_gradients(store: &nn::VarStore, features: &Tensor) {
    (features * wave(2000, &features.size())).sum(None).backward();
    for (name, x) in store.variables().into_iter().filter(|(_, x)| x.requires_grad()) {
        // It adds the same to all logits of a query, which the softmax does not see: what comes is rounding.
        if name.ends_with("key.bias") {
            continue;
        }
        let grad = x.grad();
        assert!(grad.defined(), "{name} has no gradient");
        let size = grad.abs().max().scalar().unwrap();
        assert!(size.is_finite() && size > 0.0, "{name}'s gradient is {size}");
    }
}
