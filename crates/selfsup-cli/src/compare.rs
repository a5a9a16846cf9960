//! `selfsup compare`: which of several runs is better on the same test samples, and whether that could be chance.
//!
//! Two runs are paired sample by sample, by the answers that `eval --suite full` left beside report.json. Runs that differ in
//! their seed alone are one method, whose mean over seeds is compared with those of others.

use crate::finetune;
use crate::full::Answers;
use crate::layers::{self, LayerPair, Seen};
use crate::origin::{self, Origin};
use crate::places;
use crate::pretrain::recipe_of;
use crate::recipe::Whose;
use crate::report::{self, Cell, Column, ReportData, Row, Scores, SuiteGroup, SuiteMeasure};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use selfsup::core::state::write_whole;
use selfsup::eval::{
    Interval, LEVEL, McNemar, Mean, Paired, PairedConfig, Pairing, SeedTest, compare_seeds, holm, mcnemar,
    paired,
};
use selfsup::train::checkpoint::{Checkpoints, Pointer, verify};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is compared.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folders of runs or of features.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The probe whose answers are paired: linear or knn.
    #[arg(long, default_value = "linear")]
    probe: String,
    /// Compare the layers of runs on images too: how alike every two are on the same test images, by CKA.
    #[arg(long)]
    cka: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// A folder for compare.json, report.html and the plots.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what an earlier call has left there.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    machine: crate::Machine,
}

/// Runs the command.
///
/// # Errors
/// When a folder was not judged by the full suite, the folders have other test samples, the probe is not known, or what is to be written is
/// there already.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(out) = &arguments.out {
        places::check_no_report(out)?;
        places::free_in(out, &["compare.json", "report.html", "plots"], arguments.overwrite)?;
    }
    for (i, folder) in arguments.runs.iter().enumerate() {
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        let same = |other: &&PathBuf| other.canonicalize().ok() == folder.canonicalize().ok();
        if let Some(first) = arguments.runs[..i].iter().find(same) {
            bail!("{} is {}; name each folder once", folder.display(), first.display());
        }
    }
    let runs = arguments.runs.iter().map(|folder| Judged::read(folder)).collect::<Result<Vec<_>>>()?;
    let mut comparison = Comparison::of(&runs, &arguments.probe)?;
    if arguments.cka {
        let device = arguments.machine.choose()?;
        let folders = arguments.runs.iter().zip(&comparison.runs).zip(&runs);
        let seen = folders
            .map(|((folder, called), judged)| Seen::of(folder, &called.run, judged.origin.weights, device));
        let seen = seen.collect::<Result<Vec<_>>>()?;
        comparison.layers = layers::pairs(&seen)?;
    }
    let text = serde_json::to_string_pretty(&comparison)?;
    if arguments.json {
        println!("{text}");
    } else {
        println!("{}", comparison.tables());
    }
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        write_whole(&out.join("compare.json"), text.as_bytes())?;
        eprintln!("{}", report::write(&comparison.page(), out)?.display());
    }
    Ok(())
}

/// A run as `eval --suite full` left it.
struct Judged {
    name: String,
    /// Method, encoder, size and step, as a reader knows them.
    about: String,
    /// The recipe without its seed; none for features from elsewhere, which no two folders have in common.
    recipe: Option<Value>,
    origin: Origin,
    answers: Answers,
}

