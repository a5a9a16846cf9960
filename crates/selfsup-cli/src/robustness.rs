//! The robustness group of the full suite: what an encoder and the linear probe fitted on its clean features make of test images
//! that are corrupted, shifted, covered or attacked, and of training labels that are wrong.
//!
//! Evaluation sees features and functions, `selfsup::data::corrupt` makes the images; here the two meet.

use crate::full::{Groups, SuiteChoice};
use crate::images::{self, Images};
use crate::insight::picture;
use crate::judge::{Labels, Seen};
use crate::network::ImageNetwork;
use crate::recipe::Recipe;
use crate::report::{View, ViewRow};
use anyhow::{Result, ensure};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use selfsup::core::{Batches, Dataset, Device, Features, Kind, Mode, Tensor, tch};
use selfsup::data::augment::{PlainConfig, PlainView};
use selfsup::data::corrupt::{Corruption, Disturbance, DisturbedImages, Family, Severity};
use selfsup::data::dataset::ArrayImages;
use selfsup::data::{Image, ImageCollate, ImageSet, Loader};
use selfsup::eval::{
    AttackConfig, LabelNoiseConfig, LinearClassifier, LinearOutcome, Mean, Measurement, OutlierConfig,
    RightAnswers, Sources, Stage, accuracy_kept, attacked_accuracy, label_noise, outliers_by_source,
    resampled_robustness,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The group of the numbers that boil all down.
pub const GROUP: &str = "robustness";
/// The group of the accuracies under each disturbance at each severity.
pub const EACH: &str = "corruptions";

/// Who is right or wrong.
const BY: &str = "the linear probe fitted on clean training features";
/// Training samples that the outlier detectors look at.
const FAMILIAR: usize = 10_000;
/// Numbers of images that an attack moves at a time: 256 images of 32 x 32 pixels in colour, and five of 224 x 224.
const ATTACKED_TOGETHER: usize = 256 * 3 * 32 * 32;

/// `[eval.robustness]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RobustnessConfig {
    /// Test images that are disturbed, evenly taken; 0 leaves all of this out.
    pub images: usize,
    /// Those of them that are attacked.
    pub attacked: usize,
    /// How far an attack may move a value of an image, in 255ths.
    pub epsilons: Vec<f64>,
    /// The steps of projected gradient descent.
    pub steps: usize,
    /// Shares of wrong training labels.
    pub label_noise: Vec<f64>,
    /// Draws of the intervals.
    pub resamples: usize,
    /// Decides every draw.
    pub seed: u64,
}

impl Default for RobustnessConfig {
    fn default() -> Self {
        RobustnessConfig {
            images: 1000,
            attacked: 500,
            epsilons: vec![1.0, 2.0, 4.0, 8.0],
            steps: 10,
            label_noise: vec![0.1, 0.2, 0.4],
            resamples: 1000,
            seed: 0,
        }
    }
}

impl RobustnessConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// With the field and what would be right.
    pub fn check(&self) -> Result<()> {
        let at = "eval.robustness";
        for &share in &self.label_noise {
            ensure!(share > 0.0 && share < 1.0, "{at}.label_noise = {share}: shares between 0 and 1");
        }
        for &epsilon in &self.epsilons {
            ensure!((0.0..=255.0).contains(&epsilon), "{at}.epsilons = {epsilon}: 0 to 255, in 255ths");
        }
        ensure!(self.steps > 0, "{at}.steps = 0: at least 1");
        ensure!(self.resamples > 0, "{at}.resamples = 0: at least 1");
        Ok(())
    }
}

/// All disturbances: fifteen corruptions, shifts and occlusion, each by rising severity.
fn disturbances() -> Vec<(&'static str, [Disturbance; 5])> {
    let corruptions =
        Corruption::ALL.map(|c| (c.name(), Severity::ALL.map(|s| Disturbance::Corruption(c, s))));
    let others = [
        ("shift", Severity::ALL.map(Disturbance::Shift)),
        ("occlusion", Severity::ALL.map(Disturbance::Occlusion)),
    ];
    corruptions.into_iter().chain(others).collect()
}

/// Some test images as the encoder sees them, and the way to disturb them.
pub struct Robustness<'a> {
    recipe: &'a Recipe,
    labels: &'a Labels,
    shown: Arc<dyn ImageSet>,
    /// The classes of the images.
    truth: Tensor,
    /// The view of an image that has its size already.
    view: PlainConfig,
    device: Device,
    /// What the encoder that was asked first answered: the others are compared with it.
    reference: Option<RightAnswers>,
}

