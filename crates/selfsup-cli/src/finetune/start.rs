//! The first weights on a pretrained encoder: its own, and for the classifier those of a linear probe on the few labels.
//!
//! A linear layer that begins at random sends gradients into the encoder that undo what it has learned before the layer
//! knows anything (Kumar et al. 2022, *Fine-tuning can distort pretrained features and underperform out-of-distribution*,
//! who probe first and fine-tune then). And the first pseudo-labels are as good as the probe instead of guesses.

use super::recipe::{FinetuneRecipe, Head, encoder_of};
use super::sets::Sets;
use super::views;
use crate::network::ImageNetwork;
use crate::projected::Projected;
use crate::{features, images};
use anyhow::{Context, Result, ensure};
use selfsup::core::state::named_variables;
use selfsup::core::{Device, Features, Result as CoreResult, Tensor, nn, tch};
use selfsup::data::ImageSet;
use selfsup::eval::{Logistic, LogisticConfig, Standardiser};
use std::path::Path;
use std::sync::Arc;

/// Gives the linear layer and its average the weights that the recipe asks for. Features are standardised by all unlabelled
/// images for the probe, and the layer takes that back.
///
/// # Errors
/// When an image cannot be read, or the strength of the probe cannot work.
pub fn set_head(
    recipe: &FinetuneRecipe,
    sets: &Sets,
    encoder: &dyn ImageNetwork,
    store: &nn::VarStore,
    device: Device,
) -> Result<()> {
    if recipe.from.is_none() || recipe.start.head == Head::Random {
        return Ok(());
    }
    let encode = |set: &Arc<dyn ImageSet>| -> Result<Tensor> {
        let view = views::plain(recipe, set.channels())?;
        let batches = images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
        features::of_images(encoder, &batches, device)
    };
    let (all, labelled) = (encode(&sets.unlabelled)?, encode(&sets.labelled)?); // [N, D], [B, D]
    let labels = Tensor::from_slice(&sets.given.labels);
    let labelled = Features::new(labelled, labels, sets.given.classes.len() as i64)?;
    let (weight, bias) =
        probe(&all, &labelled, recipe.start.c).map_err(|e| crate::recipe::inside(e, "start"))?;
    let variables = store.variables();
    tch::no_grad(|| {
        for (name, value) in [("weight", &weight), ("bias", &bias)] {
            for place in ["objective.head", "objective.teacher.head"] {
                let variable = variables.get(&format!("{place}.{name}")).context("the linear layer")?;
                variable.shallow_clone().copy_(value);
            }
        }
        Ok(())
    })
}

/// The linear layer `[C, D]`, `[C]` of a probe on labelled features, which are standardised by all. A feature that does not
/// vary among all keeps its scale.
fn probe(all: &Tensor, labelled: &Features, c: f64) -> CoreResult<(Tensor, Tensor)> {
    let standardiser = Standardiser::of(all);
    let x = standardiser.apply(&labelled.x);
    let given = Features::new(x, labelled.labels.shallow_clone(), labelled.classes)?;
    let probe = Logistic::fit(&given, c, &LogisticConfig::default())?;
    Ok(standardiser.unfold(&probe.weight, &probe.bias))
}

