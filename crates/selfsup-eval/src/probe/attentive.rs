//! The attentive probe: one learned query looks at the frozen tokens of a sample, and a linear classifier reads what it saw, as
//! V-JEPA (Bardes et al. 2024, *Revisiting feature prediction for learning visual representations from video*) and CAPI (Darcet
//! et al. 2025) judge their encoders.
//!
//! ```text
//! head h    a = softmax over tokens of q_h . (K_h x_t) / sqrt(d)        o_h = sum_t a_t (V_h x_t + b_h)        d = D / H
//! scores    W [o_1, ..., o_H] + c
//! ```
//! which is PyTorch's `MultiheadAttention` of one query, whose own projection and the one of its output are merged with the query
//! and with `W`; a bias of the keys would change no softmax. As there is but one query, `q_h K_h` is one vector a head and the sum
//! over tokens comes before `V_h`: the same numbers for a hundredth of the products. V-JEPA's probe has a perceptron behind the
//! attention; this one is linear there, so that what it finds was in the tokens.
//!
//! Tokens of a network vary far more in some directions than in others, and a descent by gradients hardly moves in the rest. So they are
//! turned into their principal axes by the training part, each divided by the fourth root of its variance: the same functions can be
//! fitted, and are. Parameters are fitted by AdamW with a rate that falls along a cosine; rate and weight decay are chosen by the
//! cross-entropy of held-out training samples. Beside it stands a linear probe on the mean of the same tokens: what attention adds is
//! the difference.

use crate::measurement::Origin;
use crate::split::hold_out;
use crate::{Interval, LEVEL, LinearProbe, LinearProbeConfig, Mean, Measurement};
use rand::RngExt;
use rand::seq::SliceRandom;
use selfsup_core::nn::{self, OptimizerConfig};
use selfsup_core::{Device, Error, Features, Key, Kind, Result, Tensor, check_kind, check_shape, tch};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Tokens of samples with the samples' classes.
#[derive(Debug)]
pub struct LabelledTokens {
    /// `[N, T, D]` Float.
    x: Tensor,
    /// `[N]` Int64.
    labels: Tensor,
    classes: i64,
}

impl LabelledTokens {
    /// Checks and holds tokens and labels.
    ///
    /// # Shapes
    /// `x` `[N, T, D]`, `labels` `[N]` Int64 of `0..classes`.
    ///
    /// # Errors
    /// When the shapes do not fit or are empty, a feature is not finite, or a label is no class.
    pub fn new(x: &Tensor, labels: &Tensor, classes: i64) -> Result<LabelledTokens> {
        let shape = check_shape("tokens", x, [-1, -1, -1])?;
        check_shape("labels", labels, [shape[0]])?;
        check_kind("labels", labels, Kind::Int64)?;
        if shape.contains(&0) {
            return Err(Error::config(
                "tokens",
                format!("{shape:?}"),
                "at least one sample, token and feature",
            ));
        }
        let x = x.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let labels = labels.to_device(Device::Cpu);
        let mean = x.mean_dim([1].as_slice(), false, Kind::Float);
        // A value that is not finite leaves no mean that is; labels are checked too.
        Features::new(mean, labels.shallow_clone(), classes)?;
        Ok(LabelledTokens { x, labels, classes })
    }

    fn select(&self, indices: &Tensor) -> LabelledTokens {
        LabelledTokens {
            x: self.x.index_select(0, indices),
            labels: self.labels.index_select(0, indices),
            classes: self.classes,
        }
    }

    fn means(&self) -> Result<Features> {
        let mean = self.x.mean_dim([1].as_slice(), false, Kind::Float);
        Features::new(mean, self.labels.shallow_clone(), self.classes)
    }
}

