//! `selfsup compare --cka`: how alike the layers of two runs are, on the same test images.

use crate::evaluate::last_checkpoint;
use crate::images::{self, Images};
use crate::model::ImageModel;
use crate::objective::Modality;
use crate::pretrain::recipe_of;
use crate::recipe::Whose;
use crate::{digest, features, report};
use anyhow::{Context, Result, ensure};
use selfsup::core::{Device, Tensor};
use selfsup::eval::{CkaMap, Estimator, cka_map};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Test images that layers are compared on, at most.
pub const IMAGES: usize = 2048;

/// Every layer of a run against every layer of another.
#[derive(Debug, Serialize)]
pub struct LayerPair {
    /// The run whose layers are the rows.
    pub first: String,
    /// The run whose layers are the columns.
    pub second: String,
    /// How alike they are.
    #[serde(flatten)]
    pub map: CkaMap,
}

/// The layers of a run on some test images.
pub struct Seen {
    name: String,
    /// Tells test images apart.
    digest: Value,
    layers: Vec<(String, Tensor)>,
}

impl Seen {
    /// Encodes test images of a run's data by its last checkpoint, by the weights that its report is about.
    ///
    /// # Errors
    /// When the folder holds no run on images, or its data cannot be read.
    pub fn of(run: &Path, name: &str, whose: Whose, device: Device) -> Result<Self> {
        let mut recipe = recipe_of(run)?;
        ensure!(
            recipe.objective.modality() == Modality::Images,
            "{}: --cka looks at runs on images",
            run.display()
        );
        let sets = Images::open(&recipe.data)?;
        let weights = last_checkpoint(run)?.weights;
        recipe.weights = recipe.weights.of(whose, &weights)?;
        let model = ImageModel::on_images(&recipe, device)?;
        model.load(&weights)?;
        let some = images::some(&sets.test, IMAGES)?;
        let view = images::plain_view(&recipe, some.channels())?;
        let batches = images::plain(&some, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
        let layers = features::layers(model.encoder.as_ref(), &batches, device)?;
        // Two encoders may take the same images, one in grey and one in colour.
        let stored = images::some(&sets.as_stored[1], IMAGES)?;
        Ok(Seen { name: name.to_owned(), digest: digest::of_images(stored.as_ref())?, layers })
    }
}

/// Compares every two runs.
///
/// # Errors
/// When their test images are others, or a layer says the same of all images.
pub fn pairs(runs: &[Seen]) -> Result<Vec<LayerPair>> {
    let mut pairs = Vec::new();
    for (i, first) in runs.iter().enumerate() {
        for second in &runs[i + 1..] {
            ensure!(
                first.digest == second.digest,
                "{}: its test images are others than those of {}",
                second.name,
                first.name
            );
            let map = cka_map(&first.layers, &second.layers, Estimator::Debiased)
                .with_context(|| format!("the layers of {} and {}", first.name, second.name))?;
            pairs.push(LayerPair { first: first.name.clone(), second: second.name.clone(), map });
        }
    }
    Ok(pairs)
}

impl LayerPair {
    /// For every layer of the first run the one of the second that is most like it, as lines.
    pub fn table(&self) -> String {
        let mut lines =
            vec![format!("{:<40}{:<34}{:>6}", self.first, format!("most like, of {}", self.second), "CKA")];
        for (row, values) in self.map.rows.iter().zip(&self.map.values) {
            let best = values.iter().zip(&self.map.columns).max_by(|a, b| a.0.total_cmp(b.0));
            if let Some((value, column)) = best {
                lines.push(format!("{row:<40}{column:<34}{value:>6.3}"));
            }
        }
        lines.join("\n")
    }

    /// The heat map of the page.
    pub fn figure(&self) -> report::Layers {
        let CkaMap { rows, columns, values, samples, .. } = self.map.clone();
        let reading = format!(
            "Linear CKA on {samples} test images (Kornblith et al. 2019; debiased, Nguyen et al. 2021): 1 where a layer of {} is one of \
             {}, rotated and scaled, 0 where they have nothing in common. A dark diagonal: both build their features in the same \
             order.",
            self.first, self.second
        );
        report::Layers {
            first: self.first.clone(),
            second: self.second.clone(),
            rows,
            columns,
            values,
            reading,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::Kind;

    fn seen(name: &str, digest: &str, turn: f64) -> Seen {
        let i = Tensor::arange(120, (Kind::Double, Device::Cpu));
        let x = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([30, 4]).to_kind(Kind::Float);
        let other = (i.pow_tensor_scalar(1.7) * turn).cos().reshape([30, 4]).to_kind(Kind::Float);
        Seen {
            name: name.into(),
            digest: digest.into(),
            layers: vec![("conv".into(), x), ("features".into(), other)],
        }
    }

    #[test]
    fn every_two_runs_have_a_map() {
        let found = pairs(&[seen("a", "x", 0.3), seen("b", "x", 0.9), seen("c", "x", 0.3)]).unwrap();
        let names: Vec<(&str, &str)> = found.iter().map(|p| (p.first.as_str(), p.second.as_str())).collect();
        assert_eq!(names, [("a", "b"), ("a", "c"), ("b", "c")]);
        assert!((found[0].map.values[0][0] - 1.0).abs() < 1e-6 && found[0].map.values[1][1] < 0.5);
        let table = found[1].table();
        assert!(table.contains("features") && table.matches("1.000").count() == 2, "{table}");
        let json = serde_json::to_value(&found[0]).unwrap();
        assert_eq!((json["first"].as_str(), json["samples"].as_i64()), (Some("a"), Some(30)));
        let figure = found[0].figure();
        assert_eq!((figure.rows.len(), figure.values.len()), (2, 2));
        assert!(figure.reading.contains("30 test images"));
    }

    #[test]
    fn other_images_and_layers_that_never_vary_are_refused() {
        let error = pairs(&[seen("a", "x", 0.3), seen("b", "y", 0.3)]).err().unwrap().to_string();
        assert_eq!(error, "b: its test images are others than those of a");
        let mut flat = seen("b", "x", 0.3);
        flat.layers[0].1 = flat.layers[0].1.ones_like();
        let error = pairs(&[seen("a", "x", 0.3), flat]).err().unwrap();
        assert!(format!("{error:#}").contains("conv = the same for all samples"), "{error:#}");
    }
}
