//! Tests of whole reports.

use super::*;
use image::Rgb;
use image::RgbImage;
use rand::RngExt;
use selfsup::core::Score;
use std::collections::BTreeSet;

fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(6, 6, |x, y| Rgb([(x * 40) as u8, (y * 40) as u8, (seed * 60) as u8]))
}

fn sample(seed: u32, class: &str) -> Sample {
    Sample { shown: Shown::Image(picture(seed)), class: Some(class.into()) }
}

/// A small report with all its parts.
fn tiny() -> ReportData {
    let column =
        |name: &str, explanation: &str| Column { name: name.into(), explanation: explanation.into() };
    let row = |name: &str, linear: f64, few: f64| Row {
        name: name.into(),
        cells: [(linear, 0.0, 1), (few, 0.012, 5)]
            .map(|(mean, std, n)| Some(Cell::of(&Score { mean, std, n }, None)))
            .into(),
    };
    let classes = vec!["cat".to_owned(), "dog".to_owned()];
    let map = |name: &str, turn: f32| Map {
        name: name.into(),
        points: (0..8).map(|i| [(i as f32 * turn).sin(), (i as f32 * turn).cos()]).collect(),
    };
    let steps = |f: fn(f64) -> f64| (0..20).map(|i| [f64::from(i), f(f64::from(i))]).collect::<Vec<_>>();
    ReportData {
        kind: String::new(),
        title: "simclr-pets".into(),
        method: "SimCLR".into(),
        paper: "Chen et al., A Simple Framework, 2020".into(),
        facts: vec![("Data".into(), "pets, 8 images".into()), ("Seed".into(), "7".into())],
        command: "selfsup pretrain simclr-pets --set train.seed=7".into(),
        warnings: vec!["the probe on <b> did not converge".into()],
        scores: Some(Scores {
            columns: vec![column("linear probe", "A linear classifier."), column("few labels", "")],
            rows: vec![row("trained", 0.841, 0.71), row("untrained encoder", 0.779, 0.715)],
        }),
        suite_title: "Full suite",
        suite: vec![SuiteGroup {
            title: "Retrieval".into(),
            reading: "Each bar is a share in per cent, the longer the better.".into(),
            encoders: vec!["trained".into(), "untrained".into()],
            measures: vec![SuiteMeasure {
                name: "hit_rate@10".into(),
                definition: "share of queries with a sample of their class among the 10 nearest".into(),
                values: vec![Some((0.875, Some([0.75, 0.9375]))), None],
            }],
            figure: Some(Scores {
                columns: vec![column("hit rate@10", "")],
                rows: vec![Row {
                    name: "trained".into(),
                    cells: vec![Some(Cell { mean: 0.875, ..Default::default() })],
                }],
            }),
            ..Default::default()
        }],
        robustness: None,
        views: vec![ViewRow {
            image: picture(0),
            views: vec![View { image: picture(1), caption: "crop 62 %, flipped".into() }],
        }],
        made: vec![ViewRow {
            image: picture(3),
            views: vec![View { image: picture(4), caption: "what is made of that".into() }],
        }],
        task: Some(Task {
            about: "tell by how many quarter turns an image was turned".into(),
            numbers: vec![Number {
                name: "pretext_accuracy".into(),
                value: 0.75,
                reading: "The share of the questions that are answered rightly.".into(),
            }],
            questions: vec![Questions {
                name: String::new(),
                question: "By how much was the image turned?".into(),
                asked: 8,
                right: 6,
                shown: [("0°", "0°"), ("0°", "90°")]
                    .map(|(truth, given)| Answer {
                        image: picture(5),
                        truth: truth.into(),
                        given: given.into(),
                    })
                    .into(),
                confusion: Some(Confusion {
                    by: "the method".into(),
                    counts: vec![vec![3, 1], vec![1, 3]],
                    classes: vec!["0°".into(), "90°".into()],
                }),
            }],
        }),
        prototypes: vec![PrototypeSet {
            name: "head 1".into(),
            images: 8,
            prototypes: 5,
            used: 3,
            effective: 2.4,
            shown: vec![Prototype {
                number: 4,
                assigned: 5,
                nearest: vec![(sample(6, "cat"), Some(0.97)), (sample(7, "dog"), None)],
            }],
        }],
        attention: Some(Attention {
            of: "the class token".into(),
            patches: 9,
            images: 8,
            rows: vec![ViewRow {
                image: picture(8),
                views: vec![View { image: picture(9), caption: "all heads: 4.2".into() }],
            }],
        }),
        saliency: Some(Saliency {
            columns: vec!["integrated gradients".into(), "Grad-CAM".into()],
            rows: vec![MapRow {
                image: picture(10),
                trained: vec![picture(11), picture(12)],
                random: vec![picture(13), picture(14)],
            }],
            checks: vec![MapCheck {
                name: "Grad-CAM".into(),
                reading: "bright places count".into(),
                rank_correlation: Some((0.25, Some([0.125, 0.375]))),
                ssim: None,
                words: "The maps of Grad-CAM change.".into(),
            }],
            patch_colours: true,
            completeness_gap: Some(0.001),
            images: 32,
        }),
        clusters: vec![Cluster {
            images: 5,
            clusters: 1,
            size: 5,
            cohesion: 0.875,
            typical: vec![(sample(15, "cat"), 0.97)],
            atypical: vec![(sample(16, "dog"), 0.25)],
        }],
        inversion: vec![Query { query: sample(17, "cat"), nearest: vec![sample(18, "dog")] }],
        curves: vec![
            Curve::loss(steps(|x| 5.0 - x.sqrt())),
            Curve::feature_std(steps(|x| 0.08 + 0.001 * x), 128),
        ],
        maps: Some(Maps {
            maps: vec![map("PCA, trained", 0.9), map("PCA, untrained", 1.7)],
            labels: (0..8).map(|i| i % 2).collect(),
            classes: classes.clone(),
        }),
        neighbours: vec![Query {
            query: sample(0, "cat"),
            nearest: vec![sample(1, "cat"), sample(2, "dog")],
        }],
        confusion: Some(Confusion {
            by: "the linear probe".into(),
            counts: vec![vec![3, 1], vec![0, 4]],
            classes,
        }),
        galleries: Vec::new(),
        layers: Vec::new(),
        perplexity: Some(Perplexity { model: 95.31, unigram: 1032.4 }),
    }
}

