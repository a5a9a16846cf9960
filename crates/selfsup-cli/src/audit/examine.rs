//! From features and given labels to which of them are doubted: cross-validated predictions, scaled until their confidences
//! are true, and confident learning over these.

use anyhow::Result;
use clap::ValueEnum;
use selfsup::core::{Features, Kind, Logits, Probabilities, Tensor};
use selfsup::eval::{CrossPrediction, CrossProbe, CrossProbeConfig, Ranking, Stage};
use selfsup::labels::{
    AuditReport, Calibration, CalibrationConfig, Filter, LabelAudit, LabelAuditConfig, LabelledProbabilities,
    NoisyScaling, calibration,
};
use serde::Serialize;

/// What an audit found.
pub struct Examined {
    /// The doubts and their grounds; its quality is the label's own probability.
    pub audit: AuditReport,
    /// How probable it is that each label is right.
    pub quality: Vec<f64>,
    /// The probabilities of the classes without the noise of the labels, `[N, C]`.
    pub truth: Probabilities,
    /// The most probable class of every sample.
    pub suggested: Vec<i64>,
    /// Its probability.
    pub probability: Vec<f64>,
    /// What the probes said.
    pub prediction: CrossPrediction,
    /// How the scores of each fold were scaled.
    pub scalings: Vec<NoisyScaling>,
    /// How true confidences are as they come, measured by the given labels.
    pub before: Calibration,
    /// The same after scaling, which the labels that measure had no part in.
    pub after: Calibration,
}

/// Examines the labels of `given`. `progress` hears how far it is.
///
/// # Errors
/// When there are fewer than two classes, or a class has fewer than two samples.
pub fn examine(
    given: &Features,
    probe: CrossProbeConfig,
    doubt: Doubt,
    progress: &mut dyn FnMut(Stage),
) -> Result<Examined> {
    let folds = probe.folds;
    let prediction = CrossProbe::new(probe)?.predict(given, progress)?;
    let labelled = |probabilities: &Tensor| {
        LabelledProbabilities::new(&given.labels, Probabilities::new(probabilities)?)
    };
    let plain = labelled(Logits::new(&prediction.logits)?.softmax(1.0)?.tensor())?;
    let scaled = Scaled::of(&prediction, &given.labels, folds)?;
    let probabilities = labelled(&scaled.given)?;
    let measure = CalibrationConfig::default();
    let after = calibration(&probabilities, &measure)?;
    let Scaled { truth, quality, scalings, .. } = scaled;
    let (most, suggested) = truth.max_dim(1, false);
    let config = LabelAuditConfig { filter: doubt.filter(), ..LabelAuditConfig::default() };
    let mut audit = LabelAudit::new(config)?.audit(&probabilities)?;
    if doubt == Doubt::Improbable {
        audit.doubted = (0..).zip(&quality).filter(|(_, quality)| **quality < 0.5).map(|(i, _)| i).collect();
    }
    audit.doubted.sort_by(|&a, &b| quality[a as usize].total_cmp(&quality[b as usize]));
    Ok(Examined {
        audit,
        quality,
        truth: Probabilities::new(&truth)?,
        suggested: Vec::try_from(suggested)?,
        probability: Vec::try_from(most.to_kind(Kind::Double))?,
        before: calibration(&plain, &measure)?,
        after,
        prediction,
        scalings,
    })
}

/// What the scores of each fold mean by the labels of the others.
struct Scaled {
    /// The probabilities of the given labels, `[N, C]`.
    given: Tensor,
    /// Those of the right ones.
    truth: Tensor,
    quality: Vec<f64>,
    scalings: Vec<NoisyScaling>,
}

impl Scaled {
    fn of(prediction: &CrossPrediction, labels: &Tensor, folds: usize) -> Result<Scaled> {
        let logits = &prediction.logits;
        let (mut given, mut truth) = (logits.zeros_like(), logits.zeros_like());
        let (mut quality, mut scalings) = (vec![0.0; prediction.fold.len()], Vec::new());
        for fold in 0..folds {
            let positions = |of: bool| -> Vec<i64> {
                let wanted = (0..).zip(&prediction.fold).filter(|(_, f)| (**f == fold) == of);
                wanted.map(|(i, _)| i).collect()
            };
            let (inside, outside) = (positions(true), Tensor::from_slice(&positions(false)));
            let others = Logits::new(&logits.index_select(0, &outside))?;
            let scaling = NoisyScaling::fit(&others, &labels.index_select(0, &outside))?;
            let at = Tensor::from_slice(&inside);
            let own = Logits::new(&logits.index_select(0, &at))?;
            let _ = given.index_copy_(0, &at, scaling.apply(&own)?.tensor());
            let _ = truth.index_copy_(0, &at, scaling.clean(&own)?.tensor());
            let of_fold = scaling.quality(&own, &labels.index_select(0, &at))?;
            inside.iter().zip(of_fold).for_each(|(&i, value)| quality[i as usize] = value);
            scalings.push(scaling);
        }
        Ok(Scaled { given, truth, quality, scalings })
    }
}

