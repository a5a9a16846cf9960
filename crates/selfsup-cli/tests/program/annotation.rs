//! `selfsup report annotation`: a ladder of labels that is stopped and goes on.

use super::{Place, files};
use serde_json::Value;
use std::fs;

fn json(path: &std::path::Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_ladder_goes_on_cell_by_cell_and_says_what_labels_are_worth() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    let command: &[&str] =
        &["report", "annotation", "--from", "run", "--data", "images", "--out", "ladder", "--threads", "1"];
    let linear: &[&str] = &["--arms", "ssl-linear,ssl-linear-chosen"];
    let ladder = |more: &[&str]| place.program(&[command, linear, more].concat());
    let said = ladder(&["--labels", "4,20,all", "--draws", "2"]).assert().success().get_output().clone();
    let (table, progress) =
        (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
    assert!(
        table.contains("SSL + linear + chosen samples") && table.trim().ends_with("ladder/annotation.html")
    );
    assert!(progress.contains("0 of 9 cells are there") && progress.contains("9/9 ssl-linear"), "{progress}");

    // With all labels nothing is chosen, and there is one draw.
    let cells = files(&place.path("ladder/cells"));
    assert_eq!(cells.len(), 9, "{cells:?}");
    assert_eq!(
        cells.iter().filter(|name| name.contains("-labels128-")).collect::<Vec<_>>(),
        ["ssl-linear-labels128-draw0-seed0.json"]
    );
    let report = json(&place.path("ladder/annotation.json"));
    let rungs = report["arms"][0]["rungs"].as_array().unwrap();
    let counts: Vec<_> =
        rungs.iter().map(|rung| (rung["labels"].as_u64(), rung["accuracy"]["n"].as_u64())).collect();
    assert_eq!(counts, [(Some(4), Some(2)), (Some(20), Some(2)), (Some(128), Some(1))]);
    // The means, counted again from the cells; and labels are worth something.
    let mean = |rung: &Value| rung["accuracy"]["mean"].as_f64().unwrap();
    for (arm, key) in [(0, "ssl-linear"), (1, "ssl-linear-chosen")] {
        for rung in report["arms"][arm]["rungs"].as_array().unwrap() {
            let of = format!("{key}-labels{}-draw", rung["labels"]);
            let reached: Vec<f64> = cells
                .iter()
                .filter(|name| name.starts_with(&of))
                .map(|name| json(&place.path("ladder/cells").join(name))["accuracy"].as_f64().unwrap())
                .collect();
            let by_hand = reached.iter().sum::<f64>() / reached.len() as f64;
            assert!((mean(rung) - by_hand).abs() < 1e-12, "{rung}");
        }
    }
    assert!(mean(&rungs[2]) > 0.9 && mean(&rungs[2]) >= mean(&rungs[0]), "{rungs:?}");
    let page = fs::read_to_string(place.path("ladder/annotation.html")).unwrap();
    for part in ["Accuracy against labels", "SSL + linear", report["sentence"].as_str().unwrap(), "<svg"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert_eq!(files(&place.path("ladder/plots")), ["annotation.png", "annotation.svg"]);

    // What is there stays; what is missing, or was asked for later, is measured.
    let kept = place.path("ladder/cells/ssl-linear-labels4-draw0-seed0.json");
    let before = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, before.replace("\"seconds\": ", "\"seconds\": 123")).unwrap();
    fs::remove_file(place.path("ladder/cells/ssl-linear-labels20-draw1-seed1.json")).unwrap();
    let said = ladder(&["--labels", "4,20,all", "--draws", "2"]).assert().success().get_output().clone();
    let progress = String::from_utf8(said.stderr).unwrap();
    assert!(progress.contains("8 of 9 cells are there"), "{progress}");
    assert!(fs::read_to_string(&kept).unwrap().contains("\"seconds\": 123"));
    let again = json(&place.path("ladder/annotation.json"));
    let accuracies = |report: &Value| -> Vec<Value> {
        let arms = report["arms"].as_array().unwrap();
        arms.iter()
            .flat_map(|arm| arm["rungs"].as_array().unwrap())
            .map(|rung| rung["accuracy"].clone())
            .collect()
    };
    assert_eq!(accuracies(&report), accuracies(&again), "the same draw has the same labels");

    let refused = |more: &[&str], part: &str| {
        let message = place.refusal(&[command, more].concat());
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    };
    refused(&["--labels", "4", "--test-limit", "10"], "holds another ladder: its test is 32, not 10");
    // A ladder is of its images, labels and weights, whatever they are called.
    fs::rename(place.path("images"), place.path("kept")).unwrap();
    for class in ["ring", "stripes"] {
        fs::create_dir_all(place.path("images").join(class)).unwrap();
        for i in 0..80 {
            super::picture("ring", i)
                .save(place.path("images").join(class).join(format!("{i:02}.png")))
                .unwrap();
        }
    }
    refused(
        &["--labels", "4"],
        "since it was begun there changed: the pixels of the training images, the pixels of the test",
    );
    fs::remove_dir_all(place.path("images")).unwrap();
    fs::rename(place.path("kept"), place.path("images")).unwrap();
    place.pretrain("run", &["--set", "train.seed=1", "--overwrite"]).assert().success();
    refused(
        &["--labels", "4"],
        "since it was begun there changed: the checkpoint of the run; name another folder",
    );
    refused(&["--labels", "129"], "--labels 129: at most 128");
    refused(&["--labels", "1"], "--labels 1: at least 2, one of each class");
    refused(&["--draws", "0"], "--draws 0: at least 1");
    let message =
        place.refusal(&["report", "annotation", "--from", "nowhere", "--data", "images", "--out", "new"]);
    assert!(message.contains("nowhere") && !place.path("new").exists(), "{message}");
    let message = place.refusal(&[
        "report",
        "annotation",
        "--from",
        "run",
        "--data",
        "images",
        "--labels",
        "4",
        "--out",
        "run",
    ]);
    assert!(message.contains("--out run: a new or empty folder"), "{message}");
}

#[test]
fn networks_are_trained_within_a_budget_and_leave_nothing_but_what_they_reach() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    let command: &[&str] = &["report", "annotation", "--from", "run", "--data", "images", "--out", "ladder"];
    let arms: &[&str] = &["--arms", "supervised,ssl-finetuned,ssl-pseudo-labels-chosen", "--labels", "4,all"];
    let small: &[&str] = &[
        "--draws",
        "1",
        "--budget",
        "0.5",
        "--set",
        "train.batch_size=64",
        "--set",
        "labels.batch_size=4",
        "--threads",
        "1",
    ];
    let said = place.program(&[command, arms, small].concat()).assert().success().get_output().clone();
    let progress = String::from_utf8(said.stderr).unwrap();
    for part in ["supervised: ", "freematch: ", "epochs within the budget", "5/5 "] {
        assert!(progress.contains(part), "\"{part}\" is not in: {progress}");
    }
    let cells = files(&place.path("ladder/cells"));
    let expected = [
        "ssl-finetuned-labels128-draw0-seed0.json",
        "ssl-finetuned-labels4-draw0-seed0.json",
        "ssl-pseudo-labels-chosen-labels4-draw0-seed0.json",
        "supervised-labels128-draw0-seed0.json",
        "supervised-labels4-draw0-seed0.json",
    ];
    assert_eq!(cells, expected);
    assert!(!place.path("ladder/rehearsal").exists());
    let pace = json(&place.path("ladder/pace.json"));
    assert!(pace["supervised"]["epochs"].as_u64().unwrap() >= 1 && pace.get("freematch").is_some(), "{pace}");
    let report = json(&place.path("ladder/annotation.json"));
    let sentence = report["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("supervised from scratch reaches") && sentence.contains("SSL + fine-tuning")
    );
    let target = report["target"]["accuracy"].as_f64().unwrap();
    assert_eq!(report["arms"][0]["rungs"][1]["accuracy"]["mean"].as_f64(), Some(target));

    let refused = |more: &[&str], part: &str| {
        let message = place.refusal(&[command, arms, more].concat());
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    };
    refused(&["--method", "freematsh"], "freematch");
    refused(&["--method", "distillation"], "--method distillation: its teacher would know other labels");
    // A field of the method is one of --method alone: it is the ladder's plan that differs, and no recipe that does not know it.
    let of_method = [small, &["--set", "method.labeler.momentum=0.5"]].concat();
    refused(&of_method, "holds another ladder: its set");
    refused(&["--set", "method.labeler.momentom=0.5"], "momentum");
    let whole = [small, &["--set", "method={ kind = \"freematch\" }"]].concat();
    refused(&whole, "holds another ladder: its set");
    refused(&["--epochs", "0"], "--epochs 0: at least 1");
    refused(&["--epochs", "9"], "holds another ladder: its budget is 0.5, not null");
    refused(&["--budget", "0"], "--budget 0: seconds above 0");
    refused(&["--set", "train.epoch=3"], "train.epochs");
    refused(&["--budget", "9"], "holds another ladder: its budget is 0.5, not 9.0");
}

