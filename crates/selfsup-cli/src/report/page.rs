//! The page: one HTML file that asks for no other, readable in light and dark, on a phone and on a large screen.

use super::plot::{self, Bars, CurvePlot, Likeness, MapPlot, Mark, Matrix, Shape, palette};
use super::{
    Cell, Confusion, Curve, Layers, Maps, Perplexity, ReportData, Scores, method, outcome, robustness,
    saliency, samples, suite,
};
use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The style sheet, but for the figures' dark colours.
const STYLE: &str = include_str!("page.css");

/// Classes up to which the counts of a confusion matrix are given as a table too.
const TABLED: usize = 30;

/// Confusions that are told in words.
const TOLD: usize = 3;

/// The bytes of a page, at most; it is opened in a browser and sent by mail.
const BYTES: usize = 5_000_000;

/// The pixels of the longer side of a picture, at most: as many as the page has room for.
const SIDES: [u32; 7] = [160, 128, 96, 72, 56, 40, 28];

/// The whole page.
///
/// # Errors
/// Figures that cannot be drawn, and pictures without pixels.
pub fn page(data: &ReportData) -> Result<String> {
    with_fitting_pictures(|most| with_pictures_of(data, most))
}

/// A page with pictures as large as keeps it short; `page` makes it with pictures of so many pixels a side at most.
///
/// # Errors
/// Those of `page`.
pub fn with_fitting_pictures(page: impl Fn(u32) -> Result<String>) -> Result<String> {
    let mut made = String::new();
    for most in SIDES {
        made = page(most)?;
        if made.len() <= BYTES {
            break;
        }
    }
    Ok(made)
}

fn with_pictures_of(data: &ReportData, most: u32) -> Result<String> {
    let sections = [
        data.scores.as_ref().filter(|scores| !scores.rows.is_empty()).map(scores).transpose()?,
        (!data.suite.is_empty()).then(|| suite::suite(&data.suite, suite_title(data))).transpose()?,
        (!data.layers.is_empty()).then(|| layers(&data.layers)).transpose()?,
        data.robustness.as_ref().map(|shown| robustness::section(shown, most)).transpose()?,
        (!data.views.is_empty()).then(|| samples::views(&data.views, most)).transpose()?,
        (!data.made.is_empty()).then(|| samples::made(&data.made, most)).transpose()?,
        data.task
            .as_ref()
            .filter(|task| !task.is_empty())
            .map(|task| method::task(task, most))
            .transpose()?,
        (!data.prototypes.is_empty()).then(|| method::prototypes(&data.prototypes, most)).transpose()?,
        data.attention
            .as_ref()
            .filter(|a| !a.rows.is_empty())
            .map(|a| method::attention(a, most))
            .transpose()?,
        data.saliency
            .as_ref()
            .filter(|found| !found.rows.is_empty())
            .map(|found| saliency::saliency(found, most))
            .transpose()?,
        (!data.curves.is_empty()).then(|| curves(&data.curves)).transpose()?,
        data.maps.as_ref().filter(|maps| !maps.maps.is_empty()).map(maps).transpose()?,
        (!data.neighbours.is_empty()).then(|| samples::neighbours(&data.neighbours, most)).transpose()?,
        (!data.inversion.is_empty()).then(|| saliency::inversion(&data.inversion, most)).transpose()?,
        (!data.clusters.is_empty()).then(|| saliency::clusters(&data.clusters, most)).transpose()?,
        data.confusion.as_ref().filter(|found| !found.classes.is_empty()).map(probe).transpose()?,
        data.perplexity.map(perplexity),
    ];
    let galleries = data.galleries.iter().map(|gallery| {
        samples::side_by_side(&gallery.title, &gallery.note, &gallery.first, &gallery.rows, most)
    });
    let galleries = galleries.collect::<Result<Vec<_>>>()?;
    let body = html! {
        (head(data))
        @for warning in &data.warnings { p.warning { strong { "Warning: " } (warning) "." } }
        @for section in sections.into_iter().flatten().chain(galleries) { (section) }
    };
    Ok(document(&data.title, &body))
}

