//! From few labels to many, by way of a person's corrections; and label files that cannot be.

use super::{Place, files};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// A row of a label file: label, probability, weight, reason.
type Row = (String, Option<f64>, f64, String);

impl Place {
    fn with_run() -> Self {
        let place = Place::new();
        place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
        place
    }

    fn labelled(&self, more: &[&str]) -> assert_cmd::assert::Assert {
        let mut arguments = vec!["label", "run", "--data", "images"];
        arguments.extend(more);
        self.program(&arguments).assert()
    }

    /// What labelling from these rows is refused with; a file of labels that is there stays as it is.
    fn refused_labels(&self, table: &str, more: &[&str]) -> String {
        fs::write(self.path("few.csv"), table).unwrap();
        fs::write(self.path("labels.csv"), "mine").unwrap();
        let mut arguments = vec![
            "label",
            "run",
            "--data",
            "images",
            "--labels",
            "few.csv",
            "--out",
            "labels.csv",
            "--overwrite",
        ];
        arguments.extend(more);
        let message = self.refusal(&arguments);
        assert_eq!(fs::read_to_string(self.path("labels.csv")).unwrap(), "mine", "{message}");
        message.strip_prefix("error: ").unwrap().to_owned()
    }

    fn rows(&self, name: &str) -> BTreeMap<String, Row> {
        let mut reader = csv::Reader::from_path(self.path(name)).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["file", "label", "probability", "weight", "reason"]);
        let row = |record: Result<csv::StringRecord, csv::Error>| {
            let record = record.unwrap();
            let row = (
                record[1].to_owned(),
                record[2].parse().ok(),
                record[3].parse().unwrap(),
                record[4].to_owned(),
            );
            (record[0].to_owned(), row)
        };
        reader.records().map(row).collect()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    /// The samples of a review page with the labels that can be accepted, the most doubtful first.
    fn review(&self, name: &str) -> Vec<(String, Option<String>)> {
        let page = fs::read_to_string(self.path(name)).unwrap();
        let (_, data) = page.split_once("<script id=\"data\" type=\"application/json\">").unwrap();
        let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
        let pair = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().map(str::to_owned));
        data["samples"].as_array().unwrap().iter().map(pair).collect()
    }
}

fn table(rows: &[&str]) -> String {
    format!("file,label\n{}\n", rows.join("\n"))
}

const GOOD: [&str; 4] =
    ["ring/00.png,ring", "ring/01.png,ring", "stripes/00.png,stripes", "stripes/01.png,stripes"];

#[test]
fn label_files_that_cannot_be_are_refused_and_nothing_is_overwritten() {
    let place = Place::with_run();
    for (rows, message) in [
        (
            vec!["ring/00.pgn,ring"],
            "few.csv: line 2: file = ring/00.pgn: the set has no such file; did you mean ring/00.png?",
        ),
        (
            vec!["ring/00.png,ring", "ring/01.png,ring", "ring/00.png,ring"],
            "few.csv: line 4: file = ring/00.png: it is labelled ring on line 2 already; remove one of the two",
        ),
        (
            vec!["ring/00.png,ring", "ring/00.png,stripes"],
            "few.csv: line 3: file = ring/00.png: it is labelled stripes here and ring on line 2; keep the right one",
        ),
        (
            vec!["ring/00.png,rings"],
            "few.csv: line 2: label = rings: the set has no such class; did you mean ring?; its classes are ring, stripes",
        ),
        (
            vec!["ring/00.png,ring", "ring/01.png,ring"],
            "few.csv: no label of the class stripes: every class needs one that counts",
        ),
        (
            vec!["ring/00.png,ring", "ring/01.png,ring", "stripes/00.png,stripes"],
            "few.csv: a single label of the class stripes: every class needs 2, as some are held out to judge by",
        ),
        (vec![], "few.csv: there is no label: a row for each, below the header file,label"),
    ] {
        assert_eq!(place.refused_labels(&table(&rows), &[]), message);
    }
    for (text, message) in [
        (
            "file,label,weight\nring/00.png,ring,0\nstripes/00.png,stripes,0\n",
            "few.csv: weight: all 2 are 0, so that no label counts",
        ),
        (
            "file,label,weight\nring/00.png,ring,-1\n",
            "few.csv: line 2: weight = -1: a finite number, 0 or above",
        ),
        (
            "file,class\nring/00.png,ring\n",
            "few.csv: column \"class\": unknown; there are file, label, probability, weight, reason",
        ),
        ("", "few.csv: the file is empty: a header with file and label is missing"),
    ] {
        assert_eq!(place.refused_labels(text, &[]), message);
    }
    let machine = "file,label,weight,reason\nring/00.png,ring,0.9,the model is sure enough\n";
    let message = place.refused_labels(machine, &[]);
    assert!(message.starts_with("few.csv: all 1 labels are a machine's, by their reasons"), "{message}");
    let one = table(&["ring/00.png,thing", "ring/01.png,thing"]);
    assert_eq!(
        place.refused_labels(&one, &["--own-classes"]),
        "few.csv: all labels are thing; there must be two classes to tell apart"
    );
    // A correction of a file that the set does not have names the file that it stands in.
    fs::write(place.path("corrected.csv"), "file,label,weight\nring/99.png,ring,1\n").unwrap();
    let message = place.refused_labels(&table(&GOOD), &["--corrected", "corrected.csv"]);
    assert!(
        message.starts_with("corrected.csv: line 2: file = ring/99.png: the set has no such file"),
        "{message}"
    );
}