impl<'a> Robustness<'a> {
    /// Takes the images; nothing where it is not asked for, or there are no labels.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn open(
        recipe: &'a Recipe,
        images: &Images,
        labels: Option<&'a Labels>,
        suite: SuiteChoice,
        device: Device,
    ) -> Result<Option<Self>> {
        let (Some(labels), SuiteChoice::Full) = (labels, suite) else { return Ok(None) };
        let n = images.test.len().min(recipe.eval.robustness.images);
        if n == 0 {
            return Ok(None);
        }
        let shown: Arc<dyn ImageSet> = Arc::new(shown(recipe, &images.test, n)?);
        let truth = labels.test.index_select(0, &images::evenly_indices(images.test.len(), n));
        let view = PlainConfig { resize: None, ..recipe.plain_view() };
        Ok(Some(Robustness { recipe, labels, shown, truth, view, device, reference: None }))
    }

    /// Asks everything of one encoder, of which the probes have been asked. The first is the reference of those after it.
    ///
    /// # Errors
    /// Those of reading, of the encoder and of the measures.
    pub fn measure(
        &mut self,
        encoder: &dyn ImageNetwork,
        seen: &Seen,
        linear: &LinearOutcome,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<Groups> {
        let config = &self.recipe.eval.robustness;
        let (seed, resamples) = (config.seed, config.resamples);
        let Answered { answers, clean, hardest, of_hardest } =
            self.answers(encoder, &linear.classifier, progress)?;
        if !answers.clean.contains(&true) {
            eprintln!(
                "robustness is left out: the linear probe is right about none of the {} images",
                answers.clean.len()
            );
            return Ok(Vec::new());
        }
        let corruptions = Corruption::ALL.len();
        let mut common = answers.clone();
        let others = common.corrupted.split_off(corruptions);
        // Errors can only be compared where the reference makes some.
        let reference = self
            .reference
            .as_ref()
            .filter(|r| r.corrupted.iter().all(|(_, rows)| rows.iter().flatten().any(|right| !right)));
        let found = resampled_robustness(&common, reference, resamples, seed)?;
        let mut all = found.measurements("test", BY, "the untrained encoder");
        let plain = |name: String, mean: Mean, definition: String| Measurement {
            name,
            value: mean.value,
            interval: mean.interval,
            n: mean.n,
            split: "test".to_owned(),
            seed: Some(seed),
            definition,
        };
        let kept = |rows: Vec<Vec<bool>>| accuracy_kept(&answers.clean, &rows, resamples, seed);
        for family in Family::ALL {
            let of_family =
                Corruption::ALL.iter().zip(&answers.corrupted).filter(|(c, _)| c.family() == family);
            let rows: Vec<Vec<bool>> = of_family.flat_map(|(_, (_, rows))| rows.clone()).collect();
            let name = family.name();
            let text =
                format!("accuracy under the corruptions of the family {name} over clean accuracy, by {BY}");
            all.extend(kept(rows)?.map(|mean| plain(format!("kept_{name}"), mean, text)));
        }
        for (name, rows) in &others {
            let text =
                format!("accuracy under {name} over clean accuracy, mean over five severities, by {BY}");
            all.extend(kept(rows.clone())?.map(|mean| plain(format!("kept_{name}"), mean, text)));
        }
        all.extend(self.label_noise(seen, linear, progress)?);
        all.extend(self.attacks(encoder, &linear.classifier, progress)?);
        all.extend(self.familiarity(seen, &clean, &hardest, of_hardest)?);
        let mut each = found.each("test", BY);
        let others = RightAnswers { clean: answers.clean.clone(), corrupted: others };
        each.extend(resampled_robustness(&others, None, 1, seed)?.each("test", BY));
        self.reference.get_or_insert(common);
        Ok(vec![(GROUP.to_owned(), all), (EACH.to_owned(), each)])
    }

    fn batches(
        &self,
        disturbance: Disturbance,
        view: PlainConfig,
    ) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
        let eval = &self.recipe.eval;
        let set: Arc<dyn ImageSet> = Arc::new(DisturbedImages {
            set: Arc::clone(&self.shown),
            disturbance,
            seed: eval.robustness.seed,
        });
        let view = PlainView::new(view, self.shown.channels())?;
        images::plain(&set, view, eval.batch_size, self.recipe.train.loader_threads)
    }

    /// Encodes every disturbance of every image.
    fn answers(
        &self,
        encoder: &dyn ImageNetwork,
        classifier: &LinearClassifier,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<Answered> {
        let all = disturbances();
        let total = 1 + all.iter().map(|(_, severities)| severities.len()).sum::<usize>();
        let mut stage = Stage { name: "corruptions", done: 0, total, samples: self.shown.len() };
        progress(stage);
        let mut encode = |disturbance: Disturbance| -> Result<(Tensor, Vec<bool>)> {
            let _without_gradient = tch::no_grad_guard();
            let mut rows = Vec::new();
            for batch in self.batches(disturbance, self.view.clone())?.epoch(0, 0)? {
                let x = encoder.encode(&batch?.views[0].to_device(self.device), Mode::Eval)?;
                rows.push(x.to_device(Device::Cpu).to_kind(Kind::Float));
            }
            let x = Tensor::cat(&rows, 0);
            let right = classifier.predict(&x)?.eq_tensor(&self.truth);
            stage.done += 1;
            progress(stage);
            Ok((x, Vec::<bool>::try_from(right)?))
        };
        let (clean_x, clean) = encode(Disturbance::None)?;
        let (mut corrupted, mut hardest, mut of_hardest) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (name, severities)) in all.into_iter().enumerate() {
            let mut rows = Vec::new();
            for disturbance in severities {
                let (x, right) = encode(disturbance)?;
                rows.push(right);
                if matches!(disturbance, Disturbance::Corruption(_, severity) if severity.number() == 5) {
                    // Every fifth image, others for each corruption.
                    let first = (number % 5) as i64;
                    if first < x.size()[0] {
                        hardest.push(x.slice(0, first, None, 5));
                        of_hardest.extend((first as usize..x.size()[0] as usize).step_by(5));
                    }
                }
            }
            corrupted.push((name.to_owned(), rows));
        }
        Ok(Answered {
            answers: RightAnswers { clean, corrupted },
            clean: clean_x,
            hardest: Tensor::cat(&hardest, 0),
            of_hardest,
        })
    }

    fn label_noise(
        &self,
        seen: &Seen,
        linear: &LinearOutcome,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<Vec<Measurement>> {
        let eval = &self.recipe.eval;
        if eval.robustness.label_noise.is_empty() {
            return Ok(Vec::new());
        }
        let classes = self.labels.classes.len() as i64;
        let train = Features::new(seen.train.shallow_clone(), self.labels.train.shallow_clone(), classes)?;
        let test = Features::new(seen.test.shallow_clone(), self.labels.test.shallow_clone(), classes)?;
        let config = LabelNoiseConfig {
            shares: eval.robustness.label_noise.clone(),
            probe: eval.linear.clone(),
            seed: eval.robustness.seed,
        };
        Ok(label_noise(&train, &test, &config, progress)?.measurements("test", linear.accuracy))
    }

    fn attacks(
        &self,
        encoder: &dyn ImageNetwork,
        classifier: &LinearClassifier,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<Vec<Measurement>> {
        let config = &self.recipe.eval.robustness;
        let n = self.shown.len().min(config.attacked);
        if n == 0 || config.epsilons.is_empty() {
            return Ok(Vec::new());
        }
        let raw = PlainConfig { mean: vec![0.0], std: vec![1.0], ..self.view.clone() };
        let batches = self.batches(Disturbance::None, raw)?;
        // Evenly taken of the evenly taken.
        let chosen = images::evenly(self.shown.len(), n);
        let (mut pixels, mut before) = (Vec::new(), 0);
        for batch in batches.epoch(0, 0)? {
            let x = batch?.views[0].shallow_clone();
            let all = before..before + x.size()[0] as usize;
            let of_batch: Vec<i64> =
                chosen.iter().filter(|i| all.contains(i)).map(|i| (i - all.start) as i64).collect();
            pixels.push(x.index_select(0, &Tensor::from_slice(&of_batch)));
            before = all.end;
        }
        let x = Tensor::cat(&pixels, 0).clamp(0.0, 1.0).to_device(self.device); // [n, C, H, W]
        let y = self.truth.index_select(0, &images::evenly_indices(self.shown.len(), n));
        let channels = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]).to_device(self.device);
        let (mean, std) = (channels(&self.view.mean), channels(&self.view.std));
        let scores = |x: &Tensor| classifier.logits(&encoder.encode(&((x - &mean) / &std), Mode::Eval)?);
        let y = y.to_device(self.device);
        let mut stage = Stage { name: "attacks", done: 0, total: 2 * config.epsilons.len(), samples: n };
        progress(stage);
        let together = attacked_together(x.numel() / n, self.recipe.eval.batch_size);
        let (mut all, mut strong) = (Vec::new(), Vec::new());
        for &epsilon in &config.epsilons {
            let size = epsilon / 255.0;
            let fgsm = AttackConfig::fgsm(size, [0.0, 1.0]);
            let pgd = AttackConfig {
                epsilon: size,
                steps: config.steps,
                step: 2.5 * size / config.steps as f64,
                seed: config.seed,
                ..AttackConfig::default()
            };
            for (attack, name) in [(fgsm, "fgsm"), (pgd, "pgd")] {
                let outcome = attacked_accuracy(&scores, &x, &y, &attack, together)?;
                let measured = |name: String, mean: Mean, definition: String| Measurement {
                    name,
                    value: mean.value,
                    interval: mean.interval,
                    n: mean.n,
                    split: "test".to_owned(),
                    seed: Some(config.seed),
                    definition,
                };
                if all.is_empty() {
                    let text = format!("accuracy of {BY} on the images that are attacked, as they are");
                    let clean = measured("attacked_clean".to_owned(), outcome.clean, text);
                    all.push(Measurement { seed: None, ..clean });
                }
                let into = if name == "fgsm" { &mut all } else { &mut strong };
                for m in outcome.measurements("test", BY) {
                    let text = format!("{} (epsilon = {epsilon}/255 of white)", m.definition);
                    let relative = format!("{text}, over their accuracy as they are");
                    into.push(Measurement { name: format!("{name}@{epsilon}"), definition: text, ..m });
                    let kept = accuracy_kept(
                        &outcome.right,
                        std::slice::from_ref(&outcome.still_right),
                        config.resamples,
                        config.seed,
                    )?;
                    into.extend(kept.map(|mean| measured(format!("{name}_kept@{epsilon}"), mean, relative)));
                }
                stage.done += 1;
                progress(stage);
            }
        }
        all.extend(strong);
        Ok(all)
    }

    /// How surely the most corrupted images are less familiar than clean ones.
    fn familiarity(
        &self,
        seen: &Seen,
        clean: &Tensor,
        hardest: &Tensor,
        of_hardest: Vec<usize>,
    ) -> Result<Vec<Measurement>> {
        let chosen = images::evenly_indices(seen.train.size()[0] as usize, FAMILIAR);
        let n = chosen.size()[0];
        let train = Features::new(
            seen.train.index_select(0, &chosen),
            self.labels.train.index_select(0, &chosen),
            self.labels.classes.len() as i64,
        )?;
        let config = OutlierConfig { seed: self.recipe.eval.robustness.seed, ..OutlierConfig::default() };
        // An image and what corruptions made of it are drawn together.
        let sources = Sources { known: (0..clean.size()[0] as usize).collect(), unknown: of_hardest };
        let found = outliers_by_source(&train, clean, hardest, &sources, &config)?.measurements("test");
        let renamed = found.into_iter().filter_map(|m| {
            let measure = m.name.strip_prefix("ood_")?;
            Some(Measurement {
                name: format!("corrupted_{measure}"),
                definition: format!(
                    "{}; known are clean test images, unknown a fifth of those under each corruption of severity 5, the training part {n} \
                     samples; the interval is over images",
                    m.definition
                ),
                ..m
            })
        });
        Ok(renamed.collect())
    }
}