/// A page around what it shows, in the style of all reports.
pub fn document(title: &str, body: &Markup) -> String {
    let dark = format!("@media (prefers-color-scheme: dark) {{\n{}}}", palette::dark_rules());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(dark)) }
            }
            body {
                main { (body) }
                footer { "Made by selfsup " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    page.into_string()
}

fn head(data: &ReportData) -> Markup {
    let outcome = data.scores.as_ref().and_then(outcome::sentence);
    let method = (!data.method.is_empty()).then(|| {
        html! {
            div.wide {
                dt { "Method" }
                dd { (data.method) @if !data.paper.is_empty() { ": " cite { (data.paper) } } }
            }
        }
    });
    let kind = if data.kind.is_empty() { "Report of a pretraining" } else { &data.kind };
    header(kind, &data.title, outcome.as_deref(), method.as_ref(), &data.facts, &data.command)
}

/// What a page begins with: what it is about, what came out in a sentence, facts (`first` before them), and the command
/// that repeats it.
pub fn header(
    kind: &str,
    title: &str,
    outcome: Option<&str>,
    first: Option<&Markup>,
    facts: &[(String, String)],
    command: &str,
) -> Markup {
    html! {
        header {
            p.kind { (kind) }
            h1 { (title) }
            @if let Some(outcome) = outcome { p.outcome { (outcome) } }
            dl.facts {
                @if let Some(first) = first { (first) }
                @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
                @if !command.is_empty() {
                    div.wide {
                        dt { "Repeat it with" }
                        // Each word is a piece of its own, so that lines break between words and not after hyphens.
                        dd { pre { code { @for word in command.split(' ') { span { (word) } " " } } } }
                    }
                }
            }
        }
    }
}

fn scores(scores: &Scores) -> Result<Markup> {
    let best: Vec<Option<f64>> = (0..scores.columns.len())
        .map(|column| {
            let means = scores.rows.iter().filter_map(|row| row.cells[column]).map(|cell| cell.mean);
            means.filter(|mean| mean.is_finite()).reduce(f64::max)
        })
        .collect();
    let figure = plot::svg(&Bars(scores), "The table's accuracies as bars that begin at zero.")?;
    Ok(html! {
        section {
            h2 { "Scores" }
            div.columns {
                div {
                    // Not a caption: that would be as wide as the table, which may run off a phone.
                    p.note { "Test accuracy in per cent; the best of each column is bold." (outcome::legend(scores)) }
                    div.scroll {
                        table {
                            thead {
                                tr {
                                    th scope="col" { "Encoder" }
                                    @for column in &scores.columns { th scope="col" { (column.name) } }
                                }
                            }
                            tbody {
                                @for row in &scores.rows {
                                    tr {
                                        th scope="row" { (row.name) }
                                        @for (cell, best) in row.cells.iter().zip(&best) {
                                            td { (score(*cell, *best)) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    ul.meanings {
                        @for column in scores.columns.iter().filter(|column| !column.explanation.is_empty()) {
                            li.note { b { (column.name) } ": " (column.explanation) }
                        }
                    }
                }
                figure { (PreEscaped(figure)) }
            }
        }
    })
}

/// A score with its interval below it; the best one is bold.
fn score(cell: Option<Cell>, best: Option<f64>) -> Markup {
    let Some(cell) = cell else { return html! { "–" } };
    let (value, interval) = outcome::parts(cell);
    html! {
        @if Some(cell.mean) == best { strong.best { (value) } } @else { (value) }
        @if let Some(interval) = interval { br; span.note { (interval) } }
    }
}

/// What the measures are called: those of a pretraining are the full suite's.
fn suite_title(data: &ReportData) -> &str {
    if data.suite_title.is_empty() { "Measures" } else { data.suite_title }
}

fn layers(found: &[Layers]) -> Result<Markup> {
    let figures = found.iter().map(|layers| {
        let description = format!(
            "The layers of {} against those of {}, a cell for each pair.",
            layers.first, layers.second
        );
        let [low, high] = Likeness(layers).span();
        let colours = format!(" The colours run from {low:.2} to {high:.2}.");
        Ok((plot::svg(&Likeness(layers), &description)?, format!("{}{colours}", layers.reading)))
    });
    let figures = figures.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { "Layers" }
            @for (figure, reading) in figures {
                figure { (PreEscaped(figure)) figcaption { (reading) } }
            }
        }
    })
}

fn curves(curves: &[Curve]) -> Result<Markup> {
    let figures = curves.iter().map(|curve| {
        let finite = || curve.points.iter().filter(|point| point.iter().all(|x| x.is_finite()));
        let (Some([_, first]), Some([_, last])) = (finite().next(), finite().next_back()) else {
            return Ok(None);
        };
        let description = format!("{} by step: {first:.4} at first, {last:.4} at last.", curve.name);
        plot::svg(&CurvePlot(curve), &description).map(Some)
    });
    let figures = figures.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { "Training" }
            div.columns {
                @for (curve, drawn) in curves.iter().zip(figures) {
                    figure {
                        h3 { (curve.name) }
                        @match drawn {
                            Some(drawn) => (PreEscaped(drawn)),
                            None => p { "No finite value was measured." },
                        }
                        figcaption { (curve.reading) }
                    }
                }
            }
        }
    })
}

fn maps(maps: &Maps) -> Result<Markup> {
    let figures = maps.maps.iter().map(|map| {
        let description = format!("{}: {} samples on a plane.", map.name, map.points.len());
        plot::svg(&MapPlot { map, labels: &maps.labels, classes: &maps.classes }, &description)
    });
    let figures = figures.collect::<Result<Vec<_>>>()?;
    let coloured = !maps.labels.is_empty();
    Ok(html! {
        section {
            h2 { "Maps of the features" }
            p.note {
                "Each point is a test sample; samples that the encoder sees as alike lie near each other. PCA keeps \
                 the large distances, t-SNE the neighbourhoods; the axes have no meaning of their own."
                @if coloured { " The colours are the classes, which pretraining never saw." }
            }
            @if coloured && Mark::tell_apart(maps.classes.len()) {
                ul.key {
                    @for (class, name) in maps.classes.iter().enumerate() { li { (mark(Mark::of(class))) (name) } }
                }
            } @else if coloured {
                p.note { (maps.classes.len()) " classes; their colours and shapes repeat." }
            }
            div.columns {
                @for (map, drawn) in maps.maps.iter().zip(figures) {
                    figure { h3 { (map.name) } div.plane { (PreEscaped(drawn)) } }
                }
            }
        }
    })
}

/// A mark in the key of a figure.
pub fn mark(Mark { tone, shape }: Mark) -> Markup {
    let colour = palette::hex(tone.light);
    html! {
        svg viewBox="0 0 12 12" aria-hidden="true" {
            @match shape {
                Shape::Dot => circle cx="6" cy="6" r="5" fill=(colour) {},
                Shape::Ring => circle cx="6" cy="6" r="4.5" fill="none" stroke=(colour) stroke-width="2" {},
                Shape::Cross => {
                    path d="M2 2L10 10M10 2L2 10" fill="none" stroke=(colour) stroke-width="2" {}
                }
            }
        }
    }
}

fn probe(found: &Confusion) -> Result<Markup> {
    Ok(html! { section { h2 { "Confusions" } (confusion(found, "test samples")?) } })
}

/// A matrix, beside what it says in words; `what` are those that were counted.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn confusion(found: &Confusion, what: &str) -> Result<Markup> {
    let right: u64 = found.counts.iter().enumerate().map(|(class, row)| row[class]).sum();
    let total: u64 = found.counts.iter().flatten().sum();
    let description =
        format!("Confusion matrix of {} classes: {right} of {total} right.", found.classes.len());
    let figure = plot::svg(&Matrix::of_truth(found), &description)?;
    let worst = worst_confusions(found);
    Ok(html! {
        div.columns {
            figure { (PreEscaped(figure)) }
            div {
                p {
                    (outcome::capital(&found.by)) " is right on " (right) " of " (total) " " (what) ". A row of the \
                     matrix is a true class, and its cells say in per cent what the class was taken for; the diagonal \
                     is right."
                }
                @if !worst.is_empty() {
                    p { "The most frequent confusions:" }
                    ul { @for sentence in worst { li { (sentence) } } }
                }
                @if found.classes.len() <= TABLED { (counts(found, what)) }
            }
        }
    })
}

/// The matrix in numbers.
fn counts(found: &Confusion, what: &str) -> Markup {
    html! {
        details {
            summary { "The counts as a table" }
            p.note { (outcome::capital(what)) " by true class (rows) and predicted class (columns)." }
            div.scroll tabindex="0" role="region" aria-label="Counts of the confusion matrix" {
                table.counts {
                    thead {
                        tr {
                            th scope="col" { "True" }
                            @for name in &found.classes { th scope="col" { (name) } }
                        }
                    }
                    tbody {
                        @for (name, row) in found.classes.iter().zip(&found.counts) {
                            tr { th scope="row" { (name) } @for count in row { td { (count) } } }
                        }
                    }
                }
            }
        }
    }
}

/// The most frequent confusions in words, the most frequent first.
fn worst_confusions(found: &Confusion) -> Vec<String> {
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, row) in found.counts.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(guess, &count)| guess != truth && count > 0);
        pairs.extend(wrong.map(|(guess, &count)| (count, truth, guess)));
    }
    pairs.sort_by_key(|&(count, truth, guess)| (std::cmp::Reverse(count), truth, guess));
    let told = pairs.into_iter().take(TOLD).map(|(count, truth, guess)| {
        let of: u64 = found.counts[truth].iter().sum();
        let share = outcome::percent(count as f64 / of as f64);
        let (truth, guess) = (&found.classes[truth], &found.classes[guess]);
        format!("{truth} taken for {guess}: {count} of {of} ({share} %)")
    });
    told.collect()
}

fn perplexity(found: Perplexity) -> Markup {
    let factor = found.unigram / found.model;
    html! {
        section {
            h2 { "Perplexity" }
            p {
                "Among how many equally likely tokens the model hesitates on held-out text, against guessing by the \
                 tokens' frequency alone. Lower is better."
                @if factor.is_finite() && factor > 1.0 { " The model does " (format!("{factor:.1}")) " times better." }
                @else { " The model does no better." }
            }
            dl.numbers {
                div { dt { "model" } dd { (format!("{:.1}", found.model)) } }
                div { dt { "frequency alone" } dd { (format!("{:.1}", found.unigram)) } }
            }
        }
    }
}
