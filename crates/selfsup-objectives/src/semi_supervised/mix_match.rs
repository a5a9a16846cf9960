//! MixMatch: labels are guessed from several views of an unlabelled image, and labelled and unlabelled images are mixed with
//! each other, with their labels.
//!
//! Berthelot et al. 2019, *MixMatch: A Holistic Approach to Semi-Supervised Learning*, algorithm 1 and equations 2 to 5. With
//! B labelled images, K views of N unlabelled ones, and W both, shuffled:
//!
//! ```text
//! q_i = sharpen(1/K sum_k p(view_k(u_i)), T)        lambda ~ Beta(alpha, alpha)        lambda' = max(lambda, 1 - lambda)
//! X' = mixup(X, W_1..B)        U' = mixup(U, W_B+1..)        each nearer to its first image
//! L = 1/B sum_X' H(t, p(x)) + lambda_u r(t) 1/(C K N) sum_U' || t - p(x) ||^2
//! ```
//! What guesses and sharpens is the labeler (`MixMatch` of `selfsup-labels`). Its forward pass is without gradient, in
//! training mode, and leaves BatchNorm's statistics as they were (as in USB); the mixed images then go through the encoder as
//! one batch. One lambda is drawn for a batch, as in USB; the authors draw one for every pair. With `mixing.kind = "cutmix"` a
//! rectangle takes the place of the mean.
//!
//! All weights are 1 in the paper. Of two images with weights w that are mixed, each teaches by its own: a target is the
//! mean by `lambda w`, and counts `sum lambda w` in either loss.

