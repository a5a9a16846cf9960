//! Learning from one's own labels: the model labels a weak view of an unlabelled image, and a strong view is to get the same
//! label. One objective for all methods that differ in which labels they keep and how much these count: what labels is a
//! [`StepLabeler`] (of `selfsup-labels`, in the program).
//!
//! ```text
//! L_s = 1/B sum_b v_b H(y_b, p(weak(x_b)))        q_i = p(weak(u_i)), without gradient
//! L_u = 1/N sum_i w_i H(label(q_i), p(strong(u_i)))        L = L_s + lambda r(t) L_u + lambda_f L_f
//! ```
//!
//! | method | labeler | views | paper |
//! |---|---|---|---|
//! | pseudo-label | a threshold | one, which is labelled and learned from; `r` rises | Lee 2013 |
//! | FixMatch | a threshold | weak, strong | Sohn et al. 2020, equations 3 and 4, lambda = 1 |
//! | FlexMatch | a threshold a class, lower while it is learned little | weak, strong | Zhang et al. 2021 |
//! | FreeMatch | thresholds that follow the model, and fairness `L_f` | weak, strong | Wang et al. 2023, lambda_f = 0.01 |
//! | SoftMatch | all labels, weighted by a Gaussian of the confidence | weak, strong | Chen et al. 2023 |
//!
//! `v` are the weights of the given labels, all 1 in the papers; the mean over N counts rejected samples too. As in the
//! authors' code (USB) all images go through the encoder as one batch, so that BatchNorm has one statistic. With several
//! strong views the mean is over all of them. Mixing (mixup, CutMix) is among the labelled images, and among those of a
//! learned view, with their labels and weights.

use super::SemiSupervised;
use super::classifier::Classifier;
use super::curriculum::Curriculum;
use super::labeler::{Remembered, StepLabeler};
use super::mixing::{Mixing, Nearer};
use super::parts::{
    accuracy, check_finite, checked, cross_entropy, joined, mixed, mixed_targets, one_hot, tally,
};
use super::ramp::Ramp;
use selfsup_core::{
    Encoder, Error, LabelledAndUnlabelled, Logits, Loss, Objective, PseudoLabels, Result, Site, Step, Tensor,
    nn,
};
use serde::{Deserialize, Serialize};

/// What of a pseudo-label is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PseudoTarget {
    /// The class.
    #[default]
    Hard,
    /// The distribution, where the labeler gives one.
    Soft,
}

/// Settings of [`PseudoLabelling`]. The default is FixMatch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PseudoLabellingConfig {
    /// lambda, the weight of the unlabelled loss; 1 in FixMatch (section 2.3) and those after it.
    pub weight: f64,
    /// r, how that weight rises; not at all in FixMatch (section 2.2), over 0.4 of the run in USB's pseudo-label.
    pub ramp: Ramp,
    /// What of a pseudo-label is learned.
    pub target: PseudoTarget,
    /// lambda_f, the weight of the fairness where the labeler has one; 0.01 in USB.
    pub fairness: f64,
    /// The momentum of the averaged weights; 0.999 (section 2.3).
    pub momentum: f64,
    /// How images are mixed; not at all in FixMatch.
    pub mixing: Mixing,
    /// How many unlabelled samples of a batch are admitted when; absent, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Curriculum>,
}

impl Default for PseudoLabellingConfig {
    fn default() -> Self {
        PseudoLabellingConfig {
            weight: 1.0,
            ramp: Ramp::default(),
            target: PseudoTarget::Hard,
            fairness: 0.01,
            momentum: 0.999,
            mixing: Mixing::default(),
            curriculum: None,
        }
    }
}

impl PseudoLabellingConfig {
    fn check(&self) -> Result<()> {
        for (field, value) in [("weight", self.weight), ("fairness", self.fairness)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(field, value, "a finite number from 0 up"));
            }
        }
        self.ramp.check()?;
        self.mixing.check()?;
        self.curriculum.map_or(Ok(()), |curriculum| curriculum.check())
    }
}

