//! NNCLR: the other view is to be near the nearest neighbour that this one has among the samples seen lately.
//!
//! Dwibedi, Aytar, Tompson, Sermanet and Zisserman 2021, *With a Little Help from My Friends: Nearest-Neighbor
//! Contrastive Learning of Visual Representations*, algorithm 1. With z = g(f(view)), p = h(z), the support set Q, and
//! all vectors of unit length,
//!
//! ```text
//! NN(z) = the q in Q nearest to z
//! L(a, p) = mean over i of  -log exp(a_i . p_i / tau) / sum_k exp(a_i . p_k / tau)
//! loss = L(NN(z_0), p_1) / 2 + L(NN(z_1), p_0) / 2             then    Q <- z_0
//! ```
//!
//! No gradient flows through the neighbours. Views pass through the networks one after the other, as in algorithm 1.
//! The support set begins with random vectors; the first neighbours mean nothing, and go as the queue fills.

use crate::contrastive::info_nce::InfoNce;
use crate::contrastive::queue::Queue;
use crate::views::two_views;
use selfsup_core::{
    Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site, Step,
    Tensor, TensorExt, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`Nnclr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NnclrConfig {
    /// The temperature of the loss: 0.1 (section 4.1 of the paper).
    pub temperature: f64,
    /// The size of the support set: 98,304 (section 4.1). At most a part of the data, or a sample meets itself in it.
    pub queue: i64,
    /// The projector: 2048, 2048, 256, BatchNorm after every layer (section 4.1).
    pub projector: MlpHeadConfig,
    /// The predictor: 4096, 256, BatchNorm after the hidden layer alone (section 4.1). Its output is as large as the
    /// projector's.
    pub predictor: MlpHeadConfig,
}

impl Default for NnclrConfig {
    fn default() -> Self {
        NnclrConfig {
            temperature: 0.1,
            queue: 98_304,
            projector: MlpHeadConfig { hidden: vec![2048, 2048], ..MlpHeadConfig::projector(2048, 256) },
            predictor: MlpHeadConfig { output_norm: HeadNorm::None, ..MlpHeadConfig::projector(4096, 256) },
        }
    }
}

/// The NNCLR objective: a projector, a predictor and the support set.
#[derive(Debug)]
pub struct Nnclr {
    projector: MlpHead,
    predictor: MlpHead,
    queue: Queue,
    loss: InfoNce,
}

impl Nnclr {
    /// Makes the heads and the support set for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature or a size is not positive, or the predictor's output has another size
    /// than the projector's.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &NnclrConfig) -> Result<Self> {
        let NnclrConfig { temperature, queue, projector, predictor } = config;
        if predictor.output != projector.output {
            let expected = format!("projector.output = {}, with which it is compared", projector.output);
            return Err(Error::config("predictor.output", predictor.output, expected));
        }
        let path = site.path();
        Ok(Nnclr {
            projector: MlpHead::new(&path / "projector", site.dim(), projector)?,
            predictor: MlpHead::new(&path / "predictor", projector.output, predictor)?,
            queue: Queue::new(&path / "queue", *queue, projector.output)?,
            loss: InfoNce::new(*temperature)?,
        })
    }

    /// The nearest neighbours in the support set of `z` `[N, P]` of unit length, and the mean of their similarities.
    fn nearest(&self, z: &Tensor) -> (Tensor, Tensor) {
        let (similarity, index) = z.matmul(&self.queue.vectors.tr()).max_dim(1, false); // [N] each
        (self.queue.vectors.index_select(0, &index), similarity.mean(None))
    }
}

impl<E: Encoder + ?Sized> Objective<E> for Nnclr {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, _) = two_views(batch, "NNCLR")?;
        let embed = |view: &Tensor| self.projector.forward(&encoder.encode(view, Mode::Train)?, Mode::Train);
        let (z0, z1) = (embed(view0)?, embed(view1)?); // [N, P] each
        let p0 = self.predictor.forward(&z0, Mode::Train)?; // [N, P]
        let p1 = self.predictor.forward(&z1, Mode::Train)?; // [N, P]
        let (u0, [(nn0, similarity0), (nn1, similarity1)]) = tch::no_grad(|| {
            let [u0, u1] = [z0, z1].map(|z| z.l2_normalize());
            let neighbours = [&u0, &u1].map(|u| self.nearest(u));
            (u0, neighbours)
        });
        let first = self.loss.across(&nn0, &p1, step.comm)?;
        let second = self.loss.across(&nn1, &p0, step.comm)?;
        self.queue.push(&step.comm.gather(&u0)?)?;
        Ok(Loss::new((first.loss + second.loss) / 2.0)
            .with("contrastive_accuracy", &((first.accuracy + second.accuracy) / 2.0))
            .with("neighbour_similarity", &((similarity0 + similarity1) / 2.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{
        Pixels, assert_gradients, assert_near, assert_within, batch, descend, fill, waves,
    };
    use selfsup_core::tensor::to_array2;
    use selfsup_core::{Device, Key, Kind, nn};

    const LEARNED: [&str; 8] = [
        "encoder.weight",
        "encoder.bias",
        "objective.projector.0.weight",
        "objective.projector.3.weight",
        "objective.projector.6.weight",
        "objective.predictor.0.weight",
        "objective.predictor.3.weight",
        "objective.predictor.3.bias",
    ];

    fn config() -> NnclrConfig {
        let NnclrConfig { projector, predictor, .. } = NnclrConfig::default();
        NnclrConfig {
            temperature: 0.2,
            queue: 12,
            projector: MlpHeadConfig { hidden: vec![5, 5], output: 3, ..projector },
            predictor: MlpHeadConfig { hidden: vec![6], output: 3, ..predictor },
        }
    }

    fn setup() -> (nn::VarStore, Pixels, Nnclr) {
        let (store, encoder) = Pixels::stored();
        let objective = Nnclr::new(&Pixels::site(&store, &encoder), &config()).unwrap();
        fill(&store, &LEARNED);
        objective.queue.vectors.shallow_clone().copy_(&waves(12, 3, 1.0, 0.3).l2_normalize());
        (store, encoder, objective)
    }

    #[test]
    fn equals_lightlys_parts_and_algorithm_1_over_five_steps() {
        // In float64: with so few samples BatchNorm makes much of what 32 bits round away.
        // enc, proj, pred = nn.Linear(4, 4), NNCLRProjectionHead(4, 5, 3), NNCLRPredictionHead(3, 6, 3)
        // ps = the parameters of all linear layers, in this order; fill(ps)         # fill, wave as in moco_v2.rs
        // bank = NNMemoryBankModule(size=(12, 3)); bank.bank = F.normalize(wave(12, 3, 1., 0.3), dim=1)
        // def l(n, p): return F.cross_entropy(F.normalize(n, dim=1) @ F.normalize(p, dim=1).T / 0.2, torch.arange(6))
        // opt = torch.optim.SGD(ps, lr=0.01)
        // for s in range(5):
        //     z0 = proj(enc(wave(6, 4, s))); p0 = pred(z0); z1 = proj(enc(wave(6, 4, s + 0.5))); p1 = pred(z1)
        //     n1 = bank(z1.detach(), update=False); n0 = bank(F.normalize(z0.detach(), dim=1), update=True)
        //     v = l(n0, p1) / 2 + l(n1, p0) / 2; opt.zero_grad(); v.backward()
        //     print(v.item(), enc.weight.grad, pred.layers[3].weight.grad); opt.step()
        // print(enc.weight, bank.bank)
        let (store, encoder, mut objective) = setup();
        let v = store.variables();
        for (s, expected) in [2.1135943, 2.5198277, 2.7374687, 2.5430202, 2.0717836].into_iter().enumerate() {
            let step = Step::single(s as u64, 5, 0, 0);
            let loss = objective.loss(&encoder, &batch(6, 2, s as f64), &step).unwrap().total;
            // Two of MKL's kernels come to lie as far from float64 after five steps.
            let tolerance = if s == 0 { 1e-5 } else { 2e-4 };
            assert!((loss.scalar().unwrap() / expected - 1.0).abs() < tolerance, "step {s}: {loss:?}");
            loss.backward();
            if s == 0 {
                assert_near(
                    &v["encoder.weight"].grad(),
                    &[
                        -5.008504,
                        -4.0104638,
                        -1.1262371,
                        2.2876748,
                        -4.9466266,
                        -3.5086429,
                        -0.42048743,
                        2.8654293,
                        -2.5582731,
                        -1.3566519,
                        0.48302455,
                        2.0955278,
                        1.0332768,
                        1.4333936,
                        1.1593618,
                        0.34006585,
                    ],
                );
                assert_near(
                    &v["objective.predictor.3.weight"].grad(),
                    &[
                        -0.14465844,
                        -0.018801506,
                        -0.096781824,
                        -0.14133229,
                        -0.01937666,
                        -0.10147475,
                        -0.33829961,
                        -0.54909317,
                        -0.11378223,
                        -0.34532245,
                        -0.55112438,
                        -0.10063689,
                        -0.1294309,
                        -0.41185221,
                        -0.099054076,
                        -0.14065103,
                        -0.4190124,
                        -0.074522351,
                    ],
                );
            }
            descend(&store, &LEARNED, 0.01);
        }
        assert_within(
            &v["encoder.weight"],
            &[
                -0.013649691,
                0.32520146,
                0.51110523,
                0.45662833,
                0.14947496,
                -0.18005484,
                -0.42490201,
                -0.46991113,
                -0.33375323,
                -0.0077334213,
                0.3219237,
                0.50017493,
                0.41765254,
                0.14362665,
                -0.19794949,
                -0.44642651,
            ],
            2e-4,
        );
        assert_within(
            &v["objective.queue.vectors"],
            &[
                -0.70497024,
                0.54018796,
                -0.45958016,
                0.97633364,
                -0.02791287,
                -0.21446096,
                0.52279976,
                -0.82660105,
                0.20835334,
                0.54120942,
                -0.33631302,
                0.77070482,
                0.069229924,
                -0.77505728,
                0.62808712,
                -0.19129148,
                0.67877763,
                -0.70899118,
                0.61230768,
                -0.78040697,
                -0.126666,
                0.4346825,
                -0.37420779,
                0.8191579,
                0.58804297,
                -0.66953595,
                0.45379189,
                -0.48630409,
                0.61807336,
                -0.61765172,
                0.70566559,
                -0.62680663,
                0.33037785,
                -0.7109095,
                0.54221623,
                -0.44789423,
            ],
            2e-4,
        );
    }

    #[test]
    fn the_nearest_neighbour_is_that_of_a_loop() {
        let (_store, _encoder, objective) = setup();
        Key::new(0).seed_torch();
        let z = Tensor::randn([20, 3], (Kind::Float, Device::Cpu)).l2_normalize();
        let (found, similarity) = objective.nearest(&z);
        let (z, found, queue) = [&z, &found, &objective.queue.vectors].map(|x| to_array2(x).unwrap()).into();
        let mut sum = 0.0;
        for i in 0..20 {
            let mut best = (f32::NEG_INFINITY, 0);
            for j in 0..12 {
                let cosine = z.row(i).dot(&queue.row(j));
                if cosine > best.0 {
                    best = (cosine, j);
                }
            }
            assert_eq!(found.row(i), queue.row(best.1));
            sum += best.0;
        }
        assert!((similarity.scalar().unwrap() - f64::from(sum / 20.0)).abs() < 1e-5);
    }

    #[test]
    fn a_support_set_that_holds_the_views_themselves_gives_the_plain_contrastive_loss() {
        let (store, encoder, mut objective) = setup();
        let images = batch(6, 2, 0.0);
        let embed = |k: usize, objective: &Nnclr| {
            let h = encoder.encode(&images.views[k], Mode::Train).unwrap();
            objective.projector.forward(&h, Mode::Train).unwrap()
        };
        let (z0, z1) = (embed(0, &objective), embed(1, &objective));
        let views = Tensor::cat(&[&z0, &z1], 0).l2_normalize().detach();
        store.variables()["objective.queue.vectors"].shallow_clone().copy_(&views);
        let step = Step::single(0, 1, 0, 0);
        let found = objective.loss(&encoder, &images, &step).unwrap();
        let [p0, p1] = [&z0, &z1].map(|z| objective.predictor.forward(z, Mode::Train).unwrap());
        let plain = |z: &Tensor, p: &Tensor| objective.loss.across(z, p, step.comm).unwrap().loss;
        let expected = (plain(&z0, &p1) + plain(&z1, &p0)) / 2.0;
        assert!((found.total - expected).abs().scalar().unwrap() < 1e-5);
        assert!((found.parts[1].1.scalar().unwrap() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn gradients_reach_every_parameter_and_not_the_support_set() {
        let (store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        objective.loss(&encoder, &batch(6, 2, 0.0), &step).unwrap().total.backward();
        // BatchNorm removes the mean that the encoder's bias adds.
        assert_gradients(&store, &["encoder.bias"]);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let (_store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        let error = objective.loss(&encoder, &batch(6, 3, 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "views = 3: two views an image for NNCLR");
        let error = objective.loss(&encoder, &batch(1, 2, 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "features: expected at least 2 samples for BatchNorm, found [1, 4]");
        for (config, message) in [
            (NnclrConfig { temperature: 0.0, ..config() }, "temperature = 0: a positive number"),
            (NnclrConfig { queue: -1, ..config() }, "queue = -1: at least 1 vector"),
            (
                NnclrConfig { predictor: MlpHeadConfig::projector(6, 4), ..config() },
                "predictor.output = 4: projector.output = 3, with which it is compared",
            ),
        ] {
            let (store, encoder) = Pixels::stored();
            let error = Nnclr::new(&Pixels::site(&store, &encoder), &config).unwrap_err().to_string();
            assert_eq!(error, message);
        }
    }
}