#[test]
fn arguments_that_cannot_work_are_refused_before_anything_is_written() {
    let place = Place::with_run();
    fs::write(place.path("few.csv"), table(&GOOD)).unwrap();
    let refused = |more: &[&str]| {
        let arguments: Vec<&str> = ["label", "run", "--data", "images"].iter().chain(more).copied().collect();
        place.refusal(&arguments).strip_prefix("error: ").unwrap().to_owned()
    };
    let few = ["--labels", "few.csv"];
    let with_few = |more: &[&str]| refused(&[&few, more].concat());
    assert_eq!(with_few(&["--out", "x.txt"]), "--out x.txt: a file that ends in .csv or .parquet");
    assert_eq!(with_few(&["--out", "no/x.csv"]), "--out no/x.csv: there is no folder no");
    assert_eq!(
        with_few(&["--out", "few.csv", "--overwrite"]),
        "few.csv: is read and would be written over; name another"
    );
    assert_eq!(with_few(&["--out", "x.csv", "--min-probability", "2"]), "--min-probability 2: 0 to 1");
    assert_eq!(
        with_few(&["--out", "x.csv", "--method", "k-means"]),
        "--method k-means: takes no labels; leave them out, or choose mixed, linear, nearest-mean, propagation or spreading"
    );
    assert_eq!(
        with_few(&["--out", "x.csv", "--report", "run", "--overwrite"]),
        "run: holds a run, whose report would be lost; name another"
    );
    assert_eq!(
        refused(&["--out", "x.csv", "--method", "linear"]),
        "--method linear: needs labels; give some with --labels few.csv"
    );
    assert_eq!(
        refused(&["--out", "x.csv", "--labels-per-class", "81"]),
        "--labels-per-class 81: at most 80, the samples of the class ring"
    );
    assert_eq!(
        refused(&["--out", "x.csv", "--clusters", "161"]),
        "--clusters 161: 1 to 160, the number of samples"
    );
    assert_eq!(
        refused(&["--out", "x.csv", "--views", "3"]),
        "--views 3: --method k-means looks at no views; leave it out, or choose mixed, linear or nearest-mean"
    );
    assert_eq!(
        refused(&["--out", "x.csv", "--next", "161"]),
        "--next 161: at most 160, the samples without a label"
    );
    assert_eq!(
        refused(&["--out", "x.parquet", "--next", "3"]),
        "--out x.parquet: proposals are a file that ends in .csv"
    );
    assert_eq!(
        refused(&["--out", "x.csv", "--next", "3", "--strategy", "margin"]),
        "--strategy: asks a model, which needs labels of two classes; give them, name a run of selfsup finetune, or choose typiclust or core-set"
    );
    for name in ["x.csv", "x.parquet", "x.txt"] {
        assert!(!place.path(name).exists(), "{name} was written");
    }
    fs::create_dir(place.path("pages")).unwrap();
    fs::create_dir(place.path("pages/plots")).unwrap();
    for (file, argument) in [
        ("pages/review.html", "--review"),
        ("pages/report.json", "--report"),
        ("pages/plots/coverage.png", "--report"),
        ("pages/plots/most.png", "--report"),
    ] {
        fs::write(place.path(file), "mine").unwrap();
        let message = with_few(&["--out", "x.csv", argument, "pages"]);
        assert_eq!(message, format!("{file} is there already; name another, or add --overwrite"));
        assert_eq!(fs::read_to_string(place.path(file)).unwrap(), "mine");
        assert!(!place.path("x.csv").exists());
        fs::remove_file(place.path(file)).unwrap();
    }
}

