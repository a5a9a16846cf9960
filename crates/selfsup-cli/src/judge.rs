//! The probes on what several encoders see of one set, as the table of a report compares them.

use crate::full::{self, Answers, Groups, SuiteChoice};
use crate::images;
use crate::objective::Modality;
use crate::recipe::{EvalConfig, Recipe};
use anyhow::{Result, ensure};
use selfsup::core::Score;
use selfsup::core::{Error, Features, Tensor};
use selfsup::eval::{
    FewLabelConfig, LabelFreeConfig, LinearOutcome, Mean, SetHealth, SetHealthConfig, Stage, Suite,
    SuiteConfig, label_free, pair_of_views,
};
use selfsup::train::loggers::Progress;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Both parts of a set as one encoder sees them.
#[derive(Debug)]
pub struct Seen {
    /// `[N, D]` Float on the CPU.
    pub train: Tensor,
    /// `[M, D]`
    pub test: Tensor,
    /// Two augmented views of some test samples, `[P, D]` each; none where samples have no views.
    pub views: Option<[Tensor; 2]>,
    /// Activations of some test samples by layer; none where only features are known, or nobody asks.
    pub layers: Vec<(String, Tensor)>,
}

/// The classes of both parts of a set.
#[derive(Debug)]
pub struct Labels {
    /// The classes' names.
    pub classes: Vec<String>,
    /// `[N]` Int64.
    pub train: Tensor,
    /// `[M]` Int64.
    pub test: Tensor,
    /// The samples of the smallest class that occurs in the training part.
    pub smallest: usize,
}

impl Labels {
    /// The labels of a set; nothing unless both parts have them, of at least two classes.
    pub fn new(classes: Vec<String>, train: Option<Vec<i64>>, test: Option<Vec<i64>>) -> Option<Self> {
        let (train, test) = (train?, test?);
        let mut counts = BTreeMap::<i64, usize>::new();
        for &label in &train {
            *counts.entry(label).or_default() += 1;
        }
        let smallest = counts.values().copied().min()?;
        (counts.len() > 1 && !test.is_empty()).then(|| Labels {
            classes,
            train: Tensor::from_slice(&train),
            test: Tensor::from_slice(&test),
            smallest,
        })
    }
}

/// What the probes found of one encoder.
#[derive(Debug)]
pub struct Verdict {
    /// The scores by probe; none without labels.
    pub scores: Vec<(String, Score)>,
    /// The linear probe in full.
    pub linear: Option<LinearOutcome>,
    /// How the test features spread, and how near those of two views of a sample are.
    pub health: SetHealth,
    /// The measures of the full suite, without labels those that need none; none where it was not asked for.
    pub full: Option<Groups>,
    /// What the probes took the test samples for; none without labels.
    pub answers: Option<Answers>,
}

/// Refuses what of `[eval]` cannot work, without data at hand.
///
/// # Errors
/// With the field and what would be right.
pub fn check(recipe: &Recipe) -> Result<()> {
    suite(&recipe.eval, usize::MAX)?;
    ensure!(recipe.eval.batch_size > 0, "eval.batch_size = 0: at least 1");
    recipe.eval.suite.check()?;
    recipe.eval.robustness.check()?;
    if recipe.objective.modality() == Modality::Images {
        // One number for all channels does for any, and three only for colour.
        images::plain_view(recipe, recipe.data.channels.unwrap_or(3))?;
    }
    Ok(())
}

/// The probes for a training part whose smallest class has so many samples.
///
/// # Errors
/// With the field that cannot work.
pub fn suite(config: &EvalConfig, smallest: usize) -> Result<Suite> {
    let probes = SuiteConfig {
        linear: config.linear.clone(),
        few_label: few_labels(&config.few_label, smallest),
        knn: config.knn.clone(),
    };
    Ok(Suite::new(probes).map_err(|e| crate::recipe::inside(e, "eval"))?)
}

