//! What a frozen encoder knows of places: segmentation, boxes, the layers of two runs, and the patches of one.

use super::{Place, files};
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A dark picture of 24 x 32 pixels with a bright square of 8 at a place of its own, and where that is.
fn scene(i: u32) -> (RgbImage, [u32; 2]) {
    let at = [2 + i * 7 % 21, 1 + i * 5 % 14];
    let inside = |x: u32, y: u32| (at[0]..at[0] + 8).contains(&x) && (at[1]..at[1] + 8).contains(&y);
    let shade = |x, y| if inside(x, y) { 230 } else { (20 + (x * y + i) % 9) as u8 };
    (RgbImage::from_fn(32, 24, |x, y| Rgb([shade(x, y); 3])), at)
}

/// A folder of scenes with masks, and one with boxes.
pub fn scenes(place: &Place) {
    for (part, range) in [("train", 0..24), ("val", 24..30), ("test", 30..38)] {
        let voc = place.path("voc");
        for folder in ["JPEGImages", "Annotations", "ImageSets/Main"] {
            fs::create_dir_all(voc.join(folder)).unwrap();
        }
        let masks = place.path(&format!("masks/{part}annot"));
        fs::create_dir_all(place.path(&format!("masks/{part}"))).unwrap();
        fs::create_dir_all(&masks).unwrap();
        let mut names = String::new();
        for i in range {
            let (image, [x0, y0]) = scene(i);
            image.save(place.path(&format!("masks/{part}/{i:02}.png"))).unwrap();
            image.save(voc.join(format!("JPEGImages/{i:02}.png"))).unwrap();
            let square = |x: u32, y: u32| (x0..x0 + 8).contains(&x) && (y0..y0 + 8).contains(&y);
            // The first row is of no class.
            let value = |x, y| if y == 0 { 9 } else { u8::from(square(x, y)) };
            GrayImage::from_fn(32, 24, |x, y| Luma([value(x, y)]))
                .save(masks.join(format!("{i:02}.png")))
                .unwrap();
            let (x1, y1) = (x0 + 8, y0 + 8);
            let xml = format!(
                "<annotation><size><width>32</width><height>24</height></size><object><name>square</name><bndbox><xmin>{}</xmin>\
                 <ymin>{}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object></annotation>",
                x0 + 1,
                y0 + 1
            );
            fs::write(voc.join(format!("Annotations/{i:02}.xml")), xml).unwrap();
            writeln!(names, "{i:02}").unwrap();
        }
        fs::write(voc.join(format!("ImageSets/Main/{part}.txt")), names).unwrap();
    }
    fs::write(place.path("masks/classes.txt"), "ground\nsquare\n").unwrap();
}

/// The files of a folder, and of the folders in it, into another.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_run_is_asked_what_is_where() {
    let place = Place::new();
    scenes(&place);
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    let dense = ["dense", "run", "--segmentation", "masks", "--void", "9", "--json", "--threads", "1"];
    let printed = place.program(&dense).assert().success();
    let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    assert_eq!(
        (&found["data"]["train"], &found["data"]["validation"], &found["data"]["test"]),
        (&24.into(), &6.into(), &8.into())
    );
    assert_eq!(found["data"]["size"], serde_json::json!([24, 32]));
    for encoder in ["trained", "untrained", "colours"] {
        let of = &found["encoders"][encoder];
        let miou = &of["measures"][0];
        assert_eq!(miou["name"], "miou", "{encoder}");
        // A bright square is told from dark ground by its colour alone.
        assert!(
            miou["value"].as_f64().unwrap() > 0.6 && miou["interval"]["low"].is_f64(),
            "{encoder}: {miou}"
        );
        assert!(of["iou"]["square"].as_f64().unwrap() > 0.4, "{encoder}");
        assert!(miou["definition"].as_str().unwrap().contains("a probe, not a segmenter"));
    }
    let folder = place.path("run/segmentation");
    assert_eq!(files(&folder), ["dense.json", "plots", "report.html"]);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    for part in [
        "Segmentation with a linear head",
        "By class: iou",
        "ground",
        "truth",
        "colours",
        "Colours of the classes",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let dense = ["dense", "run", "--detection", "voc", "--out", "boxes", "--threads", "1"];
    let printed = place.program(&dense).assert().success();
    let table = String::from_utf8(printed.get_output().stdout.clone()).unwrap();
    assert!(table.contains("detection_map50") && table.contains("ap50 square"), "{table}");
    let found: Value = serde_json::from_slice(&fs::read(place.path("boxes/dense.json")).unwrap()).unwrap();
    let map50 = found["encoders"]["colours"]["measures"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["name"] == "detection_map50");
    assert!(map50.unwrap()["value"].as_f64().unwrap() > 0.5, "{found}");
    let alone =
        ["dense", "run", "--detection", "voc", "--alone", "--limit", "12", "--size", "32x32", "--json"];
    let printed = place.program(&alone).assert().success();
    let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    assert_eq!(found["encoders"].as_object().unwrap().keys().collect::<Vec<_>>(), ["trained"]);
    assert_eq!((&found["data"]["train"], &found["data"]["size"]), (&12.into(), &serde_json::json!([32, 32])));
    // The run's settings of the linear probe are those of the heads.
    place
        .pretrain("strict", &["--set", "train.epochs=1", "--set", "eval.linear.strengths=[0.02]"])
        .assert()
        .success();
    let alone = ["dense", "strict", "--detection", "voc", "--alone", "--json"];
    let printed = place.program(&alone).assert().success();
    let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    let levels =
        found["encoders"]["trained"]["fit"]["levels"].as_array().unwrap_or_else(|| panic!("{found}"));
    assert!(!levels.is_empty() && levels.iter().all(|level| level["c"] == 0.02 && level["centre_c"] == 0.02));
    let alone = ["dense", "strict", "--segmentation", "masks", "--void", "9", "--alone", "--json"];
    let printed = place.program(&alone).assert().success();
    let found: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    assert_eq!(found["encoders"]["trained"]["fit"]["c"], 0.02);
}

