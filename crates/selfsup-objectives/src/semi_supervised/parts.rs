//! What the objectives of the family share: a checked batch, and the losses.

use super::mixing::{Mix, Mixing, Nearer};
use selfsup_core::{
    Device, Error, Key, Kind, LabelledAndUnlabelled, Loss, Result, Step, Tensor, check_kind, check_shape,
};

/// A batch whose parts fit each other.
pub(crate) struct Checked<'a> {
    /// `[B, C, H, W]`
    pub labelled: &'a Tensor,
    /// `[B]` Int64
    pub labels: &'a Tensor,
    /// `[B]` Float
    pub weights: &'a Tensor,
    /// `[B]` Int64
    pub labelled_samples: &'a Tensor,
    /// `[U, C, H, W]` each
    pub views: &'a [Tensor],
    /// `[U]` Int64
    pub samples: &'a Tensor,
    /// The true labels of the unlabelled images, for counting, `[U]` Int64.
    pub truth: Option<&'a Tensor>,
    /// The rows of the unlabelled images.
    pub unlabelled: i64,
}

/// Checks a batch for a classifier of so many classes; `views` is how many the method asks for of each unlabelled image.
///
/// # Errors
/// With what does not fit.
pub(crate) fn checked(
    batch: &LabelledAndUnlabelled,
    classes: i64,
    views: std::ops::RangeInclusive<usize>,
) -> Result<Checked<'_>> {
    let labelled = batch.labelled.first("the labelled images")?;
    let [n, c, h, w] = check_shape("labelled", labelled, [-1, -1, -1, -1])?;
    if n == 0 {
        return Err(Error::config("labelled", "no image", "at least one"));
    }
    let Some(labels) = &batch.labelled.labels else {
        return Err(Error::config("labels", "none", "a label for each of the labelled images"));
    };
    check_shape("labels", labels, [n])?;
    check_kind("labels", labels, Kind::Int64)?;
    check_shape("weights", &batch.weights, [n])?;
    check_shape("labelled samples", &batch.labelled.indices, [n])?;
    let (low, high) = (i64::try_from(labels.min())?, i64::try_from(labels.max())?);
    if low < 0 || high >= classes {
        let expected = format!("0 to {}, as there are {classes} classes", classes - 1);
        return Err(Error::config("labels", format!("{low} to {high}"), expected));
    }
    let found = batch.unlabelled.views.len();
    if !views.contains(&found) {
        let (least, most) = (views.start(), views.end());
        let expected = match (least, most) {
            (least, &usize::MAX) => format!("at least {least} of each unlabelled image"),
            (least, most) if least == most => format!("{least} of each unlabelled image"),
            (least, most) => format!("{least} to {most} of each unlabelled image"),
        };
        return Err(Error::config("views", found, expected));
    }
    let mut unlabelled = 0;
    if let Some(first) = batch.unlabelled.views.first() {
        unlabelled = first.size().first().copied().unwrap_or(0);
        for (i, view) in batch.unlabelled.views.iter().enumerate() {
            check_shape(&format!("unlabelled view {i}"), view, [unlabelled, c, h, w])?;
        }
        if unlabelled == 0 {
            return Err(Error::config("unlabelled", "no image", "at least one"));
        }
        check_shape("samples", &batch.unlabelled.indices, [unlabelled])?;
        if let Some(truth) = &batch.unlabelled.labels {
            check_shape("true labels", truth, [unlabelled])?;
        }
    }
    Ok(Checked {
        labelled,
        labels,
        weights: &batch.weights,
        labelled_samples: &batch.labelled.indices,
        views: &batch.unlabelled.views,
        samples: &batch.unlabelled.indices,
        truth: batch.unlabelled.labels.as_ref(),
        unlabelled,
    })
}

impl Checked<'_> {
    /// The labels as distributions, each times its weight, `[B, classes]`.
    pub(crate) fn targets(&self, classes: i64) -> Tensor {
        one_hot(self.labels, classes) * self.weights.unsqueeze(1)
    }

    /// How this step's images are mixed, `part` by `part`: a function of the run's seed and the step. The samples, with
    /// labels and without, tell the batches of an accumulated step apart.
    pub(crate) fn mix(
        &self,
        mixing: &Mixing,
        images: &Tensor,
        nearer: Nearer,
        part: u64,
        step: &Step,
    ) -> Result<Option<Mix>> {
        /// Tells these draws from others of the same seed.
        const MIXING: u64 = 0x006d_6978;
        let mut key = Key::new(step.seed).with(MIXING).with(step.step);
        for samples in [self.labelled_samples, self.samples] {
            let samples = Vec::<i64>::try_from(samples.to_kind(Kind::Int64))?;
            key = samples.into_iter().fold(key, |key, sample| key.with(sample as u64));
        }
        let key = key.with(part);
        let size = images.size();
        let side = |i: usize| size.get(i).copied().unwrap_or(0);
        mixing.draw(side(0), [side(2), side(3)], nearer, &mut key.rng())
    }
}

