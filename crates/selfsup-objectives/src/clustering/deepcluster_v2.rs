//! DeepCluster v2: classify every view of an image by the cluster that k-means found for the image an epoch ago.
//!
//! Caron, Misra, Mairal, Goyal, Bojanowski and Joulin 2020, *Unsupervised Learning of Visual Features by Contrasting
//! Cluster Assignments*, its appendix and the authors' code, which mend Caron et al. 2018, *Deep Clustering for
//! Unsupervised Learning of Visual Features*. With embeddings z = g(f(view)) of length 1, a memory bank M of them, and
//! for each head h the centroids C_h that spherical k-means finds in M at the beginning of an epoch, a_h the clusters of
//! the images,
//!
//! ```text
//! L = mean over heads h of   mean over views of   - log softmax(z^T C_h / tau)[a_h(image)]
//! ```
//! C is not learned but set by the clustering. There is a bank for either of the first two views, and heads take them in
//! turn, so that they differ even where they have as many prototypes.
//!
//! Departures. The authors fill the banks in a pass over the data before the first epoch; here that pass is the first
//! epoch, whose loss is that of chance, log K, and moves no parameter. An image that an epoch left out, with the last
//! incomplete batch, keeps the embedding that it had, and its place among the clusters. A cluster that becomes empty
//! takes the image that lies farthest from its centre, where the authors leave its centroid alone.

use crate::clustering::crops::{check_crops, encode_crops};
use selfsup_core::tensor::check_kind;
use selfsup_core::{
    Encoder, Error, HeadNorm, ImageViews, Judgement, Kind, Loss, MlpHead, MlpHeadConfig, Mode, Objective,
    Prototypes, Result, Site, Step, Tensor, TensorExt, check_shape, tch,
};
use selfsup_numerics::{Geometry, KMeans, KMeansConfig};
use serde::{Deserialize, Serialize};
use tch::Reduction;

/// Settings of [`DeepClusterV2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeepClusterV2Config {
    /// The temperature tau. 0.1 (the authors' code).
    pub temperature: f64,
    /// The number of prototypes of every head. Three heads of 3000 for the 1000 classes of ImageNet (the authors' code).
    pub prototypes: Vec<i64>,
    /// Rounds of k-means at the beginning of an epoch. The authors' code has 10.
    pub iterations: usize,
    /// The projector; 2048 hidden units and 128 outputs for a ResNet-50, without a last norm.
    pub projector: MlpHeadConfig,
}

impl Default for DeepClusterV2Config {
    fn default() -> Self {
        DeepClusterV2Config {
            temperature: 0.1,
            prototypes: vec![3000, 3000, 3000],
            iterations: 10,
            projector: MlpHeadConfig { output_norm: HeadNorm::None, ..MlpHeadConfig::projector(2048, 128) },
        }
    }
}

/// The cluster of an image that has none.
const NONE: i64 = -100;

/// The DeepCluster v2 objective: a projector, and what is remembered of every image.
#[derive(Debug)]
pub struct DeepClusterV2 {
    projector: MlpHead,
    /// For every head its centroids, `[K, P]`, rows of length 1.
    prototypes: Vec<Tensor>,
    /// `[2, S, P]`, the last embedding of either assigning view of every sample; zeros where there was none.
    bank: Tensor,
    /// `[heads, S]` Int64, the cluster of every sample, or [`NONE`].
    assignments: Tensor,
    /// The epoch that the assignments are for, an Int64 scalar.
    epoch: Tensor,
    temperature: f64,
    iterations: usize,
}

