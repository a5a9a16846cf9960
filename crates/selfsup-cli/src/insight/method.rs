//! What a reader of a report sees of the method itself: what it paints, answers and groups, and where its encoder looks.

use super::SHOWN_IMAGES;
use super::paint::{glow, pixels_to_picture, shares_of_brightest};
use crate::attention::{self, AttentionFound};
use crate::images::{self, Images};
use crate::model::ImageModel;
use crate::recipe::Recipe;
use crate::report::{
    Answer, Attention, Confusion, Gallery, Number, Prototype, PrototypeSet, Questions, Sample, Task, View,
    ViewRow,
};
use crate::task::{self, AnswersFound, PrototypesFound};
use anyhow::{Context, Result, ensure};
use selfsup::core::{
    Answers, Batches, Device, ImageViews, Key, PictureScale, PictureSet, Tensor, check_shape, tch,
};
use selfsup::data::augment::PlainConfig;
use selfsup::encoders::Pooling;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The images of which questions are shown, and the questions.
const ASKED: usize = 24;

/// What report.json tells of the method.
#[derive(Debug, Default, Deserialize)]
pub struct Found {
    #[serde(default)]
    task: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    answers: Vec<AnswersFound>,
    #[serde(default)]
    prototypes: Vec<PrototypesFound>,
    #[serde(default)]
    attention: Option<AttentionFound>,
    /// What each number is, by its key.
    pub definitions: BTreeMap<String, String>,
}

/// What is shown of it.
#[derive(Debug, Default)]
pub struct OfMethod {
    /// Test images and what the method paints; none where it does not.
    pub made: Vec<ViewRow>,
    /// The same of each part of a combination that paints.
    pub made_by_parts: Vec<Gallery>,
    /// How its task is solved.
    pub task: Option<Task>,
    /// Its prototypes.
    pub prototypes: Vec<PrototypeSet>,
    /// Where its encoder looks.
    pub attention: Option<Attention>,
}

/// Looks at a trained model's method; `sample` shows the test image at a position.
///
/// # Errors
/// When the images cannot be read, or report.json is of others.
pub fn of_images(
    recipe: &Recipe,
    model: &ImageModel,
    images: &Images,
    found: &Found,
    sample: &dyn Fn(i64) -> Result<Sample>,
    device: Device,
) -> Result<OfMethod> {
    let looker = Looker { recipe, model, images, plain: recipe.plain_view(), device };
    let (made, made_by_parts) = looker.made()?;
    Ok(OfMethod {
        made,
        made_by_parts,
        task: looker.task(found)?,
        prototypes: prototypes(found, images.test.len(), sample)?,
        attention: found.attention.as_ref().map(|found| looker.attention(found)).transpose()?.flatten(),
    })
}

struct Looker<'a> {
    recipe: &'a Recipe,
    model: &'a ImageModel,
    images: &'a Images,
    plain: PlainConfig,
    device: Device,
}