#[test]
fn a_class_of_few_images_is_no_obstacle_and_counts_that_cannot_be_are_left_out() {
    let place = Place::new();
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    for (part, from, to) in [("train", 0, 60), ("test", 60, 80)] {
        for class in ["ring", "stripes", "rare"] {
            let folder = place.path("data").join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            let to = if class == "rare" { from + 3 } else { to };
            for i in from..to {
                super::picture(class, i).save(folder.join(format!("{i:02}.png"))).unwrap();
            }
        }
    }
    let command: &[&str] = &["report", "annotation", "--from", "run", "--data", "data", "--draws", "1"];
    // Of the images of a rehearsal not every class has as many labels as it takes.
    let trained: &[&str] =
        &["--arms", "ssl-finetuned", "--labels", "6", "--budget", "0.2", "--out", "trained"];
    let small: &[&str] = &["--set", "train.batch_size=16", "--set", "labels.batch_size=4", "--threads", "1"];
    place.program(&[command, trained, small].concat()).assert().success();
    assert_eq!(files(&place.path("trained/cells")), ["ssl-finetuned-labels6-draw0-seed0.json"]);
    assert!(!place.path("trained/rehearsal").exists() && !place.path("trained/rehearsal.csv").exists());

    let linear: &[&str] = &["--arms", "ssl-linear", "--out", "linear"];
    place.program(&[command, linear].concat()).assert().success();
    let report = json(&place.path("linear/annotation.json"));
    let rungs = report["arms"][0]["rungs"].as_array().unwrap();
    let counts: Vec<_> = rungs.iter().map(|rung| rung["labels"].as_u64().unwrap()).collect();
    assert_eq!(counts, [10, 40, 100, 123]);
    let message = place.refusal(&[command, linear, &["--labels", "1000"]].concat());
    assert!(message.contains("--labels 1000: at most 123"), "{message}");
}

