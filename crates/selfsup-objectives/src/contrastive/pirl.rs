//! PIRL: an image and its jigsaw puzzle are to have the same representation, and another one than other images.
//!
//! Misra and van der Maaten 2020, *Self-Supervised Learning of Pretext-Invariant Representations*. With v the features of
//! an image I or of its nine shuffled tiles `I^t`, projections f and g of unit length, and m the memory bank,
//!
//! ```text
//! L = lambda NCE(m_I, g(v_It)) + (1 - lambda) NCE(m_I, f(v_I))          (equation 5)
//! m_I <- (m_I + f(v_I)) / 2, of unit length
//! ```
//!
//! f is one linear layer. g is one linear layer on every tile, their results side by side in the shuffled order, and a
//! second linear layer on that (section 2.3). [`MemoryNce`] is the loss, with the choice between the paper's probability
//! and that of its code.
//!
//! The second view is cut into 3 x 3 cells, a square is cropped from each at random, and the nine are shuffled. The
//! authors change the colours of each tile apart; here the view's colours are changed as a whole. They draw negatives
//! for every image, with the image itself among them now and then; here a batch shares its draw, and an image leaves
//! out its own memory, as the paper says it (`D_N` from D without I).

use crate::contrastive::memory_nce::{Compared, MemoryNce, MemoryNceOutput, Probability};
use crate::momentum::check_momentum;
use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{
    Encoder, Error, ImageViews, Kind, Loss, Mode, Objective, Result, Site, Step, Tensor, TensorExt,
    check_kind, check_shape, tch,
};
use serde::{Deserialize, Serialize};

/// The cells in a row of the puzzle.
const GRID: i64 = 3;
/// The tiles of the puzzle.
const TILES: i64 = GRID * GRID;

/// Settings of [`Pirl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PirlConfig {
    /// The temperature tau: 0.07 (section 3).
    pub temperature: f64,
    /// The weight of the puzzle's loss against the image's: 0.5 (section 3).
    pub lambda: f64,
    /// The memories that are drawn as negatives at a step, with replacement: 32,000 (section 3).
    pub negatives: i64,
    /// How much of a memory stays when its image is seen: 0.5 (section 2.2).
    pub momentum: f64,
    /// The size of the projections and of a memory: 128 (section 2.3).
    pub output: i64,
    /// The side of a tile as a share of its cell's: 64 of 85 pixels (section 3).
    pub tile: f64,
    /// The probability in the loss; the paper's is [`Probability::Share`].
    pub probability: Probability,
}

impl Default for PirlConfig {
    fn default() -> Self {
        PirlConfig {
            temperature: 0.07,
            lambda: 0.5,
            negatives: 32_000,
            momentum: 0.5,
            output: 128,
            tile: 64.0 / 85.0,
            probability: Probability::Share,
        }
    }
}

/// The PIRL objective: projections of images and puzzles, and a memory of every sample.
#[derive(Debug)]
pub struct Pirl {
    config: PirlConfig,
    image: Linear,
    tile: Linear,
    puzzle: Linear,
    /// `[samples, P]` of unit length.
    bank: Tensor,
    /// The logarithm of the constant Z, a scalar; 0 until the first batch.
    log_constant: Tensor,
    loss: MemoryNce,
}

