//! `selfsup finetune`: every method, from scratch and from a run, with labels of every kind and labels that cannot be right.

use super::{Place, files};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;

/// Two steps an epoch, with a checkpoint after each: the third lies in the middle of an epoch.
const SMALL: &[&str] = &[
    "data.channels=1",
    "labels.batch_size=4",
    "views.size=16",
    "views.schedule=[]",
    "views.mean=[0.5]",
    "views.std=[0.5]",
    "train.epochs=2",
    "train.batch_size=64",
    "train.checkpoint_every=1",
    "train.keep=9",
    "train.log_every=1",
];
const ENCODER: &[&str] = &["encoder.widths=[8, 16]", "encoder.strides=[1, 2]"];
const STOPPED_AFTER: &str = "step-3";

impl Place {
    /// The arguments of a small fine-tuning into the folder `run`.
    fn finetuning<'a>(method: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let start =
            ["finetune", "--method", method, "--unlabelled", "images", "--run", run, "--threads", "1"];
        let settings = SMALL.iter().flat_map(|setting| ["--set", setting]);
        start.into_iter().chain(settings).chain(more.iter().copied()).collect()
    }

    /// The same with an encoder of its own.
    fn from_scratch<'a>(method: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let encoder = ENCODER.iter().flat_map(|setting| ["--set", setting]);
        Self::finetuning(method, run, more).into_iter().chain(encoder).collect()
    }

    fn report(&self, run: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(run).join("report.json")).unwrap()).unwrap()
    }

    /// A file of labels for three images of each class, and what else is to stand in it.
    fn label(&self, name: &str, more: &str) {
        let mut text = "file,label\n".to_owned();
        for class in ["ring", "stripes"] {
            for i in [3, 17, 40] {
                writeln!(text, "{class}/{i:02}.png,{class}").unwrap();
            }
        }
        fs::write(self.path(name), text + more).unwrap();
    }
}

