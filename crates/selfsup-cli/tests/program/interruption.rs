//! Runs that are stopped: at any moment, by any signal, with any number of loader threads, by numbers that are not
//! finite, by data that changed, by lack of memory.

use super::{Place, files};
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

#[test]
fn numbers_that_are_not_finite_are_told_with_step_and_files() {
    let place = Place::new();
    let wild =
        ["--set", "optimizer.lr=1e30", "--set", "train.log_every=1", "--set", "schedule.warmup_epochs=0"];
    let said = place.refusal(&Place::pretraining("run", &wild));
    assert!(said.contains(" is not finite: step 1 (epoch 0, batch 1 of it)"), "{said}");
    let reason = fs::read_to_string(place.path("run/replay/step-1/reason.txt")).unwrap();
    assert_eq!(reason.lines().filter(|line| line.contains(".png")).count(), 16, "{reason}");
    let log = fs::read_to_string(place.path("run/train.log")).unwrap();
    assert!(log.contains("warning: step 1: the features of the batch are not finite"), "{log}");
    let metrics = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains(r#""rank_me":null"#), "{metrics}");
    // What is not finite stays so: with one step that may be left out, the next one stops the run.
    let skipping = [&wild[..], &["--set", "train.max_skipped=1"]].concat();
    let output = place.pretrain("skipping", &skipping).assert().failure().get_output().clone();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("step 1 (epoch 0, batch 1 of it): the step is left out"), "{said}");
    assert!(said.contains(" is not finite: step 2"), "{said}");
}

#[test]
fn other_data_under_the_same_name_are_refused_and_another_spelling_is_not() {
    let place = Place::new();
    let arguments = |data, more: &[&'static str]| {
        let mut arguments = Place::pretraining("run", more);
        arguments.extend(["--data", data]);
        arguments.remove(3);
        arguments.remove(2);
        arguments
    };
    place.program(&arguments("images", &[])).assert().success();
    place.program(&arguments("./images/", &["--resume"])).assert().success();
    let file = place.path("images/ring/00.png");
    fs::rename(&file, place.path("images/ring/000.png")).unwrap();
    let said = place.refusal(&arguments("images", &["--resume"]));
    assert!(said.contains("samples.digest.names"), "{said}");
    fs::rename(place.path("images/ring/000.png"), &file).unwrap();
    for class in ["ring", "stripes"] {
        for name in files(&place.path("images").join(class)) {
            let file = place.path("images").join(class).join(name);
            let mut picture = image::open(&file).unwrap().to_luma8();
            image::imageops::invert(&mut picture);
            picture.save(file).unwrap();
        }
    }
    let said = place.refusal(&arguments("images", &["--resume"]));
    assert!(said.contains("samples.digest.pixels"), "{said}");
}

#[test]
fn what_only_a_batch_shows_is_refused_before_the_folder_is_made() {
    let place = Place::new();
    for (setting, expected) in [("views.kinds.0.count=3", "views = 3"), ("train.batch_size=1", "first batch")]
    {
        let said = place.refusal(&Place::pretraining("run", &["--set", setting]));
        assert!(said.contains(expected), "{said}");
        assert!(!place.path("run").exists());
    }
}

#[test]
fn lack_of_memory_names_the_batch_and_what_to_try() {
    let place = Place::new();
    let mut program = place.pretrain("run", &["--set", "encoder.widths=[2000000, 2000000]"]);
    let output = program.env_remove("RUST_BACKTRACE").assert().failure().code(1).get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the memory does not suffice for "), "{said}");
    assert!(said.contains("train.batch_size = 16: try a smaller batch"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_full_is_an_error() {
    for arguments in [&["list"][..], &["list", "--json"], &["doctor"], &["doctor", "--json"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_selfsup")).args(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: the standard output: No space left"), "{said}");
    }
}
