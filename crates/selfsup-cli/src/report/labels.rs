//! The page about labels that a machine gave: how many count and why, how right they are where the truth is known, and the
//! most and least trusted of them as pictures.

use super::plot::{self, Trace, Traced};
use super::{Answer, outcome};
use super::{page, samples, sheet};
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use maud::{Markup, PreEscaped, html};
use selfsup::core::state::write_whole;
use std::fs;
use std::path::{Path, PathBuf};

/// All that the page shows. What is empty or `None` is left out.
#[derive(Clone, Debug, Default)]
pub struct LabelReport {
    /// What was labelled.
    pub title: String,
    /// One sentence that says what came out.
    pub outcome: String,
    /// Names and values for the head.
    pub facts: Vec<(String, String)>,
    /// What is to be known before anything is believed.
    pub remarks: Vec<String>,
    /// How many labels there are for each reason.
    pub reasons: Vec<(String, usize)>,
    /// Coverage and accuracy, by coverage.
    pub coverage: Vec<[f64; 2]>,
    /// How true probabilities are: who was asked, and what was found.
    pub calibration: Vec<(String, Adequacy)>,
    /// The classes, one by one.
    pub classes: Vec<Tally>,
    /// The least trusted labels, the least first.
    pub least: Vec<Trusted>,
    /// The most trusted labels that nobody gave, the most first.
    pub most: Vec<Trusted>,
}

/// How true probabilities are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adequacy {
    /// The samples that were asked.
    pub samples: usize,
    /// The expected calibration error, 0 to 1.
    pub ece: f64,
    /// The mean confidence and the accuracy of each bin, by confidence.
    pub curve: Vec<[f64; 2]>,
}

/// The labels of one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// The class.
    pub name: String,
    /// Labels that were given.
    pub given: usize,
    /// Other labels that count.
    pub kept: usize,
    /// The share of these that is right, where the truth is known.
    pub precision: Option<f64>,
    /// The share of the class's samples that has its label, where the truth is known.
    pub recall: Option<f64>,
}

/// A sample and its label.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// Its picture.
    pub image: RgbImage,
    /// What it is called.
    pub name: String,
    /// The label.
    pub label: String,
    /// The true class, where it is known.
    pub truth: Option<String>,
    /// How far it is trusted, and why.
    pub remark: String,
}

impl Trusted {
    fn caption(&self) -> (Option<bool>, String) {
        match &self.truth {
            Some(truth) if *truth == self.label => (Some(true), format!("✓ {}", self.label)),
            Some(truth) => (Some(false), format!("✗ {}\ntrue: {truth}", self.label)),
            None => (None, self.label.clone()),
        }
    }
}

/// All that [`write`] may write into a folder; no report has every one of them.
pub const FILES: [&str; 6] = [
    "report.html",
    "plots/coverage.png",
    "plots/calibration.png",
    "plots/calibration-2.png",
    "plots/least.png",
    "plots/most.png",
];

/// The pixels of the longer side of a picture, at most.
const SIDE: u32 = 96;

/// Writes `report.html` and `plots/*.png` into a folder; returns the page's path.
///
/// # Errors
/// Shares outside 0 to 1, and files that cannot be written.
pub fn write(data: &LabelReport, folder: &Path) -> Result<PathBuf> {
    check(data)?;
    let html = page::document(&format!("Labels of {}", data.title), &body(data)?);
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make the folder {}", plots.display()))?;
    for (name, bytes) in figures(data)? {
        write_whole(&plots.join(name), &bytes)?;
    }
    let page = folder.join("report.html");
    write_whole(&page, html.as_bytes())?;
    Ok(page)
}

fn check(data: &LabelReport) -> Result<()> {
    let curves = data.calibration.iter().flat_map(|(_, found)| &found.curve);
    for point in data.coverage.iter().chain(curves) {
        ensure!(point.iter().all(|share| (0.0..=1.0).contains(share)), "{point:?}: no shares from 0 to 1");
    }
    Ok(())
}

fn coverage(data: &LabelReport) -> Traced<'_> {
    Traced {
        title: "Accuracy against coverage",
        along: "coverage",
        up: "accuracy",
        points: &data.coverage,
        trace: Trace::Line,
    }
}

fn calibration(found: &Adequacy) -> Traced<'_> {
    Traced {
        title: "Are the probabilities true?",
        along: "probability",
        up: "accuracy",
        points: &found.curve,
        trace: Trace::AgainstDiagonal,
    }
}

