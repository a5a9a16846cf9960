//! Linear segmentation of a folder with index masks.

use super::maps::{Eye, Seer};
use super::page::{Found, JudgedEncoder, OfClass};
use super::{Arguments, pictures};
use crate::images;
use crate::recipe::Recipe;
use crate::report::{View, ViewRow};
use anyhow::{Result, ensure};
use selfsup::core::Tensor;
use selfsup::data::annotated::{Mask, MaskedImages, MaskedSplits};
use selfsup::eval::{LabelledMaps, SegmentationProbe, SegmentationProbeConfig};
use serde_json::json;
use std::path::Path;

/// The label of pixels without a class.
const IGNORED: i64 = -1;
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
    let mut splits = MaskedSplits::open(folder, Some(arguments.void))?;
    if let Some(limit) = arguments.limit {
        splits.train.take_evenly(limit);
    }
    let own = {
        let (image, _) = splits.train.get(0)?;
        [image.height(), image.width()]
    };
    let size = eye.size(arguments.size, own)?;
    let parts = [Some(&splits.train), splits.validation.as_ref(), Some(&splits.test)];
    let total = parts.iter().flatten().map(|part| part.len()).sum();
    let names = ["training", "validation", "test"];
    let labels = parts.map(|part| part.map(|part| Labels::read(part, own, arguments.void)).transpose());
    let [train, validation, test] = labels;
    let labels = [train?, validation?, test?];
    let highest = labels.iter().flatten().map(|labels| labels.highest).max().unwrap_or(0);
    let mut classes = splits.names.clone();
    let known = classes.len() as i64;
    classes.extend((known..=highest).map(|value| value.to_string()));
    ensure!(
        classes.len() > 1,
        "{}: all pixels of its masks are of one class or of value {} (--void)",
        folder.display(),
        arguments.void
    );
    let n = splits.test.len();
    let shown = images::evenly(n, SHOWN);
    let mut rows = Vec::new();
    for &index in &shown {
        let (image, mask) = splits.test.get(index)?;
        let mask = mask.resized(own)?;
        let truth =
            mask.classes.iter().map(|&v| (v != arguments.void).then_some(usize::from(v))).collect::<Vec<_>>();
        let image = pictures::resized(&image, own)?;
        let view = View { image: pictures::painted(&image, &truth)?, caption: "truth".to_owned() };
        rows.push(ViewRow { image, views: vec![view] });
    }
    let mut encoders = Vec::new();
    for seer in seers {
        load(seer)?;
        let maps = |index: usize| -> Result<Option<LabelledMaps>> {
            let (Some(part), Some(labels)) = (parts[index], &labels[index]) else { return Ok(None) };
            let image = |i: usize| Ok(part.get(i)?.0);
            let maps = eye.maps(*seer, names[index], part.len(), total, size, image)?;
            Ok(Some(LabelledMaps::new(&maps, &labels.all, classes.len() as i64, Some(IGNORED))?))
        };
        let (Some(train), validation, Some(test)) = (maps(0)?, maps(1)?, maps(2)?) else {
            anyhow::bail!("{}: no training or test images", folder.display())
        };
        eprintln!("{}: fitting a linear head", seer.name());
        let positions: Vec<i64> = shown.iter().map(|&i| i as i64).collect();
        let probe = SegmentationProbe::new(SegmentationProbeConfig {
            linear: recipe.eval.linear.clone(),
            ..Default::default()
        })?;
        let outcome = probe.run(&train, validation.as_ref(), &test, &positions)?;
        for (row, (_, classes)) in rows.iter_mut().zip(&outcome.shown) {
            let answer: Vec<Option<usize>> = classes.iter().map(|&class| Some(class as usize)).collect();
            let view =
                View { image: pictures::painted(&row.image, &answer)?, caption: seer.name().to_owned() };
            // The trained encoder's, which comes last, stands beside the truth.
            let at = if *seer == Seer::Trained { 1 } else { row.views.len() };
            row.views.insert(at, view);
        }
        encoders.push(JudgedEncoder {
            name: seer.name().to_owned(),
            measures: outcome.measurements("test"),
            classes: outcome.segmentation.iou.clone(),
            details: json!(outcome),
        });
    }
    let legend = classes
        .iter()
        .enumerate()
        .map(|(class, name)| View { image: pictures::swatch(class), caption: name.clone() });
    let count = |part: Option<&MaskedImages>| part.map_or(0, MaskedImages::len);
    Ok(Found {
        title: "Segmentation with a linear head".to_owned(),
        data: folder.to_owned(),
        images: parts.map(count),
        size,
        of_class: OfClass {
            name: "iou".to_owned(),
            definition: "intersection over union of the class's pixels, all test images together".to_owned(),
        },
        note: "Test images, their masks, and what a linear head on the frozen maps of each encoder makes of them. A head draws no \
               finer than the map it stands on: a probe, not a segmenter. Black is of no class."
            .to_owned(),
        drawn: vec!["miou".to_owned(), "pixel_accuracy".to_owned()],
        legend: legend.collect(),
        classes,
        rows,
        encoders,
    })
}

/// The labels of a part.
struct Labels {
    /// `[N, H, W]` Int16.
    all: Tensor,
    highest: i64,
}

impl Labels {
    /// Masks of another size than `size` are brought to it.
    fn read(part: &MaskedImages, size: [usize; 2], void: u8) -> Result<Labels> {
        let (mut all, mut highest) = (Vec::new(), 0);
        for index in 0..part.len() {
            let Mask { classes, .. } = part.get(index)?.1.resized(size)?;
            let of = |value: u8| if value == void { IGNORED as i16 } else { i16::from(value) };
            let labels: Vec<i16> = classes.into_iter().map(of).collect();
            highest = labels.iter().copied().max().unwrap_or(0).max(highest);
            all.push(Tensor::f_from_slice(&labels)?.f_view([size[0] as i64, size[1] as i64])?);
        }
        Ok(Labels { all: Tensor::f_stack(&all, 0)?, highest: i64::from(highest) })
    }
}
