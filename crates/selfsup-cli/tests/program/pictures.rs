//! What a report shows of the method itself, whichever it is: its task, its prototypes, where its encoder looks.

use super::{Place, files};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// A run of two epochs on the place's images with more settings, evaluated and reported: report.json, the page and the
/// names of the plots.
fn reported(place: &Place, run: &str, recipe: &str, settings: &[&str]) -> (Value, String, Vec<String>) {
    let small = [
        "data.channels=1",
        "views.schedule=[]",
        "train.epochs=2",
        "train.batch_size=16",
        "schedule.warmup_epochs=0",
        "eval.map_points=8",
        "eval.queries=1",
    ];
    let mut arguments = vec!["pretrain", recipe, "--data", "images", "--run", run, "--threads", "1"];
    arguments.extend(small.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    place.program(&arguments).assert().success();
    place.program(&["eval", run, "--threads", "1"]).assert().success();
    place.program(&["report", run, "--threads", "1"]).assert().success();
    read(place, run)
}

/// What an evaluation and a report left in a run's folder.
fn read(place: &Place, run: &str) -> (Value, String, Vec<String>) {
    let report = fs::read_to_string(place.path(run).join("report.json")).unwrap();
    let page = fs::read_to_string(place.path(run).join("report.html")).unwrap();
    assert!(page.len() < 5_000_000, "{}", page.len());
    (serde_json::from_str(&report).unwrap(), page, files(&place.path(run).join("plots")))
}

const CONVNET: [&str; 3] = ["encoder.kind=convnet", "encoder.widths=[8, 16]", "encoder.strides=[1, 2]"];

#[test]
fn a_pretext_task_shows_its_answers_and_what_is_taken_for_what() {
    let place = Place::new();
    let (report, page, plots) = reported(&place, "rotation", "rotation", &CONVNET);
    let answers = &report["answers"][0];
    // A fifth of 160 images, each turned four times.
    assert_eq!((&answers["asked"], report["answers"].as_array().unwrap().len()), (&128.into(), 1));
    let counts: Vec<Vec<u64>> = serde_json::from_value(answers["confusion"]["counts"].clone()).unwrap();
    assert!(counts.len() == 4 && counts.iter().all(|row| row.iter().sum::<u64>() == 32), "{counts:?}");
    let right: u64 = (0..4).map(|i| counts[i][i]).sum();
    assert_eq!(answers["right"], right);
    let accuracy = report["task"]["pretext_accuracy"].as_f64().unwrap();
    assert!((accuracy - right as f64 / 128.0).abs() < 1e-6, "{accuracy} of {right}");
    assert!(report["definitions"]["pretext_accuracy"].as_str().unwrap().contains("answered rightly"));
    for part in ["The method's own task", "pretext accuracy", "counter-clockwise?", "The method is right on"]
    {
        assert!(page.contains(part), "the page lacks {part}");
    }
    let shown = page.matches("alt=\"Question: ").count();
    assert_eq!(shown, 24);
    for plot in ["answers.png", "confusion-of-answers.png"] {
        assert!(plots.iter().any(|name| name == plot), "{plot} is not among {plots:?}");
    }
    for absent in ["attention", "prototypes"] {
        assert!(report.get(absent).is_none() && !plots.contains(&format!("{absent}.png")), "{absent}");
    }
}

#[test]
fn a_method_that_paints_shows_the_image_what_is_seen_of_it_and_what_is_made_of_that() {
    let place = Place::new();
    for class in ["ring", "stripes"] {
        for i in 0..80 {
            let file = place.path("images").join(class).join(format!("{i:02}.png"));
            let grey = image::open(&file).unwrap().into_luma8();
            // Red where it is light, blue where it is dark.
            let colour = RgbImage::from_fn(20, 20, |x, y| {
                let light = grey.get_pixel(x, y).0[0];
                Rgb([light, 90, 255 - light])
            });
            colour.save(&file).unwrap();
        }
    }
    let vit = ["encoder.dim=16", "encoder.depth=1", "encoder.heads=2"];
    let decoder = ["objective.decoder.dim=16", "objective.decoder.depth=1", "objective.decoder.heads=2"];
    let mae = [&vit[..], &decoder].concat();
    let narrow = [&CONVNET[..], &["objective.decoder.widths=[8]"]].concat();
    let third = "what is made of that";
    for (method, settings, third) in [
        ("mae", mae, "with the rest painted"),
        ("denoising", narrow.clone(), third),
        ("colorization", narrow, third),
    ] {
        let settings = [&settings[..], &["data.channels=3"]].concat();
        let (report, page, plots) = reported(&place, method, method, &settings);
        assert!(page.contains("<h2>What the method makes of images</h2>"), "{method}");
        let shown = page.matches(&format!("<figcaption>{third}</figcaption>")).count();
        assert_eq!(shown, page.matches("<figcaption>what is seen of it</figcaption>").count(), "{method}");
        assert!((4..=32).contains(&shown), "{method}: {shown}");
        assert!(plots.contains(&"made.png".to_owned()), "{method}: {plots:?}");
        let sheet = image::open(place.path(method).join("plots/made.png")).unwrap().into_rgb8();
        let coloured = sheet.pixels().filter(|p| p.0[0].abs_diff(p.0[2]) > 60).count();
        assert!(coloured > 500, "{method}: {coloured} pixels with a colour");
        assert!(report["answers"].as_array().is_none_or(Vec::is_empty), "{method}");
    }
}

#[test]
fn prototypes_show_the_images_nearest_to_them() {
    let place = Place::new();
    let settings = [&CONVNET[..], &["objective.prototypes=6", "objective.frozen_steps=0"]].concat();
    let (report, page, plots) = reported(&place, "swav", "swav", &settings);
    let set = &report["prototypes"][0];
    assert_eq!((&set["images"], &set["prototypes"]), (&32.into(), &6.into()));
    let most_used = set["most_used"].as_array().unwrap();
    let (used, effective) = (set["used"].as_u64().unwrap(), set["effective"].as_f64().unwrap());
    assert!((1..=6).contains(&used) && most_used.len() as u64 == used, "{set}");
    assert!(effective >= 1.0 - 1e-9 && effective <= used as f64 + 1e-9, "{set}");
    let assigned: u64 = most_used.iter().map(|prototype| prototype["assigned"].as_u64().unwrap()).sum();
    assert_eq!(assigned, 32);
    for prototype in most_used {
        let scores =
            prototype["nearest"].as_array().unwrap().iter().map(|near| near["score"].as_f64().unwrap());
        let scores: Vec<f64> = scores.collect();
        assert!(scores.len() == 8 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        assert!(scores.iter().all(|score| score.abs() < 1.0 + 1e-5), "{scores:?}");
    }
    assert!(
        page.contains(&format!("{used} of 6 prototypes are nearest to at least one of the 32 test images"))
    );
    assert!(
        plots.contains(&"prototypes.png".to_owned()) && !plots.contains(&"answers.png".to_owned()),
        "{plots:?}"
    );
}

#[test]
fn an_encoder_with_attention_shows_where_it_looks_whatever_the_method() {
    let place = Place::new();
    let vit = [
        "encoder.kind=vit",
        "encoder.image_size=28",
        "encoder.patch_size=7",
        "encoder.dim=16",
        "encoder.depth=1",
        "encoder.heads=2",
    ];
    let projector = ["objective.projector.hidden=[16]", "objective.projector.output=8"];
    let recipe = ["views.kinds=[{ count = 2, size = 28, blur = { p = 0.0 }, mean = [0.5], std = [0.5] }]"];
    let settings = [&vit[..], &projector, &recipe].concat();
    let (report, page, plots) = reported(&place, "vit", "simclr-images", &settings);
    let found = &report["attention"];
    assert_eq!(
        (&found["of"], &found["patches"], &found["images"]),
        (&"class-token".into(), &16.into(), &32.into())
    );
    let heads: Vec<f64> = serde_json::from_value(found["heads"].clone()).unwrap();
    assert!(heads.len() == 2 && heads.iter().all(|spread| (1.0..=16.0 + 1e-6).contains(spread)), "{heads:?}");
    assert!(page.contains("<h2>Attention</h2>") && page.contains("Where the class token, of which"));
    for caption in ["all heads: ", "head 1: ", "head 2: "] {
        assert_eq!(page.matches(&format!("<figcaption>{caption}")).count(), 6, "{caption}");
    }
    assert!(plots.contains(&"attention.png".to_owned()), "{plots:?}");
    // SimCLR has neither questions nor prototypes.
    assert!(!page.contains("The method's own task") && !page.contains("<h2>Prototypes</h2>"));
    // What is explained is asked for by the full suite alone.
    assert!(report.get("saliency").is_none() && !page.contains("What the encoder looks at"));

    let full = ["eval", "vit", "--suite", "full", "--alone", "--threads", "1"];
    place.program(&full).assert().success();
    let (report, page, _) = read(&place, "vit");
    explained(&report, &page, &["attention_rollout", "integrated_gradients", "occlusion"]);
    assert!(page.contains("patches alike") && !page.contains("Grad-CAM"));
}

/// Whether the full suite's page and report.json show maps of these methods, and what their sanity check says.
fn explained(report: &Value, page: &str, methods: &[&str]) {
    let found = &report["saliency"];
    let names: BTreeSet<&str> = found["methods"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, methods.iter().copied().collect());
    for (name, method) in found["methods"].as_object().unwrap() {
        let correlation = &method["rank_correlation"];
        let value = correlation["value"].as_f64().unwrap();
        assert!(
            value.abs() <= 1.0 && correlation["interval"]["low"].as_f64().unwrap() <= value,
            "{name} {method}"
        );
        let verdict = match value {
            value if value >= 0.7 => "stays",
            value if value >= 0.4 => "changes_in_part",
            _ => "changes",
        };
        assert_eq!(method["verdict"], verdict, "{name}");
        assert!(page.contains(method["words"].as_str().unwrap()), "{name}");
    }
    assert_eq!(found["images"], 32);
    assert!(found["completeness_gap"].as_f64().unwrap() < 0.05, "{found}");
    for key in ["saliency", "members"] {
        assert!(report["definitions"][key].as_str().unwrap().starts_with("with --suite full"), "{key}");
    }
    let members = &report["members"];
    let sizes =
        members["clusters"].as_array().unwrap().iter().map(|cluster| cluster["size"].as_u64().unwrap());
    assert_eq!(sizes.sum::<u64>(), 32);
    let nearest = members["inversion"][0]["neighbours"].as_array().unwrap();
    assert!(nearest.len() == 8 && nearest.iter().all(|i| i.as_u64().unwrap() < 128), "{members}");
    for title in
        ["What the encoder looks at", "Features turned back to images", "Typical and atypical images"]
    {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "the page lacks {title}");
    }
    // Six images, and for each map one of random weights.
    assert_eq!(page.matches("<figcaption>random weights</figcaption>").count() % 6, 0);
    assert!(page.matches(", random weights\"").count() >= 6 * methods.len());
}

#[test]
fn maps_of_a_convolutional_encoder_stand_beside_those_of_random_weights() {
    let place = Place::new();
    let (before, _, _) = reported(&place, "maps", "rotation", &CONVNET);
    assert!(before.get("members").is_none());
    let full = ["eval", "maps", "--suite", "full", "--alone", "--threads", "1"];
    place.program(&full).assert().success();
    let (report, page, plots) = read(&place, "maps");
    explained(&report, &page, &["grad_cam", "integrated_gradients", "occlusion"]);
    assert!(!page.contains("patches alike") && page.contains("Grad-CAM"));
    for plot in ["saliency.png", "clusters.png"] {
        assert!(plots.contains(&plot.to_owned()), "{plots:?}");
    }
    // The same again, bit for bit.
    place.program(&full).assert().success();
    assert_eq!(read(&place, "maps").0["saliency"], report["saliency"]);
}
