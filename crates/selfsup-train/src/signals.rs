//! Being asked to stop.

use selfsup_core::{Error, Result};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Remembers the first SIGINT or SIGTERM instead of dying of it, for as long as the value lives. A second one changes
/// nothing: the step that runs is finished and saved all the same.
#[derive(Debug)]
pub(crate) struct Signals {
    caught: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

impl Signals {
    pub(crate) fn watch() -> Result<Self> {
        let mut signals = Signals { caught: Arc::default(), registered: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            let id = signal_hook::flag::register_usize(signal, Arc::clone(&signals.caught), signal as usize)
                .map_err(|e| Error::Other(format!("cannot watch for signal {signal}: {e}")))?;
            signals.registered.push(id);
        }
        Ok(signals)
    }

    pub(crate) fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
