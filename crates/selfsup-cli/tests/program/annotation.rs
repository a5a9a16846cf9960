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
    assert!(rungs.iter().all(|rung| (0.3..=1.0).contains(&rung["accuracy"]["mean"].as_f64().unwrap())));
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
    refused(&["--epochs", "0"], "--epochs 0: at least 1");
    refused(&["--epochs", "9"], "holds another ladder: its budget is 0.5, not null");
    refused(&["--budget", "0"], "--budget 0: seconds above 0");
    refused(&["--set", "train.epoch=3"], "train.epochs");
    refused(&["--budget", "9"], "holds another ladder: its budget is 0.5, not 9.0");
}
