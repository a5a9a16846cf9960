//! The page of a ladder of labels: accuracy against labels, and how many each way of using them needs.

use super::plot::{self, Chart, ChartPlot};
use super::{chart, outcome, page};
use anyhow::{Context, Result};
use maud::{Markup, html};
use selfsup::core::state::write_whole;
use std::fs;
use std::path::{Path, PathBuf};

/// All that the page shows.
#[derive(Clone, Debug, Default)]
pub struct AnnotationData {
    /// What is labelled.
    pub title: String,
    /// What came out, in a sentence.
    pub outcome: String,
    /// Names and values for the head.
    pub facts: Vec<(String, String)>,
    /// The command that repeats it.
    pub command: String,
    /// Accuracy against labels.
    pub chart: Chart,
    /// The numbers of labels, the columns of the table.
    pub counts: Vec<usize>,
    /// The ways of using them.
    pub rows: Vec<ArmRow>,
}

/// A way of using labels.
#[derive(Clone, Debug)]
pub struct ArmRow {
    /// What it is called.
    pub name: String,
    /// What is done, in a sentence.
    pub about: String,
    /// One for every number of labels; none where it was not measured.
    pub cells: Vec<Option<RungCell>>,
    /// How many labels it needs.
    pub needs: String,
}

/// What came out with so many labels.
#[derive(Clone, Debug)]
pub struct RungCell {
    /// In per cent, with its spread.
    pub accuracy: String,
    /// How many labels were given, on average.
    pub given: f64,
    /// The seconds that a draw took, on average.
    pub seconds: f64,
}

/// Writes `annotation.html` and `plots/annotation.{png,svg}` into a folder that exists; returns the page's path.
///
/// # Errors
/// Figures that cannot be drawn, and files that cannot be written.
pub fn write(data: &AnnotationData, folder: &Path) -> Result<PathBuf> {
    let html = annotation_page(data)?;
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make the folder {}", plots.display()))?;
    let plot = ChartPlot(&data.chart);
    write_whole(&plots.join("annotation.png"), &plot::png(&plot)?)?;
    write_whole(&plots.join("annotation.svg"), plot::svg_file(&plot, &description(data))?.as_bytes())?;
    let path = folder.join("annotation.html");
    write_whole(&path, html.as_bytes())?;
    Ok(path)
}

fn description(data: &AnnotationData) -> String {
    format!("{}: {}", data.chart.name, data.outcome)
}

fn annotation_page(data: &AnnotationData) -> Result<String> {
    let head = page::header(
        "What labels are worth",
        &data.title,
        Some(&outcome::capital(&data.outcome)),
        None,
        &data.facts,
        &data.command,
    );
    let dashed = data.chart.reference.as_ref().map(|(name, _)| format!(" The dashed line: {name}."));
    let reading = format!(
        "The mean over the draws with its standard deviation. Twice as many labels are as far apart everywhere.{}",
        dashed.unwrap_or_default()
    );
    let body = html! {
        (head)
        section {
            h2 { "Accuracy against labels" }
            (chart::chart(&data.chart, &description(data), &reading)?)
        }
        (table(data))
    };
    Ok(page::document(&data.title, &body))
}

fn table(data: &AnnotationData) -> Markup {
    let spent = |cell: &RungCell, count: usize| {
        let more = cell.given - count as f64;
        let given = if more > 0.05 { format!("{:.1} labels, ", cell.given) } else { String::new() };
        format!("{given}{:.1} s", cell.seconds)
    };
    let aimed = data.chart.reference.is_some();
    html! {
        section {
            h2 { "In numbers" }
            // Not a caption: that would be as wide as the table, which may run off a phone.
            p.note {
                "Test accuracy in per cent by the number of labels, ± the standard deviation over draws, and how long a draw took"
                @if aimed { "; on the right the labels that the accuracy of the dashed line takes" }
                "."
            }
            div.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Labels" }
                            @for count in &data.counts { th scope="col" { (count) } }
                            @if aimed { th scope="col" { "needed" } }
                        }
                    }
                    tbody {
                        @for row in &data.rows {
                            tr {
                                th scope="row" { (row.name) }
                                @for (cell, &count) in row.cells.iter().zip(&data.counts) {
                                    @match cell {
                                        Some(cell) => td { (cell.accuracy) br; span.note { (spent(cell, count)) } },
                                        None => td { "–" },
                                    }
                                }
                                @if aimed { td { strong { (row.needs) } } }
                            }
                        }
                    }
                }
            }
            ul.meanings { @for row in &data.rows { li.note { b { (row.name) } ": " (row.about) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Along, Line, Point};

    #[test]
    fn the_page_says_in_words_numbers_and_a_figure_what_labels_are_worth() {
        let point = |x: f64, y: f64| Point { x, y, interval: Some([y - 1.0, y + 1.0]) };
        let cell =
            |accuracy: &str, given: f64| Some(RungCell { accuracy: accuracy.into(), given, seconds: 61.0 });
        let row = |name: &str, cells| ArmRow {
            name: name.into(),
            about: "So it is.".into(),
            cells,
            needs: "310".into(),
        };
        let data = AnnotationData {
            title: "pets".into(),
            outcome: "310 labels do what 1000 did.".into(),
            facts: vec![("Draws".into(), "3".into())],
            command: "selfsup report annotation --from run".into(),
            chart: Chart {
                name: "Accuracy".into(),
                along: Along { name: "labels".into(), factors: true },
                up: "per cent".into(),
                lines: vec![
                    Line { name: "supervised".into(), points: vec![point(40.0, 60.0), point(1000.0, 80.0)] },
                    Line { name: "SSL".into(), points: vec![point(43.0, 70.0)] },
                ],
                reference: Some(("supervised, all 1000".into(), 80.0)),
            },
            counts: vec![40, 1000],
            rows: vec![
                row("supervised", vec![cell("60.0 ± 1.0", 40.0), cell("80.0", 1000.0)]),
                row("SSL", vec![cell("70.0 ± 1.0", 43.3), None]),
            ],
        };
        let folder = tempfile::tempdir().unwrap();
        let page = fs::read_to_string(write(&data, folder.path()).unwrap()).unwrap();
        for part in [
            "310 labels do what 1000 did.",
            "The dashed line: supervised, all 1000.",
            "60.0 ± 1.0",
            "43.3 labels, 61.0 s",
            "–",
            "So it is.",
            "<svg",
        ] {
            assert!(page.contains(part), "the page lacks {part}");
        }
        assert!(
            !page.contains("src=\"http") && !page.contains("40.0 labels") && page.contains("dashed line")
        );
        let aimless =
            AnnotationData { chart: Chart { reference: None, ..data.chart.clone() }, ..data.clone() };
        let without = annotation_page(&aimless).unwrap();
        assert!(
            !without.contains("dashed line")
                && !without.contains("needed")
                && !without.contains("310</strong>")
        );
        let svg = fs::read_to_string(folder.path().join("plots/annotation.svg")).unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.contains("SSL"));
        assert!(folder.path().join("plots/annotation.png").is_file());
    }
}