/// Classes `[N]` as distributions `[N, classes]`.
pub(crate) fn one_hot(labels: &Tensor, classes: i64) -> Tensor {
    labels.one_hot(classes).to_kind(Kind::Float)
}

/// `mean_i -sum_c t_ic log softmax(z_i)_c` of logits and of targets whose rows sum to their weights, `[N, C]` each.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    let products = targets * logits.log_softmax(1, Kind::Float);
    -products.sum_dim_intlist([1].as_slice(), false, Kind::Float).mean(Kind::Float)
}

/// Images and targets as they are learned from: mixed, where they are to be.
pub(crate) fn mixed(mix: Option<&Mix>, images: &Tensor) -> Result<Tensor> {
    match mix {
        Some(mix) => mix.images(images),
        None => Ok(images.shallow_clone()),
    }
}

/// The same for targets.
pub(crate) fn mixed_targets(mix: Option<&Mix>, targets: Tensor) -> Result<Tensor> {
    match mix {
        Some(mix) => mix.targets(&targets),
        None => Ok(targets),
    }
}

/// Targets `[N, C]` and weights `[N]` of a squared distance, mixed. With the mean target by `lambda w`, and `sum lambda w`
/// as its weight, the distance has the gradient of the sum over both images of `lambda w |t - p|^2`: a target of weight 0
/// teaches nothing, and where all weights are 1 the target is the mixed one.
pub(crate) fn mixed_by_weight(
    mix: Option<&Mix>,
    targets: &Tensor,
    weights: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let counted = mixed_targets(mix, weights.shallow_clone())?; // [N]
    let summed = mixed_targets(mix, targets * weights.unsqueeze(1))?; // [N, C]
    Ok((summed / counted.unsqueeze(1).clamp_min(f64::from(f32::MIN_POSITIVE)), counted))
}

/// Refuses numbers of which no label can be made.
///
/// # Errors
/// [`Error::NonFinite`]: whoever trains knows whether the step may be left out.
pub(crate) fn check_finite(what: &str, logits: &Tensor) -> Result<()> {
    if bool::try_from(logits.isfinite().all())? {
        return Ok(());
    }
    Err(Error::NonFinite { what: what.to_owned(), detail: "no label can be made of it".to_owned() })
}

/// The loss of labelled and unlabelled images, each times its weight, with its parts and what the pseudo-labels were.
pub(crate) fn joined(
    [(supervised, its), (unlabelled, weight)]: [(&Tensor, f64); 2],
    labelled_accuracy: &Tensor,
    pseudo_labels: Vec<(&'static str, Tensor)>,
) -> Loss {
    let loss = Loss::new(supervised * its + unlabelled * weight)
        .with("labelled_loss", supervised)
        .with("unlabelled_loss", unlabelled)
        .with("labelled_accuracy", labelled_accuracy);
    pseudo_labels.into_iter().fold(loss, |loss, (name, number)| loss.with(name, &number))
}

/// The share of the labelled images whose label is predicted.
pub(crate) fn accuracy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).eq_tensor(labels).to_kind(Kind::Float).mean(Kind::Float)
}

/// The share of labels with a weight above 0, the mean weight, and where the truth is known the share of all that have a
/// weight and are right.
pub(crate) fn tally(
    labels: &Tensor,
    weights: &Tensor,
    truth: Option<&Tensor>,
) -> Vec<(&'static str, Tensor)> {
    let kept = weights.gt(0.0).to_kind(Kind::Float);
    let mut numbers =
        vec![("coverage", kept.mean(Kind::Float)), ("pseudo_weight", weights.mean(Kind::Float))];
    if let Some(truth) = truth {
        let right = labels.eq_tensor(truth).to_kind(Kind::Float);
        numbers.push(("covered_and_right", (right * kept).mean(Kind::Float)));
    }
    numbers
}