impl Looker<'_> {
    /// A batch of test images, evenly taken, in the view in which they are judged.
    fn some(&self, count: usize) -> Result<ImageViews> {
        let some = images::some(&self.images.test, count)?;
        let view = images::plain_view(self.recipe, some.channels())?;
        let batches = images::plain(&some, view, count, 1)?;
        let batch = batches.epoch(0, 0)?.next().transpose()?.context("there is no test image")?;
        Ok(batch.to_device(self.device))
    }

    /// Some test images with what the method paints: of itself, and of the parts of a combination.
    fn made(&self) -> Result<(Vec<ViewRow>, Vec<Gallery>)> {
        Key::new(self.recipe.train.seed).seed_torch();
        let batch = self.some(SHOWN_IMAGES)?;
        let found = tch::no_grad(|| self.model.objective.pictures(self.model.encoder.as_ref(), &batch))?;
        let (mut made, mut by_parts) = (Vec::new(), Vec::new());
        for PictureSet { name, scale, columns } in found.map(|found| found.sets).unwrap_or_default() {
            let columns = columns.into_iter().map(|(caption, x)| {
                (caption.to_owned(), if scale == PictureScale::Views { self.pixels(&x) } else { x })
            });
            let rows = rows(&columns.collect::<Vec<_>>())?;
            if name.is_empty() {
                made = rows;
                continue;
            }
            by_parts.push(Gallery {
                title: format!("What {name} makes of images"),
                note: "Test images, which training never saw, what this part of the method was shown of them and what it \
                       made of that."
                    .to_owned(),
                first: "the image".to_owned(),
                rows,
            });
        }
        Ok((made, by_parts))
    }

    /// What the views made of pixels is undone: `[N, C, H, W]` to pixels from 0 to 1.
    fn pixels(&self, x: &Tensor) -> Tensor {
        let each = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]).to_device(x.device());
        x * each(&self.plain.std) + each(&self.plain.mean)
    }

    fn task(&self, found: &Found) -> Result<Option<Task>> {
        let numbers = found.task.iter().map(|(name, value)| Number {
            name: name.clone(),
            value: value.unwrap_or(f64::NAN),
            reading: found.definitions.get(name).cloned().unwrap_or_default(),
        });
        let numbers: Vec<_> = numbers.collect();
        if numbers.is_empty() && found.answers.is_empty() {
            return Ok(None);
        }
        let shown = if found.answers.is_empty() {
            Vec::new()
        } else {
            task::seed_draws(self.recipe.train.seed);
            task::judge(self.model, &self.some(ASKED)?)?.answers
        };
        let questions = found.answers.iter().map(|of_all| {
            let shown = shown.iter().find(|answers| answers.name == of_all.name);
            Ok(Questions {
                name: if found.answers.len() > 1 { of_all.name.clone() } else { String::new() },
                question: of_all.question.clone(),
                asked: of_all.asked,
                right: of_all.right,
                shown: shown.map(|answers| self.answers(answers)).transpose()?.unwrap_or_default(),
                confusion: of_all.confusion.as_ref().map(|found| Confusion {
                    by: "the method".to_owned(),
                    counts: found.counts.clone(),
                    classes: found.classes.clone(),
                }),
            })
        });
        let about = self.recipe.objective.method().about.to_owned();
        Ok(Some(Task { about, numbers, questions: questions.collect::<Result<_>>()? }))
    }

    /// Some questions, evenly taken, as they were posed.
    fn answers(&self, answers: &Answers) -> Result<Vec<Answer>> {
        let (truth, given) = (Vec::<i64>::try_from(&answers.truth)?, Vec::<i64>::try_from(&answers.given)?);
        let name = |class: i64| answers.space.classes.get(class as usize).cloned().unwrap_or_default();
        images::evenly(truth.len(), ASKED)
            .into_iter()
            .map(|i| {
                let tiles = self.pixels(&answers.tiles.get(i as i64)); // [K, C, h, w]
                let image = pixels_to_picture(&side_by_side(&tiles)?)?;
                Ok(Answer { image, truth: name(truth[i]), given: name(given[i]) })
            })
            .collect()
    }

    /// Some test images, and a map for each head.
    fn attention(&self, found: &AttentionFound) -> Result<Option<Attention>> {
        let Some(encoder) = self.model.encoder.as_patches() else { return Ok(None) };
        let batch = self.some(SHOWN_IMAGES)?;
        let images = batch.first("attention")?;
        let size = images.size();
        let maps = attention::with_mean(&attention::maps(encoder, found.of, images)?); // [N, 1 + heads, H', W']
        let (rows_of_patches, columns_of_patches) = (maps.size()[2], maps.size()[3]);
        let heads = found.heads.iter().enumerate().map(|(i, spread)| format!("head {}: {spread:.1}", i + 1));
        let captions = std::iter::once(format!("all heads: {:.1}", found.mean)).chain(heads);
        let mut columns = vec![(String::new(), self.pixels(images))];
        for (head, caption) in (0..maps.size()[1]).zip(captions) {
            let map = maps.select(1, head); // [N, H', W']
            let map = shares_of_brightest(&map)
                .repeat_interleave_self_int(size[2] / rows_of_patches, 1, None)
                .repeat_interleave_self_int(size[3] / columns_of_patches, 2, None);
            columns.push((caption, glow(&map)));
        }
        let of = match found.of {
            Pooling::ClassToken => "the class token",
            Pooling::Average => "the average patch",
        };
        let rows = rows(&columns)?;
        Ok(Some(Attention { of: of.to_owned(), patches: found.patches, images: found.images, rows }))
    }
}

/// The sets of prototypes with the images near them.
fn prototypes(
    found: &Found,
    images: usize,
    sample: &dyn Fn(i64) -> Result<Sample>,
) -> Result<Vec<PrototypeSet>> {
    let shown = |set: &PrototypesFound| -> Result<Vec<Prototype>> {
        let mut all = Vec::new();
        for found in &set.most_used {
            let mut nearest = Vec::new();
            for near in &found.nearest {
                ensure!(
                    near.image < images,
                    "report.json names the test image {} of {images}: run selfsup eval again",
                    near.image
                );
                nearest.push((sample(near.image as i64)?, near.score));
            }
            all.push(Prototype { number: found.prototype, assigned: found.assigned, nearest });
        }
        Ok(all)
    };
    let sets = found.prototypes.iter().map(|set| {
        Ok(PrototypeSet {
            name: if found.prototypes.len() > 1 { set.name.clone() } else { String::new() },
            images: set.images,
            prototypes: set.prototypes,
            used: set.used,
            effective: set.effective,
            shown: shown(set)?,
        })
    });
    sets.collect()
}

