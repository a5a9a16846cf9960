//! Labels of some samples of a set in a CSV file, as people and `selfsup label` write them.
//!
//! ```text
//! file,label,probability,weight,reason
//! cat/17.png,cat,,1,a person gave this label
//! dog/3.png,dog,0.93,0.86,the model is sure enough
//! ```
//! A header, then a row a sample. `file` is what the set calls it ([`ImageSet::name`](crate::ImageSet::name)): its path
//! inside the set, or its number. `label` is the name of its class. The other columns may be missing and cells of theirs
//! empty: a label without a weight counts in full, one of weight 0 is rejected. The order of the columns is free.

mod given;

pub use given::GivenLabels;

use selfsup_core::state::write_whole;
use selfsup_core::{Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The columns that are read.
const COLUMNS: [&str; 5] = ["file", "label", "probability", "weight", "reason"];

/// A column of proposals of what to label, which may stay when the labels are filled in.
const RANK: &str = "rank";

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingFile {
    /// It stays, and writing is an error.
    Keep,
    /// It is replaced.
    Replace,
}

impl ExistingFile {
    /// Refuses a path where something is that is to stay.
    ///
    /// # Errors
    /// [`Error::Data`] when it is.
    pub fn check(self, path: &Path) -> Result<()> {
        if self == ExistingFile::Keep && path.symlink_metadata().is_ok() {
            return Err(Error::data(path, "is there already; name another, or allow to overwrite it"));
        }
        Ok(())
    }
}

/// The label of a sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelRow {
    /// The sample's name.
    pub file: String,
    /// The name of its class.
    pub label: String,
    /// How probable the label is, 0 to 1.
    pub probability: Option<f64>,
    /// How far it counts, 0 or above; 0 rejects it.
    pub weight: Option<f64>,
    /// Why it counts so far.
    pub reason: Option<String>,
}

/// The labels of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelFile {
    /// Where it lies; messages name it.
    path: PathBuf,
    rows: Vec<LabelRow>,
    /// Where each row stands: rows of several files can come together.
    places: Vec<Place>,
}

/// A file, and the line in it on which a row begins, from 1.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    path: Arc<Path>,
    line: u64,
}