#[test]
fn few_labels_become_many_and_a_person_corrects_them() {
    let place = Place::with_run();
    let drawn = ["--labels-per-class", "6", "--draw", "3", "--views", "2"];
    let all = |more: &[&'static str]| -> Vec<&'static str> { drawn.iter().chain(more).copied().collect() };
    place
        .labelled(&all(&["--out", "a.csv", "--review", "a", "--report", "a", "--review-samples", "40"]))
        .success();
    let rows = place.rows("a.csv");
    assert_eq!(rows.len(), 160);
    let given: Vec<_> = rows.values().filter(|row| row.3 == "a person gave this label").collect();
    assert!(given.len() == 12 && given.iter().all(|row| row.2 == 1.0));
    for (label, probability, weight, reason) in rows.values() {
        let probability = probability.unwrap();
        assert!(["ring", "stripes"].contains(&label.as_str()) && (0.0..=1.0).contains(&probability));
        assert!(*weight == 0.0 || *weight == probability, "{weight} {probability} {reason}");
        assert!(reason != "the model is sure enough" || *weight >= 0.5);
    }

    // The report's numbers, counted again from the file.
    let report = place.json("a/report.json");
    let unseen = || rows.iter().filter(|(_, row)| row.3 != "a person gave this label");
    let right = |(file, row): &(&String, &Row)| file.starts_with(&format!("{}/", row.0));
    let share =
        |rows: Vec<(&String, &Row)>| rows.iter().filter(|row| right(row)).count() as f64 / rows.len() as f64;
    let close = |found: &Value, expected: f64| {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-9, "{found} {expected}");
    };
    let judged = &report["judged"];
    assert_eq!((&judged["samples"], &report["given"]), (&148.into(), &12.into()));
    close(&judged["accuracy"], share(unseen().collect()));
    let kept: Vec<_> = unseen().filter(|(_, row)| row.2 > 0.0).collect();
    assert_eq!(judged["kept"], kept.len());
    close(&judged["kept_accuracy"], share(kept));
    for class in report["classes"].as_array().unwrap() {
        let of: Vec<_> =
            unseen().filter(|(_, row)| class["class"] == row.0.as_str() && row.2 > 0.0).collect();
        assert_eq!((&class["given"], &class["kept"]), (&6.into(), &of.len().into()));
        close(&class["precision"], share(of));
    }
    let page = fs::read_to_string(place.path("a/report.html")).unwrap();
    for part in
        ["Accuracy against coverage", "Are the probabilities true?", "Class by class", "The least trusted"]
    {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert_eq!(files(&place.path("a")), ["plots", "report.html", "report.json", "review.html"]);

    // The page shows the least probable first, and asks for no other file.
    let page = fs::read_to_string(place.path("a/review.html")).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert_eq!(page.matches("<article tabindex=\"0\"").count(), 40);
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 40);
    assert!(page.contains("[\"file\", \"label\", \"weight\", \"reason\"]"));
    let shown = place.review("a/review.html");
    let doubt: Vec<f64> = shown.iter().map(|(file, _)| rows[file].1.unwrap()).collect();
    assert!(doubt.is_sorted() && shown.iter().all(|(file, label)| rows[file].0 == *label.as_ref().unwrap()));

    // What a person decides there, in the page's format.
    let other = |label: &str| if label == "ring" { "stripes" } else { "ring" };
    let (accepted, changed, rejected) = (&shown[0], &shown[1], &shown[2]);
    let label = |one: &(String, Option<String>)| one.1.clone().unwrap();
    let corrected = format!(
        "file,label,weight,reason\n{},{},1,a person accepted it\n{},{},1,a person chose it\n{},{},0,a person rejected it\n",
        accepted.0,
        label(accepted),
        changed.0,
        other(&label(changed)),
        rejected.0,
        label(rejected),
    );
    fs::write(place.path("corrected.csv"), corrected).unwrap();
    place.labelled(&all(&["--corrected", "corrected.csv", "--out", "b.csv", "--review", "b"])).success();
    let again = place.rows("b.csv");
    let gave = "a person gave this label".to_owned();
    assert_eq!(again[&accepted.0], (label(accepted), Some(1.0), 1.0, gave.clone()));
    assert_eq!(again[&changed.0], (other(&label(changed)).to_owned(), Some(1.0), 1.0, gave));
    assert_eq!(again[&rejected.0], (label(rejected), None, 0.0, "a person rejected it".to_owned()));
    let left = place.review("b/review.html");
    assert!(
        left.len() == 160 - 15 && left.iter().all(|(file, _)| shown[..3].iter().all(|seen| seen.0 != *file))
    );

    // What a person said is taken up from such a file, also from Parquet; what a machine said is no given label.
    place.labelled(&all(&["--corrected", "corrected.csv", "--out", "b.parquet"])).success();
    let output = place
        .labelled(&["--labels", "b.parquet", "--out", "c.csv", "--method", "nearest-mean", "--views", "0"])
        .success();
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.contains("note: b.parquet: 145 of 160 labels are a machine's"), "{said}");
    let from_parquet = place.rows("c.csv");
    let people = |rows: &BTreeMap<String, Row>| -> BTreeMap<String, Row> {
        rows.clone().into_iter().filter(|(_, row)| row.3.starts_with("a person")).collect()
    };
    assert_eq!((people(&again).len(), people(&from_parquet)), (15, people(&again)));

    // A second page leaves out what was seen. Its file alone would lose the first; both together, or the second on top of
    // what came of the first, say the same, and the later one wins.
    let (second, undone) = (&left[0], &shown[2]);
    let twice = format!(
        "file,label,weight,reason\n{},{},1,a person accepted it\n{},{},1,a person chose it\n",
        second.0,
        label(second),
        undone.0,
        other(&label(undone))
    );
    fs::write(place.path("corrected-2.csv"), twice).unwrap();
    place
        .labelled(&all(&["--corrected", "corrected.csv", "--corrected", "corrected-2.csv", "--out", "e.csv"]))
        .success();
    let both = place.rows("e.csv");
    assert_eq!(people(&both).len(), 16);
    for (file, row) in people(&again) {
        assert!(file == undone.0 || both[&file] == row, "{file}");
    }
    assert_eq!((both[&undone.0].0.clone(), both[&undone.0].2), (other(&label(undone)).to_owned(), 1.0));
    place
        .labelled(&[
            "--labels",
            "b.csv",
            "--corrected",
            "corrected-2.csv",
            "--views",
            "2",
            "--out",
            "f.csv",
            "--review",
            "f",
        ])
        .success();
    assert_eq!(fs::read(place.path("e.csv")).unwrap(), fs::read(place.path("f.csv")).unwrap());
    assert!(place.review("f/review.html").iter().all(|(file, _)| !people(&both).contains_key(file)));
    // The same command gives the same file.
    place.labelled(&all(&["--out", "d.csv"])).success();
    assert_eq!(fs::read(place.path("a.csv")).unwrap(), fs::read(place.path("d.csv")).unwrap());
}

