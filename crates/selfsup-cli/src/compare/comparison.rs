//! What runs on the same test samples say of each other.

use super::judged::{Judged, distinct, methods};
use crate::layers::LayerPair;
use anyhow::{Context, Result, ensure};
use selfsup::eval::{
    Interval, LEVEL, McNemar, Mean, Paired, PairedConfig, Pairing, SeedTest, compare_seeds, holm, mcnemar,
    paired,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The accuracy of a run.
#[derive(Debug, Serialize)]
pub struct OfRun {
    /// What it is called.
    pub run: String,
    /// What its method is called.
    pub method: String,
    /// The seed of its training; none of features from elsewhere.
    pub seed: Option<u64>,
    /// The share of the test samples that it has right.
    pub accuracy: Mean,
}

/// Two runs on the same samples.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// A run.
    pub first: String,
    /// Another one.
    pub second: String,
    /// Their difference.
    pub paired: Paired,
    /// Whether they err equally often.
    pub mcnemar: McNemar,
    /// The p-value of the permutation test, corrected for the number of pairs.
    pub p_holm: f64,
}

/// The runs of a method.
#[derive(Debug, Serialize)]
pub struct OfMethod {
    /// What it is called.
    pub method: String,
    /// The mean over its seeds.
    pub accuracy: Mean,
}

/// Two methods over seeds.
#[derive(Debug, Serialize)]
pub struct MethodPair {
    /// A method.
    pub first: String,
    /// Another one.
    pub second: String,
    /// Whether their means differ by more than seeds do.
    pub test: SeedTest,
    /// Its p-value, corrected for the number of pairs.
    pub p_holm: f64,
}

/// All that is compared.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Whose answers are paired.
    pub probe: String,
    /// How many samples judge.
    pub test_samples: usize,
    /// In the order that they were named.
    pub runs: Vec<OfRun>,
    /// Every two of them.
    pub pairs: Vec<Pair>,
    /// Methods with several seeds.
    pub methods: Vec<OfMethod>,
    /// Every two of those.
    pub method_pairs: Vec<MethodPair>,
    /// The layers of every two runs, where that is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerPair>,
    /// What each number means.
    pub definitions: Value,
}

