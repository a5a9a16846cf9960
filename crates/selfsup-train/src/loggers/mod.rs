//! Where a run's numbers go: `metrics.jsonl`, TensorBoard's event files, the terminal.

mod metrics;
mod progress;
mod tensorboard;

pub use metrics::{Metrics, MetricsFile, read_metrics};
pub use progress::Progress;
pub use tensorboard::EventFile;
pub(crate) use tensorboard::PREFIX as EVENTS;