fn figures(data: &LabelReport) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    if !data.coverage.is_empty() {
        files.push(("coverage.png".to_owned(), plot::png(&coverage(data))?));
    }
    for (number, (_, found)) in (1..).zip(&data.calibration) {
        let name =
            if number == 1 { "calibration.png".to_owned() } else { format!("calibration-{number}.png") };
        files.push((name, plot::png(&calibration(found))?));
    }
    for (name, title, shown) in [
        ("least.png", "The least trusted labels", &data.least),
        ("most.png", "The most trusted labels", &data.most),
    ] {
        let answer = |one: &Trusted| {
            Some(Answer { image: one.image.clone(), truth: one.truth.clone()?, given: one.label.clone() })
        };
        let answers: Vec<Answer> = shown.iter().filter_map(answer).collect();
        if !answers.is_empty() {
            files.push((name.to_owned(), sheet::answers(title, &answers)?));
        }
    }
    Ok(files)
}

fn body(data: &LabelReport) -> Result<Markup> {
    Ok(html! {
        header {
            p.kind { "Report of labels" }
            h1 { (data.title) }
            p.outcome { (data.outcome) }
            @for remark in &data.remarks { p { (remark) } }
            dl.facts { @for (name, value) in &data.facts { div { dt { (name) } dd { (value) } } } }
        }
        @if !data.reasons.is_empty() { (reasons(data)) }
        @if !data.coverage.is_empty() {
            section {
                h2 { "Accuracy against coverage" }
                p.note {
                    "How often labels are right when only the most trusted are kept: those that count by their weight, then \
                     those that are rejected. Judged on samples whose true class is known and was not given."
                }
                figure { (PreEscaped(plot::svg(&coverage(data), &described(data))?)) }
            }
        }
        @if !data.calibration.is_empty() { (calibrations(data)?) }
        @if !data.classes.is_empty() { (classes(data)) }
        (pictures("The least trusted", "least", &data.least)?)
        (pictures("The most trusted", "most", &data.most)?)
    })
}

fn described(data: &LabelReport) -> String {
    let all = data.coverage.last().map_or(0.0, |point| point[1]);
    let half = data.coverage.iter().rev().find(|point| point[0] <= 0.5).map_or(all, |point| point[1]);
    format!(
        "Accuracy by coverage: {} per cent of the surer half are right, {} per cent of all.",
        outcome::percent(half),
        outcome::percent(all)
    )
}

fn reasons(data: &LabelReport) -> Markup {
    html! {
        section {
            h2 { "Why" }
            div.scroll {
                table.measured {
                    thead { tr { th scope="col" { "Labels" } th scope="col" { "Reason" } } }
                    tbody {
                        @for (reason, count) in &data.reasons {
                            tr { th scope="row" { (count) } td.reading { (reason) } }
                        }
                    }
                }
            }
        }
    }
}

fn calibrations(data: &LabelReport) -> Result<Markup> {
    let drawn = data.calibration.iter().map(|(who, found)| {
        let ece = outcome::percent(found.ece);
        let described = format!("Reliability curve of {who}: expected calibration error {ece} per cent.");
        Ok((who, found, ece, plot::svg(&calibration(found), &described)?))
    });
    let drawn = drawn.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { "Are the probabilities true?" }
            p.note {
                "Of labels with a probability of 80 % four in five should be right: points on the diagonal. Below it the \
                 labels are less often right than they claim."
            }
            div.columns {
                @for (who, found, ece, figure) in drawn {
                    figure {
                        h3 { (outcome::capital(who)) }
                        (PreEscaped(figure))
                        figcaption { "Expected calibration error " (ece) " %, from " (found.samples) " samples." }
                    }
                }
            }
        }
    })
}

