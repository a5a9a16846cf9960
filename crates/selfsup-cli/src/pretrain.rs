//! `selfsup pretrain`: a recipe becomes a run.

use crate::images::{self, Images, Stretches};
use crate::model::{ImageModel, Model, TextModel};
use crate::network::ImageNetwork;
use crate::objective::Modality;
use crate::recipe::{Assignment, Recipe};
use crate::text::{self, Texts};
use crate::training::{Continue, Learner, OnDevice, Training, called, plain_path};
use crate::{digest, panics};
use anyhow::{Context, Result};
use selfsup::core::{
    Batches, Device, ImageViews, Mode, Result as CoreResult, Tensor, TokenBatch, TokenEncoder,
};
use selfsup::train::{Existing, Outcome};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A shipped recipe's name (see selfsup list recipes) or a TOML file.
    recipe: String,
    /// A known set's name, or the path of a file or folder; in place of the recipe's.
    #[arg(long, value_name = "NAME_OR_PATH")]
    data: Option<String>,
    /// The folder of the run; runs/RECIPE when left out.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Set a field of the recipe, as in --set train.epochs=30; may be given again.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<Assignment>,
    #[command(flatten)]
    folder: Continue,
    #[command(flatten)]
    machine: crate::Machine,
}

/// Runs the command. Everything that can be refused is refused before the run's folder is touched.
///
/// # Errors
/// One that names the field or file that cannot work, or why the training stopped.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let device = arguments.machine.choose()?;
    let mut recipe = Recipe::read(&arguments.recipe, &arguments.set)?;
    if let Some(data) = &arguments.data {
        recipe.data.source = Some(data.clone());
    }
    crate::judge::check(&recipe)?;
    let stem = Path::new(&arguments.recipe).file_stem().unwrap_or_default();
    let folder = arguments.run.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    let job = Job { recipe, folder, device, existing: arguments.folder.existing() };
    let advice = format!(
        "train.batch_size = {}: try a smaller batch (with train.accumulate), smaller views or a smaller encoder",
        job.recipe.train.batch_size
    );
    panics::caught(&advice, || match job.recipe.objective.modality() {
        Modality::Images => job.on_images(),
        Modality::Text => job.on_text(),
    })
}

/// A training that is to be done.
struct Job {
    recipe: Recipe,
    folder: PathBuf,
    device: Device,
    existing: Existing,
}

impl Job {
    fn on_images(mut self) -> Result<ExitCode> {
        let images = Images::open(&self.recipe.data)?;
        // The run's own recipe tells what its encoder takes, for whoever has not the data.
        let channels = images.train.channels();
        self.recipe.data.channels = Some(channels);
        self.recipe.data.samples = Some(images.train.len());
        self.recipe.encoder = self.recipe.encoder.for_images(channels)?;
        let train = &self.recipe.train;
        let (mut stretches, buffer) = (Vec::new(), self.recipe.data.shuffle_buffer);
        for (end, kinds) in self.recipe.views().stretches(train.epochs)? {
            let (loader, pixels) = (train.loader(), self.recipe.data.pixels);
            let batches = images::training(&images.train, &kinds, loader, buffer, train.seed, pixels)?;
            stretches.push((end, batches));
        }
        let unpack = images::unpack(&self.recipe.views().kinds, channels, self.recipe.data.pixels)?;
        if !self.recipe.encoder.precision().is_native(self.device) {
            eprintln!("note       encoder.precision = \"bfloat16\": this machine emulates it, which is slow");
        }
        let mut model = ImageModel::on_images(&self.recipe, self.device)?;
        let data = json!({
            "name": images.name,
            "train": images.train.len(),
            "channels": channels,
            "digest": digest::of_images(images.train.as_ref())?,
        });
        let names = |batch: &ImageViews| called(&batch.indices, |i| images.train.name(i));
        let labels = images.train.labels().map(|labels| Tensor::from_slice(&labels)); // [samples]
        let device = self.device;
        let to = |batch: &ImageViews| {
            let labels =
                labels.as_ref().map(|labels| labels.index_select(0, &batch.indices).to_device(device));
            Ok(ImageViews { labels, ..unpack.apply(batch.to_device(device))? })
        };
        let batches = OnDevice { batches: Stretches { stretches }, to: &to, names: &names };
        // A view in training size, encoded as in evaluation, shows how the features spread.
        let look = |encoder: &(dyn ImageNetwork + 'static), batch: &ImageViews| {
            let view = &batch.views[0];
            encoder.encode(&view.narrow(0, 0, view.size()[0].min(256)), Mode::Eval)
        };
        self.train(&mut model, &batches, data, &look, &|_| Ok(()))
    }

