//! The arms on frozen features.

use super::Setting;
use crate::features;
use crate::images;
use crate::model::ImageModel;
use crate::recipe::EvalConfig;
use anyhow::Result;
use selfsup::core::{Features, Tensor};
use selfsup::eval::{FewLabelProbe, LinearProbe};

/// Labels a class from which the strength of the classifier is chosen on a part of them; fewer cannot choose one.
const CHOOSING: usize = 20;

/// The samples as the run's encoder sees them.
pub struct Eyes {
    /// Those that may be labelled.
    pub train: Features,
    /// Those that are judged by.
    pub test: Features,
}

impl Eyes {
    /// Encodes all samples.
    ///
    /// # Errors
    /// When the checkpoint does not fit, or an image cannot be read.
    pub fn open(setting: &Setting) -> Result<Eyes> {
        let recipe = &setting.recipe;
        let model = ImageModel::on_images(recipe, setting.device)?;
        model.load(&setting.weights)?;
        let encode = |set, labels: &[i64]| -> Result<Features> {
            let view = images::plain_view(recipe, setting.images.train.channels())?;
            let batches = images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
            let x = features::of_images(model.encoder.as_ref(), &batches, setting.device)?;
            Ok(Features::new(x, Tensor::from_slice(labels), setting.classes as i64)?)
        };
        Ok(Eyes {
            train: encode(&setting.images.train, &setting.train)?,
            test: encode(&setting.images.test, &setting.test)?,
        })
    }

    /// The test accuracy of a linear classifier that these labels make.
    ///
    /// # Errors
    /// When they are of one class.
    pub fn linear(&self, labelled: &[i64], config: &EvalConfig) -> Result<f64> {
        if labelled.len() < CHOOSING * self.train.classes as usize {
            let probe = FewLabelProbe::new(config.few_label.clone())?;
            return Ok(probe.fit(&self.train, labelled)?.accuracy(&self.test)?);
        }
        let labelled = self.train.select(&Tensor::from_slice(labelled));
        Ok(LinearProbe::new(config.linear.clone())?.run(&labelled, &self.test)?.accuracy)
    }
}