/// How the probe is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentiveConfig {
    /// The heads of the attention; they divide the features of a token.
    pub heads: i64,
    /// The weight decays to choose from.
    pub weight_decays: Vec<f64>,
    /// AdamW's learning rates at the start, to choose from.
    pub learning_rates: Vec<f64>,
    /// The samples of a step.
    pub batch_size: usize,
    /// How often all training samples are seen.
    pub epochs: usize,
    /// The share of the training samples that chooses.
    pub held_out: f64,
    /// The linear probe on the mean token.
    pub linear: LinearProbeConfig,
    /// Decides the first values, the order of the samples and which are held out.
    pub seed: u64,
}

impl Default for AttentiveConfig {
    fn default() -> Self {
        AttentiveConfig {
            heads: 4,
            weight_decays: vec![0.01, 1.0],
            learning_rates: vec![1e-2, 3e-2],
            batch_size: 128,
            epochs: 20,
            held_out: 0.2,
            linear: LinearProbeConfig::default(),
            seed: 0,
        }
    }
}

/// What the probe found on the test samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentiveOutcome {
    /// The accuracy of the query's answer.
    pub attentive: Mean,
    /// The accuracy of the linear probe on the mean token of the same samples.
    pub mean_pooled: Mean,
    /// Over how many tokens the query looks, the mean over samples and heads: the exponential of the attention's entropy.
    pub spread: f64,
    /// The tokens of a sample.
    pub tokens: i64,
    /// The training samples.
    pub train: i64,
    /// The chosen learning rate.
    pub learning_rate: f64,
    /// The chosen weight decay.
    pub weight_decay: f64,
    /// The learning rates, the weight decays and the cross-entropy of held-out samples.
    pub path: Vec<[f64; 3]>,
    /// The test samples' predicted classes.
    pub predictions: Vec<i64>,
    /// Decides the first values, the order of the samples and which are held out.
    pub seed: u64,
}

/// The attentive probe.
#[derive(Debug)]
pub struct AttentiveProbe {
    config: AttentiveConfig,
}

