//! Input that cannot work: what the message says, and that nothing was written before it.

use super::{Place, SMALL, picture};
use std::fs;

impl Place {
    /// The message of a pretraining that is refused, with its folder untouched.
    fn refused(&self, more: &[&str]) -> String {
        let message = self.refusal(&Place::pretraining("refused", more));
        assert!(!self.path("refused").exists(), "the run's folder was made before: {message}");
        message
    }

    fn refused_data(&self, data: &str) -> String {
        let mut arguments = vec!["pretrain", "simclr-images", "--data", data, "--run", "refused"];
        arguments.extend(SMALL.iter().flat_map(|setting| ["--set", setting]));
        let message = self.refusal(&arguments);
        assert!(!self.path("refused").exists(), "the run's folder was made before: {message}");
        message
    }
}

fn holds(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

#[test]
fn a_folder_that_is_missing_or_holds_nothing() {
    let place = Place::new();
    holds(&place.refused_data("./nowhere"), &["./nowhere: there is no such file or folder"]);
    holds(&place.refused_data("fashion-mnits"), &["fashion-mnits is neither", "fashion-mnist"]);
    fs::create_dir(place.path("images/blank")).unwrap();
    holds(&place.refused_data("images"), &["images/blank: the class folder holds no image"]);
}

#[test]
fn a_truncated_png_is_named() {
    let place = Place::new();
    for i in 0..10 {
        let file = place.path("images/ring").join(format!("{i:02}.png"));
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
    holds(&place.refusal(&Place::pretraining("run", &[])), &["images/ring/0", ".png: cannot be decoded"]);
    assert!(!place.path("run/checkpoints/last").exists());
}

#[test]
fn idx_files_that_are_cut_or_do_not_belong_together() {
    let place = Place::empty();
    fs::create_dir(place.path("idx")).unwrap();
    let head = |magic: u8, sides: &[u8]| -> Vec<u8> {
        [0, 0, 8, magic].into_iter().chain(sides.iter().flat_map(|&side| [0, 0, 0, side])).collect()
    };
    let images =
        [head(3, &[40, 20, 20]), (0..40).flat_map(|i| picture("ring", i).into_raw()).collect()].concat();
    let path = place.path("idx/train-images-idx3-ubyte");
    fs::write(&path, &images[..images.len() - 1]).unwrap();
    holds(&place.refused_data("idx"), &["idx/train-images-idx3-ubyte"]);
    fs::write(&path, &images).unwrap();
    fs::write(place.path("idx/train-labels-idx1-ubyte"), [head(1, &[39]), vec![0; 39]].concat()).unwrap();
    holds(&place.refused_data("idx"), &["train-labels-idx1-ubyte: 39 labels for 40 images"]);
}

#[test]
fn an_array_whose_shape_is_no_images() {
    let place = Place::empty();
    let mut head = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5), }".to_owned();
    head.extend(std::iter::repeat_n(' ', 117 - head.len()));
    let bytes = [b"\x93NUMPY\x01\x00\x76\x00", head.as_bytes(), b"\n", &[0; 20]].concat();
    fs::write(place.path("x.npy"), bytes).unwrap();
    holds(&place.refused_data("x.npy"), &["x.npy: an array of images", "[4, 5]"]);
}

#[test]
fn recipe_fields_that_are_wrong_with_the_nearest_right_name() {
    let place = Place::new();
    let refused = |setting: &str| place.refused(&["--set", setting]);
    holds(&refused("train.epoch=3"), &["train.epoch", "train.epochs"]);
    holds(&refused("train.epochs=many"), &["train.epochs", "many"]);
    holds(&refused("train.epochs=0"), &["train.epochs = 0: at least 1"]);
    holds(&refused("train.batch_size=400"), &["train.batch_size = 400: at most the 128 samples of an epoch"]);
    holds(&refused("data.test_limit=0"), &["data.test_limit = 0: at least 1"]);
    holds(&refused("objective.temperature=-1"), &["objective.temperature", "-1"]);
    holds(&refused("objective.kind=simlcr"), &["simlcr", "simclr"]);
    holds(&refused("encoder.strides=[1]"), &["encoder."]);
    let other = ["pretrain", "simclr-images", "--data", "images", "--set", "encoder.kind=text-transformer"];
    holds(&place.refusal(&other), &["encoder.kind = \"text-transformer\"", "a network for images"]);
    holds(&refused("views.kinds.0.scale=[0.5, 0.2]"), &["views.kinds.0", "scale"]);
    holds(&place.refusal(&["pretrain", "simclr-image"]), &["simclr-image", "simclr-images"]);
}

