//! SimCLRv2: SimCLR with a deeper projector, whose first layer stays when the network is fine-tuned on few labels.
//!
//! Chen, Kornblith, Swersky, Norouzi and Hinton 2020, *Big Self-Supervised Models are Strong Semi-Supervised Learners*,
//! section 2. The method has three steps:
//!
//! 1. Pretrain encoder f and a projector g of three layers by [`NtXent`]: the objective [`SimClrV2`].
//! 2. Fine-tune on the labels there are *from the middle of g*: a linear classifier on f and the first layer of g, with
//!    its norm and ReLU. That is [`SimClrV2Classifier`]; all of it learns. (`selfsup finetune --from RUN --set
//!    start.projector_layers=1`, with any method.)
//! 3. Distil the fine-tuned network into a student on images without labels:
//!    [`Distillation`](crate::Distillation) on the logits of both, [`DistilledClassifier`](crate::DistilledClassifier) as a
//!    training. (`selfsup finetune --method distillation --teacher RUN`.)
//!
//! The paper's encoders (ResNets up to 152 layers, three times as wide, with selective kernels) are not here, nor the
//! queue of negatives that it tried, which gained about one percent there.

use crate::contrastive::nt_xent::{NtXent, NtXentConfig, NtXentOutput};
use crate::contrastive::simclr::project_together;
use selfsup_core::layers::{Bias, Linear, normal};
use selfsup_core::{
    Encoder, Error, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site, Step, Tensor,
    nn, tch,
};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// Settings of [`SimClrV2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimClrV2Config {
    /// The temperature of the loss; see [`NtXentConfig::temperature`].
    pub temperature: f64,
    /// The projector: three layers as wide as the features (section 2), 2048 for a ResNet-50, and 128 outputs.
    pub projector: MlpHeadConfig,
}

impl Default for SimClrV2Config {
    fn default() -> Self {
        SimClrV2Config {
            temperature: NtXentConfig::default().temperature,
            projector: MlpHeadConfig { hidden: vec![2048, 2048], ..MlpHeadConfig::projector(2048, 128) },
        }
    }
}

/// The SimCLRv2 objective: a deep projector and the NT-Xent loss.
#[derive(Debug)]
pub struct SimClrV2 {
    projector: MlpHead,
    /// The sizes of what [`middle`](SimClrV2::middle) returns: the features, then the hidden layers.
    sizes: Vec<i64>,
    loss: NtXent,
}

impl SimClrV2 {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature or a size is not positive, or the projector has no hidden layer.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &SimClrV2Config) -> Result<Self> {
        let hidden = &config.projector.hidden;
        if hidden.is_empty() {
            let expected = "at least one hidden layer, from which to fine-tune";
            return Err(Error::config("projector.hidden", "[]", expected));
        }
        Ok(SimClrV2 {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            sizes: std::iter::once(site.dim()).chain(hidden.iter().copied()).collect(),
            loss: NtXent::new(NtXentConfig { temperature: config.temperature })?,
        })
    }

    /// What comes out of the first `layers` layers of the projector, with norm and ReLU; of none, the features.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]` to `[N, hidden]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images do not fit the encoder, [`Error::Config`] when there are fewer hidden layers.
    pub fn middle<E: Encoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
        layers: usize,
        mode: Mode,
    ) -> Result<Tensor> {
        self.projector.hidden(&encoder.encode(images, mode)?, layers, mode)
    }
}

impl<E: Encoder + ?Sized> Objective<E> for SimClrV2 {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let [z0, z1] = project_together(encoder, &self.projector, batch, "SimCLRv2")?; // [N, P] each
        let NtXentOutput { loss, accuracy } = self.loss.forward_with_accuracy(&z0, &z1, step.comm)?;
        Ok(Loss::new(loss).with("contrastive_accuracy", &accuracy))
    }
}

/// The network of the second step: encoder, the first layers of the projector, and a linear classifier on them.
#[derive(Debug)]
pub struct SimClrV2Classifier {
    linear: Linear,
    layers: usize,
}

