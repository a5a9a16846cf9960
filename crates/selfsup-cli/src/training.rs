//! The one way of training, whatever learns from whatever.

use crate::recipe::{TrainConfig, inside};
use crate::watch;
use anyhow::{Context, Result};
use selfsup::core::state::named_variables;
use selfsup::core::{Batches, Device, Error, Objective, Result as CoreResult, Step, Tensor, nn, tch};
use selfsup::eval::{FeatureHealth, Verdict, feature_health};
use selfsup::train::loggers::read_metrics;
use selfsup::train::optimizer::{decay_by_layer, parameters, scale_rates, without_decay};
use selfsup::train::{
    Existing, Logged, OptimizerConfig, Outcome, Parts, RunDir, Schedule, ScheduleConfig, Trainer,
};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

/// What is to become of a run that the folder holds.
#[derive(Debug, clap::Args)]
pub struct Continue {
    /// Go on where the run in the folder stopped.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Delete the run in the folder and begin anew.
    #[arg(long)]
    pub overwrite: bool,
}

impl Continue {
    /// The same as the run's folder takes it.
    pub fn existing(&self) -> Existing {
        match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        }
    }
}

/// A training that is to be done.
pub struct Training<'a> {
    /// The folder of the run.
    pub folder: &'a Path,
    /// Where it is computed.
    pub device: Device,
    /// What to do with a run that the folder holds.
    pub existing: Existing,
    /// How long and in which portions.
    pub train: &'a TrainConfig,
    /// What moves the parameters.
    pub optimizer: &'a OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: &'a ScheduleConfig,
    /// The run's config.toml.
    pub config: String,
    /// What the run goes on only with.
    pub fingerprint: Value,
    /// What it learns from, in a few words.
    pub data: &'a Value,
}

/// What learns.
pub struct Learner<'a, E: ?Sized, B> {
    /// All variables.
    pub store: &'a nn::VarStore,
    /// The encoder.
    pub encoder: &'a E,
    /// What it learns by.
    pub objective: &'a mut dyn Objective<E, Batch = B>,
}

