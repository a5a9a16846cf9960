//! The training loop, with what makes it safe to leave alone: checkpoints, resumption, signals, and a guard against
//! numbers that are not finite.

use crate::checkpoint::{self, Checkpoints, Pointer, TrainState};
use crate::gradient::{Clip, gradient_norm};
use crate::loggers::{EventFile, Metrics, MetricsFile, Progress};
use crate::optimizer::{Optimizer, Rate};
use crate::run_dir::RunDir;
use crate::schedule::Schedule;
use crate::signals::Signals;
use selfsup_core::state::named_variables;
use selfsup_core::{
    Batches, Communicator, Error, Key, Loss, Named, Objective, Result, SingleProcess, Step, Tensor,
    TensorExt, nn, tch,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Instant;

/// Settings of the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoopConfig {
    /// The epochs of the run.
    pub epochs: u64,
    /// Batches whose gradients are averaged into one optimizer step. An incomplete group at an epoch's end is left out.
    pub accumulate: u64,
    /// How long gradients may be; longer ones are scaled down.
    pub clip: Option<Clip>,
    /// Steps between two lines of the log.
    pub log_every: u64,
    /// Steps between two checkpoints within an epoch; there is one at every epoch's end all the same.
    pub checkpoint_every: Option<u64>,
    /// The newest checkpoints that are kept, beside `last` and `best`.
    pub keep: usize,
    /// Steps that may be left out because a loss or gradient was not finite, before the run stops.
    pub max_skipped: u64,
}

impl Default for LoopConfig {
    fn default() -> Self {
        LoopConfig {
            epochs: 100,
            accumulate: 1,
            clip: None,
            log_every: 50,
            checkpoint_every: None,
            keep: 1,
            max_skipped: 0,
        }
    }
}

impl LoopConfig {
    /// The optimizer steps of an epoch and of the run.
    ///
    /// # Errors
    /// [`Error::Config`] when a number is zero that must not be, or an epoch has no step.
    pub fn steps(&self, batches_per_epoch: u64) -> Result<(u64, u64)> {
        for (field, value) in
            [("epochs", self.epochs), ("accumulate", self.accumulate), ("log_every", self.log_every)]
        {
            if value == 0 {
                return Err(Error::config(field, 0, "at least 1"));
            }
        }
        if self.checkpoint_every == Some(0) {
            return Err(Error::config("checkpoint_every", 0, "at least 1, or absent"));
        }
        if let Some(clip) = self.clip {
            clip.check()?;
        }
        let per_epoch = batches_per_epoch / self.accumulate;
        if per_epoch == 0 {
            let expected = format!("at most the {batches_per_epoch} batches of an epoch");
            return Err(Error::config("accumulate", self.accumulate, expected));
        }
        match per_epoch.checked_mul(self.epochs) {
            Some(total) => Ok((per_epoch, total)),
            None => Err(Error::config("epochs", self.epochs, format!("at most {}", u64::MAX / per_epoch))),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// A signal asked to stop; a checkpoint is written, and the program should exit with 128 + this number.
    Interrupted(i32),
    /// The caller asked to stop; a checkpoint is written.
    Stopped,
}

/// What a caller hears of at every logged step.
#[derive(Debug)]
pub struct Logged<'a, E: ?Sized, B> {
    /// The encoder.
    pub encoder: &'a E,
    /// The last batch.
    pub batch: &'a B,
    /// The line of the log so far; what is added here is written with it.
    pub metrics: &'a mut Metrics,
    /// What is on the terminal; a line is said through it.
    pub progress: &'a Progress,
}

/// A run: network, optimizer, place on disk, and how far it is.
pub struct Trainer<'a> {
    store: &'a nn::VarStore,
    optimizer: Box<dyn Optimizer>,
    base_weight_decay: f64,
    schedule: Schedule,
    config: LoopConfig,
    seed: u64,
    batch_size: u64,
    run: &'a RunDir,
    checkpoints: Checkpoints,
    state: TrainState,
    comm: &'a dyn Communicator,
}

/// The parts of a [`Trainer`].
pub struct Parts<'a> {
    /// All variables: encoder, objective, teacher.
    pub store: &'a nn::VarStore,
    /// Changes the trainable ones.
    pub optimizer: Box<dyn Optimizer>,
    /// The learning rate and the weight decay of every step.
    pub schedule: Schedule,
    /// The loop's settings.
    pub config: LoopConfig,
    /// The run's seed.
    pub seed: u64,
    /// The samples of a batch, for the rate in the log.
    pub batch_size: u64,
    /// Where the run is kept.
    pub run: &'a RunDir,
    /// Everything that decides what the run computes: a checkpoint is taken up only by a run that has the same.
    pub fingerprint: Value,
}

