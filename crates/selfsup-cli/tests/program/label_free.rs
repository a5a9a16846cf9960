//! What is asked of features and images without labels.

use super::Place;
use npyz::WriterBuilder as _;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn write_features(path: &Path, n: u32, dim: u32) {
    let value = |i: u32| (f64::from(i).powf(1.5) * 0.37).sin() as f32;
    let mut bytes = Vec::new();
    let shape = [u64::from(n), u64::from(dim)];
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd().unwrap();
    writer.extend((0..n * dim).map(value)).unwrap();
    writer.finish().unwrap();
    fs::write(path, bytes).unwrap();
}

/// The names and values of an encoder's health.
fn health(report: &Value, encoder: &str) -> Vec<(String, f64)> {
    let all = report["suite"][encoder]["health"].as_array().unwrap_or_else(|| panic!("{report}"));
    assert!(
        all.iter().all(|m| m["n"].as_u64().is_some_and(|n| n > 1) && m["definition"].is_string()),
        "{all:?}"
    );
    all.iter().map(|m| (m["name"].as_str().unwrap().to_owned(), m["value"].as_f64().unwrap())).collect()
}

#[test]
fn features_without_labels_are_asked_what_needs_none() {
    let place = Place::empty();
    fs::create_dir(place.path("features")).unwrap();
    write_features(&place.path("features/train.npy"), 90, 12);
    write_features(&place.path("features/test.npy"), 60, 12);
    let eval = ["eval", "--features", "features", "--suite", "full", "--threads", "1"];
    let printed = place.program(&eval).assert().success().get_output().clone();
    let said = String::from_utf8(printed.stderr).unwrap();
    assert!(said.contains("features: there are no labels: only what needs none is asked"), "{said}");
    let report = json(&place.path("features/report.json"));
    let found = health(&report, "trained");
    for name in ["std", "rank_me", "uniformity", "effective_rank features", "silhouette@2", "silhouette@10"] {
        assert!(found.iter().any(|(known, _)| known == name), "{name}: {found:?}");
    }
    assert_eq!(report["scores"]["trained"], serde_json::json!({}));
    assert_eq!(report["data"]["classes"], serde_json::json!([]));
    let page = fs::read_to_string(place.path("features/report.html")).unwrap();
    assert!(page.contains("Health without labels") && page.contains("silhouette@10"));
    assert!(!place.path("features/answers.json").exists());
    // Labels of one part alone are a mistake.
    fs::write(place.path("features/train_labels.npy"), "").unwrap();
    let said = place.refusal(&["eval", "--features", "features"]);
    assert!(said.contains("train_labels.npy"), "{said}");
}

#[test]
fn images_without_labels_are_asked_what_needs_none() {
    let place = Place::new();
    fs::rename(place.path("images"), place.path("both")).unwrap();
    fs::rename(place.path("both/ring"), place.path("images")).unwrap();
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    place.program(&["eval", "run", "--suite", "full", "--threads", "1"]).assert().success();
    let report = json(&place.path("run/report.json"));
    for encoder in ["trained", "untrained", "pixels"] {
        let found = health(&report, encoder);
        for name in ["std", "alignment", "lidar"] {
            assert!(
                found.iter().any(|(known, value)| known == name && value.is_finite()),
                "{encoder}: {found:?}"
            );
        }
    }
    let layers =
        health(&report, "trained").into_iter().filter(|(name, _)| name.starts_with("effective_rank "));
    assert!(layers.count() > 1);
}
