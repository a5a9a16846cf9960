//! SwAV: views of an image are to be assigned to the same prototypes, where the assignments are balanced over the batch.
//!
//! Caron, Misra, Mairal, Goyal, Bojanowski and Joulin 2020, *Unsupervised Learning of Visual Features by Contrasting
//! Cluster Assignments*, algorithm 1: z = g(f(view)) of length 1, scores z^T C with the prototypes C, and [`SwavLoss`]
//! on the scores of all views. The first two views are those that assign; any number may follow, usually smaller
//! (multi-crop, section 3.2). A queue of former embeddings joins the assignment where a batch has fewer images than
//! there are prototypes (section 3.1).
//!
//! As in the authors' code, prototypes have length 1 at every step, do not move in the first steps, and the queue takes
//! part once it is full. Departures: the queue is one for all ranks instead of a share for each, and its length need be
//! no multiple of the batch.

use crate::clustering::crops::{check_crops, encode_crops};
use crate::clustering::swav_loss::{SwavLoss, SwavLossConfig, SwavOutput};
use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{
    Encoder, Error, ImageViews, Judgement, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site, Step,
    Tensor, TensorExt, nn, tch,
};
use selfsup_numerics::SinkhornConfig;
use serde::{Deserialize, Serialize};

/// Settings of [`Swav`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwavConfig {
    /// See [`SwavLossConfig::temperature`].
    pub temperature: f64,
    /// See [`SwavLossConfig::sinkhorn`].
    pub sinkhorn: SinkhornConfig,
    /// The number of prototypes, K. 3000 for the 1000 classes of ImageNet (appendix A.1 of the paper).
    pub prototypes: i64,
    /// The optimizer steps at the beginning of a run in which the prototypes stay as they are: the first epoch, in the
    /// authors' code. That is 313 with the batches of 4096 of the main experiment, which has no queue, and 5005 with
    /// batches of 256, whose queue keeps 3840: see [`queue_length`](SwavConfig::queue_length).
    pub frozen_steps: u64,
    /// The embeddings of either assigning view that the queue keeps, 0 for none, as with the batches of 4096 for which
    /// [`frozen_steps`](SwavConfig::frozen_steps) is 313. Batches of 256 take 3840, the last 15 of them (section 3.1),
    /// and `frozen_steps` of an epoch of such batches.
    pub queue_length: i64,
    /// The epochs that are done before the queue is filled. 15 (the authors' code).
    pub queue_from_epoch: u64,
    /// The projector; 2048 hidden units and 128 outputs for a ResNet-50 (appendix A.1), without a last norm.
    pub projector: MlpHeadConfig,
}

impl Default for SwavConfig {
    fn default() -> Self {
        let SwavLossConfig { temperature, sinkhorn } = SwavLossConfig::default();
        SwavConfig {
            temperature,
            sinkhorn,
            prototypes: 3000,
            frozen_steps: 313,
            queue_length: 0,
            queue_from_epoch: 15,
            projector: MlpHeadConfig {
                output_norm: selfsup_core::HeadNorm::None,
                ..MlpHeadConfig::projector(2048, 128)
            },
        }
    }
}

/// The SwAV objective: a projector, prototypes, and a queue.
#[derive(Debug)]
pub struct Swav {
    projector: MlpHead,
    /// Weight `[K, P]`, rows of length 1.
    prototypes: Linear,
    /// `[2, L, P]`, the newest first; zeros where nothing has come yet.
    queue: Option<Tensor>,
    loss: SwavLoss,
    frozen_steps: u64,
    queue_from_epoch: u64,
}

impl Swav {
    /// Makes projector, prototypes and queue for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature or size is not positive.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &SwavConfig) -> Result<Self> {
        if config.prototypes < 2 {
            return Err(Error::config("prototypes", config.prototypes, "at least 2"));
        }
        if config.queue_length < 0 {
            return Err(Error::config("queue_length", config.queue_length, "0 for no queue, or more"));
        }
        let loss_config =
            SwavLossConfig { temperature: config.temperature, sinkhorn: config.sinkhorn.clone() };
        let (path, size) = (site.path(), config.projector.output);
        let swav = Swav {
            loss: SwavLoss::new(loss_config)?,
            projector: MlpHead::new(&path / "projector", site.dim(), &config.projector)?,
            prototypes: Linear::new(&path / "prototypes", size, config.prototypes, Bias::No),
            queue: (config.queue_length > 0)
                .then(|| path.zeros_no_train("queue", &[2, config.queue_length, size])),
            frozen_steps: config.frozen_steps,
            queue_from_epoch: config.queue_from_epoch,
        };
        swav.normalize_prototypes();
        Ok(swav)
    }

    fn normalize_prototypes(&self) {
        let weight = &self.prototypes.weight;
        tch::no_grad(|| weight.shallow_clone().copy_(&weight.l2_normalize()));
    }

    /// The queue, where it has begun.
    fn queue(&self, step: &Step) -> Option<&Tensor> {
        self.queue.as_ref().filter(|_| step.epoch >= self.queue_from_epoch)
    }

    /// Puts the embeddings `[N, P]` of the two assigning views, of all ranks, before those in the queue.
    fn enqueue(queue: &Tensor, z: &[Tensor], step: &Step) -> Result<()> {
        tch::no_grad(|| {
            for (i, z) in (0..2).zip(z) {
                let newest = step.comm.gather(&z.detach())?; // [W N, P]
                let mut queue = queue.get(i); // [L, P]
                let kept = queue.narrow(0, 0, queue.size()[0] - newest.size()[0]);
                queue.copy_(&Tensor::cat(&[newest, kept], 0));
            }
            Ok(())
        })
    }
}