/// Fills the encoder with the weights of a run's last checkpoint, and the layers of the run's projector that stay on it with
/// those.
///
/// # Errors
/// When the run has no checkpoint, or one of another encoder.
pub fn load_encoder(run: &Path, recipe: &FinetuneRecipe, store: &nn::VarStore) -> Result<()> {
    let weights = encoder_of(run)?.weights;
    let last = crate::evaluate::last_checkpoint(run)?;
    let mut variables = named_variables(store, "");
    ensure!(!variables.is_empty(), "encoder: it has no weights to be filled");
    if recipe.start.projector_layers > 0 {
        let layers = format!("encoder.{}.", Projected::LAYERS);
        let before = |name: String| match name.strip_prefix(&layers) {
            Some(below) => format!("objective.projector.{below}"),
            None => name,
        };
        variables = variables.into_iter().map(|(name, x)| (before(name), x)).collect();
    }
    weights
        .load_encoder(&last.weights, variables)
        .with_context(|| format!("--from {}: the encoder is not that of config.toml", run.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finetune::method::Place;
    use selfsup::core::{Kind, Mode};
    use selfsup::data::GivenLabels;
    use selfsup::data::dataset::ArrayImages;

    #[test]
    fn a_feature_that_is_dead_among_all_images_is_not_blown_up() {
        let waves = |n: i64| (Tensor::arange(n * 2, (Kind::Float, Device::Cpu)) * 0.9).sin().reshape([n, 2]);
        let column = |n: i64, value: f64| Tensor::full([n, 1], value, (Kind::Float, Device::Cpu));
        let all = Tensor::cat(&[waves(40), column(40, 0.25)], 1);
        // Labelled images from elsewhere, of which one wakes it.
        let mut x = Tensor::cat(&[waves(6), column(6, 0.25)], 1);
        let _ = x.get(0).get(2).fill_(0.3);
        x = x.copy();
        let labelled = Features::new(x, Tensor::from_slice(&[0_i64, 1, 0, 1, 0, 1]), 2).unwrap();
        let (weight, bias) = probe(&all, &labelled, 1.0).unwrap();
        let largest = |x: &Tensor| f64::try_from(x.abs().max()).unwrap();
        assert!(largest(&weight.select(1, 2)) < 1.0 && largest(&bias) < 10.0, "{weight} {bias}");
        assert!(largest(&weight.select(1, 0)) > 0.01);
    }

    #[test]
    fn the_layer_says_what_the_probe_says() {
        let settings = ["encoder.widths=[6]", "encoder.strides=[1]", "views.size=6", "start.c=10000.0"];
        let settings: Vec<_> = settings.iter().map(|s| s.parse().unwrap()).collect();
        let mut recipe = FinetuneRecipe::read("fixmatch", None, &settings).unwrap();
        recipe.encoder = recipe.encoder.for_images(1).unwrap();
        recipe.from = Some("runs/before".into());
        let pixels = (0..40 * 36).map(|i: u32| (i * i * 37 % 251) as u8).collect();
        let set: Arc<dyn ImageSet> = Arc::new(ArrayImages::new(pixels, [6, 6, 1]).unwrap());
        let labelled = images::part(&set, vec![1, 5, 9, 22, 30, 31]).unwrap();
        let given = GivenLabels {
            indices: (0..6).collect(),
            labels: vec![0, 1, 2, 2, 1, 0],
            weights: vec![1.0; 6],
            reasons: vec![None; 6],
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..GivenLabels::default()
        };
        let sets = Sets {
            name: String::new(),
            unlabelled: set,
            truth: None,
            labelled: Arc::clone(&labelled),
            given,
            test: None,
            held_out: false,
        };
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = recipe.encoder.image_encoder(store.root() / "encoder").unwrap();
        let site = recipe.encoder.site(&store, encoder.as_ref(), 40);
        let objective =
            recipe.method.build(&Place { site: &site, classes: 3, samples: 40, teacher: None }).unwrap();
        drop(site);
        set_head(&recipe, &sets, encoder.as_ref(), &store, Device::Cpu).unwrap();
        let view = views::plain(&recipe, 1).unwrap();
        let batch = images::plain(&labelled, view, 6, 1).unwrap();
        let batch = selfsup::core::Batches::epoch(&batch, 0, 0).unwrap().next().unwrap().unwrap();
        // So few labels in as many dimensions are told apart by a probe of this strength.
        let said = objective.classify(&batch.views[0]).unwrap();
        assert_eq!(Vec::<i64>::try_from(said.argmax(1, false)).unwrap(), [0, 1, 2, 2, 1, 0]);
        let variables = store.variables();
        let head = |name: &str| variables[&format!("objective.head.{name}")].shallow_clone();
        let features = encoder.encode(&batch.views[0], Mode::Eval).unwrap();
        let learned = features.linear(&head("weight"), Some(&head("bias")));
        assert!(learned.allclose(&said, 0.0, 1e-5, false));
        let before = head("weight").copy();
        recipe.start.head = Head::Random;
        set_head(&recipe, &sets, encoder.as_ref(), &store, Device::Cpu).unwrap();
        assert_eq!(head("weight"), before);
    }
}