impl DeepClusterV2 {
    /// Makes projector, memory banks and prototypes for the site's encoder and samples.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, there is no head, or there are fewer samples than prototypes.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &DeepClusterV2Config) -> Result<Self> {
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return Err(Error::config("temperature", config.temperature, "a positive number"));
        }
        if config.iterations == 0 {
            return Err(Error::config("iterations", 0, "at least 1"));
        }
        if config.prototypes.is_empty() || config.prototypes.iter().any(|k| !(2..=site.samples).contains(k)) {
            let expected =
                format!("one head or more, of 2 to {} prototypes, the number of samples", site.samples);
            return Err(Error::config("prototypes", format!("{:?}", config.prototypes), expected));
        }
        let (path, size) = (site.path(), config.projector.output);
        let (samples, heads) = (site.samples, config.prototypes.len() as i64);
        let whole = (Kind::Int64, path.device());
        let projector = MlpHead::new(&path / "projector", site.dim(), &config.projector)?;
        let prototypes = config.prototypes.iter().enumerate();
        let prototypes =
            prototypes.map(|(i, &k)| path.zeros_no_train(&format!("prototypes_{i}"), &[k, size]));
        Ok(DeepClusterV2 {
            projector,
            prototypes: prototypes.collect(),
            bank: path.zeros_no_train("bank", &[2, samples, size]),
            assignments: path.add("assignments", Tensor::full([heads, samples], NONE, whole), false),
            epoch: path.add("assigned_epoch", Tensor::zeros([0_i64; 0], whole), false),
            temperature: config.temperature,
            iterations: config.iterations,
        })
    }

    /// Clusters the banks at an epoch's first step: centroids and assignments are new then. `draw(h, m)` is an order of
    /// m samples, Int64 `[M]`, the first of which are head h's centroids to begin with.
    fn cluster(&self, step: &Step, draw: impl Fn(usize, i64) -> Tensor) -> Result<()> {
        if step.epoch as i64 <= i64::try_from(&self.epoch)? {
            return Ok(());
        }
        tch::no_grad(|| {
            for (h, prototypes) in self.prototypes.iter().enumerate() {
                let bank = self.bank.get(h as i64 % 2); // [S, P]
                let known = bank.ne(0.0).any_dim(1, false).nonzero().squeeze_dim(1); // [M]
                let (m, k) = (known.size()[0], prototypes.size()[0]);
                if m == 0 {
                    return Ok(()); // the first epoch that this run sees
                }
                if m < k {
                    let expected = format!("at most the {m} samples that came in the last epoch");
                    return Err(Error::config("prototypes", k, expected));
                }
                let x = bank.index_select(0, &known); // [M, P]
                // Every rank draws its own; the first rank's are taken.
                let first = draw(h, m).narrow(0, 0, k);
                let first = step.comm.gather(&first)?.narrow(0, 0, k);
                let config = KMeansConfig {
                    clusters: k,
                    iterations: self.iterations,
                    tolerance: 0.0,
                    geometry: Geometry::Spherical,
                };
                let found = KMeans::fit_from(&x, &x.index_select(0, &first), &config)?;
                prototypes.shallow_clone().copy_(&found.centres);
                let _ = self.assignments.get(h as i64).fill_(NONE).index_copy_(0, &known, &found.labels);
            }
            let _ = self.epoch.shallow_clone().fill_(step.epoch as i64);
            Ok(())
        })
    }

    /// Remembers the embeddings `[N, P]` of the two assigning views, of all ranks.
    fn remember(&self, z: &[Tensor], indices: &Tensor, step: &Step) -> Result<()> {
        tch::no_grad(|| {
            let indices = step.comm.gather(indices)?; // [W N]
            for (i, z) in (0..2).zip(z) {
                let _ = self.bank.get(i).index_copy_(0, &indices, &step.comm.gather(&z.detach())?);
            }
            Ok(())
        })
    }

    /// The loss of a batch, with what [`cluster`](DeepClusterV2::cluster) draws.
    fn classify<E: Encoder + ?Sized>(
        &self,
        encoder: &E,
        batch: &ImageViews,
        draw: impl Fn(usize, i64) -> Tensor,
        step: &Step,
    ) -> Result<Loss> {
        let n = self.check(batch, step)?;
        self.cluster(step, draw)?;
        let project = || {
            let h = encode_crops(encoder, &batch.views, Mode::Train)?; // [V N, D]
            Ok::<_, Error>(self.projector.forward(&h, Mode::Train)?.l2_normalize()) // [V N, P]
        };
        if i64::try_from(&self.epoch)? == 0 {
            // No image has a cluster yet. A loss that depends on no parameter gives none a gradient, and the optimizer
            // leaves all alone.
            self.remember(&tch::no_grad(project)?.split(n, 0), &batch.indices, step)?;
            let chance = self.prototypes.iter().map(|c| (c.size()[0] as f64).ln());
            let chance = chance.sum::<f64>() / self.prototypes.len() as f64;
            let chance = Tensor::full([0_i64; 0], chance, (Kind::Float, self.bank.device()));
            let accuracy = chance.zeros_like();
            return Ok(Loss::new(chance.set_requires_grad(true)).with("accuracy", &accuracy));
        }
        let z = project()?;
        let mut loss = Tensor::zeros([0_i64; 0], (Kind::Float, z.device()));
        let mut accuracy = loss.zeros_like();
        for (h, prototypes) in (0_i64..).zip(&self.prototypes) {
            let scores = z.matmul(&prototypes.tr()) / self.temperature; // [V N, K]
            let clusters = self.assignments.get(h).index_select(0, &batch.indices); // [N]
            let clusters = clusters.repeat([batch.views.len() as i64]); // [V N]
            let known = clusters.ne(NONE).sum(Kind::Float).clamp_min(1.0);
            let entropy = scores.cross_entropy_loss(&clusters, None::<Tensor>, Reduction::Sum, NONE, 0.0);
            loss += entropy / &known;
            accuracy += scores.argmax(1, false).eq_tensor(&clusters).sum(Kind::Float) / known;
        }
        self.remember(&z.split(n, 0), &batch.indices, step)?;
        let heads = self.prototypes.len() as f64;
        Ok(Loss::new(loss / heads).with("accuracy", &(accuracy / heads)))
    }

    /// Checks the batch and returns the number of its images.
    fn check(&self, batch: &ImageViews, step: &Step) -> Result<i64> {
        let n = check_crops(&batch.views, "DeepCluster v2")?;
        let samples = self.bank.size()[1];
        check_shape("indices", &batch.indices, [n])?;
        check_kind("indices", &batch.indices, Kind::Int64)?;
        if n == 0 {
            return Err(Error::config("batch", 0, "at least one image"));
        }
        let (least, most) = (i64::try_from(batch.indices.min())?, i64::try_from(batch.indices.max())?);
        if least < 0 || most >= samples {
            let expected = format!("positions in 0..{samples}, the samples of the memory bank");
            return Err(Error::config("indices", format!("{least} to {most}"), expected));
        }
        let of_all_ranks = n * step.comm.world_size();
        let least = samples / of_all_ranks * of_all_ranks;
        if let Some(k) = self.prototypes.iter().map(|c| c.size()[0]).find(|&k| k > least) {
            let expected =
                format!("at most {least}, the samples in an epoch's whole batches of {of_all_ranks}");
            return Err(Error::config("prototypes", k, expected));
        }
        Ok(n)
    }
}