/// The kinds of encoder, and what in them the recipe of another kind does not say.
const ENCODERS: [(&str, &[&str]); 5] = [
    ("convnet", &["encoder.widths=[8, 16]", "encoder.strides=[1, 2]"]),
    ("resnet", &[]),
    (
        "vit",
        &[
            "encoder.image_size=28",
            "encoder.patch_size=7",
            "encoder.dim=16",
            "encoder.depth=1",
            "encoder.heads=2",
        ],
    ),
    (
        "pixel-transformer",
        &[
            "encoder.image_size=28",
            "encoder.dim=16",
            "encoder.depth=1",
            "encoder.heads=2",
            "encoder.feature_block=1",
        ],
    ),
    ("text-transformer", &["encoder.dim=16", "encoder.depth=1", "encoder.heads=2"]),
];

#[test]
fn a_method_with_an_encoder_that_it_cannot_work_with() {
    let place = Place::new();
    for genre in ["news", "fiction"] {
        fs::create_dir_all(place.path("texts").join(genre)).unwrap();
        for i in 0..20 {
            let text = format!("Sentence number {i} of {genre} says what the others say. ").repeat(8);
            fs::write(place.path("texts").join(genre).join(format!("{i}.txt")), text).unwrap();
        }
    }
    // What is refused, of any network, maps, patches, pixels, a combination whose part needs patches, and text.
    let refused = |recipe: &str, kind: &str| match (recipe, kind) {
        ("mlm-brown", "text-transformer") => None,
        ("mlm-brown", _) => Some(
            "encoder.kind: text-transformer is the network for text, from which the objective learns"
                .to_owned(),
        ),
        (_, "text-transformer") => {
            Some(format!("encoder.kind = {kind:?}: a network for images, as the objective learns from them"))
        }
        ("denoising" | "densecl", "pixel-transformer") => Some(
            "encoder.kind: a network with a map of features, as the objective looks at places of an image"
                .to_owned(),
        ),
        ("mae" | "i-jepa" | "combined", _) if kind != "vit" => Some(format!(
            "encoder.kind = {kind:?}: vit, as the objective hides or predicts patches of an image"
        )),
        ("image-gpt", _) if kind != "pixel-transformer" => Some(format!(
            "encoder.kind = {kind:?}: pixel-transformer, as the objective predicts pixels one by one"
        )),
        _ => None,
    };
    let recipes =
        ["simclr-images", "denoising", "densecl", "mae", "i-jepa", "image-gpt", "combined", "mlm-brown"];
    let mut asked = Vec::new();
    for (kind, own) in ENCODERS {
        for recipe in recipes {
            let Some(expected) = refused(recipe, kind) else { continue };
            let data = if recipe == "mlm-brown" { "texts" } else { "images" };
            let encoder = format!("encoder.kind={kind}");
            let mut settings = vec!["train.batch_size=16", encoder.as_str()];
            settings.extend(own);
            if recipe == "combined" {
                settings.push("objective.parts=[{ kind = \"simmim\" }]");
            }
            let mut arguments = vec!["pretrain", recipe, "--data", data, "--run", "refused"];
            arguments.extend(settings.into_iter().flat_map(|setting| ["--set", setting]));
            let message = place.refusal(&arguments);
            holds(&message, &[&expected]);
            assert!(!place.path("refused").exists(), "the run's folder was made before: {message}");
            asked.push((recipe, kind));
        }
    }
    assert_eq!(asked.len(), 25, "{asked:?}");
}

