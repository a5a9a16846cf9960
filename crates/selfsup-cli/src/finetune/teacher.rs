//! The teacher of a distillation: the classifier of a run of fine-tuning.

use super::recipe::{FinetuneRecipe, encoder_of};
use super::sets::Sets;
use crate::digest;
use crate::evaluate::last_checkpoint;
use crate::model::ImageModel;
use crate::network::ImageNetwork;
use crate::recipe::Weights;
use anyhow::{Context, Result, ensure};
use selfsup::core::{Device, Mode, Result as CoreResult, Tensor, tch};
use selfsup::objectives::Teacher;
use serde_json::Value;
use std::path::Path;
use std::rc::Rc;

/// What a run of fine-tuning says of images.
#[derive(Debug)]
pub struct RunTeacher {
    encoder: Box<dyn ImageNetwork>,
    /// `[C, D]`, in the order of the classes here.
    weight: Tensor,
    /// `[C]`
    bias: Tensor,
    /// What makes of a pixel as the student sees it one as the teacher does: a factor and what is added, `[C, 1, 1]` each.
    pixels: Option<[Tensor; 2]>,
    /// A checksum of its weights.
    digest: Value,
}

impl RunTeacher {
    /// Loads the classifier of a run: the averaged weights of its last checkpoint.
    ///
    /// # Errors
    /// When the folder holds no run of fine-tuning, or one of other classes or of images of other channels.
    pub fn load(run: &Path, recipe: &FinetuneRecipe, sets: &Sets, device: Device) -> Result<RunTeacher> {
        let field = format!("method.teacher = {}", run.display());
        let before = encoder_of(run).with_context(|| field.clone())?;
        let Weights::Averaged { classes } = &before.weights else {
            anyhow::bail!(
                "{field}: a run of selfsup finetune, whose classifier teaches, and not one of pretrain"
            );
        };
        let order: Option<Vec<i64>> = sets.given.classes.iter().map(|class| place(classes, class)).collect();
        let order = order.filter(|order| order.len() == classes.len()).with_context(|| {
            let (its, own) = (classes.join(", "), sets.given.classes.join(", "));
            format!("{field}: the same classes as the labels, {own}; it tells apart {its}")
        })?;
        let (its, own) = (before.data.channels()?, sets.unlabelled.channels());
        ensure!(its == own, "{field}: a run on images of {own} channels, as these are; it saw {its}");
        let view = before.views().kinds.first().cloned().unwrap_or_default().view;
        let pixels = change([&recipe.views.mean, &recipe.views.std], [&view.mean, &view.std], own, device);

        let model = ImageModel::on_images(&before, device)?;
        let weights = last_checkpoint(run).with_context(|| field.clone())?.weights;
        model.load(&weights).with_context(|| field.clone())?;
        let variables = model.store.variables();
        let order = Tensor::from_slice(&order).to_device(device);
        let head = |name: &str| -> Result<Tensor> {
            let found = variables.get(&format!("objective.head.{name}"));
            Ok(found
                .with_context(|| format!("{field}: it has no linear layer"))?
                .detach()
                .index_select(0, &order))
        };
        let digest = digest::of_file(&weights)?;
        Ok(RunTeacher {
            weight: head("weight")?,
            bias: head("bias")?,
            encoder: model.encoder,
            pixels,
            digest,
        })
    }

    /// A checksum of its weights: a run goes on only with the same teacher.
    pub fn digest(&self) -> &Value {
        &self.digest
    }
}

impl Teacher for RunTeacher {
    fn logits(&self, images: &Tensor) -> CoreResult<Tensor> {
        tch::no_grad(|| {
            let images = match &self.pixels {
                Some([factor, shift]) => images * factor + shift,
                None => images.shallow_clone(),
            };
            Ok(self.encoder.encode(&images, Mode::Eval)?.linear(&self.weight, Some(&self.bias)))
        })
    }
}

/// The same teacher for an objective that keeps its own.
#[derive(Clone, Debug)]
pub struct SharedTeacher(pub Rc<RunTeacher>);

impl Teacher for SharedTeacher {
    fn logits(&self, images: &Tensor) -> CoreResult<Tensor> {
        self.0.logits(images)
    }
}

fn place(classes: &[String], class: &str) -> Option<i64> {
    classes.iter().position(|known| known == class).map(|at| at as i64)
}

/// What makes of pixels normalised by a mean and a standard deviation ones that are normalised by others.
fn change(own: [&[f32]; 2], its: [&[f32]; 2], channels: usize, device: Device) -> Option<[Tensor; 2]> {
    let each = |x: &[f32]| -> Tensor {
        let values: Vec<f32> = x.iter().copied().cycle().take(channels).collect();
        Tensor::from_slice(&values).reshape([channels as i64, 1, 1]).to_device(device)
    };
    let ([mean, std], [its_mean, its_std]) = (own.map(each), its.map(each));
    (mean != its_mean || std != its_std).then(|| [&std / &its_std, (&mean - &its_mean) / &its_std])
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::Kind;

    #[test]
    fn pixels_are_normalised_as_the_teacher_has_seen_them() {
        let pixels = (Tensor::arange(24, (Kind::Float, Device::Cpu)) / 24.0).reshape([1, 2, 3, 4]);
        let channel = |values: [f32; 2]| Tensor::from_slice(&values).reshape([2, 1, 1]);
        let seen = (&pixels - 0.5) / 0.25;
        let [factor, shift] = change([&[0.5], &[0.25]], [&[0.3, 0.6], &[0.2, 0.1]], 2, Device::Cpu).unwrap();
        let expected = (&pixels - channel([0.3, 0.6])) / channel([0.2, 0.1]);
        assert!((seen * factor + shift).allclose(&expected, 1e-5, 1e-5, false));
        assert!(change([&[0.5], &[0.25]], [&[0.5, 0.5], &[0.25, 0.25]], 2, Device::Cpu).is_none());
    }
}