impl Comparison {
    /// Compares runs by the answers of a probe.
    ///
    /// # Errors
    /// When the runs have other samples, one training is named twice, or there are no answers of that probe.
    pub fn of(runs: &[Judged], probe: &str) -> Result<Self> {
        let first = runs.first().context("no run is named")?;
        let mut right = Vec::new();
        for run in runs {
            for (part, same) in [
                (
                    "test",
                    run.answers.labels == first.answers.labels && run.origin.test.is_like(&first.origin.test),
                ),
                ("training", run.origin.train.is_like(&first.origin.train)),
            ] {
                ensure!(same, "{}: its {part} samples are others than those of {}", run.name, first.name);
            }
            let probes: Vec<&str> = run.answers.predictions.keys().map(String::as_str).collect();
            let of_run = run.answers.right(probe);
            let others = || format!("--probe {probe}: of {} there are {}", run.name, probes.join(", "));
            right.push(of_run.with_context(others)?);
        }
        let names = distinct(runs);
        let called = methods(runs, &names)?;
        let n = first.answers.labels.len();
        let accuracy = |right: &[bool]| -> Result<Mean> {
            let count = right.iter().filter(|r| **r).count() as u64;
            Ok(Mean {
                value: count as f64 / n as f64,
                interval: Interval::wilson(count, n as u64, LEVEL)?,
                n,
            })
        };
        let of_runs = runs.iter().enumerate().map(|(i, run)| {
            let (name, method, seed) = (names[i].clone(), called[i].clone(), run.origin.seed);
            Ok(OfRun { run: name, method, seed, accuracy: accuracy(&right[i])? })
        });
        let of_runs = of_runs.collect::<Result<Vec<_>>>()?;
        let values = |right: &[bool]| right.iter().map(|r| f64::from(u8::from(*r))).collect::<Vec<f64>>();
        let mut pairs = Vec::new();
        for a in 0..runs.len() {
            for b in a + 1..runs.len() {
                pairs.push(Pair {
                    first: names[a].clone(),
                    second: names[b].clone(),
                    paired: paired(&values(&right[a]), &values(&right[b]), &PairedConfig::default())?,
                    mcnemar: mcnemar(&right[a], &right[b])?,
                    p_holm: f64::NAN,
                });
            }
        }
        let corrected = holm(&pairs.iter().map(|pair| pair.paired.p_value).collect::<Vec<_>>())?;
        pairs.iter_mut().zip(corrected).for_each(|(pair, p)| pair.p_holm = p);
        let mut by_method: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for run in &of_runs {
            by_method.entry(&run.method).or_default().push(run.accuracy.value);
        }
        let several: Vec<(&str, Vec<f64>)> = by_method.into_iter().filter(|(_, v)| v.len() > 1).collect();
        let methods = several.iter().map(|(method, values)| {
            Ok(OfMethod { method: (*method).to_owned(), accuracy: Mean::over_shares(values)? })
        });
        let methods = methods.collect::<Result<_>>()?;
        let mut method_pairs = Vec::new();
        for (i, (first, a)) in several.iter().enumerate() {
            for (second, b) in &several[i + 1..] {
                let test = compare_seeds(a, b, Pairing::Unpaired, LEVEL)?;
                method_pairs.push(MethodPair {
                    first: (*first).to_owned(),
                    second: (*second).to_owned(),
                    test,
                    p_holm: f64::NAN,
                });
            }
        }
        let corrected = holm(&method_pairs.iter().map(|pair| pair.test.p_value).collect::<Vec<_>>())?;
        method_pairs.iter_mut().zip(corrected).for_each(|(pair, p)| pair.p_holm = p);
        let definitions = json!({
            "accuracy": format!("share of the {n} test samples that the {probe} probe has right; interval by Wilson"),
            "paired": "difference of two runs on the same test samples, interval by the paired bootstrap, p-value by the paired \
                       permutation test: whether it could be chance on other test samples",
            "mcnemar": "exact test of whether two runs err equally often",
            "p_holm": "the p-value beside it, corrected for the number of pairs (Holm 1979)",
            "methods": "mean over seeds with Student's interval; runs are of one method when their recipes differ in nothing but train.seed and the draw of labels, and their \
                        checkpoints are of one step",
            "method_pairs": "difference of two means over seeds, interval and p-value by Welch's t-test between their seeds: whether it could be chance with other seeds",
            "layers": "linear CKA of every layer of a run with every layer of another on the same test images, debiased (Kornblith et \
                       al. 2019; Nguyen et al. 2021): 1 for one that is the other, rotated and scaled",
        });
        let (probe, test_samples) = (probe.to_owned(), n);
        let layers = Vec::new();
        Ok(Comparison {
            probe,
            test_samples,
            runs: of_runs,
            pairs,
            methods,
            method_pairs,
            layers,
            definitions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::full::Answers;
    use crate::origin::{Origin, Part};
    use crate::recipe::Whose;
    use crate::report;

    /// A run that is wrong about every `step`-th of 200 samples. Its method is its temperature.
    fn judged(name: &str, temperature: f64, seed: u64, step: usize) -> Judged {
        let labels: Vec<i64> = (0..200).map(|i| i % 4).collect();
        let linear = (0..200).map(|i| if i % step == 0 { (labels[i] + 1) % 4 } else { labels[i] }).collect();
        let predictions = BTreeMap::from([("linear".to_owned(), linear)]);
        let recipe = json!({"objective": {"temperature": temperature}, "train": {"epochs": 3}});
        let part = |labels: &[i64]| Part::new(labels.len(), Some(labels), Some(json!("digest")));
        let origin = Origin {
            draw: None,
            weights: Whose::Trained,
            step: Some(24),
            recipe: Some(recipe.to_string()),
            seed: Some(seed),
            train: part(&[0, 1, 2, 3]),
            test: part(&labels),
        };
        let answers = Answers { labels, predictions };
        let about = "simclr, convnet".to_owned();
        Judged { name: name.into(), about, recipe: Some(recipe), origin, answers }
    }

    fn four() -> Vec<Judged> {
        vec![
            judged("a0", 0.1, 0, 10),
            judged("a1", 0.1, 1, 11),
            judged("b0", 0.5, 0, 3),
            judged("b1", 0.5, 1, 4),
        ]
    }

    #[test]
    fn pairs_runs_and_averages_seeds() {
        let found = Comparison::of(&four(), "linear").unwrap();
        assert_eq!((found.runs.len(), found.pairs.len(), found.methods.len()), (4, 6, 2));
        assert_eq!(found.runs[0].accuracy.value, 0.9);
        let pair = &found.pairs[1]; // a0 - b0
        assert_eq!((pair.first.as_str(), pair.second.as_str()), ("a0", "b0"));
        assert!((pair.paired.difference.value - (0.9 - 133.0 / 200.0)).abs() < 1e-12);
        assert!(
            pair.paired.p_value < 0.001 && pair.p_holm >= pair.paired.p_value && pair.mcnemar.p_value < 0.001
        );
        let tables = found.tables();
        for part in ["a0 - b1", "simclr, convnet, objective.temperature = 0.1 (2 seeds)", "Holm"] {
            assert!(tables.contains(part), "{tables}");
        }
        assert_eq!(found.method_pairs.len(), 1);
        // Of one pair there is nothing to correct.
        assert_eq!(found.method_pairs[0].p_holm, found.method_pairs[0].test.p_value);
        assert!(serde_json::to_value(&found).unwrap()["definitions"]["p_holm"].is_string());
    }

    #[test]
    fn writes_a_page_with_a_plot() {
        let folder = tempfile::tempdir().unwrap();
        let found = Comparison::of(&four(), "linear").unwrap();
        let page = report::write(&found.page(), folder.path()).unwrap();
        let text = std::fs::read_to_string(page).unwrap();
        for part in
            ["Comparison of runs", "a0 − b0", "Means over seeds", "Pairs of methods", "p, Welch", "<svg"]
        {
            assert!(text.contains(part), "{part}");
        }
        assert!(folder.path().join("plots/accuracy.png").is_file());
    }

    #[test]
    fn what_differs_in_more_than_the_seed_is_no_mean_over_seeds() {
        let found = Comparison::of(&[judged("a", 0.1, 0, 10), judged("b", 0.5, 1, 9)], "linear").unwrap();
        assert!(found.methods.is_empty() && found.method_pairs.is_empty());
        let methods: Vec<&str> = found.runs.iter().map(|run| run.method.as_str()).collect();
        assert_eq!(
            methods,
            ["simclr, convnet, objective.temperature = 0.1", "simclr, convnet, objective.temperature = 0.5"]
        );
        // An earlier step of the same training is no other seed of it either.
        let mut later = judged("later", 0.1, 1, 9);
        later.origin.step = Some(48);
        later.about = "simclr, convnet, step 48".to_owned();
        let found = Comparison::of(&[judged("a", 0.1, 0, 10), later], "linear").unwrap();
        assert!(found.methods.is_empty());
    }

    #[test]
    fn one_training_named_twice_is_refused() {
        let error = Comparison::of(&[judged("a", 0.1, 3, 10), judged("a", 0.1, 3, 10)], "linear");
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with(
                "a (2): is the same recipe at the same step with the same train.seed = 3 as a (1)"
            ),
            "{error}"
        );
    }

    #[test]
    fn features_of_two_folders_are_no_seeds_of_one_method() {
        let features = |step| {
            let mut found = judged("features", 0.1, 0, step);
            (found.recipe, found.origin.recipe, found.origin.seed) = (None, None, None);
            found.about = "features".to_owned();
            found
        };
        let found = Comparison::of(&[features(5), features(6)], "linear").unwrap();
        assert!(found.methods.is_empty());
        assert_eq!(found.runs[1].method, "features (2)");
    }

    #[test]
    fn runs_of_one_name_are_told_apart() {
        let found = Comparison::of(&[judged("x", 0.1, 0, 5), judged("x", 0.1, 1, 6)], "linear").unwrap();
        assert_eq!((found.runs[1].run.as_str(), found.methods.len()), ("x (2)", 1));
    }

    #[test]
    fn refuses_other_samples_and_other_probes() {
        let mut runs = four();
        let error = Comparison::of(&runs, "mlp").unwrap_err().to_string();
        assert_eq!(error, "--probe mlp: of a0 there are linear");
        runs[2].origin.train.labels = Some("others".to_owned());
        let error = Comparison::of(&runs, "linear").unwrap_err().to_string();
        assert_eq!(error, "b0: its training samples are others than those of a0");
        runs[2].origin.test.content = Some(json!("others"));
        let error = Comparison::of(&runs, "linear").unwrap_err().to_string();
        assert_eq!(error, "b0: its test samples are others than those of a0");
        runs = four();
        runs[2].answers.labels[0] = 3;
        let error = Comparison::of(&runs, "linear").unwrap_err().to_string();
        assert_eq!(error, "b0: its test samples are others than those of a0");
    }
}
