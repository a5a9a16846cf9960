//! Runs that are stopped: at any moment, by any signal, with any number of loader threads.

use super::Place;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Enough steps to be stopped among: 8 an epoch, and a checkpoint after every third.
const LONG: &[&str] = &["--set", "train.epochs=12", "--set", "train.checkpoint_every=3"];

const STEPS: u64 = 96;

fn start(place: &Place, more: &[&str]) -> Child {
    let arguments = Place::pretraining("stopped", &[LONG, more].concat());
    Command::new(env!("CARGO_BIN_EXE_selfsup"))
        .args(arguments)
        .current_dir(place.path("."))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The steps of the last checkpoint; 0 before the first.
fn done(place: &Place) -> u64 {
    let last = fs::read_to_string(place.path("stopped/checkpoints/last")).unwrap_or_default();
    last.trim().strip_prefix("step-").map_or(0, |step| step.parse().unwrap())
}

/// Waits until a run is past so many steps.
fn wait_for(place: &Place, child: &mut Child, steps: u64) {
    let began = Instant::now();
    while done(place) < steps {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before step {steps}");
        assert!(began.elapsed() < Duration::from_secs(120), "no step {steps} within two minutes");
        sleep(Duration::from_millis(1));
    }
}

fn equals_one_never_stopped(place: &Place) {
    place.pretrain("whole", LONG).assert().success();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(place.last("stopped", file) == place.last("whole", file), "{file} differs");
    }
    let lines = |run: &str| {
        let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        let measured = |line: &str| {
            let mut line: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
            line.retain(|name, _| name != "seconds" && name != "samples_per_second");
            line
        };
        text.lines().map(measured).collect::<Vec<_>>()
    };
    assert_eq!(lines("stopped"), lines("whole"));
}

#[test]
fn killed_at_many_moments_it_ends_as_one_never_stopped() {
    let place = Place::new();
    let mut child = start(&place, &[]);
    // Between two checkpoints, in the middle of an epoch, and wherever the clock says.
    wait_for(&place, &mut child, 3);
    let mut kills = 0;
    for delay in [0, 7, 130, 260, 410] {
        sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(done(&place) < STEPS, "the run was over before kill {kills}");
        kills += 1;
        child = start(&place, &["--resume"]);
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((kills, done(&place)), (5, STEPS));
    equals_one_never_stopped(&place);
}

#[cfg(unix)]
#[test]
fn signals_save_and_are_told_by_the_exit_code() {
    let place = Place::new();
    for (signal, code, steps, resume) in [("-TERM", 143, 3, &[][..]), ("-INT", 130, 30, &["--resume"])] {
        let mut child = start(&place, resume);
        wait_for(&place, &mut child, steps);
        let sent = || Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent().success());
        // A second one is safe.
        sent();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("--resume goes on with it"), "{said}");
        assert!((steps..STEPS).contains(&done(&place)));
    }
    assert!(start(&place, &["--resume"]).wait().unwrap().success());
    equals_one_never_stopped(&place);
}

#[test]
fn loader_threads_change_nothing() {
    let place = Place::new();
    for threads in ["1", "4"] {
        let setting = format!("train.loader_threads={threads}");
        place.pretrain(threads, &["--set", &setting]).assert().success();
    }
    assert!(place.last("1", "model.safetensors") == place.last("4", "model.safetensors"));
}
