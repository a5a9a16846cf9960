//! `selfsup pretrain`: a recipe becomes a run.

use crate::images::{self, Images, Stretches};
use crate::model::{ImageModel, Model, TextModel};
use crate::objective::Modality;
use crate::recipe::{Assignment, Recipe};
use crate::text::{self, Texts};
use anyhow::{Context, Result};
use selfsup::core::{
    Batches, Device, Encoder, Error, ImageViews, Mode, Result as CoreResult, Tensor, TokenBatch,
    TokenEncoder, tch,
};
use selfsup::eval::{Verdict, feature_health};
use selfsup::train::optimizer::parameters;
use selfsup::train::{Existing, Logged, Outcome, Parts, RunDir, Schedule, Trainer};
use serde_json::{Value, json};
use std::ops::ControlFlow;
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
    /// Go on where the run in the folder stopped.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Delete the run in the folder and begin anew.
    #[arg(long)]
    overwrite: bool,
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
    let stem = Path::new(&arguments.recipe).file_stem().unwrap_or_default();
    let folder = arguments.run.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    let job = Job { recipe, folder, device, existing: arguments.existing() };
    match job.recipe.objective.modality() {
        Modality::Images => job.on_images(),
        Modality::Text => job.on_text(),
    }
}

impl Arguments {
    fn existing(&self) -> Existing {
        match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        }
    }
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
        self.recipe.encoder = self.recipe.encoder.for_images(channels)?;
        let train = &self.recipe.train;
        let mut stretches = Vec::new();
        for (end, kinds) in self.recipe.views().stretches(train.epochs)? {
            stretches.push((end, images::training(&images.train, &kinds, train.loader(), train.seed)?));
        }
        let mut model = ImageModel::on_images(&self.recipe, self.device)?;
        let data = json!({"name": images.name, "train": images.train.len(), "channels": channels});
        let batches =
            OnDevice { batches: Stretches { stretches }, device: self.device, to: ImageViews::to_device };
        // A view in training size, encoded as in evaluation, shows how the features spread.
        let look = |encoder: &(dyn Encoder + 'static), batch: &ImageViews| {
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
        let data = json!({"name": texts.name, "train": texts.train.documents.len(), "tokens": texts.tokenizer.vocab_size()});
        let batches = OnDevice { batches: loader, device: self.device, to: TokenBatch::to_device };
        let look = |encoder: &(dyn TokenEncoder + 'static), batch: &TokenBatch| {
            encoder.encode(&batch.tokens, Mode::Eval)
        };
        let keep_tokenizer = |run: &Path| Ok(texts.tokenizer.save(&run.join("tokenizer.json"))?);
        self.train(&mut model, &batches, data, &look, &keep_tokenizer)
    }

    /// The one way of training, whatever the batches hold. `look` encodes some samples of a batch, for watching over
    /// the features; `begin` puts what else the run needs into its new folder.
    fn train<E: ?Sized, B: Batches>(
        &self,
        model: &mut Model<E, B::Batch>,
        batches: &B,
        data: Value,
        look: &dyn Fn(&E, &B::Batch) -> CoreResult<Tensor>,
        begin: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<ExitCode> {
        let config = self.recipe.train.to_loop();
        let (per_epoch, total) =
            config.steps(batches.batches_per_epoch()).map_err(|e| crate::recipe::inside(e, "train"))?;
        let optimizer = &self.recipe.optimizer;
        let batch_size = self.recipe.train.batch_size as u64;
        let whole_batch = batch_size * config.accumulate;
        let schedule =
            Schedule::new(&self.recipe.schedule, optimizer.base_rate(), whole_batch, per_epoch, total)
                .map_err(|e| crate::recipe::inside(e, "schedule"))?;
        let parameters = parameters(&model.store, &self.recipe.train.fixed_lr)?;
        let optimizer = optimizer.build(parameters).map_err(|e| crate::recipe::inside(e, "optimizer"))?;
        let run = RunDir::open(&self.folder, self.existing)?;
        let mut trainer = Trainer::new(Parts {
            store: &model.store,
            optimizer,
            schedule,
            config,
            seed: self.recipe.train.seed,
            batch_size,
            run: &run,
            fingerprint: self.recipe.fingerprint(&data)?,
        });
        let done = trainer.resume()?;
        if done == 0 {
            run.describe(&self.recipe.to_toml()?, &environment(self.device))?;
            begin(run.path())?;
        }
        let (encoder_size, objective_size) = model.parameters();
        eprintln!("data       {}", describe(&data));
        eprintln!("encoder    {encoder_size} parameters, objective {objective_size}");
        eprintln!(
            "training   {} epochs of {per_epoch} steps on {:?}, {done} of {total} steps done",
            config_epochs(total, per_epoch),
            self.device
        );
        eprintln!("run        {}", self.folder.display());

        let mut warned = false;
        let outcome = trainer.fit(
            model.encoder.as_ref(),
            model.objective.as_mut(),
            batches,
            |logged: Logged<E, B::Batch>| {
                let features = tch::no_grad(|| look(logged.encoder, logged.batch))?;
                let health = feature_health(&features)?;
                logged.metrics.values.insert("feature_std".to_owned(), json!(health.std));
                logged.metrics.values.insert("rank_me".to_owned(), json!(health.rank_me));
                if health.verdict != Verdict::Healthy && !warned {
                    let line = format!("warning: step {}: {}", logged.metrics.step, health.verdict);
                    eprintln!("{line}");
                    run.log(&line)?;
                    warned = true;
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(match outcome {
            Outcome::Finished | Outcome::Stopped => {
                eprintln!("done; now: selfsup eval {}", self.folder.display());
                ExitCode::SUCCESS
            }
            Outcome::Interrupted(signal) => {
                eprintln!("stopped by signal {signal}; the run is saved, --resume goes on with it");
                ExitCode::from(128 + signal as u8)
            }
        })
    }
}

fn config_epochs(total: u64, per_epoch: u64) -> u64 {
    total / per_epoch.max(1)
}

fn describe(data: &Value) -> String {
    let entries = data.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| format!("{name} {}", value.to_string().trim_matches('"')))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the numbers of a run may depend on beside its recipe.
fn environment(device: Device) -> Value {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    json!({
        "selfsup": env!("CARGO_PKG_VERSION"),
        "libtorch": crate::doctor::LIBTORCH,
        "device": format!("{device:?}"),
        "threads": tch::get_num_threads(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "host": host.trim(),
    })
}

/// Batches that are moved to the device as they are taken.
struct OnDevice<B: Batches> {
    batches: B,
    device: Device,
    to: fn(&B::Batch, Device) -> B::Batch,
}

impl<B: Batches> Batches for OnDevice<B> {
    type Batch = B::Batch;

    fn batches_per_epoch(&self) -> u64 {
        self.batches.batches_per_epoch()
    }

    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<B::Batch, Error>> + '_>, Error> {
        let moved = move |batch: CoreResult<B::Batch>| Ok((self.to)(&batch?, self.device));
        Ok(Box::new(self.batches.epoch(epoch, skip)?.map(moved)))
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
    Recipe::parse(&text, &[]).with_context(|| path.display().to_string())
}
