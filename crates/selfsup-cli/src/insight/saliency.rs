//! What of an image its features come from, and whether the maps that say so show what was learned.
//!
//! What is explained needs no labels: how far an image's features lie from those of images on average, in their own direction
//! ([`Similarity`]). Every method is asked of the trained encoder and of the same network with random weights; report.json holds how
//! alike the maps are, the page shows some of both.

use super::SHOWN_IMAGES;
use super::paint::{glow, pixels_to_picture, shares_of_brightest, shares_of_range};
use crate::images;
use crate::network::ImageNetwork;
use crate::recipe::Recipe;
use crate::report::{MapCheck, MapRow, Saliency};
use anyhow::{Context, Result};
use image::RgbImage;
use selfsup::core::{Batches, Device, Key, Kind, Mode, Result as CoreResult, Tensor, nn, tch};
use selfsup::data::ImageSet;
use selfsup::encoders::Pooling;
use selfsup::eval::{
    AttentionRollout, IntegratedGradients, IntegratedGradientsConfig, OcclusionConfig, SanityCheck, Sign,
    Similarity, grad_cam, integrated_gradients, interpolate, occlusion, patch_colours, sanity_check,
    sum_channels,
};
use selfsup::train::loggers::Progress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The images that the sanity check is averaged over, at most.
const IMAGES: usize = 32;
/// The images whose average is what stands for nothing, at most.
const AVERAGED: usize = 128;
/// The images of a batch: gradients keep all activations.
const BATCH: usize = 8;
/// Tells the random weights from the draws of training.
const RANDOM_WEIGHTS: u64 = 0x5a11;

/// A method that makes maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    IntegratedGradients,
    GradCam,
    AttentionRollout,
    Occlusion,
}

impl Method {
    /// As a reader knows it.
    fn name(self) -> &'static str {
        match self {
            Method::IntegratedGradients => "integrated gradients",
            Method::GradCam => "Grad-CAM",
            Method::AttentionRollout => "attention rollout",
            Method::Occlusion => "occlusion",
        }
    }

    /// How to read its maps.
    fn reading(self) -> &'static str {
        match self {
            Method::IntegratedGradients => {
                "bright pixels add or take away the most, on the way from the average image to this one (Sundararajan et al. 2017)"
            }
            Method::GradCam => {
                "bright places of the last feature map point the way that the feature does, the darkest away from it or the least; as coarse as \
                 that map (Selvaraju et al. 2017)"
            }
            Method::AttentionRollout => {
                "bright patches are those that attention passes on most, through all blocks; it asks no score (Abnar and Zuidema 2020)"
            }
            Method::Occlusion => {
                "where bright places are hidden behind the average image, the feature loses the most (Zeiler and Fergus 2014)"
            }
        }
    }
}

/// The sanity check of every method, as report.json holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaliencyFound {
    /// How alike the maps of the trained encoder and of random weights are, by method.
    pub methods: BTreeMap<Method, MethodFound>,
    /// By what share of the score's gain over the baseline the parts of integrated gradients miss it, over all images; none without gradients.
    pub completeness_gap: Option<f64>,
    /// The test images.
    pub images: usize,
    /// The run's seed, from which the random weights are drawn.
    pub seed: u64,
}

/// What the sanity check says of a method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodFound {
    #[serde(flatten)]
    pub check: SanityCheck,
    /// In words.
    pub words: String,
}

/// Checks the methods on some test images.
///
/// # Errors
/// When the images cannot be read.
pub fn measure(
    recipe: &Recipe,
    encoder: &dyn ImageNetwork,
    test: &Arc<dyn ImageSet>,
    device: Device,
) -> Result<SaliencyFound> {
    let both = Both::new(recipe, encoder, test, device)?;
    let found = both.maps(&images::some(test, IMAGES)?)?;
    let methods = found.trained.maps.iter().map(|(method, maps)| -> Result<_> {
        let random = found.random.maps.get(method).context("random weights have other maps")?;
        let check = sanity_check(maps, random)?;
        let words = check.in_words(method.name());
        Ok((*method, MethodFound { check, words }))
    });
    Ok(SaliencyFound {
        methods: methods.collect::<Result<_>>()?,
        completeness_gap: found.trained.gap,
        images: found.images.size()[0] as usize,
        seed: recipe.train.seed,
    })
}