/// The page's words line by line, without its style and its figures.
fn words(page: &str) -> String {
    let mut text = page.to_owned();
    for (from, to) in [("<style", "</style>"), ("<svg", "</svg>")] {
        while let Some(begin) = text.find(from) {
            let end = begin + text[begin..].find(to).unwrap() + to.len();
            text.replace_range(begin..end, "");
        }
    }
    for inline in ["b", "cite", "strong", "span"] {
        text = text.replace(&format!("<{inline}>"), "").replace(&format!("</{inline}>"), "");
    }
    let pieces = text.split('>').filter_map(|piece| piece.split('<').next()).map(str::trim);
    pieces.filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn tells_the_whole_run_in_order() {
    insta::assert_snapshot!(words(&page::page(&tiny()).unwrap()));
}

#[test]
fn the_page_asks_for_nothing_and_runs_nothing() {
    let page = page::page(&tiny()).unwrap();
    for unwanted in ["http://", "https://", "<script", "<link", "@import", "url(", " on", "javascript:"] {
        let found = page.find(unwanted).filter(|_| unwanted != " on" || page.contains(" onclick"));
        assert_eq!(found, None, "the page has {unwanted}");
    }
    let pictures = page.matches("<img").count();
    assert_eq!(pictures, 22);
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), pictures);
    assert_eq!(page.matches("alt=\"").count(), pictures);
}

#[test]
fn empty_parts_are_left_out() {
    let mut data = tiny();
    let mut headings = 15;
    let cuts: [fn(&mut ReportData); 15] = [
        |data| data.scores = None,
        |data| data.suite.clear(),
        |data| data.views.clear(),
        |data| data.made.clear(),
        |data| data.task = Some(Task::default()),
        |data| data.prototypes.clear(),
        |data| data.attention = Some(Attention::default()),
        |data| data.saliency = Some(Saliency::default()),
        |data| data.clusters.clear(),
        |data| data.inversion.clear(),
        |data| data.curves.clear(),
        |data| data.maps = Some(Maps::default()),
        |data| data.neighbours.clear(),
        |data| data.confusion = Some(Confusion::default()),
        |data| data.perplexity = None,
    ];
    for cut in cuts {
        assert_eq!(page::page(&data).unwrap().matches("<h2>").count(), headings);
        cut(&mut data);
        headings -= 1;
    }
    let page = page::page(&data).unwrap();
    assert!(!page.contains("<section>") && !page.contains("<figure"));
    assert!(files::figures(&data).unwrap().is_empty());
}

