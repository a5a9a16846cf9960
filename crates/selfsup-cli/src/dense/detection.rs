//! Detection with linear functions in a folder of Pascal VOC.

use super::maps::{Eye, Seer};
use super::page::{Found, JudgedEncoder, OfClass};
use super::{Arguments, pictures};
use crate::images;
use crate::recipe::Recipe;
use crate::report::{View, ViewRow};
use anyhow::Result;
use selfsup::data::annotated::{VocImages, VocSplits};
use selfsup::eval::{BoxKind, BoxedMaps, DetectionProbe, DetectionProbeConfig, FoundBox, Rectangle, TrueBox};
use selfsup::train::loggers::Progress;
use serde_json::json;
use std::path::Path;

/// Test images that the page shows.
const SHOWN: usize = 6;

/// Fits and scores a head on the maps of each seer; `load` gives the encoder the seer's weights.
///
/// # Errors
/// When the folder's files do not fit.
pub fn judge(
    folder: &Path,
    arguments: &Arguments,
    recipe: &Recipe,
    eye: &Eye,
    seers: &[Seer],
    load: &dyn Fn(&Seer) -> Result<()>,
) -> Result<Found> {
    let mut splits = VocSplits::open(folder)?;
    if let Some(limit) = arguments.limit {
        splits.train.take_evenly(limit);
    }
    let size = eye.size(arguments.size, splits.train.shape(0))?;
    let parts = [Some(&splits.train), splits.validation.as_ref(), Some(&splits.test)];
    let total = parts.iter().flatten().map(|part| part.len()).sum();
    let names = ["training", "validation", "test"];
    let truth = |part: &VocImages, index: usize| -> Vec<TrueBox> {
        let of = |b: &selfsup::data::annotated::VocBox| {
            let [x0, y0, x1, y1] = b.edges;
            // All classes were found in the list when the folder was opened.
            let class = splits.classes.iter().position(|name| *name == b.class).unwrap_or_default();
            TrueBox {
                rectangle: Rectangle { x0, y0, x1, y1 },
                class,
                kind: if b.difficult { BoxKind::Ignored } else { BoxKind::Counted },
            }
        };
        part.boxes(index).iter().map(of).collect()
    };
    let n = splits.test.len();
    let shown = images::evenly(n, SHOWN);
    let mut rows = Vec::new();
    for &index in &shown {
        let image = splits.test.image(index)?;
        let image = pictures::resized(&image, splits.test.shape(index))?;
        let boxes: Vec<(usize, Rectangle)> =
            truth(&splits.test, index).iter().map(|b| (b.class, b.rectangle)).collect();
        let view = View { image: pictures::boxed(&image, &boxes), caption: "truth".to_owned() };
        rows.push(ViewRow { image, views: vec![view] });
    }
    let mut encoders = Vec::new();
    for seer in seers {
        load(seer)?;
        let maps = |index: usize| -> Result<Option<BoxedMaps>> {
            let Some(part) = parts[index] else { return Ok(None) };
            let maps = eye.maps(*seer, names[index], part.len(), total, size, |i| Ok(part.image(i)?))?;
            let boxes = (0..part.len()).map(|i| truth(part, i)).collect();
            let sizes = (0..part.len()).map(|i| part.shape(i).map(|side| side as f64)).collect();
            Ok(Some(BoxedMaps::new(&maps, boxes, sizes, splits.classes.len())?))
        };
        let (Some(train), validation, Some(test)) = (maps(0)?, maps(1)?, maps(2)?) else {
            anyhow::bail!("{}: no training or test images", folder.display())
        };
        eprintln!("{}: fitting a small head", seer.name());
        let probe = DetectionProbe::new(DetectionProbeConfig {
            linear: recipe.eval.linear.clone(),
            ..Default::default()
        })?;
        // The bar begins when the fit is over.
        let mut bar: Option<Progress> = None;
        let outcome = probe.run(&train, validation.as_ref(), &test, &mut |done| {
            let name = format!("{}: test boxes", seer.name());
            bar.get_or_insert_with(|| Progress::new(&name, n as u64, 0, 1)).update(done as u64, "");
        })?;
        if let Some(bar) = bar {
            bar.finish();
        }
        for (row, &index) in rows.iter_mut().zip(&shown) {
            // As many as there are, the surest.
            let most = splits.test.boxes(index).len();
            let found: &[FoundBox] = &outcome.found[index];
            let boxes: Vec<(usize, Rectangle)> =
                found.iter().take(most).map(|b| (b.class, b.rectangle)).collect();
            let view = View { image: pictures::boxed(&row.image, &boxes), caption: seer.name().to_owned() };
            let at = if *seer == Seer::Trained { 1 } else { row.views.len() };
            row.views.insert(at, view);
        }
        encoders.push(JudgedEncoder {
            name: seer.name().to_owned(),
            measures: outcome.measurements("test"),
            classes: outcome.detection.ap50_of_classes.clone(),
            details: json!(outcome),
        });
    }
    let legend = splits
        .classes
        .iter()
        .enumerate()
        .map(|(class, name)| View { image: pictures::swatch(class), caption: name.clone() });
    Ok(Found {
        title: "Detection with a small head".to_owned(),
        data: folder.to_owned(),
        images: parts.map(|part| part.map_or(0, VocImages::len)),
        size,
        of_class: OfClass {
            name: "ap50".to_owned(),
            definition: "average precision of the class at an overlap of 0.5".to_owned(),
        },
        note: "Test images, their boxes, and what linear functions of each encoder's frozen maps find: as many boxes as there are, the \
               surest first. A probe, not a detector."
            .to_owned(),
        drawn: vec!["detection_map50".to_owned(), "detection_map".to_owned()],
        legend: legend.collect(),
        classes: splits.classes.clone(),
        rows,
        encoders,
    })
}
