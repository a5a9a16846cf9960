//! The section of what is left on disturbed images: accuracy against severity for each family of corruptions, for shifts and for
//! occlusion; the numbers behind it as a table; a picture under each disturbance.

use super::chart::chart;
use super::plot::{Along, Chart, Line, Point};
use super::{ViewRow, samples};
use crate::full::Found;
use crate::robustness::{EACH, GROUP};
use anyhow::Result;
use maud::{Markup, html};
use selfsup::data::corrupt::{Corruption, Family};
use selfsup::eval::Measurement;

/// What the section shows.
#[derive(Clone, Debug, Default)]
pub struct RobustnessShown {
    /// Accuracy against severity, each with a sentence on how to read it.
    pub charts: Vec<(Chart, String)>,
    /// Disturbances with the first encoder's accuracy, clean and by rising severity.
    pub table: Vec<(String, Vec<f64>)>,
    /// A test image under each disturbance, a row a family.
    pub examples: Vec<ViewRow>,
}

/// The section of what report.json holds; none where disturbed images were not measured. `examples` are made when they are needed.
///
/// # Errors
/// Those of `examples`.
pub fn shown(
    found: &Found,
    examples: impl FnOnce() -> Result<Vec<ViewRow>>,
) -> Result<Option<RobustnessShown>> {
    let encoders: Vec<Curves> =
        ["trained", "untrained"].into_iter().filter_map(|name| Curves::of(found, name)).collect();
    let Some(first) = encoders.first() else { return Ok(None) };
    let families = Family::ALL.map(|family| {
        let of_it = Corruption::ALL.into_iter().filter(|c| c.family() == family).map(Corruption::name);
        (family.name(), of_it.collect::<Vec<_>>())
    });
    let others = [("shift", vec!["shift"]), ("occlusion", vec!["occlusion"])];
    let mut charts = Vec::new();
    for (name, disturbances) in families.into_iter().chain(others) {
        let line =
            |curves: &Curves| Line { name: curves.encoder.to_owned(), points: curves.mean(&disturbances) };
        let chart = Chart {
            name: format!("Accuracy under {name}"),
            along: Along { name: "severity, 0 is clean".into(), factors: false },
            up: "test accuracy".into(),
            lines: encoders.iter().map(line).collect(),
            reference: None,
        };
        let what = disturbances.join(", ").replace('_', " ");
        let reading = if disturbances.len() > 1 {
            format!(
                "The mean over {what}. The flatter a line, the less is lost; lines that meet have nothing left to tell apart."
            )
        } else {
            format!("Under {what}. The flatter a line, the less is lost; bars are 95 % intervals.")
        };
        charts.push((chart, reading));
    }
    let row = |name: &&str| -> (String, Vec<f64>) {
        let clean = first.clean.value;
        let values = first.by_severity(name).into_iter().map(|m| m.value);
        (name.replace('_', " "), std::iter::once(clean).chain(values).collect())
    };
    let names: Vec<&str> = Corruption::ALL.iter().map(|c| c.name()).chain(["shift", "occlusion"]).collect();
    Ok(Some(RobustnessShown { charts, table: names.iter().map(row).collect(), examples: examples()? }))
}

/// The accuracies of one encoder.
struct Curves<'a> {
    encoder: &'a str,
    clean: &'a Measurement,
    each: &'a [Measurement],
}

impl<'a> Curves<'a> {
    fn of(found: &'a Found, encoder: &'a str) -> Option<Self> {
        let groups = found.get(encoder)?;
        let clean = groups.get(GROUP)?.iter().find(|m| m.name == "clean_accuracy")?;
        Some(Curves { encoder, clean, each: groups.get(EACH)? })
    }

    fn by_severity(&self, disturbance: &str) -> Vec<&'a Measurement> {
        let of_it = |m: &&Measurement| m.name.rsplit_once('@').is_some_and(|(name, _)| name == disturbance);
        self.each.iter().filter(of_it).collect()
    }

    /// The mean of disturbances at every severity, clean first. A mean has no interval of its own.
    fn mean(&self, disturbances: &[&str]) -> Vec<Point> {
        let rows: Vec<Vec<&Measurement>> = disturbances.iter().map(|name| self.by_severity(name)).collect();
        let severities = rows.iter().map(Vec::len).min().unwrap_or(0);
        let interval =
            |m: &Measurement| m.interval.filter(|_| disturbances.len() == 1).map(|i| [i.low, i.high]);
        let clean = Point { x: 0.0, y: self.clean.value, interval: interval(self.clean) };
        let at = |s: usize| Point {
            x: (s + 1) as f64,
            y: rows.iter().map(|row| row[s].value).sum::<f64>() / rows.len() as f64,
            interval: rows.first().and_then(|row| interval(row[s])),
        };
        std::iter::once(clean).chain((0..severities).map(at)).collect()
    }
}

