//! Panics as errors. libtorch's operators can only panic, and what they say then is meant for developers.

use anyhow::{Result, anyhow};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, PoisonError};

/// Where the last panic was.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// Leaves it to [`caught`] to tell of the main thread's panics, unless `RUST_BACKTRACE` asks for more.
pub fn quiet() {
    let usual = take_hook();
    let wanted = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    set_hook(Box::new(move |panic| {
        if let Some(place) = panic.location() {
            *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place.to_string();
        }
        if wanted || std::thread::current().name() != Some("main") {
            usual(panic);
        }
    }));
}

/// Does `work`, and makes errors of its panics. `advice` says what to try when the memory does not suffice.
///
/// # Errors
/// Those of `work`, lack of memory in plain words, and panics.
pub fn caught<T>(advice: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Err(error)) => Err(lack_of_memory(&format!("{error:#}"), advice).unwrap_or(error)),
        Ok(done) => done,
        Err(panic) => {
            let message = message_of(panic.as_ref());
            Err(lack_of_memory(message, advice).unwrap_or_else(|| fault(message)))
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// libtorch's messages on a CPU, on macOS and Windows, and on CUDA.
const LACK: [&str; 3] = ["can't allocate memory", "not enough memory", "out of memory"];

fn lack_of_memory(message: &str, advice: &str) -> Option<anyhow::Error> {
    LACK.iter().find(|phrase| message.contains(*phrase))?;
    let asked = message.split_once("ried to allocate ").map(|(_, rest)| {
        let size: Vec<_> = rest.split_whitespace().take(2).collect();
        format!(" for {} more", size.join(" ").trim_end_matches('.'))
    });
    Some(anyhow!("the memory does not suffice{}; {advice}", asked.unwrap_or_default()))
}

fn fault(message: &str) -> anyhow::Error {
    if let Some(cause) = message.strip_prefix("failed printing to stdout: ") {
        return anyhow!("the standard output: {cause}");
    }
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let first = message.lines().next().unwrap_or_default();
    anyhow!(
        "a fault of the program, at {place}: {first}; please report it with the command line \
         (RUST_BACKTRACE=1 shows more)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(work: impl FnOnce() -> Result<()>) -> String {
        caught("try less", || caught("try a smaller batch", work)).unwrap_err().to_string()
    }

    #[test]
    fn lack_of_memory_is_told_in_plain_words_once() {
        let cpu = "called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:127] err == 0. \
                   DefaultCPUAllocator: can't allocate memory: you tried to allocate 800000 bytes. Error code 12\")";
        assert_eq!(
            told(|| panic!("{cpu}")),
            "the memory does not suffice for 800000 bytes more; try a smaller batch"
        );
        let cuda =
            "libtorch: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 3.00 GiB";
        assert_eq!(
            told(|| Err(anyhow!(cuda))),
            "the memory does not suffice for 2.00 GiB more; try a smaller batch"
        );
    }

    #[test]
    fn other_panics_ask_to_be_reported_and_errors_stay() {
        let said = told(|| panic!("index out of range\nlong trace"));
        assert!(said.contains("index out of range; please report it"), "{said}");
        assert_eq!(told(|| Err(anyhow!("lr = -1"))), "lr = -1");
        let full = "failed printing to stdout: No space left on device (os error 28)";
        assert_eq!(told(|| panic!("{full}")), "the standard output: No space left on device (os error 28)");
    }
}