#[test]
fn what_cannot_be_looked_at_is_refused_with_the_reason() {
    let place = Place::new();
    scenes(&place);
    place.pretrain("run", &["--set", "train.epochs=1"]).assert().success();
    let said = place.refusal(&["dense", "run", "--segmentation", "masks"]);
    assert!(said.contains("value 9 at row 0, column 0: classes.txt names 0..2"), "{said}");
    let said = place.refusal(&["dense", "run", "--segmentation", "nowhere"]);
    assert!(said.ends_with("nowhere: there is no such folder"), "{said}");
    fs::write(place.path("voc/Annotations/00.xml"), "<annotation>").unwrap();
    let said = place.refusal(&["dense", "run", "--detection", "voc"]);
    assert!(said.contains("00.xml: is no XML"), "{said}");
    let said = place.refusal(&["dense", "nothing", "--detection", "voc"]);
    assert!(said.contains("nothing holds no run"), "{said}");
}

#[test]
fn a_vits_patches_are_asked_by_a_query_and_layers_are_compared() {
    let place = Place::new();
    let vit = [
        "encoder.kind=vit",
        "encoder.image_size=16",
        "encoder.patch_size=4",
        "encoder.depth=2",
        "encoder.dim=16",
        "encoder.heads=2",
    ];
    let small = [
        "data.channels=1",
        "views.kinds=[{ count = 2, size = 16, blur = { p = 0.0 }, mean = [0.5], std = [0.5] }]",
        "objective.projector.hidden=[16]",
        "objective.projector.output=8",
        "train.epochs=1",
        "train.batch_size=16",
        "eval.map_points=8",
        "eval.queries=1",
    ];
    for (run, seed) in [("a", "train.seed=0"), ("b", "train.seed=1")] {
        let mut arguments =
            vec!["pretrain", "simclr-images", "--data", "images", "--run", run, "--threads", "1"];
        arguments.extend(vit.iter().chain(&small).chain([&seed]).flat_map(|setting| ["--set", *setting]));
        place.program(&arguments).assert().success();
        place.program(&["eval", run, "--suite", "full", "--threads", "1"]).assert().success();
    }
    let report: Value = serde_json::from_slice(&fs::read(place.path("a/report.json")).unwrap()).unwrap();
    for encoder in ["trained", "untrained"] {
        let measures = report["suite"][encoder]["attentive"].as_array().unwrap();
        let names: Vec<&str> = measures.iter().map(|m| m["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["attentive", "mean_pooled", "attentive_spread"], "{encoder}");
        assert_eq!(measures[0]["n"], 32, "{encoder}");
        // Chance is a half; its 99 % end with 32 images is below 0.72.
        for measure in &measures[..2] {
            assert!(measure["value"].as_f64().unwrap() >= 0.72, "{encoder}: {measure}");
        }
    }
    assert!(report["suite"]["pixels"].get("attentive").is_none());
    let compare = ["compare", "a", "b", "--cka", "--json", "--out", "compared", "--threads", "1"];
    let printed = place.program(&compare).assert().success();
    let compared: Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    let layers = &compared["layers"][0];
    assert_eq!(
        layers["rows"],
        serde_json::json!(["patch_embed", "blocks.0", "blocks.1", "norm", "features"])
    );
    assert_eq!(
        (&layers["first"], &layers["second"], &layers["samples"]),
        (&"a".into(), &"b".into(), &32.into())
    );
    let values: Vec<Vec<f64>> = serde_json::from_value(layers["values"].clone()).unwrap();
    assert!(values.iter().flatten().all(|v| *v <= 1.0 + 1e-9) && values.len() == 5, "{values:?}");
    // Seeds differ.
    assert!((0..5).any(|i| values[i][i] < 0.999), "{values:?}");
    fs::create_dir(place.path("again")).unwrap();
    copy(&place.path("a"), &place.path("again"));
    // A copy is no other training.
    let same = ["compare", "a", "again", "--cka", "--json", "--out", "same", "--threads", "1"];
    let refused = place.program(&same).assert().failure();
    let message = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(message.contains("name each training once"), "{message}");
    assert!(!place.path("same").exists());
    assert!(compared["definitions"]["layers"].is_string());
    let page = fs::read_to_string(place.path("compared/report.html")).unwrap();
    assert!(page.contains("Layers") && page.contains("Linear CKA on 32 test images"));
    assert!(files(&place.path("compared/plots")).contains(&"layers-a-b.png".to_owned()));
    place.program(&["compare", "a", "b"]).assert().success();
}
