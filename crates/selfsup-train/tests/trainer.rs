//! Runs that are stopped and taken up again, and runs that go wrong.

use selfsup_core::layers::{Affine, BatchNorm, Bias, Linear};
use selfsup_core::state::named_variables;
use selfsup_core::{
    Batches, Device, Encoder, Key, Kind, Loss, Mode, Objective, Result, Step, Tensor, check_shape, nn,
};
use selfsup_train::checkpoint::{Checkpoints, Pointer, verify};
use selfsup_train::loggers::read_metrics;
use selfsup_train::optimizer::{AdamWConfig, LarsConfig, SgdConfig, parameters};
use selfsup_train::{
    Clip, Existing, LoopConfig, OptimizerConfig, Outcome, Parts, RunDir, Schedule, ScheduleConfig, Trainer,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// libtorch's generator belongs to the process: one training at a time.
static TORCH: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    TORCH.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Network(Linear, BatchNorm);

impl Encoder for Network {
    fn dim(&self) -> i64 {
        4
    }
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        check_shape("x", x, [-1, 3])?;
        Ok(self.1.forward(&self.0.forward(x), mode).dropout(0.3, mode.is_train()))
    }
}

/// Draws the features towards a pattern; the dropout makes every step depend on the model side's generator.
struct Pattern {
    nan_at: Option<u64>,
    count: Tensor,
}

impl Objective<Network> for Pattern {
    type Batch = Tensor;
    fn loss(&mut self, encoder: &Network, batch: &Tensor, step: &Step) -> Result<Loss> {
        let h = encoder.encode(batch, Mode::Train)?;
        let target = batch.sum_dim_intlist([1_i64].as_slice(), true, None).tanh();
        let loss = (h - target).square().mean(None);
        let poison = if self.nan_at == Some(step.step) { f64::NAN } else { 1.0 };
        Ok(Loss::new(&loss * poison).with("distance", &loss))
    }
    fn after_step(&mut self, _store: &nn::VarStore, _step: &Step) -> Result<()> {
        let _ = self.count.g_add_scalar_(1);
        Ok(())
    }
}

/// Seven batches an epoch, made from their place.
struct Waves;

impl Batches for Waves {
    type Batch = Tensor;
    fn batches_per_epoch(&self) -> u64 {
        7
    }
    fn epoch(&self, epoch: u64, skip: u64) -> Result<Box<dyn Iterator<Item = Result<Tensor>> + '_>> {
        let batch = move |i: u64| {
            let start = (epoch * 7 + i) as f64;
            Ok((Tensor::arange(24, (Kind::Float, Device::Cpu)) * 0.37 + start).sin().reshape([8, 3]))
        };
        Ok(Box::new((skip..7).map(batch)))
    }
    fn names(&self, batch: &Tensor) -> Vec<String> {
        vec![format!("wave {:.4}", batch.double_value(&[0, 0]))]
    }
}

#[derive(Clone)]
struct Setting {
    optimizer: OptimizerConfig,
    accumulate: u64,
    lr: f64,
    final_weight_decay: Option<f64>,
}

fn sgd() -> Setting {
    let config = SgdConfig { nesterov: true, ..SgdConfig::default() };
    Setting { optimizer: OptimizerConfig::Sgd(config), accumulate: 1, lr: 0.05, final_weight_decay: None }
}

/// What a piece of a run is asked to do, beside its setting.
#[derive(Clone, Copy, Default)]
struct Asked {
    stop_at: Option<u64>,
    signal_at: Option<u64>,
    nan_at: Option<u64>,
    max_skipped: u64,
    checkpoint_every: Option<u64>,
}