#[test]
fn names_are_escaped_wherever_they_stand() {
    let mut data = tiny();
    let name = "<i>&\"'";
    data.title = name.into();
    data.maps.as_mut().unwrap().classes[0] = name.into();
    data.maps.as_mut().unwrap().maps[0].name = name.into();
    data.confusion.as_mut().unwrap().classes[0] = name.into();
    data.scores.as_mut().unwrap().columns[0].name = name.into();
    data.neighbours[0].query.class = Some(name.into());
    data.views[0].views[0].caption = name.into();
    data.task.as_mut().unwrap().questions[0].question = name.into();
    data.task.as_mut().unwrap().questions[0].shown[0].given = name.into();
    data.prototypes[0].name = name.into();
    let page = page::page(&data).unwrap();
    assert!(!page.contains("<i>") && !page.contains("&\""));
    assert!(page.contains("alt=\"Image 1: &lt;i&gt;&amp;&quot;'\""));
}

#[test]
fn writes_the_page_and_every_figure_the_same_each_time() {
    let write_all = || {
        let folder = tempfile::tempdir().unwrap();
        let page = write(&tiny(), folder.path()).unwrap();
        assert_eq!(page, folder.path().join("report.html"));
        let plots = fs::read_dir(folder.path().join("plots")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: BTreeSet<(String, Vec<u8>)> = plots
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect();
        for (name, bytes) in &files {
            assert!(image::load_from_memory(bytes).unwrap().width() > 100, "{name}");
        }
        files.insert(("report.html".into(), fs::read(page).unwrap()));
        files
    };
    let files = write_all();
    let names: Vec<&str> = files.iter().map(|file| file.0.as_str()).collect();
    assert_eq!(
        names,
        [
            "answers.png",
            "attention.png",
            "clusters.png",
            "confusion-of-answers.png",
            "confusion.png",
            "loss.png",
            "made.png",
            "pca-trained.png",
            "pca-untrained.png",
            "prototypes-head-1.png",
            "report.html",
            "retrieval.png",
            "saliency.png",
            "scores.png",
            "spread-of-the-features.png",
            "views.png"
        ]
    );
    assert_eq!(files, write_all());
}

#[test]
fn data_that_do_not_fit_leave_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = tiny();
    data.maps.as_mut().unwrap().labels.pop();
    let error = write(&data, folder.path()).unwrap_err().to_string();
    assert!(error.contains("8 points but 7 labels"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_run_that_went_wrong_has_a_report_all_the_same() {
    let mut data = tiny();
    data.curves = vec![Curve::loss(vec![[0.0, f64::NAN], [1.0, f64::INFINITY]])];
    let maps = data.maps.as_mut().unwrap();
    maps.maps[0].points = vec![[f32::NAN; 2]; 8];
    maps.maps[1].points = vec![[1.0; 2]; 8];
    data.scores.as_mut().unwrap().rows[0].cells =
        vec![Some(Cell::of(&Score { mean: f64::NAN, std: f64::NAN, n: 3 }, None)), None];
    data.confusion.as_mut().unwrap().counts = vec![vec![0, 0], vec![0, 0]];
    data.perplexity = Some(Perplexity { model: f64::NAN, unigram: 10.0 });
    data.task.as_mut().unwrap().numbers[0].value = f64::NAN;
    data.prototypes[0] = PrototypeSet { effective: f64::NAN, ..PrototypeSet::default() };
    let folder = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(write(&data, folder.path()).unwrap()).unwrap();
    assert!(page.contains("No finite value was measured."));
    assert!(page.contains("The model does no better."));
}

#[test]
fn a_page_of_many_large_pictures_stays_small() {
    let mut data = tiny();
    // Noise, which no compression makes smaller.
    let noise = |seed: u64| {
        let mut rng = selfsup::core::Key::new(seed).rng();
        RgbImage::from_fn(200, 150, |_, _| Rgb(std::array::from_fn(|_| rng.random())))
    };
    let sample = |seed: u64| (Sample { shown: Shown::Image(noise(seed)), class: None }, None);
    let nearest: Vec<_> = (0..8).map(sample).collect();
    data.prototypes[0].shown =
        (0..10).map(|number| Prototype { number, assigned: 1, nearest: nearest.clone() }).collect();
    let page = page::page(&data).unwrap();
    assert!(page.len() < 5_000_000, "{}", page.len());
    assert_eq!(page.matches("<img").count(), 20 + 80);
    assert!(page.contains("width=\"128\"") && !page.contains("width=\"160\""));
}