impl<E: Encoder + ?Sized> Objective<E> for DeepClusterV2 {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let device = self.bank.device();
        self.classify(encoder, batch, |_, m| Tensor::randperm(m, (Kind::Int64, device)), step)
    }

    fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        if i64::try_from(&self.epoch)? == 0 {
            return Ok(Judgement::default()); // no clustering yet
        }
        let h = encoder.encode(batch.first("DeepCluster v2")?, Mode::Eval)?; // [N, D]
        let z = self.projector.forward(&h, Mode::Eval)?.l2_normalize(); // [N, P]
        let head = |(h, prototypes): (usize, &Tensor)| Prototypes {
            name: format!("head {}", h + 1).into(),
            scores: z.matmul(&prototypes.tr()).detach(), // [N, K]
        };
        Ok(Judgement {
            prototypes: self.prototypes.iter().enumerate().map(head).collect(),
            ..Judgement::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{Pixels, TwoRanks, assert_gradients, batch, descend, fill, waves};
    use selfsup_core::{Device, nn};

    fn config(prototypes: &[i64]) -> DeepClusterV2Config {
        let projector = MlpHeadConfig {
            hidden: Vec::new(),
            output: 3,
            hidden_norm: HeadNorm::None,
            output_norm: HeadNorm::None,
        };
        DeepClusterV2Config { prototypes: prototypes.to_vec(), projector, ..Default::default() }
    }

    fn setup(config: &DeepClusterV2Config) -> (nn::VarStore, Pixels, DeepClusterV2) {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
        let twin = |path: nn::Path| Ok(Box::new(Pixels::new(path)));
        let objective = DeepClusterV2::new(&Site::new(&store, &encoder, 6, twin), config).unwrap();
        fill(&store);
        (store, encoder, objective)
    }

    /// Two steps an epoch, of three images each.
    fn step(i: u64) -> Step<'static> {
        Step::single(i, 10, i / 2, 0)
    }

    fn half(i: u64) -> ImageViews {
        let mut batch = batch(3, &[4, 4, 2], 0.3 * i as f64);
        batch.indices += 3 * (i as i64 % 2);
        batch
    }

    /// `torch.randperm(6)` for each of three heads, after `torch.manual_seed(2)` for the clustering of the second epoch
    /// and `torch.manual_seed(4)` for that of the third.
    const DRAWS: [[[i64; 6]; 3]; 2] = [
        [[0, 3, 1, 2, 4, 5], [3, 0, 5, 2, 1, 4], [0, 2, 5, 4, 1, 3]],
        [[4, 5, 1, 2, 3, 0], [2, 5, 0, 3, 1, 4], [4, 2, 5, 0, 3, 1]],
    ];

    /// Runs steps of gradient descent, as the test against Python has them.
    fn run(steps: u64, objective: &DeepClusterV2, encoder: &Pixels, store: &nn::VarStore) -> Vec<f64> {
        let step = |i| {
            let draw = |head: usize, _: i64| Tensor::from_slice(&DRAWS[i as usize / 2 - 1][head]);
            let loss = objective.classify(encoder, &half(i), draw, &step(i)).unwrap().total;
            loss.backward();
            descend(store, 0.2);
            loss.scalar().unwrap()
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn equals_the_authors_loop_over_five_steps() {
        // The loop of the authors' main_deepclusterv2.py, with the first epoch to fill the banks; w and quarters as in swav.rs
        // enc, bias, weight = [x.requires_grad_() for x in (w((4, 4), 0), w((3,), 1), w((3, 4), 2))]
        // bank = torch.zeros(2, 6, 3)
        // for s in range(5):                                              # two steps an epoch
        //     y = torch.arange(3) + 3 * (s % 2)
        //     if s in (2, 4):
        //         torch.manual_seed(s); C, clusters = [], []              # seeds that leave no cluster empty
        //         for h, k in enumerate((3, 2, 3)):
        //             m = bank[h % 2]; c = m[torch.randperm(6)[:k]]
        //             for _ in range(10):
        //                 a = (m @ c.T).argmax(1)
        //                 for j in a.unique(): c[j] = m[a == j].mean(0)
        //                 c = F.normalize(c, dim=1)
        //             C.append(c); clusters.append((m @ c.T).argmax(1))
        //     z = F.normalize(torch.cat(quarters(s)) @ enc.T @ weight.T + bias, dim=1)
        //     if s >= 2:
        //         loss = sum(F.cross_entropy(z @ c.T / 0.1, a[y].repeat(3)) for c, a in zip(C, clusters)) / 3
        //         loss.backward(); print(loss.item())
        //         with torch.no_grad():
        //             for p in (enc, bias, weight): p -= 0.2 * p.grad; p.grad = None
        //     bank[0, y], bank[1, y] = z[:3].detach(), z[3:6].detach()
        // print(enc, bank, C, clusters)
        let (store, encoder, objective) = setup(&config(&[3, 2, 3]));
        let losses = run(5, &objective, &encoder, &store);
        let chance = (2.0 * 3.0_f64.ln() + 2.0_f64.ln()) / 3.0;
        for (loss, expected) in losses.iter().zip([chance, chance, 0.966_690_8, 0.958_786_5, 0.860_700_8]) {
            assert!((loss - expected).abs() < 1e-5, "{losses:?}");
        }
        #[rustfmt::skip]
        let weight = [
            0.013442, 0.634282, 1.000135, 0.862812, 0.344509, -0.357847, -0.861364, -0.982895,
            -0.63021, 0.01596, 0.658164, 0.988137, 0.846767, 0.324838, -0.375114, -0.879536_f32,
        ];
        #[rustfmt::skip]
        let bank = [
            0.579839, 0.666158, 0.469062, 0.649577, 0.540037, 0.535172, 0.624429, 0.59201, 0.509522,
            0.591606, 0.648487, 0.479027, 0.645721, 0.549065, 0.530634, 0.599967, 0.635795, 0.485597,
            0.517435, 0.75105, 0.410105, 0.605736, 0.62405, 0.493604, 0.65267, 0.53365, 0.53781,
            0.520943, 0.747459, 0.412218, 0.615028, 0.608564, 0.501389, 0.643262, 0.554495, 0.527967_f32,
        ];
        let first =
            [0.645721, 0.549065, 0.530634, 0.592143, 0.648434, 0.478436, 0.638111, 0.5654, 0.522626_f32];
        let second = [0.525998, 0.741625, 0.416315, 0.627783, 0.585465, 0.512951_f32];
        let third =
            [0.641947, 0.557259, 0.526656, 0.57345, 0.678013, 0.45984, 0.598167, 0.638347, 0.484468_f32];
        let variables = store.variables();
        for (name, expected) in [
            ("encoder.weight", &weight[..]),
            ("objective.bank", &bank[..]),
            ("objective.prototypes_0", &first[..]),
            ("objective.prototypes_1", &second[..]),
            ("objective.prototypes_2", &third[..]),
        ] {
            let difference = variables[name].reshape([-1]) - Tensor::from_slice(expected);
            assert!(difference.abs().max().scalar().unwrap() < 1e-5, "{name}");
        }
        let assignments = [[1_i64, 2, 1, 1, 0, 1], [0, 1, 1, 0, 1, 1], [2, 0, 1, 2, 0, 2]];
        assert_eq!(variables["objective.assignments"], Tensor::from_slice2(&assignments));
        assert_eq!(i64::try_from(&variables["objective.assigned_epoch"]).unwrap(), 2);
    }

    #[test]
    fn equals_the_naive_loop() {
        let (store, encoder, mut objective) = setup(&config(&[3, 2]));
        run(3, &objective, &encoder, &store);
        let batch = half(3);
        let v = store.variables();
        let project = |view: &Tensor| {
            let h =
                encoder.encode(view, Mode::Train).unwrap().matmul(&v["objective.projector.0.weight"].tr());
            (h + &v["objective.projector.0.bias"]).l2_normalize()
        };
        let mut expected = 0.0;
        for (head, prototypes) in objective.prototypes.iter().enumerate() {
            for view in &batch.views {
                let z = project(view);
                for image in 0..3 {
                    let scores: Vec<f64> =
                        Vec::try_from(prototypes.mv(&z.get(image)).to_kind(Kind::Double) / 0.1).unwrap();
                    let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                    let cluster = objective.assignments.int64_value(&[head as i64, image + 3]);
                    expected -= (scores[cluster as usize] - sum.ln()) / 18.0;
                }
            }
        }
        let found = objective.loss(&encoder, &batch, &step(3)).unwrap().total.scalar().unwrap();
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn the_first_epoch_only_fills_the_bank() {
        let (store, encoder, objective) = setup(&config(&[3, 2]));
        let before = store.variables()["encoder.weight"].copy();
        for loss in run(2, &objective, &encoder, &store) {
            assert!((loss - 6.0_f64.ln() / 2.0).abs() < 1e-6, "{loss}");
        }
        assert!(store.trainable_variables().iter().all(|x| !x.grad().defined()));
        assert_eq!(store.variables()["encoder.weight"], before);
        let lengths = objective.bank.norm_scalaropt_dim(2.0, [2_i64].as_slice(), false);
        assert!((lengths - 1.0).abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn images_of_one_kind_come_to_one_cluster() {
        let (_store, encoder, mut objective) = setup(&config(&[2]));
        let kinds = Tensor::from_slice(&[0_i64, 1, 0, 1, 1, 0]);
        let views =
            || Tensor::stack(&[waves(&[1, 4, 4], 0.0), waves(&[1, 4, 4], 2.0)], 0).index_select(0, &kinds);
        let noise = |shift| waves(&[6, 1, 4, 4], shift) * 0.01;
        let batch =
            ImageViews { views: vec![views() + noise(0.0), views() + noise(1.0)], ..batch(6, &[4], 0.0) };
        objective.loss(&encoder, &batch, &step(0)).unwrap();
        let loss = objective.loss(&encoder, &batch, &step(2)).unwrap();
        let found = objective.assignments.get(0);
        assert!(found == kinds || found == 1 - &kinds, "{found}");
        assert_eq!(loss.parts[0].0, "accuracy");
        assert_eq!(loss.parts[0].1.scalar().unwrap(), 1.0);
    }

    #[test]
    fn images_are_nearest_to_the_centroids_of_their_clusters_once_there_are_some() {
        let (store, encoder, objective) = setup(&config(&[3, 2]));
        assert!(objective.judge(&encoder, &half(0)).unwrap().prototypes.is_empty());
        run(2, &objective, &encoder, &store);
        assert!(objective.judge(&encoder, &half(0)).unwrap().prototypes.is_empty());
        let draw = |head: usize, _: i64| Tensor::from_slice(&DRAWS[0][head]);
        objective.classify(&encoder, &half(2), draw, &step(2)).unwrap();
        // The encoder has not moved since the bank was filled; its embeddings of the first view are head 1's samples.
        let judged = objective.judge(&encoder, &half(0)).unwrap();
        let names: Vec<&str> = judged.prototypes.iter().map(|p| p.name.as_ref()).collect();
        assert_eq!(names, ["head 1", "head 2"]);
        let clusters = objective.assignments.get(0).narrow(0, 0, 3);
        assert_eq!(judged.prototypes[0].scores.argmax(1, false), clusters);
        assert_eq!(judged.prototypes[1].scores.size(), [3, 2]);
    }

    #[test]
    fn an_epoch_has_one_clustering() {
        let (_store, encoder, mut objective) = setup(&config(&[3]));
        let mut prototypes = Vec::new();
        for i in [0, 1, 2, 3, 4] {
            objective.loss(&encoder, &half(i), &step(i)).unwrap();
            prototypes.push(objective.prototypes[0].copy());
        }
        assert_eq!(prototypes[2], prototypes[3]);
        assert_ne!(prototypes[3], prototypes[4]);
    }

    #[test]
    fn two_ranks_remember_and_cluster_as_one_does() {
        let both = |i| {
            let views = [half(i), half(i + 1)].map(|b| b.views);
            let views = views[0].iter().zip(&views[1]).map(|(a, b)| Tensor::cat(&[a, b], 0)).collect();
            ImageViews { views, ..batch(6, &[4], 0.0) }
        };
        // Ranks draw apart, and from what they know when they are played alone at first.
        let draw = |rank: i64| {
            move |_: usize, m: i64| {
                let order = DRAWS[rank as usize][0].into_iter().filter(|&i| i < m);
                Tensor::from_slice(&order.collect::<Vec<_>>())
            }
        };
        let (_store, encoder, whole) = setup(&config(&[3]));
        let expected: [f64; 2] = [0, 2]
            .map(|i| whole.classify(&encoder, &both(i), draw(0), &step(i)).unwrap().total.scalar().unwrap());
        let ranks = TwoRanks::play(|comm| {
            let (_store, encoder, objective) = setup(&config(&[3]));
            let losses = [0, 2].map(|i| {
                let (mine, step) = (half(i + comm.rank as u64), Step { comm, ..step(i) });
                let loss = objective.classify(&encoder, &mine, draw(comm.rank), &step).unwrap();
                loss.total.scalar().unwrap()
            });
            (losses[1], objective.bank.copy(), objective.prototypes[0].copy())
        });
        assert!((f64::midpoint(ranks[0].0, ranks[1].0) - expected[1]).abs() < 1e-5);
        for (_, bank, prototypes) in &ranks {
            assert!(bank.allclose(&whole.bank, 0.0, 1e-6, false));
            assert!(prototypes.allclose(&whole.prototypes[0], 0.0, 1e-6, false));
        }
    }

    #[test]
    fn gradients_reach_every_parameter_and_no_prototype() {
        let projector = MlpHeadConfig { output_norm: HeadNorm::None, ..MlpHeadConfig::projector(8, 3) };
        let (store, encoder, mut objective) = setup(&DeepClusterV2Config { projector, ..config(&[3, 2]) });
        for i in 0..3 {
            let loss = objective.loss(&encoder, &half(i), &step(i)).unwrap();
            loss.total.backward();
        }
        assert_gradients(&store, &[]);
    }

    #[test]
    fn rejects_batches_and_configs_that_do_not_fit() {
        let (_store, encoder, mut objective) = setup(&config(&[5]));
        let mut refused =
            |batch: &ImageViews| objective.loss(&encoder, batch, &step(0)).unwrap_err().to_string();
        let error = refused(&batch(6, &[4], 0.0));
        assert_eq!(error, "views = 1: at least two views an image for DeepCluster v2");
        let mut outside = half(1);
        outside.indices += 1;
        assert_eq!(refused(&outside), "indices = 4 to 6: positions in 0..6, the samples of the memory bank");
        let error = refused(&batch(4, &[4, 4], 0.0));
        assert_eq!(error, "prototypes = 5: at most 4, the samples in an epoch's whole batches of 4");
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(Pixels::new(path))));
        for (config, expected) in [
            (
                config(&[3, 7]),
                "prototypes = [3, 7]: one head or more, of 2 to 6 prototypes, the number of samples",
            ),
            (config(&[]), "prototypes = []: one head or more, of 2 to 6 prototypes, the number of samples"),
            (DeepClusterV2Config { iterations: 0, ..config(&[3]) }, "iterations = 0: at least 1"),
            (DeepClusterV2Config { temperature: 0.0, ..config(&[3]) }, "temperature = 0: a positive number"),
        ] {
            assert_eq!(DeepClusterV2::new(&site, &config).unwrap_err().to_string(), expected);
        }
    }
}
