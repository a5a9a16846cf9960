//! `selfsup pretrain`: a recipe becomes a run.

use crate::images::{self, Images, Stretches};
use crate::model::{ImageModel, Model, TextModel};
use crate::network::ImageNetwork;
use crate::objective::Modality;
use crate::recipe::{Assignment, Recipe};
use crate::text::{self, Texts};
use crate::{digest, panics};
use anyhow::{Context, Result};
use selfsup::core::{
    Batches, Device, Error, ImageViews, Mode, Result as CoreResult, Step, Tensor, TokenBatch, TokenEncoder,
    tch,
};
use selfsup::eval::{FeatureHealth, Verdict, feature_health};
use selfsup::train::optimizer::parameters;
use selfsup::train::{Existing, Logged, Outcome, Parts, RunDir, Schedule, Trainer};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
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
    crate::judge::check(&recipe)?;
    let stem = Path::new(&arguments.recipe).file_stem().unwrap_or_default();
    let folder = arguments.run.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    let job = Job { recipe, folder, device, existing: arguments.existing() };
    let advice = format!(
        "train.batch_size = {}: try a smaller batch (with train.accumulate), smaller views or a smaller encoder",
        job.recipe.train.batch_size
    );
    panics::caught(&advice, || match job.recipe.objective.modality() {
        Modality::Images => job.on_images(),
        Modality::Text => job.on_text(),
    })
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
        if self.existing != Existing::Resume {
            self.rehearse(model, batches, look, total).context("the first batch")?;
        }
        let run = RunDir::open(&self.folder, self.existing)?;
        let mut trainer = Trainer::new(Parts {
            store: &model.store,
            optimizer,
            schedule,
            config,
            seed: self.recipe.train.seed,
            batch_size,
            run: &run,
            fingerprint: self.fingerprint(&data)?,
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
                let health = health(&features)?;
                let values = &mut logged.metrics.values;
                values.insert("feature_std".to_owned(), json!(health.as_ref().map(|h| h.std)));
                values.insert("rank_me".to_owned(), json!(health.as_ref().map(|h| h.rank_me)));
                let ill = match health.map(|h| h.verdict) {
                    Some(Verdict::Healthy) => None,
                    Some(verdict) => Some(verdict.to_string()),
                    None => Some("the features of the batch are not finite".to_owned()),
                };
                if let Some(ill) = ill.filter(|_| !warned) {
                    let line = format!("warning: step {}: {ill}", logged.metrics.step);
                    logged.progress.say(&line);
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

    /// Computes the loss of the first batch and leaves no trace: what only a batch can show is refused before anything
    /// is written.
    fn rehearse<E: ?Sized, B: Batches>(
        &self,
        model: &mut Model<E, B::Batch>,
        batches: &B,
        look: &dyn Fn(&E, &B::Batch) -> CoreResult<Tensor>,
        total: u64,
    ) -> CoreResult<()> {
        let Some(batch) = batches.epoch(0, 0)?.next().transpose()? else { return Ok(()) };
        let variables = model.store.variables().into_values();
        let buffers: Vec<_> =
            variables.filter(|x| !x.requires_grad()).map(|x| (x.shallow_clone(), x.copy())).collect();
        tch::no_grad(|| {
            let step = Step::single(0, total, 0, self.recipe.train.seed);
            model.objective.loss(model.encoder.as_ref(), &batch, &step)?;
            health(&look(model.encoder.as_ref(), &batch)?)?;
            for (x, before) in buffers {
                x.shallow_clone().copy_(&before);
            }
            Ok(())
        })
    }

    /// What a run goes on only with. A source is the same however its path is spelled.
    fn fingerprint(&self, data: &Value) -> Result<Value> {
        let mut recipe = self.recipe.clone();
        if let Some(source) = &mut recipe.data.source {
            let parts = Path::new(source.as_str()).components().filter(|part| *part != Component::CurDir);
            *source = parts.collect::<PathBuf>().to_string_lossy().into_owned();
        }
        recipe.fingerprint(data)
    }
}

/// How the features spread; none when they are not finite. To stop then is the trainer's guard's business, which knows
/// whether the step may be left out.
fn health(features: &Tensor) -> CoreResult<Option<FeatureHealth>> {
    match feature_health(features) {
        Ok(health) => Ok(Some(health)),
        Err(Error::NonFinite { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The names of the samples at `indices`.
fn called(indices: &Tensor, name: impl Fn(usize) -> String) -> Vec<String> {
    let indices = Vec::<i64>::try_from(indices.to_device(Device::Cpu)).unwrap_or_default();
    indices.into_iter().map(|i| name(i as usize)).collect()
}

fn config_epochs(total: u64, per_epoch: u64) -> u64 {
    total / per_epoch.max(1)
}

fn describe(data: &Value) -> String {
    let entries = data.as_object().into_iter().flatten();
    entries
        .filter(|(_, value)| !value.is_object())
        .map(|(name, value)| format!("{name} {}", value.to_string().trim_matches('"')))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the numbers of a run may depend on beside its recipe.
fn environment(device: Device) -> Map<String, Value> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let entries = [
        ("selfsup", json!(env!("CARGO_PKG_VERSION"))),
        ("libtorch", json!(crate::doctor::LIBTORCH)),
        ("device", json!(format!("{device:?}"))),
        ("threads", json!(tch::get_num_threads())),
        ("cores", json!(std::thread::available_parallelism().map_or(0, usize::from))),
        ("system", json!(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ("host", json!(host.trim())),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// Batches that are moved to the device as they are taken, with what else an objective wants to know of them.
struct OnDevice<'a, B: Batches> {
    batches: B,
    to: &'a dyn Fn(&B::Batch) -> CoreResult<B::Batch>,
    names: &'a dyn Fn(&B::Batch) -> Vec<String>,
}

impl<B: Batches> Batches for OnDevice<'_, B> {
    type Batch = B::Batch;

    fn batches_per_epoch(&self) -> u64 {
        self.batches.batches_per_epoch()
    }

    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<B::Batch, Error>> + '_>, Error> {
        let moved = move |batch: CoreResult<B::Batch>| (self.to)(&batch?);
        Ok(Box::new(self.batches.epoch(epoch, skip)?.map(moved)))
    }

    fn names(&self, batch: &B::Batch) -> Vec<String> {
        (self.names)(batch)
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