impl Pirl {
    /// Makes the projections for the site's encoder, and a random memory for each of its samples.
    ///
    /// # Errors
    /// [`Error::Config`] when a field lies outside its range, or there are fewer than two samples.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &PirlConfig) -> Result<Self> {
        for (field, value) in [("negatives", config.negatives), ("output", config.output)] {
            if value < 1 {
                return Err(Error::config(field, value, "at least 1"));
            }
        }
        check_momentum(config.momentum)?;
        if !(0.0..=1.0).contains(&config.lambda) {
            return Err(Error::config("lambda", config.lambda, "from 0 to 1"));
        }
        if !(config.tile > 0.0 && config.tile <= 1.0) {
            return Err(Error::config("tile", config.tile, "a share of the cell above 0 and at most 1"));
        }
        if site.samples < 2 {
            return Err(Error::config("samples", site.samples, "at least 2, so that there are negatives"));
        }
        let (path, output) = (site.path(), config.output);
        let options = (Kind::Float, path.device());
        let bank = Tensor::randn([site.samples, output], options).l2_normalize();
        let unknown = Tensor::zeros([0_i64; 0], options);
        Ok(Pirl {
            image: Linear::new(&path / "image", site.dim(), output, Bias::Yes),
            tile: Linear::new(&path / "tile", site.dim(), output, Bias::Yes),
            puzzle: Linear::new(&path / "puzzle", TILES * output, output, Bias::Yes),
            bank: path.add("bank", bank, false),
            log_constant: path.add("log_constant", unknown, false),
            loss: MemoryNce::new(config.temperature)?,
            config: config.clone(),
        })
    }

    /// The shuffled tiles of every image, each cropped from its cell at random.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to `[9 N, C, h, w]`, the tiles of an image in a row.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images have fewer than three pixels a side.
    pub fn tiles(&self, images: &Tensor) -> Result<Tensor> {
        let [n, channels, height, width] = check_shape("view 1", images, [-1, -1, -1, -1])?;
        if height < GRID || width < GRID {
            return Err(Error::Shape {
                name: "view 1".to_owned(),
                expected: "at least 3 pixels a side, for a puzzle of 3 x 3 tiles".to_owned(),
                found: format!("{:?}", images.size()),
            });
        }
        let (device, float, int) = (images.device(), Kind::Float, Kind::Int64);
        let order = Tensor::rand([n, TILES], (float, device)).argsort(1, false); // [N, 9]
        // The pixels of every tile along one axis, [N, 9, h]: from its cell's first, a random way in.
        let along = |side: i64, cells: &Tensor| {
            let cell = side / GRID;
            let tile = ((cell as f64 * self.config.tile).round() as i64).clamp(1, cell);
            let first = cells * cell + Tensor::randint(cell - tile + 1, [n, TILES], (int, device));
            first.unsqueeze(2) + Tensor::arange(tile, (int, device))
        };
        let rows = along(height, &order.divide_scalar_mode(GRID, "floor")).unsqueeze(3); // [N, 9, h, 1]
        let columns = along(width, &order.remainder(GRID)).unsqueeze(2); // [N, 9, 1, w]
        let sample = Tensor::arange(n, (int, device)).reshape([n, 1, 1, 1]);
        let pixels = images.permute([0, 2, 3, 1]).index(&[Some(&sample), Some(&rows), Some(&columns)]); // [N, 9, h, w, C]
        let [h, w] = [rows.size()[2], columns.size()[3]];
        Ok(pixels.reshape([n * TILES, h, w, channels]).permute([0, 3, 1, 2]))
    }

    /// The loss with the probability that is asked for.
    fn compare(&self, compared: Compared, log_constant: &Tensor) -> Result<MemoryNceOutput> {
        match self.config.probability {
            Probability::Share => self.loss.share(compared),
            Probability::Constant => self.loss.constant(compared, self.bank.size()[0], log_constant),
        }
    }

    /// The loss of a batch whose tiles and negatives `[K]` are drawn, and what is remembered of it.
    fn contrast<E: Encoder + ?Sized>(
        &mut self,
        encoder: &E,
        batch: &ImageViews,
        tiles: &Tensor,
        drawn: &Tensor,
        step: &Step,
    ) -> Result<Loss> {
        let (image, indices) = (&batch.views[0], &batch.indices);
        let (n, samples) = (indices.size()[0], self.bank.size()[0]);
        let tiles = encoder.encode(tiles, Mode::Train)?; // [9 N, D]
        let tiles = self.tile.forward(&tiles).reshape([n, TILES * self.config.output]); // [N, 9 P]
        let z_puzzle = self.puzzle.forward(&tiles); // [N, P]
        let z_image = self.image.forward(&encoder.encode(image, Mode::Train)?); // [N, P]

        let positives = self.bank.index_select(0, indices); // [N, P]
        let negatives = self.bank.index_select(0, drawn); // [K, P]
        let own = indices.unsqueeze(1).eq_tensor(&drawn.unsqueeze(0)); // [N, K]
        let with = |z| Compared { z, positives: &positives, negatives: &negatives, own: &own };
        let known = &self.log_constant;
        let log_constant = match self.config.probability {
            Probability::Constant if known.scalar()? == 0.0 => {
                let of_rank = self.loss.log_constant(with(&z_puzzle), samples)?;
                let of_all_ranks = step.comm.gather(&of_rank.reshape([1]))?; // [W]
                of_all_ranks.logsumexp(0, false) - (step.comm.world_size() as f64).ln()
            }
            _ => known.copy(),
        };
        let puzzle = self.compare(with(&z_puzzle), &log_constant)?;
        let image = self.compare(with(&z_image), &log_constant)?;

        // All that can fail comes before anything is remembered.
        let seen = step.comm.gather(indices)?; // [M], M samples on all ranks
        let z = step.comm.gather(&z_image.detach().l2_normalize())?; // [M, P]
        tch::no_grad(|| {
            let m = self.config.momentum;
            let memories = (self.bank.index_select(0, &seen) * m + z * (1.0 - m)).l2_normalize();
            let _ = self.bank.index_copy_(0, &seen, &memories);
            self.log_constant.copy_(&log_constant);
        });
        let lambda = self.config.lambda;
        Ok(Loss::new(&puzzle.loss * lambda + &image.loss * (1.0 - lambda))
            .with("puzzle_loss", &puzzle.loss)
            .with("image_loss", &image.loss)
            .with("puzzle_accuracy", &puzzle.accuracy)
            .with("contrastive_accuracy", &image.accuracy))
    }
}

