//! From a folder of files to scores, a report, features and weights.

use super::{Place, files};
use npyz::WriterBuilder as _;
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

    let run = &report["run"];
    assert_eq!(
        (&run["method"], &run["encoder"], &run["seed"]),
        (&"simclr".into(), &"convnet".into(), &0.into())
    );
    assert_eq!((&run["step"], &run["dim"]), (&24.into(), &16.into()));
    for number in ["parameters", "objective_parameters", "training_seconds", "samples_per_second"] {
        assert!(run[number].as_f64().unwrap() > 0.0, "{number}: {run}");
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

    // A checkpoint that came after the evaluation has other scores.
    let earlier = fs::read_to_string(place.path("run/report.json")).unwrap();
    fs::write(place.path("run/report.json"), earlier.replace("\"step\": 24", "\"step\": 16")).unwrap();
    let refusal = place.refusal(&["report", "run"]);
    assert!(
        refusal.contains("of step 16, but the last checkpoint is of step 24: run selfsup eval run"),
        "{refusal}"
    );

    place.program(&["embed", "run", "--data", "images", "--out", "x.npy"]).assert().success();
    let head = fs::read(place.path("x.npy")).unwrap();
    let head = String::from_utf8_lossy(&head[..100]);
    assert!(head.contains("NUMPY") && head.contains("(160, 16, )"), "{head}");
    let names = fs::read_to_string(place.path("x.names.txt")).unwrap();
    assert_eq!((names.lines().next(), names.lines().count()), (Some("ring/00.png"), 160));
    let refusal = place.refusal(&["embed", "run", "--data", "images", "--out", "x.npy"]);
    assert!(refusal.contains("x.npy is there already; name another, or add --overwrite"), "{refusal}");
    let refusal = place.refusal(&["embed", "run", "--data", "images", "--out", "no/x.npy"]);
    assert!(refusal.contains("--out no/x.npy: there is no folder no"), "{refusal}");
    place.program(&["embed", "run", "--data", "images", "--out", "x.npy", "--overwrite"]).assert().success();
    place.program(&["embed", "run", "--data", "images/ring", "--out", "x.csv"]).assert().success();
    let table = fs::read_to_string(place.path("x.csv")).unwrap();
    assert!(table.starts_with("name,feature_0,") && table.lines().count() == 81);

    place.program(&["export", "run", "--out", "exported"]).assert().success();
    assert_eq!(files(&place.path("exported")), ["config.json", "model.safetensors"]);
    assert_eq!(json(&place.path("exported/config.json"))["encoder"]["kind"], "convnet");
}

#[test]
fn an_encoder_is_judged_on_other_data_and_by_other_settings_in_a_folder_of_its_own() {
    let place = Place::new();
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    for class in ["dots", "ring", "stripes"] {
        fs::create_dir_all(place.path("others").join(class)).unwrap();
        for i in 0..30 {
            let file = place.path("others").join(class).join(format!("{i:02}.png"));
            super::picture(if class == "dots" { "ring" } else { class }, i + 100).save(file).unwrap();
        }
    }
    place.program(&["eval", "run", "--suite", "full", "--alone"]).assert().success();
    let own = fs::read(place.path("run/report.json")).unwrap();
    let other: &[&str] =
        &["eval", "run", "--data", "others", "--alone", "--suite", "full", "--out", "transfer"];
    place.program(other).assert().success();
    let report = json(&place.path("transfer/report.json"));
    assert_eq!(report["data"]["classes"], serde_json::json!(["dots", "ring", "stripes"]));
    assert_eq!((&report["data"]["name"], &report["run"]["step"]), (&"others".into(), &8.into()));
    let page = fs::read_to_string(place.path("transfer/report.html")).unwrap();
    assert!(page.contains("<span>--data</span> <span>others</span> <span>--out</span>"));
    // Who has seen the same can be compared, and nothing of the run was touched.
    place.program(&[&other[..7], &["--out", "again", "--weights", "trained"]].concat()).assert().success();
    let once = place.refusal(&["compare", "transfer", "again"]);
    assert!(once.contains("is the same recipe at the same step with the same train.seed"), "{once}");
    let unlike = place.refusal(&["compare", "run", "transfer"]);
    assert!(unlike.contains("test samples are others than those of"), "{unlike}");
    assert_eq!(fs::read(place.path("run/report.json")).unwrap(), own);

    let set: &[&str] = &["eval", "run", "--alone", "--set", "eval.few_label.labels_per_class=3"];
    place.program(&[set, &["--out", "three"]].concat()).assert().success();
    assert!(json(&place.path("three/report.json"))["scores"]["trained"]["few3"]["mean"].is_f64());
    let refused = |arguments: &[&str], part: &str| {
        let said = place.refusal(arguments);
        assert!(said.contains(part), "{part}: {said}");
    };
    let again = "three/answers.json: run selfsup eval --suite full RUN --out three --overwrite";
    refused(&["compare", "three", "transfer"], again);
    refused(set, "--out is missing: the report in the run's folder is of its own data and settings");
    refused(&other[..5], "--out is missing");
    refused(&[set, &["--out", "three"]].concat(), "three/config.toml is there already");
    refused(&[set, &["--out", "run", "--overwrite"]].concat(), "run: holds a report that would be lost");
    refused(
        &["eval", "run", "--set", "train.epochs=3", "--out", "new"],
        "--set train.epochs: a run is judged by the fields of eval",
    );
    refused(&["eval", "run", "--set", "eval.knn.kk=3", "--out", "new"], "eval.knn.kk");
    refused(&["eval", "run", "--data", "nowhere", "--out", "new"], "nowhere");
    assert!(!place.path("new").exists());
    place.program(&[set, &["--out", "three", "--overwrite"]].concat()).assert().success();
}

