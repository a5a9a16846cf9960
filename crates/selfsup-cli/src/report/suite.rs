//! The sections of the full suite: tables of measures with their intervals, and bars of the most telling ones.

use super::chart::chart;
use super::plot::{self, Shares};
use super::{SuiteGroup, SuiteMeasure};
use anyhow::Result;
use maud::{Markup, PreEscaped, html};

/// One section under a title with a part for each group.
///
/// # Errors
/// Figures that cannot be drawn.
pub fn suite(groups: &[SuiteGroup], title: &str) -> Result<Markup> {
    let parts = groups.iter().map(group).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { (title) }
            p.note {
                "Measures of the test samples' features. Brackets hold the 95 % interval: what the number could have been with \
                 other samples or draws, not with another training."
            }
            @for part in parts { (part) }
        }
    })
}

fn group(group: &SuiteGroup) -> Result<Markup> {
    let description = format!("{}: the drawn measures of the table as bars that begin at zero.", group.title);
    let bars = group.figure.as_ref().map(|scores| Shares { title: &group.title, scores, reach: group.reach });
    let figure = bars.map(|bars| plot::svg(&bars, &description)).transpose()?;
    let chart =
        group.chart.as_ref().map(|(drawn, reading)| chart(drawn, &drawn.name, reading)).transpose()?;
    Ok(html! {
        h3 { (group.title) }
        div.columns {
            div {
                div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Measure" }
                                @for encoder in &group.encoders { th scope="col" { (encoder) } }
                            }
                        }
                        tbody {
                            @for measure in &group.measures { (row(measure)) }
                        }
                    }
                }
            }
            @if let Some(figure) = figure {
                figure { (PreEscaped(figure)) figcaption { (group.reading) } }
            }
            @if let Some(chart) = chart { div { (chart) } }
        }
        details {
            summary { "What each measure is" }
            ul.meanings {
                @for measure in &group.measures {
                    li.note { b { (readable(&measure.name)) } ": " (measure.definition) }
                }
            }
        }
    })
}

fn row(measure: &SuiteMeasure) -> Markup {
    html! {
        tr {
            th scope="row" { (readable(&measure.name)) }
            @for value in &measure.values {
                td {
                    @match value {
                        Some((value, interval)) => {
                            (number(*value))
                            @if let Some([low, high]) = interval {
                                br;
                                span.note { "[" (number(*low)) ", " (number(*high)) "]" }
                            }
                        }
                        None => { "–" }
                    }
                }
            }
        }
    }
}

/// Words of identifiers that the literature writes in another way.
const WORDS: [(&str, &str); 21] = [
    ("alpha", "alpha-ReQ"),
    ("ami", "AMI"),
    ("ap", "AP"),
    ("ari", "ARI"),
    ("auroc", "AUROC"),
    ("f1", "F1"),
    ("fgsm", "FGSM"),
    ("fpr95", "FPR95"),
    ("knn", "k-NN"),
    ("lidar", "LiDAR"),
    ("mahalanobis", "Mahalanobis"),
    ("map", "mAP"),
    ("map50", "mAP50"),
    ("map75", "mAP75"),
    ("mce", "mCE"),
    ("miou", "mIoU"),
    ("ndcg", "nDCG"),
    ("nmi", "NMI"),
    ("ood", "OOD"),
    ("pgd", "PGD"),
    ("r2", "R²"),
];

/// A measure's identifier as a page writes it, as in `nDCG@10` for `ndcg@10`.
pub fn readable(name: &str) -> String {
    let named = |word: &str| {
        let (stem, rest) = word.split_at(word.find('@').unwrap_or(word.len()));
        let proper = WORDS.iter().find(|(plain, _)| *plain == stem).map_or(stem, |(_, proper)| proper);
        format!("{proper}{rest}")
    };
    // What follows a space is the name of a layer.
    let (measure, layer) = name.split_at(name.find(' ').unwrap_or(name.len()));
    let plain = measure.replace("rank_me", "RankMe").replace("alpha_req", "alpha-ReQ");
    plain.split('_').map(named).collect::<Vec<_>>().join(" ") + layer
}

/// Shares with three places, counts of dimensions with one.
fn number(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.3}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::super::{Cell, Column, Row, Scores};
    use super::*;

    #[test]
    fn shows_values_intervals_and_what_they_are() {
        let measure = SuiteMeasure {
            name: "hit_rate@10".into(),
            definition: "share of queries <10".into(),
            values: vec![Some((0.5, Some([0.25, 0.75]))), None],
        };
        let figure = Scores {
            columns: vec![Column { name: "hit rate@10".into(), explanation: String::new() }],
            rows: vec![Row {
                name: "trained".into(),
                cells: vec![Some(Cell { mean: 0.5, ..Default::default() })],
            }],
        };
        let group = SuiteGroup {
            title: "Retrieval".into(),
            reading: "Longer is better.".into(),
            encoders: vec!["trained".into(), "pixels".into()],
            measures: vec![measure],
            figure: Some(figure),
            ..Default::default()
        };
        let page = suite(&[group], "Full suite").unwrap().into_string();
        for part in [
            "hit rate@10",
            "0.500<br><span class=\"note\">[0.250, 0.750]",
            "–",
            "share of queries &lt;10",
            "<figcaption>Longer is better.</figcaption>",
            "<svg",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(number(123.456), "123.5");
    }

    #[test]
    fn measures_have_the_names_of_the_literature() {
        for (identifier, name) in [
            ("rank_me", "RankMe"),
            ("ndcg@10", "nDCG@10"),
            ("map", "mAP"),
            ("ood_fpr95_mahalanobis", "OOD FPR95 Mahalanobis"),
            ("alpha_req", "alpha-ReQ"),
            ("alpha layer_1", "alpha-ReQ layer_1"),
            ("hit_rate@1", "hit rate@1"),
        ] {
            assert_eq!(readable(identifier), name);
        }
    }
}