impl Training<'_> {
    /// Trains to the end, or until a signal. `look` encodes some samples of a batch, for watching over the features; `begin`
    /// puts what else the run needs into its new folder. Everything that can be refused is refused before the folder is
    /// touched.
    ///
    /// # Errors
    /// With the field that cannot work, or why the training stopped.
    pub fn run<E: ?Sized, B: Batches>(
        &self,
        learner: Learner<E, B::Batch>,
        batches: &B,
        look: &dyn Fn(&E, &B::Batch) -> CoreResult<Tensor>,
        begin: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<Outcome> {
        let config = self.train.to_loop();
        let (per_epoch, total) = config.steps(batches.batches_per_epoch()).map_err(|e| inside(e, "train"))?;
        let batch_size = self.train.batch_size as u64;
        let whole_batch = batch_size * config.accumulate;
        let schedule =
            Schedule::new(self.schedule, self.optimizer.base_rate(), whole_batch, per_epoch, total)
                .map_err(|e| inside(e, "schedule"))?;
        let Learner { store, encoder, objective } = learner;
        let mut parameters = parameters(store, &self.train.fixed_lr)?;
        without_decay(&mut parameters, &self.train.no_decay).map_err(|e| inside(e, "train"))?;
        scale_rates(&mut parameters, &self.train.lr_scale).map_err(|e| inside(e, "train"))?;
        if let Some(decay) = self.train.layer_decay {
            decay_by_layer(&mut parameters, "encoder.", decay).map_err(|e| inside(e, "train"))?;
        }
        let optimizer = self.optimizer.build(parameters).map_err(|e| inside(e, "optimizer"))?;
        if self.existing != Existing::Resume {
            let step = Step::single(0, total, 0, self.train.seed);
            rehearse(store, encoder, objective, batches, look, &step).context("the first batch")?;
        }
        let run = RunDir::open(self.folder, self.existing)?;
        let mut trainer = Trainer::new(Parts {
            store,
            optimizer,
            schedule,
            config,
            seed: self.train.seed,
            batch_size,
            run: &run,
            fingerprint: self.fingerprint.clone(),
        });
        let done = trainer.resume()?;
        if done == 0 {
            run.describe(&self.config, &environment(self.device))?;
            begin(run.path())?;
        }
        let (encoder_size, objective_size) = sizes(store);
        eprintln!("data       {}", describe(self.data));
        eprintln!("encoder    {encoder_size} parameters, objective {objective_size}");
        eprintln!(
            "training   {} epochs of {per_epoch} steps on {:?}, {done} of {total} steps done",
            total / per_epoch.max(1),
            self.device
        );
        eprintln!("run        {}", self.folder.display());

        let mut warned = false;
        // A run that goes on has a past.
        let mut lines = read_metrics(run.path())?;
        lines.retain(|line| line.step <= done);
        let mut stood = watch::first_standstill(&lines, self.train.epochs).is_some();
        let outcome = trainer.fit(encoder, objective, batches, |logged: Logged<E, B::Batch>| {
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
            if !stood {
                lines.push(logged.metrics.clone());
                if let Some(stands) = watch::standstill(&lines, self.train.epochs) {
                    let line = format!("warning: step {}: {stands}", logged.metrics.step);
                    logged.progress.say(&line);
                    run.log(&line)?;
                    stood = true;
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Outcome::Interrupted(signal) = outcome {
            eprintln!("stopped by signal {signal}; the run is saved, --resume goes on with it");
        }
        Ok(outcome)
    }
}

/// Computes the loss of the first batch and leaves no trace: what only a batch can show is refused before anything
/// is written.
fn rehearse<E: ?Sized, B: Batches>(
    store: &nn::VarStore,
    encoder: &E,
    objective: &mut dyn Objective<E, Batch = B::Batch>,
    batches: &B,
    look: &dyn Fn(&E, &B::Batch) -> CoreResult<Tensor>,
    step: &Step,
) -> CoreResult<()> {
    let Some(batch) = batches.epoch(0, 0)?.next().transpose()? else { return Ok(()) };
    let variables = store.variables().into_values();
    let buffers: Vec<_> =
        variables.filter(|x| !x.requires_grad()).map(|x| (x.shallow_clone(), x.copy())).collect();
    tch::no_grad(|| {
        match objective.loss(encoder, &batch, step) {
            // The trainer meets it again, names the samples, and knows whether the step may be left out.
            Ok(_) | Err(Error::NonFinite { .. }) => {}
            Err(error) => return Err(error),
        }
        let features = look(encoder, &batch)?;
        let samples = features.size().first().copied().unwrap_or(0);
        if samples < 2 {
            let expected = "at least 2 samples, as the spread of their features is watched";
            return Err(Error::config("train.batch_size", samples, expected));
        }
        health(&features)?;
        for (x, before) in buffers {
            x.shallow_clone().copy_(&before);
        }
        Ok(())
    })
}

/// The numbers of trainable parameters of the encoder and of the objective.
pub fn sizes(store: &nn::VarStore) -> (usize, usize) {
    let count = |prefix: &str| {
        named_variables(store, prefix).values().filter(|x| x.requires_grad()).map(Tensor::numel).sum()
    };
    (count("encoder"), count("objective"))
}

/// A path without what can be left out: a source is the same however its path is spelled.
pub fn plain_path(source: &str) -> String {
    let parts = Path::new(source).components().filter(|part| *part != Component::CurDir);
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
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
pub fn called(indices: &Tensor, name: impl Fn(usize) -> String) -> Vec<String> {
    let indices = Vec::<i64>::try_from(indices.to_device(Device::Cpu)).unwrap_or_default();
    indices.into_iter().map(|i| name(i as usize)).collect()
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
pub struct OnDevice<'a, B: Batches> {
    /// Where they come from.
    pub batches: B,
    /// Moves one.
    pub to: &'a dyn Fn(&B::Batch) -> CoreResult<B::Batch>,
    /// What to call its samples.
    pub names: &'a dyn Fn(&B::Batch) -> Vec<String>,
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