/// Columns of images with their captions `[N, C, H, W]` as rows; the first column is the images themselves.
fn rows(columns: &[(String, Tensor)]) -> Result<Vec<ViewRow>> {
    let Some(((_, images), others)) = columns.split_first() else { return Ok(Vec::new()) };
    let row = |i: i64| -> Result<ViewRow> {
        let views = others
            .iter()
            .map(|(caption, x)| Ok(View { image: pixels_to_picture(&x.get(i))?, caption: caption.clone() }));
        Ok(ViewRow { image: pixels_to_picture(&images.get(i))?, views: views.collect::<Result<_>>()? })
    };
    (0..images.size()[0]).map(row).collect()
}

/// Tiles `[K, C, h, w]` in a square, row by row, or in a row where they make none: `[3, H, W]`. Between them is a blue that
/// is no part of them.
fn side_by_side(tiles: &Tensor) -> Result<Tensor> {
    const BETWEEN: [f32; 3] = [0.3, 0.5, 0.8];
    let [k, _, h, w] = check_shape("tiles", tiles, [-1, -1, -1, -1])?;
    let side = (1..=k).find(|side| side * side >= k).unwrap_or(1);
    let (rows, columns) = if side * side == k { (side, side) } else { (1, k) };
    let gap = (h.max(w) / 8).max(1);
    let whole = [3, rows * (h + gap) - gap, columns * (w + gap) - gap];
    let between = Tensor::from_slice(&BETWEEN).to_device(tiles.device()).view([3, 1, 1]);
    let all = between.expand(whole, false).contiguous();
    for i in 0..k {
        let place = all.narrow(1, i / columns * (h + gap), h).narrow(2, i % columns * (w + gap), w);
        place.shallow_clone().copy_(&tiles.get(i).expand([3, h, w], false));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Shown;
    use crate::task::{NearFound, PrototypeFound};
    use selfsup::core::Kind;

    fn tiles(k: i64) -> Tensor {
        (Tensor::arange(k, (Kind::Float, Device::Cpu)) / 10.0)
            .view([k, 1, 1, 1])
            .expand([k, 1, 10, 10], false)
    }

    #[test]
    fn nine_tiles_make_a_square_and_two_a_row() {
        let square = side_by_side(&tiles(9)).unwrap();
        assert_eq!(square.size(), [3, 32, 32]);
        let at = |x: &Tensor, row: i64, column: i64| x.double_value(&[0, row, column]);
        for i in 0..9 {
            assert!((at(&square, i / 3 * 11 + 5, i % 3 * 11 + 5) - i as f64 / 10.0).abs() < 1e-6);
        }
        let blue = |row: i64, column: i64| {
            let pixel = Vec::<f32>::try_from(square.select(1, row).select(1, column)).unwrap();
            pixel == [0.3, 0.5, 0.8]
        };
        assert!(blue(10, 0) && blue(0, 21) && !blue(0, 0));
        let row = side_by_side(&tiles(2)).unwrap();
        assert_eq!(row.size(), [3, 10, 21]);
        assert_eq!(side_by_side(&tiles(1)).unwrap().size(), [3, 10, 10]);
    }

    #[test]
    fn prototypes_show_the_images_that_report_json_names() {
        let near = |image| NearFound { image, score: Some(0.5) };
        let set = |image| Found {
            prototypes: vec![PrototypesFound {
                name: "prototypes".into(),
                images: 5,
                prototypes: 3,
                used: 1,
                effective: 1.0,
                most_used: vec![PrototypeFound {
                    prototype: 2,
                    assigned: 5,
                    nearest: vec![near(4), near(image)],
                }],
            }],
            ..Found::default()
        };
        let sample = |i: i64| Ok(Sample { shown: Shown::Text(i.to_string()), class: None });
        let found = prototypes(&set(1), 5, &sample).unwrap().remove(0);
        let shown: Vec<_> = found.shown[0].nearest.iter().map(|(sample, _)| &sample.shown).collect();
        assert!(matches!(shown.as_slice(), [Shown::Text(a), Shown::Text(b)] if a == "4" && b == "1"));
        assert_eq!(found.name, "", "the only set needs no name");
        let error = prototypes(&set(5), 5, &sample).unwrap_err().to_string();
        assert_eq!(error, "report.json names the test image 5 of 5: run selfsup eval again");
    }
}