impl AttentiveProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// With the field that cannot work.
    pub fn new(config: AttentiveConfig) -> Result<AttentiveProbe> {
        config.linear.check()?;
        let decays = &config.weight_decays;
        if decays.is_empty() || !decays.iter().all(|decay| *decay >= 0.0 && decay.is_finite()) {
            return Err(Error::config("weight_decays", format!("{decays:?}"), "numbers from 0 up"));
        }
        let rates = &config.learning_rates;
        if rates.is_empty() || !rates.iter().all(|rate| *rate > 0.0 && rate.is_finite()) {
            return Err(Error::config("learning_rates", format!("{rates:?}"), "numbers above 0"));
        }
        if !(config.held_out > 0.0 && config.held_out < 1.0) {
            return Err(Error::config("held_out", config.held_out, "between 0 and 1"));
        }
        if config.heads < 1 {
            return Err(Error::config("heads", config.heads, "at least 1"));
        }
        for (field, value) in [("batch_size", config.batch_size), ("epochs", config.epochs)] {
            if value == 0 {
                return Err(Error::config(field, 0, "at least 1"));
            }
        }
        Ok(AttentiveProbe { config })
    }

    /// Fits on `train` and scores on `test`; `progress` hears how many of the fits, of [`fits`](AttentiveProbe::fits), are done.
    ///
    /// # Errors
    /// When the sets do not fit each other, `heads` does not divide the features, or fewer than two classes occur.
    pub fn run(
        &self,
        train: &LabelledTokens,
        test: &LabelledTokens,
        progress: &mut dyn FnMut(usize),
    ) -> Result<AttentiveOutcome> {
        let [n, _, d] = check_shape("train tokens", &train.x, [-1, -1, -1])?;
        let [m, tokens, _] = check_shape("test tokens", &test.x, [-1, -1, d])?;
        if train.classes != test.classes {
            let expected = format!("{}, as in the training set", train.classes);
            return Err(Error::config("test classes", test.classes, expected));
        }
        if d % self.config.heads != 0 {
            let expected = format!("a divisor of the {d} features of a token");
            return Err(Error::config("heads", self.config.heads, expected));
        }
        let key = Key::new(self.config.seed);
        let (train_means, test_means) = (train.means()?, test.means()?);
        let (rest, held) = hold_out(&train_means, self.config.held_out, key.with(0))?;
        if held.size()[0] == 0 {
            return Err(Error::config(
                "train",
                format!("{n} samples"),
                "so many of a class that some can be held out",
            ));
        }
        let (rest, held) = (train.select(&rest), train.select(&held));
        let mean_pooled = LinearProbe::new(self.config.linear.clone())?.run(&train_means, &test_means)?;
        let mut path = Vec::new();
        let mut best = [self.config.learning_rates[0], self.config.weight_decays[0], f64::INFINITY];
        for &rate in &self.config.learning_rates {
            for &decay in &self.config.weight_decays {
                let loss = self.fit(&rest, rate, decay, key.with(1))?.loss(&held)?;
                path.push([rate, decay, loss]);
                if loss < best[2] {
                    best = [rate, decay, loss];
                }
                progress(path.len());
            }
        }
        let [learning_rate, weight_decay, _] = best;
        let fitted = self.fit(train, learning_rate, weight_decay, key.with(1))?;
        progress(self.fits());
        let (predictions, spread) = fitted.predict(test)?;
        let right = |predictions: &[i64]| -> Result<Mean> {
            let labels = Vec::<i64>::try_from(&test.labels)?;
            let right = predictions.iter().zip(&labels).filter(|(p, y)| p == y).count() as u64;
            let interval = Interval::wilson(right, m as u64, LEVEL)?;
            Ok(Mean { value: right as f64 / m as f64, interval, n: m as usize })
        };
        Ok(AttentiveOutcome {
            attentive: right(&predictions)?,
            mean_pooled: right(&mean_pooled.predictions)?,
            spread,
            tokens,
            train: n,
            learning_rate,
            weight_decay,
            path,
            predictions,
            seed: self.config.seed,
        })
    }

    /// How many fits a run takes.
    pub fn fits(&self) -> usize {
        self.config.learning_rates.len() * self.config.weight_decays.len() + 1
    }

    fn fit(&self, train: &LabelledTokens, learning_rate: f64, weight_decay: f64, key: Key) -> Result<Fitted> {
        let AttentiveConfig { heads, batch_size, epochs, .. } = self.config;
        let store = nn::VarStore::new(Device::Cpu);
        let fitted = Fitted::new(&store, train, heads, key.with(0))?;
        let mut optimizer =
            nn::AdamW { wd: weight_decay, ..Default::default() }.build(&store, learning_rate)?;
        let n = train.x.size()[0] as usize;
        let total = epochs * n.div_ceil(batch_size);
        let mut step = 0;
        for epoch in 0..epochs {
            let mut order: Vec<i64> = (0..n as i64).collect();
            order.shuffle(&mut key.with(1 + epoch as u64).rng());
            for indices in order.chunks(batch_size) {
                let batch = train.select(&Tensor::from_slice(indices));
                optimizer.set_lr(learning_rate * 0.5 * (1.0 + (PI * f64::from(step) / total as f64).cos()));
                optimizer.backward_step(&fitted.scores(&batch.x).cross_entropy_for_logits(&batch.labels));
                step += 1;
            }
        }
        Ok(fitted)
    }
}

/// The query and what reads it.
struct Fitted {
    heads: i64,
    /// `[1, 1, D]`
    mean: Tensor,
    /// From centred tokens to evened axes, `[D, R]`.
    turn: Tensor,
    /// `[D]`
    query: Tensor,
    /// `[D, R]`
    key: Tensor,
    value: Tensor,
    /// `[D]`
    value_bias: Tensor,
    /// `[K, D]`
    weight: Tensor,
    /// `[K]`
    bias: Tensor,
}

