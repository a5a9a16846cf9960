//! From an objective to a trained network: optimizers, schedules, checkpoints, the loop and its folder.
//!
//! | to | use |
//! |---|---|
//! | change weights | [`Sgd`](optimizer::Sgd), [`AdamW`](optimizer::AdamW), [`Lars`](optimizer::Lars), with [`Schedule`] |
//! | run a whole training that survives being killed | [`Trainer`] in a [`RunDir`] |
//! | read what a run wrote | [`loggers::read_metrics`], [`checkpoint`] |
//!
//! # The loop
//! [`Trainer::fit`] is this, with checkpoints, logs and a guard around it; write it again wherever it does not fit:
//! ```
//! use selfsup_core::{Batches, Encoder, Key, Objective, Result, Step, nn};
//! use selfsup_train::optimizer::{Optimizer, Rate, Sgd, SgdConfig, parameters};
//!
//! fn train<E: Encoder, B: Batches>(
//!     store: &nn::VarStore, encoder: &E, objective: &mut dyn Objective<E, Batch = B::Batch>, batches: &B,
//! ) -> Result<()> {
//!     let mut optimizer = Sgd::new(parameters(store, &[])?, &SgdConfig::default())?;
//!     let total = 10 * batches.batches_per_epoch();
//!     let mut done = 0;
//!     for epoch in 0..10 {
//!         for batch in batches.epoch(epoch, 0)? {
//!             let step = Step::single(done, total, epoch, 0);
//!             Key::new(0).with(done).seed_torch();
//!             optimizer.zero_grad();
//!             objective.loss(encoder, &batch?, &step)?.total.backward();
//!             optimizer.step(Rate { scheduled: 0.03, base: 0.03 })?;
//!             objective.after_step(store, &step)?;
//!             done += 1;
//!         }
//!     }
//!     Ok(())
//! }
//! ```

pub mod checkpoint;
mod gradient;
pub mod loggers;
pub mod optimizer;
mod run_dir;
mod schedule;
mod signals;
mod trainer;

pub use gradient::{Clip, clip_gradients, gradient_norm};
pub use optimizer::OptimizerConfig;
pub use run_dir::{Existing, RunDir};
pub use schedule::{Schedule, ScheduleConfig, ScheduleKind};
pub use trainer::{Logged, LoopConfig, Outcome, Parts, Trainer};
