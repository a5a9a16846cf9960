//! From a folder of files to scores, a report, features and weights.

use super::{Place, files};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn images_become_scores_a_report_features_and_weights() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    assert!(place.path("run/env.json").is_file() && place.path("run/config.toml").is_file());
    let metrics = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 6);
    for name in ["loss", "lr", "feature_std", "rank_me"] {
        assert!(metrics.lines().all(|line| line.contains(&format!("\"{name}\":"))), "{name}");
    }

    let printed = place.program(&["eval", "run", "--json"]).assert().success().get_output().stdout.clone();
    let report = json(&place.path("run/report.json"));
    assert_eq!(serde_json::from_slice::<Value>(&printed).unwrap(), report);
    for encoder in ["trained", "untrained", "pixels"] {
        for probe in ["linear", "few10", "knn"] {
            let score = &report["scores"][encoder][probe];
            let mean = score["mean"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&mean) && score["std"].is_f64() && score["n"].is_u64(), "{score}");
        }
    }

    let page = place.program(&["report", "run"]).assert().success().get_output().stdout.clone();
    assert_eq!(String::from_utf8(page).unwrap().trim(), "run/report.html");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    for part in ["Scores", "Training", "ring", "stripes", "data:image/png;base64,"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    let plots = files(&place.path("run/plots"));
    for plot in ["confusion.png", "loss.png", "pca-trained.png", "scores.png", "views.png"] {
        assert!(plots.iter().any(|name| name == plot), "{plot} is not among {plots:?}");
    }

    place.program(&["embed", "run", "--data", "images", "--out", "x.npy"]).assert().success();
    let head = fs::read(place.path("x.npy")).unwrap();
    let head = String::from_utf8_lossy(&head[..100]);
    assert!(head.contains("NUMPY") && head.contains("(160, 16, )"), "{head}");
    let names = fs::read_to_string(place.path("x.names.txt")).unwrap();
    assert_eq!((names.lines().next(), names.lines().count()), (Some("ring/00.png"), 160));
    place.program(&["embed", "run", "--data", "images/ring", "--out", "x.csv"]).assert().success();
    let table = fs::read_to_string(place.path("x.csv")).unwrap();
    assert!(table.starts_with("name,feature_0,") && table.lines().count() == 81);

    place.program(&["export", "run", "--out", "exported"]).assert().success();
    assert_eq!(files(&place.path("exported")), ["config.json", "model.safetensors"]);
    assert_eq!(json(&place.path("exported/config.json"))["encoder"]["kind"], "convnet");
}

#[test]
fn text_becomes_scores_and_a_perplexity() {
    let place = Place::empty();
    for (genre, words) in
        [("sea", ["ship", "wave", "sail", "wind"]), ("land", ["tree", "hill", "road", "wind"])]
    {
        fs::create_dir_all(place.path("texts").join(genre)).unwrap();
        for i in 0..20 {
            let text: Vec<&str> = (0..120).map(|k| words[(k * (i + 3) + k / 5) % 4]).collect();
            fs::write(place.path("texts").join(genre).join(format!("{i}.txt")), text.join(" ")).unwrap();
        }
    }
    let settings = [
        "text.length=16",
        "text.tokenizer.vocab_size=280",
        "encoder.dim=16",
        "encoder.depth=1",
        "encoder.heads=2",
        "train.epochs=2",
        "train.batch_size=16",
        "eval.map_points=8",
        "eval.queries=1",
    ];
    let mut arguments = vec!["pretrain", "mlm-brown", "--data", "texts", "--run", "run"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    place.program(&arguments).assert().success();
    place.program(&["eval", "run"]).assert().success();
    let report = json(&place.path("run/report.json"));
    assert!(report["perplexity"]["model"].as_f64().unwrap() > 1.0);
    for encoder in ["trained", "untrained", "bag-of-words"] {
        assert!(report["scores"][encoder]["linear"]["mean"].is_f64(), "{encoder}");
    }
    place.program(&["report", "run"]).assert().success();
    place.program(&["embed", "run", "--data", "texts", "--out", "x.csv"]).assert().success();
    place.program(&["export", "run", "--out", "exported"]).assert().success();
    assert_eq!(files(&place.path("exported")), ["config.json", "model.safetensors", "tokenizer.json"]);
}

#[test]
fn what_can_be_named_is_listed() {
    let place = Place::empty();
    let listed = |arguments: &[&str]| place.program(arguments).assert().success().get_output().stdout.clone();
    let lists: Value = serde_json::from_slice(&listed(&["list", "--json"])).unwrap();
    let names = |list: &str| -> Vec<String> {
        let entries = lists[list].as_array().unwrap().iter();
        entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names("recipes").contains(&"simclr-fashion-mnist".to_owned()));
    assert!(names("data").contains(&"brown".to_owned()));
    let text = String::from_utf8(listed(&["list", "objectives"])).unwrap();
    assert!(text.contains("simclr") && !text.contains("fashion"), "{text}");
    let machine: Value = serde_json::from_slice(&listed(&["doctor", "--json"])).unwrap();
    assert_eq!(machine["libtorch"], "2.11.0");
    assert!(machine["cpu_threads"].as_u64().unwrap() > 0);
}