/// Some test images with the maps of both networks, and what report.json says of them.
///
/// # Errors
/// When the images cannot be read.
pub fn show(
    recipe: &Recipe,
    encoder: &dyn ImageNetwork,
    test: &Arc<dyn ImageSet>,
    found: &SaliencyFound,
    device: Device,
) -> Result<Saliency> {
    let both = Both::new(recipe, encoder, test, device)?;
    let maps = both.maps(&images::some(test, SHOWN_IMAGES)?)?;
    let plain = recipe.plain_view();
    let each = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]);
    let pixels = &maps.images * each(&plain.std) + each(&plain.mean);
    let size = [pixels.size()[2], pixels.size()[3]];
    let (trained, random) = (maps.trained.pictures(size)?, maps.random.pictures(size)?);
    let of = |pictures: &[(&str, Vec<RgbImage>)], i: usize| -> Vec<RgbImage> {
        pictures.iter().map(|(_, each)| each[i].clone()).collect()
    };
    let rows = (0..pixels.size()[0] as usize).map(|i| -> Result<_> {
        let image = pixels_to_picture(&pixels.get(i as i64))?;
        Ok(MapRow { image, trained: of(&trained, i), random: of(&random, i) })
    });
    let value = |mean: &selfsup::eval::Mean| (mean.value, mean.interval.map(|i| [i.low, i.high]));
    let checks = found.methods.iter().map(|(method, found)| MapCheck {
        name: method.name().to_owned(),
        reading: method.reading().to_owned(),
        rank_correlation: found.check.rank_correlation.as_ref().map(value),
        ssim: found.check.ssim.as_ref().map(value),
        words: found.words.clone(),
    });
    Ok(Saliency {
        columns: trained.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: rows.collect::<Result<_>>()?,
        checks: checks.collect(),
        patch_colours: maps.trained.colours.is_some(),
        completeness_gap: found.completeness_gap,
        images: found.images,
    })
}

/// The trained encoder and the same network with random weights.
struct Both<'a> {
    recipe: &'a Recipe,
    trained: Explained<'a>,
    random: Box<dyn ImageNetwork>,
    mean_of_random: Tensor,
    device: Device,
}

/// Maps of the same images by both.
struct MapsOfBoth {
    images: Tensor, // [N, C, H, W]
    trained: Maps,
    random: Maps,
}

impl<'a> Both<'a> {
    fn new(
        recipe: &'a Recipe,
        encoder: &'a dyn ImageNetwork,
        test: &Arc<dyn ImageSet>,
        device: Device,
    ) -> Result<Self> {
        let seen = stacked(recipe, &images::some(test, AVERAGED)?)?;
        let baseline = seen.mean_dim(0, true, None).to_device(device);
        Key::new(recipe.train.seed).with(RANDOM_WEIGHTS).seed_torch();
        let random = recipe.encoder.image_encoder(nn::VarStore::new(device).root())?;
        let mean = |encoder: &dyn ImageNetwork| -> Result<Tensor> {
            let _without_gradient = tch::no_grad_guard();
            let parts = seen.split(BATCH as i64, 0);
            let features = parts.iter().map(|x| encoder.encode(&x.to_device(device), Mode::Eval));
            Ok(Tensor::cat(&features.collect::<Result<Vec<_>, _>>()?, 0).mean_dim(0, false, None))
        };
        let (mean_of_trained, mean_of_random) = (mean(encoder)?, mean(random.as_ref())?);
        let trained =
            Explained { encoder, pooling: recipe.encoder.pooling(), baseline, mean: mean_of_trained };
        Ok(Both { recipe, trained, random, mean_of_random, device })
    }

