//! Predicting labels that were made from the images themselves: one objective for rotation, jigsaw and relative position.
//!
//! ```text
//! L = -1/M sum_m log softmax(g([f(x_m1); ...; f(x_mK)]))_{y_m}
//! ```
//!
//! f is the encoder, which sees every tile for itself (the siamese branches of Doersch et al. 2015, figure 3, and of
//! Noroozi and Favaro 2016, figure 3), g the head on the K features one after the other. For rotation K is 1 and the loss
//! is equation 2 of Gidaris et al. 2018. All tiles pass through the encoder as one batch.
//!
//! The branches of the first two papers have a fully connected layer each before they meet; here the encoder's own
//! features meet.

use selfsup_core::{
    Answers, Encoder, Error, HeadNorm, Judgement, Kind, LabelSpace, LabelledTiles, Loss, MlpHead,
    MlpHeadConfig, Mode, Number, Objective, Result, Site, Step, Tensor, check_kind, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`PredictLabels`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PredictLabelsConfig {
    /// The sizes of the head's hidden layers; none for a linear classifier, as for rotation (Gidaris et al. 2018). Jigsaw
    /// has one of 4096 (figure 3), relative position two of 4096 (figure 3).
    pub hidden: Vec<i64>,
    /// After every hidden layer, before its ReLU. Relative position has BatchNorm without scale and shift (Doersch et al.
    /// 2015, section 3.3), jigsaw nothing.
    pub hidden_norm: HeadNorm,
}

impl Default for PredictLabelsConfig {
    fn default() -> Self {
        PredictLabelsConfig { hidden: Vec::new(), hidden_norm: HeadNorm::None }
    }
}

/// Predicts the labels of tiles.
#[derive(Debug)]
pub struct PredictLabels {
    head: MlpHead,
    space: LabelSpace,
}

impl PredictLabels {
    /// Makes the head for the site's encoder and the labels' space.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, or there are less than two classes.
    pub fn new<E: Encoder + ?Sized>(
        site: &Site<E>,
        space: &LabelSpace,
        config: &PredictLabelsConfig,
    ) -> Result<Self> {
        let classes = space.classes.len() as i64;
        if classes < 2 {
            return Err(Error::config("classes", classes, "at least 2 to tell apart"));
        }
        if space.tiles < 1 {
            return Err(Error::config("tiles", space.tiles, "at least 1 to look at"));
        }
        let head = MlpHeadConfig {
            hidden: config.hidden.clone(),
            output: classes,
            hidden_norm: config.hidden_norm,
            output_norm: HeadNorm::None,
        };
        Ok(PredictLabels {
            head: MlpHead::new(site.path() / "head", space.tiles * site.dim(), &head)?,
            space: space.clone(),
        })
    }

    /// The logits of a batch of tiles.
    ///
    /// # Shapes
    /// Tiles `[M, K, C, h, w]` and labels `[M]` to `[M, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when tiles or labels do not fit, [`Error::Config`] when a label is none of the classes.
    pub fn logits<E: Encoder + ?Sized>(
        &self,
        encoder: &E,
        batch: &LabelledTiles,
        mode: Mode,
    ) -> Result<Tensor> {
        let [m, k, ..] = check_shape("tiles", &batch.tiles, [-1, self.space.tiles, -1, -1, -1])?;
        check_shape("labels", &batch.labels, [m])?;
        check_kind("labels", &batch.labels, Kind::Int64)?;
        if m == 0 {
            return Err(Error::config("tiles", format!("{:?}", batch.tiles.size()), "at least one question"));
        }
        let (low, high) = (i64::try_from(batch.labels.min())?, i64::try_from(batch.labels.max())?);
        let classes = self.space.classes.len() as i64;
        if low < 0 || high >= classes {
            let expected = format!("classes in 0..{classes}");
            return Err(Error::config("labels", format!("{low}..={high}"), expected));
        }
        let features = encoder.encode(&batch.tiles.flatten(0, 1), mode)?; // [M * K, D]
        self.head.forward(&features.reshape([m, k * encoder.dim()]), mode) // [M, classes]
    }

    /// How many of the answers `[M]` are right, and how many would be by guessing.
    fn accuracy(&self, given: &Tensor, truth: &Tensor) -> [Number; 2] {
        let hits = given.eq_tensor(truth).to_kind(Kind::Float);
        let chance = hits.new_full([0_i64; 0], self.space.chance(), (Kind::Float, hits.device()));
        [
            Number {
                name: "pretext_accuracy".into(),
                value: hits.mean(None),
                reading: "The share of the questions that are answered rightly. The farther above pretext_chance, the \
                          more of the images the task made the encoder see.",
            },
            Number {
                name: "pretext_chance".into(),
                value: chance,
                reading: "The share that guessing reaches, as all answers are equally frequent.",
            },
        ]
    }
}

impl<E: Encoder + ?Sized> Objective<E> for PredictLabels {
    type Batch = LabelledTiles;

    fn loss(&mut self, encoder: &E, batch: &LabelledTiles, _step: &Step) -> Result<Loss> {
        let logits = self.logits(encoder, batch, Mode::Train)?; // [M, classes]
        let loss = logits.cross_entropy_for_logits(&batch.labels);
        let numbers = self.accuracy(&logits.argmax(1, false), &batch.labels);
        Ok(Loss { total: loss, parts: numbers.map(|number| (number.name, number.value)).into() })
    }

    fn judge(&self, encoder: &E, batch: &LabelledTiles) -> Result<Judgement> {
        let given = self.logits(encoder, batch, Mode::Eval)?.argmax(1, false); // [M]
        let answers = Answers {
            name: "answers".into(),
            space: self.space.clone(),
            tiles: batch.tiles.shallow_clone(),
            truth: batch.labels.shallow_clone(),
            given,
        };
        let numbers = self.accuracy(&answers.given, &answers.truth).into();
        Ok(Judgement { numbers, answers: vec![answers], ..Judgement::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use selfsup_core::layers::{Bias, Linear};
    use selfsup_core::{Device, TensorExt, nn, tch};

    /// A linear layer on the pixels, then tanh.
    #[derive(Debug)]
    struct Squashed(Linear);

    impl Encoder for Squashed {
        fn dim(&self) -> i64 {
            3
        }
        fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
            check_shape("images", x, [-1, 1, 2, 2])?;
            Ok(self.0.forward(&x.flatten(1, -1)).tanh())
        }
    }

    fn space(tiles: i64, classes: usize) -> LabelSpace {
        LabelSpace { question: "Which?", tiles, classes: (0..classes).map(|c| c.to_string()).collect() }
    }

    fn setup(config: &PredictLabelsConfig) -> (nn::VarStore, Squashed, PredictLabels) {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Squashed(Linear::new(store.root() / "encoder", 4, 3, Bias::Yes));
        let twin = |path: nn::Path| Ok(Box::new(Squashed(Linear::new(path, 4, 3, Bias::Yes))));
        let site = Site::new(&store, &encoder, 6, twin);
        let objective = PredictLabels::new(&site, &space(2, 4), config).unwrap();
        drop(site);
        // The values of the Python below.
        tch::no_grad(|| {
            for (i, (_, mut x)) in store
                .variables()
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
                .into_iter()
                .enumerate()
            {
                let size = x.size();
                x.copy_(&((waves(x.numel() as i64) + i as f64).cos() * 0.5).reshape(&size));
            }
        });
        (store, encoder, objective)
    }

    fn waves(n: i64) -> Tensor {
        Tensor::arange(n, (Kind::Float, Device::Cpu)) * 0.7
    }

    fn batch() -> LabelledTiles {
        LabelledTiles {
            tiles: waves(5 * 2 * 4).sin().reshape([5, 2, 1, 2, 2]),
            labels: Tensor::from_slice(&[3_i64, 0, 2, 1, 3]),
        }
    }

    fn linear() -> PredictLabelsConfig {
        PredictLabelsConfig::default()
    }

    fn mlp() -> PredictLabelsConfig {
        PredictLabelsConfig { hidden: vec![6], hidden_norm: HeadNorm::None }
    }

    #[test]
    fn equals_a_loop_over_the_formula() {
        let (store, encoder, mut objective) = setup(&linear());
        let batch = batch();
        let found = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap();
        let v = store.variables();
        let (weight, bias) = (&v["objective.head.0.weight"], &v["objective.head.0.bias"]);
        let (mut expected, mut hits) = (0.0, 0.0);
        for m in 0..5 {
            let mut joined = Vec::new();
            for k in 0..2 {
                let f = encoder.encode(&batch.tiles.get(m).get(k).unsqueeze(0), Mode::Eval).unwrap();
                joined.extend(Vec::<f64>::try_from(f.flatten(0, -1)).unwrap());
            }
            let logit = |class: i64| -> f64 {
                let products =
                    joined.iter().enumerate().map(|(d, f)| f * weight.double_value(&[class, d as i64]));
                products.sum::<f64>() + bias.double_value(&[class])
            };
            let label = batch.labels.int64_value(&[m]);
            expected += ((0..4).map(|c| logit(c).exp()).sum::<f64>().ln() - logit(label)) / 5.0;
            hits += f64::from((0..4).all(|c| c == label || logit(c) < logit(label))) / 5.0;
        }
        assert!((found.total.scalar().unwrap() - expected).abs() < 1e-5);
        assert_eq!(
            (found.parts[0].0.as_ref(), found.parts[1].0.as_ref()),
            ("pretext_accuracy", "pretext_chance")
        );
        assert!((found.parts[0].1.scalar().unwrap() - hits).abs() < 1e-6);
        assert_eq!(found.parts[1].1.scalar().unwrap(), 0.25);
    }

    #[test]
    fn values_and_gradients_equal_torch() {
        // import torch; import torch.nn.functional as F
        // w = lambda n: torch.arange(float(n)) * 0.7
        // p = lambda i, *s: ((w(torch.Size(s).numel()) + i).cos() * 0.5).reshape(s).requires_grad_()
        // be, we, b0, w0, b2, w2 = p(0,3), p(1,3,4), p(2,6), p(3,6,6), p(4,4), p(5,4,6)
        // x = w(40).sin().reshape(10, 4); y = torch.tensor([3, 0, 2, 1, 3])
        // h = torch.tanh(x @ we.T + be).reshape(5, 6)
        // l = F.cross_entropy(torch.relu(h @ w0.T + b0) @ w2.T + b2, y); l.backward()
        // print(l, we.grad[1], be.grad, w0.grad[0], w2.grad[3], b2.grad)
        let gradients: [&[f64]; 5] = [
            &[0.0222625, 0.0438613, 0.0448315, 0.0247167],
            &[0.0330589, 0.0403574, 0.04803],
            &[0.0080066, -0.0175354, 0.0115393, -0.0177764, 0.0092974, -0.0151493],
            &[0.0019266, 0.0, 0.0, 0.0, -0.0171539, -0.0857519],
            &[-0.0611155, 0.0752117, 0.073055, -0.0871511],
        ];
        let (store, encoder, mut objective) = setup(&mlp());
        let found = objective.loss(&encoder, &batch(), &Step::single(0, 1, 0, 0)).unwrap().total;
        found.backward();
        assert!((found.scalar().unwrap() - 1.3886416).abs() < 1e-5);
        let v = store.variables();
        let near = |x: Tensor, expected: &[f64]| {
            let x = Vec::<f64>::try_from(x).unwrap();
            assert!(
                x.len() == expected.len() && x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-5),
                "{x:?}"
            );
        };
        near(v["encoder.weight"].grad().get(1), gradients[0]);
        near(v["encoder.bias"].grad(), gradients[1]);
        near(v["objective.head.0.weight"].grad().get(0), gradients[2]);
        near(v["objective.head.2.weight"].grad().get(3), gradients[3]);
        near(v["objective.head.2.bias"].grad(), gradients[4]);
    }

    #[test]
    fn without_knowledge_the_loss_is_the_logarithm_of_the_number_of_classes() {
        let (store, encoder, mut objective) = setup(&linear());
        tch::no_grad(|| {
            for name in ["objective.head.0.weight", "objective.head.0.bias"] {
                let _ = store.variables()[name].shallow_clone().zero_();
            }
        });
        let loss = objective.loss(&encoder, &batch(), &Step::single(0, 1, 0, 0)).unwrap().total;
        assert!((loss.scalar().unwrap() - 4_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_order_of_questions_does_not_matter_and_that_of_tiles_does() {
        let (_store, encoder, mut objective) = setup(&mlp());
        let mut loss = |tiles: Tensor, labels: Tensor| {
            let batch = LabelledTiles { tiles, labels };
            objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap().total.scalar().unwrap()
        };
        let LabelledTiles { tiles, labels } = batch();
        let straight = loss(tiles.shallow_clone(), labels.shallow_clone());
        assert!((straight - loss(tiles.flip([0]), labels.flip([0]))).abs() < 1e-6);
        assert!((straight - loss(tiles.flip([1]), labels)).abs() > 1e-3);
    }

    #[test]
    fn gradients_reach_every_parameter_and_none_flows_from_the_numbers_of_the_log() {
        let config = PredictLabelsConfig { hidden: vec![6], hidden_norm: HeadNorm::BatchNorm };
        let (store, encoder, mut objective) = setup(&config);
        let loss = objective.loss(&encoder, &batch(), &Step::single(0, 1, 0, 0)).unwrap();
        assert!(loss.parts.iter().all(|(_, x)| !x.requires_grad()));
        loss.total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn judging_uses_recorded_statistics_and_changes_none() {
        let config = PredictLabelsConfig { hidden: vec![6], hidden_norm: HeadNorm::BatchNorm };
        let (store, encoder, objective) = setup(&config);
        let before = store.variables()["objective.head.1.running_mean"].copy();
        let one =
            LabelledTiles { tiles: batch().tiles.narrow(0, 0, 1), labels: Tensor::from_slice(&[3_i64]) };
        let found = objective.judge(&encoder, &one).unwrap();
        assert_eq!(found.numbers[0].name, "pretext_accuracy");
        assert_eq!(store.variables()["objective.head.1.running_mean"], before);
    }

    #[test]
    fn answers_are_those_of_a_head_that_is_planted() {
        // Features are tanh of the first three pixels. Of the second tile's, the head takes the largest: its place is the
        // answer, and the fourth class is never given.
        let (store, encoder, objective) = setup(&linear());
        let v = store.variables();
        tch::no_grad(|| {
            for x in v.values() {
                let _ = x.shallow_clone().zero_();
            }
            let options = (Kind::Float, Device::Cpu);
            v["encoder.weight"].narrow(1, 0, 3).copy_(&Tensor::eye(3, options));
            v["objective.head.0.weight"].narrow(0, 0, 3).narrow(1, 3, 3).copy_(&Tensor::eye(3, options));
            let _ = v["objective.head.0.bias"].get(3).fill_(-9.0);
        });
        let tiles = Tensor::zeros([3, 2, 1, 2, 2], (Kind::Float, Device::Cpu));
        for (question, place) in [2, 0, 1].into_iter().enumerate() {
            let _ = tiles.get(question as i64).get(1).view(4).get(place).fill_(1.0);
            // A first tile that says something else, and a pixel that nobody looks at.
            let _ = tiles.get(question as i64).get(0).view(4).get((place + 1) % 3).fill_(2.0);
            let _ = tiles.get(question as i64).get(1).view(4).get(3).fill_(5.0);
        }
        let labels = Tensor::from_slice(&[2_i64, 0, 3]);
        let batch = LabelledTiles { tiles, labels };
        let found = objective.judge(&encoder, &batch).unwrap();
        let [answers] = found.answers.as_slice() else { panic!("{found:?}") };
        assert_eq!(Vec::<i64>::try_from(&answers.given).unwrap(), [2, 0, 1]);
        assert_eq!((&answers.truth, &answers.tiles), (&batch.labels, &batch.tiles));
        assert_eq!(answers.space, space(2, 4));
        let numbers = found.numbers.iter().map(|number| number.value.scalar().unwrap()).collect::<Vec<_>>();
        assert!((numbers[0] - 2.0 / 3.0).abs() < 1e-6 && numbers[1] == 0.25, "{numbers:?}");
        assert!(found.prototypes.is_empty());
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (store, encoder, mut objective) = setup(&linear());
        let mut refused = |tiles: Tensor, labels: Tensor| {
            let batch = LabelledTiles { tiles, labels };
            objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        let LabelledTiles { tiles, labels } = batch();
        assert_eq!(
            refused(tiles.narrow(1, 0, 1), labels.shallow_clone()),
            "tiles: expected [_, 2, _, _, _], found [5, 1, 1, 2, 2]"
        );
        assert_eq!(refused(tiles.shallow_clone(), labels.narrow(0, 0, 4)), "labels: expected [5], found [4]");
        assert_eq!(refused(tiles.shallow_clone(), &labels + 1), "labels = 1..=4: classes in 0..4");
        assert_eq!(
            refused(tiles.shallow_clone(), labels.to_kind(Kind::Float)),
            "labels: expected elements of kind Int64, found Float"
        );
        assert_eq!(
            refused(tiles.narrow(0, 0, 0), labels.narrow(0, 0, 0)),
            "tiles = [0, 2, 1, 2, 2]: at least one question"
        );
        let twin = |path: nn::Path| Ok(Box::new(Squashed(Linear::new(path, 4, 3, Bias::Yes))));
        let site = Site::new(&store, &encoder, 6, twin);
        let error = PredictLabels::new(&site, &space(1, 1), &linear()).unwrap_err().to_string();
        assert_eq!(error, "classes = 1: at least 2 to tell apart");
        let error = PredictLabels::new(&site, &space(0, 2), &linear()).unwrap_err().to_string();
        assert_eq!(error, "tiles = 0: at least 1 to look at");
        let config = PredictLabelsConfig { hidden: vec![0], ..linear() };
        let error = PredictLabels::new(&site, &space(1, 2), &config).unwrap_err().to_string();
        assert!(error.starts_with("head sizes = [3, 0, 2]"), "{error}");
    }
}