impl LabelFile {
    /// Reads a CSV file and checks each row.
    ///
    /// # Errors
    /// [`Error::Data`] with the line, the column and the value: a column is missing, unknown or there twice; a row has more
    /// or fewer cells than the header; `file` or `label` is empty; a probability lies outside 0 to 1; a weight is negative
    /// or not finite; there is no row.
    pub fn read(path: &Path) -> Result<LabelFile> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        // Spreadsheets put this before UTF-8.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
        let bad = |line: u64, problem: String| Error::data(path, format!("line {line}: {problem}"));
        let header = reader.headers().map_err(|e| bad(1, not_text(&e)))?.clone();
        let names: Vec<&str> = header.iter().collect();
        let columns = Columns::of(&names).map_err(|problem| Error::data(path, problem))?;
        let (mut rows, mut lines) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record =
                record.map_err(|e| bad(e.position().map_or(0, |at| line(bytes, at)), not_text(&e)))?;
            let line = record.position().map_or(0, |at| line(bytes, at));
            if record.len() != header.len() {
                let (found, expected) = (record.len(), header.len());
                return Err(bad(line, format!("{found} cells: {expected}, as the header has")));
            }
            rows.push(columns.row(&record).map_err(|problem| bad(line, problem))?);
            lines.push(line);
        }
        LabelFile::checked(path, rows, lines)
    }

    /// Takes rows that came from elsewhere, from a table that is no CSV file; `path` is what messages name. The first row
    /// is line 2, as it is below the header.
    ///
    /// # Errors
    /// Those of [`read`](LabelFile::read) that rows can have.
    pub fn new(path: &Path, rows: Vec<LabelRow>) -> Result<LabelFile> {
        let lines = (2..2 + rows.len() as u64).collect();
        LabelFile::checked(path, rows, lines)
    }

    fn checked(path: &Path, mut rows: Vec<LabelRow>, lines: Vec<u64>) -> Result<LabelFile> {
        if rows.is_empty() {
            return Err(Error::data(path, "there is no label: a row for each, below the header file,label"));
        }
        for (row, line) in rows.iter_mut().zip(&lines) {
            // A shell completes a path with this before it.
            if let Some(file) = row.file.strip_prefix("./") {
                row.file = file.to_owned();
            }
            check(row).map_err(|problem| Error::data(path, format!("line {line}: {problem}")))?;
        }
        let shared: Arc<Path> = Arc::from(path);
        let places = lines.into_iter().map(|line| Place { path: Arc::clone(&shared), line }).collect();
        Ok(LabelFile { path: path.to_owned(), rows, places })
    }

    /// The rows, in the file's order.
    pub fn rows(&self) -> &[LabelRow] {
        &self.rows
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a CSV file, whole or not at all: `file` and `label`, and all other columns where a row has something there.
    ///
    /// # Errors
    /// [`Error::Data`] when there is a file that is to stay; [`Error::Io`] when the folder cannot be written to.
    pub fn write(&self, path: &Path, existing: ExistingFile) -> Result<()> {
        existing.check(path)?;
        let more = |row: &LabelRow| row.probability.is_some() || row.weight.is_some() || row.reason.is_some();
        let columns = if self.rows.iter().any(more) { COLUMNS.len() } else { 2 };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let broken = |e: csv::Error| Error::data(path, e.to_string());
        writer.write_record(&COLUMNS[..columns]).map_err(broken)?;
        for row in &self.rows {
            let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
            let cells = [
                row.file.clone(),
                row.label.clone(),
                number(row.probability),
                number(row.weight),
                row.reason.clone().unwrap_or_default(),
            ];
            writer.write_record(&cells[..columns]).map_err(broken)?;
        }
        let bytes = writer.into_inner().map_err(|e| Error::data(path, e.to_string()))?;
        write_whole(path, &bytes)
    }

    /// The rows for which `keep` holds, with the lines on which they stand; there may be none.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&LabelRow) -> bool) -> LabelFile {
        let kept = self.rows.iter().zip(&self.places).filter(|(row, _)| keep(row));
        let (rows, places) = kept.map(|(row, place)| (row.clone(), place.clone())).unzip();
        LabelFile { path: self.path.clone(), rows, places }
    }

    /// Refuses a table whose columns are not those of labels, as [`read`](LabelFile::read) does with a header.
    ///
    /// # Errors
    /// [`Error::Data`] with the column that is missing, unknown or there twice.
    pub fn check_columns(path: &Path, names: &[&str]) -> Result<()> {
        Columns::of(names).map(drop).map_err(|problem| Error::data(path, problem))
    }

    /// These labels with those of `other` in their place where both have one of a sample, and the rest of `other` after
    /// them: what a person corrected wins over what was there.
    #[must_use]
    pub fn corrected_by(&self, other: &LabelFile) -> LabelFile {
        let corrected: HashSet<&str> = other.rows.iter().map(|row| row.file.as_str()).collect();
        let mut merged = LabelFile { path: self.path.clone(), rows: Vec::new(), places: Vec::new() };
        let kept =
            self.rows.iter().zip(&self.places).filter(|(row, _)| !corrected.contains(row.file.as_str()));
        for (row, place) in kept.chain(other.rows.iter().zip(&other.places)) {
            merged.rows.push(row.clone());
            merged.places.push(place.clone());
        }
        merged
    }
}

/// Where the columns stand.
struct Columns([Option<usize>; 5]);

impl Columns {
    fn of(header: &[&str]) -> Result<Columns, String> {
        let mut at = [None; 5];
        if let [only] = header
            && only.contains([';', '\t'])
        {
            return Err(format!("columns {only:?}: not separated by commas"));
        }
        let found: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        for (position, &name) in found.iter().enumerate() {
            if name == RANK {
                continue;
            }
            let Some(column) = COLUMNS.iter().position(|column| *column == name) else {
                let near = nearest(name, COLUMNS);
                return Err(format!("column {name:?}: unknown{near}; there are {}", COLUMNS.join(", ")));
            };
            if at[column].replace(position).is_some() {
                return Err(format!("column {name}: it is there twice"));
            }
        }
        match at.iter().take(2).position(Option::is_none) {
            Some(missing) if found.is_empty() => {
                Err(format!("the file is empty: a header with {} and label is missing", COLUMNS[missing]))
            }
            Some(missing) => {
                Err(format!("column {}: missing; there are {}", COLUMNS[missing], found.join(", ")))
            }
            None => Ok(Columns(at)),
        }
    }

    fn row(&self, record: &csv::StringRecord) -> Result<LabelRow, String> {
        let cell = |column: usize| self.0[column].and_then(|at| record.get(at)).unwrap_or_default();
        let number = |column: usize| -> Result<Option<f64>, String> {
            let text = cell(column).trim();
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|_| format!("{} = {text}: a number", COLUMNS[column]))
        };
        let reason = cell(4).trim();
        Ok(LabelRow {
            file: cell(0).to_owned(),
            label: cell(1).trim().to_owned(),
            probability: number(2)?,
            weight: number(3)?,
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
        })
    }
}