/// Whether the oldest place of both queues `[2, L, P]` is taken: an embedding has length 1, an empty place 0.
fn is_full(queue: &Tensor) -> Result<bool> {
    let oldest = queue.select(1, queue.size()[1] - 1); // [2, P]
    Ok(bool::try_from(oldest.ne(0.0).any_dim(1, false).all())?)
}

impl<E: Encoder + ?Sized> Objective<E> for Swav {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let n = check_crops(&batch.views, "SwAV")?;
        let of_all_ranks = n * step.comm.world_size();
        if let Some(length) = self.queue.as_ref().map(|q| q.size()[1]).filter(|&l| l < of_all_ranks) {
            let expected = format!("0 for no queue, or at least the {of_all_ranks} images of a batch");
            return Err(Error::config("queue_length", length, expected));
        }
        let h = encode_crops(encoder, &batch.views, Mode::Train)?; // [V N, D]
        let z = self.projector.forward(&h, Mode::Train)?.l2_normalize(); // [V N, P]
        let mut prototypes = self.prototypes.weight.tr(); // [P, K]
        if step.step < self.frozen_steps {
            // Without a gradient, neither decay nor momentum moves them.
            prototypes = prototypes.detach();
        }
        let scores = z.matmul(&prototypes).split(n, 0); // V of [N, K]
        let queue = self.queue(step);
        let mut queued = None;
        if let Some(queue) = queue
            && is_full(queue)?
        {
            queued = Some(tch::no_grad(|| queue.matmul(&prototypes))); // [2, L, K]
        }
        let SwavOutput { loss, agreement } = self.loss.forward(&scores, queued.as_ref(), step.comm)?;
        if let Some(queue) = queue {
            Swav::enqueue(queue, &z.split(n, 0), step)?;
        }
        Ok(Loss::new(loss).with("agreement", &agreement))
    }

    fn after_step(&mut self, _store: &nn::VarStore, _step: &Step) -> Result<()> {
        self.normalize_prototypes();
        Ok(())
    }

    fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        let h = encoder.encode(batch.first("SwAV")?, Mode::Eval)?; // [N, D]
        let z = self.projector.forward(&h, Mode::Eval)?.l2_normalize(); // [N, P]
        Ok(Judgement::of_prototypes(&z.matmul(&self.prototypes.weight.tr()))) // [N, K]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{Pixels, TwoRanks, assert_gradients, batch, descend, fill};
    use selfsup_core::{Device, HeadNorm};

    fn config() -> SwavConfig {
        let projector = MlpHeadConfig {
            hidden: Vec::new(),
            output: 3,
            hidden_norm: HeadNorm::None,
            output_norm: HeadNorm::None,
        };
        SwavConfig {
            prototypes: 5,
            frozen_steps: 2,
            queue_length: 6,
            queue_from_epoch: 1,
            projector,
            ..Default::default()
        }
    }

    fn setup(config: &SwavConfig) -> (nn::VarStore, Pixels, Swav) {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
        let twin = |path: nn::Path| Ok(Box::new(Pixels::new(path)));
        let swav = Swav::new(&Site::new(&store, &encoder, 6, twin), config).unwrap();
        fill(&store);
        swav.normalize_prototypes();
        (store, encoder, swav)
    }

    /// Two steps an epoch.
    fn step(i: u64) -> Step<'static> {
        Step::single(i, 10, i / 2, 0)
    }

    #[test]
    fn equals_the_authors_loop_over_five_steps_with_frozen_prototypes_and_a_queue() {
        // The loop of the authors' main_swav.py:
        // def w(shape, s): return (torch.arange(torch.Size(shape).numel()).double() * 0.7 + s).sin().float().reshape(shape)
        // def quarters(s): return [F.adaptive_avg_pool2d(w((3, 1, side, side), k + 0.3 * s), 2).flatten(1)
        //                          for k, side in enumerate((4, 4, 2))]
        // def sinkhorn(out):
        //     q = torch.exp(out / 0.05).T; q /= q.sum()
        //     for _ in range(3): q /= q.sum(1, keepdim=True); q /= len(q); q /= q.sum(0, keepdim=True); q /= q.shape[1]
        //     return (q * q.shape[1]).T
        // enc, bias, weight, C = w((4, 4), 0), w((3,), 1), w((3, 4), 2), F.normalize(w((5, 3), 3), dim=1)
        // for p in (enc, bias, weight, C): p.requires_grad_()
        // queue = torch.zeros(2, 6, 3)
        // for s in range(5):                                       # two steps an epoch, the queue from epoch 1
        //     z = F.normalize(torch.cat(quarters(s)) @ enc.T @ weight.T + bias, dim=1); scores = (z @ C.T).split(3); loss = 0
        //     full = s >= 2 and not (queue[:, -1] == 0).all()
        //     for i in range(2):
        //         with torch.no_grad():
        //             q = sinkhorn(torch.cat([queue[i] @ C.T, scores[i]]) if full else scores[i])[-3:]
        //             if s >= 2: queue[i] = torch.cat([z[3 * i:3 * i + 3], queue[i, :-3]])
        //         for v in {0, 1, 2} - {i}: loss -= (q * F.log_softmax(scores[v] / 0.1, 1)).sum(1).mean() / 2 / 2
        //     loss.backward(); print(loss.item())
        //     with torch.no_grad():
        //         for p in (enc, bias, weight, C):
        //             if p is not C or s >= 2: p -= 0.2 * p.grad   # the prototypes stay in the first two steps
        //             p.grad = None
        //         C.copy_(F.normalize(C, dim=1))
        // print(C, enc, queue)
        let (store, encoder, mut swav) = setup(&config());
        let mut losses = Vec::new();
        for i in 0..5 {
            let batch = batch(3, &[4, 4, 2], 0.3 * i as f64);
            let loss = swav.loss(&encoder, &batch, &step(i)).unwrap();
            loss.total.backward();
            descend(&store, 0.2);
            Objective::<Pixels>::after_step(&mut swav, &store, &step(i)).unwrap();
            losses.push(loss.total.scalar().unwrap());
        }
        for (loss, expected) in
            losses.iter().zip([12.143_799_8, 8.400_326_7, 7.745_843_4, 4.164_365_8, 3.470_817_8])
        {
            assert!((loss - expected).abs() < 2e-5, "{loss} {expected}");
        }
        #[rustfmt::skip]
        let prototypes = [
            0.144211, -0.515691, -0.844551, -0.682099, -0.196744, 0.704296, -0.877072, 0.480023,
            0.017955, 0.171357, -0.477803, -0.861592, -0.683848, -0.16796, 0.710029_f32,
        ];
        #[rustfmt::skip]
        let weight = [
            -0.326108, 0.437986, 1.137548, 1.332765, 0.093703, -0.486866, -0.754048, -0.64261,
            -0.614053, 0.007559, 0.677444, 1.0433, 1.053202, 0.43283, -0.484609, -1.188703_f32,
        ];
        #[rustfmt::skip]
        let queue = [
            0.701734, 0.384892, 0.599523, 0.675989, 0.12386, 0.726428, 0.690483, 0.19237, 0.697299,
            0.895121, 0.321325, 0.309045, 0.912211, 0.101972, 0.396828, 0.903611, 0.270429, 0.332198,
            0.674839, 0.595375, 0.436028, 0.698678, 0.289188, 0.654385, 0.673278, 0.108656, 0.731362,
            0.806425, 0.563456, 0.179434, 0.908644, 0.229893, 0.348591, 0.912403, 0.108823, 0.39456_f32,
        ];
        let variables = store.variables();
        for (name, expected) in [
            ("objective.prototypes.weight", &prototypes[..]),
            ("encoder.weight", &weight[..]),
            ("objective.queue", &queue[..]),
        ] {
            let difference = variables[name].reshape([-1]) - Tensor::from_slice(expected);
            assert!(difference.abs().max().scalar().unwrap() < 1e-5, "{name}");
        }
    }

    #[test]
    fn prototypes_have_length_one_and_stay_in_the_first_steps() {
        let (store, encoder, mut swav) = setup(&config());
        let start = swav.prototypes.weight.copy();
        for i in 0..3 {
            swav.loss(&encoder, &batch(3, &[4, 4], i as f64), &step(i)).unwrap().total.backward();
            assert_eq!(swav.prototypes.weight.grad().defined(), i == 2, "step {i}");
            descend(&store, 0.1);
            Objective::<Pixels>::after_step(&mut swav, &store, &step(i)).unwrap();
            let moved = (&swav.prototypes.weight - &start).abs().max().scalar().unwrap();
            assert_eq!(moved > 1e-6, i == 2, "step {i}: {moved}");
            let lengths = swav.prototypes.weight.norm_scalaropt_dim(2.0, [1_i64].as_slice(), false);
            assert!((lengths - 1.0).abs().max().scalar().unwrap() < 1e-6);
        }
    }

    #[test]
    fn two_ranks_fill_the_queue_as_one_does() {
        let whole = batch(2, &[4, 4], 0.0);
        let (_store, encoder, mut swav) = setup(&config());
        let expected = swav.loss(&encoder, &whole, &step(2)).unwrap().total.scalar().unwrap();
        let expected_queue = swav.queue.as_ref().unwrap().copy();
        let ranks = TwoRanks::play(|comm| {
            let (_store, encoder, mut swav) = setup(&config());
            let mine = ImageViews {
                views: whole.views.iter().map(|v| v.narrow(0, comm.rank, 1)).collect(),
                indices: whole.indices.narrow(0, comm.rank, 1),
                labels: None,
            };
            let loss = swav.loss(&encoder, &mine, &Step { comm, ..step(2) }).unwrap().total;
            (loss.scalar().unwrap(), swav.queue.as_ref().unwrap().copy())
        });
        assert!((f64::midpoint(ranks[0].0, ranks[1].0) - expected).abs() < 1e-5);
        for (_, queue) in &ranks {
            assert!(queue.allclose(&expected_queue, 0.0, 1e-6, false));
        }
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let config = SwavConfig {
            projector: MlpHeadConfig { output_norm: HeadNorm::None, ..MlpHeadConfig::projector(8, 3) },
            ..config()
        };
        let (store, encoder, mut swav) = setup(&config);
        swav.loss(&encoder, &batch(6, &[4, 4, 2], 0.0), &step(2)).unwrap().total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn the_loss_does_not_depend_on_the_order_of_the_images() {
        let order = Tensor::from_slice(&[3_i64, 1, 4, 0, 2]);
        let (_store, encoder, mut swav) = setup(&config());
        let batch = batch(5, &[4, 4, 2], 0.0);
        let loss = swav.loss(&encoder, &batch, &step(0)).unwrap().total;
        let views = batch.views.iter().map(|v| v.index_select(0, &order)).collect();
        let permuted = swav.loss(&encoder, &ImageViews { views, ..batch }, &step(0)).unwrap().total;
        assert!((loss - permuted).abs().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn images_are_nearest_to_the_prototypes_that_stand_where_they_are() {
        let (store, encoder, swav) = setup(&config());
        let batch = batch(5, &[4, 4], 0.0);
        // The embeddings of the images themselves, in another order, are the prototypes.
        let order = Tensor::from_slice(&[3_i64, 1, 4, 0, 2]);
        let v = store.variables();
        let h = encoder.encode(&batch.views[0], Mode::Eval).unwrap();
        let z = h.matmul(&v["objective.projector.0.weight"].tr()) + &v["objective.projector.0.bias"];
        tch::no_grad(|| v["objective.prototypes.weight"].shallow_clone().copy_(&z.index_select(0, &order)));
        swav.normalize_prototypes();
        let judged = swav.judge(&encoder, &batch).unwrap();
        let scores = &judged.prototypes[0].scores;
        assert_eq!(scores.argmax(0, false), order);
        let (highest, _) = scores.max_dim(0, false);
        assert!((highest - 1.0).abs().max().scalar().unwrap() < 1e-5);
        assert!(!scores.requires_grad());
        let error = swav.judge(&encoder, &ImageViews { views: vec![], ..batch }).unwrap_err().to_string();
        assert_eq!(error, "views = 0: at least one view an image for SwAV");
    }

    #[test]
    fn rejects_batches_and_configs_that_do_not_fit() {
        let (_store, encoder, mut swav) = setup(&config());
        let error = swav.loss(&encoder, &batch(6, &[4], 0.0), &step(0)).unwrap_err().to_string();
        assert_eq!(error, "views = 1: at least two views an image for SwAV");
        let error = swav.loss(&encoder, &batch(7, &[4, 4], 0.0), &step(0)).unwrap_err().to_string();
        assert_eq!(error, "queue_length = 6: 0 for no queue, or at least the 7 images of a batch");
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(Pixels::new(path))));
        for (config, expected) in [
            (SwavConfig { prototypes: 1, ..config() }, "prototypes = 1: at least 2"),
            (SwavConfig { queue_length: -1, ..config() }, "queue_length = -1: 0 for no queue, or more"),
            (SwavConfig { temperature: -0.1, ..config() }, "temperature = -0.1: a positive number"),
        ] {
            assert_eq!(Swav::new(&site, &config).unwrap_err().to_string(), expected);
        }
    }
}