impl<E: Encoder + ?Sized> Objective<E> for Pirl {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let [image, cut] = batch.views.as_slice() else {
            return Err(Error::config("views", batch.views.len(), "an image and a view to cut up for PIRL"));
        };
        let [n, channels, _, _] = check_shape("view 0", image, [-1, -1, -1, -1])?;
        check_shape("view 1", cut, [n, channels, -1, -1])?;
        if n == 0 {
            return Err(Error::config("batch", n, "at least one image"));
        }
        check_shape("indices", &batch.indices, [n])?;
        let (indices, samples) = (&batch.indices, self.bank.size()[0]);
        check_kind("indices", indices, Kind::Int64)?;
        let (least, most) = (i64::try_from(indices.f_min()?)?, i64::try_from(indices.f_max()?)?);
        if least < 0 || most >= samples {
            let wrong = if least < 0 { least } else { most };
            return Err(Error::config(
                "indices",
                wrong,
                format!("samples in 0..{samples}, a memory for each"),
            ));
        }

        let tiles = self.tiles(cut)?; // [9 N, C, h, w]
        let drawn = Tensor::randint(samples, [self.config.negatives], (Kind::Int64, self.bank.device())); // [K]
        self.contrast(encoder, batch, &tiles, &drawn, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, descend, fill, waves};
    use crate::fixtures::TwoRanks;
    use selfsup_core::{Device, nn};

    const LEARNED: [&str; 8] = [
        "encoder.weight",
        "encoder.bias",
        "objective.image.weight",
        "objective.image.bias",
        "objective.tile.weight",
        "objective.tile.bias",
        "objective.puzzle.weight",
        "objective.puzzle.bias",
    ];

    fn config(probability: Probability) -> PirlConfig {
        PirlConfig {
            temperature: 0.5,
            lambda: 0.3,
            negatives: 7,
            output: 3,
            tile: 1.0,
            probability,
            ..PirlConfig::default()
        }
    }

    /// Six samples of 2 x 2 pixels, as a tile of a 6 x 6 image is.
    fn setup(probability: Probability) -> (nn::VarStore, Pixels, Pirl) {
        let (store, encoder) = Pixels::stored();
        let objective = Pirl::new(&Pixels::site(&store, &encoder), &config(probability)).unwrap();
        fill(&store, &LEARNED);
        objective.bank.shallow_clone().copy_(&waves(6, 3, 1.0, 0.3).l2_normalize());
        (store, encoder, objective)
    }

    fn batch(indices: &[i64], shift: f64) -> ImageViews {
        let n = indices.len() as i64;
        ImageViews {
            views: vec![
                waves(n, 4, shift, 0.7).reshape([n, 1, 2, 2]),
                waves(n, 36, shift + 0.5, 0.7).reshape([n, 1, 6, 6]),
            ],
            indices: Tensor::from_slice(indices),
            labels: None,
        }
    }

