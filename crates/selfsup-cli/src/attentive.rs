//! What one learned query finds in the patches of a Vision Transformer's images, for the full suite.

use crate::features::encode_all;
use crate::images::{self, Images};
use crate::judge::Labels;
use crate::model::ImageModel;
use crate::network::NetworkConfig;
use crate::recipe::Recipe;
use anyhow::Result;
use selfsup::core::{Device, Kind, Mode, PatchEncoder, Tensor};
use selfsup::data::ImageSet;
use selfsup::eval::{AttentiveConfig, AttentiveProbe, LabelledTokens, Measurement, Stage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The images of each part at most: their tokens are held in memory.
const IMAGES: usize = 5000;
/// Numbers that the tokens of a part may be, 1 GiB of them.
const NUMBERS: usize = 1 << 28;

/// The measures of the run's encoder as it is now; none for one without patches, or when too few images fit in memory, which is said.
///
/// # Errors
/// When images cannot be read, or the probe cannot be fitted.
pub fn measure(
    recipe: &Recipe,
    model: &ImageModel,
    sets: &Images,
    labels: &Labels,
    device: Device,
    progress: &mut dyn FnMut(Stage),
) -> Result<Option<Vec<Measurement>>> {
    let (Some(encoder), NetworkConfig::Vit(shape)) = (model.encoder.as_patches(), &recipe.encoder) else {
        return Ok(None);
    };
    let side = recipe.plain_view().size / shape.patch_size as usize;
    let most = IMAGES.min(NUMBERS / (side * side * shape.dim as usize).max(1)).max(2);
    let linear = &recipe.eval.linear;
    let chosen = |set: &Arc<dyn ImageSet>, labels: &Tensor| {
        labels.index_select(0, &images::evenly_indices(set.len(), most))
    };
    let (train_labels, test_labels) = (chosen(&sets.train, &labels.train), chosen(&sets.test, &labels.test));
    if !can_choose(&Vec::<i64>::try_from(&train_labels)?, linear.held_out) {
        eprintln!(
            "the attentive probe is left out: the tokens of {} of the {} training images fit in memory, too few of a class to hold some out",
            train_labels.size()[0],
            sets.train.len()
        );
        return Ok(None);
    }
    let classes = labels.classes.len() as i64;
    let tokens = |set: &Arc<dyn ImageSet>, labels: &Tensor| -> Result<LabelledTokens> {
        let some = images::some(set, most)?;
        let view = images::plain_view(recipe, set.channels())?;
        let batches = images::plain(&some, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
        let x = encode_all(&batches, |batch| patches(encoder, &batch.views[0].to_device(device)))?; // [N, T, D]
        Ok(LabelledTokens::new(&x, labels, classes)?)
    };
    let (train, test) = (tokens(&sets.train, &train_labels)?, tokens(&sets.test, &test_labels)?);
    let probe = AttentiveProbe::new(AttentiveConfig {
        heads: shape.heads,
        held_out: linear.held_out,
        linear: linear.clone(),
        seed: linear.seed,
        ..Default::default()
    })?;
    let samples = train_labels.size()[0] as usize;
    let mut stage = |done| progress(Stage { name: "attentive probe", done, total: probe.fits(), samples });
    stage(0);
    Ok(Some(probe.run(&train, &test, &mut stage)?.measurements("test")))
}

/// Whether there are two classes, and one of which a share can be held out.
fn can_choose(labels: &[i64], held_out: f64) -> bool {
    let mut counts = BTreeMap::<i64, usize>::new();
    for &label in labels {
        *counts.entry(label).or_default() += 1;
    }
    counts.len() > 1 && counts.values().any(|&n| n > 1 && (n as f64 * held_out).round() >= 1.0)
}

/// The tokens of patches, without the class token's: `[N, C, H, W]` to `[N, T, D]`.
fn patches(encoder: &dyn PatchEncoder, x: &Tensor) -> Result<Tensor> {
    let tokens = encoder.tokens(x, None, Mode::Eval)?;
    Ok(tokens.narrow(1, 1, tokens.size()[1] - 1).to_kind(Kind::Float))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_images_of_every_class_leave_none_to_choose_by() {
        // 1783 images, evenly taken of 1000 sorted classes of 100: one or two of each.
        let labels: Vec<i64> = images::evenly(100_000, 1783).into_iter().map(|i| i as i64 / 100).collect();
        assert!(!can_choose(&labels, 0.2));
        assert!(can_choose(&labels, 0.3));
        assert!(can_choose(&[0, 0, 0, 1], 0.2));
        assert!(!can_choose(&[0; 30], 0.2), "one class is none to tell");
        assert!(!can_choose(&[], 0.2));
    }
}
