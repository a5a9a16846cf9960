//! What is pretrained and how: a recipe of ours, or lightly's implementation of a method.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{self as quality, Setting, foretold};
use crate::run::{program, root, stage};

/// The epochs and images by which a recipe's speed is measured: some of each stretch of its views.
const TRIAL_EPOCHS: u64 = 4;
const TRIAL_IMAGES: u64 = 2560;
/// The images that all learn from unless told otherwise, the first of the training part.
pub const IMAGES: u64 = 10_000;
/// The recipe that stands for SimCLR; it is not named by its method.
const SIMCLR: &str = "simclr-fashion-mnist";
/// The methods of ours that lightly has too.
const LIGHTLY: [&str; 9] =
    ["simclr", "moco-v2", "byol", "simsiam", "barlow-twins", "vicreg", "swav", "dino", "mae"];

/// A line of the table.
pub struct Entrant {
    /// Its key in `docs/quality.json`: the method's name, behind `lightly-` for lightly's.
    pub name: String,
    pub title: String,
    pub family: String,
    side: Side,
}

enum Side {
    /// A shipped recipe.
    Recipe(String),
    /// Lightly's, of this method.
    Lightly(String),
}

/// What the trial of a recipe says.
pub struct Length {
    /// The epochs that the budget holds, at least one.
    epochs: u64,
    /// The time of a training step, by image.
    seconds_per_image: f64,
}

/// What a finished run came to.
pub struct Outcome {
    pub scores: Value,
    pub health: Value,
    /// The kind of the encoder; none of lightly's.
    pub encoder: Option<String>,
    pub epochs: f64,
    pub samples_per_second: f64,
    pub seconds: f64,
    pub peak_megabytes: f64,
}

/// The recipe of every method on images.
pub fn ours(methods: &[Value], recipes: &[Value], only: &[String]) -> Vec<Entrant> {
    let shipped = |name: &str| recipes.iter().any(|recipe| recipe["name"] == name);
    let entrant = |method: &Value| {
        let name = method["name"].as_str()?;
        let recipe = if name == "simclr" { SIMCLR } else { name };
        shipped(recipe).then(|| Entrant {
            name: name.to_owned(),
            title: word(method, "title"),
            family: word(method, "family"),
            side: Side::Recipe(recipe.to_owned()),
        })
    };
    chosen(methods.iter().filter_map(entrant).collect(), only)
}

/// Those that are named: by exactly one of the names, or, of a name that no method has, by a part of it; all, without any.
fn chosen(all: Vec<Entrant>, only: &[String]) -> Vec<Entrant> {
    let exact: Vec<bool> =
        only.iter().map(|name| all.iter().any(|entrant| entrant.method() == name)).collect();
    let named = |entrant: &Entrant| {
        only.is_empty()
            || only.iter().zip(&exact).any(
                |(name, &exact)| {
                    if exact { entrant.method() == name } else { entrant.is(name) }
                },
            )
    };
    all.into_iter().filter(named).collect()
}

/// Lightly's implementations.
pub fn peers(methods: &[Value], only: &[String]) -> Vec<Entrant> {
    let entrant = |name: &str| {
        let method = methods.iter().find(|method| method["name"] == name)?;
        Some(Entrant {
            name: format!("lightly-{name}"),
            title: format!("{} by lightly", word(method, "title")),
            family: word(method, "family"),
            side: Side::Lightly(name.to_owned()),
        })
    };
    chosen(LIGHTLY.into_iter().filter_map(entrant).collect(), only)
}

fn word(method: &Value, key: &str) -> String {
    method[key].as_str().unwrap_or_default().to_owned()
}