#[test]
fn a_given_label_keeps_its_weight() {
    let place = Place::with_run();
    let rows = GOOD.map(|row| format!("{row},1"));
    let text = format!("file,label,weight\n{}\nring/02.png,ring,0.25\n", rows.join("\n"));
    fs::write(place.path("few.csv"), text).unwrap();
    place.labelled(&["--labels", "few.csv", "--out", "labels.csv"]).success();
    let rows = place.rows("labels.csv");
    let gave = "a person gave this label".to_owned();
    assert_eq!(rows["ring/02.png"], ("ring".to_owned(), None, 0.25, gave.clone()));
    assert_eq!(rows["ring/01.png"], ("ring".to_owned(), Some(1.0), 1.0, gave));
}

/// Rings 0 to 5 and stripes 0 to 5, which a run is fine-tuned on; a machine gave the last one.
fn six_of_each() -> String {
    let rows = ["ring", "stripes"].iter().flat_map(|class| (0..6).map(move |i| (class, i)));
    let rows = rows.map(|(class, i)| match (*class, i) {
        ("stripes", 5) => format!("stripes/05.png,stripes,0.75,{MACHINES}\n"),
        _ => format!("{class}/{i:02}.png,{class},,\n"),
    });
    format!("file,label,weight,reason\n{}", rows.collect::<String>())
}

const MACHINES: &str = "the model is sure enough";

