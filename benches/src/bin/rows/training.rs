//! Training steps, and whole epochs of the demo's recipe.

use crate::{Options, Rounds, memory, repeated, timed};
use anyhow::Result;
use selfsup::core::{
    Batches, Device, Encoder, Error, ImageViews, Key, Kind, MlpHeadConfig, Objective, Precision, Site, Step,
    Tensor, nn,
};
use selfsup::data::augment::{ColorJitter, GaussianBlur, ViewConfig, two_views};
use selfsup::data::dataset::{Subset, open_path};
use selfsup::data::sampler::Shuffled;
use selfsup::data::{ImageCollate, ImageSet, Loader, LoaderConfig, Pixels};
use selfsup::encoders::{ConvNet, ConvNetConfig, ResNet, ResNetConfig, Stem, Vit, VitConfig};
use selfsup::objectives::{SimClr, SimClrConfig};
use selfsup::train::optimizer::{AdamW, AdamWConfig, Optimizer, Rate, parameters};
use serde_json::json;
use std::sync::Arc;

/// A network in training.
struct Learner {
    encoder: Box<dyn Encoder>,
    objective: SimClr,
    optimizer: AdamW,
}

impl Learner {
    fn new(row: &str) -> Result<Self> {
        Key::new(0).seed_torch();
        let store = nn::VarStore::new(Device::Cpu);
        let path = store.root() / "encoder";
        let (row, precision) = match row.strip_suffix("-bf16") {
            Some(row) => (row, Precision::Bfloat16),
            None => (row, Precision::Float32),
        };
        let encoder: Box<dyn Encoder> = match row {
            "step-resnet18" => {
                let config = ResNetConfig { stem: Stem::Cifar, precision, ..ResNetConfig::default() };
                Box::new(ResNet::new(path, &config)?)
            }
            "step-vit-tiny" => Box::new(Vit::new(path, &VitConfig { precision, ..VitConfig::tiny(32, 4) })?),
            _ => {
                let config = ConvNetConfig { channels_in: 1, precision, ..ConvNetConfig::default() };
                Box::new(ConvNet::new(path, &config)?)
            }
        };
        let projector = MlpHeadConfig::projector(encoder.dim(), 128);
        let config = SimClrConfig { temperature: 0.5, projector };
        let no_teacher = |_: nn::Path| Err(Error::Other("SimCLR has no teacher".to_owned()));
        let objective = SimClr::new(&Site::new(&store, encoder.as_ref(), 0, no_teacher), &config)?;
        let config = AdamWConfig { lr: 2e-3, weight_decay: 1e-4, ..AdamWConfig::default() };
        let optimizer = AdamW::new(parameters(&store, &[])?, &config)?;
        Ok(Learner { encoder, objective, optimizer })
    }

    /// Returns the loss, so that a run that went wrong shows.
    fn step(&mut self, batch: &ImageViews, step: u64) -> Result<f64> {
        self.optimizer.zero_grad();
        let loss = self.objective.loss(self.encoder.as_ref(), batch, &Step::single(step, 0, 0, 0))?.total;
        loss.backward();
        self.optimizer.step(Rate { scheduled: 2e-3, base: 2e-3 })?;
        Ok(f64::try_from(&loss)?)
    }
}

/// One step after the other on a fixed batch; work is counted in images of the ConvNet's batch, in views of the others'.
///
/// # Errors
/// Those of the objective.
pub fn step(row: &str, options: &Options) -> Result<Rounds> {
    let mut learner = Learner::new(row)?;
    let (images, [height, width, channels], work) = match row {
        "step-convnet" | "step-convnet-bf16" => (256, [28, 28, 1], 256.0),
        _ => (32, [32, 32, 3], 64.0),
    };
    let view =
        || Tensor::randn([images, height, width, channels], (Kind::Float, Device::Cpu)).permute([0, 3, 1, 2]);
    let batch = ImageViews {
        views: vec![view(), view()],
        indices: Tensor::arange(images, (Kind::Int64, Device::Cpu)),
        labels: None,
    };
    repeated(2.0 * options.scale, work, move || learner.step(&batch, 0).map(drop))
}

/// The demo's data and views at full size.
fn demo(options: &Options, images: usize) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    let train = open_path(&options.data.join("fashion-mnist"))?.train;
    let dataset: Arc<dyn ImageSet> = Arc::new(Subset::first(train, images));
    let jitter = ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.0, hue: 0.0, p: 0.8 };
    let config = ViewConfig {
        size: 28,
        scale: [0.2, 1.0],
        grayscale: 0.0,
        jitter,
        blur: GaussianBlur { p: 0.0, ..GaussianBlur::default() },
        mean: vec![0.286],
        std: vec![0.353],
        ..ViewConfig::default()
    };
    let views = two_views(&config, 1)?;
    Ok(Loader::new(
        ImageCollate { dataset, views, pixels: Pixels::Float32 },
        Shuffled { len: images },
        LoaderConfig::default(),
        0,
    )?)
}

/// An epoch from the loader through the step; work is counted in images.
///
/// # Errors
/// Those of the loader and the objective.
pub fn end_to_end(row: &str, options: &Options) -> Result<Rounds> {
    let loader = demo(options, options.scaled(10_000, 256))?;
    let mut learner = Learner::new(row)?;
    let mut epoch = 0;
    Ok(Box::new(move || {
        let mut last = 0.0;
        let mut round = timed((loader.batches_per_epoch() * 256) as f64, || {
            for (step, batch) in loader.epoch(epoch, 0)?.enumerate() {
                last = learner.step(&batch?, epoch * loader.batches_per_epoch() + step as u64)?;
            }
            Ok(())
        })?;
        epoch += 1;
        round.more.insert("loss".to_owned(), json!(last));
        round.more.insert("peak_bytes".to_owned(), json!(memory::peak()?));
        Ok(round)
    }))
}

/// Data, network, one step: the program is timed from outside.
///
/// # Errors
/// Those of the loader and the objective.
pub fn first_step(options: &Options) -> Result<()> {
    let loader = demo(options, 10_000)?;
    let mut learner = Learner::new("step-convnet")?;
    let round = timed(1.0, || {
        if let Some(batch) = loader.epoch(0, 0)?.next() {
            learner.step(&batch?, 0)?;
        }
        Ok(())
    })?;
    crate::answer(round)
}
