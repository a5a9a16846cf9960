//! What is shown while bytes move: a bar with rate and time left on a terminal, a line now and then
//! elsewhere.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

/// Between two plain lines.
const PERIOD: Duration = Duration::from_secs(10);

/// Prints one line to standard error, where it cannot mix with what a program prints as its result.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Counts the bytes of one transfer.
pub(crate) struct Progress {
    label: String,
    total: Option<u64>,
    start: u64,
    done: u64,
    began: Instant,
    spoke: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins at `start` bytes of `total`, where that is known.
    pub(crate) fn new(label: impl Into<String>, start: u64, total: Option<u64>) -> Self {
        let label = label.into();
        let bar = io::stderr()
            .is_terminal()
            .then(|| ProgressBar::no_length().with_message(label.clone()).with_position(start));
        let now = Instant::now();
        let mut progress = Self { label, total: None, start, done: start, began: now, spoke: now, bar };
        match total {
            Some(total) => progress.expect(total),
            None => progress.show("{msg} {spinner} {bytes}, {bytes_per_sec}"),
        }
        progress
    }

    /// The number of bytes at the end, where it is learned later.
    pub(crate) fn expect(&mut self, total: u64) {
        self.total = Some(total);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
        self.show("{msg} {bar:24} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    }

    fn show(&self, template: &str) {
        if let (Some(bar), Ok(style)) = (&self.bar, ProgressStyle::with_template(template)) {
            bar.set_style(style);
        }
    }

    /// Counts `bytes` more.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.spoke.elapsed() >= PERIOD {
            self.spoke = Instant::now();
            let rate = self.rate();
            let rest = match self.total {
                Some(total) if rate > 0.0 => {
                    let left = Duration::from_secs_f64(total.saturating_sub(self.done) as f64 / rate);
                    format!(
                        " of {}, {}/s, {} left",
                        HumanBytes(total),
                        HumanBytes(rate as u64),
                        HumanDuration(left)
                    )
                }
                _ => format!(", {}/s", HumanBytes(rate as u64)),
            };
            say(&format!("  {}: {}{rest}", self.label, HumanBytes(self.done)));
        }
    }

    /// Ends with a line of what was moved, where it took long enough to be worth one.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.began.elapsed() >= Duration::from_secs(1) {
            let seconds = self.began.elapsed().as_secs_f64();
            let rate = HumanBytes(self.rate() as u64);
            say(&format!("  {}: {} in {seconds:.1} s, {rate}/s", self.label, HumanBytes(self.done)));
        }
    }

    fn rate(&self) -> f64 {
        (self.done - self.start) as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }
}

/// Tells now and then how much has arrived in a folder while another program fills it and shows nothing
/// itself.
pub(crate) struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Watches `folder` until dropped.
    pub(crate) fn watch(label: String, folder: PathBuf) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let began = Instant::now();
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let bytes = size_of(&folder);
                let rate = HumanBytes((bytes as f64 / began.elapsed().as_secs_f64()) as u64);
                say(&format!("  {label}: {} so far, {rate}/s", HumanBytes(bytes)));
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A watcher that died has nothing left to tell.
            let _ = thread.join();
        }
    }
}

/// The bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}