impl Fitted {
    fn new(store: &nn::VarStore, train: &LabelledTokens, heads: i64, key: Key) -> Result<Fitted> {
        let d = train.x.size()[2];
        let drawn = |name: &str, shape: &[i64], bound: f64, part: u64| -> Result<Tensor> {
            let mut rng = key.with(part).rng();
            let count = shape.iter().product::<i64>();
            let values: Vec<f32> = (0..count).map(|_| (bound * rng.random_range(-1.0..1.0)) as f32).collect();
            Ok(store.root().add(name, Tensor::f_from_slice(&values)?.f_reshape(shape)?, true))
        };
        let mean = train.x.mean_dim([0, 1].as_slice(), true, Kind::Float);
        let turn = evened_axes(&(&train.x - &mean).flatten(0, 1))?;
        let r = turn.size()[1];
        let glorot = (3.0 / r as f64).sqrt();
        let zeros = |name: &str, size: i64| {
            store.root().add(name, Tensor::zeros([size], (Kind::Float, Device::Cpu)), true)
        };
        Ok(Fitted {
            heads,
            mean,
            turn,
            // Scores of about 0.2, whatever D is: it begins near the mean of all tokens.
            query: drawn("query", &[d], 0.3, 0)?,
            key: drawn("key", &[d, r], glorot, 1)?,
            value: drawn("value", &[d, r], glorot, 2)?,
            value_bias: zeros("value_bias", d),
            weight: drawn("weight", &[train.classes, d], 0.02, 3)?,
            bias: zeros("bias", train.classes),
        })
    }

    fn turned(&self, x: &Tensor) -> Tensor {
        (x - &self.mean).matmul(&self.turn)
    }

    /// `[N, T, D]` to `[N, K]`.
    fn scores(&self, x: &Tensor) -> Tensor {
        let (seen, _) =
            attend(&self.turned(x), &self.query, &self.key, &self.value, &self.value_bias, self.heads);
        seen.linear(&self.weight, Some(&self.bias))
    }

    fn loss(&self, held: &LabelledTokens) -> Result<f64> {
        let scores = tch::no_grad(|| self.scores(&held.x)).to_kind(Kind::Double);
        Ok(f64::try_from(scores.cross_entropy_for_logits(&held.labels))?)
    }

    /// The most probable classes, and over how many tokens the query looks.
    fn predict(&self, test: &LabelledTokens) -> Result<(Vec<i64>, f64)> {
        tch::no_grad(|| {
            let x = self.turned(&test.x);
            let (seen, a) = attend(&x, &self.query, &self.key, &self.value, &self.value_bias, self.heads);
            let scores = seen.linear(&self.weight, Some(&self.bias));
            let entropy =
                -(a.clamp_min(1e-30).log() * &a).sum_dim_intlist([1].as_slice(), false, Kind::Double);
            Ok((Vec::try_from(scores.argmax(1, false))?, f64::try_from(entropy.exp().mean(None))?))
        })
    }
}

/// From centred rows `[M, D]` to their principal axes, each divided by the fourth root of its variance, all together of variance 1:
/// `[D, R]`. Directions in which nothing varies fall away.
fn evened_axes(x: &Tensor) -> Result<Tensor> {
    /// Rows that decide the axes.
    const ROWS: i64 = 50_000;
    let d = x.size()[1];
    let some = x.slice(0, 0, None, (x.size()[0] / ROWS).max(1));
    let covariance = some.tr().matmul(&some).to_kind(Kind::Double) / some.size()[0] as f64;
    let (variances, axes) = covariance.f_linalg_eigh("L")?; // ascending
    let floor = f64::try_from(variances.max())?.max(0.0) * 1e-6;
    let varying = variances.gt(floor).nonzero().squeeze_dim(1);
    if varying.size()[0] == 0 {
        return Ok(Tensor::eye(d, (Kind::Float, Device::Cpu)));
    }
    let (variances, axes) = (variances.index_select(0, &varying), axes.index_select(1, &varying));
    let turn = axes / variances.sqrt().sqrt(); // the variances are now the roots of what they were
    let total = variances.sqrt().mean(Kind::Double).sqrt();
    Ok((turn / total).to_kind(Kind::Float))
}