    /// The loss of a batch and its draws, by loops.
    fn naive(
        store: &nn::VarStore,
        objective: &Pirl,
        batch: &ImageViews,
        tiles: &Tensor,
        drawn: &Tensor,
    ) -> [f64; 2] {
        let v = store.variables();
        let linear = |name: &str, x: &Tensor| {
            x.matmul(&v[&format!("{name}.weight")].tr()) + &v[&format!("{name}.bias")]
        };
        let mut losses = [0.0; 2];
        let n = batch.indices.size()[0];
        for i in 0..n {
            let own = batch.indices.int64_value(&[i]);
            let tile =
                |t: i64| linear("objective.tile", &linear("encoder", &tiles.get(9 * i + t).flatten(0, -1)));
            let puzzle = linear("objective.puzzle", &Tensor::cat(&(0..9).map(tile).collect::<Vec<_>>(), 0));
            let image = linear("objective.image", &linear("encoder", &batch.views[0].get(i).flatten(0, -1)));
            for (loss, z) in losses.iter_mut().zip([puzzle, image]) {
                let e = |k: i64| {
                    ((z.l2_normalize() * objective.bank.get(k)).sum(None).scalar().unwrap() / 0.5).exp()
                };
                let others: Vec<f64> =
                    (0..7).map(|k| drawn.int64_value(&[k])).filter(|&k| k != own).map(e).collect();
                let all = e(own) + others.iter().sum::<f64>();
                let missed: f64 = others.iter().map(|e| (1.0 - e / all).ln()).sum();
                *loss -= ((e(own) / all).ln() + missed) / n as f64;
            }
        }
        losses
    }

    #[test]
    fn equals_equation_5_by_loops() {
        let (store, encoder, mut objective) = setup(Probability::Share);
        let batch = batch(&[4, 1, 5], 0.0);
        let tiles = objective.tiles(&batch.views[1]).unwrap();
        let drawn = Tensor::from_slice(&[3_i64, 0, 4, 5, 1, 1, 2]);
        let [puzzle, image] = naive(&store, &objective, &batch, &tiles, &drawn);
        let step = Step::single(0, 1, 0, 0);
        let Loss { total, parts } = objective.contrast(&encoder, &batch, &tiles, &drawn, &step).unwrap();
        assert!((parts[0].1.scalar().unwrap() - puzzle).abs() < 1e-5);
        assert!((parts[1].1.scalar().unwrap() - image).abs() < 1e-5);
        assert!((total.scalar().unwrap() - (0.3 * puzzle + 0.7 * image)).abs() < 1e-5);
    }

    /// The cells of the views that are cut up, in an order of the step.
    fn ordered_tiles(batch: &ImageViews, step: i64) -> Tensor {
        let order: Vec<i64> = (0..9).map(|t| (4 * t + step) % 9).collect();
        let n = batch.indices.size()[0];
        let cells = batch.views[1].reshape([n, 3, 2, 3, 2]).transpose(2, 3).reshape([n, 9, 4]);
        cells.index_select(1, &Tensor::from_slice(&order)).reshape([9 * n, 1, 2, 2])
    }

