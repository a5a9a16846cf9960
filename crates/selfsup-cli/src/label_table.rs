//! Label files as CSV or Parquet, by the file's ending.

use anyhow::{Context, Result, bail};
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
    let names: Vec<String> = columns.columns().iter().map(|column| column.path().string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_index(name)).collect();
    LabelFile::check_columns(path, &names)?;
    let mut rows = Vec::new();
    // Counted as in a CSV file, below a header.
    for (line, row) in (2_u64..).zip(reader.get_row_iter(None).with_context(broken)?) {
        let row = label_row(&row.with_context(broken)?);
        rows.push(row.with_context(|| format!("{}: line {line}", path.display()))?);
    }
    Ok(LabelFile::new(path, rows)?)
}

/// Whether a column is the index that pandas adds to a table that was filtered.
fn is_index(name: &str) -> bool {
    name.strip_prefix("__index_level_").is_some_and(|rest| rest.ends_with("__"))
}

fn label_row(row: &Row) -> Result<LabelRow> {
    let mut found = LabelRow::default();
    for (name, field) in row.get_column_iter() {
        match name.as_str() {
            "file" => found.file = text(name, field)?,
            "label" => text(name, field)?.trim().clone_into(&mut found.label),
            "probability" => found.probability = number(name, field)?,
            "weight" => found.weight = number(name, field)?,
            "reason" => found.reason = Some(text(name, field)?).filter(|reason| !reason.trim().is_empty()),
            // An index, or the rank of a proposal.
            _ => {}
        }
    }
    Ok(found)
}

/// A field as text; classes and files may be numbered.
fn text(name: &str, field: &Field) -> Result<String> {
    Ok(match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Byte(value) => value.to_string(),
        Field::Short(value) => value.to_string(),
        Field::Int(value) => value.to_string(),
        Field::Long(value) => value.to_string(),
        Field::UByte(value) => value.to_string(),
        Field::UShort(value) => value.to_string(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        other => bail!("{name} = {other}: text or a whole number"),
    })
}

fn number(name: &str, field: &Field) -> Result<Option<f64>> {
    Ok(Some(match field {
        Field::Null => return Ok(None),
        Field::Double(value) => *value,
        Field::Float(value) => f64::from(*value),
        Field::Byte(value) => f64::from(*value),
        Field::Short(value) => f64::from(*value),
        Field::Int(value) => f64::from(*value),
        Field::Long(value) => *value as f64,
        Field::UByte(value) => f64::from(*value),
        Field::UShort(value) => f64::from(*value),
        Field::UInt(value) => f64::from(*value),
        Field::ULong(value) => *value as f64,
        other => bail!("{name} = {other}: a number"),
    }))
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

    /// A Parquet file of one row with this schema; texts are "a", whole numbers 3, other numbers 0.5.
    fn one_row(schema: &str) -> (tempfile::TempDir, std::path::PathBuf) {
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
                ColumnWriter::Int64ColumnWriter(writer) => {
                    writer.write_batch(&[3], None, None).unwrap();
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    writer.write_batch(&[0.5], None, None).unwrap();
                }
                ColumnWriter::BoolColumnWriter(writer) => {
                    writer.write_batch(&[true], None, None).unwrap();
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
        (folder, path)
    }

    const FILE: &str = "required binary file (utf8);";

    #[test]
    fn numbers_of_any_width_are_read_and_classes_may_be_numbers() {
        for kind in ["int32", "int64", "double"] {
            let (_folder, path) = one_row(&format!(
                "message m {{ {FILE} required {kind} weight; required binary label (utf8); }}"
            ));
            let expected = if kind == "double" { 0.5 } else { 3.0 };
            assert_eq!(read(&path).unwrap().rows()[0].weight, Some(expected), "{kind}");
        }
        for bits in [8, 16, 32] {
            for signed in [true, false] {
                let (_folder, path) = one_row(&format!(
                    "message m {{ {FILE} required int32 label (integer({bits},{signed})); \
                     required int32 weight (integer({bits},{signed})); }}"
                ));
                let row = read(&path).unwrap().rows()[0].clone();
                assert_eq!((row.label.as_str(), row.weight), ("3", Some(3.0)), "{bits} {signed}");
            }
        }
        for annotation in ["", "(integer(64,true))", "(integer(64,false))"] {
            let (_folder, path) =
                one_row(&format!("message m {{ {FILE} required int64 label {annotation}; }}"));
            assert_eq!(read(&path).unwrap().rows()[0].label, "3", "{annotation}");
        }
    }

    #[test]
    fn columns_and_values_that_cannot_be_are_refused_as_those_of_csv() {
        let refusal = |columns: &str| {
            let (_folder, path) = one_row(&format!("message m {{ {FILE} {columns} }}"));
            let error = format!("{:#}", read(&path).unwrap_err());
            error.split_once("x.parquet: ").unwrap().1.to_owned()
        };
        let label = "required binary label (utf8);";
        assert_eq!(
            refusal(&format!("{label} required double wieght;")),
            "column \"wieght\": unknown; did you mean weight?; there are file, label, probability, weight, reason"
        );
        assert_eq!(refusal("required int64 weight;"), "column label: missing; there are file, weight");
        assert_eq!(refusal("required double label;"), "line 2: label = 0.5: text or a whole number");
        assert_eq!(refusal(&format!("{label} required boolean weight;")), "line 2: weight = true: a number");
        let index = format!("message m {{ {FILE} {label} required int64 __index_level_0__; }}");
        let (_folder, path) = one_row(&index);
        assert_eq!(read(&path).unwrap().rows().len(), 1);
    }
}