/// What a query sees of tokens, and how much of each: `[N, T, R]` to `[N, D]` and `[N, T, H]`.
fn attend(
    x: &Tensor,
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    bias: &Tensor,
    heads: i64,
) -> (Tensor, Tensor) {
    let d = query.size()[0];
    let width = d / heads;
    let by_head = |matrix: &Tensor| matrix.reshape([heads, width, -1]);
    let looks = by_head(&(key * query.unsqueeze(1))).sum_dim_intlist([1].as_slice(), false, None); // [H, R]
    let a = (x.matmul(&looks.tr()) / (width as f64).sqrt()).softmax(1, None); // [N, T, H]
    let means = a.transpose(1, 2).matmul(x); // [N, H, R]
    let seen = means.transpose(0, 1).matmul(&by_head(value).transpose(1, 2)); // [H, N, D / H]
    (seen.transpose(0, 1).flatten(1, 2) + bias, a)
}

impl AttentiveOutcome {
    /// The measures for a report, of test samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.seed) };
        let AttentiveOutcome { tokens, train, learning_rate, weight_decay, .. } = self;
        vec![
            origin.mean(
                "attentive",
                &self.attentive,
                format!(
                    "accuracy of a linear classifier on what one learned query sees of the {tokens} frozen tokens (V-JEPA, Bardes et \
                     al. 2024), {train} training samples, learning rate {learning_rate} and weight decay {weight_decay} chosen on held-out ones"
                ),
            ),
            origin.mean(
                "mean_pooled",
                &self.mean_pooled,
                format!("accuracy of the linear probe on the mean of the same {tokens} tokens of the same {train} training samples"),
            ),
            origin.plain(
                "attentive_spread",
                self.spread,
                self.attentive.n,
                format!("over how many of the {tokens} tokens the query looks: exponential of its attention's entropy, mean over samples and heads"),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sin(0.37 i^1.5), `n` of them.
    fn wave(n: i64) -> Tensor {
        let i = Tensor::arange(n, (Kind::Double, Device::Cpu));
        (i.pow_tensor_scalar(1.5) * 0.37).sin()
    }

    // f = lambda n: torch.tensor(np.sin(np.arange(n) ** 1.5 * 0.37)); D, H, N, T = 6, 2, 3, 4; w = f(3 * D * D + 3 * D)
    // m = torch.nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    // m.in_proj_weight, m.in_proj_bias, m.out_proj = w[:108].reshape(18, 6), w[108:], identity; x = f(72).reshape(3, 4, 6)
    // m(f(42)[36:].expand(3, 1, 6), x, x, average_attn_weights=False)
    #[test]
    fn agrees_with_pytorchs_multi_head_attention() {
        let w = wave(126);
        let matrix = |part: i64| w.narrow(0, 36 * part, 36).reshape([6, 6]);
        let bias = |part: i64| w.narrow(0, 108 + 6 * part, 6);
        let query = matrix(0).mv(&wave(42).narrow(0, 36, 6)) + bias(0);
        let x = wave(72).reshape([3, 4, 6]);
        let (seen, a) = attend(&x, &query, &matrix(1), &matrix(2), &bias(2), 2);
        let close = |found: &Tensor, expected: &[f64]| {
            let found = Vec::<f64>::try_from(found.reshape([-1])).unwrap();
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-10), "{found:?}");
        };
        close(&seen, &SEEN);
        close(&a.transpose(1, 2).contiguous(), &LOOKS);
    }