impl<'a> Trainer<'a> {
    /// A run at its beginning.
    pub fn new(parts: Parts<'a>) -> Self {
        let Parts { store, mut optimizer, schedule, config, seed, batch_size, run, fingerprint } = parts;
        let checkpoints = Checkpoints::new(run.path());
        let state = TrainState::new(fingerprint);
        Trainer {
            store,
            base_weight_decay: *optimizer.weight_decay(),
            optimizer,
            schedule,
            config,
            seed,
            batch_size,
            run,
            checkpoints,
            state,
            comm: &SingleProcess,
        }
    }

    /// Takes up the last checkpoint of the run, if there is one. Returns the steps that are done.
    ///
    /// # Errors
    /// When the checkpoint is damaged, of another network, or was made with other settings; the message names what
    /// differs, and nothing has changed.
    pub fn resume(&mut self) -> Result<u64> {
        if let Some(folder) = self.checkpoints.find(Pointer::Last)? {
            checkpoint::check_fingerprint(
                &checkpoint::verify(&folder)?.fingerprint,
                &self.state.fingerprint,
            )?;
            self.state =
                checkpoint::load(&folder, &named_variables(self.store, ""), &self.optimizer.state())?;
            self.state.files.clear();
        }
        Ok(self.state.step)
    }

    /// Trains to the end of the run, or until a signal or `observe` stops it. `observe` hears of every logged step and
    /// may add numbers to its line.
    ///
    /// # Errors
    /// Those of the batches, the objective and the disk, and [`Error::NonFinite`] when a loss, gradient or weight is not
    /// finite: `last` and `best` are then what they were, and `replay/` holds the parameters, without the step's update
    /// when it was the step that went wrong, and the samples' names. Its buffers (BatchNorm's statistics) are those
    /// that the forward pass left, unless `max_skipped` allows to skip, which keeps the former ones.
    pub fn fit<E: ?Sized, B: Batches>(
        &mut self,
        encoder: &E,
        objective: &mut dyn Objective<E, Batch = B::Batch>,
        batches: &B,
        mut observe: impl FnMut(Logged<E, B::Batch>) -> Result<ControlFlow<()>>,
    ) -> Result<Outcome> {
        let (per_epoch, total) = self.config.steps(batches.batches_per_epoch())?;
        let signals = Signals::watch()?;
        let mut log = Log::open(self, total)?;
        while self.state.step < total {
            let epoch = self.state.step / per_epoch;
            let mut stream = batches.epoch(epoch, self.state.step % per_epoch * self.config.accumulate)?;
            for _ in self.state.step % per_epoch..per_epoch {
                let step = Step { step: self.state.step, total, epoch, seed: self.seed, comm: self.comm };
                let batch = self.step(encoder, objective, batches, &mut stream, &step, &log.progress)?;
                let mut stop = signals.caught().map(Outcome::Interrupted);
                if self.state.step.is_multiple_of(self.config.log_every) || self.state.step == total {
                    let mut metrics = log.line(self, &step, per_epoch);
                    let progress = &log.progress;
                    let logged = Logged { encoder, batch: &batch, metrics: &mut metrics, progress };
                    if observe(logged)?.is_break() {
                        stop = stop.or(Some(Outcome::Stopped));
                    }
                    self.write(&mut log, &metrics)?;
                }
                let due =
                    self.config.checkpoint_every.is_some_and(|every| self.state.step.is_multiple_of(every));
                if due || stop.is_some() || self.state.step.is_multiple_of(per_epoch) {
                    self.checkpoint(&mut log)?;
                }
                log.progress.update(self.state.step, &log.note);
                if let Some(outcome) = stop.filter(|_| self.state.step < total) {
                    return Ok(outcome);
                }
            }
        }
        log.progress.finish();
        Ok(Outcome::Finished)
    }

