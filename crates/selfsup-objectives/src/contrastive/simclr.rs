//! SimCLR: two augmented views of an image are to be nearer to each other than to any view of another image.
//!
//! Chen, Kornblith, Norouzi and Hinton 2020, *A Simple Framework for Contrastive Learning of Visual Representations*,
//! algorithm 1: h = f(view), z = g(h), and [`NtXent`] over all z. The projector g is thrown away after training; h is
//! the representation.
//!
//! Both views pass through the encoder as one batch, so that BatchNorm sees all 2N images, as in the authors' code.

use crate::contrastive::nt_xent::{NtXent, NtXentConfig, NtXentOutput};
use crate::views::two_views;
use selfsup_core::{
    Encoder, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site, Step, Tensor,
};
use serde::{Deserialize, Serialize};

/// Settings of [`SimClr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimClrConfig {
    /// The temperature of the loss; see [`NtXentConfig::temperature`].
    pub temperature: f64,
    /// The projector; for a ResNet-50 as many hidden units as it has features, 2048, and 128 outputs (section 2.3 of the
    /// paper).
    pub projector: MlpHeadConfig,
}

impl Default for SimClrConfig {
    fn default() -> Self {
        SimClrConfig {
            temperature: NtXentConfig::default().temperature,
            projector: MlpHeadConfig::projector(2048, 128),
        }
    }
}

/// The SimCLR objective: a projector and the NT-Xent loss.
#[derive(Debug)]
pub struct SimClr {
    projector: MlpHead,
    loss: NtXent,
}

impl SimClr {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`selfsup_core::Error::Config`] when the temperature or a size is not positive.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &SimClrConfig) -> Result<Self> {
        Ok(SimClr {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            loss: NtXent::new(NtXentConfig { temperature: config.temperature })?,
        })
    }
}

/// The projections of the two views, `[N, P]` each, which pass through encoder and projector as one batch.
///
/// # Errors
/// Those of [`two_views`] and of the two networks.
pub(crate) fn project_together<E: Encoder + ?Sized>(
    encoder: &E,
    projector: &MlpHead,
    batch: &ImageViews,
    method: &str,
) -> Result<[Tensor; 2]> {
    let (view0, view1, n) = two_views(batch, method)?;
    let views = Tensor::cat(&[view0, view1], 0); // [2N, C, H, W]
    let h = encoder.encode(&views, Mode::Train)?; // [2N, D]
    let z = projector.forward(&h, Mode::Train)?; // [2N, P]
    Ok([z.narrow(0, 0, n), z.narrow(0, n, n)])
}

impl<E: Encoder + ?Sized> Objective<E> for SimClr {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let [z0, z1] = project_together(encoder, &self.projector, batch, "SimCLR")?; // [N, P] each
        let NtXentOutput { loss, accuracy } = self.loss.forward_with_accuracy(&z0, &z1, step.comm)?;
        Ok(Loss::new(loss).with("contrastive_accuracy", &accuracy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, batch};
    use selfsup_core::{SingleProcess, TensorExt, nn};

    fn setup() -> (nn::VarStore, Pixels, SimClr) {
        let (store, encoder) = Pixels::stored();
        let config = SimClrConfig { temperature: 0.5, projector: MlpHeadConfig::projector(8, 3) };
        let objective = SimClr::new(&Pixels::site(&store, &encoder), &config).unwrap();
        (store, encoder, objective)
    }

    #[test]
    fn is_nt_xent_of_the_projections_of_one_joint_batch() {
        let (store, encoder, mut objective) = setup();
        let batch = batch(6, 2, 0.0);
        let loss = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap();
        let v = store.variables();
        let x = Tensor::cat(&batch.views, 0).flatten(1, -1);
        let norm = |x: Tensor| (&x - x.mean_dim(0, true, None)) / (x.var_dim(0, false, true) + 1e-5).sqrt();
        let h = x.matmul(&v["encoder.weight"].transpose(0, 1)) + &v["encoder.bias"];
        let h = norm(h.matmul(&v["objective.projector.0.weight"].transpose(0, 1))).relu();
        let z = norm(h.matmul(&v["objective.projector.3.weight"].transpose(0, 1)));
        let nt_xent = NtXent::new(NtXentConfig { temperature: 0.5 }).unwrap();
        let expected = nt_xent.forward(&z.narrow(0, 0, 6), &z.narrow(0, 6, 6), &SingleProcess).unwrap();
        assert!((loss.total - expected).abs().scalar().unwrap() < 1e-5);
        assert_eq!(loss.parts[0].0, "contrastive_accuracy");
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        objective.loss(&encoder, &batch(6, 2, 0.0), &Step::single(0, 1, 0, 0)).unwrap().total.backward();
        // BatchNorm removes the mean that the encoder's bias adds.
        assert_gradients(&store, &["encoder.bias"]);
    }

    #[test]
    fn rejects_other_than_two_equal_views() {
        let (_store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        let error = objective.loss(&encoder, &batch(6, 3, 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "views = 3: two views an image for SimCLR");
        let mut unequal = batch(6, 2, 0.0);
        unequal.views[1] = unequal.views[1].narrow(0, 0, 5);
        let error = objective.loss(&encoder, &unequal, &step).unwrap_err().to_string();
        assert_eq!(error, "view 1: expected [6, 1, 2, 2], found [5, 1, 2, 2]");
        let error = objective.loss(&encoder, &batch(1, 2, 0.0), &step).unwrap_err().to_string();
        assert!(error.contains("at least 2 samples"), "{error}");
    }
}