    const SEEN: [f64; 18] = [
        0.36433282191418304,
        1.385258582080532,
        0.8283047610129091,
        1.2749060791154565,
        1.241559397282272,
        1.1979246324752084,
        0.21151196137905598,
        0.8220887443582146,
        0.8005622375054857,
        0.7089949247251578,
        0.6614221038615844,
        1.2455976808648095,
        -1.2432824100084612,
        1.2804488646429755,
        1.9057974289220898,
        1.7474826529310241,
        0.6206698680081805,
        1.2289365252399507,
    ];
    const LOOKS: [f64; 24] = [
        0.06063916382355941,
        0.27058227144924085,
        0.3442231484782859,
        0.32455541624891393,
        0.00034336887181661357,
        0.9197804196027608,
        0.00040849582965780463,
        0.07946771569576493,
        0.13308886383582225,
        0.135296564279462,
        0.07491498714256282,
        0.6566995847421528,
        0.05034232428122696,
        0.16527817512024567,
        0.07368626297924391,
        0.7106932376192835,
        0.0713621426257823,
        0.10761822961920474,
        0.10403016570174403,
        0.7169894620532689,
        0.0002934062554311722,
        2.3496148837229894e-06,
        5.642143121765351e-05,
        0.9996478226984674,
    ];

    /// Samples of 16 tokens of 8 features. One token, marked by feature 0, holds the class in features 1 to 3; all others hold
    /// another class, drawn for each of them, unmarked.
    fn planted(from: u64, n: usize) -> LabelledTokens {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for sample in 0..n as u64 {
            let mut rng = Key::new(3).with(from + sample).rng();
            let (class, place) = (rng.random_range(0..3_i64), rng.random_range(0..16));
            for token in 0..16 {
                let said = if token == place { class } else { rng.random_range(0..3_i64) };
                values.push(if token == place { 2.0 } else { 0.0 });
                values.extend((0..3).map(|k| f32::from(u8::from(said == k))));
                values.extend((0..4).map(|_| rng.random_range(-0.5_f32..0.5)));
            }
            labels.push(class);
        }
        let x = Tensor::from_slice(&values).reshape([n as i64, 16, 8]);
        LabelledTokens::new(&x, &Tensor::from_slice(&labels), 3).unwrap()
    }