/// A shipped recipe as its file has it.
fn text_of(recipe: &str) -> Result<String> {
    let path = root().join("crates/selfsup-cli/recipes").join(format!("{recipe}.toml"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

impl Entrant {
    /// Whether its recipe names the data.
    pub fn has_data(&self) -> bool {
        match &self.side {
            Side::Recipe(recipe) => text_of(recipe).is_ok_and(|text| text.contains("\nsource = ")),
            Side::Lightly(_) => true,
        }
    }

    /// The method, whoever's.
    fn method(&self) -> &str {
        self.name.strip_prefix("lightly-").unwrap_or(&self.name)
    }

    /// Whether a name of `--only` means it among others.
    pub fn is(&self, name: &str) -> bool {
        let recipe = match &self.side {
            Side::Recipe(recipe) | Side::Lightly(recipe) => recipe,
        };
        recipe.contains(name) || self.method() == name
    }

    /// Deletes what was measured.
    pub fn forget(&self, setting: &Setting) -> Result<()> {
        let folder = self.folder(setting);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }

    fn folder(&self, setting: &Setting) -> PathBuf {
        setting.folder.join(&self.name)
    }

    /// How fast it is and what the budget holds. What was measured with another recipe or other data is thrown
    /// away. Lightly's side measures and counts by itself.
    pub fn length(&self, setting: &Setting) -> Result<Length> {
        let Side::Recipe(recipe) = &self.side else {
            return Ok(Length { epochs: 0, seconds_per_image: f64::NAN });
        };
        let seconds = match setting.length {
            quality::Length::Steps(steps) => {
                let epochs = epochs_of(steps, &text_of(recipe)?, setting.images)?;
                return Ok(Length { epochs, seconds_per_image: f64::NAN });
            }
            quality::Length::Seconds(seconds) => seconds,
        };
        let folder = self.folder(setting);
        let file = folder.join("epochs.json");
        let data = setting.data.as_ref().map(|data| fs::canonicalize(data).unwrap_or_else(|_| data.into()));
        let made_with = json!({ "recipe": text_of(recipe)?, "data": data });
        if file.is_file() {
            let value = read(&file)?;
            if value["made_with"] == made_with {
                let epochs = value["epochs"].as_u64();
                let epochs = epochs.with_context(|| format!("{}: no epochs", file.display()))?;
                return Ok(Length { epochs, seconds_per_image: number(&value, "seconds_per_image") });
            }
            eprintln!("    {recipe} or its data changed: measuring it anew");
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let trial = folder.join("trial");
        let mut command = pretrain(recipe, &trial, 0, TRIAL_EPOCHS, setting)?;
        command.args(["--overwrite", "--set", &format!("data.limit={TRIAL_IMAGES}")]);
        stage("measuring the speed", &mut command, "the message above says why")?;
        let seconds_per_image = seconds_of(&trial)? / (TRIAL_EPOCHS * trial_images(&trial)?) as f64;
        let epochs = epochs_in(seconds, seconds_per_image * setting.images as f64);
        fs::remove_dir_all(&trial).with_context(|| trial.display().to_string())?;
        let note = json!({
            "epochs": epochs, "budget_seconds": seconds, "seconds_per_image": seconds_per_image,
            "made_with": made_with,
        });
        fs::write(&file, format!("{note:#}\n")).with_context(|| file.display().to_string())?;
        Ok(Length { epochs, seconds_per_image })
    }

    /// Pretrains and judges with a seed, or what is left of it.
    pub fn outcome(&self, seed: u64, setting: &Setting) -> Result<Outcome> {
        let run = self.folder(setting).join(format!("seed-{seed}"));
        let report = run.join("report.json");
        match &self.side {
            Side::Recipe(recipe) => {
                let Length { epochs, seconds_per_image } = self.length(setting)?;
                train(recipe, &run, seed, epochs, setting)?;
                if !read(&report).is_ok_and(|report| is_whole(&report)) {
                    // The untrained encoder and the pixels are judged with the first seed.
                    judge(&run, if seed == 0 { &[] } else { &["--alone"] }, setting)?;
                }
                let (report, memory) = (read(&report)?, read(&run.join("memory.json"))?);
                Ok(Outcome {
                    epochs: epochs as f64,
                    // Of the trial, where there was one: a long run may have shared the machine.
                    samples_per_second: if seconds_per_image.is_nan() {
                        number(&report["run"], "samples_per_second")
                    } else {
                        1.0 / seconds_per_image
                    },
                    seconds: number(&report["run"], "training_seconds"),
                    peak_megabytes: number(&memory, "peak_megabytes"),
                    encoder: report["run"]["encoder"].as_str().map(str::to_owned),
                    scores: report["scores"].clone(),
                    health: report["health"].clone(),
                })
            }
            Side::Lightly(method) => {
                let log = run.join("log.json");
                if !log.is_file() {
                    lightly(method, &run, seed, setting)?;
                }
                // Features from elsewhere have no views, and no part in what is foretold.
                if !report.is_file() {
                    judge(&run, &["--features"], setting)?;
                }
                let (report, log) = (read(&report)?, read(&log)?);
                Ok(Outcome {
                    epochs: number(&log, "epochs"),
                    samples_per_second: number(&log, "samples_per_second"),
                    seconds: number(&log, "seconds"),
                    peak_megabytes: number(&log, "peak_megabytes"),
                    encoder: None,
                    scores: report["scores"].clone(),
                    health: report["health"].clone(),
                })
            }
        }
    }
}

/// Whether a report has all that the table asks of it: one of an older program is made anew, from the same training. A number that
/// could not be taken stands there as null.
fn is_whole(report: &Value) -> bool {
    foretold::keys().all(|name| report["health"]["trained"].get(name).is_some())
}

fn train(recipe: &str, run: &Path, seed: u64, epochs: u64, setting: &Setting) -> Result<()> {
    let memory = run.join("memory.json");
    let noted = if memory.is_file() { read(&memory).unwrap_or_default() } else { Value::Null };
    if noted["done"] == true {
        return Ok(());
    }
    let mut command = pretrain(recipe, run, seed, epochs, setting)?;
    let begun = fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some());
    command.arg(if begun { "--resume" } else { "--overwrite" });
    eprintln!("==> pretraining {recipe}, seed {seed}, {epochs} epochs");
    let before = if begun { noted["peak_megabytes"].as_f64().unwrap_or(0.0) } else { 0.0 };
    watched(&mut command, before, &memory)
}

fn pretrain(recipe: &str, run: &Path, seed: u64, epochs: u64, setting: &Setting) -> Result<Command> {
    let mut command = program("release", "selfsup");
    command.args(["pretrain", recipe, "--run"]).arg(run);
    command.args(["--threads", &setting.threads.to_string()]);
    if let Some(data) = &setting.data {
        command.args(["--data", data]);
    }
    command.args(["--set", &format!("train.seed={seed}"), "--set", &format!("train.epochs={epochs}")]);
    command.args(["--set", &format!("data.limit={}", setting.images)]);
    command.args(["--set", &format!("train.loader_threads={}", setting.threads)]);
    let text = text_of(recipe)?;
    // A warm-up that the recipe counts in epochs keeps its share of the run.
    if let (Some(warmup), Some(whole)) = (number_in(&text, "warmup_epochs"), number_in(&text, "epochs")) {
        let scaled = warmup * epochs as f64 / whole;
        command.args(["--set", &format!("schedule.warmup_epochs={scaled:?}")]);
    }
    Ok(command)
}

fn judge(run: &Path, flags: &[&str], setting: &Setting) -> Result<()> {
    let mut command = program("release", "selfsup");
    command.arg("eval").args(flags).arg(run).args(["--threads", &setting.threads.to_string()]);
    stage("evaluating", &mut command, "the message above says what it lacks")
}

fn lightly(method: &str, out: &Path, seed: u64, setting: &Setting) -> Result<()> {
    let python = setting.python.as_ref().context("lightly's side needs --peers")?;
    let found =
        program("release", "selfsup").args(["data", "fashion-mnist"]).output().context("selfsup data")?;
    let data = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    if data.is_empty() {
        bail!("selfsup data fashion-mnist: {}", String::from_utf8_lossy(&found.stderr));
    }
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .arg(root().join("benches/peers/quality.py"))
        .args(["--method", method, "--data", &data, "--out"])
        .arg(out);
    let quality::Length::Seconds(budget) = setting.length else {
        bail!("lightly's side counts seconds; leave --steps out");
    };
    let numbers = [("--budget", budget), ("--seed", seed), ("--threads", setting.threads as u64)];
    for (name, value) in numbers {
        command.args([name, &value.to_string()]);
    }
    stage(
        &format!("pretraining {method} by lightly, seed {seed}"),
        &mut command,
        "the message above says why",
    )
}

fn epochs_in(budget: u64, seconds_per_epoch: f64) -> u64 {
    (budget as f64 / seconds_per_epoch.max(1e-3)).round().max(1.0) as u64
}

/// The epochs of a recipe that come nearest to so many optimizer steps, at least one.
fn epochs_of(steps: u64, recipe: &str, images: u64) -> Result<u64> {
    let batch = number_in(recipe, "batch_size").context("the recipe says no batch_size")?;
    let per_epoch = (images as f64 / (batch * number_in(recipe, "accumulate").unwrap_or(1.0))).floor();
    if per_epoch < 1.0 {
        bail!("--images {images}: at least a batch of the recipe, {batch}");
    }
    Ok((steps as f64 / per_epoch).round().max(1.0) as u64)
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or(f64::NAN)
}

/// The first number under a key that begins a line of TOML.
fn number_in(toml: &str, key: &str) -> Option<f64> {
    let line = toml.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))?;
    line.trim().parse().ok()
}

/// The seconds of training that a run's log tells.
fn seconds_of(run: &Path) -> Result<f64> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let last = text.lines().last().context("the log is empty")?;
    let value: Value = serde_json::from_str(last).with_context(|| path.display().to_string())?;
    value["seconds"].as_f64().with_context(|| format!("{}: no seconds", path.display()))
}

