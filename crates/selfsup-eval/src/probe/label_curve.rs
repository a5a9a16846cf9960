//! What a linear classifier reaches with 1, 5, 10, ... labels a class: the few-label probe along a curve.
//!
//! Draws are nested: the labels of a longer draw hold those of the shorter, so that a curve rises because there are more
//! labels and not because there are others, and each fit starts from the one before it. Everything else is as in the few-label
//! probe, whose draws these are: features standardised by the whole training set, a fixed strength `C`. The interval is of the
//! mean over draws (Student's): it says how sure the mean is, the standard deviation how much one draw may be off.

use crate::logistic::Problem;
use crate::measurement::Origin;
use crate::split::shuffled_by_class;
use crate::standardise::Standardiser;
use crate::{FewLabelConfig, FewLabelProbe, Logistic, Mean, Measurement, Stage, check_pair};
use selfsup_core::{Error, Features, Key, Kind, Result, Tensor, TensorExt};
use serde::{Deserialize, Serialize};

/// The points of a curve, and how they are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelCurveConfig {
    /// Labels of each class at the points, ascending.
    pub labels_per_class: Vec<usize>,
    /// Draws, strength and seed; its own number of labels is not looked at.
    pub few_label: FewLabelConfig,
}

impl Default for LabelCurveConfig {
    fn default() -> Self {
        LabelCurveConfig { labels_per_class: vec![1, 5, 10, 50], few_label: FewLabelConfig::default() }
    }
}

/// A point of the curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelCurvePoint {
    /// Labels of each class.
    pub labels_per_class: usize,
    /// The mean test accuracy with its interval over draws.
    pub accuracy: Mean,
    /// The standard deviation over draws.
    pub std: f64,
    /// The test accuracy of every draw.
    pub draws: Vec<f64>,
}

/// Accuracy by the number of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelCurve {
    /// The points, by rising numbers of labels.
    pub points: Vec<LabelCurvePoint>,
    /// Numbers of labels that were asked for but that the smallest class has not.
    pub left_out: Vec<usize>,
    /// Iterations of all fits together.
    pub iterations: usize,
    /// How it was found.
    pub config: LabelCurveConfig,
}