/// Runs the probes; `progress` hears how far each is.
///
/// # Errors
/// Those of the probes.
pub fn judge(
    seen: &Seen,
    labels: Option<&Labels>,
    config: &EvalConfig,
    suite_choice: SuiteChoice,
    progress: &mut dyn FnMut(Stage),
) -> Result<Verdict> {
    let Some(labels) = labels else {
        let (health, full) = without_labels(seen, config.suite.seed, suite_choice, progress)?;
        return Ok(Verdict { scores: Vec::new(), linear: None, health, full, answers: None });
    };
    let classes = labels.classes.len() as i64;
    let features = |x: &Tensor, y: &Tensor| -> Result<Features, Error> {
        Features::new(x.shallow_clone(), y.shallow_clone(), classes)
    };
    let (train, test) = (features(&seen.train, &labels.train)?, features(&seen.test, &labels.test)?);
    let found = suite(config, labels.smallest)?.run(&train, &test, progress)?;
    let (health, full) = match suite_choice {
        SuiteChoice::Probes => (health(seen)?, None),
        SuiteChoice::Full => {
            let found = full::measure(seen, labels, config, progress)?;
            let groups = found.groups("test")?;
            (found.label_free.health, Some(groups))
        }
    };
    let predictions = BTreeMap::from([
        ("linear".to_owned(), found.linear.predictions.clone()),
        ("knn".to_owned(), found.knn_predictions),
    ]);
    let answers = Some(Answers { labels: Vec::try_from(&labels.test)?, predictions });
    Ok(Verdict { scores: found.report.scores, linear: Some(found.linear), health, full, answers })
}

/// The views of samples as evaluation takes them, `[n, 2, D]`; none where samples have no views.
///
/// # Errors
/// When the two views are not of the same samples.
pub fn views(seen: &Seen) -> Result<Option<Tensor>> {
    Ok(seen.views.as_ref().map(|[x0, x1]| pair_of_views(x0, x1)).transpose()?)
}

fn health(seen: &Seen) -> Result<SetHealth> {
    Ok(SetHealth::measure(&seen.test, views(seen)?.as_ref(), &SetHealthConfig::default())?)
}

/// What is asked of features without labels.
fn without_labels(
    seen: &Seen,
    seed: u64,
    suite_choice: SuiteChoice,
    progress: &mut dyn FnMut(Stage),
) -> Result<(SetHealth, Option<Groups>)> {
    match suite_choice {
        SuiteChoice::Probes => Ok((health(seen)?, None)),
        SuiteChoice::Full => {
            let config = LabelFreeConfig { seed, ..Default::default() };
            let found = label_free(&seen.test, views(seen)?.as_ref(), &seen.layers, &config, progress)?;
            let measures = found.measurements("test");
            Ok((found.health, Some(vec![("health".to_owned(), measures)])))
        }
    }
}

/// The few-label probe with no more labels a class than the smallest has.
pub fn few_labels(config: &FewLabelConfig, smallest: usize) -> FewLabelConfig {
    FewLabelConfig { labels_per_class: config.labels_per_class.min(smallest), ..config.clone() }
}

/// The bars of the stages of one encoder, one below the other.
pub struct Bars<'a> {
    encoder: &'a str,
    bar: Option<Progress>,
}

impl<'a> Bars<'a> {
    /// No bar yet.
    pub fn new(encoder: &'a str) -> Self {
        Bars { encoder, bar: None }
    }

    /// Shows how far a stage is.
    pub fn show(&mut self, stage: Stage) {
        if stage.done == 0 {
            eprintln!("{}: {}", self.encoder, stage.name);
            self.bar = Some(Progress::new(stage.name, stage.total as u64, 0, stage.samples as u64));
        }
        if let Some(bar) = &mut self.bar {
            bar.update(stage.done as u64, "");
            if stage.done == stage.total {
                bar.finish();
            }
        }
    }
}

/// The health of features, as report.json holds it: `{"std": .., "even_std": .., "verdict": .., "lidar": .., ..}`.
pub fn health_json(health: &SetHealth) -> Value {
    let value = |mean: &Option<Mean>| json!(mean.as_ref().map(|mean| mean.value));
    let mut all = json!(health.spread);
    for (name, mean) in
        [("alpha_req", &health.alpha_req), ("alignment", &health.alignment), ("lidar", &health.lidar)]
    {
        all[name] = value(mean);
    }
    all
}

/// Scores as JSON: `{"linear": {"mean": .., "std": .., "n": ..}, ..}`.
pub fn scores_json(scores: &[(String, Score)]) -> Value {
    Value::Object(scores.iter().map(|(name, score)| (name.clone(), json!(score))).collect::<Map<_, _>>())
}

