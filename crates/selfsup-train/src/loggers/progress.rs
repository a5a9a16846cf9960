//! What a person sees of a long stage: a bar with rate and time left on a terminal, now and then a line elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// The time between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

/// The progress of a stage with a known number of steps.
#[derive(Debug)]
pub struct Progress {
    name: String,
    bar: ProgressBar,
    started: Instant,
    start: u64,
    samples_per_step: u64,
    last_line: Option<Instant>,
}

impl Progress {
    /// Shows a stage of `total` steps, of which `done` are done, with so many samples each.
    pub fn new(name: &str, total: u64, done: u64, samples_per_step: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // A template that does not parse would only cost its looks.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta} left") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.set_position(done);
        bar.reset_eta();
        let last_line = (!terminal).then(Instant::now);
        let name = name.to_owned();
        Progress { name, bar, started: Instant::now(), start: done, samples_per_step, last_line }
    }

    /// Shows that `done` steps are done, and `note` beside the rate.
    pub fn update(&mut self, done: u64, note: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let steps = (done - self.start) as f64;
        let rate = steps * self.samples_per_step as f64 / seconds.max(1e-9);
        self.bar.set_message(format!("{rate:.0} samples/s {note}"));
        self.bar.set_position(done);
        let total = self.bar.length().unwrap_or(0);
        // A stage that was over before the first line needs none.
        let long = seconds >= QUIET.as_secs_f64();
        if self.last_line.is_some_and(|last| last.elapsed() >= QUIET || (done == total && long)) {
            let left = (total - done.min(total)) as f64 * seconds / steps.max(1.0);
            eprintln!("{}: {done}/{total}, {rate:.0} samples/s, {left:.0} s left {note}", self.name);
            self.last_line = Some(Instant::now());
        }
    }

    /// Writes a line above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Ends the bar and leaves it.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}