fn classes(data: &LabelReport) -> Markup {
    let known = data.classes.iter().any(|class| class.precision.is_some() || class.recall.is_some());
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), outcome::percent);
    html! {
        section {
            h2 { "Class by class" }
            p.note {
                "Labels that were given, and others that count."
                @if known {
                    " Precision: of those that count, how many are right, in per cent. Recall: of the class's samples, \
                     how many have its label. Both on samples that were not given."
                }
            }
            div.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Class" }
                            th scope="col" { "given" }
                            th scope="col" { "kept" }
                            @if known { th scope="col" { "precision" } th scope="col" { "recall" } }
                        }
                    }
                    tbody {
                        @for class in &data.classes {
                            tr {
                                th scope="row" { (class.name) }
                                td { (class.given) }
                                td { (class.kept) }
                                @if known { td { (share(class.precision)) } td { (share(class.recall)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn pictures(title: &str, which: &str, shown: &[Trusted]) -> Result<Markup> {
    if shown.is_empty() {
        return Ok(html! {});
    }
    let mut figures = Vec::new();
    for one in shown {
        let (right, caption) = one.caption();
        let alt = format!("{}: {}", one.name, one.label);
        figures.push(html! {
            figure title=(one.name) {
                (samples::picture(&one.image, &alt, SIDE)?)
                figcaption {
                    span.same[right == Some(true)].other[right == Some(false)] { (caption) }
                    "\n" (one.remark)
                }
            }
        });
    }
    Ok(html! {
        section {
            h2 { (title) }
            p.note { "The " (which) " trusted labels that no person gave, the " (which) " trusted first." }
            div.answers { @for figure in figures { (figure) } }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(truth: Option<&str>) -> Trusted {
        Trusted {
            image: RgbImage::from_pixel(4, 4, image::Rgb([9, 8, 7])),
            name: "cat/<1>.png".to_owned(),
            label: "cat".to_owned(),
            truth: truth.map(str::to_owned),
            remark: "93 %: the model is sure enough".to_owned(),
        }
    }

    fn data() -> LabelReport {
        let adequacy = Adequacy { samples: 40, ece: 0.031, curve: vec![[0.4, 0.5], [0.9, 0.85]] };
        LabelReport {
            title: "pets".to_owned(),
            outcome: "Of 100 samples 80 have a label that counts.".to_owned(),
            facts: vec![("Method".to_owned(), "logistic regression".to_owned())],
            remarks: vec!["Beware.".to_owned()],
            reasons: vec![
                ("the model is sure enough".to_owned(), 76),
                ("a person gave this label".to_owned(), 4),
            ],
            coverage: vec![[0.1, 1.0], [0.5, 0.9], [1.0, 0.8]],
            calibration: vec![
                ("held-out labels".to_owned(), adequacy.clone()),
                ("the true labels".to_owned(), adequacy),
            ],
            classes: vec![Tally {
                name: "cat".to_owned(),
                given: 4,
                kept: 30,
                precision: Some(0.9),
                recall: None,
            }],
            least: vec![trusted(Some("dog"))],
            most: vec![trusted(Some("cat")), trusted(None)],
        }
    }

    #[test]
    fn the_page_carries_all_it_shows_and_asks_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&data(), folder.path()).unwrap();
        let page = fs::read_to_string(path).unwrap();
        for part in [
            "Of 100 samples 80 have",
            "Beware.",
            "<th scope=\"row\">76</th><td class=\"reading\">the model is sure enough</td>",
            "90.0 per cent of the surer half are right, 80.0 per cent of all",
            "Expected calibration error 3.1 %, from 40 samples.",
            "<td>90.0</td><td>–</td>",
            "✗ cat\ntrue: dog",
            "cat/&lt;1&gt;.png",
        ] {
            assert!(page.contains(part), "the page lacks {part}");
        }
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
        let mut plots: Vec<_> = fs::read_dir(folder.path().join("plots"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        plots.sort();
        assert_eq!(plots, ["calibration-2.png", "calibration.png", "coverage.png", "least.png", "most.png"]);
    }

    #[test]
    fn without_the_truth_nothing_is_said_about_it() {
        let folder = tempfile::tempdir().unwrap();
        let classes = vec![Tally { name: "cat".to_owned(), ..Tally::default() }];
        let data = LabelReport { classes, coverage: vec![], calibration: vec![], least: vec![], ..data() };
        let page = fs::read_to_string(write(&data, folder.path()).unwrap()).unwrap();
        for part in ["precision", "recall", "Accuracy", "calibration", "least trusted"] {
            assert!(!page.contains(part), "the page says {part}");
        }
        assert!(page.contains("The most trusted"));
    }

    #[test]
    fn shares_beyond_the_unit_square_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = LabelReport { coverage: vec![[0.5, 1.2]], ..data() };
        assert_eq!(write(&data, folder.path()).unwrap_err().to_string(), "[0.5, 1.2]: no shares from 0 to 1");
        assert!(!folder.path().join("report.html").exists());
    }
}
