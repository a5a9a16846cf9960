//! The page of a noise audit: which given labels are doubted, and how far the doubt can be trusted.

use super::plot::{self, Chart, Matrix};
use super::{Confusion, Number, Sample, Shown, chart, method, outcome, page, samples, sheet};
use anyhow::{Context, Result};
use maud::{Markup, PreEscaped, html};
use selfsup::core::state::write_whole;
use std::fs;
use std::path::{Path, PathBuf};

/// All that the page of an audit shows.
#[derive(Clone, Debug, Default)]
pub struct AuditData {
    /// What was audited.
    pub title: String,
    /// What came out, in a sentence.
    pub outcome: String,
    /// Names and values for the head.
    pub facts: Vec<(String, String)>,
    /// The command that repeats it.
    pub command: String,
    /// Where labels were planted: how well they were found.
    pub planted: Vec<Number>,
    /// The most doubted samples, the worst first.
    pub doubted: Vec<Doubted>,
    /// Doubts by class.
    pub classes: Vec<ClassDoubts>,
    /// `counts[given class][class that the model is confident of]`, as estimated for all samples.
    pub joint: Confusion,
    /// How true the model's confidences are, before and after scaling.
    pub calibration: Option<Chart>,
    /// That in words.
    pub calibration_reading: String,
}

/// A sample whose label is doubted.
#[derive(Clone, Debug)]
pub struct Doubted {
    /// The sample, its class the given one.
    pub sample: Sample,
    /// Its file.
    pub file: String,
    /// The class that the model suggests.
    pub suggested: String,
    /// The probability of that class.
    pub probability: f64,
}

impl Doubted {
    fn caption(&self) -> String {
        let given = self.sample.class.as_deref().unwrap_or("?");
        format!("given: {given}\n{} {} %", self.suggested, outcome::percent(self.probability))
    }

    fn pictured(&self) -> Option<(&image::RgbImage, String)> {
        match &self.sample.shown {
            Shown::Image(image) => Some((image, self.caption())),
            Shown::Text(_) => None,
        }
    }
}

/// Doubts about the labels of a class.
#[derive(Clone, Debug)]
pub struct ClassDoubts {
    /// The class.
    pub name: String,
    /// Labels of it.
    pub labels: usize,
    /// Those that are doubted.
    pub doubted: usize,
    /// The share of them that is wrong, as the confident joint estimates it.
    pub estimated: Option<f64>,
}

/// All that [`write`] may write into a folder.
pub const FILES: [&str; 4] =
    ["audit.html", "plots/given-and-confident.png", "plots/doubted.png", "plots/calibration.png"];

/// Writes `audit.html` and `plots/` into a folder that exists; returns the page's path.
///
/// # Errors
/// Figures that cannot be drawn, and files that cannot be written.
pub fn write(data: &AuditData, folder: &Path) -> Result<PathBuf> {
    let html = page::with_fitting_pictures(|most| audit_page(data, most))?;
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make the folder {}", plots.display()))?;
    write_whole(&plots.join("given-and-confident.png"), &plot::png(&Matrix::of_given(&data.joint))?)?;
    let pictured: Vec<_> = data.doubted.iter().filter_map(Doubted::pictured).collect();
    if !pictured.is_empty() {
        let sheet = sheet::captioned("The labels that are doubted most", &pictured)?;
        write_whole(&plots.join("doubted.png"), &sheet)?;
    }
    if let Some(chart) = data.calibration.as_ref().filter(|chart| !plot::ChartPlot(chart).is_empty()) {
        write_whole(&plots.join("calibration.png"), &plot::png(&plot::ChartPlot(chart))?)?;
    }
    let path = folder.join("audit.html");
    write_whole(&path, html.as_bytes())?;
    Ok(path)
}

fn audit_page(data: &AuditData, most: u32) -> Result<String> {
    let kind = "Audit of given labels";
    let head = page::header(kind, &data.title, Some(&data.outcome), None, &data.facts, &data.command);
    let doubted = (!data.doubted.is_empty()).then(|| doubted(&data.doubted, most)).transpose()?;
    let calibration = data.calibration.as_ref().map(|found| calibration(data, found)).transpose()?;
    let body = html! {
        (head)
        @if !data.planted.is_empty() {
            section {
                h2 { "Planted labels" }
                p.note { "Some labels were made wrong by intent, so that what is found of them can be counted." }
                (method::numbers(&data.planted))
            }
        }
        @if let Some(doubted) = doubted { (doubted) }
        (classes(data)?)
        @if let Some(calibration) = calibration { (calibration) }
    };
    Ok(page::document(&data.title, &body))
}