    fn maps(&self, set: &Arc<dyn ImageSet>) -> Result<MapsOfBoth> {
        let images = stacked(self.recipe, set)?;
        let random = Explained {
            encoder: self.random.as_ref(),
            baseline: self.trained.baseline.shallow_clone(),
            mean: self.mean_of_random.shallow_clone(),
            ..self.trained
        };
        let parts = images.split(BATCH as i64, 0);
        let mut bar = Progress::new("explaining", 2 * parts.len() as u64, 0, BATCH as u64);
        let mut done = 0;
        let mut of = |explained: &Explained| -> Result<Maps> {
            let mut all = Vec::new();
            for part in &parts {
                all.push(explained.maps(&part.to_device(self.device))?);
                done += 1;
                bar.update(done, "");
            }
            Maps::joined(&all)
        };
        let (trained, random) = (of(&self.trained)?, of(&random)?);
        bar.finish();
        Ok(MapsOfBoth { images, trained, random })
    }
}

/// The plain views of a small set, `[N, C, H, W]`.
fn stacked(recipe: &Recipe, set: &Arc<dyn ImageSet>) -> Result<Tensor> {
    let view = images::plain_view(recipe, set.channels())?;
    let batches = images::plain(set, view, BATCH, recipe.train.loader_threads)?;
    let mut views = Vec::new();
    for batch in batches.epoch(0, 0)? {
        views.push(batch?.first("explained images")?.shallow_clone());
    }
    Ok(Tensor::cat(&views, 0))
}

/// An encoder and what its features are measured from.
struct Explained<'a> {
    encoder: &'a dyn ImageNetwork,
    pooling: Option<Pooling>,
    /// The average image, `[1, C, H, W]`.
    baseline: Tensor,
    /// The average feature, `[D]`.
    mean: Tensor,
}

/// Maps of a batch.
#[derive(Default)]
struct BatchMaps {
    maps: Vec<(Method, Tensor)>,
    patches: Option<Tensor>,
    /// By how much the parts of integrated gradients miss each gain over the baseline, and that gain, `[2, N]`.
    gaps: Option<Tensor>,
}

impl Explained<'_> {
    fn maps(&self, images: &Tensor) -> Result<BatchMaps> {
        let encoder = self.encoder;
        let own = tch::no_grad(|| encoder.encode(images, Mode::Eval))?;
        let similarity = Similarity::new(&own, &self.mean)?;
        let score = |x: &Tensor| similarity.score(&encoder.encode(x, Mode::Eval)?);
        let mut found = BatchMaps::default();
        // Pixels that become colours of a palette first have no gradient.
        if encoder.as_pixels().is_none() {
            let IntegratedGradients { attributions: parts, convergence_delta: gaps } =
                integrated_gradients(&score, images, &self.baseline, &IntegratedGradientsConfig::default())?;
            found.maps.push((Method::IntegratedGradients, sum_channels(&parts)?.abs()));
            let gained = parts.flatten(1, -1).sum_dim_intlist(1, false, None) - &gaps;
            found.gaps = Some(Tensor::stack(&[gaps.abs(), gained.abs()], 0));
        }
        match (encoder.as_patches(), self.pooling, encoder.as_map()) {
            (Some(encoder), Some(pooling), _) => {
                let patch = encoder.patch_size();
                let grid = [images.size()[2] / patch, images.size()[3] / patch];
                let mut rollout = AttentionRollout::new();
                let mut added = Ok(());
                tch::no_grad(|| {
                    encoder.each_attention(images, &mut |attention| {
                        if added.is_ok() {
                            added = rollout.add(&attention);
                        }
                    })
                })?;
                added?;
                let shares = rollout.finish()?.narrow(2, 1, grid[0] * grid[1]); // [N, 1 + T, T]
                let shares = match pooling {
                    Pooling::ClassToken => shares.select(1, 0),
                    Pooling::Average => shares.narrow(1, 1, grid[0] * grid[1]).mean_dim(1, false, None),
                };
                found.maps.push((Method::AttentionRollout, shares.unflatten(1, grid)));
                found.patches = Some(tch::no_grad(|| encoder.map(images, Mode::Eval))?.0);
            }
            (_, _, Some(encoder)) => {
                let map_and_score = |x: &Tensor| -> CoreResult<_> {
                    let (map, features) = encoder.map(x, Mode::Eval)?;
                    Ok((map, similarity.score(&features)?))
                };
                // A direction from the average has no zero of its own: what speaks against it is kept, and ranked below.
                found.maps.push((Method::GradCam, grad_cam(&map_and_score, images, Sign::Both)?));
            }
            _ => {}
        }
        let window = OcclusionConfig::of_image([images.size()[2], images.size()[3]]);
        let _without_gradient = tch::no_grad_guard();
        found.maps.push((Method::Occlusion, occlusion(&score, images, &self.baseline, &window)?));
        Ok(found)
    }
}

