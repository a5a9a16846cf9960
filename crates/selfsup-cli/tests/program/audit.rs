//! `selfsup audit`: wrong labels of a folder of files, and what is refused.

use super::{Place, files};
use serde_json::Value;
use std::fs;

/// A row of labels.csv for every image, those of `wrong` with the other class.
fn labels(wrong: &[&str]) -> String {
    let mut rows = vec!["file,label".to_owned()];
    for (class, other) in [("ring", "stripes"), ("stripes", "ring")] {
        for i in 0..80 {
            let file = format!("{class}/{i:02}.png");
            let label = if wrong.contains(&file.as_str()) { other } else { class };
            rows.push(format!("{file},{label}"));
        }
    }
    rows.join("\n") + "\n"
}

const WRONG: [&str; 6] =
    ["ring/03.png", "ring/31.png", "ring/64.png", "stripes/10.png", "stripes/42.png", "stripes/77.png"];

#[test]
fn wrong_labels_stand_first_and_nothing_is_overwritten() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    fs::write(place.path("labels.csv"), labels(&WRONG)).unwrap();
    let audit = ["audit", "run", "--data", "images", "--labels", "labels.csv", "--threads", "1"];
    let said = place.program(&audit).assert().success().get_output().stdout.clone();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("of 160 labels") && said.trim().ends_with("run/audit/audit.html"), "{said}");

    let table = fs::read_to_string(place.path("run/audit/audit.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["file", "label", "suggested", "probability", "quality", "suspicious"]);
    assert_eq!(rows.len(), 161);
    let quality: Vec<f64> = rows[1..].iter().map(|row| row[4].parse().unwrap()).collect();
    assert!(quality.is_sorted() && quality.iter().all(|q| (0.0..=1.0).contains(q)));
    let first: Vec<&str> = rows[1..13].iter().map(|row| row[0]).collect();
    let found = WRONG.iter().filter(|file| first.contains(file)).count();
    assert!(found >= 5, "{first:?}");
    let suspicious = rows[1..].iter().filter(|row| row[5] == "true").count();
    assert!(rows[1..].iter().all(|row| row[5] == "false" || row[1] != row[2]));

    let summary: Value =
        serde_json::from_slice(&fs::read(place.path("run/audit/audit.json")).unwrap()).unwrap();
    assert_eq!((&summary["labels"], &summary["suspicious"]), (&160.into(), &suspicious.into()));
    assert_eq!(summary["classes"][0]["name"], "ring");
    assert!(summary.get("planted").is_none());
    let page = fs::read_to_string(place.path("run/audit/audit.html")).unwrap();
    for part in ["Audit of given labels", "labels.csv", "Class by class", "data:image/png;base64,"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    let plots = files(&place.path("run/audit/plots"));
    assert_eq!(plots, ["calibration.png", "doubted.png", "given-and-confident.png"]);

    let refusal = place.refusal(&audit);
    assert!(
        refusal.contains("run/audit/audit.csv is there already") && refusal.contains("--overwrite"),
        "{refusal}"
    );
    assert_eq!(fs::read_to_string(place.path("run/audit/audit.csv")).unwrap(), table);
    place.program(&audit).arg("--overwrite").assert().success();
    assert_eq!(fs::read_to_string(place.path("run/audit/audit.csv")).unwrap(), table, "the same once more");

    // A plot alone is not overwritten either.
    fs::create_dir_all(place.path("other/plots")).unwrap();
    fs::write(place.path("other/plots/doubted.png"), "mine").unwrap();
    let refusal = place.refusal(&[&audit[..], &["--out", "other"]].concat());
    assert!(refusal.contains("other/plots/doubted.png is there already"), "{refusal}");
    assert_eq!(files(&place.path("other")), ["plots"]);
    assert_eq!(fs::read_to_string(place.path("other/plots/doubted.png")).unwrap(), "mine");

    // A class of the data that the file does not name is left out.
    for class in ["ring", "stripes", "zebra"] {
        fs::create_dir_all(place.path("three").join(class)).unwrap();
        for i in 0..30 {
            let file = place.path("three").join(class).join(format!("{i:02}.png"));
            super::picture(class, i).save(file).unwrap();
        }
    }
    let rows: String =
        (0..20).map(|i| format!("ring/{i:02}.png,ring\nstripes/{i:02}.png,stripes\n")).collect();
    fs::write(place.path("two.csv"), format!("file,label\n{rows}")).unwrap();
    let two = ["audit", "run", "--data", "three", "--labels", "two.csv", "--out", "two"];
    let said = place.program(&two).assert().success().get_output().stderr.clone();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("note: two.csv: no label of the class zebra; it is left out"), "{said}");
    assert_eq!(fs::read_to_string(place.path("two/audit.csv")).unwrap().lines().count(), 41);

    // The same encoder tells how well it would find labels that are wrong by intent.
    let planted =
        ["audit", "run", "--data", "images", "--plant", "0.1", "--seed", "3", "--out", "planted", "--json"];
    let printed = place.program(&planted).assert().success().get_output().stdout.clone();
    let printed: Value = serde_json::from_slice(&printed).unwrap();
    assert_eq!(printed["planted"]["planted"], 16);
    assert!(printed["planted"]["auroc"].as_f64().unwrap() > 0.9, "{}", printed["planted"]);
    let table = fs::read_to_string(place.path("planted/audit.csv")).unwrap();
    assert!(table.lines().next().unwrap().ends_with(",suspicious,planted"));
    assert_eq!(table.lines().filter(|line| line.ends_with(",true")).count(), 16);

    let refused = |more: &[&str]| {
        let arguments: &[&str] = &["audit", "run", "--data", "images", "--out", "refused"];
        let message = place.refusal(&[arguments, more].concat());
        assert!(!place.path("refused").exists(), "the folder was made before: {message}");
        message
    };
    let with = |text: &str| {
        fs::write(place.path("bad.csv"), text).unwrap();
        refused(&["--labels", "bad.csv"])
    };
    let holds =
        |message: String, part: &str| assert!(message.contains(part), "\"{part}\" is not in: {message}");
    holds(with("file,label\nring/03.pgn,ring\n"), "ring/03.pgn");
    holds(with("file,label\nring/03.png,ring\nring/03.png,stripes\n"), "ring/03.png");
    holds(
        with("file,label\nring/03.png,ring\nring/04.png,ring\nstripes/01.png,stripes\n"),
        "bad.csv: the class stripes has a single label",
    );
    holds(
        with("file,label,weight\nring/03.png,ring,0\nstripes/04.png,stripes,0\n"),
        "bad.csv: weight: all 2 are 0, so that no label counts",
    );
    holds(
        with("file,label\nring/03.png,ring\nring/04.png,ring\n"),
        "bad.csv: the labels name ring only: at least 2 classes",
    );
    holds(
        with("file,label,reason\nring/03.png,ring,the model is sure enough\n"),
        "bad.csv: all 1 labels are a machine's, by their reasons",
    );
    holds(refused(&["--plant", "1.5"]), "--plant 1.5: share = 1.5");
    holds(refused(&["--part", "test"]), "--part test: images has no test part");
    holds(refused(&["--folds", "1"]), "--folds 1: at least 2");
    holds(place.refusal(&["audit", "nowhere", "--data", "images"]), "nowhere");
}