    #[test]
    fn a_class_in_one_token_is_found_by_the_query_and_not_by_the_mean() {
        let probe = AttentiveProbe::new(AttentiveConfig { heads: 2, ..Default::default() }).unwrap();
        let mut fits = Vec::new();
        let found = probe.run(&planted(0, 1200), &planted(5000, 300), &mut |done| fits.push(done)).unwrap();
        assert!(found.attentive.value > 0.95, "{found:?}");
        assert!(found.mean_pooled.value < 0.6, "{found:?}");
        assert!(found.spread < 8.0 && found.tokens == 16, "{found:?}");
        assert_eq!(fits, [1, 2, 3, 4, 5]);
        let least = found.path.iter().min_by(|a, b| a[2].total_cmp(&b[2])).unwrap();
        assert_eq!(least[..2], [found.learning_rate, found.weight_decay]);
        let names: Vec<String> = found.measurements("test").into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["attentive", "mean_pooled", "attentive_spread"]);
    }

    #[test]
    fn directions_that_vary_little_count_as_well() {
        // One number, much larger than all else and the same in every feature of a token, says nothing.
        let blurred = |from: u64, n: usize| {
            let set = planted(from, n);
            let loud: Vec<f32> = (0..n as u64 * 16)
                .map(|i| Key::new(8).with(from).with(i).rng().random_range(-1.0_f32..1.0) * 30.0)
                .collect();
            let x = &set.x + Tensor::from_slice(&loud).reshape([n as i64, 16, 1]);
            LabelledTokens::new(&x, &set.labels, 3).unwrap()
        };
        let probe = AttentiveProbe::new(AttentiveConfig { heads: 2, ..Default::default() }).unwrap();
        let found = probe.run(&blurred(0, 1200), &blurred(5000, 300), &mut |_| ()).unwrap();
        assert!(found.attentive.value > 0.9, "{found:?}");
    }

    #[test]
    fn evened_axes_are_uncorrelated_with_the_roots_of_their_deviations() {
        let x = wave(600).reshape([200, 3]).to_kind(Kind::Float) * Tensor::from_slice(&[9.0_f32, 1.0, 0.0]);
        let x = &x - x.mean_dim([0].as_slice(), true, Kind::Float);
        let turn = evened_axes(&x).unwrap();
        assert_eq!(turn.size(), [3, 2]);
        let turned = x.matmul(&turn);
        let found = turned.tr().matmul(&turned) / 200.0;
        let exact = (x.tr().matmul(&x) / 200.0).narrow(0, 0, 2).narrow(1, 0, 2);
        let variances = exact.to_kind(Kind::Double).f_linalg_eigvalsh("L").unwrap().sqrt();
        let expected = (&variances / variances.mean(Kind::Double)).diag(0);
        assert!(found.to_kind(Kind::Double).allclose(&expected, 1e-4, 1e-4, false), "{found:?}");
        assert_eq!(evened_axes(&x.zeros_like()).unwrap().size(), [3, 3]);
    }

    #[test]
    fn a_run_is_a_function_of_its_seed() {
        let (train, test) = (planted(0, 90), planted(900, 40));
        let run = |seed| {
            let config =
                AttentiveConfig { heads: 1, epochs: 2, weight_decays: vec![0.1], seed, ..Default::default() };
            AttentiveProbe::new(config).unwrap().run(&train, &test, &mut |_| ()).unwrap()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).path, run(2).path);
    }

    #[test]
    fn the_order_of_tokens_does_not_matter() {
        let (x, query) = (wave(72).reshape([3, 4, 6]), wave(6));
        let matrix = |from: i64| wave(90).narrow(0, from, 36).reshape([6, 6]);
        let see = |x: &Tensor| attend(x, &query, &matrix(0), &matrix(50), &wave(6), 3).0;
        assert!(see(&x).allclose(&see(&x.flip([1])), 1e-9, 1e-9, false));
    }

    #[test]
    fn rejects_what_it_cannot_fit() {
        let labels = Tensor::from_slice(&[0_i64, 1]);
        let x = wave(48).reshape([2, 4, 6]);
        let tokens = |x: &Tensor, labels: &Tensor| LabelledTokens::new(x, labels, 2);
        assert_eq!(tokens(&x, &(&labels + 1)).unwrap_err().to_string(), "labels = 1..=2: classes in 0..2");
        assert_eq!(
            tokens(&(&x / 0.0), &labels).unwrap_err().to_string(),
            "features is not finite: the first bad row is 0"
        );
        let error = tokens(&x.narrow(1, 0, 0), &labels).unwrap_err().to_string();
        assert_eq!(error, "tokens = [2, 0, 6]: at least one sample, token and feature");
        let set = tokens(&wave(96).reshape([4, 4, 6]), &Tensor::from_slice(&[0_i64, 1, 0, 1])).unwrap();
        let refused = |config: AttentiveConfig| match AttentiveProbe::new(config) {
            Ok(probe) => probe.run(&set, &set, &mut |_| ()).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        let base = AttentiveConfig::default;
        assert_eq!(refused(base()), "heads = 4: a divisor of the 6 features of a token");
        assert_eq!(refused(AttentiveConfig { epochs: 0, ..base() }), "epochs = 0: at least 1");
        assert_eq!(refused(AttentiveConfig { heads: -3, ..base() }), "heads = -3: at least 1");
        assert_eq!(
            refused(AttentiveConfig { weight_decays: vec![-1.0], ..base() }),
            "weight_decays = [-1.0]: numbers from 0 up"
        );
        let config = AttentiveConfig { heads: 2, ..base() };
        assert_eq!(refused(config), "train = 4 samples: so many of a class that some can be held out");
    }
}