/// Maps of all images on the CPU.
struct Maps {
    maps: BTreeMap<Method, Tensor>,
    /// Patches in the colours of their features, `[N, 3, H', W']`.
    colours: Option<Tensor>,
    /// By what share of the gain over the baseline the parts of integrated gradients miss it.
    gap: Option<f64>,
}

impl Maps {
    /// Joins those of batches; the colours of patches are of all images together.
    fn joined(batches: &[BatchMaps]) -> Result<Maps> {
        let joined =
            |all: Vec<&Tensor>| (!all.is_empty()).then(|| Tensor::cat(&all, 0).to_device(Device::Cpu));
        let mut maps = BTreeMap::new();
        for (method, _) in batches.first().map_or(&[][..], |batch| &batch.maps) {
            let all = batches.iter().flat_map(|batch| &batch.maps).filter(|(m, _)| m == method);
            maps.extend(joined(all.map(|(_, map)| map).collect()).map(|maps| (*method, maps)));
        }
        let patches = joined(batches.iter().filter_map(|batch| batch.patches.as_ref()).collect());
        let sums = batches.iter().filter_map(|batch| batch.gaps.as_ref()).map(|gaps| -> Result<Vec<f64>> {
            Ok(Vec::try_from(gaps.sum_dim_intlist(1, false, Kind::Double))?)
        });
        let sums = sums.collect::<Result<Vec<_>>>()?;
        Ok(Maps {
            maps,
            colours: patches.map(|x| patch_colours(&x)).transpose()?.map(|found| found.colours),
            gap: (!sums.is_empty()).then(|| shared_gap(&sums)),
        })
    }

    /// The columns of the page, each with a picture an image.
    fn pictures(&self, size: [i64; 2]) -> Result<Vec<(&'static str, Vec<RgbImage>)>> {
        let pictures =
            |x: &Tensor| (0..x.size()[0]).map(|i| pixels_to_picture(&x.get(i))).collect::<Result<_>>();
        let mut columns = Vec::new();
        for (method, maps) in &self.maps {
            let maps = match method {
                Method::GradCam => interpolate(&shares_of_range(maps), size)?,
                Method::AttentionRollout => repeated(&shares_of_brightest(maps), size),
                Method::IntegratedGradients | Method::Occlusion => shares_of_brightest(maps),
            };
            columns.push((method.name(), pictures(&glow(&maps))?));
        }
        if let Some(colours) = &self.colours {
            columns.push(("patches alike", pictures(&repeated(colours, size))?));
        }
        Ok(columns)
    }
}