/// A weight that has no effect: ones `[N]`.
pub(crate) fn ones(n: i64, device: Device) -> Tensor {
    Tensor::ones([n], (Kind::Float, device))
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::super::labeler::StepLabeler;
    use crate::contrastive::pixels::{batch, waves};
    use selfsup_core::{
        ImageViews, Kind, LabelledAndUnlabelled, Probabilities, PseudoLabels, Reason, Result, Tensor,
        check_shape, nn,
    };

    /// Three labelled and five unlabelled images of 2 x 2 pixels.
    pub(crate) fn labelled_and_unlabelled(views: usize) -> LabelledAndUnlabelled {
        let labels = Some(Tensor::from_slice(&[2_i64, 0, 1]));
        LabelledAndUnlabelled {
            labelled: ImageViews { labels, ..batch(3, 1, 0.0) },
            weights: Tensor::from_slice(&[1.0_f32, 1.0, 1.0]),
            unlabelled: batch(5, views, 1.0),
        }
    }

    pub(crate) const NAMES: [&str; 4] =
        ["encoder.weight", "encoder.bias", "objective.head.weight", "objective.head.bias"];

    /// Gives encoder, head and average weights that Python makes as easily.
    pub(crate) fn fill(store: &nn::VarStore) {
        crate::contrastive::pixels::fill(store, &NAMES);
        let averages = [
            "objective.teacher.encoder.weight",
            "objective.teacher.encoder.bias",
            "objective.teacher.head.weight",
            "objective.teacher.head.bias",
        ];
        crate::contrastive::pixels::fill(store, &averages);
        let variables = store.variables();
        for (i, name) in averages.iter().enumerate() {
            let mut x = variables[*name].shallow_clone();
            let more = waves(1, x.numel() as i64, i as f64 + 2.0, 0.7).reshape(x.size()) * 0.1;
            selfsup_core::tch::no_grad(|| {
                let _ = x.g_add_(&more);
            });
        }
    }

    /// Keeps the most probable class above a threshold, and counts its steps: a memory that a test can see.
    #[derive(Debug)]
    pub(crate) struct Counting {
        pub(crate) tau: f64,
        pub(crate) steps: Tensor,
    }

    impl Counting {
        pub(crate) fn boxed(tau: f64) -> Box<dyn StepLabeler> {
            Box::new(Counting { tau, steps: Tensor::zeros([1], (Kind::Float, selfsup_core::Device::Cpu)) })
        }
    }

    impl StepLabeler for Counting {
        fn label_step(&mut self, samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels> {
            let members: Vec<&Tensor> = views.iter().map(Probabilities::tensor).collect();
            let p = Tensor::stack(&members, 0).mean_dim([0].as_slice(), false, Kind::Float);
            check_shape("samples", samples, [p.size()[0]])?;
            self.steps = &self.steps + 1.0;
            let weights = p.amax([1].as_slice(), false).ge(self.tau).to_kind(Kind::Float);
            Ok(PseudoLabels::new(p.argmax(1, false), weights, Reason::Confident, Reason::Unsure).with_soft(p))
        }

        fn memory(&self) -> Vec<(String, Tensor)> {
            vec![("count.steps".to_owned(), self.steps.copy())]
        }

        fn recall(&mut self, state: &[(String, Tensor)]) -> Result<()> {
            self.steps = state[0].1.copy();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingKind;
    use super::fixture::labelled_and_unlabelled;
    use super::*;

    const MIXUP: Mixing = Mixing { kind: MixingKind::Mixup, alpha: 1.0 };

    #[test]
    fn batches_of_a_step_are_mixed_differently_with_and_without_unlabelled_images() {
        for views in [0, 2] {
            let shares = [0_i64, 3, 9].map(|first| {
                let mut batch = labelled_and_unlabelled(views);
                batch.labelled.indices = &batch.labelled.indices + first;
                let (parts, step) = (checked(&batch, 3, 0..=2).unwrap(), Step::single(4, 9, 0, 7));
                let draw = || parts.mix(&MIXUP, parts.labelled, Nearer::Any, 0, &step).unwrap().unwrap();
                assert_eq!(draw().share.to_bits(), draw().share.to_bits());
                draw().share.to_bits()
            });
            assert!(shares[0] != shares[1] && shares[1] != shares[2] && shares[0] != shares[2], "{shares:?}");
        }
    }

    #[test]
    fn a_squared_distance_to_what_is_mixed_by_weight_has_the_gradient_of_the_sum_over_both() {
        let mix = Mix { partners: vec![2, 0, 1], share: 0.7, patch: None };
        let values = |rows: &[[f32; 2]]| Tensor::from_slice2(rows);
        let targets = values(&[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]);
        let weights = Tensor::from_slice(&[1.0_f32, 0.0, 0.4]);
        let predicted = values(&[[0.6, 0.4], [0.3, 0.7], [0.1, 0.9]]);
        let (found, counted) = mixed_by_weight(Some(&mix), &targets, &weights).unwrap();
        for i in 0..3 {
            for c in 0..2 {
                let gradient = |row: i64, share: f64| {
                    let p = predicted.double_value(&[i, c]);
                    2.0 * share * weights.double_value(&[row]) * (p - targets.double_value(&[row, c]))
                };
                let expected = gradient(i, 0.7) + gradient(mix.partners[i as usize], 0.3);
                let p = predicted.double_value(&[i, c]);
                let gradient = 2.0 * counted.double_value(&[i]) * (p - found.double_value(&[i, c]));
                assert!((gradient - expected).abs() < 1e-6, "{i}, {c}: {gradient} instead of {expected}");
            }
        }
        let ones = Tensor::ones([3], (Kind::Float, Device::Cpu));
        let (found, counted) = mixed_by_weight(Some(&mix), &targets, &ones).unwrap();
        assert!(found.allclose(&mix.targets(&targets).unwrap(), 0.0, 1e-6, false));
        assert!(counted.allclose(&ones, 0.0, 1e-6, false));
        let (found, counted) = mixed_by_weight(None, &targets, &(&ones * 0.0)).unwrap();
        assert!(bool::try_from(found.isfinite().all()).unwrap() && counted == ones * 0.0);
    }
}