/// Runs from the last checkpoint on: the outcome and all variables.
fn run(path: &Path, setting: &Setting, asked: Asked) -> Result<(Outcome, BTreeMap<String, Tensor>)> {
    Key::new(5).seed_torch();
    let store = nn::VarStore::new(Device::Cpu);
    let root = store.root();
    let encoder = Network(
        Linear::new(&root / "encoder" / "linear", 3, 4, Bias::Yes),
        BatchNorm::new(&root / "encoder" / "norm", 4, Affine::Yes),
    );
    let count = (&root / "objective").add("count", Tensor::from(0_i64), false);
    let mut objective = Pattern { nan_at: asked.nan_at, count };
    let config = LoopConfig {
        epochs: 3,
        accumulate: setting.accumulate,
        clip: Some(Clip::Together(1.0)),
        log_every: 2,
        checkpoint_every: asked.checkpoint_every,
        max_skipped: asked.max_skipped,
        ..LoopConfig::default()
    };
    let (per_epoch, total) = config.steps(7)?;
    let schedule = ScheduleConfig {
        warmup_epochs: Some(1.0),
        reference_batch: 0,
        final_weight_decay: setting.final_weight_decay,
        ..ScheduleConfig::default()
    };
    let existing = if path.join("config.toml").exists() { Existing::Resume } else { Existing::Refuse };
    let folder = RunDir::open(path, existing)?;
    folder.describe("", &serde_json::Map::new())?;
    let mut trainer = Trainer::new(Parts {
        store: &store,
        optimizer: setting.optimizer.build(parameters(&store, &[])?)?,
        schedule: Schedule::new(&schedule, setting.lr, 8, per_epoch, total)?,
        config,
        seed: 5,
        batch_size: 8,
        run: &folder,
        fingerprint: json!({"lr": setting.lr, "accumulate": setting.accumulate}),
    });
    trainer.resume()?;
    let outcome = trainer.fit(&encoder, &mut objective, &Waves, |logged| {
        let step = logged.metrics.step;
        logged.metrics.values.insert("twice".to_owned(), json!(2 * step));
        if asked.signal_at.is_some_and(|at| step >= at) {
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("a signal to itself");
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("a signal to itself");
        }
        Ok(if asked.stop_at.is_some_and(|at| step >= at) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok((outcome, named_variables(&store, "")))
}

/// The lines of the log without what a clock wrote.
fn lines(path: &Path) -> Vec<(u64, String)> {
    let metrics = read_metrics(path).expect("a log that can be read");
    metrics.into_iter().map(|m| (m.step, format!("{} {} {:?}", m.epoch, m.lr, m.values))).collect()
}

#[test]
fn a_run_that_is_stopped_and_resumed_equals_one_that_was_not() {
    let _alone = alone();
    let settings = [
        sgd(),
        Setting { optimizer: OptimizerConfig::AdamW(AdamWConfig::default()), ..sgd() },
        Setting {
            optimizer: OptimizerConfig::Lars(LarsConfig { eta: 0.02, ..LarsConfig::default() }),
            ..sgd()
        },
        Setting { accumulate: 3, ..sgd() },
        Setting { final_weight_decay: Some(0.4), ..sgd() },
    ];
    for setting in settings {
        let root = tempfile::tempdir().unwrap();
        let whole = root.path().join("whole");
        let (outcome, expected) = run(&whole, &setting, Asked::default()).unwrap();
        assert_eq!(outcome, Outcome::Finished);
        // In an epoch, at its end (step 7, seen at the line of step 8 otherwise), and in the next.
        for stop_at in [2, 4, 14] {
            let stopped = root.path().join(format!("stopped-{stop_at}"));
            let asked = Asked { stop_at: Some(stop_at), ..Asked::default() };
            let (outcome, _) = run(&stopped, &setting, asked).unwrap();
            let reaches_the_end = setting.accumulate == 3 && stop_at == 14;
            assert_eq!(outcome, if reaches_the_end { Outcome::Finished } else { Outcome::Stopped });
            let (outcome, found) = run(&stopped, &setting, Asked::default()).unwrap();
            assert_eq!(outcome, Outcome::Finished);
            assert_eq!(found, expected, "{:?} stopped at {stop_at}", setting.optimizer);
            assert_eq!(lines(&stopped), lines(&whole));
        }
        let steps = 7 / setting.accumulate * 3;
        assert_eq!(i64::try_from(&expected["objective.count"]).unwrap(), steps as i64);
    }
}

#[test]
fn work_after_the_last_checkpoint_is_done_again_alike() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let (_, expected) = run(&root.path().join("whole"), &sgd(), Asked::default()).unwrap();
    let killed = root.path().join("killed");
    // A NaN at step 12 ends the program after the checkpoint of step 10: what a kill would leave.
    let asked = Asked { nan_at: Some(12), checkpoint_every: Some(5), ..Asked::default() };
    assert!(run(&killed, &sgd(), asked).is_err());
    let last = Checkpoints::new(&killed).find(Pointer::Last).unwrap().unwrap();
    assert_eq!(verify(&last).unwrap().step, 10);
    assert_eq!(read_metrics(&killed).unwrap().last().unwrap().step, 12);
    let (_, found) = run(&killed, &sgd(), Asked::default()).unwrap();
    assert_eq!(found, expected);
    assert_eq!(lines(&killed), lines(&root.path().join("whole")));
}

#[test]
fn a_signal_ends_the_step_and_saves() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let (_, expected) = run(&root.path().join("whole"), &sgd(), Asked::default()).unwrap();
    let path = root.path().join("run");
    let (outcome, _) = run(&path, &sgd(), Asked { signal_at: Some(4), ..Asked::default() }).unwrap();
    assert_eq!(outcome, Outcome::Interrupted(15));
    let last = Checkpoints::new(&path).find(Pointer::Last).unwrap().unwrap();
    // The signal comes while step 4 is logged and is seen after the next step.
    assert_eq!(verify(&last).unwrap().step, 5);
    let (_, found) = run(&path, &sgd(), Asked::default()).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn a_nan_stops_the_run_and_keeps_the_last_checkpoint() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let error =
        run(root.path(), &sgd(), Asked { nan_at: Some(9), ..Asked::default() }).unwrap_err().to_string();
    assert!(error.starts_with("loss is not finite: step 9 (epoch 1, batch 2 of it)"), "{error}");
    let last = Checkpoints::new(root.path()).find(Pointer::Last).unwrap().unwrap();
    assert_eq!(verify(&last).unwrap().step, 7);
    let replay = root.path().join("replay/step-9");
    assert_eq!(verify(&replay).unwrap().step, 9);
    // The third batch of the second epoch starts at sin(7 + 2).
    let reason = std::fs::read_to_string(replay.join("reason.txt")).unwrap();
    assert!(reason.starts_with("loss is not finite: step 9"), "{reason}");
    assert!(reason.ends_with("samples:\n  wave 0.4121\n"), "{reason}");
}

#[test]
fn a_nan_may_be_left_out_without_a_trace() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let asked = Asked { nan_at: Some(9), max_skipped: 1, ..Asked::default() };
    let (outcome, variables) = run(root.path(), &sgd(), asked).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(i64::try_from(&variables["objective.count"]).unwrap(), 20);
    assert_eq!(i64::try_from(&variables["encoder.norm.num_batches_tracked"]).unwrap(), 20);
    let log = std::fs::read_to_string(root.path().join("train.log")).unwrap();
    assert!(log.contains("step 9 (epoch 1, batch 2 of it): the step is left out\n  wave 0.4121\n"), "{log}");
}

