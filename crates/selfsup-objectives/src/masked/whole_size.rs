//! Every method on patches, on images of the size for which their papers were written, with a thin network.

use crate::masked::reference::{batch, wave};
use crate::{
    DinoHeadConfig, DinoV2, DinoV2Config, IJepa, IJepaConfig, Ibot, IbotConfig, Mae, MaeConfig, Msn,
    MsnConfig, SimMim, SimMimConfig, TokenDecoderConfig,
};
use selfsup_core::{Device, ImageViews, Objective, PatchEncoder, Result, Site, Step, Tensor, TensorExt, nn};
use selfsup_encoders::{Vit, VitConfig};

/// One loss on two images of 224 pixels, with its gradients, from a network that sees 196 patches.
fn learns_from<O: Objective<dyn PatchEncoder, Batch = ImageViews>>(
    views: usize,
    make: impl FnOnce(&Site<dyn PatchEncoder>) -> Result<O>,
) {
    let thin = VitConfig { dim: 12, depth: 1, heads: 3, ..VitConfig::default() };
    assert_eq!((thin.image_size, thin.patch_size, thin.channels_in), (224, 16, 3));
    let store = nn::VarStore::new(Device::Cpu);
    let encoder = Vit::new(store.root() / Site::<Vit>::ENCODER, &thin).unwrap();
    let twin = |path: nn::Path| Ok(Box::new(Vit::new(path, &thin)?) as Box<dyn PatchEncoder>);
    let mut objective = make(&Site::new(&store, &encoder, 8, twin)).unwrap();
    let views = (0..views).map(|k| wave(k as f64, &[2, 3, 224, 224])).collect::<Vec<Tensor>>();
    let loss = objective.loss(&encoder, &batch(views), &Step::single(0, 10, 1, 0)).unwrap().total;
    assert!(loss.scalar().unwrap().is_finite());
    loss.backward();
    let learned = store.variables()["encoder.patch_embed.proj.weight"].grad();
    assert!(learned.defined() && learned.abs().max().scalar().unwrap() > 0.0);
    assert!(store.variables().iter().all(|(name, x)| !name.contains("teacher") || !x.grad().defined()));
}

fn narrow() -> TokenDecoderConfig {
    TokenDecoderConfig { dim: 8, depth: 1, heads: 2, mlp_ratio: 2.0 }
}

fn head() -> DinoHeadConfig {
    DinoHeadConfig { hidden: 8, bottleneck: 4, output: 16, ..Default::default() }
}

#[test]
fn mae_learns_from_images_of_224_pixels() {
    learns_from(1, |site| Mae::new(site, &MaeConfig { decoder: narrow(), ..Default::default() }));
}

#[test]
fn simmim_learns_from_images_of_224_pixels() {
    learns_from(1, |site| SimMim::new(site, &SimMimConfig::default()));
}

#[test]
fn i_jepa_learns_from_images_of_224_pixels() {
    learns_from(1, |site| IJepa::new(site, &IJepaConfig { predictor: narrow(), ..Default::default() }));
}

#[test]
fn msn_learns_from_images_of_224_pixels() {
    let config = MsnConfig { prototypes: 8, hidden: 8, output: 4, ..Default::default() };
    learns_from(2, |site| Msn::new(site, &config));
}

#[test]
fn ibot_learns_from_images_of_224_pixels() {
    let config = IbotConfig { head: head(), patch_head: head(), ..Default::default() };
    learns_from(2, |site| Ibot::new(site, &config));
}

#[test]
fn dinov2_learns_from_images_of_224_pixels() {
    let config = DinoV2Config { head: head(), patch_head: head(), ..Default::default() };
    learns_from(2, |site| DinoV2::new(site, &config));
}
