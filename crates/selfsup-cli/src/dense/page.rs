//! dense.json, the table and the page of a dense probe.

use crate::recipe::Recipe;
use crate::report::{
    Cell, Column, Gallery, ReportData, Row, Scores, SuiteGroup, SuiteMeasure, View, ViewRow,
};
use selfsup::eval::Measurement;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What a dense probe found of each encoder.
pub struct Found {
    /// As in `Segmentation with a linear head`.
    pub title: String,
    /// The folder of the images.
    pub data: PathBuf,
    /// The images of the training, validation and test part.
    pub images: [usize; 3],
    /// What images were resized to: height, width.
    pub size: [usize; 2],
    /// The classes' names.
    pub classes: Vec<String>,
    /// What is measured of every class.
    pub of_class: OfClass,
    /// How to read the pictures.
    pub note: String,
    /// The measures that are drawn.
    pub drawn: Vec<String>,
    /// The colours of the classes.
    pub legend: Vec<View>,
    /// Test images with the truth and what is made of them.
    pub rows: Vec<ViewRow>,
    /// The encoders.
    pub encoders: Vec<JudgedEncoder>,
}

/// A measure of every class.
pub struct OfClass {
    /// As in `iou`.
    pub name: String,
    /// What it is.
    pub definition: String,
}

/// What was found of an encoder.
pub struct JudgedEncoder {
    /// As in `trained`.
    pub name: String,
    /// The measures over all classes.
    pub measures: Vec<Measurement>,
    /// That of every class; none where it does not occur.
    pub classes: Vec<Option<f64>>,
    /// What was fitted.
    pub details: Value,
}

/// The contents of dense.json.
pub fn json(found: &Found, recipe: &Recipe) -> Value {
    let encoders = found.encoders.iter().map(|encoder| {
        let classes: Map<String, Value> =
            found.classes.iter().cloned().zip(encoder.classes.iter().map(|value| json!(value))).collect();
        (
            encoder.name.clone(),
            json!({ "measures": encoder.measures, &found.of_class.name: classes, "fit": encoder.details }),
        )
    });
    let [train, validation, test] = found.images;
    json!({
        "kind": found.title,
        "data": {
            "path": found.data, "train": train, "validation": validation, "test": test, "classes": found.classes,
            "size": found.size,
        },
        "run": {
            "method": recipe.objective.method().kind, "encoder": recipe.encoder.name(), "seed": recipe.train.seed,
            "weights": recipe.weights.whose(),
        },
        "encoders": Value::Object(encoders.collect()),
        "definitions": {
            &found.of_class.name: found.of_class.definition,
            "fit": "what was fitted, its strengths chosen on the validation images, or on held-out training images where there are none",
            "colours": "the raw input: the colours in every cell of the encoder's map, four a side at most",
        },
    })
}

fn value(encoder: &JudgedEncoder, name: &str) -> Option<(f64, Option<[f64; 2]>)> {
    let found = encoder.measures.iter().find(|m| m.name == name)?;
    Some((found.value, found.interval.map(|i| [i.low, i.high])))
}

/// The measures as lines for the terminal.
pub fn table(found: &Found) -> String {
    let heads: String = found.encoders.iter().map(|encoder| format!("{:>28}", encoder.name)).collect();
    let mut lines = vec![format!("{:<26}{heads}", "measure [95 % interval]")];
    let cell = |value: Option<(f64, Option<[f64; 2]>)>| match value {
        Some((value, Some([low, high]))) => format!("{:>28}", format!("{value:.4} [{low:.4}, {high:.4}]")),
        Some((value, None)) => format!("{value:>28.4}"),
        None => format!("{:>28}", "-"),
    };
    for name in found.encoders.first().iter().flat_map(|encoder| &encoder.measures).map(|m| &m.name) {
        let cells: String = found.encoders.iter().map(|encoder| cell(value(encoder, name))).collect();
        lines.push(format!("{name:<26}{cells}"));
    }
    for (class, name) in found.classes.iter().enumerate() {
        let of =
            |encoder: &JudgedEncoder| cell(encoder.classes.get(class).copied().flatten().map(|v| (v, None)));
        let cells: String = found.encoders.iter().map(of).collect();
        lines.push(format!("{:<26}{cells}", format!("{} {name}", found.of_class.name)));
    }
    lines.join("\n")
}