fn methods(place: &Place) -> Vec<String> {
    let output =
        place.program(&["list", "finetune", "--json"]).assert().success().get_output().stdout.clone();
    let entries: Vec<Value> = serde_json::from_slice(&output).unwrap();
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_method_goes_on_as_if_never_stopped_and_reports_what_it_reaches() {
    let place = Place::new();
    let methods = methods(&place);
    assert_eq!(methods.len(), 9);
    for method in &methods {
        let stopped = format!("{method}-stopped");
        let mut drawn = vec!["--labels-per-class", "4", "--draw", "1"];
        if method == "distillation" {
            drawn.extend(["--teacher", "supervised"]);
        }
        place.program(&Place::from_scratch(method, method, &drawn)).assert().success();
        // A run that was killed after a checkpoint leaves that checkpoint, and lines of the log that came later.
        let (from, to) = (place.path(method), place.path(&stopped));
        let checkpoint = format!("checkpoints/{STOPPED_AFTER}");
        fs::create_dir_all(to.join(&checkpoint)).unwrap();
        for file in ["config.toml", "env.json", "metrics.jsonl"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        for file in files(&from.join(&checkpoint)) {
            fs::copy(from.join(&checkpoint).join(&file), to.join(&checkpoint).join(&file)).unwrap();
        }
        fs::write(to.join("checkpoints/last"), STOPPED_AFTER).unwrap();
        let resumed = [&drawn[..], &["--resume"]].concat();
        place.program(&Place::from_scratch(method, &stopped, &resumed)).assert().success();
        for file in ["model.safetensors", "optimizer.safetensors"] {
            assert!(place.last(&stopped, file) == place.last(method, file), "{method}: {file} differs");
        }

        let (report, other) = (place.report(method), place.report(&stopped));
        assert_eq!(report["scores"], other["scores"], "{method}");
        let share = |value: &Value| value.as_f64().filter(|share| (0.0..=1.0).contains(share));
        let scores = &report["scores"];
        assert_eq!((&report["method"], &report["labels"]), (&Value::from(method.as_str()), &Value::from(8)));
        assert_eq!(
            (report["labels_per_class"]["ring"].as_i64(), report["draw"].as_i64()),
            (Some(4), Some(1))
        );
        assert_eq!((report["unlabelled"].as_i64(), scores["test"].as_i64()), (Some(128), Some(32)));
        assert!(share(&scores["accuracy"]).is_some() && share(&scores["ece"]).is_some(), "{scores}");
        let (low, high) = (&scores["interval"]["low"], &scores["interval"]["high"]);
        assert!(
            share(low) <= share(&scores["accuracy"]) && share(&scores["accuracy"]) <= share(high),
            "{scores}"
        );
        assert!(share(&scores["per_class"]["stripes"]).is_some(), "{scores}");
        let pseudo = &report["pseudo_labels"];
        assert_eq!(pseudo.is_null(), method == "supervised", "{method}: {pseudo}");
        assert!(pseudo.is_null() || share(&pseudo["coverage"]).is_some(), "{method}: {pseudo}");
        assert_eq!(fs::read_to_string(from.join("labels.csv")).unwrap().lines().count(), 9);
    }
}

#[test]
fn a_classifier_labels_new_images_and_its_encoder_is_taken_along() {
    let place = Place::new();
    for class in ["ring", "stripes"] {
        for file in files(&place.path("images").join(class)) {
            let number: usize = file.trim_end_matches(".png").parse().unwrap();
            let part = place.path("split").join(if number.is_multiple_of(4) { "test" } else { "train" });
            fs::create_dir_all(part.join(class)).unwrap();
            fs::copy(place.path("images").join(class).join(&file), part.join(class).join(&file)).unwrap();
        }
    }
    let more = ["--labels-per-class", "16", "--set", "train.epochs=40", "--set", "labels.batch_size=32"];
    let arguments = Place::from_scratch("supervised", "run", &more);
    let arguments: Vec<_> = arguments.into_iter().map(|a| if a == "images" { "split" } else { a }).collect();
    place.program(&arguments).assert().success();

    // Other code than that which judged the test images labels them, and comes to the same.
    let label = ["label", "run", "--data", "split/test", "--min-probability", "0", "--out", "labels.csv"];
    place.program(&label).assert().success();
    let table = fs::read_to_string(place.path("labels.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let right = rows.iter().filter(|row| row[0].split('/').next() == Some(row[1])).count();
    let scores = &place.report("run")["scores"];
    assert_eq!(scores["test"].as_u64(), Some(rows.len() as u64));
    let accuracy = right as f64 / rows.len() as f64;
    assert!((scores["accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-9, "{accuracy}, {scores}");
    assert!(accuracy > 0.6, "{accuracy}");

    // What it says, in either form, can be learned from.
    let label = [&label[..6], &["--out", "labels.parquet"]].concat();
    place.program(&label).assert().success();
    let more = ["--labels", "labels.parquet", "--labelled", "split/test"];
    place.program(&Place::from_scratch("supervised", "pupil", &more)).assert().success();
    assert_eq!(place.report("pupil")["labels"].as_u64(), Some(rows.len() as u64));

    place.program(&["embed", "run", "--data", "split/test", "--out", "x.npy"]).assert().success();
    place.program(&["export", "run", "--out", "exported"]).assert().success();
    assert!(place.path("exported/model.safetensors").is_file());
    let clusters = ["--method", "k-means", "--clusters", "2", "--out", "clusters.csv"];
    place.program(&[&label[..4], &clusters].concat()).assert().success();
    assert!(fs::read_to_string(place.path("clusters.csv")).unwrap().contains("cluster-1"));
}

#[test]
fn begins_with_a_run_and_learns_from_a_file_of_labels() {
    let place = Place::new();
    place.pretrain("before", &[]).assert().success();
    // 33.png is among the images that are set aside where nobody labelled them.
    place.label("few.csv", "");
    let more = ["--from", "before", "--labels", "few.csv", "--json"];
    let printed = place.program(&Place::finetuning("fixmatch", "run", &more)).assert().success();
    let report = place.report("run");
    assert_eq!(serde_json::from_slice::<Value>(&printed.get_output().stdout).unwrap(), report);
    assert_eq!((report["from"].as_str(), report["labels"].as_i64()), (Some("before"), Some(6)));
    assert!(report["draw"].is_null() && report["scores"]["accuracy"].is_f64());
    let unlabelled = report["unlabelled"].as_i64().unwrap();
    assert_eq!(unlabelled + report["scores"]["test"].as_i64().unwrap(), 160);
    assert!(unlabelled >= 128, "{unlabelled}");
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("widths = [8, 16]") && config.contains("from = \"before\""), "{config}");
    // What a run wrote of its labels can be given again, and is the same.
    let again = ["--from", "before", "--labels", "run/labels.csv"];
    place.program(&Place::finetuning("fixmatch", "again", &again)).assert().success();
    assert!(place.last("again", "model.safetensors") == place.last("run", "model.safetensors"));
    // A run that was killed before its first checkpoint begins as it began then.
    fs::create_dir(place.path("killed")).unwrap();
    for file in ["config.toml", "env.json", "labels.csv"] {
        fs::copy(place.path("run").join(file), place.path("killed").join(file)).unwrap();
    }
    let resumed = [&again[..], &["--resume"]].concat();
    place.program(&Place::finetuning("fixmatch", "killed", &resumed)).assert().success();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(place.last("killed", file) == place.last("run", file), "{file} differs");
    }
    // The layer on the encoder begins as a probe of the labels, unless it is told not to.
    let random = [&again[..], &["--set", "start.head=random"]].concat();
    place.program(&Place::finetuning("fixmatch", "random", &random)).assert().success();
    assert!(place.last("random", "model.safetensors") != place.last("run", "model.safetensors"));

    let said = place.refusal(&["eval", "run"]);
    assert!(said.contains("run is a run of selfsup finetune"), "{said}");
    let said =
        place.refusal(&Place::finetuning("fixmatch", "other", &["--from", "nowhere", "--labels", "few.csv"]));
    assert!(said.contains("nowhere holds no run"), "{said}");
    let wrong = [&again[..2], &["--labels", "few.csv", "--set", "encoder.widths=[8, 12]"]].concat();
    let said = place.refusal(&Place::finetuning("fixmatch", "other", &wrong));
    assert!(said.contains("[16, 8, 3, 3]"), "{said}");
    assert!(!place.path("other").exists());
}

#[test]
fn simclrv2_is_fine_tuned_from_the_middle_of_its_projector_and_distilled() {
    let place = Place::new();
    let pretrained = |recipe: &'static str, run: &'static str, more: &[&'static str]| {
        let start = ["pretrain", recipe, "--data", "images", "--run", run];
        let settings = super::SMALL.iter().chain(more).chain(&["train.epochs=1"]);
        let arguments: Vec<_> =
            start.into_iter().chain(settings.flat_map(|setting| ["--set", setting])).collect();
        place.program(&arguments).assert().success();
    };
    pretrained("simclr-v2", "before", &["objective.projector.hidden=[16, 12]", "views.schedule=[]"]);
    pretrained("simclr-images", "plain", &[]);
    place.label("few.csv", "");
    let middle = ["--from", "before", "--labels", "few.csv", "--set", "start.projector_layers=1"];
    place.program(&Place::finetuning("fixmatch", "tuned", &middle)).assert().success();
    let config = |run: &str| fs::read_to_string(place.path(run).join("config.toml")).unwrap();
    let written = config("tuned");
    assert!(written.contains("kind = \"projected\"") && written.contains("hidden = [16]"), "{written}");
    assert!(written.contains("projector_layers = 1"), "{written}");
    // What the encoder says has the width of the layer, and what was killed at once begins as it began.
    place.program(&["embed", "tuned", "--data", "images", "--out", "x.npy"]).assert().success();
    let header = String::from_utf8_lossy(&fs::read(place.path("x.npy")).unwrap()[..128]).into_owned();
    assert!(header.contains("(160, 16"), "{header}");
    fs::create_dir(place.path("killed")).unwrap();
    for file in ["config.toml", "env.json", "labels.csv"] {
        fs::copy(place.path("tuned").join(file), place.path("killed").join(file)).unwrap();
    }
    let resumed = [&middle[..], &["--resume"]].concat();
    place.program(&Place::finetuning("fixmatch", "killed", &resumed)).assert().success();
    assert!(place.last("killed", "model.safetensors") == place.last("tuned", "model.safetensors"));
    // The layers are those that were pretrained.
    let parts = |run: &str, layer: &str| {
        let bytes = place.last(run, "model.safetensors");
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let span = |i: usize| header[layer]["data_offsets"][i].as_u64().unwrap() as usize + 8 + length;
        let values = bytes[span(0)..span(1)].chunks_exact(4);
        values.map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect::<Vec<_>>()
    };
    let still = [&middle[..], &["--set", "optimizer.lr=1e-12", "--set", "optimizer.weight_decay=0"]].concat();
    place.program(&Place::finetuning("supervised", "still", &still)).assert().success();
    let (layer, was) =
        (parts("still", "encoder.projector.0.weight"), parts("before", "objective.projector.0.weight"));
    assert_eq!(layer.len(), 16 * 16);
    assert!(layer.iter().zip(&was).all(|(a, b)| (a - b).abs() < 1e-6));
    // The config of such a run is a recipe.
    let same = ["--from", "before", "--labels", "few.csv"];
    place.program(&Place::finetuning("tuned/config.toml", "same", &same)).assert().success();
    assert!(place.last("same", "model.safetensors") == place.last("tuned", "model.safetensors"));
    for (more, expected) in [
        (&["--from", "plain"][..], "0, as plain is a run of simclr; a projector"),
        (&["--from", "tuned"], "0, as tuned is a run of selfsup finetune, whose layers come along"),
        (&["--from", "before", "--set", "start.projector_layers=3"], "at most 2, the hidden layers"),
        (&["--set", "encoder.widths=[8]", "--set", "encoder.strides=[1]"], "0 from scratch"),
    ] {
        let all = ["--labels", "few.csv", "--set", "start.projector_layers=1"];
        let said = place.refusal(&Place::finetuning("fixmatch", "other", &[&all[..], more].concat()));
        assert!(said.contains("start.projector_layers") && said.contains(expected), "{said}");
    }

    // A smaller student learns of the run, with pixels of another scale; one that begins with the run has it for a teacher.
    let small =
        ["--set", "encoder.widths=[4, 6]", "--set", "encoder.strides=[1, 2]", "--set", "views.std=[0.25]"];
    let labels = ["--labels", "few.csv"];
    let student = [&labels[..], &small, &["--teacher", "tuned"]].concat();
    place.program(&Place::finetuning("distillation", "student", &student)).assert().success();
    let report = place.report("student");
    assert_eq!(report["pseudo_labels"]["coverage"].as_f64(), Some(1.0));
    assert!(report["pseudo_labels"]["accuracy"].is_f64() && report["scores"]["accuracy"].is_f64());
    let again = [&labels[..], &["--from", "tuned"]].concat();
    place.program(&Place::finetuning("distillation", "again", &again)).assert().success();
    let written = config("again");
    assert!(written.contains("teacher = \"tuned\"") && written.contains("kind = \"projected\""), "{written}");

    let refused = |method: &'static str, more: &[&'static str], expected: &str| {
        let said = place.refusal(&Place::from_scratch(method, "other", more));
        assert!(said.contains(expected), "\"{expected}\" is not in: {said}");
        assert!(!place.path("other").exists());
    };
    refused(
        "distillation",
        &labels,
        "method.teacher = none: a run of selfsup finetune, as with --teacher RUN",
    );
    let with = |teacher: &'static str| [&labels[..], &["--teacher", teacher]].concat();
    refused("fixmatch", &with("tuned"), "--teacher: for --method distillation alone");
    refused("distillation", &with("before"), "method.teacher = before: a run of selfsup finetune");
    refused("distillation", &with("nowhere"), "nowhere holds no run");
    let wrong = [&with("tuned")[..], &["--set", "method.learning.alpha=2"]].concat();
    refused("distillation", &wrong, "method.learning.alpha = 2: a share from 0 to 1");
    fs::write(place.path("others.csv"), "file,label\nring/03.png,a\nring/04.png,b\n").unwrap();
    refused(
        "distillation",
        &["--labels", "others.csv", "--teacher", "tuned"],
        "the same classes as the labels, a, b; it tells apart ring, stripes",
    );
    let other = [&labels[..], &small, &["--teacher", "still", "--resume"]].concat();
    let said = place.refusal(&Place::finetuning("distillation", "student", &other));
    assert!(said.contains("samples.teacher"), "{said}");
}

#[test]
fn a_folder_without_classes_takes_them_from_the_file() {
    let place = Place::new();
    fs::create_dir(place.path("flat")).unwrap();
    let mut text = "file,label,weight\n".to_owned();
    for class in ["ring", "stripes"] {
        for i in 0..80 {
            let (from, to) = (format!("images/{class}/{i:02}.png"), format!("flat/{class}{i:02}.png"));
            fs::copy(place.path(&from), place.path(&to)).unwrap();
            if i < 3 {
                let weight = if i == 2 { "0" } else { "0.5" };
                writeln!(text, "{class}{i:02}.png,{class},{weight}").unwrap();
            }
        }
    }
    fs::write(place.path("few.csv"), text).unwrap();
    let mut arguments = Place::from_scratch("softmatch", "run", &["--labels", "few.csv"]);
    arguments[4] = "flat";
    let output = place.program(&arguments).assert().success().get_output().stdout.clone();
    let said = String::from_utf8(output).unwrap();
    assert!(said.contains("not judged: the set has no test images with labels"), "{said}");
    let report = place.report("run");
    // Nothing is set aside where nothing can be judged, and a label of weight 0 does not count.
    assert_eq!((report["unlabelled"].as_i64(), report["labels"].as_i64()), (Some(160), Some(4)));
    assert!(report["scores"].is_null() && report["pseudo_labels"]["accuracy"].is_null());
    assert!(report["pseudo_labels"]["coverage"].is_f64());
    let labels = fs::read_to_string(place.path("run/labels.csv")).unwrap();
    assert!(labels.starts_with("file,label,probability,weight,reason\nring00.png,ring,,0.5,\n"), "{labels}");
}

#[test]
fn labelled_images_may_come_from_elsewhere() {
    let place = Place::new();
    for class in ["ring", "stripes"] {
        fs::create_dir_all(place.path("own").join(class)).unwrap();
        for i in 0..5 {
            let name = format!("{class}/{i:02}.png");
            fs::rename(place.path("images").join(&name), place.path("own").join(&name)).unwrap();
        }
    }
    let more = ["--labels-per-class", "5", "--labelled", "own"];
    place.program(&Place::from_scratch("mean-teacher", "run", &more)).assert().success();
    let report = place.report("run");
    assert_eq!((report["labels"].as_i64(), report["unlabelled"].as_i64()), (Some(10), Some(120)));
}

#[test]
fn mixing_and_a_curriculum_are_there_for_all() {
    let place = Place::new();
    for (method, section) in [
        ("supervised", "method"),
        ("pseudo-label", "method.learning"),
        ("mean-teacher", "method"),
        ("mixmatch", "method.learning"),
        ("freematch", "method.learning"),
        ("distillation", "method.learning"),
    ] {
        let mixing = format!("{section}.mixing={{ kind = \"cutmix\", alpha = 0.5 }}");
        let curriculum = format!("{section}.curriculum={{ start = 0.25, until = 1.0 }}");
        let mut more = vec!["--labels-per-class", "4", "--set", &mixing, "--set", &curriculum];
        if method == "distillation" {
            more.extend(["--teacher", "supervised"]);
        }
        place.program(&Place::from_scratch(method, method, &more)).assert().success();
        let metrics = fs::read_to_string(place.path(method).join("metrics.jsonl")).unwrap();
        let first: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
        let admitted = if method == "supervised" { "labelled_coverage" } else { "coverage" };
        assert!(first[admitted].as_f64().unwrap() <= 0.25, "{method}: {first}");
    }

    // Of labels with weights the most reliable come first: to begin with, the others can be anything.
    let labels = |name: &str, doubtful: &str| {
        let mut text = "file,label,weight\n".to_owned();
        for (class, i, weight) in
            [("ring", 3, "0.9"), ("stripes", 4, "0.8"), (doubtful, 5, "0.4"), (doubtful, 6, "0.3")]
        {
            writeln!(text, "ring/{i:02}.png,{class},{weight}").unwrap();
        }
        fs::write(place.path(name), text).unwrap();
    };
    labels("right.csv", "ring");
    labels("wrong.csv", "stripes");
    let learned = |file: &str, run: &str, start: &str| {
        let curriculum = format!("method.curriculum={{ start = {start}, until = 1.0 }}");
        let more = ["--labels", file, "--set", &curriculum, "--set", "train.epochs=1"];
        place.program(&Place::from_scratch("supervised", run, &more)).assert().success();
        place.last(run, "model.safetensors")
    };
    let (right, wrong) = (learned("right.csv", "right", "0.5"), learned("wrong.csv", "wrong", "0.5"));
    assert!(right != wrong, "the second step admits three of four");
    let metrics = |run: &str| {
        let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(metrics("right")[0], metrics("wrong")[0]);
}

#[test]
fn labels_that_cannot_be_right_are_refused_and_nothing_is_written() {
    let place = Place::new();
    let refused = |more: &str, expected: &[&str]| {
        place.label("few.csv", more);
        let said = place.refusal(&Place::from_scratch("fixmatch", "run", &["--labels", "few.csv"]));
        assert!(said.contains("few.csv"), "{said}");
        for part in expected {
            assert!(said.contains(part), "\"{part}\" is not in: {said}");
        }
        assert!(!place.path("run").exists(), "{said}");
    };
    refused("ring/99.png,ring\n", &["line 8", "ring/99.png: the set has no such file"]);
    refused("ring/03.png,ring\n", &["line 8", "it is labelled ring on line 2 already"]);
    refused("ring/03.png,stripes\n", &["line 8", "it is labelled stripes here and ring on line 2"]);
    refused("ring/04.png,rings\n", &["label = rings: the set has no such class", "ring"]);
    refused("ring/04.png,\n", &["line 8", "label of ring/04.png is empty"]);
    let write = |text: &str| fs::write(place.path("few.csv"), text).unwrap();
    let refusal = || place.refusal(&Place::from_scratch("fixmatch", "run", &["--labels", "few.csv"]));
    write("file,label\nring/03.png,ring\nring/04.png,ring\n");
    assert!(refusal().contains("no label of the class stripes"), "{}", refusal());
    write("file,label,weight\nring/03.png,ring,0\nstripes/04.png,stripes,0\n");
    assert!(refusal().contains("weight: all 2 are 0"), "{}", refusal());
    write("name,label\nring/03.png,ring\n");
    assert!(refusal().contains("column"), "{}", refusal());
    assert!(!place.path("run").exists());
    // A single label of a class is little, and enough.
    write("file,label\nring/03.png,ring\nring/04.png,ring\nstripes/04.png,stripes\n");
    let arguments = Place::from_scratch("fixmatch", "run", &["--labels", "few.csv"]);
    let output = place.program(&arguments).assert().success().get_output().stderr.clone();
    let said = String::from_utf8(output).unwrap();
    assert!(said.contains("a single label of the class stripes"), "{said}");
}

#[test]
fn fields_and_folders_that_cannot_work_are_named() {
    let place = Place::new();
    let refused = |more: &[&str], expected: &str| {
        let said = place.refusal(&Place::from_scratch("fixmatch", "run", more));
        assert!(said.contains(expected), "\"{expected}\" is not in: {said}");
        assert!(!place.path("run").exists(), "{said}");
    };
    let drawn = |setting: &'static str| ["--labels-per-class", "4", "--set", setting];
    refused(&["--labels-per-class", "300"], "labels.per_class = 300: at most 6");
    refused(&["--labels-per-class", "0"], "labels.per_class = 0: at least 1");
    refused(&drawn("method.labeler.tau=1.5"), "method.labeler.tau = 1.5: 0 to 1");
    refused(&drawn("method.learning.weight=-1"), "method.learning.weight = -1");
    refused(&drawn("method.learning.momentum=1"), "method.learning.momentum = 1");
    refused(&drawn("views.unlabelled=[]"), "views = 0: at least 1 of each unlabelled image");
    refused(&drawn("views.strong.cutout={ side = [0.0, 9.0] }"), "views.cutout.side = [0, 9]");
    refused(&drawn("labels.batch_size=0"), "labels.batch_size = 0: at least 1");
    refused(&drawn("train.batch_size=4000"), "train.batch_size = 4000: at most the 128 samples");
    let said = place.refusal(&Place::from_scratch("fixmach", "run", &["--labels-per-class", "4"]));
    assert!(said.contains("--method fixmach") && said.contains("fixmatch"), "{said}");
    let infinite = place.refusal(&Place::from_scratch("fixmatch", "infinite", &drawn("views.std=[1e-45]")));
    assert!(infinite.contains("of a weak view is not finite: step 0"), "{infinite}");
    let reason = fs::read_to_string(place.path("infinite/replay/step-0/reason.txt")).unwrap();
    assert_eq!(reason.lines().filter(|line| line.contains(".png")).count(), 4 + 64, "{reason}");
    for wrong in [
        &["finetune", "--method", "fixmatch", "--unlabelled", "images"][..],
        &["finetune", "--method", "fixmatch", "--labels", "a.csv", "--labels-per-class", "4"],
        &["finetune", "--method", "fixmatch", "--labels", "a.csv", "--draw", "4"],
    ] {
        place.program(wrong).assert().failure().code(2);
    }
    let said = place.refusal(&["finetune", "--method", "fixmatch", "--labels-per-class", "4"]);
    assert!(said.contains("--unlabelled is missing"), "{said}");
    place.program(&Place::from_scratch("fixmatch", "run", &["--labels-per-class", "4"])).assert().success();
    let said = place.refusal(&Place::from_scratch("fixmatch", "run", &["--labels-per-class", "4"]));
    assert!(said.contains("run: is not empty; resume"), "{said}");
    let said =
        place.refusal(&Place::from_scratch("fixmatch", "run", &["--labels-per-class", "5", "--resume"]));
    assert!(said.contains("samples.labels"), "{said}");
    place
        .program(&Place::from_scratch("fixmatch", "run", &["--labels-per-class", "5", "--overwrite"]))
        .assert()
        .success();
    assert_eq!(place.report("run")["labels"].as_i64(), Some(10));
}

#[test]
fn layers_near_the_images_learn_more_slowly_where_that_is_asked_for() {
    let place = Place::new();
    place.pretrain("before", &["--set", "train.epochs=1"]).assert().success();
    place.label("few.csv", "");
    let with = |run: &'static str, decay: &'static str| {
        let more = ["--from", "before", "--labels", "few.csv", "--set", decay, "--set", "optimizer.lr=0.01"];
        Place::finetuning("supervised", run, &more).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let finetune = |run, decay| {
        let arguments = with(run, decay);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.program(&arguments).assert().success();
        place.last(run, "model.safetensors")
    };
    let even = finetune("even", "train.layer_decay=1.0");
    assert_ne!(even, finetune("decayed", "train.layer_decay=0.1"));
    let config = fs::read_to_string(place.path("decayed/config.toml")).unwrap();
    assert!(config.contains("layer_decay = 0.1"), "{config}");
    let wrong = with("wrong", "train.layer_decay=0");
    let said = place.refusal(&wrong.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("train.layer_decay = 0: above 0"), "{said}");
    assert!(!place.path("wrong").exists());
}

#[test]
fn classifiers_are_compared_on_the_same_test_images() {
    let place = Place::new();
    let tuned = |method: &'static str, run: &'static str, more: &[&'static str]| {
        let labels = ["--labels-per-class", "4"];
        let all = [&labels[..], more].concat();
        place.program(&Place::from_scratch(method, run, &all)).assert().success();
    };
    tuned("supervised", "a", &["--draw", "0"]);
    tuned("supervised", "b", &["--draw", "1"]);
    tuned("supervised", "c", &["--draw", "0", "--set", "train.seed=1"]);
    tuned("fixmatch", "d", &["--draw", "0"]);
    let printed = place.program(&["compare", "a", "b", "c", "d", "--json"]).assert().success();
    let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    assert_eq!((&found["probe"], found["pairs"].as_array().unwrap().len()), (&"classifier".into(), 6));
    // Other draws of labels are repetitions as other seeds are.
    let methods = found["methods"].as_array().unwrap();
    assert_eq!((methods.len(), &methods[0]["accuracy"]["n"]), (1, &3.into()), "{found}");
    assert!(methods[0]["method"].as_str().unwrap().starts_with("supervised, 8 labels"), "{methods:?}");
    for (i, run) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let (told, report) = (&found["runs"][i]["accuracy"]["value"], place.report(run));
        assert_eq!(told, &report["scores"]["accuracy"], "{run}");
    }
    tuned("supervised", "e", &["--draw", "0", "--set", "train.log_every=2"]);
    let said = place.refusal(&["compare", "a", "e"]);
    assert!(
        said.contains("e: is the same recipe at the same step with the same train.seed = 0 as a"),
        "{said}"
    );
    tuned("supervised", "f", &["--draw", "0", "--set", "data.limit=100"]);
    let said = place.refusal(&["compare", "a", "f"]);
    assert!(said.contains("f: its training samples are others than those of a"), "{said}");
    fs::remove_file(place.path("b/answers.json")).unwrap();
    let said = place.refusal(&["compare", "a", "b"]);
    assert!(said.contains("b/answers.json: run selfsup finetune --resume --run b again"), "{said}");
}