    #[test]
    fn equals_the_papers_equations_in_pytorch_over_five_steps() {
        // def wave(n, d, s, r=0.7): return torch.sin(torch.arange(float(n * d)) * r + s).reshape(n, d)
        // def fill(ps):
        //     for i, p in enumerate(ps):
        //         p.data = (torch.sin(torch.arange(float(p.numel())) * 0.7 + i) * 0.5).reshape(p.shape)
        // for constant in (False, True):
        //     nets = enc, image, tile, puzzle = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(27, 3)
        //     ps = [p for net in nets for p in net.parameters()]; fill(ps); opt = torch.optim.SGD(ps, lr=0.2)
        //     bank, log_z, K, N = F.normalize(wave(6, 3, 1., 0.3), dim=1), None, 7, 6
        //     for s in range(5):
        //         y, drawn = torch.tensor([s, s + 1, s + 3]) % 6, (torch.tensor([3, 0, 4, 5, 1, 1, 2]) + s) % 6
        //         cells = wave(3, 36, s + 0.5).reshape(3, 3, 2, 3, 2).transpose(2, 3).reshape(3, 9, 4)
        //         cells = cells[:, (torch.arange(9) * 4 + s) % 9]
        //         z_puzzle, z_image = puzzle(tile(enc(cells)).flatten(1)), image(enc(wave(3, 4, float(s))))
        //         def logits(z):
        //             z = F.normalize(z, dim=1) / 0.5
        //             return (z * bank[y]).sum(1), (z @ bank[drawn].T).masked_fill(y[:, None] == drawn, -torch.inf)
        //         def nce(z):
        //             p, n = logits(z); e, others = p.exp(), n.exp()
        //             if constant: h = lambda e: e / log_z.exp() / (e / log_z.exp() + K / N)     # Wu et al., equation 6
        //             else: h = lambda a: a / (e + others.sum(1)).reshape(-1, *[1] * (a.dim() - 1))    # PIRL, equation 3
        //             return -(h(e).log() + (1 - h(others)).log().sum(1)).mean()                       # PIRL, equation 4
        //         if log_z is None:
        //             l = torch.cat([x.detach().flatten() for x in logits(z_puzzle)])
        //             log_z = (N * l[l.isfinite()].exp().mean()).log()
        //         l = 0.3 * nce(z_puzzle) + 0.7 * nce(z_image); opt.zero_grad(); l.backward(); print(l.item())
        //         if s == 0: print(enc.weight.grad, tile.weight.grad, log_z)
        //         bank[y] = F.normalize(bank[y] * 0.5 + F.normalize(z_image.detach(), dim=1) * 0.5, dim=1)
        //         opt.step()
        //     print(bank, enc.weight)
        for (probability, expected) in [(Probability::Share, &SHARE), (Probability::Constant, &CONSTANT)] {
            let (store, encoder, mut objective) = setup(probability);
            // A checkpoint takes no number that is not finite.
            assert!(store.variables().values().all(|x| x.isfinite().all().scalar().unwrap() == 1.0));
            let v = store.variables();
            for (s, loss) in (0..).zip(expected.losses) {
                let batch = batch(&[s % 6, (s + 1) % 6, (s + 3) % 6], s as f64);
                let drawn = (Tensor::from_slice(&[3_i64, 0, 4, 5, 1, 1, 2]) + s).remainder(6);
                let (tiles, step) = (ordered_tiles(&batch, s), Step::single(s as u64, 5, 0, 0));
                let found = objective.contrast(&encoder, &batch, &tiles, &drawn, &step).unwrap().total;
                assert!((found.scalar().unwrap() - loss).abs() < 1e-5, "step {s}: {found:?}");
                found.backward();
                if s == 0 {
                    assert_near(&v["encoder.weight"].grad(), &expected.encoder_gradient);
                    assert_near(&(v["objective.tile.weight"].grad() * 1000.0), &expected.tile_gradient);
                }
                descend(&store, &LEARNED, 0.2);
            }
            assert_near(&v["objective.bank"], &expected.bank);
            assert_near(&v["encoder.weight"], &expected.encoder);
            let constant = if probability == Probability::Constant { 2.902_311_1 } else { 0.0 };
            assert!((objective.log_constant.scalar().unwrap() - constant).abs() < 1e-5);
        }
    }

    struct Expected {
        losses: [f64; 5],
        encoder_gradient: [f32; 16],
        /// Times a thousand.
        tile_gradient: [f32; 12],
        bank: [f32; 18],
        encoder: [f32; 16],
    }

    #[rustfmt::skip]
    const SHARE: Expected = Expected {
        losses: [3.687_071_3, 3.042_142_9, 2.881_880_3, 2.881_936_3, 2.777_725_2],
        encoder_gradient: [
            -0.197_681_5, 0.051_782_2, 0.276_926_5, 0.371_678_1, -0.096_785_2, -0.018_586_5, 0.068_423_7, 0.123_264_6,
            0.049_630_7, -0.080_213_6, -0.172_259_8, -0.183_122_1, 0.172_704_4, -0.104_115_1, -0.331_926_8,
            -0.403_383_6,
        ],
        tile_gradient: [
            -0.151_76, -0.047_59, -0.211_24, 0.137_32, -0.341_31, 0.099_07, -0.155_08, -0.017_78, -0.370_31,
            0.199_11, -0.025_93, -0.164_56,
        ],
        bank: [
            0.966_588_2, -0.246_789_2, 0.069_299_1, 0.862_552_1, -0.450_495_3, -0.230_343, 0.862_216_7, -0.343_140_7,
            -0.372_608, 0.623_029_6, -0.650_531_7, -0.434_330_2, 0.307_455_2, -0.923_690_1, -0.228_621_6,
            -0.170_754_3, -0.978_014_9, -0.119_707_3,
        ],
        encoder: [
            0.021_404_8, 0.260_241_4, 0.376_869_4, 0.316_110_7, 0.202_698_2, -0.205_961_2, -0.517_053_7, -0.585_663_4,
            -0.353_013, 0.017_06, 0.380_000_6, 0.563_296_7, 0.394_333_2, 0.202_553, -0.083_842_5, -0.331_521_9,
        ],
    };