#[test]
fn a_folder_that_holds_a_run_already() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    let before = place.last("run", "model.safetensors");
    holds(&place.refusal(&Place::pretraining("run", &[])), &["run: is not empty; resume"]);
    let changed = place.refusal(&Place::pretraining("run", &["--resume", "--set", "optimizer.lr=0.5"]));
    holds(&changed, &["optimizer.lr"]);
    assert!(before == place.last("run", "model.safetensors"));
    holds(&place.refused(&["--resume"]), &["refused: holds no run to resume"]);
}

#[test]
fn a_checkpoint_of_another_encoder_or_one_that_is_damaged() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    let config = place.path("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("widths = [8, 16]", "widths = [8, 12]")).unwrap();
    let message = place.refusal(&["eval", "run"]);
    holds(&message, &["the checkpoint is of another encoder", "[12, 8, 3, 3]", "[16, 8, 3, 3]"]);
    assert!(!place.path("run/report.json").exists());
    fs::write(&config, text.replace("\nk = 200", "\nk = 0")).unwrap();
    holds(&place.refusal(&["eval", "run"]), &["eval.knn.k = 0: at least 1"]);
    fs::write(&config, text).unwrap();
    let step = fs::read_to_string(place.path("run/checkpoints/last")).unwrap();
    let weights = place.path("run/checkpoints").join(step.trim()).join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 8]).unwrap();
    holds(&place.refusal(&["eval", "run"]), &["model.safetensors"]);
    holds(&place.refusal(&["eval", "nowhere"]), &["nowhere holds no run"]);
    holds(&place.refusal(&["report", "nowhere"]), &["nowhere holds no run"]);
}

#[test]
fn commands_that_would_write_over_something() {
    let place = Place::new();
    place.pretrain("run", &[]).assert().success();
    holds(&place.refusal(&["report", "run"]), &["report.json", "run selfsup eval run"]);
    holds(
        &place.refusal(&["embed", "run", "--data", "images", "--out", "x.txt"]),
        &["x.txt", ".npy or .csv"],
    );
    place.program(&["export", "run", "--out", "exported"]).assert().success();
    holds(
        &place.refusal(&["export", "run", "--out", "exported"]),
        &["exported/model.safetensors is there already"],
    );
}

#[test]
fn features_from_elsewhere_that_are_not_there() {
    let place = Place::empty();
    holds(&place.refusal(&["eval", "--features", "nowhere"]), &["nowhere: there is no such folder"]);
    fs::create_dir(place.path("features")).unwrap();
    let refused = || place.refusal(&["eval", "--features", "features"]);
    holds(&refused(), &["features/train.npy is missing: a folder of features holds train.npy"]);
    fs::write(place.path("features/train.npy"), "no array").unwrap();
    holds(&refused(), &["features/train.npy: no NumPy array"]);
    fs::write(place.path("features/features.safetensors"), "nothing").unwrap();
    holds(&refused(), &["features/train.npy: there is features.safetensors beside it"]);
    fs::remove_file(place.path("features/train.npy")).unwrap();
    holds(&refused(), &["features/features.safetensors", "no safetensors file"]);
    // One tensor, x: [1] of floats.
    let header = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    fs::write(place.path("features/features.safetensors"), bytes).unwrap();
    holds(&refused(), &["features.safetensors: train is missing; there are x"]);
    assert!(!place.path("features/report.json").exists());
    // What is to be judged is said once, by one of the two.
    for arguments in [
        &["eval"][..],
        &["eval", "run", "--features", "features"],
        &["eval", "--features", "features", "--out", "new"],
        &["eval", "--features", "features", "--data", "images"],
        &["eval", "run", "--overwrite"],
    ] {
        let output = place.program(arguments).assert().failure().code(2).get_output().clone();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        holds(&said, &["Usage: selfsup eval"]);
    }
}
