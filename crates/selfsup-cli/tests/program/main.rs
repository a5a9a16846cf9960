//! The program as its user runs it: files in, exit codes, messages and files out.

// Nothing here but tests and what they need.
#![allow(clippy::unwrap_used)]

mod annotation;
mod audit;
mod compare;
mod dense;
mod finetune;
mod interruption;
mod journey;
mod label_free;
mod labels;
mod pictures;
mod recipes;
mod refusals;
mod teacher;

use assert_cmd::Command;
use image::{GrayImage, Luma};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A run of seconds: a network of two layers on 16 pixels, eight steps an epoch.
const SMALL: &[&str] = &[
    "data.channels=1",
    "views.kinds=[{ count = 2, size = 16, blur = { p = 0.0 }, mean = [0.5], std = [0.5] }]",
    "encoder.kind=convnet",
    "encoder.widths=[8, 16]",
    "encoder.strides=[1, 2]",
    "objective.projector.hidden=[16]",
    "objective.projector.output=8",
    "train.epochs=3",
    "train.batch_size=16",
    "train.log_every=4",
    "eval.map_points=60",
    "eval.queries=2",
];

/// A folder that holds images and runs.
struct Place(TempDir);

impl Place {
    /// A folder with `images/{ring,stripes}`, 80 grey PNG of 20x20 each.
    fn new() -> Self {
        let place = Self::empty();
        for class in ["ring", "stripes"] {
            fs::create_dir_all(place.path("images").join(class)).unwrap();
            for i in 0..80 {
                let file = place.path("images").join(class).join(format!("{i:02}.png"));
                picture(class, i).save(file).unwrap();
            }
        }
        place
    }

    fn empty() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, to be started in this folder.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfsup"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// The arguments of a small pretraining into the folder `run`, with more after them.
    fn pretraining<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["pretrain", "simclr-images", "--data", "images", "--run", run];
        arguments.extend(SMALL.iter().flat_map(|setting| ["--set", setting]));
        arguments.extend(more);
        arguments
    }

    fn pretrain(&self, run: &str, more: &[&str]) -> Command {
        self.program(&Self::pretraining(run, more))
    }

    /// What the program says when it refuses, on one line.
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.program(arguments).assert().failure().code(1).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        let last = said.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("error: "), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        last
    }

    /// A file of the last checkpoint of a run.
    fn last(&self, run: &str, file: &str) -> Vec<u8> {
        let checkpoints = self.path(run).join("checkpoints");
        let step = fs::read_to_string(checkpoints.join("last")).unwrap();
        fs::read(checkpoints.join(step.trim()).join(file)).unwrap()
    }
}

/// A ring or stripes, each at a place of its own.
fn picture(class: &str, i: u32) -> GrayImage {
    GrayImage::from_fn(20, 20, |x, y| {
        let (u, v) = (f64::from(x) - 7.0 - f64::from(i % 7), f64::from(y) - 7.0 - f64::from(i % 5));
        let wave = if class == "ring" { (u * u + v * v).sqrt() } else { u + 0.3 * v };
        Luma([(127.5 + 120.0 * (wave * (0.8 + f64::from(i % 3) * 0.1)).sin()) as u8])
    })
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