/// Images of so many numbers that an attack moves at a time: no more than are encoded at a time.
fn attacked_together(numbers: usize, batch_size: usize) -> i64 {
    (ATTACKED_TOGETHER / numbers.max(1)).clamp(1, batch_size.max(1)) as i64
}

/// What one encoder made of all images.
struct Answered {
    answers: RightAnswers,
    /// Features of clean images.
    clean: Tensor,
    /// Features of a fifth of the images under each corruption of severity 5.
    hardest: Tensor,
    /// The images that these are of.
    of_hardest: Vec<usize>,
}

/// `n` images, evenly taken, as the encoder sees them.
fn shown(recipe: &Recipe, set: &Arc<dyn ImageSet>, n: usize) -> Result<ArrayImages> {
    let view = images::plain_view(recipe, set.channels())?;
    let size = recipe.plain_view().size;
    let one = |i: usize| -> Result<Image> { Ok(view.show(&set.get(i)?)?.to_image()?) };
    let all = images::evenly(set.len(), n).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    let pixels = all.iter().flat_map(Image::pixels).copied().collect();
    Ok(ArrayImages::new(pixels, [size, size, set.channels()])?)
}

/// A test image under every disturbance, a row for each family, for the page.
///
/// # Errors
/// When the image cannot be read.
pub fn examples(recipe: &Recipe) -> Result<Vec<ViewRow>> {
    const SEVERITY: usize = 3;
    let images = Images::open(&recipe.data)?;
    let image = shown(recipe, &images.test, 1)?.get(0)?;
    let severity = Severity::ALL[SEVERITY - 1];
    let row = |all: Vec<Disturbance>| -> Result<ViewRow> {
        let view = |disturbance: Disturbance| -> Result<View> {
            let disturbed = disturbance.apply(&image, recipe.eval.robustness.seed, 0)?;
            Ok(View { image: picture(&disturbed)?, caption: disturbance.name().replace('_', " ") })
        };
        let views = all.into_iter().map(view).collect::<Result<_>>()?;
        Ok(ViewRow { image: picture(&image)?, views })
    };
    let mut rows = Vec::new();
    for family in Family::ALL {
        let of_it = Corruption::ALL.into_iter().filter(|c| c.family() == family);
        rows.push(row(of_it.map(|c| Disturbance::Corruption(c, severity)).collect())?);
    }
    rows.push(row(vec![Disturbance::Shift(severity), Disturbance::Occlusion(severity)])?);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_seventeen_disturbances_of_five_severities() {
        let all = disturbances();
        let names: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
        let different: BTreeSet<String> =
            all.iter().flat_map(|(_, all)| all).map(|disturbance| format!("{disturbance:?}")).collect();
        assert_eq!((names.len(), different.len()), (17, 85));
        assert!(all.iter().all(|(name, all)| all.iter().all(|disturbance| disturbance.name() == *name)));
    }

    #[test]
    fn fewer_of_the_larger_images_are_attacked_at_a_time() {
        assert_eq!(attacked_together(28 * 28, 512), 512);
        assert_eq!(attacked_together(3 * 32 * 32, 512), 256);
        assert_eq!(attacked_together(3 * 224 * 224, 512), 5);
        assert_eq!(attacked_together(3 * 1024 * 1024, 512), 1);
        assert_eq!(attacked_together(3 * 32 * 32, 64), 64);
    }

    #[test]
    fn names_the_field_that_cannot_work() {
        let refused = |setting: &str| {
            let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }";
            let recipe = Recipe::parse(text, &[setting.parse().unwrap()]).unwrap();
            recipe.eval.robustness.check().unwrap_err().to_string()
        };
        assert_eq!(
            refused("eval.robustness.label_noise=[0.2, 1.0]"),
            "eval.robustness.label_noise = 1: shares between 0 and 1"
        );
        assert_eq!(
            refused("eval.robustness.epsilons=[-1.0]"),
            "eval.robustness.epsilons = -1: 0 to 255, in 255ths"
        );
        assert_eq!(refused("eval.robustness.steps=0"), "eval.robustness.steps = 0: at least 1");
        assert_eq!(refused("eval.robustness.resamples=0"), "eval.robustness.resamples = 0: at least 1");
    }

    #[test]
    fn images_are_taken_evenly_and_at_the_size_of_the_view() {
        let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }\nviews.kinds = [{ size = 2 }]";
        let recipe = Recipe::parse(text, &[]).unwrap();
        let pixels = (0..6_u8).flat_map(|i| [i * 10; 16]).collect();
        let set: Arc<dyn ImageSet> = Arc::new(ArrayImages::new(pixels, [4, 4, 1]).unwrap());
        let found = shown(&recipe, &set, 3).unwrap();
        let all: Vec<Vec<u8>> = (0..3).map(|i| found.get(i).unwrap().pixels().to_vec()).collect();
        assert_eq!(all, [vec![0; 4], vec![20; 4], vec![40; 4]]);
    }
}