/// A classifier that learns from few labels and from its own.
#[derive(Debug)]
pub struct PseudoLabelling<E: ?Sized> {
    classifier: Classifier<E>,
    labeler: Remembered,
    config: PseudoLabellingConfig,
}

impl<E: Encoder + ?Sized> PseudoLabelling<E> {
    /// Makes the classifier for the site's encoder; the labeler's memory becomes variables of the store.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(
        site: &Site<E>,
        classes: i64,
        labeler: Box<dyn StepLabeler>,
        config: &PseudoLabellingConfig,
    ) -> Result<Self> {
        config.check()?;
        let classifier = Classifier::new(site, classes, config.momentum)?;
        let labeler = Remembered::new(&site.path(), labeler);
        Ok(PseudoLabelling { classifier, labeler, config: config.clone() })
    }

    /// What is to be learned of the unlabelled samples, `[N, C]`, the rows times their weights.
    fn targets(&self, found: &PseudoLabels, weights: &Tensor) -> Result<Tensor> {
        let distributions = match (self.config.target, &found.soft) {
            (PseudoTarget::Hard, _) => one_hot(&found.labels, self.classifier.classes()),
            (PseudoTarget::Soft, Some(soft)) => soft.shallow_clone(),
            (PseudoTarget::Soft, None) => {
                let expected = "hard: this labeler gives classes and no distributions";
                return Err(Error::config("target", "soft", expected));
            }
        };
        Ok(distributions * weights.unsqueeze(1))
    }
}

impl<E: Encoder + ?Sized> Objective<E> for PseudoLabelling<E> {
    type Batch = LabelledAndUnlabelled;

    fn loss(&mut self, encoder: &E, batch: &LabelledAndUnlabelled, step: &Step) -> Result<Loss> {
        let (classes, config) = (self.classifier.classes(), &self.config);
        let batch = checked(batch, classes, 1..=usize::MAX)?;
        let (b, n) = (batch.labels.size()[0], batch.unlabelled);
        // The first view is labelled. Where it is the only one, it is learned from, too.
        let learned = if batch.views.len() == 1 { batch.views } else { &batch.views[1..] };
        let labelled_mix = batch.mix(&config.mixing, batch.labelled, Nearer::Any, 0, step)?;
        let mut mixes = Vec::new();
        for (view, part) in learned.iter().zip(1..) {
            mixes.push(batch.mix(&config.mixing, view, Nearer::Any, part, step)?);
        }
        let mut images = vec![mixed(labelled_mix.as_ref(), batch.labelled)?, batch.views[0].shallow_clone()];
        let separate = batch.views.len() > 1 || config.mixing.kind != super::mixing::MixingKind::None;
        if separate {
            for (view, mix) in learned.iter().zip(&mixes) {
                images.push(mixed(mix.as_ref(), view)?);
            }
        }
        let logits = self.classifier.learn(encoder, &Tensor::cat(&images, 0))?; // [B + (1 + S) N, C]
        let labelled = logits.narrow(0, 0, b); // [B, C]
        let weak = logits.narrow(0, b, n).detach(); // [N, C]
        let strong =
            if separate { logits.narrow(0, b + n, logits.size()[0] - b - n) } else { logits.narrow(0, b, n) }; // [S N, C]
        let supervised =
            cross_entropy(&labelled, &mixed_targets(labelled_mix.as_ref(), batch.targets(classes))?);
        check_finite("what the model says of a weak view", &weak)?;
        let probabilities = Logits::new(&weak)?.softmax(1.0)?;
        let confidence = probabilities.tensor().amax([1].as_slice(), false); // [N]
        let mut found = self.labeler.label(batch.samples, &[probabilities])?;
        if let Some(curriculum) = &self.config.curriculum {
            found.weights = &found.weights * curriculum.admitted(&confidence, step.progress());
        }
        let targets = self.targets(&found, &found.weights)?; // [N, C]
        let mut wanted = Vec::new();
        for mix in &mixes {
            wanted.push(mixed_targets(mix.as_ref(), targets.shallow_clone())?);
        }
        let unlabelled = cross_entropy(&strong, &Tensor::cat(&wanted, 0));
        let weight = self.config.weight * self.config.ramp.at(step.progress());
        let pseudo_labels = tally(&found.labels, &found.weights, batch.truth);
        let right = accuracy(&labelled, batch.labels);
        let mut loss = joined([(&supervised, 1.0), (&unlabelled, weight)], &right, pseudo_labels);
        if self.config.fairness > 0.0
            && let Some(fairness) = self.labeler.fairness(&strong.narrow(0, 0, n), &found)?
        {
            loss.total = &loss.total + &fairness * self.config.fairness;
            loss = loss.with("fairness", &fairness);
        }
        Ok(loss)
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.classifier.follow(step);
        Ok(())
    }
}