    #[rustfmt::skip]
    const CONSTANT: Expected = Expected {
        losses: [3.831_930_6, 3.228_855_1, 3.297_650_3, 3.084_774_7, 2.956_827_4],
        encoder_gradient: [
            -0.170_776_6, 0.043_854_8, 0.237_875_6, 0.319_952_9, -0.089_257_8, -0.011_235_7, 0.072_108_3, 0.121_543_8,
            0.034_240_4, -0.061_041_8, -0.127_572_6, -0.134_029_2, 0.141_634_8, -0.082_139, -0.267_254_1,
            -0.326_566_2,
        ],
        tile_gradient: [
            -0.077_39, -0.018_48, -0.101_84, 0.064_59, -0.172_24, 0.060_97, -0.084_7, 0.001_89, -0.186_06, 0.111_72,
            -0.027_69, -0.061_73,
        ],
        bank: [
            0.966_977_5, -0.252_390_4, 0.035_407_6, 0.869_040_9, -0.444_736_7, -0.216_742_6, 0.841_154_2,
            -0.356_612_5, -0.406_555_1, 0.617_085_8, -0.628_668, -0.473_267_1, 0.369_982_6, -0.900_337_5,
            -0.229_140_7, -0.099_652_7, -0.975_594_2, -0.195_666_5,
        ],
        encoder: [
            0.017_604_9, 0.264_823_7, 0.387_233_6, 0.327_424_4, 0.193_859_5, -0.214_654_6, -0.521_361_5, -0.584_142_1,
            -0.343_272_1, 0.020_652_6, 0.376_43, 0.553_299_3, 0.399_149_9, 0.197_942_4, -0.094_826_1, -0.344_564,
        ],
    };

    #[test]
    fn the_constant_is_found_once() {
        let (_store, encoder, mut objective) = setup(Probability::Constant);
        let mut constant = |shift: f64| {
            objective.loss(&encoder, &batch(&[0, 1, 2], shift), &Step::single(0, 1, 0, 0)).unwrap();
            objective.log_constant.scalar().unwrap()
        };
        let first = constant(0.0);
        // Z lies between the extremes of six times exp(cosine / tau).
        assert!((6_f64.ln() - 2.0..6_f64.ln() + 2.0).contains(&first), "{first}");
        assert_eq!(constant(2.0), first);
    }

    #[test]
    fn the_constant_is_the_mean_over_ranks_however_large() {
        // All memories are (0, 1, 0); the puzzles of the first rank are too, those of the second stand across.
        let found = TwoRanks::play(|comm| {
            let (store, encoder) = Pixels::stored();
            // exp(1 / 0.005) is beyond the numbers of 32 bits.
            let config = PirlConfig { temperature: 0.005, ..config(Probability::Constant) };
            let mut objective = Pirl::new(&Pixels::site(&store, &encoder), &config).unwrap();
            objective.bank.shallow_clone().copy_(&Tensor::from_slice(&[0_f32, 1.0, 0.0]).repeat([6, 1]));
            let puzzle = if comm.rank == 0 { [0.0, 1.0, 0.0] } else { [1.0_f32, 0.0, 0.0] };
            let v = store.variables();
            tch::no_grad(|| {
                let _ = v["objective.puzzle.weight"].shallow_clone().zero_();
                v["objective.puzzle.bias"].shallow_clone().copy_(&Tensor::from_slice(&puzzle));
            });
            let step = Step { comm, ..Step::single(0, 1, 0, 0) };
            let loss = objective.loss(&encoder, &batch(&[0, 1, 2], 0.0), &step).unwrap().total;
            assert!(loss.scalar().unwrap().is_finite());
            objective.log_constant.scalar().unwrap()
        });
        // Z = 6 (exp(200) + exp(0)) / 2
        for found in found {
            assert!((found - (200.0 + 3_f64.ln())).abs() < 1e-3, "{found}");
        }
    }

