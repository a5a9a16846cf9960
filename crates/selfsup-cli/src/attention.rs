//! Where a Vision Transformer looks: the attention of its last block, by head, from what the features are made of.
//!
//! What can be shown depends on the encoder alone, not on the method that trained it.

use crate::images;
use crate::model::ImageModel;
use crate::recipe::Recipe;
use anyhow::Result;
use selfsup::core::{Batches, Device, Key, Kind, PatchEncoder, Tensor, check_shape, tch};
use selfsup::data::ImageSet;
use selfsup::encoders::Pooling;
use selfsup::eval::{Interval, Mean};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The images that the numbers are averaged over, at most.
const IMAGES: usize = 2048;
/// Draws of a bootstrap over the images.
const RESAMPLES: usize = 1000;
/// The images of a batch: the attention of all tokens to all takes memory with the square of their number.
const BATCH: usize = 32;

/// How widely the heads look, as report.json holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionFound {
    /// Who looks: the class token, or all patches on average, whichever the features are made of.
    pub of: Pooling,
    /// The images that the numbers are averaged over.
    pub images: usize,
    /// The patches of an image.
    pub patches: usize,
    /// For each head of the last block, over how many patches its attention is spread: the exponential of the entropy.
    pub heads: Vec<f64>,
    /// The same of the average of all heads.
    pub mean: f64,
    /// How sure these are, by a bootstrap over the images: of the average, then of each head.
    #[serde(skip)]
    pub intervals: Vec<Interval>,
}

/// How widely the heads of a run's encoder look; nothing for an encoder that does not work on patches.
///
/// # Errors
/// When the images cannot be read.
pub fn measure(
    recipe: &Recipe,
    model: &ImageModel,
    set: &Arc<dyn ImageSet>,
    device: Device,
) -> Result<Option<AttentionFound>> {
    let (Some(encoder), Some(of)) = (model.encoder.as_patches(), recipe.encoder.pooling()) else {
        return Ok(None);
    };
    let some = images::some(set, IMAGES)?;
    let view = images::plain_view(recipe, set.channels())?;
    let batches = images::plain(&some, view, BATCH, recipe.train.loader_threads)?;
    let (mut spreads, mut images, mut patches) = (Vec::new(), 0, 0);
    for batch in batches.epoch(0, 0)? {
        let batch = batch?.to_device(device);
        let maps = maps(encoder, of, batch.first("attention")?)?;
        let [n, _, rows, columns] = check_shape("maps", &maps, [-1, -1, -1, -1])?;
        (images, patches) = (images + n as usize, (rows * columns) as usize);
        spreads.push(spread(&with_mean(&maps)).to_device(Device::Cpu)); // [n, 1 + heads]
    }
    if spreads.is_empty() {
        return Ok(None);
    }
    let (mut means, mut intervals) = (Vec::new(), Vec::new());
    for spread in Tensor::cat(&spreads, 0).unbind(1) {
        let found = Mean::over_samples(&Vec::<f64>::try_from(spread)?, RESAMPLES, Key::new(0))?;
        means.push(found.value);
        intervals.extend(found.interval);
    }
    let heads = means.split_off(1);
    Ok(Some(AttentionFound { of, images, patches, heads, mean: means[0], intervals }))
}

/// Where the heads of the last block look, from the class token or from all patches on average.
///
/// # Shapes
/// Images `[N, C, H, W]` to shares of the attention on patches, `[N, heads, H', W']`, which sum to 1 for each head.
///
/// # Errors
/// When the images do not fit the encoder.
pub fn maps(encoder: &dyn PatchEncoder, of: Pooling, images: &Tensor) -> Result<Tensor> {
    let [.., height, width] = check_shape("images", images, [-1, -1, -1, -1])?;
    let patch = encoder.patch_size();
    let all = tch::no_grad(|| encoder.attention(images))?; // [N, heads, 1 + T, 1 + T]
    let patches = all.size()[3] - 1;
    let to_patches = all.narrow(3, 1, patches); // [N, heads, 1 + T, T]
    let looks = match of {
        Pooling::ClassToken => to_patches.select(2, 0),
        Pooling::Average => to_patches.narrow(2, 1, patches).mean_dim(2, false, Kind::Float),
    }; // [N, heads, T]
    let total = looks.sum_dim_intlist(-1, true, Kind::Float).clamp_min(1e-12);
    Ok((looks / total).unflatten(-1, [height / patch, width / patch]))
}

/// The average of the heads, then each: `[N, heads, H', W']` to `[N, 1 + heads, H', W']`.
pub fn with_mean(maps: &Tensor) -> Tensor {
    Tensor::cat(&[&maps.mean_dim(1, true, Kind::Float), maps], 1)
}