fn doubted(shown: &[Doubted], most: u32) -> Result<Markup> {
    let mut figures = Vec::new();
    for one in shown {
        let alt = format!("{}: {}", one.file, one.caption().replace('\n', ", "));
        let given = one.sample.class.as_deref().unwrap_or("?");
        figures.push(html! {
            figure {
                (samples::shown(&one.sample, &alt, most)?)
                figcaption {
                    span.other { "✗ " (given) } "\n"
                    span.same { (one.suggested) " " (outcome::percent(one.probability)) " %" } "\n"
                    (one.file)
                }
            }
        });
    }
    Ok(html! {
        section {
            h2 { "What is doubted most" }
            p.note {
                "The worst first: the label that was given, in red; what samples like it are called, and how probable that is; and \
                 the file. All of them, and how good every label is, stand in audit.csv."
            }
            div.answers { @for figure in figures { (figure) } }
        }
    })
}

/// The classes in numbers, and which is taken for which.
fn classes(data: &AuditData) -> Result<Markup> {
    let description = format!("Given against confident classes, {} of them.", data.joint.classes.len());
    let figure = plot::svg(&Matrix::of_given(&data.joint), &description)?;
    Ok(html! {
        section {
            h2 { "Class by class" }
            div.columns {
                figure {
                    (PreEscaped(figure))
                    figcaption {
                        "A row is a given class, and its cells say in per cent what its samples are by the confident joint: those that \
                         the model is as sure of as it is of the class on average. The diagonal is right."
                    }
                }
                div.scroll {
                    table.counts {
                        thead {
                            tr {
                                th scope="col" { "Given class" }
                                th scope="col" { "labels" }
                                th scope="col" { "doubted" }
                                th scope="col" { "estimated wrong" }
                            }
                        }
                        tbody {
                            @for class in &data.classes {
                                tr {
                                    th scope="row" { (class.name) }
                                    td { (class.labels) }
                                    td { (class.doubted) }
                                    td { (class.estimated.map_or("–".into(), |share| outcome::percent(share) + " %")) }
                                }
                            }
                        }
                    }
                }
            }
        }
    })
}

fn calibration(data: &AuditData, found: &Chart) -> Result<Markup> {
    let description = "Accuracy by confidence, before and after scaling.";
    Ok(html! {
        section {
            h2 { "Whether confidences are true" }
            (chart::chart(found, description, &data.calibration_reading)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Along, Line, Point};
    use image::{Rgb, RgbImage};

    fn tiny() -> AuditData {
        let picture = RgbImage::from_pixel(6, 6, Rgb([9, 90, 200]));
        let line = |name: &str| Line {
            name: name.into(),
            points: [0.2, 0.9].map(|x| Point { x, y: x, interval: None }).into(),
        };
        AuditData {
            title: "pets".into(),
            outcome: "3 of 100 labels are doubted.".into(),
            facts: vec![("Labels".into(), "100 of 2 classes".into())],
            command: "selfsup audit run --data pets".into(),
            planted: vec![Number { name: "AUROC".into(), value: 0.971, reading: "1 is all.".into() }],
            doubted: vec![Doubted {
                sample: Sample { shown: Shown::Image(picture), class: Some("cat".into()) },
                file: "a<b.png".into(),
                suggested: "dog".into(),
                probability: 0.98,
            }],
            classes: vec![ClassDoubts { name: "cat".into(), labels: 50, doubted: 3, estimated: Some(0.062) }],
            joint: Confusion {
                by: "the probe".into(),
                counts: vec![vec![47, 3], vec![0, 50]],
                classes: vec!["cat".into(), "dog".into()],
            },
            calibration: Some(Chart {
                name: "Calibration".into(),
                along: Along { name: "confidence".into(), factors: false },
                up: "accuracy".into(),
                lines: vec![line("before"), line("after")],
                reference: None,
            }),
            calibration_reading: "On the diagonal confidences are true.".into(),
        }
    }

    #[test]
    fn the_page_says_what_is_doubted_and_asks_for_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&tiny(), folder.path()).unwrap();
        let page = fs::read_to_string(path).unwrap();
        for part in [
            "Audit of given labels",
            "3 of 100 labels are doubted.",
            "AUROC",
            "0.971",
            "✗ cat",
            "dog 98.0 %",
            "a&lt;b.png",
            "6.2 %",
            "On the diagonal",
            "data:image/png;base64,",
        ] {
            assert!(page.contains(part), "the page lacks {part}");
        }
        assert!(!page.contains("src=\"http") && !page.contains("<script"));
        for plot in ["calibration.png", "doubted.png", "given-and-confident.png"] {
            assert!(folder.path().join("plots").join(plot).is_file(), "{plot}");
        }
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let data = AuditData { planted: vec![], doubted: vec![], calibration: None, ..tiny() };
        let folder = tempfile::tempdir().unwrap();
        let page = fs::read_to_string(write(&data, folder.path()).unwrap()).unwrap();
        for part in ["Planted", "doubted most", "confidences are true"] {
            assert!(!page.contains(part), "the page has {part}");
        }
    }
}