/// The training images that a run noted.
fn trial_images(run: &Path) -> Result<u64> {
    let path = run.join("config.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let samples = number_in(&text, "samples").with_context(|| format!("{}: no samples", path.display()))?;
    Ok(samples as u64)
}

/// Runs a program and notes the peak of its resident memory in megabytes, as far as the system tells, in `file`: of a run
/// that was taken up, the peak of all its parts.
fn watched(command: &mut Command, before: f64, file: &Path) -> Result<()> {
    let note = |peak: f64, done: bool| {
        let text = format!("{:#}\n", json!({ "peak_megabytes": peak, "done": done }));
        fs::write(file, text).with_context(|| file.display().to_string())
    };
    let began = Instant::now();
    let mut child: Child = command.spawn().context("cannot start selfsup")?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (mut peak, mut noted) = (before, before);
    loop {
        if let Some(code) = child.try_wait()? {
            if !code.success() {
                bail!("pretraining failed ({code}); the same command goes on where it stopped");
            }
            eprintln!("    done in {:.0} s", began.elapsed().as_secs_f64());
            return note(peak, true);
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
        let now = kilobytes.unwrap_or(0.0) * 1024.0 / 1e6;
        peak = peak.max(now);
        // Not into a folder that the program has yet to make or to empty.
        if peak > 1.02 * noted && file.with_file_name("checkpoints").is_dir() {
            noted = peak;
            note(peak, false)?;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_as_many_epochs_as_the_trial_says() {
        assert_eq!(epochs_in(120, 5.0), 24);
        assert_eq!(epochs_in(1, 25.0), 1);
    }

    #[test]
    fn a_number_of_steps_is_as_many_epochs_as_come_nearest() {
        let epochs = |steps, recipe: &str, images| epochs_of(steps, recipe, images).ok();
        assert_eq!(epochs(200, "batch_size = 256\n", 10_000), Some(5)); // of 39 steps
        assert_eq!(epochs(200, "batch_size = 64\naccumulate = 2\n", 10_000), Some(3)); // of 78
        assert_eq!(epochs(1, "batch_size = 64\n", 10_000), Some(1));
        assert_eq!(epochs(1, "batch_size = 64\n", 63), None);
    }

    #[test]
    fn every_method_on_images_has_its_recipe() {
        let methods = [json!({ "name": "simclr" }), json!({ "name": "byol" }), json!({ "name": "text" })];
        let shipped = [json!({ "name": SIMCLR }), json!({ "name": "byol" })];
        let names = |entrants: Vec<Entrant>| -> Vec<String> {
            entrants.into_iter().map(|entrant| entrant.name).collect()
        };
        assert_eq!(names(ours(&methods, &shipped, &[])), ["simclr", "byol"]);
        assert_eq!(names(peers(&methods, &[])), ["lightly-simclr", "lightly-byol"]);
    }

    #[test]
    fn a_name_is_a_methods_or_a_part_of_several() {
        let methods = ["simclr", "simclr-v2", "byol", "mae"].map(|name| json!({ "name": name }));
        let shipped = [SIMCLR, "simclr-v2", "byol", "mae"].map(|name| json!({ "name": name }));
        let names = |only: &[&str]| -> Vec<String> {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            ours(&methods, &shipped, &only).into_iter().map(|entrant| entrant.name).collect()
        };
        assert_eq!(names(&["simclr"]), ["simclr"]);
        assert_eq!(names(&["simcl"]), ["simclr", "simclr-v2"]);
        assert_eq!(names(&["mae", "simclr", "nobody"]), ["simclr", "mae"]);
        assert!(names(&["nobody"]).is_empty());
    }

    #[test]
    fn a_report_without_one_of_the_numbers_is_made_anew() {
        let mut report = json!({ "health": { "trained": { "alignment": null, "lidar": null } } });
        for name in ["rank_me", "std", "uniformity", "alpha_req"] {
            assert!(!is_whole(&report), "{report}");
            report["health"]["trained"][name] = json!(1.0);
        }
        assert!(is_whole(&report));
        assert!(!is_whole(&json!({ "health": {} })));
    }

    #[test]
    fn numbers_are_read_from_the_lines_they_begin() {
        let toml = "# epochs = 3\nloss = { warmup_epochs = 9 }\nwarmup_epochs = 2.0\nepochs = 6\n";
        assert_eq!((number_in(toml, "epochs"), number_in(toml, "warmup_epochs")), (Some(6.0), Some(2.0)));
        assert_eq!(number_in(toml, "limit"), None);
    }
}
