//! Being asked to stop.

use selfsup_core::{Error, Result};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Remembers the first SIGINT or SIGTERM instead of dying of it, for as long as the value lives. A second one changes
/// nothing: the step that runs is finished and saved all the same. Once no value lives, a signal ends the process again.
#[derive(Debug)]
pub(crate) struct Signals {
    caught: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

/// How many values live, and what a signal does while none does.
struct Watchers {
    count: usize,
    none: Option<Arc<AtomicBool>>,
}

static WATCHERS: Mutex<Watchers> = Mutex::new(Watchers { count: 0, none: None });

fn watchers() -> MutexGuard<'static, Watchers> {
    WATCHERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signals {
    pub(crate) fn watch() -> Result<Self> {
        let failed = |signal| move |e| Error::Other(format!("cannot watch for signal {signal}: {e}"));
        let mut watchers = watchers();
        // A handler that is taken away leaves the signal ignored, so that the default has to be asked for, once.
        if watchers.none.is_none() {
            let none = Arc::new(AtomicBool::new(true));
            for signal in [SIGINT, SIGTERM] {
                signal_hook::flag::register_conditional_default(signal, Arc::clone(&none))
                    .map_err(failed(signal))?;
            }
            watchers.none = Some(none);
        }
        let caught = Arc::new(AtomicUsize::new(0));
        let mut registered = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            let id = signal_hook::flag::register_usize(signal, Arc::clone(&caught), signal as usize);
            registered.push(id.map_err(failed(signal))?);
        }
        watchers.add(1);
        Ok(Signals { caught, registered })
    }

    pub(crate) fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

impl Watchers {
    fn add(&mut self, more: isize) {
        self.count = self.count.saturating_add_signed(more);
        if let Some(none) = &self.none {
            none.store(self.count == 0, Ordering::SeqCst);
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        watchers().add(-1);
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const CHILD: &str = "SELFSUP_TEST_SIGNALS";

    #[test]
    fn a_signal_ends_the_process_again_once_nobody_watches() {
        let raise = || signal_hook::low_level::raise(SIGTERM).unwrap();
        if std::env::var_os(CHILD).is_some() {
            let (first, second) = (Signals::watch().unwrap(), Signals::watch().unwrap());
            raise();
            assert_eq!((first.caught(), second.caught()), (Some(SIGTERM), Some(SIGTERM)));
            drop(first);
            raise();
            drop(second);
            let third = Signals::watch().unwrap();
            raise();
            assert_eq!(third.caught(), Some(SIGTERM));
            drop(third);
            println!("nobody watches");
            raise();
            unreachable!("the signal was ignored");
        }
        let name = "signals::tests::a_signal_ends_the_process_again_once_nobody_watches";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("nobody watches"), "{output:?}");
        assert_eq!(output.status.signal(), Some(SIGTERM), "{output:?}");
    }
}