/// What is missed as a share of what is gained, of all batches together: an image that gains nearly nothing decides nothing.
fn shared_gap(sums: &[Vec<f64>]) -> f64 {
    let of = |k: usize| sums.iter().map(|of_batch| of_batch[k]).sum::<f64>();
    let (missed, gained) = (of(0), of(1));
    if missed == 0.0 { 0.0 } else { missed / gained }
}

/// `[.., H', W']` with each place as large as its patch of an image.
fn repeated(x: &Tensor, [height, width]: [i64; 2]) -> Tensor {
    let size = x.size();
    let [rows, columns] = [size[size.len() - 2], size[size.len() - 1]];
    x.repeat_interleave_self_int(height / rows, -2, None).repeat_interleave_self_int(
        width / columns,
        -1,
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "[encoder]\nkind = \"convnet\"\nchannels_in = 1\nwidths = [4, 8]\nstrides = [1, 2]\n[objective]\nkind = \"simclr\"";

    fn explained(recipe: &Recipe, seed: u64) -> (Box<dyn ImageNetwork>, Tensor) {
        Key::new(seed).seed_torch();
        let encoder = recipe.encoder.image_encoder(nn::VarStore::new(Device::Cpu).root()).unwrap();
        let images = (Tensor::arange(3 * 144, (Kind::Float, Device::Cpu)) * 0.7).sin().view([3, 1, 12, 12]);
        (encoder, images)
    }

    #[test]
    fn batches_join_to_the_maps_of_all_images() {
        let recipe = Recipe::parse(RECIPE, &[]).unwrap();
        let (encoder, images) = explained(&recipe, 3);
        let explained = Explained {
            encoder: encoder.as_ref(),
            pooling: recipe.encoder.pooling(),
            baseline: images.mean_dim(0, true, None),
            mean: Tensor::zeros([8], (Kind::Float, Device::Cpu)),
        };
        let whole = Maps::joined(&[explained.maps(&images).unwrap()]).unwrap();
        let parts: Vec<_> = images.split(2, 0).iter().map(|x| explained.maps(x).unwrap()).collect();
        let parts = Maps::joined(&parts).unwrap();
        let methods: Vec<_> = whole.maps.keys().copied().collect();
        assert_eq!(methods, [Method::IntegratedGradients, Method::GradCam, Method::Occlusion]);
        for (method, maps) in &whole.maps {
            let side = if *method == Method::GradCam { 6 } else { 12 };
            assert_eq!(maps.size(), [3, side, side], "{method:?}");
            let difference = f64::try_from((maps - &parts.maps[method]).abs().max()).unwrap();
            assert!(difference < 1e-5, "{method:?}: {difference}");
            assert!(f64::try_from(maps.abs().max()).unwrap() > 0.0, "{method:?}");
        }
        assert!((whole.gap.unwrap() - parts.gap.unwrap()).abs() < 1e-5);
        assert!(whole.gap.unwrap() < 0.05 && whole.colours.is_none(), "{:?}", whole.gap);
        let columns = whole.pictures([12, 12]).unwrap();
        assert!(
            columns.iter().all(|(_, all)| all.len() == 3 && all.iter().all(|p| p.dimensions() == (12, 12)))
        );
    }

    #[test]
    fn an_image_like_the_baseline_does_not_decide_the_gap() {
        // Missed by 0.01 of 1.0, and by 0.001 of one ten-millionth.
        let gap = shared_gap(&[vec![0.01, 1.0], vec![0.001, 1e-7]]);
        assert!((gap - 0.011).abs() < 1e-6, "{gap}");
        assert_eq!(shared_gap(&[vec![0.0, 0.0]]), 0.0);
    }

    #[test]
    fn a_patch_is_as_large_as_in_the_image() {
        let x = Tensor::from_slice2(&[[1.0_f32, 2.0]]).unsqueeze(0);
        let found = Vec::<f32>::try_from(repeated(&x, [2, 4]).reshape([-1])).unwrap();
        assert_eq!(found, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    }
}