/// Measures the curve. `progress` hears before the first draw and after each how many are done.
///
/// # Errors
/// When the sets do not fit each other, a number of the configuration cannot work, or the smallest class has fewer samples
/// than the first point needs.
pub fn label_curve(
    train: &Features,
    test: &Features,
    config: &LabelCurveConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<LabelCurve> {
    check_pair(train, test)?;
    FewLabelProbe::new(config.few_label.clone())?;
    let asked = &config.labels_per_class;
    if asked.is_empty() || asked[0] < 1 || !asked.windows(2).all(|w| w[0] < w[1]) {
        return Err(Error::config("labels_per_class", format!("{asked:?}"), "ascending numbers, at least 1"));
    }
    let counts = Vec::<i64>::try_from(train.labels.bincount(None::<Tensor>, train.classes))?;
    let smallest = counts.into_iter().filter(|&count| count > 0).min().unwrap_or(0) as usize;
    let (sizes, left_out): (Vec<usize>, Vec<usize>) = asked.iter().partition(|&&size| size <= smallest);
    if sizes.is_empty() {
        let expected = format!("at most {smallest}, the samples of the smallest class, at the first point");
        return Err(Error::config("labels_per_class", format!("{asked:?}"), expected));
    }
    let mut stage = Stage::new("label curve", config.few_label.draws, test.len());
    progress(stage);
    let standardiser = Standardiser::of(&train.x);
    let test_x = standardiser.apply(&test.x);
    let mut accuracies = vec![Vec::new(); sizes.len()];
    let mut iterations = 0;
    for draw in 0..config.few_label.draws {
        let by_class = shuffled_by_class(train, Key::new(config.few_label.seed).with(draw as u64))?;
        let mut before: Option<Logistic> = None;
        for (&size, accuracies) in sizes.iter().zip(&mut accuracies) {
            let samples: Vec<i64> =
                by_class.iter().flat_map(|of_class| of_class.iter().take(size)).copied().collect();
            let labelled = train.select(&Tensor::from_slice(&samples));
            let problem = Problem::new(&standardiser.apply(&labelled.x), &labelled.labels)?;
            let start = before.as_ref().map(|before| problem.start_from(before)).transpose()?.flatten();
            let solved = problem.solve(config.few_label.c, start.as_ref(), &config.few_label.logistic)?;
            let classifier = problem.to_classifier(&solved);
            let right = classifier.predict(&test_x)?.eq_tensor(&test.labels);
            accuracies.push(right.to_kind(Kind::Double).mean(None).scalar()?);
            iterations += classifier.iterations;
            before = Some(classifier);
        }
        stage.done += 1;
        progress(stage);
    }
    let point = |(&labels_per_class, draws): (&usize, Vec<f64>)| {
        let std = selfsup_core::Score::of(&draws).std;
        Ok(LabelCurvePoint { labels_per_class, accuracy: Mean::over_shares(&draws)?, std, draws })
    };
    let points = sizes.iter().zip(accuracies).map(point).collect::<Result<_>>()?;
    Ok(LabelCurve { points, left_out, iterations, config: config.clone() })
}

impl LabelCurve {
    /// The measures for a report, of test samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let few = &self.config.few_label;
        let origin = Origin { split, seed: Some(few.seed) };
        let measurement = |point: &LabelCurvePoint| {
            let text = format!(
                "accuracy of a logistic regression on frozen, standardised features with {} labels a class, C = {}; mean over {} \
                 nested draws of the labelled samples",
                point.labels_per_class, few.c, few.draws
            );
            origin.mean(format!("labels@{}", point.labels_per_class), &point.accuracy, text)
        };
        self.points.iter().map(measurement).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};

    fn curve(labels_per_class: Vec<usize>, draws: usize) -> LabelCurve {
        let config =
            LabelCurveConfig { labels_per_class, few_label: FewLabelConfig { draws, ..Default::default() } };
        label_curve(&clouds(300, 3, 0.9), &clouds(150, 3, 0.9), &config, &mut |_| ()).unwrap()
    }

    #[test]
    fn more_labels_help_and_spread_less() {
        let found = curve(vec![1, 10, 80], 20);
        let means: Vec<f64> = found.points.iter().map(|p| p.accuracy.value).collect();
        assert!(means.is_sorted() && means[2] > means[0] + 0.05, "{means:?}");
        assert!(found.points[2].std < found.points[0].std);
        for point in &found.points {
            let interval = point.accuracy.interval.unwrap();
            assert!(interval.low < point.accuracy.value && point.accuracy.value < interval.high);
            assert_eq!(point.draws.len(), 20);
        }
    }

    #[test]
    fn a_point_is_the_few_label_probe_with_as_many_labels() {
        let found = curve(vec![1, 10], 4);
        let few = FewLabelConfig { draws: 4, labels_per_class: 10, ..Default::default() };
        let alone = FewLabelProbe::new(few).unwrap().run(&clouds(300, 3, 0.9), &clouds(150, 3, 0.9)).unwrap();
        // The same samples and optimum; a start elsewhere may move a sample on the border.
        for (a, b) in found.points[1].draws.iter().zip(&alone) {
            assert!((a - b).abs() < 0.01, "{:?} {alone:?}", found.points[1].draws);
        }
    }

    #[test]
    fn what_the_smallest_class_has_not_is_left_out() {
        let found = curve(vec![5, 100, 101, 500], 2);
        let sizes: Vec<usize> = found.points.iter().map(|p| p.labels_per_class).collect();
        assert_eq!((sizes, found.left_out), (vec![5, 100], vec![101, 500]));
    }

    #[test]
    fn copies_of_samples_are_no_trouble() {
        let labels = Tensor::from_slice(&[0_i64, 1]).repeat([20]);
        let copies = Features::new(formula(2, 5).repeat([20, 1]), labels, 2).unwrap();
        let config = LabelCurveConfig { labels_per_class: vec![1, 3], ..Default::default() };
        let found = label_curve(&copies, &copies, &config, &mut |_| ()).unwrap();
        assert!(found.points.iter().all(|p| p.accuracy.value == 1.0), "{found:?}");
    }

    #[test]
    fn says_what_it_does_and_what_its_numbers_are() {
        let mut done = Vec::new();
        let config = LabelCurveConfig {
            few_label: FewLabelConfig { draws: 2, ..Default::default() },
            ..Default::default()
        };
        let (train, test) = (clouds(300, 3, 0.9), clouds(60, 3, 0.9));
        let found = label_curve(&train, &test, &config, &mut |stage| done.push(stage.done)).unwrap();
        assert_eq!(done, [0, 1, 2]);
        let numbers = found.measurements("test");
        let names: Vec<&str> = numbers.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["labels@1", "labels@5", "labels@10", "labels@50"]);
        assert_eq!((numbers[0].n, numbers[0].seed), (2, Some(0)));
    }

    #[test]
    fn rejects_points_that_cannot_be() {
        let error = |labels_per_class: Vec<usize>| {
            let config = LabelCurveConfig { labels_per_class, ..Default::default() };
            label_curve(&clouds(30, 3, 1.0), &clouds(9, 3, 1.0), &config, &mut |_| ())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error(vec![]), "labels_per_class = []: ascending numbers, at least 1");
        assert_eq!(error(vec![5, 5]), "labels_per_class = [5, 5]: ascending numbers, at least 1");
        let expected =
            "labels_per_class = [11]: at most 10, the samples of the smallest class, at the first point";
        assert_eq!(error(vec![11]), expected);
    }
}