#[test]
fn a_fine_tuned_run_says_what_it_has_learned_from_and_what_it_cannot_tell() {
    let place = Place::with_run();
    fs::write(place.path("six.csv"), six_of_each()).unwrap();
    let settings = ["train.epochs=6", "train.batch_size=64", "labels.batch_size=8", "data.held_out=0.1"];
    let mut tune =
        vec!["finetune", "--method", "supervised", "--from", "run", "--labels", "six.csv", "--unlabelled"];
    tune.extend(["images", "--run", "tuned", "--threads", "1"]);
    tune.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    place.program(&tune).assert().success();
    let tuned = |more: &[&str]| {
        place.program(&[&["label", "tuned", "--data", "images"], more].concat()).assert().success()
    };
    let said = tuned(&["--out", "a.csv", "--report", "a", "--review", "a", "--review-samples", "20"]);
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("By the run's own classifier, beside 12 labels that were given, "), "{said}");
    assert!(said.contains("are not calibrated"), "{said}");
    assert!(!said.contains("fall into"), "{said}");
    let rows = place.rows("a.csv");
    let taught = "the run was trained with this label";
    let learned: Vec<_> = rows.iter().filter(|(_, row)| row.3 == taught).collect();
    assert_eq!(learned.len(), 11);
    assert_eq!(rows["stripes/05.png"], ("stripes".to_owned(), None, 0.75, MACHINES.to_owned()));
    assert!(learned.iter().all(|(file, row)| file.starts_with(&row.0) && row.2 == 1.0));
    // What it has learned from does not judge it, and what is unlike that is rejected.
    let report = place.json("a/report.json");
    assert_eq!((&report["given"], &report["judged"]["samples"]), (&12.into(), &148.into()));
    assert!(!said.contains("no sample is rejected as unlike"), "{said}");
    let page = fs::read_to_string(place.path("a/report.html")).unwrap();
    for part in ["the classifier of the run", "are not calibrated", "Class by class", "own classifier"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert!(!page.contains("clusters"));

    // The page offers the classes that there are, and what it gives back is laid over what the run says.
    let page = fs::read_to_string(place.path("a/review.html")).unwrap();
    assert!(!page.contains("placeholder=\"another class\""), "a class that the data have not could be named");
    let shown = place.review("a/review.html");
    assert!(shown.len() == 20 && shown.iter().all(|(file, _)| !six_of_each().contains(file)));
    let (file, label) = (&shown[0].0, shown[0].1.clone().unwrap());
    let other = if label == "ring" { "stripes" } else { "ring" };
    let text = format!(
        "file,label,weight,reason\n{file},{other},1,a person chose it\nring/00.png,ring,0,a person rejected it\n"
    );
    fs::write(place.path("corrected.csv"), text).unwrap();
    tuned(&["--corrected", "corrected.csv", "--out", "b.csv", "--review", "b"]);
    let again = place.rows("b.csv");
    let gave = "a person gave this label".to_owned();
    assert_eq!(again[file], (other.to_owned(), Some(1.0), 1.0, gave));
    assert_eq!(again["ring/00.png"], ("ring".to_owned(), None, 0.0, "a person rejected it".to_owned()));
    for (name, row) in &again {
        let same = (&row.0, row.1) == (&rows[name].0, rows[name].1);
        assert!(same || name == file || name == "ring/00.png", "{name}: the run still labels");
    }
    assert!(place.review("b/review.html").iter().all(|(seen, _)| seen != file && seen != "ring/00.png"));
    // Nor is a sample proposed that the run has learned from.
    tuned(&["--next", "148", "--out", "next.csv"]);
    let next = fs::read_to_string(place.path("next.csv")).unwrap();
    assert!(next.lines().count() == 149 && !next.contains("ring/03.png"));
    // Of a strategy that asks a model, the run is the model.
    tuned(&["--next", "5", "--strategy", "margin", "--out", "margin.csv"]);
    let next = fs::read_to_string(place.path("margin.csv")).unwrap();
    assert!(next.lines().skip(1).all(|line| line.contains("the model is unsure: ")), "{next}");
    let refused =
        place.refusal(&["label", "tuned", "--data", "images", "--out", "tuned/labels.csv", "--overwrite"]);
    assert!(refused.contains("tuned/labels.csv: is read and would be written over"), "{refused}");

    // Other images of the same names are not those that it has learned from.
    for class in ["ring", "stripes"] {
        fs::create_dir_all(place.path("others").join(class)).unwrap();
        for i in 0..12 {
            let file = place.path("others").join(class).join(format!("{i:02}.png"));
            super::picture(class, i + 30).save(file).unwrap();
        }
    }
    let output = place.program(&["label", "tuned", "--data", "others", "--out", "o.csv"]).assert().success();
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.contains("By the run's own classifier, "), "{said}");
    assert!(said.contains("no sample is rejected as unlike"), "{said}");
    assert!(place.rows("o.csv").values().all(|row| row.3 != taught));
}