impl SimClrV2Classifier {
    /// Makes the classifier's parameters under `path`: weights from N(0, 0.01), as in the authors' code, and no bias yet.
    /// The paper fine-tunes from `layers` = 1.
    ///
    /// # Errors
    /// [`Error::Config`] when the projector has fewer hidden layers or there are fewer than two classes.
    pub fn new<'a>(
        path: impl Borrow<nn::Path<'a>>,
        pretrained: &SimClrV2,
        layers: usize,
        classes: i64,
    ) -> Result<Self> {
        let Some(&inputs) = pretrained.sizes.get(layers) else {
            let expected =
                format!("at most {}, the hidden layers of the projector", pretrained.sizes.len() - 1);
            return Err(Error::config("layers", layers, expected));
        };
        if classes < 2 {
            return Err(Error::config("classes", classes, "at least 2"));
        }
        let linear = Linear::new(path, inputs, classes, Bias::Yes);
        normal(&linear.weight, 0.01);
        if let Some(bias) = &linear.bias {
            tch::no_grad(|| drop(bias.shallow_clone().zero_()));
        }
        Ok(SimClrV2Classifier { linear, layers })
    }

    /// The logits, with gradient to the classifier, the layers of the projector below it, and the encoder.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]` to `[N, classes]`.
    ///
    /// # Errors
    /// As [`SimClrV2::middle`].
    pub fn logits<E: Encoder + ?Sized>(
        &self,
        encoder: &E,
        pretrained: &SimClrV2,
        images: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        Ok(self.linear.forward(&pretrained.middle(encoder, images, self.layers, mode)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, batch, fill, waves};
    use crate::{Distillation, DistillationConfig};
    use selfsup_core::{SingleProcess, TensorExt};

    /// The parameters in the order of PyTorch's `parameters()`.
    const NAMES: [&str; 11] = [
        "encoder.weight",
        "encoder.bias",
        "objective.projector.0.weight",
        "objective.projector.1.weight",
        "objective.projector.1.bias",
        "objective.projector.3.weight",
        "objective.projector.4.weight",
        "objective.projector.4.bias",
        "objective.projector.6.weight",
        "objective.projector.7.weight",
        "objective.projector.7.bias",
    ];

    fn setup() -> (nn::VarStore, Pixels, SimClrV2) {
        let (store, encoder) = Pixels::stored();
        let projector = MlpHeadConfig { hidden: vec![5, 5], ..MlpHeadConfig::projector(5, 3) };
        let config = SimClrV2Config { temperature: 0.5, projector };
        let objective = SimClrV2::new(&Pixels::site(&store, &encoder), &config).unwrap();
        (store, encoder, objective)
    }

    fn images(n: i64) -> Tensor {
        waves(n, 4, 0.0, 0.7).reshape([n, 1, 2, 2])
    }

    #[test]
    fn equals_lightlys_head_of_three_layers_and_loss_forward_and_backward() {
        // enc, head = torch.nn.Linear(4, 4), SimCLRProjectionHead(4, 5, 3, num_layers=3)
        // ps = list(enc.parameters()) + list(head.parameters())
        // for i, p in enumerate(ps): p.copy_((torch.arange(float(p.numel())) * 0.7 + i).sin().reshape(p.shape) / 2)
        // v = [(torch.arange(24.) * 0.7 + s).sin().reshape(6, 4) for s in (0., 0.5)]
        // z = head(enc(torch.cat(v))); l = NTXentLoss(0.5)(z[:6], z[6:]); l.backward()
        // print(l.item(), ps[0].grad, ps[8].grad)
        let (store, encoder, mut objective) = setup();
        fill(&store, &NAMES);
        let loss = objective.loss(&encoder, &batch(6, 2, 0.0), &Step::single(0, 1, 0, 0)).unwrap().total;
        loss.backward();
        assert!((loss.scalar().unwrap() - 2.118_469_94).abs() < 1e-5);
        let v = store.variables();
        assert_near(
            &v[NAMES[0]].grad(),
            &[
                0.598_895_91,
                0.270_483_31,
                -0.185_141_83,
                -0.553_691_86,
                0.941_465_14,
                0.417_958_14,
                -0.302_120_95,
                -0.880_108_12,
                0.841_248_99,
                0.368_860_90,
                -0.277_008_35,
                -0.792_596_10,
                0.345_379_80,
                0.146_282_58,
                -0.121_613_70,
                -0.332_313_15,
            ],
        );
        assert_near(
            &v[NAMES[8]].grad(),
            &[
                -0.044_972_35,
                -0.049_431_85,
                0.088_052_42,
                -0.048_032_27,
                -0.045_794_88,
                -0.037_285_79,
                -0.072_851_76,
                0.149_114_49,
                -0.166_654_57,
                0.036_041_78,
                -0.013_164_70,
                -0.022_613_23,
                0.049_653_66,
                -0.008_635_28,
                -0.036_436_40,
            ],
        );
    }

    #[test]
    fn is_nt_xent_of_three_layers_written_out() {
        let (store, encoder, mut objective) = setup();
        let batch = batch(6, 2, 0.0);
        let found = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap().total;
        let v = store.variables();
        let norm = |x: Tensor| (&x - x.mean_dim(0, true, None)) / (x.var_dim(0, false, true) + 1e-5).sqrt();
        let x = Tensor::cat(&batch.views, 0).flatten(1, -1);
        let mut z = x.matmul(&v["encoder.weight"].tr()) + &v["encoder.bias"];
        for (layer, is_last) in [(0, false), (3, false), (6, true)] {
            z = norm(z.matmul(&v[&format!("objective.projector.{layer}.weight")].tr()));
            z = if is_last { z } else { z.relu() };
        }
        let nt_xent = NtXent::new(NtXentConfig { temperature: 0.5 }).unwrap();
        let expected = nt_xent.forward(&z.narrow(0, 0, 6), &z.narrow(0, 6, 6), &SingleProcess).unwrap();
        assert!((found - expected).abs().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        fill(&store, &["objective.projector.0.weight"]);
        objective.loss(&encoder, &batch(6, 2, 0.0), &Step::single(0, 1, 0, 0)).unwrap().total.backward();
        // BatchNorm removes the mean that the encoder's bias adds.
        assert_gradients(&store, &["encoder.bias"]);
    }

    #[test]
    fn the_middle_equals_lightlys_first_layer() {
        // After the step of the first test: head.eval(); torch.nn.Sequential(*head.layers[:3])(enc(v[0]))
        let (store, encoder, mut objective) = setup();
        fill(&store, &NAMES);
        objective.loss(&encoder, &batch(6, 2, 0.0), &Step::single(0, 1, 0, 0)).unwrap();
        let middle = objective.middle(&encoder, &images(6), 1, Mode::Eval).unwrap();
        assert_near(&middle.reshape([-1]).narrow(0, 0, 6), &[0.0, 0.0, 0.0, 0.245_277_19, 0.109_876_75, 0.0]);
    }

    #[test]
    fn fine_tunes_from_the_first_layer_and_distils_into_a_student() {
        let (store, encoder, objective) = setup();
        let images = images(8);
        let labels = Tensor::from_slice(&[0_i64, 1, 0, 1, 1, 0, 1, 0]);
        let classifier = SimClrV2Classifier::new(store.root() / "classifier", &objective, 1, 2).unwrap();
        let logits = || classifier.logits(&encoder, &objective, &images, Mode::Train).unwrap();
        // Small weights and no bias: every class is as likely at first.
        let first = logits().cross_entropy_for_logits(&labels);
        assert!((first.scalar().unwrap() - 2_f64.ln()).abs() < 0.05);
        first.backward();
        for (name, x) in store.variables().into_iter().filter(|(_, x)| x.requires_grad()) {
            let above = ["projector.3", "projector.4", "projector.6", "projector.7"];
            let learns = !above.iter().any(|layer| name.contains(layer));
            assert_eq!(x.grad().defined(), learns, "{name}");
        }
        let mut optimizer = nn::OptimizerConfig::build(nn::Adam::default(), &store, 0.05).unwrap();
        for _ in 0..60 {
            optimizer.backward_step(&logits().cross_entropy_for_logits(&labels));
        }
        let tuned = logits().cross_entropy_for_logits(&labels).scalar().unwrap();
        assert!(tuned < 0.5 * 2_f64.ln(), "{tuned}");

        let teacher = classifier.logits(&encoder, &objective, &images, Mode::Eval).unwrap().detach();
        let distillation = Distillation::new(&DistillationConfig::default()).unwrap();
        let student = nn::VarStore::new(selfsup_core::Device::Cpu);
        let linear = Linear::new(student.root(), 4, 2, Bias::Yes);
        let mut optimizer = nn::OptimizerConfig::build(nn::Adam::default(), &student, 0.05).unwrap();
        let losses: Vec<f64> = (0..40)
            .map(|_| {
                let loss = distillation.forward(&linear.forward(&images.flatten(1, -1)), &teacher).unwrap();
                optimizer.backward_step(&loss);
                loss.scalar().unwrap()
            })
            .collect();
        assert!(losses[39] < losses[0], "{losses:?}");
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (store, encoder, mut objective) = setup();
        let mut refusal = |batch: &ImageViews| {
            objective.loss(&encoder, batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        assert_eq!(refusal(&batch(6, 3, 0.0)), "views = 3: two views an image for SimCLRv2");
        let mut unequal = batch(6, 2, 0.0);
        unequal.views[1] = unequal.views[1].narrow(0, 0, 5);
        assert_eq!(refusal(&unequal), "view 1: expected [6, 1, 2, 2], found [5, 1, 2, 2]");
        assert!(refusal(&batch(1, 2, 0.0)).contains("at least 2 samples"));
        let error = objective.middle(&encoder, &images(2), 3, Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "layers = 3: at most 2, the hidden layers of the head");
        let error = SimClrV2Classifier::new(store.root(), &objective, 3, 2).unwrap_err().to_string();
        assert_eq!(error, "layers = 3: at most 2, the hidden layers of the projector");
        let error = SimClrV2Classifier::new(store.root(), &objective, 1, 1).unwrap_err().to_string();
        assert_eq!(error, "classes = 1: at least 2");
        let mut config = SimClrV2Config::default();
        config.projector.hidden.clear();
        let error = SimClrV2::new(&Pixels::site(&store, &encoder), &config).unwrap_err().to_string();
        assert_eq!(error, "projector.hidden = []: at least one hidden layer, from which to fine-tune");
    }
}
