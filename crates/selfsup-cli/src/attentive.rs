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
use std::sync::Arc;

/// The images of each part at most: their tokens are held in memory.
const IMAGES: usize = 5000;
/// Numbers that the tokens of a part may be, 1 GiB of them.
const NUMBERS: usize = 1 << 28;

/// The measures of the run's encoder as it is now; none for one without patches.
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
    let tokens = |set: &Arc<dyn ImageSet>, labels: &Tensor, classes: usize| -> Result<LabelledTokens> {
        let some = images::some(set, most)?;
        let view = images::plain_view(recipe, set.channels())?;
        let batches = images::plain(&some, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
        let x = encode_all(&batches, |batch| patches(encoder, &batch.views[0].to_device(device)))?; // [N, T, D]
        // The positions that `some` takes.
        let count = some.len();
        let positions: Vec<i64> = (0..count).map(|i| (i * set.len() / count) as i64).collect();
        let labels = labels.index_select(0, &Tensor::from_slice(&positions));
        Ok(LabelledTokens::new(&x, &labels, classes as i64)?)
    };
    let classes = labels.classes.len();
    let train = tokens(&sets.train, &labels.train, classes)?;
    let test = tokens(&sets.test, &labels.test, classes)?;
    let probe = AttentiveProbe::new(AttentiveConfig { heads: shape.heads, ..Default::default() })?;
    let samples = most.min(sets.train.len());
    let mut stage = |done| progress(Stage { name: "attentive probe", done, total: probe.fits(), samples });
    stage(0);
    Ok(Some(probe.run(&train, &test, &mut stage)?.measurements("test")))
}

/// The tokens of patches, without the class token's: `[N, C, H, W]` to `[N, T, D]`.
fn patches(encoder: &dyn PatchEncoder, x: &Tensor) -> Result<Tensor> {
    let tokens = encoder.tokens(x, None, Mode::Eval)?;
    Ok(tokens.narrow(1, 1, tokens.size()[1] - 1).to_kind(Kind::Float))
}