    fn on_text(mut self) -> Result<ExitCode> {
        let trained = self.folder.join("tokenizer.json");
        let trained = (self.existing == Existing::Resume && trained.is_file()).then_some(trained);
        let settings = self.recipe.text.clone().unwrap_or_default();
        let texts = Texts::open(&self.recipe.data, &settings, trained.as_deref())?;
        self.recipe.encoder = self.recipe.encoder.for_text(text::shape(&self.recipe, &texts.tokenizer))?;
        let loader =
            text::training(&texts.train_sequences, self.recipe.train.loader(), self.recipe.train.seed)?;
        let mut model = TextModel::on_text(&self.recipe, &texts.tokenizer, self.device)?;
        let data = json!({
            "name": texts.name,
            "train": texts.train.documents.len(),
            "tokens": texts.tokenizer.vocab_size(),
            "digest": digest::of_texts(&texts.train),
        });
        let name = |i: usize| {
            let document = texts.train_sequences.documents().get(i).copied();
            document.and_then(|d| texts.train.documents.get(d)).map_or_else(String::new, |d| d.name.clone())
        };
        let names = |batch: &TokenBatch| called(&batch.indices, name);
        let device = self.device;
        let to = |batch: &TokenBatch| Ok(batch.to_device(device));
        let batches = OnDevice { batches: loader, to: &to, names: &names };
        let look = |encoder: &(dyn TokenEncoder + 'static), batch: &TokenBatch| {
            encoder.encode(&batch.tokens, Mode::Eval)
        };
        let keep_tokenizer = |run: &Path| Ok(texts.tokenizer.save(&run.join("tokenizer.json"))?);
        self.train(&mut model, &batches, data, &look, &keep_tokenizer)
    }

    /// Trains, and tells how it ended.
    fn train<E: ?Sized, B: Batches>(
        &self,
        model: &mut Model<E, B::Batch>,
        batches: &B,
        data: Value,
        look: &dyn Fn(&E, &B::Batch) -> CoreResult<Tensor>,
        begin: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<ExitCode> {
        let training = Training {
            folder: &self.folder,
            device: self.device,
            existing: self.existing,
            train: &self.recipe.train,
            optimizer: &self.recipe.optimizer,
            schedule: &self.recipe.schedule,
            config: self.recipe.to_toml()?,
            fingerprint: self.fingerprint(&data)?,
            data: &data,
        };
        let Model { store, encoder, objective, .. } = model;
        let learner = Learner { store, encoder: encoder.as_ref(), objective: objective.as_mut() };
        Ok(match training.run(learner, batches, look, begin)? {
            Outcome::Finished | Outcome::Stopped => {
                eprintln!("done; now: selfsup eval {}", self.folder.display());
                ExitCode::SUCCESS
            }
            Outcome::Interrupted(signal) => ExitCode::from(128 + signal as u8),
        })
    }

    /// What a run goes on only with. A source is the same however its path is spelled.
    fn fingerprint(&self, data: &Value) -> Result<Value> {
        let mut recipe = self.recipe.clone();
        recipe.data.source = recipe.data.source.as_deref().map(plain_path);
        recipe.fingerprint(data)
    }
}

/// The recipe of a run, as its folder holds it.
///
/// # Errors
/// When the folder holds no run.
pub fn recipe_of(run: &Path) -> Result<Recipe> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} holds no run: {}", run.display(), path.display()))?;
    if crate::finetune::made(&text) {
        anyhow::bail!(
            "{} is a run of selfsup finetune: its report.json holds what it reaches, and selfsup embed, label, audit, \
             dense, compare and export take it; name one of selfsup pretrain here",
            run.display()
        );
    }
    Recipe::parse(&text, &[]).with_context(|| path.display().to_string())
}