use super::SemiSupervised;
use super::classifier::Classifier;
use super::curriculum::Curriculum;
use super::labeler::{Remembered, StepLabeler};
use super::mixing::{Mixing, MixingKind, Nearer};
use super::parts::{
    accuracy, check_finite, checked, cross_entropy, joined, mixed, mixed_by_weight, one_hot, tally,
};
use super::ramp::{Ramp, RampShape};
use selfsup_core::{
    Encoder, Error, Kind, LabelledAndUnlabelled, Logits, Loss, Objective, Result, Site, Step, Tensor, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`MixMatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixMatchTrainingConfig {
    /// lambda_u, the weight of the unlabelled loss; 75 for CIFAR-10 (section 4.1).
    pub weight: f64,
    /// How that weight rises; linearly over the first 16,000 of about a million steps in the paper, over 0.4 of the run in
    /// USB's short ones.
    pub ramp: Ramp,
    /// The momentum of the averaged weights; 0.999 (section 4.1).
    pub momentum: f64,
    /// How images are mixed; as a mean with an alpha of 0.75 (section 4.1).
    pub mixing: Mixing,
    /// How many unlabelled samples of a batch are admitted when; absent, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Curriculum>,
}

impl Default for MixMatchTrainingConfig {
    fn default() -> Self {
        MixMatchTrainingConfig {
            weight: 75.0,
            ramp: Ramp { until: 0.4, shape: RampShape::Linear },
            momentum: 0.999,
            mixing: Mixing { kind: MixingKind::Mixup, alpha: 0.75 },
            curriculum: None,
        }
    }
}

/// A classifier that learns from mixtures of labelled and unlabelled images.
#[derive(Debug)]
pub struct MixMatch<E: ?Sized> {
    classifier: Classifier<E>,
    labeler: Remembered,
    /// The encoder's buffers, which guessing leaves as they were.
    buffers: Vec<Tensor>,
    config: MixMatchTrainingConfig,
}

impl<E: Encoder + ?Sized> MixMatch<E> {
    /// Makes the classifier for the site's encoder; the labeler's memory becomes variables of the store.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(
        site: &Site<E>,
        classes: i64,
        labeler: Box<dyn StepLabeler>,
        config: &MixMatchTrainingConfig,
    ) -> Result<Self> {
        if !(config.weight >= 0.0 && config.weight.is_finite()) {
            return Err(Error::config("weight", config.weight, "a finite number from 0 up"));
        }
        config.ramp.check()?;
        config.mixing.check()?;
        config.curriculum.map_or(Ok(()), |curriculum| curriculum.check())?;
        let below = format!("{}.", Site::<E>::ENCODER);
        let variables = site.store.variables().into_iter();
        let buffers = variables
            .filter(|(name, x)| name.starts_with(&below) && !x.requires_grad())
            .map(|(_, x)| x)
            .collect();
        let classifier = Classifier::new(site, classes, config.momentum)?;
        let labeler = Remembered::new(&site.path(), labeler);
        Ok(MixMatch { classifier, labeler, buffers, config: config.clone() })
    }

    /// The logits of views, `[K N, C]`, without gradient and without a trace in the encoder.
    fn guess(&self, encoder: &E, views: &[Tensor]) -> Result<Tensor> {
        tch::no_grad(|| {
            let before: Vec<Tensor> = self.buffers.iter().map(Tensor::copy).collect();
            let logits = self.classifier.learn(encoder, &Tensor::cat(views, 0));
            for (buffer, before) in self.buffers.iter().zip(&before) {
                buffer.shallow_clone().copy_(before);
            }
            logits
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for MixMatch<E> {
    type Batch = LabelledAndUnlabelled;

    fn loss(&mut self, encoder: &E, batch: &LabelledAndUnlabelled, step: &Step) -> Result<Loss> {
        let classes = self.classifier.classes();
        let batch = checked(batch, classes, 1..=usize::MAX)?;
        let (b, k) = (batch.labels.size()[0], batch.views.len() as i64);
        let guesses = self.guess(encoder, batch.views)?; // [K N, C]
        check_finite("a guess", &guesses)?;
        let mut probabilities = Vec::new();
        for guess in guesses.chunk(k, 0) {
            probabilities.push(Logits::new(&guess)?.softmax(1.0)?); // [N, C]
        }
        let mut found = self.labeler.label(batch.samples, &probabilities)?;
        let soft = match &found.soft {
            Some(soft) => soft.shallow_clone(),
            None => one_hot(&found.labels, classes),
        }; // [N, C]
        if let Some(curriculum) = &self.config.curriculum {
            let admitted = curriculum.admitted(&soft.amax([1].as_slice(), false), step.progress());
            found.weights = &found.weights * admitted;
        }

        let all: Vec<&Tensor> = std::iter::once(batch.labelled).chain(batch.views).collect();
        let images = Tensor::cat(&all, 0); // [B + K N, C, H, W]
        let targets = Tensor::cat(&[one_hot(batch.labels, classes), soft.repeat([k, 1])], 0); // [B + K N, C]
        let weights = Tensor::cat(&[batch.weights.shallow_clone(), found.weights.repeat([k])], 0); // [B + K N]
        let mix = batch.mix(&self.config.mixing, &images, Nearer::First, 0, step)?;
        let logits = self.classifier.learn(encoder, &mixed(mix.as_ref(), &images)?)?; // [B + K N, C]
        let (targets, weights) = mixed_by_weight(mix.as_ref(), &targets, &weights)?;
        let rest = logits.size()[0] - b;
        let part = |x: &Tensor| (x.narrow(0, 0, b), x.narrow(0, b, rest));
        let ((labelled, learned), (wanted, guessed), (given, counted)) =
            (part(&logits), part(&targets), part(&weights));
        let supervised = cross_entropy(&labelled, &(wanted * given.unsqueeze(1)));
        let distance = (learned.softmax(1, Kind::Float) - guessed).square(); // [K N, C]
        let unlabelled = (distance.mean_dim([1].as_slice(), false, Kind::Float) * counted).mean(Kind::Float);
        let weight = self.config.weight * self.config.ramp.at(step.progress());
        let pseudo_labels = tally(&found.labels, &found.weights, batch.truth);
        let right = accuracy(&labelled, batch.labels);
        Ok(joined([(&supervised, 1.0), (&unlabelled, weight)], &right, pseudo_labels))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.classifier.follow(step);
        Ok(())
    }
}

impl<E: Encoder + ?Sized> SemiSupervised<E> for MixMatch<E> {
    fn classify(&self, images: &Tensor) -> Result<Tensor> {
        self.classifier.apply_average(images)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::fixture::{Counting, NAMES, fill, labelled_and_unlabelled};
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, descend};
    use selfsup_core::{Device, TensorExt};
    use selfsup_encoders::{ConvNet, ConvNetConfig};

    fn config() -> MixMatchTrainingConfig {
        MixMatchTrainingConfig {
            ramp: Ramp { until: 0.5, shape: RampShape::Linear },
            ..MixMatchTrainingConfig::default()
        }
    }

    fn setup(config: &MixMatchTrainingConfig) -> (nn::VarStore, Pixels, MixMatch<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let objective = MixMatch::new(&site, 3, Counting::boxed(0.0), config).unwrap();
        drop(site);
        fill(&store);
        (store, encoder, objective)
    }

    /// The loss by a loop over all pairs, for a labeler that averages the views and keeps all.
    fn by_a_loop(
        encoder: &Pixels,
        objective: &MixMatch<Pixels>,
        config: &MixMatchTrainingConfig,
        batch: &LabelledAndUnlabelled,
        step: &Step,
    ) -> f64 {
        let views = &batch.unlabelled.views;
        let all: Vec<&Tensor> = batch.labelled.views.iter().chain(views).collect();
        let images = Tensor::cat(&all, 0); // [13, ...]
        let p = |x: &Tensor| objective.classifier.learn(encoder, x).unwrap().softmax(1, Kind::Double);
        let guesses = (p(&views[0]) + p(&views[1])) / 2.0;
        let target = |i: i64, c: i64| match i {
            0..3 => f64::from(u8::from([2, 0, 1][i as usize] == c)),
            _ => guesses.double_value(&[(i - 3) % 5, c]),
        };
        let admitted = config
            .curriculum
            .map(|curriculum| curriculum.admitted(&guesses.amax([1].as_slice(), false), step.progress()));
        let weight = |i: i64| match (i, &admitted) {
            (0..3, _) => batch.weights.double_value(&[i]),
            (_, Some(admitted)) => admitted.double_value(&[(i - 3) % 5]),
            _ => 1.0,
        };
        let checked = checked(batch, 3, 2..=2).unwrap();
        let mix = checked.mix(&config.mixing, &images, Nearer::First, 0, step).unwrap().unwrap();
        let predicted = p(&mix.images(&images).unwrap());
        let (mut supervised, mut unlabelled) = (0.0, 0.0);
        for i in 0..13 {
            let j = mix.partners[i as usize];
            let (first, second) = (mix.share * weight(i), (1.0 - mix.share) * weight(j));
            for c in (0..3).filter(|_| first + second > 0.0) {
                let (t, p) = (first * target(i, c) + second * target(j, c), predicted.double_value(&[i, c]));
                if i < 3 {
                    supervised -= t * p.ln() / 3.0;
                } else {
                    let distance = (t / (first + second) - p).powi(2);
                    unlabelled += (first + second) * distance / (3.0 * 10.0);
                }
            }
        }
        supervised + config.weight * config.ramp.at(step.progress()) * unlabelled
    }

    #[test]
    fn equals_a_loop_over_the_mixed_pairs() {
        for kind in [MixingKind::Mixup, MixingKind::Cutmix] {
            for curriculum in [None, Some(Curriculum { start: 0.4, until: 1.0 })] {
                let config =
                    MixMatchTrainingConfig { mixing: Mixing { kind, alpha: 0.75 }, curriculum, ..config() };
                let (_store, encoder, mut objective) = setup(&config);
                let mut batch = labelled_and_unlabelled(2);
                for (step, weights) in [(0, [1.0_f32; 3]), (10, [1.0; 3]), (80, [0.3, 0.0, 2.0])] {
                    let step = Step::single(step, 100, 0, 3);
                    batch.weights = Tensor::from_slice(&weights);
                    let expected = by_a_loop(&encoder, &objective, &config, &batch, &step);
                    let loss = objective.loss(&encoder, &batch, &step).unwrap();
                    let found = loss.total.scalar().unwrap();
                    assert!((found - expected).abs() < 1e-5, "{kind:?}: {found} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn a_label_of_weight_0_teaches_nothing() {
        let (_store, encoder, mut objective) = setup(&config());
        let step = Step::single(60, 100, 0, 3);
        let mut loss = |label: i64, weight: f32| {
            let mut batch = labelled_and_unlabelled(2);
            batch.weights = Tensor::from_slice(&[1.0, weight, 1.0]);
            batch.labelled.labels = Some(Tensor::from_slice(&[2, label, 1]));
            objective.loss(&encoder, &batch, &step).unwrap().total
        };
        assert_eq!(loss(0, 0.0), loss(2, 0.0));
        assert_ne!(loss(0, 0.5), loss(2, 0.5));
    }

    #[test]
    fn a_mixed_sample_is_nearer_to_its_first_image() {
        let (batch, mixing) = (labelled_and_unlabelled(2), config().mixing);
        let images = Tensor::zeros([13, 1, 2, 2], (Kind::Float, Device::Cpu));
        for step in 0..50 {
            let step = Step::single(step, 100, 0, 3);
            let checked = checked(&batch, 3, 2..=2).unwrap();
            let mix = checked.mix(&mixing, &images, Nearer::First, 0, &step).unwrap().unwrap();
            assert!((0.5..=1.0).contains(&mix.share));
        }
    }

    #[test]
    fn guessing_leaves_no_trace_and_the_mixed_images_are_one_batch() {
        let shape = ConvNetConfig {
            channels_in: 1,
            widths: vec![3, 4],
            strides: vec![1, 1],
            ..ConvNetConfig::default()
        };
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = ConvNet::new(store.root() / Site::<ConvNet>::ENCODER, &shape).unwrap();
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(ConvNet::new(path, &shape)?)));
        let mut objective = MixMatch::new(&site, 3, Counting::boxed(0.0), &config()).unwrap();
        drop(site);
        let batch = labelled_and_unlabelled(2);
        let buffer = |name: &str| store.variables()[&format!("encoder.blocks.1.norm.{name}")].copy();
        let before = buffer("running_mean");
        let _ = objective.guess(&encoder, &batch.unlabelled.views).unwrap();
        assert_eq!(
            (buffer("running_mean"), i64::try_from(&buffer("num_batches_tracked")).unwrap()),
            (before, 0)
        );
        objective.loss(&encoder, &batch, &Step::single(60, 100, 0, 3)).unwrap().total.backward();
        assert_eq!(i64::try_from(&buffer("num_batches_tracked")).unwrap(), 1);
    }

    #[test]
    fn gradients_reach_what_learns_and_a_run_goes_on_from_the_store() {
        let (whole, encoder, mut objective) = setup(&config());
        let run = |store: &nn::VarStore, encoder: &Pixels, objective: &mut MixMatch<Pixels>, from, to| {
            for t in from..to {
                let step = Step::single(t, 6, 0, 7);
                objective.loss(encoder, &labelled_and_unlabelled(2), &step).unwrap().total.backward();
                assert_gradients(store, &[]);
                descend(store, &NAMES, 0.1);
                objective.after_step(store, &step).unwrap();
            }
        };
        run(&whole, &encoder, &mut objective, 0, 3);
        let kept: Vec<_> = whole.variables().into_iter().map(|(name, x)| (name, x.copy())).collect();
        run(&whole, &encoder, &mut objective, 3, 6);
        let (taken_up, encoder, mut objective) = setup(&config());
        tch::no_grad(|| {
            for (name, value) in kept {
                taken_up.variables()[&name].shallow_clone().copy_(&value);
            }
        });
        run(&taken_up, &encoder, &mut objective, 3, 6);
        assert_eq!(whole.variables()["objective.labeler.count.steps"].double_value(&[0]), 6.0);
        for (name, x) in whole.variables() {
            assert_eq!(x, taken_up.variables()[&name], "{name}");
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup(&config());
        let mut batch = labelled_and_unlabelled(0);
        let error = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string();
        assert_eq!(error, "views = 0: at least 1 of each unlabelled image");
        batch = labelled_and_unlabelled(2);
        batch.unlabelled.views[1] = &batch.unlabelled.views[1] * f64::NAN;
        let error = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        let (store, encoder) = Pixels::stored();
        let wrong =
            MixMatchTrainingConfig { mixing: Mixing { kind: MixingKind::Mixup, alpha: -1.0 }, ..config() };
        let site = Pixels::site(&store, &encoder);
        let error = MixMatch::new(&site, 3, Counting::boxed(0.0), &wrong).unwrap_err().to_string();
        assert_eq!(error, "mixing.alpha = -1: above 0 and finite");
    }
}
