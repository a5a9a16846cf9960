//! `--suite full`: all that labelled features can be asked, and the answers of the probes sample by sample.
//!
//! report.json holds the measures under `suite`, by encoder and group, each with its definition, split, seed and interval.
//! answers.json holds the test samples' classes and what the trained encoder's probes took them for: `selfsup compare` pairs
//! them with those of other runs.

use crate::judge::{self, Labels, Seen, Verdict};
use crate::origin::{self, Origin};
use crate::recipe::EvalConfig;
use crate::report::{Along, Cell, Chart, Column, Line, Point, Row, Scores, SuiteGroup, SuiteMeasure};
use crate::robustness;
use crate::suite;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use selfsup::core::state::write_whole;
use selfsup::core::{Features, Tensor};
use selfsup::eval::{FullOutcome, Measurement, Stage, full_suite};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// How much is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SuiteChoice {
    /// Probes and health alone.
    #[default]
    Probes,
    /// Retrieval, clusters, few labels, spectra, unknown classes, and for images robustness too.
    Full,
}

/// The measures of one encoder by group, in order.
pub type Groups = Vec<(String, Vec<Measurement>)>;

/// The name of the file beside report.json.
const ANSWERS: &str = "answers.json";

/// What probes took test samples for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The classes of the test samples.
    pub labels: Vec<i64>,
    /// What each probe took them for, by its name.
    pub predictions: BTreeMap<String, Vec<i64>>,
}

/// answers.json: the answers and where they come from.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<O, A> {
    origin: O,
    #[serde(flatten)]
    answers: A,
}

impl Answers {
    /// Writes them into a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path, origin: &Origin) -> Result<()> {
        let kept = serde_json::to_vec(&Kept { origin, answers: self })?;
        Ok(write_whole(&folder.join(ANSWERS), &kept)?)
    }

    /// Removes those of an earlier evaluation, which a new report.json would be taken together with.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(folder: &Path) -> Result<()> {
        let path = folder.join(ANSWERS);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// Those of a folder, with where they come from; `reported` is what report.json beside them says of itself.
    ///
    /// # Errors
    /// When the file is missing, broken, not of one length, or of another evaluation than report.json.
    pub fn read(folder: &Path, reported: &Origin) -> Result<Answers> {
        let path = folder.join(ANSWERS);
        let hint = || format!("{}: {}", path.display(), origin::again(folder));
        let Kept { origin, answers }: Kept<Origin, Answers> =
            serde_json::from_slice(&std::fs::read(&path).with_context(hint)?).with_context(hint)?;
        origin.check_same(&path, reported, "report.json", folder)?;
        let n = answers.labels.len();
        for (probe, predictions) in &answers.predictions {
            let found = predictions.len();
            ensure!(found == n, "{}: {found} predictions of {probe} for {n} labels", path.display());
        }
        Ok(answers)
    }

    /// Whether a probe was right about each sample; none where it was not asked.
    pub fn right(&self, probe: &str) -> Option<Vec<bool>> {
        let predictions = self.predictions.get(probe)?;
        Some(predictions.iter().zip(&self.labels).map(|(p, y)| p == y).collect())
    }
}

/// Asks everything of one encoder's features.
///
/// # Errors
/// Those of the suite.
pub fn measure(
    seen: &Seen,
    labels: &Labels,
    asked: &EvalConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<FullOutcome> {
    let classes = labels.classes.len() as i64;
    let features = |x: &Tensor, y: &Tensor| Features::new(x.shallow_clone(), y.shallow_clone(), classes);
    let (train, test) = (features(&seen.train, &labels.train)?, features(&seen.test, &labels.test)?);
    let views = judge::views(seen)?;
    let config = asked.suite.config(&asked.few_label);
    let found = full_suite(&train, &test, views.as_ref(), &seen.layers, &config, progress);
    Ok(found.map_err(suite::blamed)?)
}

/// Takes the measures out of verdicts, by encoder.
pub fn of_verdicts(verdicts: &mut [(String, Verdict)]) -> Vec<(String, Groups)> {
    verdicts.iter_mut().filter_map(|(name, verdict)| Some((name.clone(), verdict.full.take()?))).collect()
}

/// The measures of all encoders for report.json.
///
/// # Errors
/// None: numbers are finite.
pub fn json(encoders: &[(String, Groups)]) -> Result<Value> {
    let of = |groups: &Groups| -> Result<Value> {
        let groups = groups.iter().map(|(key, all)| Ok((key.clone(), serde_json::to_value(all)?)));
        Ok(Value::Object(groups.collect::<Result<Map<_, _>>>()?))
    };
    let all = encoders.iter().map(|(name, groups)| Ok((name.clone(), of(groups)?)));
    Ok(Value::Object(all.collect::<Result<Map<_, _>>>()?))
}

/// The parts of report.json that are read back for the page: measures by encoder and group.
pub type Found = BTreeMap<String, BTreeMap<String, Vec<Measurement>>>;

/// A group of the page: its key, title, how to read its figure, and the measures that are drawn.
struct Group {
    key: &'static str,
    title: &'static str,
    reading: &'static str,
    drawn: &'static [&'static str],
}

