//! `--weights teacher`: a method's moving average, judged, embedded, exported and reported in the encoder's place.

use super::Place;
use super::dense::scenes;
use serde_json::Value;
use std::fs;

const SMALL: &[&str] = &[
    "data.channels=1",
    "views.kinds=[{ count = 2, size = 16, blur = { p = 0.0 }, mean = [0.5], std = [0.5] }]",
    "encoder.image_size=16",
    "encoder.patch_size=8",
    "encoder.dim=16",
    "encoder.depth=2",
    "encoder.heads=2",
    "encoder.drop_path=0.2",
    "objective.head={ hidden = 8, bottleneck = 4, output = 8 }",
    "train.epochs=2",
    "train.batch_size=16",
    "eval.map_points=8",
    "eval.queries=1",
];

fn report(place: &Place) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path("run/report.json")).unwrap()).unwrap()
}

#[test]
fn the_teacher_is_judged_embedded_exported_and_reported_in_the_encoders_place() {
    let place = Place::new();
    let mut arguments = vec!["pretrain", "dino-vit", "--data", "images", "--run", "run", "--threads", "1"];
    // A teacher that never moves is what the encoder was before training, whose scores stand beside.
    arguments.extend(SMALL.iter().chain(&["objective.momentum=1.0"]).flat_map(|setting| ["--set", setting]));
    place.program(&arguments).assert().success();

    place.program(&["eval", "run", "--threads", "1"]).assert().success();
    let of_student = report(&place);
    assert_eq!(of_student["run"]["weights"], "trained");
    assert_ne!(of_student["health"]["trained"], of_student["health"]["untrained"]);

    place.program(&["eval", "run", "--weights", "teacher", "--threads", "1"]).assert().success();
    let of_teacher = report(&place);
    assert_eq!(of_teacher["run"]["weights"], "teacher");
    for what in ["health", "scores"] {
        assert_eq!(of_teacher[what]["trained"], of_teacher[what]["untrained"], "{what}");
    }
    assert_eq!(of_teacher["health"]["untrained"], of_student["health"]["untrained"]);

    place.program(&["report", "run", "--threads", "1"]).assert().success();
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("the teacher's"));

    for (whose, folder) in [("trained", "of_student"), ("teacher", "of_teacher")] {
        let features = format!("{folder}.csv");
        let embed =
            ["embed", "run", "--weights", whose, "--data", "images", "--out", &features, "--threads", "1"];
        place.program(&embed).assert().success();
        place.program(&["export", "run", "--weights", whose, "--out", folder]).assert().success();
        let config = fs::read_to_string(place.path(folder).join("config.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["weights"], whose);
    }
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    assert_ne!(read("of_student.csv"), read("of_teacher.csv"));
    let [student, teacher] =
        ["of_student", "of_teacher"].map(|name| read(&format!("{name}/model.safetensors")));
    assert!(student.len() == teacher.len() && student != teacher, "the same tensors with other values");

    let label = ["label", "run", "--data", "images", "--clusters", "2", "--threads", "1"];
    for (whose, out) in [("trained", "student_labels.csv"), ("teacher", "teacher_labels.csv")] {
        place.program(&[&label[..], &["--weights", whose, "--out", out]].concat()).assert().success();
    }
    assert_ne!(read("student_labels.csv"), read("teacher_labels.csv"));

    let audit = ["audit", "run", "--data", "images", "--threads", "1"];
    for (whose, out) in [("trained", "student_audit"), ("teacher", "teacher_audit")] {
        place.program(&[&audit[..], &["--weights", whose, "--out", out]].concat()).assert().success();
    }
    assert_ne!(read("student_audit/audit.csv"), read("teacher_audit/audit.csv"));
    assert!(String::from_utf8(read("teacher_audit/audit.json")).unwrap().contains("--weights teacher"));

    scenes(&place);
    let dense =
        ["dense", "run", "--segmentation", "masks", "--void", "9", "--threads", "1", "--json", "--overwrite"];
    for (whose, same) in [("trained", false), ("teacher", true)] {
        let printed = place.program(&[&dense[..], &["--weights", whose]].concat()).assert().success();
        let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
        assert_eq!(found["run"]["weights"], whose);
        assert_eq!(found["encoders"]["trained"] == found["encoders"]["untrained"], same, "{whose}");
    }
}

#[test]
fn a_method_without_a_teacher_is_refused_with_the_reason() {
    let place = Place::new();
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    for arguments in [
        &["eval", "run", "--weights", "teacher"][..],
        &["embed", "run", "--weights", "teacher", "--data", "images", "--out", "features.csv"],
        &["export", "run", "--weights", "teacher", "--out", "exported"],
        &["label", "run", "--weights", "teacher", "--data", "images", "--out", "labels.csv"],
        &["audit", "run", "--weights", "teacher", "--data", "images", "--out", "audit"],
        &["dense", "run", "--weights", "teacher", "--segmentation", "masks", "--out", "dense"],
    ] {
        let said = place.refusal(arguments);
        assert!(said.contains("the run's method has no teacher with an encoder of its own"), "{said}");
    }
    for out in ["features.csv", "exported", "labels.csv", "audit", "dense", "run/report.json"] {
        assert!(!place.path(out).exists(), "{out}");
    }
}
