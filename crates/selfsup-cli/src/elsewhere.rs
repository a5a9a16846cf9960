//! `selfsup eval --features`: features from elsewhere, judged as those of a run are.
//!
//! A folder holds `train.npy` and `test.npy`, `[N, D]` floats, with `train_labels.npy` and `test_labels.npy`, `[N]` whole
//! numbers; or one `features.safetensors` with four tensors of these names. Without labels, only what needs none is asked. Where the
//! features are a table, `columns.txt` names its columns.

use crate::columns;
use crate::definitions;
use crate::evaluate::TRAINED;
use crate::full::{self, Answers, SuiteChoice};
use crate::judge::{Bars, Labels, Seen, check, health_json, judge, scores_json, table};
use crate::origin::{self, Origin};
use crate::recipe::{Assignment, EvalConfig, Recipe};
use crate::report::{self, Cell, Column, Confusion, ReportData, Row, Scores};
use crate::{sure, warnings};
use anyhow::{Context, Result, bail, ensure};
use selfsup::core::state::{self, write_whole};
use selfsup::core::{Kind, Tensor};
use selfsup::data::dataset::{NpyArray, NpyValues};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// The file that holds all four.
pub const ONE_FILE: &str = "features.safetensors";
/// The names of the arrays: features, then labels.
const PARTS: [[&str; 2]; 2] = [["train", "train_labels"], ["test", "test_labels"]];