/// What a page calls it.
pub const TITLE: &str = "Full suite";

/// The key of what needs no labels.
const HEALTH: &str = "health";

const GROUPS: [Group; 7] = [
    Group {
        key: "retrieval",
        title: "Retrieval",
        reading: "Each bar is a share in per cent, the longer the better: how much of what lies near a test sample is of its class. \
                  Features that ignore classes reach one over their number.",
        drawn: &["map", "precision@1", "precision@10", "hit_rate@10"],
    },
    Group {
        key: "clustering",
        title: "Clusters found without labels",
        reading: "Longer is better; 100 means that the clusters are the classes. Adjusted measures (AMI, ARI) are near 0 for \
                  clusters drawn at random, accuracy is not.",
        drawn: &["cluster_accuracy", "cluster_ami", "cluster_ari"],
    },
    Group {
        key: "few_labels",
        title: "Few labels",
        reading: "The accuracy with so many labels a class. A good encoder needs few: compare the first bars more than the last.",
        drawn: &["labels@1", "labels@5", "labels@10", "labels@50"],
    },
    Group {
        key: "attentive",
        title: "What a query finds in the patches",
        reading: "The accuracy of a classifier that may choose the patches it looks at, beside one on their mean. Where the first is \
                  much longer, the class stands in some patches and is lost in the features.",
        drawn: &["attentive", "mean_pooled"],
    },
    Group {
        key: "novel_classes",
        title: "Classes never seen",
        reading: "Longer is better, 50 is chance: how surely samples of a class that was left out are less familiar than others.",
        drawn: &["novel_auroc_knn", "novel_auroc_mahalanobis", "novel_auroc_energy"],
    },
    Group {
        key: robustness::GROUP,
        title: "Robustness",
        reading: "The share of the clean accuracy that is left, the longer the better, 100 when nothing is lost. Compare it together with the \
                  clean accuracy: who knows little has little to lose.",
        drawn: &[
            "accuracy_kept",
            "kept_noise",
            "kept_blur",
            "kept_weather",
            "kept_digital",
            "kept_shift",
            "kept_occlusion",
        ],
    },
    Group { key: HEALTH, title: "Health without labels", reading: "", drawn: &[] },
];

/// The sections of the page. Encoders stand in the order of `names`.
pub fn sections(found: &Found, names: &[&str]) -> Vec<SuiteGroup> {
    let encoders: Vec<&str> = names.iter().copied().filter(|name| found.contains_key(*name)).collect();
    let of = |group: &Group| {
        let measures = |encoder: &&str| found.get(*encoder).and_then(|groups| groups.get(group.key));
        let mut order: Vec<&Measurement> = Vec::new();
        for measurement in encoders.iter().filter_map(measures).flatten() {
            if !order.iter().any(|known| known.name == measurement.name) {
                order.push(measurement);
            }
        }
        let value = |encoder: &&str, name: &str| {
            let found = measures(encoder)?.iter().find(|m| m.name == name)?;
            Some((found.value, found.interval.map(|i| [i.low, i.high])))
        };
        let rows = order.iter().map(|m| SuiteMeasure {
            name: m.name.clone(),
            definition: m.definition.clone(),
            values: encoders.iter().map(|encoder| value(encoder, &m.name)).collect(),
        });
        let rows: Vec<SuiteMeasure> = rows.collect();
        let drawn: Vec<&SuiteMeasure> =
            group.drawn.iter().filter_map(|name| rows.iter().find(|row| row.name == *name)).collect();
        let figure = (!drawn.is_empty()).then(|| Scores {
            columns: drawn
                .iter()
                .map(|m| Column { name: crate::report::readable(&m.name), explanation: String::new() })
                .collect(),
            rows: (0..encoders.len())
                .map(|i| Row {
                    name: encoders[i].to_owned(),
                    cells: drawn.iter().map(|m| m.values[i].map(Cell::of_interval)).collect(),
                })
                .collect(),
        });
        let (title, reading) = (group.title.to_owned(), group.reading.to_owned());
        let encoders = encoders.iter().map(|name| (*name).to_owned()).collect();
        (!rows.is_empty()).then_some(SuiteGroup {
            title,
            reading,
            encoders,
            measures: rows,
            figure,
            chart: (group.key == HEALTH).then(|| by_layer(found, names)).flatten(),
            ..Default::default()
        })
    };
    GROUPS.iter().filter_map(of).collect()
}

