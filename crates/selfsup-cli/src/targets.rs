//! `selfsup eval --features` where samples have no one class: several labels each, numbers, or a mark of what is not normal.
//!
//! The folder holds `train.npy` and `test.npy` as for classes, and
//! - `train_targets.npy`, `test_targets.npy` `[N]` or `[N, T]` floats: numbers to predict, by ridge regression;
//! - the same `[N, K]` as whole numbers, 0 and 1: labels that a sample has or not, by a logistic regression each;
//! - or `test_anomalies.npy` `[M]`, 0 and 1: all training samples are normal, and the test samples marked 1 are to be told from the
//!   others. With `train_labels.npy` beside it they are of several classes that are known, and the marked ones of none of them.
//!
//! Or one `features.safetensors` with tensors of these names.

use crate::elsewhere::{
    ONE_FILE, checked_features, checked_labels, classes, is_floating, read_npy, settings,
};
use crate::evaluate::TRAINED;
use crate::full::{self, Answers, SuiteChoice};
use crate::judge::{Bars, Seen, health_json, judge};
use crate::origin::{self, Origin};
use crate::recipe::{Assignment, EvalConfig};
use crate::report::{self, Cell, Column, ReportData, Row, Scores, SuiteGroup, SuiteMeasure};
use crate::{columns, definitions, sure, warnings};
use anyhow::{Context, Result, bail, ensure};
use selfsup::core::state::{self, write_whole};
use selfsup::core::{Features, Kind, Tensor};
use selfsup::eval::{
    Measurement, MultiLabelProbe, MultiLabelled, OutlierConfig, RegressionConfig, RegressionProbe,
    RegressionSet, outliers,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Draws of the intervals.
const RESAMPLES: usize = 1000;
/// The names of the arrays that make such a folder.
const NAMES: [&str; 3] = ["train_targets", "test_targets", "test_anomalies"];

/// Whether a folder holds other targets than classes. What cannot be read is the business of whoever reads it.
pub fn lie_in(folder: &Path) -> bool {
    NAMES.iter().any(|name| folder.join(format!("{name}.npy")).is_file())
        || state::read_header(&folder.join(ONE_FILE))
            .is_ok_and(|header| NAMES.iter().any(|name| header.tensors.contains_key(*name)))
}

/// What is asked of the features.
#[derive(Debug)]
enum Asked {
    Numbers([Tensor; 2]),
    Labels([Tensor; 2]),
    /// Which test samples are not normal, and the classes of the training samples, which are normal: one where nothing else is said.
    Anomalies {
        marks: Vec<bool>,
        classes: (Vec<i64>, i64),
    },
}

/// Features and targets of a folder, checked.
#[derive(Debug)]
struct Given {
    train: Tensor,
    test: Tensor,
    asked: Asked,
}

/// Runs the command: writes report.json into the folder and prints it or its table.
///
/// # Errors
/// When a file is missing or cannot be read, or the arrays do not belong together; the message names the array.
pub fn run(folder: &Path, set: &[Assignment], suite: SuiteChoice, print_json: bool) -> Result<()> {
    let config = settings(set)?;
    let given = Given::read(folder)?;
    columns::names(folder, given.train.size()[1])?.inspect(|_| columns::note());
    let started = Instant::now();
    let found = given.judge(&config)?;
    let seen = Seen { train: given.train, test: given.test, views: None, layers: Vec::new() };
    let mut bars = Bars::new("features");
    let mut verdict = judge(&seen, None, &config, suite, &mut |stage| bars.show(stage))?;
    let name = std::path::absolute(folder)?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let by_name = |value: Value| Value::Object(Map::from_iter([(TRAINED.to_owned(), value)]));
    let mut groups = vec![(found.group.to_owned(), found.measures.clone())];
    groups.extend(verdict.full.take().into_iter().flatten());
    let mut report = json!({
        "health": by_name(health_json(&verdict.health)),
        "outcome": by_name(found.outcome.clone()),
        "suite": full::json(&[(TRAINED.to_owned(), groups)])?,
        "data": {
            "name": name, "train": seen.train.size()[0], "test": seen.test.size()[0], "dim": seen.train.size()[1],
            "split": "as the files have it",
        },
        "definitions": definitions::of_probes(&config, None),
        "seconds": started.elapsed().as_secs_f64(),
    });
    report["definitions"]["suite"] = full::definition();
    report["definitions"]["outcome"] = json!(found.outcome_is);
    report["definitions"]["measurements"] = json!(sure::DEFINITION);
    let known = sure::of_encoder(TRAINED, &verdict, &config)?;
    report["measurements"] = sure::json(&known, &report["definitions"]);
    let samples = [&seen.train, &seen.test].map(|x| x.size()[0] as usize);
    report["origin"] = json!(Origin::of_features(samples, None)?);
    report["definitions"]["origin"] = json!(origin::DEFINITION);
    let text = serde_json::to_string_pretty(&report)?;
    let path = folder.join("report.json");
    // There are no answers by classes here.
    Answers::remove(folder)?;
    write_whole(&path, text.as_bytes())?;
    if suite == SuiteChoice::Full {
        let page = page(folder, &name, &report, &found)?;
        eprintln!("{}", report::write(&page, folder)?.display());
    }
    if print_json {
        println!("{text}");
    } else {
        println!("{}", table(&found.measures));
        eprintln!("{} written in {:.0} s", path.display(), started.elapsed().as_secs_f64());
    }
    for warning in warnings::of(&report) {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// What was found.
struct Found {
    /// The key of the measures.
    group: &'static str,
    title: &'static str,
    reading: &'static str,
    measures: Vec<Measurement>,
    /// All of it, for report.json.
    outcome: Value,
    outcome_is: &'static str,
}

impl Given {
    fn read(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        let one = folder.join(ONE_FILE);
        if !one.is_file() {
            let path = |name: &str| folder.join(format!("{name}.npy"));
            let take = |name: &str| path(name).is_file().then(|| read_npy(&path(name))).transpose();
            return Self::new(take, |name| path(name).display().to_string());
        }
        let others = ["train", "test"].iter().chain(&NAMES).map(|name| folder.join(format!("{name}.npy")));
        if let Some(other) = others.into_iter().find(|path| path.is_file()) {
            bail!("{}: there is {ONE_FILE} beside it; leave the one that is meant", other.display());
        }
        let tensors: BTreeMap<String, Tensor> = state::read(&one)?;
        let take = |name: &str| Ok(tensors.get(name).map(Tensor::shallow_clone));
        Self::new(take, |name| format!("{}: {name}", one.display()))
    }

    /// `take` gives an array by its name, if there is one; `called` says where it is from.
    fn new(take: impl Fn(&str) -> Result<Option<Tensor>>, called: impl Fn(&str) -> String) -> Result<Self> {
        let needed = |name: &str| take(name)?.with_context(|| format!("{} is missing", called(name)));
        let features = |name: &str| checked_features(&needed(name)?, &called(name));
        let (train, test) = (features("train")?, features("test")?);
        let (d, found) = (train.size()[1], test.size()[1]);
        ensure!(d == found, "{}: {found} features a row, but {} has {d}", called("test"), called("train"));
        let marks = take("test_anomalies")?;
        // What is known may be of several classes, what is to be told from it has none.
        let known = take("train_labels")?.filter(|_| marks.is_some());
        for labels in ["train_labels", "test_labels"] {
            ensure!(
                take(labels)?.is_none() || labels == "train_labels" && known.is_some(),
                "{}: a class for each sample, beside other targets; leave those that are meant",
                called(labels)
            );
        }
        let rows = |name: &str, x: &Tensor, of: &str, n: i64| -> Result<()> {
            let found = x.size().first().copied().unwrap_or(0);
            ensure!(found == n, "{}: {found} rows for the {n} of {}", called(name), called(of));
            Ok(())
        };
        if let Some(marks) = marks {
            for name in ["train_targets", "test_targets"] {
                ensure!(
                    take(name)?.is_none(),
                    "{}: targets beside test_anomalies; leave those that are meant",
                    called(name)
                );
            }
            let name = "test_anomalies";
            let marks = marks.to_kind(Kind::Double);
            ensure!(
                marks.dim() == 1,
                "{}: 0 or 1 for each sample [M], this is {:?}",
                called(name),
                marks.size()
            );
            rows(name, &marks, "test", test.size()[0])?;
            let marks = Vec::<f64>::try_from(marks)?;
            if let Some(row) = marks.iter().position(|mark| *mark != 0.0 && *mark != 1.0) {
                anyhow::bail!(
                    "{}: row {row} is {}: 0 for a normal sample, 1 for another",
                    called(name),
                    marks[row]
                );
            }
            let marks: Vec<bool> = marks.into_iter().map(|mark| mark == 1.0).collect();
            ensure!(
                marks.contains(&true) && marks.contains(&false),
                "{}: both normal samples (0) and others (1) are needed",
                called(name)
            );
            let classes = match &known {
                None => (vec![0; train.size()[0] as usize], 1),
                Some(labels) => {
                    let name = "train_labels";
                    rows(name, labels, "train", train.size()[0])?;
                    let labels = checked_labels(labels, &called(name))?;
                    let count = classes(&labels, &called(name))?;
                    (labels, count)
                }
            };
            return Ok(Given { train, test, asked: Asked::Anomalies { marks, classes } });
        }
        let targets = |name: &str, of: &str, n: i64| -> Result<Tensor> {
            let y = needed(name)?;
            rows(name, &y, of, n)?;
            let floats = is_floating(&y);
            match y.dim() {
                1 if floats => Ok(y.unsqueeze(1)),
                2 if y.size()[1] > 0 => Ok(y),
                _ => anyhow::bail!(
                    "{}: floats [N] or [N, T] are numbers to predict, whole numbers [N, K] of 0 and 1 are labels, these are {:?} {:?}; \
                     one class for each sample belongs into train_labels and test_labels",
                    called(name),
                    y.kind(),
                    y.size()
                ),
            }
        };
        let y = targets("train_targets", "train", train.size()[0])?;
        let z = targets("test_targets", "test", test.size()[0])?;
        let (a, b) = (y.size()[1], z.size()[1]);
        ensure!(a == b, "{}: {b} columns, but {} has {a}", called("test_targets"), called("train_targets"));
        ensure!(
            is_floating(&y) == is_floating(&z),
            "{}: {:?}, but {} is {:?}: both are numbers to predict (floats), or both labels (whole numbers)",
            called("test_targets"),
            z.kind(),
            called("train_targets"),
            y.kind()
        );
        for (name, y) in [("train_targets", &y), ("test_targets", &z)] {
            let fine = if is_floating(y) { y.isfinite() } else { y.eq(0).logical_or(&y.eq(1)) };
            let fine = fine.all_dim(1, false);
            if !bool::try_from(fine.all())? {
                let row = i64::try_from(fine.to_kind(Kind::Int64).argmin(0, false))?;
                let wrong =
                    if is_floating(y) { "a number that is not finite" } else { "another label than 0 or 1" };
                anyhow::bail!("{}: row {row} holds {wrong}", called(name));
            }
        }
        for (name, y) in [("train_targets", &y), ("test_targets", &z)].iter().filter(|(_, y)| is_floating(y))
        {
            let varies = y.amin([0].as_slice(), false).ne_tensor(&y.amax([0].as_slice(), false)); // [T]
            if !bool::try_from(varies.all())? {
                let column = i64::try_from(varies.to_kind(Kind::Int64).argmin(0, false))?;
                anyhow::bail!(
                    "{}: all values of column {column} are equal: nothing to predict",
                    called(name)
                );
            }
        }
        let asked = if is_floating(&y) { Asked::Numbers([y, z]) } else { Asked::Labels([y, z]) };
        Ok(Given { train, test, asked })
    }

    fn judge(&self, config: &EvalConfig) -> Result<Found> {
        match &self.asked {
            Asked::Numbers([train, test]) => {
                let asked = RegressionConfig {
                    held_out: config.linear.held_out,
                    seed: config.linear.seed,
                    resamples: RESAMPLES,
                    ..Default::default()
                };
                let (train, test) =
                    (RegressionSet::new(&self.train, train)?, RegressionSet::new(&self.test, test)?);
                let found = RegressionProbe::new(asked)?.run(&train, &test)?;
                Ok(Found {
                    group: "regression",
                    title: "Numbers predicted from the features",
                    reading: "R2 in per cent: 100 is perfect, 0 as good as the mean of the test targets, below 0 worse than that.",
                    measures: found.measurements("test"),
                    outcome: json!(found),
                    outcome_is: "ridge regression on frozen, standardised features, its penalty chosen on a held-out part of the training \
                                 samples: r2 with its interval, and for each target r2_of_targets and rmse, the latter in the target's unit",
                })
            }
            Asked::Labels([train, test]) => {
                let (train, test) =
                    (MultiLabelled::new(&self.train, train)?, MultiLabelled::new(&self.test, test)?);
                let found = MultiLabelProbe::new(config.linear.clone(), RESAMPLES)?.run(&train, &test)?;
                Ok(Found {
                    group: "multi_label",
                    title: "Labels, any number a sample",
                    reading: "Shares in per cent, the longer the better. A label that is drawn at random has an average precision of its own share \
                              among the samples.",
                    measures: found.measurements("test"),
                    outcome: json!(found),
                    outcome_is: "a logistic regression for each label on frozen, standardised features, one strength for all, chosen on a held-out \
                                 part of the training samples; average_precision of each label, none for one without a positive test sample",
                })
            }
            Asked::Anomalies { marks, classes: (labels, count) } => {
                let of = |wanted: bool| -> Tensor {
                    let rows: Vec<i64> =
                        (0..).zip(marks).filter(|(_, m)| **m == wanted).map(|(i, _)| i).collect();
                    self.test.index_select(0, &Tensor::from_slice(&rows))
                };
                let normal = Features::new(self.train.shallow_clone(), Tensor::from_slice(labels), *count)?;
                let asked =
                    OutlierConfig { resamples: RESAMPLES, seed: config.linear.seed, ..Default::default() };
                let found = outliers(&normal, &of(false), &of(true), &asked)?;
                Ok(Found {
                    group: "anomalies",
                    title: "What is not normal",
                    reading: "How surely a sample that is not normal is less familiar than one that is, in per cent: 50 is chance. Of FPR95 the shorter \
                              is the better.",
                    measures: found.measurements("test"),
                    outcome: json!(found),
                    outcome_is: "test samples that are not normal told from those that are by how familiar they are to the training samples, which are \
                                 all normal; of training samples of several classes by each class, and by the energy of a probe on them",
                })
            }
        }
    }
}

/// The measures with their intervals, as lines.
fn table(measures: &[Measurement]) -> String {
    let mut lines = vec![format!("{:<26}{:>28}", "measure [95 % interval]", "features")];
    for m in measures {
        let text = match m.interval {
            Some(i) => format!("{:.4} [{:.4}, {:.4}]", m.value, i.low, i.high),
            None => format!("{:.4}", m.value),
        };
        lines.push(format!("{:<26}{text:>28}", m.name));
    }
    lines.join("\n")
}

/// The page: what was asked, and what needs no targets.
///
/// # Errors
/// When report.json is not as it was written here.
fn page(folder: &Path, name: &str, report: &Value, found: &Found) -> Result<ReportData> {
    let measured: full::Found = serde_json::from_value(json!({ "features": report["suite"][TRAINED] }))?;
    let values = |m: &Measurement| (m.value, m.interval.map(|i| [i.low, i.high]));
    let columns =
        found.measures.iter().map(|m| Column { name: report::readable(&m.name), explanation: String::new() });
    let cells = found.measures.iter().map(|m| Some(Cell::of_interval(values(m))));
    let data = &report["data"];
    Ok(ReportData {
        kind: "Report of features".to_owned(),
        title: name.to_owned(),
        facts: vec![
            ("Data".to_owned(), format!("{} training and {} test samples", data["train"], data["test"])),
            ("Features".to_owned(), data["dim"].to_string()),
        ],
        command: format!("selfsup eval --suite full --features {}", folder.display()),
        warnings: warnings::of(report),
        suite_title: full::TITLE,
        suite: std::iter::once(SuiteGroup {
            title: found.title.to_owned(),
            reading: found.reading.to_owned(),
            encoders: vec!["features".to_owned()],
            measures: found
                .measures
                .iter()
                .map(|m| SuiteMeasure {
                    name: m.name.clone(),
                    definition: m.definition.clone(),
                    values: vec![Some(values(m))],
                })
                .collect(),
            figure: Some(Scores {
                columns: columns.collect(),
                rows: vec![Row { name: "features".to_owned(), cells: cells.collect() }],
            }),
            ..Default::default()
        })
        .chain(full::sections(&measured, &["features"]))
        .collect(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::Device;

    fn x(n: i64) -> Tensor {
        (Tensor::arange(n * 4, (Kind::Float, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin().view([n, 4])
    }

    /// 60 samples to train on and 30 to test on; `extra` are arrays beside the features.
    fn given(extra: &[(&str, Tensor)]) -> Result<Given> {
        let take = |name: &str| {
            let extra = extra.iter().find(|(other, _)| *other == name);
            Ok(match (extra, name) {
                (Some((_, tensor)), _) => Some(tensor.shallow_clone()),
                (None, "train") => Some(x(90).narrow(0, 0, 60)),
                (None, "test") => Some(x(90).narrow(0, 60, 30)),
                _ => None,
            })
        };
        Given::new(take, |name| format!("{name}.npy"))
    }

    fn parts(y: &Tensor) -> [(&'static str, Tensor); 2] {
        [("train_targets", y.narrow(0, 0, 60)), ("test_targets", y.narrow(0, 60, 30))]
    }

    fn value(found: &Found, name: &str) -> f64 {
        let m = found.measures.iter().find(|m| m.name == name).unwrap();
        let interval = m.interval.unwrap();
        assert!(interval.low <= m.value && m.value <= interval.high && m.split == "test", "{m:?}");
        m.value
    }

    #[test]
    fn floats_are_numbers_to_predict() {
        let y = x(90).select(1, 0) * 3.0 - x(90).select(1, 2) + 7.0;
        let config = EvalConfig::default();
        let found = given(&parts(&y)).unwrap().judge(&config).unwrap();
        assert!(found.group == "regression" && value(&found, "r2") > 0.999);
        let two = Tensor::stack(&[&y, &(&y * 0.5)], 1);
        let found = given(&parts(&two)).unwrap().judge(&config).unwrap();
        assert_eq!(found.outcome["rmse"].as_array().unwrap().len(), 2);
        assert!(table(&found.measures).contains("r2"));
    }

    #[test]
    fn whole_numbers_of_zero_and_one_are_labels() {
        let y = x(90).narrow(1, 0, 3).gt(0.1).to_kind(Kind::Int64);
        let found = given(&parts(&y)).unwrap().judge(&EvalConfig::default()).unwrap();
        assert!(found.group == "multi_label" && value(&found, "multi_label_map") > 0.95);
    }

    #[test]
    fn what_is_not_normal_is_told_from_what_is() {
        let test = Tensor::cat(&[x(90).narrow(0, 60, 20) + 4.0, x(90).narrow(0, 80, 10) - 4.0], 0);
        let marks = Tensor::cat(
            &[
                Tensor::zeros([20], (Kind::Int64, Device::Cpu)),
                Tensor::ones([10], (Kind::Int64, Device::Cpu)),
            ],
            0,
        );
        let train = x(90).narrow(0, 0, 60) + 4.0;
        let of = |more: &[(&str, Tensor)]| {
            let mut arrays: Vec<(&str, Tensor)> =
                more.iter().map(|(name, x)| (*name, x.shallow_clone())).collect();
            for (name, x) in [("train", &train), ("test", &test), ("test_anomalies", &marks)] {
                arrays.push((name, x.shallow_clone()));
            }
            given(&arrays)
        };
        let found = of(&[]).unwrap().judge(&EvalConfig::default()).unwrap();
        assert!(found.group == "anomalies" && value(&found, "ood_auroc_knn") > 0.99);
        assert!(found.measures.iter().all(|m| !m.name.contains("energy")));
        // What is known may be of several classes: then a probe on these has an energy.
        let labels = train.select(1, 0).gt(4.0).to_kind(Kind::Int64);
        let found =
            of(&[("train_labels", labels.shallow_clone())]).unwrap().judge(&EvalConfig::default()).unwrap();
        assert!(value(&found, "ood_auroc_knn") > 0.99 && value(&found, "ood_auroc_mahalanobis") > 0.99);
        assert!(found.measures.iter().any(|m| m.name == "ood_auroc_energy"));
        let refused = |more: &[(&str, Tensor)]| of(more).unwrap_err().to_string();
        let short = refused(&[("train_labels", labels.narrow(0, 0, 9))]);
        assert_eq!(short, "train_labels.npy: 9 rows for the 60 of train.npy");
        let gap = refused(&[("train_labels", labels.shallow_clone() * 2)]);
        assert!(gap.starts_with("train_labels.npy: no sample is of class 1"), "{gap}");
        let both = refused(&[("test_labels", marks.shallow_clone())]);
        assert!(both.starts_with("test_labels.npy: a class for each sample"), "{both}");
    }

    #[test]
    fn says_which_array_does_not_belong_to_the_others() {
        let ones = |shape: &[i64], kind| Tensor::ones(shape, (kind, Device::Cpu));
        let refused = |extra: &[(&str, Tensor)]| given(extra).unwrap_err().to_string();
        let fine = || ("train_targets", ones(&[60, 2], Kind::Float));
        for (extra, message) in [
            (vec![fine()], "test_targets.npy is missing"),
            (
                vec![fine(), ("test_targets", ones(&[29, 2], Kind::Float))],
                "test_targets.npy: 29 rows for the 30 of test.npy",
            ),
            (
                vec![fine(), ("test_targets", ones(&[30, 3], Kind::Float))],
                "test_targets.npy: 3 columns, but train_targets.npy has 2",
            ),
            (
                vec![fine(), ("test_targets", ones(&[30, 2], Kind::Int64))],
                "test_targets.npy: Int64, but train_targets.npy is Float",
            ),
            (
                vec![("train_targets", ones(&[60], Kind::Int64))],
                "train_targets.npy: floats [N] or [N, T] are numbers to predict",
            ),
            (
                vec![
                    ("train_targets", ones(&[60, 2], Kind::Int64) * 2),
                    ("test_targets", ones(&[30, 2], Kind::Int64)),
                ],
                "train_targets.npy: row 0 holds another label than 0 or 1",
            ),
            (
                vec![fine(), ("test_targets", ones(&[30, 2], Kind::Float) / 0.0)],
                "test_targets.npy: row 0 holds a number that is not finite",
            ),
            (
                vec![fine(), ("train_labels", ones(&[60], Kind::Int64))],
                "train_labels.npy: a class for each sample",
            ),
            (vec![fine(), ("test_anomalies", ones(&[30], Kind::Int64))], "train_targets.npy: targets beside"),
            (vec![("test_anomalies", ones(&[30], Kind::Int64))], "test_anomalies.npy: both normal samples"),
            (vec![("test_anomalies", ones(&[30], Kind::Int64) * 2)], "test_anomalies.npy: row 0 is 2: 0 for"),
        ] {
            let refusal = refused(&extra);
            assert!(refusal.starts_with(message), "{refusal}");
        }
    }

    #[test]
    fn a_folder_is_known_by_its_arrays_in_many_files_or_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!lie_in(folder.path()));
        let save = |names: &[&str]| {
            let tensors = names.iter().map(|name| ((*name).to_owned(), x(3))).collect();
            state::save(&folder.path().join(ONE_FILE), &tensors).unwrap();
        };
        save(&["train", "test", "train_labels"]);
        assert!(!lie_in(folder.path()));
        save(&["train", "test", "test_targets"]);
        assert!(lie_in(folder.path()));
        std::fs::remove_file(folder.path().join(ONE_FILE)).unwrap();
        std::fs::write(folder.path().join("train_targets.npy"), "").unwrap();
        assert!(lie_in(folder.path()));
    }
}
