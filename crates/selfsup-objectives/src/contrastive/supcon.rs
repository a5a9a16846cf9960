//! SupCon: all views of all images of a class are to be nearer to each other than to those of other classes.
//!
//! Khosla, Teterwak, Wang et al. 2020, *Supervised Contrastive Learning*, equation 2 (`L_out`). For the views z of unit
//! length, `P(i)` the other views of i's class and `A(i)` all other views,
//!
//! ```text
//! l(i) = -1/|P(i)| sum_{p in P(i)} log exp(z_i . z_p / tau) / sum_{a in A(i)} exp(z_i . z_a / tau)
//! L = mean of l over all views
//! ```
//!
//! The mean over positives stands outside the logarithm, as the paper recommends. With a class of its own for every
//! image and two views, it is [`NtXent`](crate::NtXent). The authors' code multiplies the loss by tau over a *base
//! temperature*, which the paper's equation has not: [`SupConConfig::base_temperature`]. Section 3.1 also normalises the
//! encoder's output before the projector; the authors' code does not, nor does this.
//!
//! The labels come with the batch ([`ImageViews::labels`]); a set without labels is refused. The paper's second stage, a
//! linear classifier on the frozen features, is the linear probe of the evaluation.

use selfsup_core::{
    Communicator, Encoder, Error, HeadNorm, ImageViews, Kind, Loss, MlpHead, MlpHeadConfig, Mode, Objective,
    Result, Site, Step, Tensor, TensorExt, check_kind, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`SupCon`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupConConfig {
    /// The temperature tau: 0.1 (section 4 of the paper).
    pub temperature: f64,
    /// Multiplies the loss by `temperature / base_temperature`; without it the loss is the paper's. The authors' code
    /// has 0.07.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_temperature: Option<f64>,
    /// The projector: one hidden layer of 2048 and 128 outputs (section 3.1), without BatchNorm as in the authors' code.
    pub projector: MlpHeadConfig,
}

impl Default for SupConConfig {
    fn default() -> Self {
        SupConConfig {
            temperature: 0.1,
            base_temperature: None,
            projector: MlpHeadConfig {
                hidden: vec![2048],
                output: 128,
                hidden_norm: HeadNorm::None,
                output_norm: HeadNorm::None,
            },
        }
    }
}

/// The supervised contrastive loss.
#[derive(Clone, Debug)]
pub struct SupConLoss {
    temperature: f64,
    scale: f64,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct SupConOutput {
    /// The mean loss, a scalar with gradient.
    pub loss: Tensor,
    /// The share of views whose nearest neighbour among all other views is of their class, a scalar without gradient.
    pub accuracy: Tensor,
}

impl SupConLoss {
    /// Makes the loss; see [`SupConConfig`] for the two temperatures.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature is not a positive number.
    pub fn new(temperature: f64, base_temperature: Option<f64>) -> Result<Self> {
        let base = base_temperature.unwrap_or(temperature);
        for (field, value) in [("temperature", temperature), ("base_temperature", base)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::config(field, value, "a positive number"));
            }
        }
        Ok(SupConLoss { temperature, scale: temperature / base })
    }

    /// The mean loss of this rank's views, against those of all ranks.
    ///
    /// # Shapes
    /// `z` `[N, V, D]`, V views of N samples, of any length; `labels` `[N]` Int64. Returns scalars.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two do not fit, or a sample may be without a positive (fewer than two views) or
    /// without another sample.
    pub fn forward(&self, z: &Tensor, labels: &Tensor, comm: &dyn Communicator) -> Result<SupConOutput> {
        let [n, views, d] = check_shape("z", z, [-1, -1, -1])?;
        check_shape("labels", labels, [n])?;
        check_kind("labels", labels, Kind::Int64)?;
        if views < 2 || n * comm.world_size() < 2 {
            return Err(Error::Shape {
                name: "z".to_owned(),
                expected: "at least 2 samples in at least 2 views, so that there are others and positives"
                    .to_owned(),
                found: format!("{:?}", z.size()),
            });
        }
        let z = z.l2_normalize();
        let keys = comm.gather(&z)?.reshape([-1, d]); // [MV, D], M samples on all ranks
        let key_labels = comm.gather(labels)?.repeat_interleave_self_int(views, 0, None); // [MV]
        let queries = z.reshape([-1, d]); // [NV, D]
        let query_labels = labels.repeat_interleave_self_int(views, 0, None); // [NV]
        let first = comm.rank() * n * views;
        let itself = Tensor::arange_start(first, first + n * views, (Kind::Int64, z.device())).unsqueeze(1); // [NV, 1]
        let positive = query_labels.unsqueeze(1).eq_tensor(&key_labels.unsqueeze(0)); // [NV, MV]
        let positive = positive.scatter_value(1, &itself, 0);

        let logits = (queries / self.temperature).matmul(&keys.tr()); // [NV, MV]
        let logits = logits.scatter_value(1, &itself, f64::NEG_INFINITY);
        let nearest = logits.detach().argmax(1, true); // [NV, 1]
        let hits = positive.gather(1, &nearest, false); // [NV, 1]
        let log_probabilities = logits.log_softmax(1, Kind::Float).masked_fill(&positive.logical_not(), 0.0);
        let positives = positive.sum_dim_intlist(1, false, Kind::Float); // [NV], at least V - 1
        let mean = log_probabilities.sum_dim_intlist(1, false, None) / positives; // [NV]
        Ok(SupConOutput {
            loss: mean.mean(None) * -self.scale,
            accuracy: hits.to_kind(Kind::Float).mean(None),
        })
    }
}