/// The same without what a clock has measured.
#[cfg(unix)]
fn timeless(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(name, _)| name != "seconds");
            Value::Object(fields.map(|(name, value)| (name, timeless(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(timeless).collect()),
        other => other,
    }
}

#[cfg(unix)]
#[test]
fn a_ladder_that_is_killed_and_interrupted_ends_as_one_that_was_not() {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    let place = Place::new();
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    let ladder = |out: &'static str| -> Vec<&'static str> {
        let mut words = vec!["report", "annotation", "--from", "run", "--data", "images", "--out", out];
        words.extend(["--arms", "supervised,ssl-finetuned", "--labels", "4", "--draws", "1"]);
        words.extend(["--epochs", "20", "--threads", "1"]);
        for set in ["train.batch_size=32", "labels.batch_size=4", "train.checkpoint_every=1"] {
            words.extend(["--set", set]);
        }
        words
    };
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfsup"));
        command.args(ladder("stopped")).current_dir(place.path("."));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Waits until a training has written a checkpoint.
    let wait_for = |child: &mut Child, cell: &str| {
        let last = place.path("stopped/cells").join(format!("{cell}.run/checkpoints/last"));
        let began = Instant::now();
        while !last.is_file() {
            assert!(child.try_wait().unwrap().is_none(), "the ladder ended before {cell}");
            assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint of {cell} within two minutes");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut child = start();
    wait_for(&mut child, "supervised-labels4-draw0-seed0");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("stopped/cells/supervised-labels4-draw0-seed0.json").exists());
    let mut child = start();
    wait_for(&mut child, "ssl-finetuned-labels4-draw0-seed0");
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert!(said.contains("interrupted; the same command goes on where it stopped"), "{said}");
    assert!(!place.path("stopped/annotation.json").exists());
    // Killed after a cell was written and before its training was removed.
    let left = place.path("stopped/cells/supervised-labels4-draw0-seed0.run/checkpoints");
    fs::create_dir_all(left).unwrap();

    for out in ["stopped", "whole"] {
        place.program(&ladder(out)).assert().success();
    }
    let results = ["stopped", "whole"].map(|out| timeless(json(&place.path(out).join("annotation.json"))));
    assert_eq!(results[0], results[1]);
    assert_eq!(files(&place.path("stopped/cells")), files(&place.path("whole/cells")));
    assert_eq!(files(&place.path("whole/cells")).len(), 2);
}