#[test]
fn labels_go_along_the_graph_and_clusters_need_none() {
    let place = Place::with_run();
    for method in ["propagation", "spreading"] {
        let out = format!("{method}.csv");
        place.labelled(&["--labels-per-class", "6", "--method", method, "--out", &out]).success();
        assert_eq!(place.rows(&out).len(), 160);
    }
    let output =
        place.labelled(&["--out", "clusters.csv", "--report", "pages", "--review", "pages"]).success();
    let said = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(said.contains("suggested: ") && said.contains("silhouette"), "{said}");
    let rows = place.rows("clusters.csv");
    assert!(rows.len() == 160 && rows.values().all(|row| row.0.starts_with("cluster-") && row.1.is_none()));
    let report = place.json("pages/report.json");
    assert!(
        report["judged"]["accuracy"].as_f64().unwrap() >= 0.5 && report["clusters"]["suggested"].is_u64()
    );
    let page = fs::read_to_string(place.path("pages/review.html")).unwrap();
    assert!(page.contains("placeholder=\"another class\""), "a person can name the cluster");
    for method in ["sinkhorn", "agglomerative"] {
        let out = format!("{method}.csv");
        place.labelled(&["--clusters", "4", "--method", method, "--out", &out]).success();
        let labels: std::collections::BTreeSet<_> = place.rows(&out).into_values().map(|row| row.0).collect();
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            ["cluster-0", "cluster-1", "cluster-2", "cluster-3"]
        );
    }
}

#[test]
fn proposes_what_to_label_next_until_all_is_labelled() {
    let place = Place::with_run();
    let proposed = |name: &str| -> Vec<(String, u32, String)> {
        let mut reader = csv::Reader::from_path(place.path(name)).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["file", "rank", "reason"]);
        let row = |r: csv::StringRecord| (r[0].to_owned(), r[1].parse().unwrap(), r[2].to_owned());
        reader.records().map(|record| row(record.unwrap())).collect()
    };
    place.labelled(&["--next", "10", "--out", "first.csv", "--review", "first"]).success();
    let first = proposed("first.csv");
    assert_eq!(first.iter().map(|p| p.1).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert!(first.iter().all(|p| p.2 == "typical of a part of the data that has few labels"));
    let page = fs::read_to_string(place.path("first/review.html")).unwrap();
    assert_eq!(page.matches("data-class=\"ring\"").count(), 10);
    assert!(!page.contains("data-do=\"accept\""), "nothing is proposed that could be accepted");

    // With the labels of these a model is asked, and none of them is proposed again.
    let class = |file: &str| file.split('/').next().unwrap().to_owned();
    let labelled: String = first.iter().map(|p| format!("{},{},{}\n", p.0, class(&p.0), p.1)).collect();
    fs::write(place.path("few.csv"), format!("file,label,rank\n{labelled}")).unwrap();
    place.labelled(&["--next", "150", "--labels", "few.csv", "--out", "rest.csv"]).success();
    let rest = proposed("rest.csv");
    let files: std::collections::BTreeSet<_> = first.iter().chain(&rest).map(|p| p.0.clone()).collect();
    assert_eq!(files.len(), 160);
    let both = first.iter().any(|p| class(&p.0) == "ring") && first.iter().any(|p| class(&p.0) == "stripes");
    assert_eq!(rest[0].2.starts_with("the least sure of its part of the data: "), both, "{}", rest[0].2);

    // One class alone has labels: typical samples are asked for, as nothing can be told apart.
    fs::write(place.path("one.csv"), table(&["ring/00.png,ring"])).unwrap();
    place.labelled(&["--next", "5", "--labels", "one.csv", "--out", "more.csv"]).success();
    assert!(proposed("more.csv").iter().all(|p| p.2.starts_with("typical") && p.0 != "ring/00.png"));
}