impl Judged {
    fn read(folder: &Path) -> Result<Self> {
        let config = std::fs::read_to_string(folder.join("config.toml"));
        ensure!(
            !config.is_ok_and(|text| finetune::made(&text)),
            "{}: a run of selfsup finetune, which selfsup report annotation compares; name runs of selfsup pretrain, or features",
            folder.display()
        );
        let path = folder.join("report.json");
        let again = || format!("{}: {}", path.display(), origin::again(folder));
        let text = std::fs::read_to_string(&path).with_context(again)?;
        let report: Value = serde_json::from_str(&text).with_context(again)?;
        ensure!(
            report["scores"].is_object(),
            "{}: of samples without classes; selfsup compare takes runs and features whose samples have some",
            path.display()
        );
        let origin = Origin::deserialize(&report["origin"]).map_err(|_| {
            anyhow::anyhow!("{}: is of another version; {}", path.display(), origin::again(folder))
        })?;
        let answers = Answers::read(folder, &origin)?;
        let recipe = origin.recipe.is_some().then(|| of_this_run(folder, &path, &origin)).transpose()?;
        let name = std::path::absolute(folder)?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let facts = &report["run"];
        let word = |key: &str| facts[key].as_str().map(str::to_owned);
        let about = match (word("method"), word("encoder")) {
            (Some(method), Some(encoder)) => {
                let whose = if origin.weights == Whose::Teacher { ", the teacher's weights" } else { "" };
                format!(
                    "{method}, {encoder}, {} parameters, step {}{whose}",
                    facts["parameters"], facts["step"]
                )
            }
            _ => name.clone(),
        };
        Ok(Judged { name, about, recipe, origin, answers })
    }
}

/// The method of the run in a folder, when report.json is of its last checkpoint and of its config.toml.
fn of_this_run(folder: &Path, path: &Path, origin: &Origin) -> Result<Value> {
    let recipe = recipe_of(folder)?;
    // Of a run that was put away without its weights the report is all there is.
    let last = Checkpoints::new(folder).find(Pointer::Last)?;
    let step = last.map(|last| verify(&last)).transpose()?.map(|state| state.step).or(origin.step);
    let parts = [origin.train.clone(), origin.test.clone()];
    // A config.toml does not say whose weights were judged.
    let run = Origin { step, weights: origin.weights, ..Origin::of_run(&recipe, 0, parts)? };
    origin.check_same(path, &run, "the run's last checkpoint and config.toml", folder)?;
    origin::method(&recipe)
}

/// What each run's method is called: runs of one name differ in their seed alone.
///
/// # Errors
/// When two runs of a method have the same seed: they are one training, and say nothing of others.
fn methods(runs: &[Judged], names: &[String]) -> Result<Vec<String>> {
    let same = |a: &Judged, b: &Judged| {
        let (a, b) = (&a.origin, &b.origin);
        a.recipe.is_some() && a.recipe == b.recipe && a.step == b.step && a.weights == b.weights
    };
    for (i, run) in runs.iter().enumerate() {
        if let Some(j) = (0..i).find(|&j| same(&runs[j], run) && runs[j].origin.seed == run.origin.seed) {
            let (seed, first) = (run.origin.seed.unwrap_or_default(), &names[j]);
            bail!(
                "{}: is the same recipe at the same step with the same train.seed = {seed} as {first}; name each training once, and \
                 train with other seeds for a mean over them",
                names[i]
            );
        }
    }
    let name = |i: usize| {
        let run = &runs[i];
        let Some(recipe) = &run.recipe else { return names[i].clone() };
        // What tells it from the other methods that a reader would call the same.
        let alike = runs.iter().filter(|other| other.about == run.about);
        let others: Vec<&Value> = alike.filter_map(|other| other.recipe.as_ref()).collect();
        let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
        let mut paths: Vec<String> =
            others.iter().flat_map(|other| origin::fields(other)).map(|(path, _)| path).collect();
        paths.sort();
        paths.dedup();
        paths.retain(|path| {
            let own = recipe.pointer(&pointer(path));
            others.iter().any(|other| other.pointer(&pointer(path)) != own)
        });
        let shown = paths.iter().map(|path| {
            let value = recipe.pointer(&pointer(path)).map_or_else(|| "unset".to_owned(), Value::to_string);
            format!(", {path} = {value}")
        });
        format!("{}{}", run.about, shown.collect::<String>())
    };
    Ok((0..runs.len()).map(name).collect())
}

/// The accuracy of a run.
#[derive(Debug, Serialize)]
struct OfRun {
    run: String,
    method: String,
    seed: Option<u64>,
    accuracy: Mean,
}