/// Which labels are doubted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Doubt {
    /// All that are more probably wrong than right: of a quality below 0.5.
    #[default]
    Improbable,
    /// Confident learning, cleanlab's prune_by_noise_rate: for each pair of classes, as many as the confident joint counts,
    /// those that look most like the other class.
    NoiseRate,
    /// cleanlab's prune_by_class: in each class, as many as the confident joint counts, those that look least like it.
    Class,
    /// What both doubt.
    Both,
    /// cleanlab's confident_learning: all that are confidently of another class.
    ConfidentJoint,
}

impl Doubt {
    fn filter(self) -> Filter {
        match self {
            Doubt::Improbable | Doubt::NoiseRate => Filter::NoiseRate,
            Doubt::Class => Filter::Class,
            Doubt::Both => Filter::Both,
            Doubt::ConfidentJoint => Filter::ConfidentJoint,
        }
    }
}

/// How well planted labels were found, and how true the confidences are by the labels as they were before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planted {
    /// Labels that were made wrong.
    pub planted: usize,
    /// How well the quality of labels puts the planted first.
    #[serde(flatten)]
    pub ranking: Ranking,
    /// The share of planted labels among those that are doubted; none when nothing is doubted.
    pub doubted_precision: Option<f64>,
    /// The share of the planted labels that is doubted.
    pub doubted_recall: f64,
    /// The share of the planted labels for which the class that was there before is suggested.
    pub restored: f64,
    /// The expected calibration error of the quality as a probability that the label is right.
    pub quality_ece: f64,
    /// That of the probabilities without noise, by the labels as they were before.
    pub truth_ece: f64,
}

impl Planted {
    /// Compares what was found with what was planted: `truth` are the labels before.
    ///
    /// # Errors
    /// When nothing was planted, or all.
    pub fn count(found: &Examined, planted: &[i64], truth: &[i64]) -> Result<Planted> {
        let n = found.quality.len();
        let mut wrong = vec![false; n];
        for &i in planted {
            wrong[i as usize] = true;
        }
        let doubt: Vec<f64> = found.quality.iter().map(|quality| -quality).collect();
        let hits = found.audit.doubted.iter().filter(|&&i| wrong[i as usize]).count() as f64;
        let restored = planted.iter().filter(|&&i| found.suggested[i as usize] == truth[i as usize]).count();
        let (count, doubted) = (planted.len() as f64, found.audit.doubted.len());
        let without_noise = Probabilities::new(found.truth.tensor())?;
        let by_truth = LabelledProbabilities::new(&Tensor::from_slice(truth), without_noise)?;
        Ok(Planted {
            planted: planted.len(),
            ranking: Ranking::of(&doubt, &wrong)?,
            doubted_precision: (doubted > 0).then(|| hits / doubted as f64),
            doubted_recall: hits / count,
            restored: restored as f64 / count,
            quality_ece: quality_error(&found.quality, &wrong)?,
            truth_ece: calibration(&by_truth, &CalibrationConfig::default())?.ece,
        })
    }
}

