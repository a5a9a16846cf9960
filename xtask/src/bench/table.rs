//! `docs/benchmarks.json` and the table of `docs/benchmarks.md`. A line that is measured anew takes its old one's place.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::measure::{Line, Machine, number};
use super::rows::ROWS;
use crate::run::root;

/// The table stands between these in the page; what is around it is written by hand.
const MARKS: [&str; 2] = ["<!-- written by cargo xtask bench -->", "<!-- end -->"];

/// Writes both files.
///
/// # Errors
/// When one cannot be read or written, or the page has no place for the table.
pub fn write(lines: Vec<Line>, machine: &Machine) -> Result<()> {
    let json_path = root().join("docs/benchmarks.json");
    let page_path = root().join("docs/benchmarks.md");
    let before: Value = match fs::read_to_string(&json_path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| json_path.display().to_string())?,
        Err(_) => json!({ "rows": [] }),
    };
    let new: Vec<Value> = lines.iter().map(|line| line.json(machine)).collect();
    let rows = merged(before["rows"].as_array().map_or(&[][..], Vec::as_slice), new);
    let all = json!({
        "host": machine.host,
        "cores": machine.cores,
        "revision": machine.revision,
        "rows": rows,
    });
    let page = fs::read_to_string(&page_path).with_context(|| page_path.display().to_string())?;
    let page = between(&page, MARKS, &table(&rows, machine)).with_context(|| {
        format!(
            "{} has no place for the table: a line {} and after it a line {}",
            page_path.display(),
            MARKS[0],
            MARKS[1]
        )
    })?;
    fs::write(&json_path, format!("{all:#}\n")).with_context(|| json_path.display().to_string())?;
    fs::write(&page_path, page).with_context(|| page_path.display().to_string())?;
    println!("{}\n{}", json_path.display(), page_path.display());
    Ok(())
}

/// Old lines with those that were measured anew in their place, in the order of the rows.
fn merged(old: &[Value], new: Vec<Value>) -> Vec<Value> {
    let same = |a: &Value, b: &Value| ["row", "peer"].iter().all(|key| a[*key] == b[*key]);
    let mut rows: Vec<Value> =
        old.iter().filter(|old| !new.iter().any(|new| same(old, new))).cloned().collect();
    rows.extend(new);
    let place = |value: &Value| ROWS.iter().position(|row| value["row"] == row.name);
    rows.retain(|value| place(value).is_some());
    rows.sort_by_key(place);
    rows
}

fn table(rows: &[Value], machine: &Machine) -> String {
    // Rows of other runs had the machine at other rates.
    let rates = rows.iter().filter_map(|row| row["gflops"].as_f64());
    let [slowest, fastest] =
        rates.fold([machine.flops / 1e9; 2], |[low, high], rate| [low.min(rate), high.max(rate)]);
    let mut text = format!(
        "{}, {} cores; a large matrix product ran at {slowest:.0} to {fastest:.0} GFLOP/s beside these rows.\n\n",
        machine.host, machine.cores
    );
    text += "| row | works on | unit | peer | ours | theirs | ratio | smallest to largest | limit |\n";
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let word = |key: &str| row[key].as_str().unwrap_or("–").to_string();
        let value = |x: &Value| x.as_f64().map_or("–".to_string(), number);
        let ratio = row["ratio"].as_f64().map_or("–".to_string(), |ratio| format!("**{ratio:.2}**"));
        let spread = match (row["spread"][0].as_f64(), row["spread"][1].as_f64()) {
            (Some(least), Some(most)) => format!("{least:.2} to {most:.2}"),
            _ => "–".to_string(),
        };
        // A String takes every line.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {ratio} | {spread} | {} |",
            word("row"),
            word("shape"),
            word("unit"),
            word("peer"),
            value(&row["ours"]),
            value(&row["theirs"]),
            value(&row["limit"]),
        );
    }
    text
}

/// The page with another text between two marks.
pub fn between(page: &str, [begin, end]: [&str; 2], text: &str) -> Option<String> {
    let (head, rest) = page.split_once(begin)?;
    let (_, tail) = rest.split_once(end)?;
    Some(format!("{head}{begin}\n{text}{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_measured_anew_takes_the_place_of_the_old_one() {
        let line = |row: &str, peer: &str, ours: f64| json!({ "row": row, "peer": peer, "ours": ours });
        let old = [line("knn", "a", 1.0), line("knn", "b", 2.0), line("gone", "a", 3.0)];
        let rows = merged(&old, vec![line("knn", "a", 9.0), line("views-32", "a", 4.0)]);
        let found: Vec<_> =
            rows.iter().map(|row| (row["row"].as_str().unwrap(), row["ours"].as_f64().unwrap())).collect();
        assert_eq!(found, [("views-32", 4.0), ("knn", 2.0), ("knn", 9.0)]);
    }

    #[test]
    fn what_is_written_by_hand_stays() {
        let page = |table: &str| format!("# Title\n{}\n{table}\n{}\nnotes\n", MARKS[0], MARKS[1]);
        assert_eq!(between(&page("old"), MARKS, "new\n").unwrap(), page("new"));
        assert!(between("no place", MARKS, "new").is_none());
    }
}