/// Scores of several encoders as a table.
pub fn table(verdicts: &[(&str, &Verdict)]) -> String {
    let Some((_, first)) = verdicts.first() else { return String::new() };
    let mut lines = Vec::new();
    let heads: String = first.scores.iter().map(|(name, _)| format!("{name:>16}")).collect();
    let title = if first.scores.is_empty() { "features" } else { "accuracy" };
    lines.push(format!(
        "{title:<14}{heads}{:>10}{:>9}{:>9}{:>11}{:>12}{:>11}",
        "std", "RankMe", "LiDAR", "alpha-ReQ", "uniformity", "alignment"
    ));
    for (name, verdict) in verdicts {
        let cells: String = verdict.scores.iter().map(|(_, score)| format!("{:>16}", cell(score))).collect();
        let SetHealth { spread, alpha_req, alignment, lidar, .. } = &verdict.health;
        let value = |mean: &Option<Mean>, digits: usize| {
            mean.as_ref().map_or_else(|| "-".to_owned(), |mean| format!("{:.digits$}", mean.value))
        };
        lines.push(format!(
            "{name:<14}{cells}{:>10.4}{:>9.1}{:>9}{:>11}{:>12.2}{:>11}",
            spread.std,
            spread.rank_me,
            value(lidar, 1),
            value(alpha_req, 2),
            spread.uniformity,
            value(alignment, 3)
        ));
    }
    lines.join("\n")
}

fn cell(score: &Score) -> String {
    if score.n > 1 { format!("{:.4} ± {:.4}", score.mean, score.std) } else { format!("{:.4}", score.mean) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::Kind;

    #[test]
    fn takes_no_more_labels_than_there_are() {
        assert_eq!(few_labels(&FewLabelConfig::default(), 4).labels_per_class, 4);
        assert_eq!(few_labels(&FewLabelConfig::default(), 50), FewLabelConfig::default());
    }

    #[test]
    fn names_the_field_of_eval_that_cannot_work() {
        let refused = |setting: &str| {
            let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }";
            check(&Recipe::parse(text, &[setting.parse().unwrap()]).unwrap()).unwrap_err().to_string()
        };
        assert_eq!(refused("eval.knn.k=0"), "eval.knn.k = 0: at least 1");
        assert_eq!(refused("eval.knn.temperature=0"), "eval.knn.temperature = 0: above 0");
        assert_eq!(refused("eval.linear.held_out=1.5"), "eval.linear.held_out = 1.5: between 0 and 1");
        assert_eq!(refused("eval.few_label.draws=0"), "eval.few_label.draws = 0: at least 1");
        assert_eq!(
            refused("eval.few_label.labels_per_class=0"),
            "eval.few_label.labels_per_class = 0: at least 1"
        );
        assert_eq!(refused("eval.batch_size=0"), "eval.batch_size = 0: at least 1");
        assert_eq!(refused("eval.size=0"), "eval.size = 0: at least 1 pixel");
        assert!(refused("eval.resize=1").starts_with("eval.resize = 1: at least size = "));
        assert!(refused("views.kinds=[{ std = [1.0, 2.0] }]").starts_with("views.kinds.0.std = "));
    }

    #[test]
    fn the_full_suite_asks_what_needs_no_labels_without_them() {
        let x = Tensor::arange(400, (Kind::Float, selfsup::core::Device::Cpu)).sin().reshape([50, 8]);
        let seen = Seen {
            train: x.shallow_clone(),
            test: x.shallow_clone(),
            views: Some([x.shallow_clone(), &x + 0.1]),
            layers: vec![("conv1".to_owned(), x.narrow(1, 0, 4))],
        };
        let config = EvalConfig::default();
        let ask = |choice| judge(&seen, None, &config, choice, &mut |_| ()).unwrap();
        assert!(ask(SuiteChoice::Probes).full.is_none());
        let verdict = ask(SuiteChoice::Full);
        let groups = verdict.full.unwrap();
        assert_eq!(groups.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["health"]);
        let value = |name: &str| groups[0].1.iter().find(|m| m.name == name).map(|m| m.value);
        assert_eq!(value("rank_me"), Some(verdict.health.spread.rank_me));
        assert_eq!(value("alignment"), verdict.health.alignment.map(|mean| mean.value));
        assert_eq!(verdict.health.spread, ask(SuiteChoice::Probes).health.spread);
        for name in ["std", "uniformity", "lidar", "effective_rank conv1", "silhouette@2"] {
            assert!(value(name).is_some_and(f64::is_finite), "{name}: {groups:?}");
        }
    }

    #[test]
    fn a_single_class_is_no_label() {
        assert!(Labels::new(vec!["a".into()], Some(vec![0, 0]), Some(vec![0])).is_none());
        assert!(Labels::new(vec![], None, None).is_none());
        assert!(Labels::new(vec!["a".into(), "b".into()], Some(vec![0, 1]), Some(vec![0])).is_some());
    }
}
