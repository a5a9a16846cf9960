//! Which columns of a table its classes hang on: for features from elsewhere whose columns have names.

use crate::full::Found;
use crate::report::{Cell, Column, Reach, Row, Scores, SuiteGroup, SuiteMeasure};
use anyhow::{Context, Result, ensure};
use selfsup::core::{Kind, Tensor, TensorExt as _};
use selfsup::eval::{LinearClassifier, Measurement, PermutationConfig, Stage, permutation_importance};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

/// The file beside the features.
const FILE: &str = "columns.txt";
/// The key of the measures.
const GROUP: &str = "columns";
/// The columns of the page's table and of its figure, those that cost the most.
const LISTED: usize = 50;
const DRAWN: usize = 10;

/// The names of the columns, a line each; none without the file.
///
/// # Errors
/// With the line that is no name, and when there are not as many as columns.
pub fn names(folder: &Path, columns: i64) -> Result<Option<Vec<String>>> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let found = names.len() as i64;
    ensure!(found == columns, "{}: {found} names for the {columns} columns of train", path.display());
    let mut seen = BTreeSet::new();
    for (line, name) in (1..).zip(&names) {
        ensure!(!name.is_empty(), "{}: line {line} is empty; a name for every column", path.display());
        ensure!(
            seen.insert(name),
            "{}: line {line}: {name} is the name of another column too",
            path.display()
        );
    }
    Ok(Some(names))
}

/// Says what names of columns are for, where nothing is made of them.
pub fn note() {
    eprintln!("note: {FILE}: which columns count is told of features with classes, with --suite full");
}

/// By how much the accuracy of a probe on `x` `[N, D]` of classes `y` `[N]` falls when a column is shuffled among the rows.
///
/// # Errors
/// When the probe is of another number of columns.
pub fn measure(
    probe: &LinearClassifier,
    x: &Tensor,
    y: &Tensor,
    names: &[String],
    progress: &mut dyn FnMut(Stage),
) -> Result<(String, Vec<Measurement>)> {
    let config = PermutationConfig::default();
    // All columns in all shuffles, and once as it is.
    let total = names.len() * config.repeats + 1;
    let stage =
        RefCell::new((Stage { name: "columns", done: 0, total, samples: x.size()[0] as usize }, progress));
    let accuracy = |x: &Tensor| {
        let (stage, progress) = &mut *stage.borrow_mut();
        stage.done += 1;
        progress(*stage);
        probe.predict(x)?.eq_tensor(y).to_kind(Kind::Double).mean(None).scalar()
    };
    let found = permutation_importance(&accuracy, x, &config)?;
    let definition = format!(
        "by how much the linear probe's accuracy on the test rows falls when this column is shuffled among them, mean of {} shuffles \
         (Breiman 2001); of two columns that say the same, neither costs much",
        config.repeats
    );
    let measures = names.iter().zip(found).map(|(name, fall)| Measurement {
        name: name.clone(),
        value: fall.value,
        interval: fall.interval,
        n: fall.n,
        split: "test".to_owned(),
        seed: Some(config.seed),
        definition: definition.clone(),
    });
    Ok((GROUP.to_owned(), measures.collect()))
}

/// The section of the page: the columns that cost the most, in that order.
pub fn section(found: &Found, encoder: &str) -> Option<SuiteGroup> {
    let mut columns: Vec<&Measurement> = found.get(encoder)?.get(GROUP)?.iter().collect();
    columns.sort_by(|a, b| b.value.total_cmp(&a.value));
    let value = |m: &Measurement| (m.value, m.interval.map(|i| [i.low, i.high]));
    let drawn = &columns[..columns.len().min(DRAWN)];
    let more = columns.len().saturating_sub(LISTED);
    let left = if more > 0 {
        format!(" {more} more, which cost less, stand in report.json.")
    } else {
        String::new()
    };
    Some(SuiteGroup {
        title: "What the classes hang on".to_owned(),
        reading: format!(
            "How many points of accuracy the linear probe loses when a column is shuffled: the longer, the more hangs on that column \
             alone. A short bar does not say that a column is of no use: another may say the same.{left}"
        ),
        encoders: vec![encoder.to_owned()],
        reach: Reach::Longest,
        figure: Some(Scores {
            columns: drawn
                .iter()
                .map(|m| Column { name: m.name.clone(), explanation: String::new() })
                .collect(),
            rows: vec![Row {
                name: encoder.to_owned(),
                cells: drawn.iter().map(|m| Some(Cell::of_interval(value(m)))).collect(),
            }],
        }),
        measures: columns
            .iter()
            .take(LISTED)
            // What follows a space is written as it is.
            .map(|m| SuiteMeasure {
                name: format!("column {}", m.name),
                definition: m.definition.clone(),
                values: vec![Some(value(m))],
            })
            .collect(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::{Device, Features};
    use selfsup::eval::{LinearProbe, LinearProbeConfig};

    #[test]
    fn the_class_hangs_on_its_column_alone() {
        let x = (Tensor::arange(400 * 3, (Kind::Float, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37)
            .sin()
            .view([400, 3]);
        let y = x.select(1, 1).gt(0.0).to_kind(Kind::Int64);
        let all = Features::new(x.shallow_clone(), y.shallow_clone(), 2).unwrap();
        let probe = LinearProbe::new(LinearProbeConfig::default()).unwrap().run(&all, &all).unwrap();
        let names = ["age", "height", "weight"].map(str::to_owned);
        let mut last = None;
        let (group, found) =
            measure(&probe.classifier, &x, &y, &names, &mut |stage| last = Some(stage)).unwrap();
        assert!(last.is_some_and(|stage| stage.done == stage.total));
        // Shuffled, the column is right for a half.
        assert!((found[1].value - 0.5).abs() < 0.06 && found[1].interval.is_some(), "{found:?}");
        assert!(found[0].value.abs() < 0.03 && found[2].value.abs() < 0.03, "{found:?}");
        let found = Found::from([("features".to_owned(), [(group, found)].into())]);
        let section = section(&found, "features").unwrap();
        assert_eq!((section.measures[0].name.as_str(), section.measures.len()), ("column height", 3));
        assert_eq!(section.figure.unwrap().columns[0].name, "height");
        assert!(super::section(&found, "trained").is_none());
    }

    #[test]
    fn names_are_as_many_as_columns_and_differ() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(names(folder.path(), 2).unwrap(), None);
        let of = |text: &str| {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            names(folder.path(), 2).map_err(|error| error.to_string())
        };
        assert_eq!(of("a\r\nb\n").unwrap().unwrap(), ["a", "b"]);
        for (text, part) in [
            ("a\n", "columns.txt: 1 names for the 2 columns of train"),
            ("a\n\n", "line 2 is empty"),
            ("a\na", "line 2: a is the name of another column too"),
        ] {
            assert!(of(text).unwrap_err().contains(part), "{text}");
        }
    }
}