/// Two runs on the same samples.
#[derive(Debug, Serialize)]
struct Pair {
    first: String,
    second: String,
    paired: Paired,
    mcnemar: McNemar,
    /// The p-value of the permutation test, corrected for the number of pairs.
    p_holm: f64,
}

/// The runs of a method.
#[derive(Debug, Serialize)]
struct OfMethod {
    method: String,
    accuracy: Mean,
}

/// Two methods over seeds.
#[derive(Debug, Serialize)]
struct MethodPair {
    first: String,
    second: String,
    test: SeedTest,
}

/// All that is compared.
#[derive(Debug, Serialize)]
struct Comparison {
    probe: String,
    test_samples: usize,
    runs: Vec<OfRun>,
    pairs: Vec<Pair>,
    /// Methods with several seeds.
    methods: Vec<OfMethod>,
    method_pairs: Vec<MethodPair>,
    /// The layers of every two runs, where that is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerPair>,
    definitions: Value,
}

impl Comparison {
    fn of(runs: &[Judged], probe: &str) -> Result<Self> {
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
            right.push(of_run.with_context(|| format!("--probe {probe}: there are {}", probes.join(", ")))?);
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
                });
            }
        }
        let definitions = json!({
            "accuracy": format!("share of the {n} test samples that the {probe} probe has right; interval by Wilson"),
            "paired": "difference of two runs on the same test samples, interval by the paired bootstrap, p-value by the paired \
                       permutation test: whether it could be chance on other test samples",
            "mcnemar": "exact test of whether two runs err equally often",
            "p_holm": "the permutation test's p-value, corrected for the number of pairs (Holm 1979)",
            "methods": "mean over seeds with Student's interval; runs are of one method when their recipes differ in nothing but train.seed, and their \
                        checkpoints are of one step",
            "method_pairs": "Welch's t-test between the seeds of two methods: whether it could be chance with other seeds",
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

    fn tables(&self) -> String {
        let mut lines = vec![format!("{:<40}{:>30}", "run", format!("{} accuracy [95 %]", self.probe))];
        let mean = |mean: &Mean| match mean.interval {
            Some(i) => format!("{:.4} [{:.4}, {:.4}]", mean.value, i.low, i.high),
            None => format!("{:.4}", mean.value),
        };
        for run in &self.runs {
            lines.push(format!("{:<40}{:>30}", run.run, mean(&run.accuracy)));
        }
        lines.push(String::new());
        lines.push(format!(
            "{:<40}{:>30}{:>9}{:>9}{:>9}",
            "first - second", "difference [95 %]", "p", "Holm", "McNemar"
        ));
        for pair in &self.pairs {
            let who = format!("{} - {}", pair.first, pair.second);
            let Paired { difference, p_value, .. } = &pair.paired;
            let (p, holm, exact) = (p_value, pair.p_holm, pair.mcnemar.p_value);
            lines.push(format!("{who:<40}{:>30}{p:>9.4}{holm:>9.4}{exact:>9.4}", mean(difference)));
        }
        if !self.methods.is_empty() {
            lines.push(String::new());
            lines.push(format!("{:<60}{:>30}", "method", "mean over seeds [95 %]"));
            for method in &self.methods {
                lines.push(format!(
                    "{:<60}{:>30}",
                    format!("{} ({} seeds)", method.method, method.accuracy.n),
                    mean(&method.accuracy)
                ));
            }
            for MethodPair { first, second, test } in &self.method_pairs {
                lines.push(format!(
                    "{first} - {second}: {}, p = {:.4}",
                    mean(&test.difference),
                    test.p_value
                ));
            }
        }
        for pair in &self.layers {
            lines.push(String::new());
            lines.push(pair.table());
        }
        lines.join("\n")
    }

    fn page(&self) -> ReportData {
        let of = |mean: &Mean| Some((mean.value, mean.interval.map(|i| [i.low, i.high])));
        let cell = |mean: &Mean| of(mean).map(Cell::of_interval);
        let bars = Scores {
            columns: vec![Column { name: format!("{} probe", self.probe), explanation: String::new() }],
            rows: self
                .runs
                .iter()
                .map(|r| Row { name: r.run.clone(), cells: vec![cell(&r.accuracy)] })
                .collect(),
        };
        let definition = |key: &str| self.definitions[key].as_str().unwrap_or_default().to_owned();
        let accuracies = self.runs.iter().map(|run| SuiteMeasure {
            name: run.run.clone(),
            definition: run.method.clone(),
            values: vec![of(&run.accuracy)],
        });
        let pairs = self.pairs.iter().map(|pair| SuiteMeasure {
            name: format!("{} − {}", pair.first, pair.second),
            definition: definition("paired"),
            values: vec![
                of(&pair.paired.difference),
                Some((pair.paired.p_value, None)),
                Some((pair.p_holm, None)),
                Some((pair.mcnemar.p_value, None)),
            ],
        });
        let methods = self.methods.iter().map(|method| SuiteMeasure {
            name: method.method.clone(),
            definition: definition("methods"),
            values: vec![of(&method.accuracy)],
        });
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut suite = vec![
            SuiteGroup {
                title: "Accuracy".to_owned(),
                reading: "Each bar is a run's accuracy in per cent; the line through its end is the 95 % interval. Runs whose lines \
                          overlap may still differ surely: see the pairs."
                    .to_owned(),
                encoders: words(&["accuracy"]),
                measures: accuracies.collect(),
                figure: Some(bars),
            },
            SuiteGroup {
                title: "Pairs on the same test samples".to_owned(),
                encoders: words(&["difference", "p, permutation", "p, Holm", "p, McNemar"]),
                measures: pairs.collect(),
                ..Default::default()
            },
        ];
        if !self.methods.is_empty() {
            suite.push(SuiteGroup {
                title: "Means over seeds".to_owned(),
                encoders: words(&["accuracy"]),
                measures: methods.collect(),
                ..Default::default()
            });
        }
        ReportData {
            kind: "Comparison of runs".to_owned(),
            title: self.runs.iter().map(|run| run.run.as_str()).collect::<Vec<_>>().join(", "),
            facts: vec![("Test samples".to_owned(), self.test_samples.to_string())],
            suite,
            layers: self.layers.iter().map(LayerPair::figure).collect(),
            ..Default::default()
        }
    }
}

/// The runs' names, with a number where two are called alike.
fn distinct(runs: &[Judged]) -> Vec<String> {
    let count = |name: &str| runs.iter().filter(|run| run.name == name).count();
    let name = |(i, run): (usize, &Judged)| {
        if count(&run.name) > 1 { format!("{} ({})", run.name, i + 1) } else { run.name.clone() }
    };
    runs.iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Part;

    /// A run that is wrong about every `step`-th of 200 samples. Its method is its temperature.
    fn judged(name: &str, temperature: f64, seed: u64, step: usize) -> Judged {
        let labels: Vec<i64> = (0..200).map(|i| i % 4).collect();
        let linear = (0..200).map(|i| if i % step == 0 { (labels[i] + 1) % 4 } else { labels[i] }).collect();
        let predictions = BTreeMap::from([("linear".to_owned(), linear)]);
        let recipe = json!({"objective": {"temperature": temperature}, "train": {"epochs": 3}});
        let part = |labels: &[i64]| Part::new(labels.len(), Some(labels), Some(json!("digest")));
        let origin = Origin {
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
        assert!(serde_json::to_value(&found).unwrap()["definitions"]["p_holm"].is_string());
    }

    #[test]
    fn writes_a_page_with_a_plot() {
        let folder = tempfile::tempdir().unwrap();
        let found = Comparison::of(&four(), "linear").unwrap();
        let page = report::write(&found.page(), folder.path()).unwrap();
        let text = std::fs::read_to_string(page).unwrap();
        for part in ["Comparison of runs", "a0 − b0", "Means over seeds", "<svg"] {
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
        assert_eq!(error, "--probe mlp: there are linear");
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