/// The section.
///
/// # Errors
/// Figures that cannot be drawn, and pictures without pixels.
pub fn section(shown: &RobustnessShown, most: u32) -> Result<Markup> {
    let charts = shown.charts.iter().map(|(drawn, reading)| {
        let description = format!("{} at severities 0 to 5.", drawn.name);
        Ok((drawn.name.as_str(), chart(drawn, &description, reading)?))
    });
    let charts = charts.collect::<Result<Vec<_>>>()?;
    let pictures = (!shown.examples.is_empty()).then(|| {
        let note = "A test image, corrupted with severity 3 of 5: a row for each family of corruptions, then a shift and an occlusion.";
        samples::side_by_side("What the disturbances look like", note, "clean", &shown.examples, most)
    });
    let pictures = pictures.transpose()?;
    Ok(html! {
        section {
            h2 { "Under corruption" }
            p.note {
                "The linear probe, fitted on clean training features, on test images that are disturbed. The corruptions are those of \
                 Hendrycks and Dietterich (2019), but for frost, which is drawn here instead of photographed."
            }
            div.columns {
                @for (name, chart) in charts { div { h3 { (name) } (chart) } }
            }
            @if !shown.table.is_empty() {
                details {
                    summary { "The accuracies as a table" }
                    p.note { "Test accuracy in per cent by severity." }
                    div.scroll tabindex="0" role="region" aria-label="Accuracies under corruption" {
                        table {
                            thead { tr { th scope="col" { "Disturbance" } th scope="col" { "clean" } @for s in 1..=5 { th scope="col" { (s) } } } }
                            tbody {
                                @for (name, accuracies) in &shown.table {
                                    tr { th scope="row" { (name) } @for a in accuracies { td { (format!("{:.1}", 100.0 * a)) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(pictures) = pictures { (pictures) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::View;
    use image::{Rgb, RgbImage};
    use std::collections::BTreeMap;

    fn measurement(name: String, value: f64) -> Measurement {
        let (split, definition) = ("test".to_owned(), String::new());
        Measurement { name, value, interval: None, n: 10, split, seed: None, definition }
    }

    fn found() -> Found {
        let names = Corruption::ALL.iter().map(|c| c.name()).chain(["shift", "occlusion"]);
        let each = names.flat_map(|name| {
            (1..=5).map(move |s| measurement(format!("{name}@{s}"), 0.9 - 0.1 * f64::from(s)))
        });
        let groups = BTreeMap::from([
            (GROUP.to_owned(), vec![measurement("clean_accuracy".into(), 0.9)]),
            (EACH.to_owned(), each.collect()),
        ]);
        BTreeMap::from([("trained".to_owned(), groups)])
    }

    fn examples() -> Vec<ViewRow> {
        let image = || RgbImage::from_pixel(4, 4, Rgb([9, 9, 9]));
        vec![ViewRow { image: image(), views: vec![View { image: image(), caption: "fog".into() }] }]
    }

    #[test]
    fn what_report_json_holds_becomes_charts_a_table_and_pictures() {
        let shown = shown(&found(), || Ok(examples())).unwrap().unwrap();
        let names: Vec<&str> = shown.charts.iter().map(|(chart, _)| chart.name.as_str()).collect();
        assert_eq!(names[0], "Accuracy under noise");
        assert_eq!((names.len(), shown.table.len()), (6, 17));
        let points: Vec<f64> = shown.charts[1].0.lines[0].points.iter().map(|p| p.y).collect();
        assert!(
            points.iter().zip([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]).all(|(p, e)| (p - e).abs() < 1e-12),
            "{points:?}"
        );
        let page = section(&shown, 96).unwrap().into_string();
        for part in
            ["Under corruption", "gaussian noise", "The flatter a line", "<svg", "clean", "<img", ">40.0<"]
        {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn without_measures_there_is_no_section_and_no_picture_is_made() {
        let made = shown(&Found::new(), || anyhow::bail!("asked for pictures")).unwrap();
        assert!(made.is_none());
    }
}