/// Runs the command: writes report.json into the folder and prints it or its table.
///
/// # Errors
/// When a file is missing or cannot be read, or the arrays do not belong together; the message names the array.
pub fn run(folder: &Path, set: &[Assignment], suite: SuiteChoice, print_json: bool) -> Result<()> {
    let config = settings(set)?;
    let given = Given::read(folder)?;
    let named = columns::names(folder, given.train.size()[1])?;
    if named.is_some() && (suite == SuiteChoice::Probes || given.labels.is_none()) {
        columns::note();
    }
    if given.labels.is_none() {
        eprintln!("{}: there are no labels: only what needs none is asked", folder.display());
    }
    let started = Instant::now();
    let mut bars = Bars::new("features");
    let seen = Seen { train: given.train, test: given.test, views: None, layers: Vec::new() };
    let mut verdict = judge(&seen, given.labels.as_ref(), &config, suite, &mut |stage| bars.show(stage))?;
    if let (Some(full), Some(linear), Some(labels), Some(names)) =
        (&mut verdict.full, &verdict.linear, &given.labels, &named)
    {
        let probe = &linear.classifier;
        full.push(columns::measure(probe, &seen.test, &labels.test, names, &mut |stage| bars.show(stage))?);
    }
    let full: Vec<_> = verdict.full.take().map(|groups| (TRAINED.to_owned(), groups)).into_iter().collect();
    let [n, d] = selfsup::core::check_shape("features", &seen.train, [-1, -1])?;
    let name = std::path::absolute(folder)?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let by_name = |value: Value| Value::Object(Map::from_iter([(TRAINED.to_owned(), value)]));
    let mut report = json!({
        "scores": by_name(scores_json(&verdict.scores)),
        "health": by_name(health_json(&verdict.health)),
        "linear_probe": by_name(json!(verdict.linear)),
        "data": {
            "name": name, "train": n, "test": seen.test.size()[0],
            "classes": given.labels.as_ref().map_or(&[][..], |labels| &labels.classes), "dim": d,
            "split": "as the files have it",
        },
        "definitions": definitions::of_probes(&config, given.labels.as_ref()),
        "seconds": started.elapsed().as_secs_f64(),
    });
    if !full.is_empty() {
        report["suite"] = full::json(&full)?;
        report["definitions"]["suite"] = full::definition();
    }
    report["definitions"]["measurements"] = json!(sure::DEFINITION);
    let known = sure::of_encoder(TRAINED, &verdict, &config)?;
    report["measurements"] = sure::json(&known, &report["definitions"]);
    let origin =
        Origin::of_features([&seen.train, &seen.test].map(|x| x.size()[0] as usize), given.labels.as_ref())?;
    report["origin"] = json!(origin);
    report["definitions"]["origin"] = json!(origin::DEFINITION);
    let text = serde_json::to_string_pretty(&report)?;
    let path = folder.join("report.json");
    Answers::remove(folder)?;
    write_whole(&path, text.as_bytes())?;
    if suite == SuiteChoice::Full {
        if let Some(answers) = &verdict.answers {
            answers.write(folder, &origin)?;
        }
        page(folder, &name, &report)?;
    }
    if print_json {
        println!("{text}");
    } else {
        println!("{}", table(&[("features", &verdict)]));
        if !full.is_empty() {
            println!("\n{}", full::table(&full));
        }
        eprintln!("{} written in {:.0} s", path.display(), started.elapsed().as_secs_f64());
    }
    for warning in warnings::of(&report) {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// Writes the page of features, from their report.json.
///
/// # Errors
/// When a figure cannot be drawn or a file not be written.
fn page(folder: &Path, name: &str, report: &Value) -> Result<()> {
    // On the page they are not called after a training.
    let found: full::Found = serde_json::from_value(json!({ "features": report["suite"][TRAINED] }))?;
    let known = [("linear", "linear probe"), ("few", "few-label probe"), ("knn", "nearest neighbours")];
    let scores: Map<String, Value> = report["scores"][TRAINED].as_object().cloned().unwrap_or_default();
    let mut columns = Vec::new();
    let mut cells = Vec::new();
    for (key, score) in &scores {
        let readable = known.iter().find(|(prefix, _)| key.starts_with(prefix)).map_or(key.as_str(), |k| k.1);
        let explanation = report["definitions"][key].as_str().unwrap_or_default().to_owned();
        columns.push(Column { name: readable.to_owned(), explanation });
        let score: selfsup::core::Score = serde_json::from_value(score.clone())?;
        let interval = &report["measurements"][format!("/scores/{TRAINED}/{key}")]["interval"];
        cells.push(Some(Cell::of(&score, serde_json::from_value(interval.clone())?)));
    }
    let data = &report["data"];
    let of = |key: &str| data[key].to_string();
    let facts = vec![
        ("Data".to_owned(), format!("{} training and {} test samples", of("train"), of("test"))),
        ("Features".to_owned(), of("dim")),
    ];
    let counts = &report["linear_probe"][TRAINED]["confusion"];
    let confusion: Option<selfsup::eval::Confusion> = serde_json::from_value(counts.clone()).ok();
    let classes: Vec<String> = serde_json::from_value(data["classes"].clone())?;
    let data = ReportData {
        kind: "Report of features".to_owned(),
        title: name.to_owned(),
        facts,
        command: format!("selfsup eval --suite full --features {}", folder.display()),
        scores: (!columns.is_empty())
            .then(|| Scores { columns, rows: vec![Row { name: "features".to_owned(), cells }] }),
        warnings: warnings::of(report),
        suite_title: full::TITLE,
        suite: full::sections(&found, &["features"])
            .into_iter()
            .chain(columns::section(&found, "features"))
            .collect(),
        confusion: confusion.map(|c| Confusion {
            by: "the linear probe".to_owned(),
            counts: c.counts,
            classes,
        }),
        ..Default::default()
    };
    eprintln!("{}", report::write(&data, folder)?.display());
    Ok(())
}

/// The probes as the shipped recipes for small sets have them, with fields set on top.
///
/// # Errors
/// With the field that is no probe's or cannot work.
pub fn settings(set: &[Assignment]) -> Result<EvalConfig> {
    for field in set.iter().map(Assignment::field) {
        let probes = ["eval.linear.", "eval.few_label.", "eval.knn.", "eval.suite."];
        ensure!(
            probes.iter().any(|probe| field.starts_with(probe)),
            "--set {field}: features are judged by the fields of eval.linear, eval.few_label, eval.knn and eval.suite alone"
        );
    }
    // The encoder and the objective stand for those that are not known here.
    let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }\n\
                eval = { knn = { k = 20, temperature = 0.07 } }";
    let recipe = Recipe::parse(text, set)?;
    check(&recipe)?;
    Ok(recipe.eval)
}

/// Features and labels of a folder, checked.
#[derive(Debug)]
struct Given {
    /// `[N, D]` Float.
    train: Tensor,
    /// `[M, D]` Float.
    test: Tensor,
    /// None where the files hold none.
    labels: Option<Labels>,
}

impl Given {
    fn read(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        let one = folder.join(ONE_FILE);
        let npy = |name: &str| folder.join(format!("{name}.npy"));
        if !one.is_file() {
            let take = |name: &str| {
                let path = npy(name);
                path.is_file().then(|| read_npy(&path)).transpose()
            };
            let missing = |name: &str| {
                format!(
                    "{} is missing: a folder of features holds train.npy and test.npy, with train_labels.npy and test_labels.npy \
                     where there are labels, or {ONE_FILE} with these",
                    npy(name).display()
                )
            };
            return Self::new(take, |name| npy(name).display().to_string(), missing);
        }
        if let Some(other) = PARTS.iter().flatten().map(|name| npy(name)).find(|path| path.is_file()) {
            bail!("{}: there is {ONE_FILE} beside it; leave the one that is meant", other.display());
        }
        let tensors = state::read(&one)?;
        let missing = |name: &str| {
            let names = tensors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("{}: {name} is missing; there are {names}", one.display())
        };
        let take = |name: &str| Ok(tensors.get(name).map(Tensor::shallow_clone));
        Self::new(take, |name| format!("{}: {name}", one.display()), missing)
    }

    /// `take` gives an array by its name where there is one, `called` says where it is from, and `missing` that it is not there.
    fn new(
        take: impl Fn(&str) -> Result<Option<Tensor>>,
        called: impl Fn(&str) -> String,
        missing: impl Fn(&str) -> String,
    ) -> Result<Self> {
        let [[train, train_labels], [test, test_labels]] = PARTS;
        let features = |name: &str| {
            let x = take(name)?.with_context(|| missing(name))?;
            checked_features(&x, &called(name))
        };
        let (x, y) = (features(train)?, features(test)?);
        let dims = [&x, &y].map(|x| x.size()[1]);
        ensure!(
            dims[0] == dims[1],
            "{}: {} features a row, but {} has {}",
            called(test),
            dims[1],
            called(train),
            dims[0]
        );
        let (of_train, of_test) = match (take(train_labels)?, take(test_labels)?) {
            (Some(of_train), Some(of_test)) => (of_train, of_test),
            (None, None) => return Ok(Given { train: x, test: y, labels: None }),
            (found, _) => {
                let name = if found.is_some() { test_labels } else { train_labels };
                bail!("{}; labels are there for one part alone: for both, or for none", missing(name))
            }
        };
        let labels = |given: &Tensor, name: &str, of: &str, x: &Tensor| -> Result<Vec<i64>> {
            let labels = checked_labels(given, &called(name))?;
            let rows = x.size()[0];
            ensure!(
                labels.len() as i64 == rows,
                "{}: {} labels for the {rows} rows of {}",
                called(name),
                labels.len(),
                called(of)
            );
            Ok(labels)
        };
        let of_train = labels(&of_train, train_labels, train, &x)?;
        let of_test = labels(&of_test, test_labels, test, &y)?;
        let classes = classes(&of_train, &called(train_labels))?;
        if let Some(row) = of_test.iter().position(|&label| label >= classes) {
            bail!(
                "{}: row {row} is of class {}, of which {} has no sample",
                called(test_labels),
                of_test[row],
                called(train_labels)
            );
        }
        let names = (0..classes).map(|class| class.to_string()).collect();
        let labels = Labels::new(names, Some(of_train), Some(of_test));
        let labels =
            labels.with_context(|| format!("{}: all samples are of one class", called(train_labels)))?;
        Ok(Given { train: x, test: y, labels: Some(labels) })
    }
}

/// Whether an array holds floats, of any width.
pub fn is_floating(x: &Tensor) -> bool {
    matches!(x.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

/// The array of a file.
///
/// # Errors
/// When there is no such file, or it cannot be read.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    ensure!(path.is_file(), "{} is missing", path.display());
    let NpyArray { shape, values } = NpyArray::read(path)?;
    let shape: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
    let flat = match &values {
        NpyValues::Floats(values) => Tensor::from_slice(values),
        NpyValues::Whole(values) => Tensor::from_slice(values),
    };
    Ok(flat.reshape(shape))
}

/// `[N, D]` floats of any size to Float, all of them finite; `called` is where they are from.
///
/// # Errors
/// With what they are in place of that.
pub fn checked_features(x: &Tensor, called: &str) -> Result<Tensor> {
    let floats = is_floating(x);
    let (kind, shape) = (x.kind(), x.size());
    ensure!(floats && shape.len() == 2, "{called}: features are floats [N, D], these are {kind:?} {shape:?}");
    ensure!(shape.iter().all(|&side| side > 0), "{called}: {shape:?} holds no feature");
    let x = x.to_kind(Kind::Float).contiguous();
    let bad = x.isfinite().all_dim(1, false).logical_not().to_kind(Kind::Int64); // [N]
    if i64::try_from(bad.sum(Kind::Int64))? > 0 {
        bail!("{called}: row {} holds a number that is not finite", i64::try_from(bad.argmax(0, false))?);
    }
    Ok(x)
}

/// `[N]` whole numbers of any size, none of them negative.
///
/// # Errors
/// With what they are in place of that.
pub fn checked_labels(labels: &Tensor, called: &str) -> Result<Vec<i64>> {
    let whole = matches!(labels.kind(), Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64);
    let (kind, shape) = (labels.kind(), labels.size());
    ensure!(
        whole && shape.len() == 1,
        "{called}: labels are whole numbers [N], these are {kind:?} {shape:?}"
    );
    let labels = Vec::<i64>::try_from(labels.to_kind(Kind::Int64))?;
    if let Some(row) = labels.iter().position(|&label| label < 0) {
        bail!("{called}: row {row} is {}: classes are numbered from 0", labels[row]);
    }
    Ok(labels)
}

/// The number of classes, all of which occur.
///
/// # Errors
/// With one that does not.
pub fn classes(labels: &[i64], called: &str) -> Result<i64> {
    let found: BTreeSet<i64> = labels.iter().copied().collect();
    if let Some((class, _)) = (0..).zip(&found).find(|(class, label)| class != *label) {
        bail!(
            "{called}: no sample is of class {class}, but some of class {}: number the classes from 0 without gaps, by \
             np.unique(labels, return_inverse=True)",
            found.last().copied().unwrap_or_default()
        );
    }
    Ok(found.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::Device;

    /// Six rows of three classes to train on, three to test on, with some of the arrays in place of these.
    fn given(others: &[(&str, Tensor)]) -> Result<Given> {
        let take = |name: &str| {
            let other = others.iter().find(|(other, _)| *other == name);
            Ok(Some(match (other, name) {
                (Some((_, tensor)), _) => tensor.shallow_clone(),
                (None, "train") => Tensor::arange(12, (Kind::Float, Device::Cpu)).reshape([6, 2]),
                (None, "test") => Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([3, 2]),
                (None, "train_labels") => Tensor::from_slice(&[0_i64, 1, 2, 0, 1, 2]),
                (None, _) => Tensor::from_slice(&[2_i64, 0, 0]),
            }))
        };
        Given::new(take, |name| format!("{name}.npy"), |name| format!("{name}.npy is missing"))
    }

    #[test]
    fn labels_are_there_for_both_parts_or_for_none() {
        let x = Tensor::arange(12, (Kind::Float, Device::Cpu)).reshape([6, 2]);
        let with = |names: &[&str]| {
            let take = |name: &str| {
                let labels = || Tensor::from_slice(&[0_i64, 1, 0, 1, 0, 1]);
                let tensor = || if name.ends_with("labels") { labels() } else { x.shallow_clone() };
                Ok(names.contains(&name).then(tensor))
            };
            Given::new(take, |name| format!("{name}.npy"), |name| format!("{name}.npy is missing"))
        };
        assert!(with(&["train", "test"]).unwrap().labels.is_none());
        let all = with(&["train", "test", "train_labels", "test_labels"]).unwrap();
        assert_eq!(all.labels.map(|labels| labels.smallest), Some(3));
        let refusal = |names: &[&str]| with(names).unwrap_err().to_string();
        let expected =
            "test_labels.npy is missing; labels are there for one part alone: for both, or for none";
        assert_eq!(refusal(&["train", "test", "train_labels"]), expected);
        assert!(
            refusal(&["train", "test", "test_labels"]).starts_with("train_labels.npy is missing; labels")
        );
        assert_eq!(refusal(&["train", "train_labels"]), "test.npy is missing");
    }

    fn refused(name: &str, tensor: Tensor) -> String {
        given(&[(name, tensor)]).unwrap_err().to_string()
    }

    #[test]
    fn takes_floats_and_whole_numbers_of_any_size() {
        let plain = given(&[]).unwrap();
        let of = |given: &Given| {
            given.labels.as_ref().map(|l| [&l.train, &l.test].map(Tensor::shallow_clone)).unwrap()
        };
        let labels = plain.labels.as_ref().unwrap();
        assert_eq!((labels.classes.len(), labels.smallest), (3, 2));
        let double = Tensor::arange(12, (Kind::Double, Device::Cpu)).reshape([2, 6]).tr();
        let half = Tensor::arange(6, (Kind::Half, Device::Cpu)).reshape([3, 2]);
        let bytes = Tensor::from_slice(&[0_u8, 1, 2, 0, 1, 2]);
        let other = given(&[("train", double), ("test", half), ("train_labels", bytes)]).unwrap();
        assert_eq!((other.train.kind(), other.train.double_value(&[1, 1])), (Kind::Float, 7.0));
        assert_eq!((&other.test, of(&other)), (&plain.test, of(&plain)));
    }

    #[test]
    fn reads_all_four_from_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let plain = given(&[]).unwrap();
        let of = |given: &Given| {
            given.labels.as_ref().map(|l| [&l.train, &l.test].map(Tensor::shallow_clone)).unwrap()
        };
        let tensors = [
            ("train", plain.train.to_kind(Kind::Half)),
            ("test", plain.test.shallow_clone()),
            ("train_labels", of(&plain)[0].to_kind(Kind::Int)),
            ("test_labels", of(&plain)[1].shallow_clone()),
        ];
        let tensors = tensors.into_iter().map(|(name, x)| (name.to_owned(), x)).collect();
        state::save(&folder.path().join(ONE_FILE), &tensors).unwrap();
        let read = Given::read(folder.path()).unwrap();
        assert_eq!((&read.train, &read.test), (&plain.train, &plain.test));
        assert_eq!(of(&read), of(&plain));
    }

    #[test]
    fn says_which_array_does_not_belong_to_the_others() {
        let ones = |shape: &[i64], kind| Tensor::ones(shape, (kind, Device::Cpu));
        let labels = |values: &[i64]| Tensor::from_slice(values);
        for (name, tensor, message) in [
            ("train", ones(&[6], Kind::Float), "train.npy: features are floats [N, D], these are Float [6]"),
            (
                "test",
                ones(&[3, 2], Kind::Int64),
                "test.npy: features are floats [N, D], these are Int64 [3, 2]",
            ),
            ("test", ones(&[0, 2], Kind::Float), "test.npy: [0, 2] holds no feature"),
            ("test", ones(&[3, 4], Kind::Float), "test.npy: 4 features a row, but train.npy has 2"),
            ("train", ones(&[5, 2], Kind::Float), "train_labels.npy: 6 labels for the 5 rows of train.npy"),
            ("test_labels", labels(&[0, 1]), "test_labels.npy: 2 labels for the 3 rows of test.npy"),
            (
                "test_labels",
                ones(&[3], Kind::Float),
                "test_labels.npy: labels are whole numbers [N], these are Float [3]",
            ),
            (
                "train_labels",
                labels(&[0, 1, 2, 0, -1, 2]),
                "train_labels.npy: row 4 is -1: classes are numbered from 0",
            ),
            (
                "test_labels",
                labels(&[0, 1, 3]),
                "test_labels.npy: row 2 is of class 3, of which train_labels.npy has no sample",
            ),
            ("train_labels", labels(&[0; 6]), "test_labels.npy: row 0 is of class 2, of which"),
            (
                "train_labels",
                labels(&[1, 2, 3, 1, 2, 3]),
                "train_labels.npy: no sample is of class 0, but some of class 3: number the classes from 0 without gaps",
            ),
        ] {
            let refusal = refused(name, tensor);
            assert!(refusal.starts_with(message), "{refusal}");
        }
        let one_class = [("train_labels", labels(&[0; 6])), ("test_labels", labels(&[0; 3]))];
        let refusal = given(&one_class).unwrap_err().to_string();
        assert_eq!(refusal, "train_labels.npy: all samples are of one class");
    }

    #[test]
    fn names_the_first_row_that_is_not_finite() {
        let x = Tensor::ones([6, 2], (Kind::Float, Device::Cpu));
        let _ = x.get(2).get(1).fill_(f64::NAN);
        let _ = x.get(4).get(0).fill_(f64::INFINITY);
        assert_eq!(refused("train", x), "train.npy: row 2 holds a number that is not finite");
    }

    #[test]
    fn sets_fields_of_the_probes_alone() {
        let with = |text: &str| settings(&[text.parse().unwrap()]);
        let plain = settings(&[]).unwrap();
        assert_eq!((plain.knn.k, plain.knn.temperature), (20, 0.07));
        assert_eq!(
            (&plain.linear, &plain.few_label),
            (&EvalConfig::default().linear, &EvalConfig::default().few_label)
        );
        assert_eq!(with("eval.knn.k=5").unwrap().knn.k, 5);
        let refusal = |text: &str| with(text).unwrap_err().to_string();
        assert_eq!(refusal("eval.knn.k=0"), "eval.knn.k = 0: at least 1");
        assert!(refusal("eval.knn.kk=5").contains("eval.knn.kk"), "{}", refusal("eval.knn.kk=5"));
        assert!(refusal("eval.size=28").starts_with("--set eval.size: features are judged by the fields of"));
        assert!(refusal("train.epochs=3").starts_with("--set train.epochs: features are judged by"));
    }
}