/// Over how many patches shares are spread: `[N, M, H', W']` to `[N, M]`.
fn spread(shares: &Tensor) -> Tensor {
    let p = shares.flatten(2, 3).to_kind(Kind::Double);
    (-(p.clamp_min(1e-300).log() * &p).sum_dim_intlist(-1, false, Kind::Double)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::{Encoder, MapEncoder, Mode, Result as CoreResult, TokenEncoder};

    /// Two heads on four patches of two pixels: of the first the class token looks at the patches as `looks` says, of the
    /// second every patch looks at the last; of nothing else is anything known.
    #[derive(Debug)]
    struct Planted {
        looks: [f32; 4],
    }

    impl Encoder for Planted {
        fn dim(&self) -> i64 {
            1
        }
        fn encode(&self, x: &Tensor, _mode: Mode) -> CoreResult<Tensor> {
            Ok(x.flatten(1, -1).mean_dim(1, true, Kind::Float))
        }
    }

    impl TokenEncoder for Planted {
        fn tokens(&self, x: &Tensor, _keep: Option<&Tensor>, _mode: Mode) -> CoreResult<Tensor> {
            Ok(Tensor::zeros([x.size()[0], 5, 1], (Kind::Float, Device::Cpu)))
        }
    }

    impl MapEncoder for Planted {
        fn map_dim(&self) -> i64 {
            1
        }
        fn channels(&self) -> i64 {
            1
        }
        fn map(&self, x: &Tensor, mode: Mode) -> CoreResult<(Tensor, Tensor)> {
            let features = self.encode(x, mode)?;
            Ok((features.unsqueeze(-1).unsqueeze(-1), features))
        }
    }

    impl PatchEncoder for Planted {
        fn patch_size(&self) -> i64 {
            2
        }
        fn tokens_masked(&self, x: &Tensor, _: &Tensor, _: &Tensor, mode: Mode) -> CoreResult<Tensor> {
            self.tokens(x, None, mode)
        }
        fn pool(&self, tokens: &Tensor) -> Tensor {
            tokens.select(1, 0)
        }
        fn each_attention(&self, x: &Tensor, see: &mut dyn FnMut(Tensor)) -> CoreResult<()> {
            let all = Tensor::full([x.size()[0], 2, 5, 5], 0.2, (Kind::Float, Device::Cpu));
            // Half of the class token's attention is on itself.
            let own =
                Tensor::cat(&[Tensor::from_slice(&[0.5_f32]), Tensor::from_slice(&self.looks) * 0.5], 0);
            all.select(1, 0).select(1, 0).copy_(&own);
            let last = Tensor::from_slice(&[0.0_f32, 0.0, 0.0, 0.0, 1.0]);
            all.select(1, 1).narrow(1, 1, 4).copy_(&last);
            see(all);
            Ok(())
        }
    }

    fn images() -> Tensor {
        Tensor::zeros([3, 1, 4, 4], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_map_has_the_shares_of_the_patches_at_their_places() {
        let encoder = Planted { looks: [0.5, 0.5, 0.0, 0.0] };
        let found = maps(&encoder, Pooling::ClassToken, &images()).unwrap();
        assert_eq!(found.size(), [3, 2, 2, 2]);
        assert_eq!(found.get(2).get(0), Tensor::from_slice2(&[[0.5_f32, 0.5], [0.0, 0.0]]));
        let found = maps(&encoder, Pooling::Average, &images()).unwrap();
        assert_eq!(found.get(1).get(1), Tensor::from_slice2(&[[0.0_f32, 0.0], [0.0, 1.0]]));
    }

    #[test]
    fn attention_on_so_many_patches_alike_is_spread_over_so_many() {
        for (looks, expected) in [([0.25; 4], 4.0), ([0.5, 0.5, 0.0, 0.0], 2.0), ([0.0, 0.0, 1.0, 0.0], 1.0)]
        {
            let found = maps(&Planted { looks }, Pooling::ClassToken, &images()).unwrap();
            let found = spread(&found).get(0).double_value(&[0]);
            assert!((found - expected).abs() < 1e-6, "{looks:?}: {found}");
        }
    }

    #[test]
    fn the_average_of_the_heads_stands_before_them() {
        let encoder = Planted { looks: [1.0, 0.0, 0.0, 0.0] };
        let found = with_mean(&maps(&encoder, Pooling::ClassToken, &images()).unwrap());
        let expected = (found.select(1, 1) + found.select(1, 2)) / 2.0;
        assert_eq!((found.select(1, 0), found.size()), (expected, vec![3, 3, 2, 2]));
    }
}