/// The page.
pub fn page(found: &Found, recipe: &Recipe, run: &Path) -> ReportData {
    let names: Vec<String> = found.encoders.iter().map(|encoder| encoder.name.clone()).collect();
    let rows =
        found.encoders.first().into_iter().flat_map(|encoder| &encoder.measures).map(|m| SuiteMeasure {
            name: m.name.clone(),
            definition: m.definition.clone(),
            values: found.encoders.iter().map(|encoder| value(encoder, &m.name)).collect(),
        });
    let measures: Vec<SuiteMeasure> = rows.collect();
    let drawn: Vec<&SuiteMeasure> = measures.iter().filter(|m| found.drawn.contains(&m.name)).collect();
    let figure = Scores {
        columns: drawn
            .iter()
            .map(|m| Column { name: crate::report::readable(&m.name), explanation: String::new() })
            .collect(),
        rows: (0..names.len())
            .map(|i| Row {
                name: names[i].clone(),
                cells: drawn.iter().map(|m| m.values[i].map(Cell::of_interval)).collect(),
            })
            .collect(),
    };
    let by_class = found.classes.iter().enumerate().map(|(class, name)| SuiteMeasure {
        name: name.clone(),
        definition: found.of_class.definition.clone(),
        values: found
            .encoders
            .iter()
            .map(|encoder| encoder.classes.get(class).copied().flatten().map(|v| (v, None)))
            .collect(),
    });
    let group =
        |title: &str, reading: &str, measures: Vec<SuiteMeasure>, figure: Option<Scores>| SuiteGroup {
            title: title.to_owned(),
            reading: reading.to_owned(),
            encoders: names.clone(),
            measures,
            figure,
            ..Default::default()
        };
    let reading = "Longer is better. What the trained encoder reaches beyond the untrained one and the colours is what it learned of \
                   places; the line through a bar's end is the 95 % interval over test images.";
    let suite = vec![
        group("All classes", reading, measures, Some(figure)),
        group(&format!("By class: {}", found.of_class.name), "", by_class.collect(), None),
    ];
    let [train, validation, test] = found.images;
    let legend = found
        .legend
        .split_first()
        .map(|(first, rest)| ViewRow { image: first.image.clone(), views: rest.to_vec() });
    let mut galleries = vec![Gallery {
        title: "Test images".to_owned(),
        note: found.note.clone(),
        first: "the image".to_owned(),
        rows: found.rows.clone(),
    }];
    if let (Some(row), Some(first)) = (legend, found.legend.first()) {
        galleries.push(Gallery {
            title: "Colours of the classes".to_owned(),
            note: String::new(),
            first: first.caption.clone(),
            rows: vec![row],
        });
    }
    let fact = |name: &str, value: String| (name.to_owned(), value);
    ReportData {
        kind: found.title.clone(),
        title: run.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        method: recipe.objective.method().name.to_owned(),
        facts: vec![
            fact("Data", found.data.display().to_string()),
            fact("Images", format!("{train} training, {validation} validation, {test} test")),
            fact("Size", format!("{} x {} pixels", found.size[0], found.size[1])),
            fact("Encoder", recipe.encoder.name().to_owned()),
        ],
        suite,
        galleries,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pictures;
    use super::*;
    use image::RgbImage;

    fn found() -> Found {
        let measure = |value| Measurement {
            name: "miou".into(),
            value,
            interval: None,
            n: 2,
            split: "test".into(),
            seed: Some(0),
            definition: "mean overlap; a probe, not a segmenter".into(),
        };
        let encoder = |name: &str, value| JudgedEncoder {
            name: name.into(),
            measures: vec![measure(value)],
            classes: vec![Some(value), None],
            details: json!({ "c": 1.0 }),
        };
        let view = |class, caption: &str| View { image: pictures::swatch(class), caption: caption.into() };
        Found {
            title: "Segmentation with a linear head".into(),
            data: "camvid".into(),
            images: [5, 0, 2],
            size: [8, 12],
            classes: vec!["sky".into(), "road".into()],
            of_class: OfClass { name: "iou".into(), definition: "overlap".into() },
            note: "A probe, not a segmenter.".into(),
            drawn: vec!["miou".into()],
            legend: vec![view(0, "sky"), view(1, "road")],
            rows: vec![ViewRow {
                image: RgbImage::new(12, 8),
                views: vec![view(0, "truth"), view(1, "trained")],
            }],
            encoders: vec![encoder("trained", 0.5), encoder("colours", 0.25)],
        }
    }

    fn recipe() -> Recipe {
        Recipe::parse("encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }", &[]).unwrap()
    }

    #[test]
    fn the_page_shows_numbers_classes_and_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let page =
            crate::report::write(&page(&found(), &recipe(), Path::new("runs/a")), folder.path()).unwrap();
        let text = std::fs::read_to_string(page).unwrap();
        for part in [
            "Segmentation with a linear head",
            "not a segmenter",
            "By class: iou",
            "road",
            "0.500",
            "Test images",
            "<svg",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(folder.path().join("plots/test-images.png").is_file());
    }

    #[test]
    fn numbers_and_their_meaning_are_in_the_json_and_the_table() {
        let json = json(&found(), &recipe());
        assert_eq!(json["encoders"]["trained"]["iou"]["sky"], 0.5);
        assert_eq!(json["encoders"]["colours"]["measures"][0]["value"], 0.25);
        assert!(
            json["encoders"]["trained"]["iou"]["road"].is_null() && json["definitions"]["iou"].is_string()
        );
        let table = table(&found());
        assert!(table.contains("miou") && table.contains("iou road") && table.contains("0.2500"), "{table}");
    }
}
