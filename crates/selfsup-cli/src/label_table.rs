//! Label files as CSV or Parquet, by the file's ending.

use anyhow::{Context, Result, bail, ensure};
use parquet::basic::Type as Physical;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field, Row};
use parquet::schema::parser::parse_message_type;
use selfsup::core::state::write_whole;
use selfsup::data::{ExistingFile, LabelFile, LabelRow};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The columns of a Parquet file of labels.
const SCHEMA: &str = "message labels {
    required binary file (utf8);
    required binary label (utf8);
    optional double probability;
    optional double weight;
    optional binary reason (utf8);
}";

/// Refuses a file that ends in neither `.csv` nor `.parquet`.
///
/// # Errors
/// When it does.
pub fn check_ending(path: &Path) -> Result<()> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("csv" | "parquet") => Ok(()),
        _ => bail!("--out {}: a file that ends in .csv or .parquet", path.display()),
    }
}

/// Reads a file of labels: Parquet where it ends so, otherwise CSV.
///
/// # Errors
/// With the file, and the line or column that cannot be.
pub fn read(path: &Path) -> Result<LabelFile> {
    if path.extension().is_none_or(|ending| ending != "parquet") {
        return Ok(LabelFile::read(path)?);
    }
    let broken = || format!("{}: no Parquet file of labels", path.display());
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let reader = SerializedFileReader::new(file).with_context(broken)?;
    let columns = reader.metadata().file_metadata().schema_descr();
    let names: Vec<&str> = columns.columns().iter().map(|column| column.name()).collect();
    for name in ["file", "label"] {
        ensure!(
            names.contains(&name),
            "{}: column {name}: missing; there are {}",
            path.display(),
            names.join(", ")
        );
    }
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).with_context(broken)? {
        rows.push(label_row(&row.with_context(broken)?).with_context(|| path.display().to_string())?);
    }
    Ok(LabelFile::new(path, rows)?)
}

fn label_row(row: &Row) -> Result<LabelRow> {
    let mut found = LabelRow::default();
    for (name, field) in row.get_column_iter() {
        let text = || match field {
            Field::Str(text) => Ok(text.clone()),
            Field::Null => Ok(String::new()),
            other => bail!("column {name}: {other} is no text"),
        };
        let number = || match field {
            Field::Null => Ok(None),
            Field::Double(value) => Ok(Some(*value)),
            Field::Float(value) => Ok(Some(f64::from(*value))),
            Field::Int(value) => Ok(Some(f64::from(*value))),
            Field::Long(value) => Ok(Some(*value as f64)),
            other => bail!("column {name}: {other} is no number"),
        };
        match name.as_str() {
            "file" => found.file = text()?,
            "label" => found.label = text()?,
            "probability" => found.probability = number()?,
            "weight" => found.weight = number()?,
            "reason" => found.reason = Some(text()?).filter(|reason| !reason.is_empty()),
            // What other programs add, an index for one, says nothing about labels.
            _ => {}
        }
    }
    Ok(found)
}

/// Writes a file of labels, whole or not at all, in the format of its ending.
///
/// # Errors
/// When it is there already and is to stay, or cannot be written.
pub fn write(labels: &LabelFile, path: &Path, existing: ExistingFile) -> Result<()> {
    if path.extension().is_none_or(|ending| ending != "parquet") {
        return Ok(labels.write(path, existing)?);
    }
    existing.check(path)?;
    Ok(write_whole(path, &parquet(labels.rows())?)?)
}

fn parquet(rows: &[LabelRow]) -> Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::builder().build()))?;
    let mut group = writer.next_row_group()?;
    let mut column_number = 0;
    while let Some(mut column) = group.next_column()? {
        let text = |row: &LabelRow| match column_number {
            0 => Some(row.file.clone()),
            1 => Some(row.label.clone()),
            _ => row.reason.clone(),
        };
        let number = |row: &LabelRow| if column_number == 2 { row.probability } else { row.weight };
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let values: Vec<Option<String>> = rows.iter().map(text).collect();
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let levels = (column_number == 4).then_some(levels.as_slice());
                let values: Vec<ByteArray> =
                    values.iter().flatten().map(|value| ByteArray::from(value.as_str())).collect();
                writer.write_batch(&values, levels, None)?;
            }
            ColumnWriter::DoubleColumnWriter(writer) => {
                let values: Vec<Option<f64>> = rows.iter().map(number).collect();
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<f64> = values.into_iter().flatten().collect();
                writer.write_batch(&values, Some(&levels), None)?;
            }
            _ => bail!("the schema has columns of {} and {} alone", Physical::BYTE_ARRAY, Physical::DOUBLE),
        }
        column.close()?;
        column_number += 1;
    }
    group.close()?;
    writer.close()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<LabelRow> {
        let row = |file: &str, probability, weight, reason: Option<&str>| LabelRow {
            file: file.to_owned(),
            label: "T-shirt/top, \"x\"".to_owned(),
            probability,
            weight,
            reason: reason.map(str::to_owned),
        };
        vec![
            row("a.png", Some(0.1 + 0.2), Some(0.0), Some("why, because")),
            row("ü.png", None, Some(1.0), None),
            row("c.png", Some(1.0), None, Some("é")),
        ]
    }

    #[test]
    fn both_formats_give_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x.csv", "x.parquet"] {
            let path = folder.path().join(name);
            let labels = LabelFile::new(&path, rows()).unwrap();
            write(&labels, &path, ExistingFile::Keep).unwrap();
            assert_eq!(read(&path).unwrap().rows(), rows(), "{name}");
            let error = write(&labels, &path, ExistingFile::Keep).unwrap_err().to_string();
            assert!(error.contains("is there already"), "{error}");
            write(&labels, &path, ExistingFile::Replace).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_no_table_of_labels_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        std::fs::write(&path, "PAR0").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("x.parquet: no Parquet file of labels"), "{error}");
        assert!(check_ending(Path::new("x.txt")).is_err() && check_ending(Path::new("x.csv")).is_ok());
        assert_eq!(
            check_ending(Path::new("x")).unwrap_err().to_string(),
            "--out x: a file that ends in .csv or .parquet"
        );
    }

    // python: pd.DataFrame({"file": ["a", "b"], "label": ["x", "y"], "weight": np.float32([0.5, 0])}).to_parquet("p.parquet")
    // is read too: text as Str, numbers of 32 bits, columns that are missing.
    #[test]
    fn numbers_of_any_width_are_read() {
        let schema =
            "message m { required binary file (utf8); required int32 weight; required binary label (utf8); }";
        let mut bytes = Vec::new();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    writer.write_batch(&[ByteArray::from("a")], None, None).unwrap();
                }
                ColumnWriter::Int32ColumnWriter(writer) => {
                    writer.write_batch(&[3], None, None).unwrap();
                }
                _ => unreachable!("the schema has no other columns"),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        std::fs::write(&path, bytes).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found.rows()[0].weight, Some(3.0));
        assert_eq!((found.rows()[0].file.as_str(), found.rows()[0].label.as_str()), ("a", "a"));
    }
}