impl<E: Encoder + ?Sized> SemiSupervised<E> for PseudoLabelling<E> {
    fn classify(&self, images: &Tensor) -> Result<Tensor> {
        self.classifier.apply_average(images)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingKind;
    use super::super::parts::fixture::{Counting, NAMES, fill, labelled_and_unlabelled};
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, descend};
    use selfsup_core::{Device, Kind, Mode, Probabilities, PseudoLabeler, TensorExt, tch};
    use selfsup_encoders::{ConvNet, ConvNetConfig};
    use selfsup_labels::{
        FreeMatch, FreeMatchConfig, SoftMatch, SoftMatchConfig, Threshold, ThresholdConfig,
    };

    fn threshold(tau: f64) -> Box<dyn StepLabeler> {
        Box::new(Threshold::new(ThresholdConfig { tau }).unwrap())
    }

    fn setup(
        labeler: Box<dyn StepLabeler>,
        config: &PseudoLabellingConfig,
    ) -> (nn::VarStore, Pixels, PseudoLabelling<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let objective = PseudoLabelling::new(&Pixels::site(&store, &encoder), 3, labeler, config).unwrap();
        fill(&store);
        (store, encoder, objective)
    }

    fn start() -> Step<'static> {
        Step::single(0, 100, 0, 7)
    }

    /// The loss, and the gradients that the Python prints.
    fn assert_equals(store: &nn::VarStore, loss: &Loss, value: f32, gradients: [&[f32]; 4]) {
        loss.total.backward();
        assert_near(&loss.total, &[value]);
        let v = store.variables();
        assert_near(&v["encoder.weight"].grad().get(1), gradients[0]);
        assert_near(&v["encoder.bias"].grad(), gradients[1]);
        assert_near(&v["objective.head.weight"].grad().get(2), gradients[2]);
        assert_near(&v["objective.head.bias"].grad(), gradients[3]);
    }

    // import torch, torch.nn.functional as F
    // w = lambda n, s: torch.sin(torch.arange(float(n)) * 0.7 + s)
    // p = lambda i, *s: (w(torch.Size(s).numel(), i).reshape(s) * 0.5).requires_grad_()
    // ew, eb, hw, hb = p(0, 4, 4), p(1, 4), p(2, 3, 4), p(3, 3)
    // view = lambda n, shift: w(n * 4, shift).reshape(n, 4)
    // x_lb, y, x_w, x_s = view(3, 0.0), torch.tensor([2, 0, 1]), view(5, 1.0), view(5, 1.5)
    // model = lambda x: (x @ ew.T + eb) @ hw.T + hb
    // logits = model(torch.cat((x_lb, x_w, x_s))); lb, wk, st = logits[:3], logits[3:8], logits[8:]
    // probs = wk.detach().softmax(-1); conf, lab = probs.max(-1); mask = conf.ge(0.45).float()     # 1, 0, 1, 0, 1
    // l = F.cross_entropy(lb, y) + (F.cross_entropy(st, lab, reduction="none") * mask).mean(); l.backward()
    // print(l, ew.grad[1], eb.grad, hw.grad[2], hb.grad)
    #[test]
    fn fixmatch_equals_torch() {
        let (store, encoder, mut objective) = setup(threshold(0.45), &PseudoLabellingConfig::default());
        let loss = objective.loss(&encoder, &labelled_and_unlabelled(2), &start()).unwrap();
        let gradients: [&[f32]; 4] = [
            &[-0.1402484, -0.0271528, 0.0987132, 0.1781528],
            &[0.0797930, 0.0985877, 0.0710150, 0.0100429],
            &[0.0168835, 0.2177354, -0.0335875, 0.1136597],
            &[-0.1559145, -0.0765985, 0.2325130],
        ];
        assert_equals(&store, &loss, 1.8557674, gradients);
        let number = |name: &str| loss.parts.iter().find(|(n, _)| n == name).unwrap().1.scalar().unwrap();
        assert!((number("coverage") - 0.6).abs() < 1e-6);
        assert!((number("labelled_loss") - 1.423183).abs() < 1e-5);
        assert!((number("unlabelled_loss") - 0.4325844).abs() < 1e-5);
        assert_gradients(&store, &[]);
    }

    // With the names above, and one view that is labelled and learned from; USB's ramp is min(t / (0.4 T), 1):
    // l = F.cross_entropy(lb, y) + (0.25 / 0.4) * (F.cross_entropy(wk, lab, reduction="none") * mask).mean()
    #[test]
    fn pseudo_label_equals_torch() {
        let config =
            PseudoLabellingConfig { ramp: Ramp { until: 0.4, ..Ramp::default() }, ..Default::default() };
        let (store, encoder, mut objective) = setup(threshold(0.45), &config);
        let step = Step::single(25, 100, 0, 7);
        let loss = objective.loss(&encoder, &labelled_and_unlabelled(1), &step).unwrap();
        let gradients: [&[f32]; 4] = [
            &[-0.1367446, -0.0244512, 0.0993420, 0.1764130],
            &[0.1191755, 0.1041178, 0.0400919, -0.0427898],
            &[-0.0471572, 0.1742055, -0.0251585, 0.0475523],
            &[-0.0307683, -0.1204364, 0.1512048],
        ];
        assert_equals(&store, &loss, 1.6732867, gradients);
    }

    // pm = probs.mean(0); q = probs * (1 / 3 + 1e-6) / (pm + 1e-6); q = q / q.sum(-1, keepdim=True); conf = q.max(-1)[0]
    // mu = 0.9 / 3 + 0.1 * conf.mean(); var = 0.9 + 0.1 * conf.var(unbiased=True)
    // mask = torch.exp(-((torch.clamp(conf - mu, max=0.0) ** 2) / (2 * var / 4)))
    // l = F.cross_entropy(lb, y) + (F.cross_entropy(st, probs.argmax(-1), reduction="none") * mask).mean()
    #[test]
    fn softmatch_equals_torch() {
        let labeler = SoftMatch::new(3, SoftMatchConfig { momentum: 0.9, ..Default::default() }).unwrap();
        let (store, encoder, mut objective) = setup(Box::new(labeler), &PseudoLabellingConfig::default());
        let loss = objective.loss(&encoder, &labelled_and_unlabelled(2), &start()).unwrap();
        let gradients: [&[f32]; 4] = [
            &[-0.1280761, -0.0076658, 0.1163499, 0.1856444],
            &[-0.0035457, 0.0776929, 0.1223913, 0.1095272],
            &[-0.0270320, 0.3439559, -0.0070006, 0.0875474],
            &[-0.3776665, 0.0148828, 0.3627837],
        ];
        assert_equals(&store, &loss, 2.1799328, gradients);
    }

    /// FreeMatch with its fairness, as a program hands it in.
    #[derive(Debug)]
    struct Fair(FreeMatch);

    impl StepLabeler for Fair {
        fn label_step(&mut self, _samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels> {
            self.0.label(&views[0])
        }

        fn fairness(&self, learned: &Tensor, found: &PseudoLabels) -> Result<Option<Tensor>> {
            self.0.fairness(learned, found).map(Some)
        }

        fn memory(&self) -> Vec<(String, Tensor)> {
            self.0.state()
        }

        fn recall(&mut self, state: &[(String, Tensor)]) -> Result<()> {
            self.0.restore(state)
        }
    }

    fn free_match() -> Box<dyn StepLabeler> {
        let config = FreeMatchConfig { momentum: 0.9, ..Default::default() };
        Box::new(Fair(FreeMatch::new(3, config).unwrap()))
    }

    // tp, pm, h = torch.tensor(1 / 3), torch.ones(3) / 3, torch.ones(3) / 3
    // repl = lambda x: torch.where(torch.isinf(x), torch.zeros_like(x), x)
    // for t in range(5):
    //     logits = ...; probs = ...; conf, lab = probs.max(-1)                                     # as above
    //     tp = tp * 0.9 + 0.1 * conf.mean(); pm = pm * 0.9 + 0.1 * probs.mean(0)
    //     h = h * 0.9 + 0.1 * (torch.bincount(lab, minlength=3).float() / 5)
    //     mask = conf.ge(tp * (pm / pm.max())[lab]).float(); ps = st[mask.bool()].softmax(-1)
    //     hs = torch.bincount(ps.argmax(-1), minlength=3).float(); hs = hs / hs.sum()
    //     mp = pm * repl(1 / h); mq = ps.mean(0) * repl(1 / hs)
    //     ent = (mp / mp.sum() * torch.log(mq / mq.sum() + 1e-12)).sum()
    //     l = F.cross_entropy(lb, y) + (F.cross_entropy(st, lab, reduction="none") * mask).mean() + 0.01 * ent
    //     l.backward(); each of ew, eb, hw, hb -= 0.5 * its gradient
    // print(tp, pm, h, hb, ew[1])
    #[test]
    fn five_steps_of_freematch_equal_torch() {
        let (store, encoder, mut objective) = setup(free_match(), &PseudoLabellingConfig::default());
        let mut losses = Vec::new();
        for t in 0..5 {
            let step = Step::single(t, 5, 0, 7);
            let loss = objective.loss(&encoder, &labelled_and_unlabelled(2), &step).unwrap();
            loss.total.backward();
            descend(&store, &NAMES, 0.5);
            objective.after_step(&store, &step).unwrap();
            losses.push(loss.total.scalar().unwrap());
        }
        assert!((losses[0] - 1.9824151).abs() < 1e-5 && (losses[4] - 0.5219504).abs() < 1e-4, "{losses:?}");
        let v = store.variables();
        let near = |name: &str, expected: &[f64]| {
            let found = Vec::<f64>::try_from(v[name].reshape([-1])).unwrap();
            let far = found.iter().zip(expected).any(|(f, e)| (f - e).abs() > 1e-4);
            assert!(found.len() == expected.len() && !far, "{name}: {found:?}");
        };
        near("objective.labeler.global", &[0.4728]);
        near("objective.labeler.model", &[0.3923, 0.2615, 0.3462]);
        near("objective.labeler.histogram", &[0.4454, 0.1968, 0.3578]);
        near("objective.head.bias", &[0.1838, -0.3324, -0.5216]);
    }

    #[test]
    fn equals_a_loop_in_64_bits_with_weights_and_several_strong_views() {
        let config = PseudoLabellingConfig {
            weight: 0.7,
            ramp: Ramp { until: 0.5, ..Ramp::default() },
            ..Default::default()
        };
        let (store, encoder, mut objective) = setup(threshold(0.45), &config);
        let mut batch = labelled_and_unlabelled(3);
        batch.weights = Tensor::from_slice(&[0.5_f32, 2.0, 0.0]);
        let found = objective.loss(&encoder, &batch, &Step::single(10, 100, 0, 7)).unwrap();
        let v = store.variables();
        let values = |name: &str| Vec::<f64>::try_from(v[name].reshape([-1])).unwrap();
        let (ew, eb, hw, hb) = (values(NAMES[0]), values(NAMES[1]), values(NAMES[2]), values(NAMES[3]));
        let model = |x: &Tensor, i: i64| -> Vec<f64> {
            let x = Vec::<f64>::try_from(x.get(i).reshape([-1])).unwrap();
            let f: Vec<f64> =
                (0..4).map(|k| eb[k] + (0..4).map(|j| x[j] * ew[4 * k + j]).sum::<f64>()).collect();
            let z: Vec<f64> =
                (0..3).map(|c| hb[c] + (0..4).map(|j| f[j] * hw[4 * c + j]).sum::<f64>()).collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            z.iter().map(|z| z.exp() / sum).collect()
        };
        let mut expected = 0.0;
        for (i, (label, weight)) in [(2, 0.5), (0, 2.0), (1, 0.0)].into_iter().enumerate() {
            expected -= weight * model(&batch.labelled.views[0], i as i64)[label].ln() / 3.0;
        }
        for i in 0..5 {
            let weak = model(&batch.unlabelled.views[0], i);
            let best = (0..3).max_by(|&a, &b| weak[a].total_cmp(&weak[b])).unwrap();
            if weak[best] >= 0.45 {
                for view in &batch.unlabelled.views[1..] {
                    expected -= 0.7 * (0.1 / 0.5) * model(view, i)[best].ln() / 10.0;
                }
            }
        }
        assert!((found.total.scalar().unwrap() - expected).abs() < 1e-5);
    }

    #[test]
    fn mixed_images_have_the_mixed_labels_of_both() {
        for kind in [MixingKind::Mixup, MixingKind::Cutmix] {
            let config = PseudoLabellingConfig { mixing: Mixing { kind, alpha: 1.0 }, ..Default::default() };
            let (_store, encoder, mut objective) = setup(threshold(0.45), &config);
            let batch = labelled_and_unlabelled(2);
            let found = objective.loss(&encoder, &batch, &start()).unwrap().total.scalar().unwrap();
            let parts = checked(&batch, 3, 0..=9).unwrap();
            let mix = |images: &Tensor, part| {
                parts.mix(&config.mixing, images, Nearer::Any, part, &start()).unwrap().unwrap()
            };
            let logits = |images: &Tensor| objective.classifier.learn(&encoder, images).unwrap();
            let labels = Tensor::from_slice(&[2_i64, 0, 1]);
            let weak = logits(&batch.unlabelled.views[0]).softmax(1, Kind::Float);
            let (kept, guessed) = (weak.amax([1].as_slice(), false).ge(0.45), weak.argmax(1, false));
            let mut expected = 0.0;
            for (part, images, labels, kept) in [
                (0, &batch.labelled.views[0], &labels, None),
                (1, &batch.unlabelled.views[1], &guessed, Some(&kept)),
            ] {
                let mix = mix(images, part);
                let p = logits(&mix.images(images).unwrap()).log_softmax(1, Kind::Double);
                let n = images.size()[0];
                for i in 0..n {
                    for (j, share) in [(i, mix.share), (mix.partners[i as usize], 1.0 - mix.share)] {
                        let counts = kept.is_none_or(|kept| kept.int64_value(&[j]) == 1);
                        let term = -share * p.double_value(&[i, labels.int64_value(&[j])]) / n as f64;
                        expected += if counts { term } else { 0.0 };
                    }
                }
            }
            assert!((found - expected).abs() < 1e-5, "{kind:?}: {found} instead of {expected}");
        }
    }

    #[test]
    fn a_curriculum_keeps_the_surest_of_a_batch() {
        let curriculum = Some(Curriculum { start: 0.2, until: 1.0 });
        let config = PseudoLabellingConfig { curriculum, ..Default::default() };
        let (_store, encoder, mut objective) = setup(threshold(0.0), &config);
        let mut coverage = |step| {
            let step = Step::single(step, 100, 0, 7);
            let loss = objective.loss(&encoder, &labelled_and_unlabelled(2), &step).unwrap();
            loss.parts.iter().find(|(name, _)| name == "coverage").unwrap().1.scalar().unwrap()
        };
        for (step, expected) in [(0, 0.2), (25, 0.4), (60, 0.8), (99, 1.0)] {
            assert!((coverage(step) - expected).abs() < 1e-6, "{step}");
        }
    }

    #[test]
    fn true_labels_are_counted_and_change_nothing() {
        let (_store, encoder, mut objective) = setup(threshold(0.45), &PseudoLabellingConfig::default());
        let mut batch = labelled_and_unlabelled(2);
        let without = objective.loss(&encoder, &batch, &start()).unwrap();
        assert!(without.parts.iter().all(|(name, _)| name != "covered_and_right"));
        // All are predicted to be of class 0, and the first, third and fifth are kept.
        batch.unlabelled.labels = Some(Tensor::from_slice(&[0_i64, 0, 1, 2, 0]));
        let with = objective.loss(&encoder, &batch, &start()).unwrap();
        let right = with.parts.iter().find(|(name, _)| name == "covered_and_right").unwrap();
        assert!((right.1.scalar().unwrap() - 0.4).abs() < 1e-6);
        assert_eq!(with.total, without.total);
    }

    /// A small network with BatchNorm, and an objective on it.
    fn with_batch_norm() -> (nn::VarStore, ConvNet, PseudoLabelling<ConvNet>) {
        let config = ConvNetConfig {
            channels_in: 1,
            widths: vec![3, 4],
            strides: vec![1, 1],
            ..ConvNetConfig::default()
        };
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = ConvNet::new(store.root() / Site::<ConvNet>::ENCODER, &config).unwrap();
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(ConvNet::new(path, &config)?)));
        let objective =
            PseudoLabelling::new(&site, 3, Counting::boxed(0.0), &PseudoLabellingConfig::default()).unwrap();
        drop(site);
        tch::no_grad(|| {
            for (i, (_, mut x)) in store
                .variables()
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
                .into_iter()
                .enumerate()
            {
                if x.requires_grad() {
                    let n = x.numel() as i64;
                    let waves = (Tensor::arange(n, (Kind::Float, Device::Cpu)) * 0.7 + i as f64).sin();
                    x.copy_(&waves.reshape(x.size()));
                }
            }
        });
        (store, encoder, objective)
    }

    #[test]
    fn all_images_go_through_once_with_one_statistic() {
        let (store, encoder, mut objective) = with_batch_norm();
        let batch = labelled_and_unlabelled(2);
        objective.loss(&encoder, &batch, &start()).unwrap();
        let counted = &store.variables()["encoder.blocks.0.norm.num_batches_tracked"];
        assert_eq!(i64::try_from(counted).unwrap(), 1);
        let found = store.variables()["encoder.blocks.0.norm.running_mean"].copy();
        let (store, encoder, _objective) = with_batch_norm();
        let all: Vec<&Tensor> = batch.labelled.views.iter().chain(&batch.unlabelled.views).collect();
        let _ = encoder.encode(&Tensor::cat(&all, 0), Mode::Train).unwrap();
        assert_eq!(found, store.variables()["encoder.blocks.0.norm.running_mean"]);
    }

    #[test]
    fn what_the_labeler_remembers_is_in_the_store_and_a_run_goes_on_from_there() {
        let run =
            |store: &nn::VarStore, encoder: &Pixels, objective: &mut PseudoLabelling<Pixels>, from, to| {
                for t in from..to {
                    let step = Step::single(t, 6, 0, 7);
                    objective.loss(encoder, &labelled_and_unlabelled(2), &step).unwrap().total.backward();
                    descend(store, &NAMES, 0.1);
                    objective.after_step(store, &step).unwrap();
                }
            };
        let config = PseudoLabellingConfig {
            mixing: Mixing { kind: MixingKind::Mixup, alpha: 0.75 },
            ..Default::default()
        };
        let (whole, encoder, mut objective) = setup(free_match(), &config);
        run(&whole, &encoder, &mut objective, 0, 3);
        let kept: Vec<_> = whole.variables().into_iter().map(|(name, x)| (name, x.copy())).collect();
        run(&whole, &encoder, &mut objective, 3, 6);
        let (taken_up, encoder, mut objective) = setup(free_match(), &config);
        tch::no_grad(|| {
            for (name, value) in kept {
                taken_up.variables()[&name].shallow_clone().copy_(&value);
            }
        });
        run(&taken_up, &encoder, &mut objective, 3, 6);
        let (whole, taken_up) = (whole.variables(), taken_up.variables());
        assert!(whole.contains_key("objective.labeler.global"));
        for (name, x) in &whole {
            assert_eq!(*x, taken_up[name], "{name}");
        }
    }

    #[test]
    fn images_that_are_not_finite_are_named_and_make_no_label() {
        let (store, encoder, mut objective) = setup(Counting::boxed(0.0), &PseudoLabellingConfig::default());
        let mut batch = labelled_and_unlabelled(2);
        objective.loss(&encoder, &batch, &start()).unwrap();
        batch.unlabelled.views[0] = &batch.unlabelled.views[0] * f64::NAN;
        let error = objective.loss(&encoder, &batch, &start()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        assert_eq!(store.variables()["objective.labeler.count.steps"].double_value(&[0]), 1.0);
    }

    #[test]
    fn rejects_batches_and_settings_that_do_not_fit() {
        let (_store, encoder, mut objective) = setup(threshold(0.5), &PseudoLabellingConfig::default());
        let mut refused = |change: &dyn Fn(&mut LabelledAndUnlabelled)| {
            let mut batch = labelled_and_unlabelled(2);
            change(&mut batch);
            objective.loss(&encoder, &batch, &start()).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&|b| b.unlabelled.views.clear()),
            "views = 0: at least 1 of each unlabelled image"
        );
        assert_eq!(
            refused(&|b| b.labelled.labels = None),
            "labels = none: a label for each of the labelled images"
        );
        let labels = |values: &[i64]| Some(Tensor::from_slice(values));
        assert_eq!(
            refused(&|b| b.labelled.labels = labels(&[0, 1, 3])),
            "labels = 0 to 3: 0 to 2, as there are 3 classes"
        );
        assert_eq!(refused(&|b| b.labelled.labels = labels(&[0, 1])), "labels: expected [3], found [2]");
        assert_eq!(refused(&|b| b.weights = b.weights.narrow(0, 0, 2)), "weights: expected [3], found [2]");
        assert_eq!(
            refused(&|b| b.unlabelled.views[1] = b.unlabelled.views[1].narrow(0, 0, 4)),
            "unlabelled view 1: expected [5, 1, 2, 2], found [4, 1, 2, 2]"
        );
        assert_eq!(
            refused(&|b| b.unlabelled.indices = b.unlabelled.indices.narrow(0, 0, 4)),
            "samples: expected [5], found [4]"
        );
        assert_eq!(
            refused(&|b| b.labelled.views[0] = b.labelled.views[0].narrow(0, 0, 0)),
            "labelled = no image: at least one"
        );
        let (store, encoder) = Pixels::stored();
        let new = |config: PseudoLabellingConfig| {
            PseudoLabelling::new(&Pixels::site(&store, &encoder), 3, threshold(0.5), &config)
                .unwrap_err()
                .to_string()
        };
        let weight = PseudoLabellingConfig { weight: -1.0, ..Default::default() };
        assert_eq!(new(weight), "weight = -1: a finite number from 0 up");
        let soft = PseudoLabellingConfig { target: PseudoTarget::Soft, ..Default::default() };
        let (_store, encoder, mut objective) = setup(threshold(0.5), &soft);
        let error = objective.loss(&encoder, &labelled_and_unlabelled(2), &start()).unwrap_err().to_string();
        assert_eq!(error, "target = soft: hard: this labeler gives classes and no distributions");
    }
}