/// The effective rank of every layer, a line an encoder, and how to read it; none of fewer layers than two.
fn by_layer(found: &Found, names: &[&str]) -> Option<(Chart, String)> {
    let ranks = |encoder: &str| -> Vec<(&str, &Measurement)> {
        let all = found.get(encoder).and_then(|groups| groups.get(HEALTH)).into_iter().flatten();
        all.filter_map(|m| Some((m.name.strip_prefix("effective_rank ")?, m))).collect()
    };
    let first = ranks(names.first()?);
    let point = |(layer, m): &(&str, &Measurement)| {
        let place = first.iter().position(|(known, _)| known == layer)?;
        Some(Point { x: (place + 1) as f64, y: m.value, interval: m.interval.map(|i| [i.low, i.high]) })
    };
    let line = |name: &&str| {
        let points: Vec<Point> = ranks(name).iter().filter_map(point).collect();
        (points.len() > 1).then(|| Line { name: (*name).to_owned(), points })
    };
    let lines: Vec<Line> = names.iter().filter_map(line).collect();
    let numbered = (1..).zip(&first).map(|(number, (layer, _))| format!("{number} {layer}"));
    let reading = format!(
        "How many directions the activations of a layer spread over, from the input on: {}. Where the line drops sharply at the end, the last \
         layers have given up what the ones before them knew.",
        numbered.collect::<Vec<_>>().join(", ")
    );
    let chart = Chart {
        name: "Effective rank by layer".to_owned(),
        along: Along { name: "layer".to_owned(), factors: false },
        up: "effective rank".to_owned(),
        lines,
        reference: None,
    };
    (!chart.lines.is_empty()).then_some((chart, reading))
}

/// The most telling measures as lines for the terminal.
pub fn table(encoders: &[(String, Groups)]) -> String {
    let Some((_, first)) = encoders.first() else { return String::new() };
    let drawn =
        |group: &str| GROUPS.iter().find(|known| known.key == group).map_or(&[][..], |known| known.drawn);
    let names = first.iter().flat_map(|(group, all)| {
        all.iter()
            .map(|m| (group.as_str(), m.name.as_str()))
            .filter(|(group, name)| drawn(group).contains(name))
    });
    let heads: String = encoders.iter().map(|(name, _)| format!("{name:>28}")).collect();
    let mut lines = vec![format!("{:<26}{heads}", "measure [95 % interval]")];
    for (group, name) in names {
        let cell = |(_, groups): &(String, Groups)| {
            let of_group = groups.iter().find(|(key, _)| key == group);
            let found = of_group.and_then(|(_, all)| all.iter().find(|m| m.name == name));
            let text = match found.map(|m| (m.value, m.interval)) {
                Some((value, Some(i))) => format!("{value:.4} [{:.4}, {:.4}]", i.low, i.high),
                Some((value, None)) => format!("{value:.4}"),
                None => "-".to_owned(),
            };
            format!("{text:>28}")
        };
        lines.push(format!("{name:<26}{}", encoders.iter().map(cell).collect::<String>()));
    }
    lines.join("\n")
}