#[test]
fn images_that_came_after_the_training_are_told() {
    let place = Place::new();
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    let said = || {
        let output = place.program(&["eval", "run", "--alone"]).assert().success().get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!said().contains("note: "), "{}", said());
    for class in ["ring", "stripes"] {
        for i in 80..90 {
            let file = place.path("images").join(class).join(format!("{i}.png"));
            super::picture(class, i).save(file).unwrap();
        }
    }
    let notes = said();
    let note = notes.lines().find(|line| line.starts_with("note: ")).unwrap_or_default();
    assert!(
        note.contains("images: the training images, their names or labels are others")
            && note.contains("128 then and"),
        "{notes}"
    );
}

/// Features `[N, D]` as a file of floats.
fn write_features(path: &Path, rows: &[Vec<f32>]) {
    let shape = [rows.len() as u64, rows[0].len() as u64];
    let values: Vec<f32> = rows.iter().flatten().copied().collect();
    write_npy(path, &shape, &values);
}

fn write_npy<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[u64], values: &[T]) {
    let mut bytes = Vec::new();
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn features_that_a_run_gave_away_are_judged_as_the_run_is() {
    let place = Place::new();
    for class in ["ring", "stripes"] {
        fs::create_dir_all(place.path("split/test").join(class)).unwrap();
        fs::create_dir_all(place.path("split/train")).unwrap();
        for i in 50..80 {
            let name = format!("{class}/{i}.png");
            fs::rename(place.path("images").join(&name), place.path("split/test").join(&name)).unwrap();
        }
        fs::rename(place.path("images").join(class), place.path("split/train").join(class)).unwrap();
    }
    fs::remove_dir(place.path("images")).unwrap();
    fs::rename(place.path("split"), place.path("images")).unwrap();
    place.pretrain("run", &["--set", "eval.knn={ k = 20, temperature = 0.07 }"]).assert().success();
    place.program(&["eval", "run"]).assert().success();
    place.program(&["embed", "run", "--data", "images", "--out", "all.npy"]).assert().success();

    // Both parts in order, 100 images to train on and 60 to test on.
    let names = fs::read_to_string(place.path("all.names.txt")).unwrap();
    let parts: Vec<&str> = names.lines().map(|name| name.split('/').next().unwrap()).collect();
    assert!(
        parts[..100].iter().all(|part| *part == "train") && parts[100..].iter().all(|part| *part == "test")
    );
    let labels: Vec<i64> = names.lines().map(|name| i64::from(name.contains("stripes"))).collect();
    let all = npyz::NpyFile::new(fs::File::open(place.path("all.npy")).unwrap()).unwrap();
    let rows: Vec<Vec<f32>> = all.into_vec().unwrap().chunks(16).map(<[f32]>::to_vec).collect();
    assert_eq!((rows.len(), labels.len()), (160, 160));
    fs::create_dir(place.path("features")).unwrap();
    let at = |name: &str| place.path("features").join(name);
    write_features(&at("train.npy"), &rows[..100]);
    write_features(&at("test.npy"), &rows[100..]);
    write_npy(&at("train_labels.npy"), &[100], &labels[..100]);
    write_npy(&at("test_labels.npy"), &[60], &labels[100..]);

    let printed = place.program(&["eval", "--features", "features", "--json"]).assert().success();
    let (own, given) = (json(&place.path("run/report.json")), json(&at("report.json")));
    assert_eq!(serde_json::from_slice::<Value>(&printed.get_output().stdout).unwrap(), given);
    for probe in ["linear", "few10", "knn"] {
        assert!(given["scores"]["trained"][probe]["mean"].as_f64().unwrap() > 0.0, "{probe}");
        assert_eq!(given["scores"]["trained"][probe], own["scores"]["trained"][probe], "{probe}");
        assert_eq!(given["definitions"][probe], own["definitions"][probe], "{probe}");
    }
    for number in ["std", "rank_me", "uniformity"] {
        assert_eq!(given["health"]["trained"][number], own["health"]["trained"][number], "{number}");
    }
    assert_eq!(given["linear_probe"]["trained"], own["linear_probe"]["trained"]);
    assert_eq!(
        (&given["data"]["name"], &given["data"]["train"], &given["data"]["test"], &given["data"]["dim"]),
        (&"features".into(), &100.into(), &60.into(), &16.into())
    );

    // Another setting of a probe is another score of that probe alone.
    let other = ["eval", "--features", "features", "--set", "eval.few_label.labels_per_class=3"];
    place.program(&other).assert().success();
    let other = json(&at("report.json"));
    assert!(other["scores"]["trained"]["few3"]["mean"].is_f64());
    assert_eq!(other["scores"]["trained"]["linear"], given["scores"]["trained"]["linear"]);

    // The full suite: numbers that explain themselves, a page, and answers by which the two are compared.
    place.program(&["eval", "run", "--suite", "full"]).assert().success();
    fs::write(at("columns.txt"), "a\nb\n").unwrap();
    let earlier = fs::read(at("report.json")).unwrap();
    let refusal = place.refusal(&["eval", "--features", "features", "--suite", "full"]);
    assert!(refusal.contains("columns.txt: 2 names for the 16 columns of train"), "{refusal}");
    assert_eq!(fs::read(at("report.json")).unwrap(), earlier);
    let names: Vec<String> = (0..16).map(|column| format!("channel {column}\n")).collect();
    fs::write(at("columns.txt"), names.concat()).unwrap();
    place.program(&["eval", "--features", "features", "--suite", "full"]).assert().success();
    let page = fs::read_to_string(at("report.html")).unwrap();
    assert!(page.contains("What the classes hang on") && page.contains("channel 15"));
    let (own, given) = (json(&place.path("run/report.json")), json(&at("report.json")));
    for group in ["retrieval", "clustering", "few_labels", "novel_classes"] {
        let found = &given["suite"]["trained"][group];
        assert_eq!(found, &own["suite"]["trained"][group], "{group}");
        let first = &found[0];
        assert!(first["value"].is_f64() && first["interval"]["low"].is_f64(), "{first}");
        assert_eq!((&first["split"], first["definition"].is_string()), (&"test".into(), true), "{first}");
    }
    let columns = given["suite"]["trained"]["columns"].as_array().unwrap();
    assert_eq!((columns.len(), &columns[3]["name"]), (16, &"channel 3".into()));
    assert!(columns.iter().all(|column| column["interval"]["low"].is_f64()));
    assert!(own["suite"]["pixels"]["health"].as_array().unwrap().iter().any(|m| m["name"] == "lidar"));
    // Images can be disturbed, features cannot. (These images are too easy for an mCE: the untrained encoder errs nowhere.)
    let robust = own["suite"]["trained"]["robustness"].as_array().unwrap();
    for name in [
        "clean_accuracy",
        "accuracy_kept",
        "kept_noise",
        "kept_shift",
        "label_noise@10",
        "attacked_clean",
        "fgsm@1",
        "fgsm_kept@1",
        "pgd@8",
        "pgd_kept@8",
        "corrupted_auroc_knn",
        "corrupted_ap_mahalanobis",
        "corrupted_fpr95_energy",
    ] {
        let found = robust.iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(found["value"].is_f64() && found["interval"]["low"].is_f64(), "{found}");
    }
    assert_eq!(own["suite"]["trained"]["corruptions"].as_array().unwrap().len(), 17 * 5);
    assert!(given["suite"]["trained"]["robustness"].is_null());
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Under corruption") && page.contains("What the disturbances look like"));
    for page in [place.path("run/report.html"), at("report.html")] {
        let text = fs::read_to_string(&page).unwrap();
        for part in ["Full suite", "Retrieval", "Few labels", "What each measure is"] {
            assert!(text.contains(part), "{}: {part}", page.display());
        }
    }
    let compare = ["compare", "run", "features", "--json", "--out", "compared"];
    let printed = place.program(&compare).assert().success();
    let compared: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    assert_eq!(compared["pairs"][0]["paired"]["difference"]["value"], 0.0);
    assert_eq!(compared["pairs"][0]["p_holm"], 1.0);
    assert_eq!(files(&place.path("compared")), ["compare.json", "plots", "report.html"]);
}

#[test]
fn a_run_that_does_not_learn_is_told_to_stand_still() {
    let place = Place::new();
    let still = ["optimizer.lr=1e-12", "train.epochs=24"].iter().flat_map(|setting| ["--set", setting]);
    place.pretrain("run", &still.collect::<Vec<_>>()).assert().success();
    let log = fs::read_to_string(place.path("run/train.log")).unwrap();
    assert_eq!(log.matches(": standstill: from epoch ").count(), 1, "{log}");
    let said = place.program(&["eval", "run", "--alone"]).assert().success().get_output().stderr.clone();
    assert!(String::from_utf8(said).unwrap().contains("warning: standstill: from epoch "));
    place.program(&["report", "run"]).assert().success();
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Warning: </strong>standstill: from epoch "));
    let learns = ["train.epochs=24", "optimizer.lr=0.1"].iter().flat_map(|setting| ["--set", setting]);
    let printed = place.pretrain("learns", &learns.collect::<Vec<_>>()).assert().success();
    assert!(!String::from_utf8(printed.get_output().stderr.clone()).unwrap().contains("standstill"));
}

#[test]
fn text_becomes_scores_and_a_perplexity() {
    let place = Place::empty();
    // Each text is made of two words of its genre: the rest of a text tells what is hidden in it.
    for (genre, words) in [
        ("sea", ["ship", "wave", "sail", "wind", "port"]),
        ("land", ["tree", "hill", "road", "wind", "lake"]),
    ] {
        fs::create_dir_all(place.path("texts").join(genre)).unwrap();
        for i in 0..40 {
            let own = [words[i % 5], words[(i + 1 + i / 5 % 4) % 5]];
            let text: Vec<&str> = (0..60).map(|k| own[(k * k + k / 3) % 2]).collect();
            fs::write(place.path("texts").join(genre).join(format!("{i}.txt")), text.join(" ")).unwrap();
        }
    }
    let settings = [
        "text.length=16",
        "text.tokenizer.vocab_size=280",
        "encoder.dim=32",
        "encoder.depth=1",
        "encoder.heads=2",
        "encoder.dropout=0.0",
        "optimizer.lr=5e-3",
        "schedule.reference_batch=16",
        "train.epochs=8",
        "train.batch_size=16",
        "eval.map_points=8",
        "eval.queries=1",
    ];
    let mut arguments = vec!["pretrain", "mlm-brown", "--data", "texts", "--run", "run", "--threads", "1"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    place.program(&arguments).assert().success();
    place.program(&["eval", "run", "--threads", "1"]).assert().success();
    let report = json(&place.path("run/report.json"));
    let number = |path: &str| report.pointer(path).unwrap().as_f64().unwrap();
    let (model, unigram) = (number("/perplexity/model"), number("/perplexity/unigram"));
    assert!(model > 1.0 && model < 0.7 * unigram, "{model} of {unigram}");
    for probe in ["linear", "knn"] {
        let [trained, untrained] =
            ["trained", "untrained"].map(|encoder| number(&format!("/scores/{encoder}/{probe}/mean")));
        assert!(trained >= untrained, "{probe}: {trained}, untrained {untrained}");
    }
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

#[test]
fn features_with_other_targets_than_classes_are_judged_too() {
    let place = Place::empty();
    let x = |i: u64, d: u64| ((i * 5 + d) as f32).powf(1.5).sin();
    let rows: Vec<Vec<f32>> = (0..150).map(|i| (0..5).map(|d| x(i, d)).collect()).collect();
    let folder = |name: &str| {
        fs::create_dir(place.path(name)).unwrap();
        write_features(&place.path(name).join("train.npy"), &rows[..100]);
        write_features(&place.path(name).join("test.npy"), &rows[100..]);
    };
    let judged = |name: &str| -> Value {
        place.program(&["eval", "--features", name, "--suite", "full"]).assert().success();
        let page = fs::read_to_string(place.path(name).join("report.html")).unwrap();
        assert!(page.contains("Report of features") && page.contains("<svg"), "{name}");
        json(&place.path(name).join("report.json"))
    };
    folder("numbers");
    let numbers: Vec<f32> = rows.iter().map(|row| 3.0 * row[0] - row[4] + 7.0).collect();
    write_npy(&place.path("numbers/train_targets.npy"), &[100], &numbers[..100]);
    write_npy(&place.path("numbers/test_targets.npy"), &[50], &numbers[100..]);
    let r2 = &judged("numbers")["suite"]["trained"]["regression"][0];
    assert!(r2["name"] == "r2" && r2["value"].as_f64().unwrap() > 0.99, "{r2}");
    assert!(r2["interval"]["low"].is_f64() && r2["split"] == "test" && r2["definition"].is_string(), "{r2}");

    folder("labels");
    let labels: Vec<i64> = rows.iter().flat_map(|row| [row[0] > 0.0, row[1] > 0.3].map(i64::from)).collect();
    write_npy(&place.path("labels/train_targets.npy"), &[100, 2], &labels[..200]);
    write_npy(&place.path("labels/test_targets.npy"), &[50, 2], &labels[200..]);
    let report = judged("labels");
    let map = &report["suite"]["trained"]["multi_label"][0];
    assert!(map["name"] == "multi_label_map" && map["value"].as_f64().unwrap() > 0.9, "{map}");
    assert!(report["health"]["trained"]["std"].is_f64());
    // What needs no targets is asked of these too.
    let health = report["suite"]["trained"]["health"].as_array().unwrap();
    assert!(health.iter().any(|m| m["name"] == "effective_rank features"), "{health:?}");

    folder("anomalies");
    let marks: Vec<i64> = (0..50).map(|i| i64::from(i >= 40)).collect();
    write_npy(&place.path("anomalies/test_anomalies.npy"), &[50], &marks);
    let moved = |row: &Vec<f32>, by: f32| row.iter().map(|v| v + by).collect::<Vec<f32>>();
    let normal: Vec<_> = rows[..100].iter().map(|row| moved(row, 4.0)).collect();
    write_features(&place.path("anomalies/train.npy"), &normal);
    let mixed: Vec<_> =
        rows[100..].iter().zip(&marks).map(|(row, m)| moved(row, 4.0 - 8.0 * *m as f32)).collect();
    write_features(&place.path("anomalies/test.npy"), &mixed);
    let auroc = &judged("anomalies")["suite"]["trained"]["anomalies"][0];
    assert!(auroc["name"] == "ood_auroc_knn" && auroc["value"].as_f64().unwrap() > 0.99, "{auroc}");

    folder("constant");
    write_npy(&place.path("constant/train_targets.npy"), &[100], &numbers[..100]);
    write_npy(&place.path("constant/test_targets.npy"), &[50], &[1.0_f32; 50]);
    let said = place.refusal(&["eval", "--features", "constant"]);
    assert!(said.contains("test_targets.npy: all values of column 0 are equal"), "{said}");

    let said = place.refusal(&["compare", "numbers", "labels"]);
    assert!(said.contains("numbers/report.json"), "{said}");
}
