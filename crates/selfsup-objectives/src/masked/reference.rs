//! How the tests of this family compare with the original in Python: both sides fill all parameters by one
//! formula of the parameter's name here, so that a few stored numbers suffice. The formula there, before
//! which a test's snippet gives the parameters of the reference these names:
//!
//! ```python
//! import torch, timm
//! from lightly.models import utils
//! def wave(shift, shape):
//!     return (torch.arange(torch.Size(shape).numel()) * 0.7 + shift).sin().reshape(shape)
//! @torch.no_grad()
//! def fill(named):  # {name: parameter}
//!     for name, x in named.items():
//!         x.copy_(wave(float(sum(name.encode()) % 97), x.shape) * 0.3)
//!         if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")): x.add_(1)
//! def vit(): return timm.models.vision_transformer.VisionTransformer(img_size=12, patch_size=4,
//!     in_chans=2, embed_dim=12, depth=2, num_heads=3, num_classes=0)
//! def sums(x): return [x.sum().item(), (x * wave(0., x.shape)).sum().item()]
//! ```

use selfsup_core::{Device, ImageViews, Kind, PatchEncoder, Site, Tensor, TensorExt, nn, tch};
use selfsup_encoders::{Vit, VitConfig};

pub(crate) fn wave(shift: f64, shape: &[i64]) -> Tensor {
    (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.7 + shift)
        .sin()
        .reshape(shape)
}

pub(crate) fn fill(store: &nn::VarStore) {
    for (name, mut x) in store.variables() {
        let shift = name.bytes().map(u32::from).sum::<u32>() % 97;
        let is_norm = ["norm.weight", "norm1.weight", "norm2.weight"].iter().any(|end| name.ends_with(end));
        let value = wave(f64::from(shift), &x.size()) * 0.3 + f64::from(u8::from(is_norm));
        tch::no_grad(|| x.copy_(&value));
    }
}

/// The `vit()` of the snippet.
pub(crate) fn vit_config() -> VitConfig {
    let (depth, dim, heads) = (2, 12, 3);
    VitConfig { image_size: 12, patch_size: 4, channels_in: 2, depth, dim, heads, ..VitConfig::default() }
}

/// The network of a test and the objective that `make` builds for it.
pub(crate) fn built<O>(make: impl FnOnce(&Site<dyn PatchEncoder>) -> O) -> (nn::VarStore, Vit, O) {
    let store = nn::VarStore::new(Device::Cpu);
    let encoder = Vit::new(store.root() / Site::<Vit>::ENCODER, &vit_config()).unwrap();
    let twin = |path: nn::Path| Ok(Box::new(Vit::new(path, &vit_config())?) as Box<dyn PatchEncoder>);
    let objective = make(&Site::new(&store, &encoder, 8, twin));
    (store, encoder, objective)
}

pub(crate) fn batch(views: Vec<Tensor>) -> ImageViews {
    let n = views[0].size()[0];
    ImageViews { views, indices: Tensor::arange(n, (Kind::Int64, Device::Cpu)), labels: None }
}

/// The sum of the values, and that of the values times a wave, which tells their places.
pub(crate) fn assert_sums(name: &str, x: &Tensor, expected: [f64; 2]) {
    let found = [x, &(x * wave(0.0, &x.size()))].map(|x| x.sum(Kind::Double).scalar().unwrap());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5 * expected.abs() + 1e-6, "{name}: {found}, not {expected}");
    }
}