#[test]
fn the_samples_of_all_accumulated_batches_are_named() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let setting = Setting { accumulate: 3, ..sgd() };
    let error = run(root.path(), &setting, Asked { nan_at: Some(3), ..Asked::default() }).unwrap_err();
    assert!(error.to_string().contains("step 3 (epoch 1, batch 3 of it)"), "{error}");
    let reason = std::fs::read_to_string(root.path().join("replay/step-3/reason.txt")).unwrap();
    let names = (10..13).map(|start| format!("  wave {:.4}\n", f64::from(start).sin())).collect::<String>();
    assert!(reason.ends_with(&names), "{reason}");
}

#[test]
fn other_settings_are_refused_and_damage_is_named() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    run(root.path(), &sgd(), Asked { stop_at: Some(4), ..Asked::default() }).unwrap();
    let error = run(root.path(), &Setting { lr: 0.1, ..sgd() }, Asked::default()).unwrap_err().to_string();
    assert!(error.starts_with("lr = 0.1: 0.05 as in the run that is to go on"), "{error}");
    let model = root.path().join("checkpoints/step-4/model.safetensors");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let error = run(root.path(), &sgd(), Asked::default()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors: truncated"), "{error}");
}

#[test]
fn a_loop_that_cannot_be_is_refused() {
    let refusal = |config: LoopConfig| config.steps(7).unwrap_err().to_string();
    assert_eq!(refusal(LoopConfig { epochs: 0, ..LoopConfig::default() }), "epochs = 0: at least 1");
    let too_many = LoopConfig { accumulate: 8, ..LoopConfig::default() };
    assert_eq!(refusal(too_many), "accumulate = 8: at most the 7 batches of an epoch");
    let endless = LoopConfig { epochs: u64::MAX, ..LoopConfig::default() };
    assert_eq!(refusal(endless), format!("epochs = {}: at most {}", u64::MAX, u64::MAX / 7));
    let clip = LoopConfig { clip: Some(Clip::Together(-1.0)), ..LoopConfig::default() };
    assert_eq!(refusal(clip), "clip = -1: a norm above 0, or absent");
}
