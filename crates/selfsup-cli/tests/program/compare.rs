//! Runs beside each other, and what is refused because it does not belong together.

use super::Place;
use serde_json::Value;
use std::fs;

/// A run of one epoch, judged by the full suite without its rivals and its disturbed images.
fn judged(place: &Place, run: &str, more: &[&str]) {
    let quick = ["train.epochs=1", "eval.robustness.images=0", "eval.knn={ k = 20, temperature = 0.07 }"];
    let all: Vec<&str> = quick.iter().chain(more).flat_map(|setting| ["--set", setting]).collect();
    place.pretrain(run, &all).assert().success();
    place.program(&["eval", run, "--alone", "--suite", "full"]).assert().success();
}

fn json(place: &Place, path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path(path)).unwrap()).unwrap()
}

#[test]
fn runs_are_seeds_of_one_recipe_on_one_set_or_are_told_apart() {
    let place = Place::new();
    judged(&place, "a", &["train.seed=1"]);
    judged(&place, "b", &["train.seed=2"]);
    let index = "eval.suite.approximate={ lists = 4, probes = 2, checked = 20 }";
    let unlike = [
        "train.seed=3",
        "objective.temperature=0.5",
        "eval.suite.depth=10",
        index,
        "eval.linear.logistic.max_iterations=1",
    ];
    judged(&place, "warm", &unlike);
    judged(&place, "fewer", &["train.seed=4", "data.limit=100"]);
    judged(&place, "colour", &["train.seed=5", "data.channels=3"]);

    let printed = place.program(&["compare", "a", "b", "warm", "--json"]).assert().success();
    let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    let methods = found["methods"].as_array().unwrap();
    assert_eq!((methods.len(), &methods[0]["accuracy"]["n"]), (1, &2.into()), "{found}");
    assert_eq!(found["runs"][0]["method"], found["runs"][1]["method"]);
    let method = found["runs"][2]["method"].as_str().unwrap();
    assert!(method.contains(", objective.temperature = 0.5"), "{method}");

    let said = place.refusal(&["compare", "a", "b", "a"]);
    assert!(said.contains("a is named twice; name each folder once"), "{said}");
    let said = place.refusal(&["compare", "a", "nowhere"]);
    assert!(said.contains("nowhere: there is no such folder"), "{said}");
    fs::create_dir(place.path("kept")).unwrap();
    fs::write(place.path("kept/compare.json"), "mine").unwrap();
    let said = place.refusal(&["compare", "a", "b", "--out", "kept"]);
    assert!(said.contains("kept/compare.json is there already"), "{said}");
    let said = place.refusal(&["compare", "a", "b", "--out", "b"]);
    assert!(said.contains("b: holds a report that would be lost"), "{said}");
    let said = place.refusal(&["compare", "a", "fewer"]);
    assert!(said.contains("fewer: its training samples are others than those of a"), "{said}");
    // The same images, which one encoder sees in grey and the other in colour.
    place.program(&["compare", "a", "colour", "--cka", "--threads", "1"]).assert().success();

    // What [eval.suite] asks for, and how sure each number is.
    let report = json(&place, "warm/report.json");
    let retrieval = report["suite"]["trained"]["retrieval"].as_array().unwrap();
    let recall = retrieval.iter().find(|m| m["name"] == "index_recall").unwrap();
    assert!(recall["value"].as_f64().unwrap() > 0.2 && recall["n"] == 20, "{recall}");
    for (place, method) in [("/scores/trained/linear", "wilson"), ("/health/trained/std", "group_jackknife")]
    {
        let known = &report["measurements"][place];
        assert_eq!(
            (&known["split"], &known["interval"]["method"]),
            (&"test".into(), &method.into()),
            "{known}"
        );
        assert!(known["definition"].as_str().unwrap().len() > 20, "{known}");
    }
    // A probe that was stopped early says so, on the terminal and on the page.
    let said = place.program(&["eval", "warm", "--alone"]).assert().success().get_output().stderr.clone();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("warning: the linear probe on the features of trained did not converge"), "{said}");
    let page = fs::read_to_string(place.path("warm/report.html")).unwrap();
    assert!(page.contains("Warning: </strong>the linear probe on the features of trained did not"), "{page}");

    // Answers belong to the report beside them.
    assert!(!place.path("warm/answers.json").exists());
    let said = place.refusal(&["compare", "a", "warm"]);
    assert!(said.contains("warm/answers.json: run selfsup eval --suite full warm"), "{said}");
    fs::copy(place.path("a/answers.json"), place.path("b/answers.json")).unwrap();
    let said = place.refusal(&["compare", "a", "b"]);
    assert!(said.contains("b/answers.json is of another seed than report.json"), "{said}");
    // And both to the run beside them.
    let config = fs::read_to_string(place.path("a/config.toml")).unwrap();
    fs::write(place.path("a/config.toml"), config.replace("temperature = 0.2", "temperature = 0.3")).unwrap();
    let said = place.refusal(&["compare", "a", "fewer"]);
    assert!(said.contains("a/report.json is of another recipe than the run's last checkpoint"), "{said}");
    place.pretrain("a", &["--overwrite", "--set", "train.epochs=1"]).assert().success();
    assert!(!place.path("a/answers.json").exists() && !place.path("a/report.json").exists());
}