    /// One optimizer step: gradients of `accumulate` batches, the guard, the update. Returns the last batch.
    fn step<E: ?Sized, B: Batches>(
        &mut self,
        encoder: &E,
        objective: &mut dyn Objective<E, Batch = B::Batch>,
        batches: &B,
        stream: &mut dyn Iterator<Item = Result<B::Batch>>,
        step: &Step,
        progress: &Progress,
    ) -> Result<B::Batch> {
        let buffers = self.buffers_before_a_step_that_may_be_skipped();
        self.optimizer.zero_grad();
        let (mut last, mut broken) = (None, None);
        let mut sums = Vec::new();
        for micro in 0..self.config.accumulate {
            let batch =
                stream.next().unwrap_or_else(|| Err(Error::Other("an epoch ended early".to_owned())))?;
            let place = Key::new(self.seed).with(MODEL_DRAWS).with(step.step).with(step.comm.rank() as u64);
            place.with(micro).seed_torch();
            match objective.loss(encoder, &batch, step) {
                Ok(Loss { total, parts }) => {
                    (&total / self.config.accumulate as f64).backward();
                    sums.push((Cow::from("loss"), total.detach()));
                    sums.extend(parts);
                }
                // Some methods meet such a number before there is a loss: it is the same to whoever trains.
                Err(Error::NonFinite { what, .. }) => broken = Some(what),
                Err(error) => return Err(error),
            }
            last = Some(batch);
        }
        let norm = gradient_norm(self.optimizer.parameters());
        let broken = if broken.is_some() { broken } else { self.not_finite(&sums, &norm)? };
        if let Some(what) = broken {
            self.state.skipped += 1;
            tch::no_grad(|| buffers.iter().for_each(|(x, before)| x.shallow_clone().copy_(before)));
            let first = self.batch_in_epoch(step);
            let detail = format!("step {} (epoch {}, batch {first} of it)", step.step, step.epoch);
            let samples = self.samples(batches, step.epoch, first)?;
            if self.state.skipped > self.config.max_skipped {
                let folder = self.write_replay(&what, &detail, &samples)?;
                return Err(Error::NonFinite {
                    what,
                    detail: format!("{detail}; its samples and the state are kept in {folder}"),
                });
            }
            let line = format!("{what} is not finite at {detail}: the step is left out");
            progress.say(&line);
            self.run.log(&std::iter::once(line).chain(samples).collect::<Vec<_>>().join("\n  "))?;
        } else {
            if let Some(clip) = self.config.clip {
                clip.apply(self.optimizer.parameters(), &norm);
            }
            let rate = Rate { scheduled: self.schedule.at(step.step), base: self.schedule.base() };
            *self.optimizer.weight_decay() = self.schedule.weight_decay_at(step.step, self.base_weight_decay);
            self.optimizer.step(rate)?;
            objective.after_step(self.store, step)?;
            self.add_to_log(sums, &norm)?;
        }
        self.state.step += 1;
        last.ok_or_else(|| Error::config("accumulate", 0, "at least 1"))
    }

    /// The name of what is not finite, if anything is.
    fn not_finite(&self, sums: &[Named], norm: &Tensor) -> Result<Option<String>> {
        for (name, value) in sums.iter().filter(|(name, _)| *name == "loss") {
            if !value.scalar()?.is_finite() {
                return Ok(Some(name.clone().into_owned()));
            }
        }
        if norm.scalar()?.is_finite() {
            return Ok(None);
        }
        for parameter in self.optimizer.parameters() {
            let gradient = parameter.tensor.grad();
            if gradient.defined() && gradient.isfinite().all().scalar()? == 0.0 {
                return Ok(Some(format!("gradient of {}", parameter.name)));
            }
        }
        Ok(Some("norm of the gradients".to_owned()))
    }

    /// BatchNorm's statistics and the like, which a forward pass changes before anybody sees that it went wrong.
    fn buffers_before_a_step_that_may_be_skipped(&self) -> Vec<(Tensor, Tensor)> {
        if self.config.max_skipped == 0 {
            return Vec::new();
        }
        let variables = self.store.variables().into_values();
        variables.filter(|x| !x.requires_grad()).map(|x| (x.shallow_clone(), x.copy())).collect()
    }

    /// What a step learned from. Its batches are read anew, so that no step has to keep them for this.
    fn samples<B: Batches>(&self, batches: &B, epoch: u64, first: u64) -> Result<Vec<String>> {
        let mut samples = Vec::new();
        for batch in batches.epoch(epoch, first)?.take(self.config.accumulate as usize) {
            samples.extend(batches.names(&batch?));
        }
        Ok(samples)
    }

    fn batch_in_epoch(&self, step: &Step) -> u64 {
        let per_epoch = step.total / self.config.epochs.max(1);
        step.step % per_epoch.max(1) * self.config.accumulate
    }

