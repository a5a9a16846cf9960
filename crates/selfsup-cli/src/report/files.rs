//! The figures of a report as PNG files, under names that say what they show.

use super::plot::{Bars, ChartPlot, CurvePlot, Likeness, MapPlot, Matrix, Shares, png};
use super::{ReportData, saliency, sheet};
use anyhow::Result;

/// Names and bytes of the files; figures of one name are numbered.
///
/// # Errors
/// Figures that cannot be drawn.
pub fn figures(data: &ReportData) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    if let Some(scores) = data.scores.as_ref().filter(|scores| !scores.rows.is_empty()) {
        files.push(("scores".to_owned(), png(&Bars(scores))?));
    }
    for group in &data.suite {
        if let Some(scores) = &group.figure {
            files.push((
                file_name(&group.title),
                png(&Shares { title: &group.title, scores, reach: group.reach })?,
            ));
        }
        if let Some((chart, _)) = &group.chart {
            files.push((file_name(&chart.name), png(&ChartPlot(chart))?));
        }
    }
    if let Some(shown) = &data.robustness {
        for (chart, _) in &shown.charts {
            files.push((file_name(&chart.name), png(&ChartPlot(chart))?));
        }
        if !shown.examples.is_empty() {
            let title = "A test image under every disturbance of severity 3";
            files.push(("disturbances".to_owned(), sheet::views(title, "clean", &shown.examples)?));
        }
    }
    if !data.views.is_empty() {
        files.push(("views".to_owned(), sheet::views("What training sees", "as stored", &data.views)?));
    }
    if !data.made.is_empty() {
        let title = "What the method makes of test images";
        files.push(("made".to_owned(), sheet::views(title, "the image", &data.made)?));
    }
    for gallery in data.galleries.iter().filter(|gallery| !gallery.rows.is_empty()) {
        files.push((file_name(&gallery.title), sheet::views(&gallery.title, &gallery.first, &gallery.rows)?));
    }
    for layers in &data.layers {
        let name = file_name(&format!("layers {} {}", layers.first, layers.second));
        files.push((name, png(&Likeness(layers))?));
    }
    for asked in data.task.iter().flat_map(|task| &task.questions) {
        if !asked.shown.is_empty() {
            files.push((
                file_name(&format!("answers {}", asked.name)),
                sheet::answers(&asked.question, &asked.shown)?,
            ));
        }
        if let Some(found) = asked.confusion.as_ref().filter(|found| !found.classes.is_empty()) {
            files.push((
                file_name(&format!("confusion of answers {}", asked.name)),
                png(&Matrix::of_truth(found))?,
            ));
        }
    }
    for set in data.prototypes.iter().filter(|set| !set.shown.is_empty()) {
        let title = format!("Test images nearest to prototypes; {} of {} are used", set.used, set.prototypes);
        let name = file_name(&format!("prototypes {}", set.name));
        files.push((name, sheet::prototypes(&title, &set.shown, set.images)?));
    }
    if let Some(found) = data.attention.as_ref().filter(|found| !found.rows.is_empty()) {
        let title = format!("Where {} looks, and over how many of {} patches", found.of, found.patches);
        files.push(("attention".to_owned(), sheet::views(&title, "the image", &found.rows)?));
    }
    if let Some(found) = data.saliency.as_ref().filter(|found| !found.rows.is_empty()) {
        let title = "What the encoder looks at, and what random weights do";
        files.push(("saliency".to_owned(), sheet::views(title, "the image", &saliency::rows(found))?));
    }
    for curve in data.curves.iter().map(CurvePlot).filter(|curve| !curve.is_empty()) {
        files.push((file_name(&curve.0.name), png(&curve)?));
    }
    if let Some(maps) = &data.maps {
        for map in &maps.maps {
            let plot = MapPlot { map, labels: &maps.labels, classes: &maps.classes };
            files.push((file_name(&map.name), png(&plot)?));
        }
    }
    if !data.clusters.is_empty() {
        let title = "Test images that are typical of their cluster, and atypical ones";
        files.push(("clusters".to_owned(), sheet::clusters(title, &data.clusters)?));
    }
    if let Some(found) = data.confusion.as_ref().filter(|found| !found.classes.is_empty()) {
        files.push(("confusion".to_owned(), png(&Matrix::of_truth(found))?));
    }
    Ok(numbered(files))
}

/// A name in lower-case letters, digits and hyphens, as in `t-sne-trained`.
fn file_name(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' });
    let words: Vec<String> = plain.collect::<String>().split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { "plot".into() } else { words.join("-") }
}

/// The files with a number after every name that was there before.
fn numbered(files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut named: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, bytes) in files {
        let mut free = format!("{name}.png");
        let mut number = 2;
        while named.iter().any(|(taken, _)| *taken == free) {
            free = format!("{name}-{number}.png");
            number += 1;
        }
        named.push((free, bytes));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_free() {
        assert_eq!(file_name("t-SNE, trained"), "t-sne-trained");
        assert_eq!(file_name("損失"), "plot");
        let files = ["a", "a", "b", "a"].map(|name| (name.to_owned(), vec![]));
        let names: Vec<String> = numbered(files.into()).into_iter().map(|file| file.0).collect();
        assert_eq!(names, ["a.png", "a-2.png", "b.png", "a-3.png"]);
    }
}