fn check(row: &LabelRow) -> Result<(), String> {
    if row.file.is_empty() {
        return Err("file is empty: the name that the set gives the sample".to_owned());
    }
    if row.label.is_empty() {
        return Err(format!("label of {} is empty: give its class, or remove the row", row.file));
    }
    if let Some(probability) = row.probability.filter(|p| !(0.0..=1.0).contains(p)) {
        return Err(format!("probability = {probability}: 0 to 1"));
    }
    if let Some(weight) = row.weight.filter(|w| !(w.is_finite() && *w >= 0.0)) {
        return Err(format!("weight = {weight}: a finite number, 0 or above"));
    }
    Ok(())
}

/// The line of a record, which csv counts from before the blank lines above it.
fn line(bytes: &[u8], position: &csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + blank.filter(|byte| **byte == b'\n').count() as u64
}

fn not_text(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not in UTF-8: save the file with this encoding".to_owned(),
        _ => error.to_string(),
    }
}

/// The known name that is most like one, where one is like it at all, as the end of a message.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |known: &str| {
        // A file may be named from farther up than the set's folder.
        let below = known.len() < name.len() && (name.ends_with(known) || known.ends_with(name));
        strsim::jaro_winkler(name, known) + f64::from(u8::from(below))
    };
    let scored = known.into_iter().map(|known| (likeness(known), known));
    // Of two that are as like, the first by name, whatever the order they come in.
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    best.filter(|(likeness, _)| *likeness > 0.7)
        .map(|(_, name)| format!("; did you mean {name}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const NAMES: [&str; 5] = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "emu/1.png"];

    /// The file with `text`, in a folder of its own.
    fn file(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("few.csv");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    pub(super) fn read(text: impl AsRef<[u8]>) -> Result<LabelFile> {
        let (_folder, path) = file(text);
        LabelFile::read(&path)
    }

    /// What follows the path in a message.
    pub(super) fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
        let message = result.unwrap_err().to_string();
        message.split_once("few.csv: ").unwrap().1.to_owned()
    }

    #[test]
    fn reads_columns_in_any_order_and_leaves_out_what_is_not_there() {
        let file = read("\u{feff}label,rank,file,weight\n cat ,1,cat/1.png,\n\"dog\",2,\"a,\nb.png\",0.5\n")
            .unwrap();
        let row = |file: &str, label: &str, weight| LabelRow {
            file: file.to_owned(),
            label: label.to_owned(),
            weight,
            ..LabelRow::default()
        };
        assert_eq!(file.rows(), [row("cat/1.png", "cat", None), row("a,\nb.png", "dog", Some(0.5))]);
    }

    #[test]
    fn names_the_line_the_column_and_the_value_that_cannot_be() {
        for (text, message) in [
            ("", "the file is empty: a header with file and label is missing"),
            ("file,label\n", "there is no label: a row for each, below the header file,label"),
            ("file;label\na;b\n", "columns \"file;label\": not separated by commas"),
            ("file,weight\na,1\n", "column label: missing; there are file, weight"),
            ("file,label,file\na,b,c\n", "column file: it is there twice"),
            (
                "file,label,wieght\na,b,1\n",
                "column \"wieght\": unknown; did you mean weight?; there are file, label, probability, weight, reason",
            ),
            ("file,label\na,b\n\nc\n", "line 4: 1 cells: 2, as the header has"),
            ("file,label\r\na,b\r\n\r\nc,d\r\ne\r\n", "line 5: 1 cells: 2, as the header has"),
            ("file,label\n\"a\nb\",c\nd\n", "line 4: 1 cells: 2, as the header has"),
            ("file,label\n,b\n", "line 2: file is empty: the name that the set gives the sample"),
            ("file,label\na,b\nc, \n", "line 3: label of c is empty: give its class, or remove the row"),
            ("file,label,weight\na,b,1\nc,d,-0.5\n", "line 3: weight = -0.5: a finite number, 0 or above"),
            ("file,label,weight\na,b,inf\n", "line 2: weight = inf: a finite number, 0 or above"),
            ("file,label,weight\na,b,NaN\n", "line 2: weight = NaN: a finite number, 0 or above"),
            ("file,label,weight\na,b,much\n", "line 2: weight = much: a number"),
            ("file,label,probability\na,b,1.5\n", "line 2: probability = 1.5: 0 to 1"),
        ] {
            assert_eq!(problem(read(text)), message, "{text:?}");
        }
        let latin: &[u8] = b"file,label\na,b\ncaf\xe9,b\n";
        assert_eq!(problem(read(latin)), "line 3: not in UTF-8: save the file with this encoding");
        let row = LabelRow { file: "x".into(), label: "y".into(), weight: Some(-1.0), ..LabelRow::default() };
        let error = LabelFile::new(Path::new("few.csv"), vec![row]);
        assert_eq!(problem(error), "line 2: weight = -1: a finite number, 0 or above");
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_is_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("few.csv");
        let rows = vec![
            LabelRow {
                file: "a,\"b\".png".into(),
                label: "x y".into(),
                weight: Some(0.1),
                ..LabelRow::default()
            },
            LabelRow {
                file: "c.png".into(),
                label: "z".into(),
                probability: Some(1.0 / 3.0),
                weight: None,
                reason: Some("sure, enough".into()),
            },
        ];
        let written = LabelFile::new(&path, rows.clone()).unwrap();
        written.write(&path, ExistingFile::Keep).unwrap();
        assert_eq!(LabelFile::read(&path).unwrap(), written);
        let other = LabelFile::new(&path, rows[1..].to_vec()).unwrap();
        assert_eq!(
            problem(other.write(&path, ExistingFile::Keep)),
            "is there already; name another, or allow to overwrite it"
        );
        assert_eq!(LabelFile::read(&path).unwrap(), written);
        other.write(&path, ExistingFile::Replace).unwrap();
        assert_eq!(LabelFile::read(&path).unwrap(), other);
        let nowhere = folder.path().join("nowhere/few.csv");
        assert!(other.write(&nowhere, ExistingFile::Keep).unwrap_err().to_string().contains("nowhere"));
    }

    #[test]
    fn columns_without_a_value_are_not_written() {
        let (_folder, path) = file("");
        let row = LabelRow { file: "a".into(), label: "b".into(), ..LabelRow::default() };
        LabelFile::new(&path, vec![row]).unwrap().write(&path, ExistingFile::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "file,label\na,b\n");
    }

    #[test]
    fn rows_that_are_picked_out_keep_their_lines() {
        let all = read("file,label,reason\ncat/1.png,cat,x\ncat/9.png,cat,\n").unwrap();
        let some = all.only(|row| row.reason.is_none());
        assert_eq!(some.rows().len(), 1);
        let error = problem(some.find_in(NAMES.len(), |i| NAMES[i].to_owned(), None));
        assert!(error.starts_with("line 3: file = cat/9.png"), "{error}");
        assert!(all.only(|_| false).rows().is_empty());
    }

    #[test]
    fn columns_of_another_table_are_refused_as_those_of_a_header() {
        let check = |names: &[&str]| LabelFile::check_columns(Path::new("few.csv"), names);
        check(&["label", "rank", "file"]).unwrap();
        let message = problem(check(&["file", "label", "wieght"]));
        assert!(message.starts_with("column \"wieght\": unknown; did you mean weight?"), "{message}");
        assert_eq!(problem(check(&["file"])), "column label: missing; there are file");
    }

    #[test]
    fn what_a_person_corrected_takes_the_place_of_what_was_there() {
        let before = read("file,label\ncat/1.png,cat\ncat/2.png,dog\ndog/1.png,dog\n").unwrap();
        let after = read("file,label,weight\ncat/2.png,cat,1\ndog/2.png,dog,1\n").unwrap();
        let merged = before.corrected_by(&after);
        let found: Vec<_> = merged.rows().iter().map(|row| (row.file.as_str(), row.label.as_str())).collect();
        let expected =
            [("cat/1.png", "cat"), ("dog/1.png", "dog"), ("cat/2.png", "cat"), ("dog/2.png", "dog")];
        assert_eq!(found, expected);
        assert_eq!(before.corrected_by(&before).rows(), before.rows());
        // A row that stands twice in the correction stays so, and is refused when it is matched.
        let twice = read("file,label\ncat/2.png,cat\ncat/2.png,dog\n").unwrap();
        let error = before.corrected_by(&twice).match_to(NAMES.len(), |i| NAMES[i].to_owned(), None);
        assert!(
            problem(error).starts_with("line 3: file = cat/2.png: it is labelled dog here and cat on line 2")
        );
        // A message names the file that a row came from, not the one that it was put into.
        let elsewhere = LabelRow { file: "x".into(), label: "cat".into(), ..LabelRow::default() };
        let elsewhere = LabelFile::new(Path::new("fixed.csv"), vec![elsewhere]).unwrap();
        let error = before.corrected_by(&elsewhere).match_to(NAMES.len(), |i| NAMES[i].to_owned(), None);
        assert_eq!(error.unwrap_err().to_string(), "fixed.csv: line 2: file = x: the set has no such file");
    }
}