/// What the key `suite` of report.json is.
pub fn definition() -> Value {
    json!("measures by encoder and group, each with its definition, split, seed and 95 % interval")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(name: &str, value: f64) -> Measurement {
        Measurement {
            name: name.into(),
            value,
            interval: None,
            n: 3,
            split: "test".into(),
            seed: None,
            definition: format!("what {name} is"),
        }
    }

    fn encoders() -> Vec<(String, Groups)> {
        let groups = |map| -> Groups {
            vec![
                ("retrieval".into(), vec![measurement("map", map), measurement("recall@1", 0.1)]),
                ("health".into(), vec![measurement("lidar", 7.5)]),
            ]
        };
        vec![("trained".into(), groups(0.5)), ("untrained".into(), groups(0.25))]
    }

    #[test]
    fn what_report_json_holds_becomes_the_sections_of_the_page() {
        let found: Found = serde_json::from_value(json(&encoders()).unwrap()).unwrap();
        let sections = sections(&found, &["trained", "untrained", "pixels"]);
        let titles: Vec<&str> = sections.iter().map(|s| s.title.as_str()).collect();
        assert_eq!(titles, ["Retrieval", "Health without labels"]);
        assert_eq!(sections[0].encoders, ["trained", "untrained"]);
        assert_eq!(sections[0].measures[0].values, [Some((0.5, None)), Some((0.25, None))]);
        assert_eq!(sections[0].measures[1].definition, "what recall@1 is");
        let figure = sections[0].figure.as_ref().unwrap();
        assert_eq!((figure.columns.len(), figure.rows[1].cells[0].unwrap().mean), (1, 0.25));
        assert!(sections[1].figure.is_none());
    }

    #[test]
    fn ranks_of_several_layers_are_a_line() {
        let ranks = |values: [f64; 2]| -> Groups {
            let named = ["stem", "block 1"].into_iter().zip(values);
            let ranks = named.map(|(layer, value)| measurement(&format!("effective_rank {layer}"), value));
            vec![("health".into(), ranks.collect())]
        };
        let all = [("trained".to_owned(), ranks([4.0, 9.0])), ("untrained".to_owned(), ranks([3.0, 2.0]))];
        let found: Found = serde_json::from_value(json(&all).unwrap()).unwrap();
        let health = sections(&found, &["trained", "untrained"]).remove(0);
        let (chart, reading) = health.chart.unwrap();
        assert!(reading.contains("1 stem, 2 block 1."), "{reading}");
        let points: Vec<(f64, f64)> = chart.lines[1].points.iter().map(|p| (p.x, p.y)).collect();
        assert_eq!((chart.lines.len(), points), (2, vec![(1.0, 3.0), (2.0, 2.0)]));
        // Of features alone there is but one layer.
        let found: Found = serde_json::from_value(json(&encoders()).unwrap()).unwrap();
        assert!(sections(&found, &["trained"]).iter().all(|section| section.chart.is_none()));
    }

    #[test]
    fn the_table_has_the_drawn_measures_of_every_encoder() {
        let table = table(&encoders());
        assert!(table.contains("map") && !table.contains("recall@1"), "{table}");
        assert!(table.lines().nth(1).unwrap().contains("0.2500"), "{table}");
    }

    #[test]
    fn answers_come_back_and_must_fit() {
        let folder = tempfile::tempdir().unwrap();
        let predictions = BTreeMap::from([("linear".to_owned(), vec![0, 1, 1])]);
        let answers = Answers { labels: vec![0, 1, 2], predictions };
        let part = || origin::Part::new(3, Some(&[0, 1, 2]), None);
        let origin = Origin {
            draw: None,
            step: Some(4),
            recipe: None,
            seed: Some(0),
            weights: crate::recipe::Whose::Trained,
            train: part(),
            test: part(),
        };
        answers.write(folder.path(), &origin).unwrap();
        let back = Answers::read(folder.path(), &origin).unwrap();
        assert_eq!(back, answers);
        assert_eq!(back.right("linear").unwrap(), [true, true, false]);
        assert_eq!(back.right("knn"), None);
        let later = Origin { step: Some(5), ..origin.clone() };
        let error = Answers::read(folder.path(), &later).unwrap_err().to_string();
        assert!(error.contains("answers.json is of step 4, but report.json is of step 5"), "{error}");
        let short = Answers { labels: vec![0], ..answers };
        short.write(folder.path(), &origin).unwrap();
        let error = Answers::read(folder.path(), &origin).unwrap_err().to_string();
        assert!(error.ends_with("3 predictions of linear for 1 labels"), "{error}");
        for _ in 0..2 {
            Answers::remove(folder.path()).unwrap();
            let error = Answers::read(folder.path(), &origin).unwrap_err().to_string();
            assert!(error.contains("answers.json: run selfsup eval --suite full --features /"), "{error}");
        }
    }
}