/// Of the labels of a quality of 0.8, are 80 % right? A label is a question with two answers.
fn quality_error(quality: &[f64], wrong: &[bool]) -> Result<f64> {
    let rows: Vec<f32> = quality.iter().flat_map(|&q| [q as f32, 1.0 - q as f32]).collect();
    let p = Probabilities::new(&Tensor::from_slice(&rows).reshape([-1, 2]))?;
    let labels: Vec<i64> = wrong.iter().map(|&wrong| i64::from(wrong)).collect();
    let scores = LabelledProbabilities::new(&Tensor::from_slice(&labels), p)?;
    Ok(calibration(&scores, &CalibrationConfig::default())?.ece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::{Device, Key};
    use selfsup::labels::PlantedNoise;

    /// Clouds of three classes, and the same with a tenth of the labels wrong.
    fn clouds() -> (Features, PlantedNoise) {
        let i = Tensor::arange(1800, (Kind::Double, Device::Cpu));
        let noise = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([600, 3]).to_kind(Kind::Float);
        let labels = Tensor::arange(600, (Kind::Int64, Device::Cpu)).remainder(3);
        let x = labels.one_hot(3).to_kind(Kind::Float) * 2.5 + noise;
        let planted = PlantedNoise::plant(&labels, 3, 0.1, Key::new(1)).unwrap();
        (Features::new(x, labels, 3).unwrap(), planted)
    }

    fn examined(labels: &Tensor) -> Examined {
        let (clean, _) = clouds();
        let given = Features::new(clean.x, labels.shallow_clone(), 3).unwrap();
        examine(&given, CrossProbeConfig::default(), Doubt::Improbable, &mut |_| ()).unwrap()
    }

    #[test]
    fn finds_what_was_planted_among_clear_classes() {
        let (clean, noise) = clouds();
        let found = examined(&noise.labels);
        let truth = Vec::<i64>::try_from(&clean.labels).unwrap();
        let counted = Planted::count(&found, &noise.planted, &truth).unwrap();
        assert_eq!((counted.planted, counted.ranking.sought), (60, 60));
        assert!(counted.ranking.auroc > 0.97 && counted.ranking.precision > 0.9, "{counted:?}");
        assert!(counted.doubted_recall > 0.9 && counted.restored > 0.9, "{counted:?}");
        assert!(found.audit.doubted.iter().all(|&i| {
            let label = noise.labels.int64_value(&[i]);
            found.suggested[i as usize] != label
        }));
    }

    #[test]
    fn scaling_by_other_folds_makes_confidences_truer() {
        // Ten columns that say nothing beside those that do: a weakly regularised probe learns its few labels by heart.
        let (clean, noise) = clouds();
        let i = Tensor::arange(6000, (Kind::Double, Device::Cpu));
        let idle = (i.pow_tensor_scalar(1.3) * 0.73).sin().reshape([600, 10]).to_kind(Kind::Float);
        let given = Features::new(Tensor::cat(&[clean.x, idle * 3.0], 1), noise.labels, 3).unwrap();
        let probe = CrossProbeConfig { strengths: vec![10.0], ..Default::default() };
        let found = examine(&given, probe, Doubt::Improbable, &mut |_| ()).unwrap();
        assert!(found.after.ece < 0.7 * found.before.ece, "{} {}", found.before.ece, found.after.ece);
        assert!(found.after.ece < 0.05, "{}", found.after.ece);
        assert_eq!(found.scalings.len(), 5);
    }

    #[test]
    fn clean_labels_are_hardly_doubted() {
        let (clean, _) = clouds();
        assert!(examined(&clean.labels).audit.doubted.len() < 20);
    }

    #[test]
    fn the_error_of_the_quality_equals_a_sum_by_hand() {
        // Two labels of quality 0.9, one of them wrong; one of 0.2 that is wrong: in it the sure answer is "wrong", 0.8.
        let error = quality_error(&[0.9, 0.9, 0.2], &[false, true, true]).unwrap();
        assert!((error - (2.0 * 0.4 + 0.2) / 3.0).abs() < 1e-6, "{error}");
    }

    // The first 600 of scikit-learn's digits (UCI, Alpaydin and Kaynak 1998), which people wrote:
    // d = load_digits(); x = d.images[:600] * 15; print("".join(map(str, d.target[:600])))
    // Image.fromarray(x.reshape(20, 30, 8, 8).transpose(0, 2, 1, 3).reshape(160, 240).astype(np.uint8)).save("digits.png")
    fn digits() -> Features {
        let sheet = image::load_from_memory(include_bytes!("fixtures/digits.png")).unwrap().into_luma8();
        let labels: Vec<i64> =
            include_str!("fixtures/digits.txt").trim().bytes().map(|b| i64::from(b - b'0')).collect();
        let pixels = Tensor::from_slice(sheet.as_raw()).reshape([20, 8, 30, 8]).permute([0, 2, 1, 3]);
        let x = pixels.reshape([600, 64]).to_kind(Kind::Float) / 240.0;
        Features::new(x, Tensor::from_slice(&labels), 10).unwrap()
    }

    #[test]
    fn wrong_labels_of_written_digits_are_found_and_told_how_probably_they_are_right() {
        let clean = digits();
        let truth = Vec::<i64>::try_from(&clean.labels).unwrap();
        for seed in 0..3 {
            let noise = PlantedNoise::plant(&clean.labels, 10, 0.1, Key::new(seed)).unwrap();
            let given = Features::new(clean.x.shallow_clone(), noise.labels, 10).unwrap();
            let probe = CrossProbeConfig { seed, ..Default::default() };
            let found = examine(&given, probe, Doubt::Improbable, &mut |_| ()).unwrap();
            let counted = Planted::count(&found, &noise.planted, &truth).unwrap();
            assert!(counted.ranking.auroc > 0.97 && counted.ranking.precision > 0.8, "{counted:?}");
            assert!(counted.doubted_recall > 0.8 && counted.doubted_precision > Some(0.8), "{counted:?}");
            // 600 labels in 15 bins: some of the error is chance.
            assert!(found.after.ece < 0.05 && counted.quality_ece < 0.05, "{} {counted:?}", found.after.ece);
        }
    }
}