    fn add_to_log(&mut self, sums: Vec<Named>, norm: &Tensor) -> Result<()> {
        let share = 1.0 / self.config.accumulate as f64;
        let mut values = vec![(Cow::from("gradient_norm"), norm.scalar()?)];
        for (name, value) in sums {
            values.push((name, value.scalar()? * share));
        }
        for (name, value) in values {
            match self.state.log_sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, bits)) => *bits = (f64::from_bits(*bits) + value).to_bits(),
                None => self.state.log_sums.push((name.into_owned(), value.to_bits())),
            }
        }
        self.state.log_steps += 1;
        Ok(())
    }

    fn write(&mut self, log: &mut Log, metrics: &Metrics) -> Result<()> {
        log.write(metrics)?;
        let loss = metrics.values.get("loss").and_then(Value::as_f64);
        if let Some(loss) = loss.filter(|loss| self.state.best_loss.is_none_or(|best| *loss < best)) {
            self.state.best_loss = Some(loss);
            log.best_is_due = true;
        }
        Ok(())
    }

    fn checkpoint(&mut self, log: &mut Log) -> Result<()> {
        let model = named_variables(self.store, "");
        for (name, x) in &model {
            if x.is_floating_point() && x.isfinite().all().scalar()? == 0.0 {
                let detail = format!("after step {}", self.state.step);
                let folder = self.write_replay(name, &detail, &[])?;
                return Err(Error::NonFinite {
                    what: name.clone(),
                    detail: format!("{detail}; no checkpoint was written, the state is kept in {folder}"),
                });
            }
        }
        let is_best = std::mem::take(&mut log.best_is_due);
        let pointers: &[Pointer] = if is_best { &[Pointer::Last, Pointer::Best] } else { &[Pointer::Last] };
        self.checkpoints.save(&model, &self.optimizer.state(), &self.state, pointers)?;
        self.checkpoints.prune(self.config.keep)
    }

    /// Keeps what is needed to look into a step that went wrong: the variables, why it stopped, and its samples.
    fn write_replay(&self, what: &str, detail: &str, samples: &[String]) -> Result<String> {
        let folder = self.run.path().join("replay");
        let model = named_variables(self.store, "");
        let name = format!("step-{}", self.state.step);
        let place = checkpoint::write_folder(&folder, &name, &model, &self.optimizer.state(), &self.state)?;
        let mut reason = format!("{what} is not finite: {detail}, seed {}\n", self.seed);
        for (i, name) in samples.iter().enumerate() {
            reason.push_str(if i == 0 { "samples:\n  " } else { "  " });
            reason.push_str(name);
            reason.push('\n');
        }
        selfsup_core::state::write_whole(&place.join("reason.txt"), reason.as_bytes())?;
        Ok(place.display().to_string())
    }
}

/// Tells the draws of the model side from other draws of the same seed.
const MODEL_DRAWS: u64 = 0x006d_6f64_656c;

/// The open logs of a run.
struct Log {
    metrics: MetricsFile,
    events: EventFile,
    progress: Progress,
    note: String,
    started: Instant,
    since: Option<(Instant, u64)>,
    samples_per_step: u64,
    best_is_due: bool,
}

impl Log {
    fn open(trainer: &Trainer, total: u64) -> Result<Self> {
        let (run, done) = (trainer.run.path(), trainer.state.step);
        let samples_per_step = trainer.batch_size * trainer.config.accumulate;
        Ok(Log {
            metrics: MetricsFile::open(run, done)?,
            events: EventFile::create(run, done)?,
            progress: Progress::new("training", total, done, samples_per_step),
            note: String::new(),
            started: Instant::now(),
            since: None,
            samples_per_step,
            best_is_due: false,
        })
    }

    /// The means since the last line, which begin anew.
    fn line(&mut self, trainer: &mut Trainer, step: &Step, per_epoch: u64) -> Metrics {
        let (now, done) = (Instant::now(), trainer.state.step);
        let rate = self.since.map_or(0.0, |(then, step)| {
            ((done - step) * self.samples_per_step) as f64 / now.duration_since(then).as_secs_f64().max(1e-9)
        });
        let steps = trainer.state.log_steps.max(1) as f64;
        let mean = |(name, bits): (String, u64)| (name, Value::from(f64::from_bits(bits) / steps));
        let values = std::mem::take(&mut trainer.state.log_sums).into_iter().map(mean).collect();
        trainer.state.log_steps = 0;
        Metrics {
            step: done,
            epoch: done as f64 / per_epoch as f64,
            lr: trainer.schedule.at(step.step),
            samples_per_second: rate,
            seconds: now.duration_since(self.started).as_secs_f64(),
            values,
        }
    }

    fn write(&mut self, metrics: &Metrics) -> Result<()> {
        self.metrics.write(metrics)?;
        let mut scalars = vec![("lr".to_owned(), metrics.lr)];
        scalars.extend(metrics.values.iter().filter_map(|(name, v)| Some((name.clone(), v.as_f64()?))));
        self.events.write(metrics.step, &scalars)?;
        self.note = metrics
            .values
            .get("loss")
            .and_then(Value::as_f64)
            .map_or_else(String::new, |l| format!("loss {l:.4}"));
        self.since = Some((Instant::now(), metrics.step));
        Ok(())
    }
}