    #[test]
    fn tiles_are_the_cells_in_another_order() {
        let (_store, _encoder, objective) = setup(Probability::Share);
        let images = Tensor::arange(2 * 2 * 36, (Kind::Float, Device::Cpu)).reshape([2, 2, 6, 6]);
        let tiles = objective.tiles(&images).unwrap();
        assert_eq!(tiles.size(), [18, 2, 2, 2]);
        let mut orders = Vec::new();
        for i in 0..2 {
            let order: Vec<i64> = (0..9)
                .map(|t| {
                    let tile = tiles.get(9 * i + t);
                    let cell = |k: i64| images.get(i).narrow(1, k / 3 * 2, 2).narrow(2, k % 3 * 2, 2);
                    (0..9).find(|&k| cell(k) == tile).expect("a cell of its own image")
                })
                .collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..9).collect::<Vec<_>>());
            orders.push(order);
        }
        assert_ne!(orders[0], orders[1]);
    }

    #[test]
    fn a_tile_is_a_crop_that_stays_in_its_cell() {
        let (store, encoder) = Pixels::stored();
        let objective = Pirl::new(&Pixels::site(&store, &encoder), &PirlConfig::default()).unwrap();
        // Every pixel holds the number of its cell; 12 x 12 pixels with tiles of 64/85, which is 9.
        let row = Tensor::arange(36, (Kind::Float, Device::Cpu)).divide_scalar_mode(12, "floor");
        let cells = (row.unsqueeze(1) * 3.0 + row.unsqueeze(0)).reshape([1, 1, 36, 36]);
        let tiles = objective.tiles(&cells.repeat([4, 1, 1, 1])).unwrap();
        assert_eq!(tiles.size(), [36, 1, 9, 9]);
        let flat = tiles.reshape([36, 81]);
        assert_eq!(flat.amax(1, false), flat.amin(1, false));
        assert_eq!(tiles.mean(None).scalar().unwrap(), 4.0);
    }

    #[test]
    fn gradients_reach_every_parameter_and_no_memory() {
        for probability in [Probability::Share, Probability::Constant] {
            let (store, encoder, mut objective) = setup(probability);
            let batch = batch(&[0, 1, 2, 3], 0.0);
            objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap().total.backward();
            assert_gradients(&store, &[]);
            assert_eq!(store.trainable_variables().len(), LEARNED.len());
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (store, encoder, mut objective) = setup(Probability::Share);
        let mut refusal = |batch: &ImageViews| {
            objective.loss(&encoder, batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        let one = ImageViews { views: batch(&[0, 1], 0.0).views.split_off(1), ..batch(&[0, 1], 0.0) };
        assert_eq!(refusal(&one), "views = 1: an image and a view to cut up for PIRL");
        assert_eq!(refusal(&batch(&[0, 6], 0.0)), "indices = 6: samples in 0..6, a memory for each");
        assert_eq!(refusal(&batch(&[0, -1], 0.0)), "indices = -1: samples in 0..6, a memory for each");
        let mut fractions = batch(&[0, 1], 0.0);
        fractions.indices = fractions.indices.to_kind(Kind::Float);
        assert!(refusal(&fractions).starts_with("indices: expected"), "{}", refusal(&fractions));
        let mut small = batch(&[0, 1], 0.0);
        small.views[1] = small.views[1].narrow(2, 0, 2);
        let error =
            "view 1: expected at least 3 pixels a side, for a puzzle of 3 x 3 tiles, found [2, 1, 2, 6]";
        assert_eq!(refusal(&small), error);
        let mut unequal = batch(&[0, 1], 0.0);
        unequal.views[1] = unequal.views[1].narrow(0, 0, 1);
        assert_eq!(refusal(&unequal), "view 1: expected [2, 1, _, _], found [1, 1, 6, 6]");

        let good = config(Probability::Share);
        let refusal =
            |config: PirlConfig| Pirl::new(&Pixels::site(&store, &encoder), &config).unwrap_err().to_string();
        assert_eq!(refusal(PirlConfig { negatives: 0, ..good.clone() }), "negatives = 0: at least 1");
        assert_eq!(refusal(PirlConfig { lambda: 2.0, ..good.clone() }), "lambda = 2: from 0 to 1");
        assert!(refusal(PirlConfig { tile: 0.0, ..good.clone() }).starts_with("tile = 0"));
        assert_eq!(
            refusal(PirlConfig { temperature: 0.0, ..good.clone() }),
            "temperature = 0: a positive number"
        );
        let mut alone = Pixels::site(&store, &encoder);
        alone.samples = 1;
        let error = Pirl::new(&alone, &good).unwrap_err().to_string();
        assert_eq!(error, "samples = 1: at least 2, so that there are negatives");
    }
}