/// The SupCon objective: a projector and the supervised contrastive loss.
#[derive(Debug)]
pub struct SupCon {
    projector: MlpHead,
    loss: SupConLoss,
}

impl SupCon {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature or a size is not positive.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &SupConConfig) -> Result<Self> {
        Ok(SupCon {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            loss: SupConLoss::new(config.temperature, config.base_temperature)?,
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for SupCon {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let [view0, _, ..] = batch.views.as_slice() else {
            return Err(Error::config("views", batch.views.len(), "at least two views an image for SupCon"));
        };
        let [n, c, h, w] = check_shape("view 0", view0, [-1, -1, -1, -1])?;
        for (i, view) in batch.views.iter().enumerate() {
            check_shape(&format!("view {i}"), view, [n, c, h, w])?;
        }
        let Some(labels) = &batch.labels else {
            return Err(Error::config(
                "labels",
                "none",
                "a data set with classes: SupCon learns from labels",
            ));
        };
        let views = Tensor::cat(&batch.views, 0); // [VN, C, H, W]
        let h = encoder.encode(&views, Mode::Train)?; // [VN, D]
        let z = self.projector.forward(&h, Mode::Train)?; // [VN, P]
        let z = z.reshape([batch.views.len() as i64, n, -1]).transpose(0, 1); // [N, V, P]
        let SupConOutput { loss, accuracy } = self.loss.forward(&z, labels, step.comm)?;
        Ok(Loss::new(loss).with("contrastive_accuracy", &accuracy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Pixels, TwoRanks, assert_gradients};
    use crate::{NtXent, NtXentConfig};
    use selfsup_core::{Device, Key, SingleProcess, nn};

    fn waves(shape: [i64; 3]) -> Tensor {
        let count = shape.iter().product::<i64>();
        (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7).sin().reshape(shape).set_requires_grad(true)
    }

    fn loss(z: &Tensor, labels: &[i64], temperature: f64, base: Option<f64>) -> Tensor {
        let loss = SupConLoss::new(temperature, base).unwrap();
        loss.forward(z, &Tensor::from_slice(labels), &SingleProcess).unwrap().loss
    }

    #[test]
    fn equals_equation_2_term_by_term() {
        let (z, labels) = (waves([5, 3, 4]), [0, 1, 0, 2, 1]);
        let rows: Vec<Tensor> = (0..15).map(|i| z.detach().reshape([15, 4]).get(i).l2_normalize()).collect();
        let e = |i: usize, k: usize| ((&rows[i] * &rows[k]).sum(None).scalar().unwrap() / 0.3).exp();
        let class = |i: usize| labels[i / 3];
        let mut total = 0.0;
        for i in 0..15 {
            let all: f64 = (0..15).filter(|&a| a != i).map(|a| e(i, a)).sum();
            let positives: Vec<usize> = (0..15).filter(|&p| p != i && class(p) == class(i)).collect();
            let sum: f64 = positives.iter().map(|&p| (e(i, p) / all).ln()).sum();
            total -= sum / positives.len() as f64 / 15.0;
        }
        assert!((loss(&z, &labels, 0.3, None).scalar().unwrap() - total).abs() < 1e-5);
    }

    #[test]
    fn equals_the_authors_code_forward_and_backward() {
        // z = (torch.arange(24.) * 0.7).sin().reshape(4, 2, 3).double().requires_grad_()
        // l = losses.SupConLoss(0.5, base_temperature=b)(F.normalize(z, dim=2), torch.tensor([0, 1, 0, 2]))
        // l.backward(); print(l.item(), z.grad.flatten().tolist())    with b = 0.5, then 0.25
        let expected: [f32; 24] = [
            -0.115_313_48,
            -0.052_813_39,
            0.034_525_67,
            0.000_595_92,
            0.003_588_53,
            0.004_893_39,
            0.151_411_35,
            -0.018_677_53,
            -0.179_982_07,
            0.287_148_41,
            0.128_620_51,
            -0.090_399_62,
            0.001_340_97,
            0.006_780_28,
            0.009_030_72,
            -0.059_678_28,
            0.008_109_89,
            0.072_083_85,
            -0.329_724_04,
            -0.144_419_74,
            0.108_807_41,
            -0.062_409_21,
            -0.272_374_36,
            -0.354_237_59,
        ];
        for (base, scale) in [(None, 1.0), (Some(0.25), 2.0)] {
            let z = waves([4, 2, 3]);
            let l = loss(&z, &[0, 1, 0, 2], 0.5, base);
            assert!((l.scalar().unwrap() - 3.331_457_01 * scale).abs() < 1e-5);
            l.backward();
            let difference = z.grad().reshape([-1]) - Tensor::from_slice(&expected) * scale;
            assert!(difference.abs().max().scalar().unwrap() < 1e-5);
        }
    }

    #[test]
    fn is_nt_xent_where_every_image_is_a_class_of_its_own() {
        let z = waves([6, 2, 4]);
        let nt_xent = NtXent::new(NtXentConfig { temperature: 0.2 }).unwrap();
        let expected = nt_xent.forward(&z.select(1, 0), &z.select(1, 1), &SingleProcess).unwrap();
        let found = loss(&z, &[4, 0, 1, 2, 3, 9], 0.2, None);
        assert!((found - expected).abs().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn a_batch_of_one_class_without_information_costs_the_logarithm_of_the_others() {
        let z = Tensor::ones([4, 2, 3], (Kind::Float, Device::Cpu));
        assert!((loss(&z, &[7; 4], 0.1, None).scalar().unwrap() - 7_f64.ln()).abs() < 1e-5);
    }

    #[test]
    fn ignores_the_order_of_samples_and_the_names_of_classes() {
        let z = waves([4, 2, 3]);
        let there = loss(&z, &[0, 1, 0, 2], 0.2, None);
        let order = Tensor::from_slice(&[2_i64, 3, 0, 1]);
        let here = loss(&(z.index_select(0, &order) * 5.0), &[8, 3, 8, 1], 0.2, None);
        assert!((there - here).abs().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        let labels = Tensor::from_slice(&[0_i64, 1, 0, 1, 2, 0]);
        let (z, w) = (waves([6, 2, 3]), waves([6, 2, 3]));
        let loss = |z: &Tensor, labels: &Tensor, comm: &dyn Communicator| {
            SupConLoss::new(0.3, None).unwrap().forward(z, labels, comm).unwrap().loss
        };
        let whole = loss(&z, &labels, &SingleProcess);
        whole.backward();
        let of_ranks = TwoRanks::play(|comm| {
            let first = 3 * comm.rank;
            loss(&w.narrow(0, first, 3), &labels.narrow(0, first, 3), comm)
        });
        let mean = Tensor::stack(&of_ranks, 0).mean(None);
        mean.backward();
        assert!((mean - whole).abs().scalar().unwrap() < 1e-5);
        assert!((w.grad() - z.grad()).abs().max().scalar().unwrap() < 1e-5);
    }

    fn setup() -> (nn::VarStore, Pixels, SupCon) {
        Key::new(1).seed_torch();
        let (store, encoder) = Pixels::stored();
        let mut config = SupConConfig::default();
        (config.projector.hidden, config.projector.output) = (vec![8], 3);
        let objective = SupCon::new(&Pixels::site(&store, &encoder), &config).unwrap();
        (store, encoder, objective)
    }

    fn batch(n: i64, views: usize) -> ImageViews {
        let view = |k: usize| waves([n, 2, 2]).detach().unsqueeze(1) + k as f64 * 0.1;
        ImageViews {
            views: (0..views).map(view).collect(),
            indices: Tensor::arange(n, (Kind::Int64, Device::Cpu)),
            labels: Some(Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(2)),
        }
    }

    #[test]
    fn joins_the_views_of_an_image_and_gives_every_parameter_a_gradient() {
        let (store, encoder, mut objective) = setup();
        let batch = batch(6, 3);
        let loss = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap();
        let z = |view: &Tensor| {
            let h = encoder.encode(view, Mode::Train).unwrap();
            objective.projector.forward(&h, Mode::Train).unwrap()
        };
        let z = Tensor::stack(&batch.views.iter().map(z).collect::<Vec<_>>(), 1); // [N, V, P]
        let labels = batch.labels.as_ref().unwrap();
        let expected = SupConLoss::new(0.1, None).unwrap().forward(&z, labels, &SingleProcess).unwrap();
        assert!((&loss.total - expected.loss).abs().scalar().unwrap() < 1e-5);
        loss.total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn rejects_what_it_cannot_learn_from() {
        let (_store, encoder, mut objective) = setup();
        let mut refusal = |batch: &ImageViews| {
            objective.loss(&encoder, batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        let unlabelled = ImageViews { labels: None, ..batch(6, 2) };
        assert_eq!(refusal(&unlabelled), "labels = none: a data set with classes: SupCon learns from labels");
        assert_eq!(refusal(&batch(6, 1)), "views = 1: at least two views an image for SupCon");
        let mut unequal = batch(6, 3);
        unequal.views[2] = unequal.views[2].narrow(0, 0, 5);
        assert_eq!(refusal(&unequal), "view 2: expected [6, 1, 2, 2], found [5, 1, 2, 2]");
        let short = ImageViews { labels: Some(Tensor::from_slice(&[0_i64])), ..batch(6, 2) };
        assert_eq!(refusal(&short), "labels: expected [6], found [1]");
        assert!(refusal(&batch(1, 2)).contains("at least 2 samples"));
        for temperature in [0.0, f64::NAN] {
            let error = SupConLoss::new(temperature, None).unwrap_err().to_string();
            assert!(error.ends_with("a positive number"), "{error}");
            let error = SupConLoss::new(0.1, Some(temperature)).unwrap_err().to_string();
            assert!(error.starts_with("base_temperature"), "{error}");
        }
    }
}
