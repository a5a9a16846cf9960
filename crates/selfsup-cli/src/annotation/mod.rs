//! `selfsup report annotation`: accuracy against the number of labels, for several ways of using them, and how many labels each
//! saves.
//!
//! | file | holds |
//! |---|---|
//! | `arm.rs` | the ways of using labels |
//! | `labels.rs` | which samples are labelled in a draw |
//! | `linear.rs` | the arms on frozen features |
//! | `train.rs` | the arms that train a network |
//! | `cells.rs` | what was measured, a file each |
//! | `ladder.rs` | means, the labels that are needed, the sentence |
//! | `page.rs` | annotation.json, and what the page shows |

mod arm;
mod cells;
mod labels;
mod ladder;
mod linear;
mod page;
mod train;

use crate::digest;
use crate::evaluate::last_checkpoint;
use crate::finetune::{FinetuneRecipe, MethodConfig};
use crate::images::Images;
use crate::objective::Modality;
use crate::pretrain::recipe_of;
use crate::recipe::{Assignment, Recipe};
use anyhow::{Context, Result, bail, ensure};
use arm::{Arm, Learning};
use cells::{Cell, Cells, Measured};
use labels::Choice;
use linear::Eyes;
use selfsup::core::state::write_whole;
use selfsup::core::{Device, Key};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;
use train::{Pace, Start, Trained};

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run whose encoder is begun with.
    #[arg(long, value_name = "RUN")]
    from: PathBuf,
    /// A known set's name, or the path of a folder, with labels.
    #[arg(long, value_name = "NAME_OR_PATH")]
    data: String,
    /// How many labels: numbers, or all. When left out, those of 10, 40, 100, 250 and 1000 that can be of these data, and all.
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    labels: Vec<Count>,
    /// How many draws of so many labels.
    #[arg(long, value_name = "N", default_value_t = 3)]
    draws: u64,
    /// The first seed; a draw has a seed of its own.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The ways of using labels; all when left out.
    #[arg(long, value_enum, value_name = "ARM,..", value_delimiter = ',')]
    arms: Vec<Arm>,
    /// How pseudo-labels are made: a method of selfsup finetune.
    #[arg(long, value_name = "METHOD", default_value = "freematch")]
    method: String,
    /// The seconds of a training, about: so many epochs as a few steps say that there is time for.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    budget: f64,
    /// The epochs of a training instead, the same on any machine.
    #[arg(long, value_name = "N", conflicts_with = "budget")]
    epochs: Option<u64>,
    /// Set a field of the trainings' recipes, as in --set optimizer.lr=0.001; those of method are set for --method alone. May
    /// be given again.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The training samples that may be labelled; as many as the run has seen when left out.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The test samples; as many as the run has when left out.
    #[arg(long, value_name = "N")]
    test_limit: Option<usize>,
    /// The folder for annotation.json, annotation.html, plots/ and the cells; one with the same ladder goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print annotation.json instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: crate::Machine,
}

/// A number of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// So many.
    Some(usize),
    /// As many as there are.
    All,
}

impl FromStr for Count {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.trim() {
            "all" => Ok(Count::All),
            word => word.parse().map(Count::Some).map_err(|_| format!("{word}: a number of labels, or all")),
        }
    }
}

/// The method of the arms that learn from labelled images alone.
const SUPERVISED: &str = "supervised";

/// What is set of a method's recipe: the fields of `[method]` are of the method that was `chosen` alone.
fn set_of(method: &str, chosen: &str, set: &[Assignment]) -> Vec<Assignment> {
    let of_method = |assignment: &Assignment| assignment.section() == "method";
    set.iter().filter(|assignment| method == chosen || !of_method(assignment)).cloned().collect()
}

/// The numbers of labels that are tried where none are named, beside all.
const COUNTS: [usize; 5] = [10, 40, 100, 250, 1000];

/// Runs the command: measures what is missing, and writes the report of what there is.
///
/// # Errors
/// When the folder holds no run, the data have no labels, or a number cannot be; all that before anything is written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let device = arguments.machine.choose()?;
    let setting = Setting::open(arguments, device)?;
    let jobs = setting.cells()?;
    let cells = Cells::open(&arguments.out, &setting.plan())?;
    let mut done = Vec::new();
    let mut pending = Vec::new();
    for cell in jobs {
        match cells.read(&cell)? {
            Some(measured) => {
                // It may have been killed between the two.
                train::clear(&arguments.out, &cell)?;
                done.push(measured);
            }
            None => pending.push(cell),
        }
    }
    eprintln!("{} of {} cells are there", done.len(), done.len() + pending.len());
    let (mut eyes, mut pace) = (None, Pace::open(&arguments.out)?);
    let mut interrupted = None;
    for (at, cell) in pending.iter().enumerate() {
        let measured = match setting.measure(cell, &mut eyes, &mut pace).with_context(|| cell.name())? {
            Ok(measured) => measured,
            Err(signal) => {
                eprintln!("interrupted; the same command goes on where it stopped");
                interrupted = Some(signal);
                break;
            }
        };
        cells.write(cell, &measured)?;
        train::clear(&arguments.out, cell)?;
        done.push(measured);
        let (accuracy, seconds) = done.last().map_or((f64::NAN, 0.0), |m| (m.accuracy, m.seconds));
        let left =
            Some(&pending[at + 1..]).filter(|rest| !rest.is_empty()).and_then(|rest| left(&done, rest));
        eprintln!(
            "{}/{} {}: {:.2} % in {seconds:.1} s{}",
            at + 1,
            pending.len(),
            cell.name(),
            100.0 * accuracy,
            left.map_or_else(String::new, |seconds| format!("; about {} left", duration(seconds)))
        );
    }
    if let Some(signal) = interrupted {
        return Ok(ExitCode::from(128 + signal as u8));
    }
    let report = page::Told::new(&setting, done);
    let text = serde_json::to_string_pretty(&report.json()?)?;
    let path = crate::report::annotation::write(&report.page(), &arguments.out)?;
    write_whole(&arguments.out.join("annotation.json"), text.as_bytes())?;
    if arguments.json {
        println!("{text}");
    } else {
        println!("{}", report.table());
        println!("{}", report.sentence());
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The numbers of labels, ascending: those that were asked for, or those of the usual ones that can be, and all.
fn counts(asked: &[Count], samples: usize, classes: usize) -> Vec<usize> {
    let usual = COUNTS.into_iter().filter(|count| (classes..=samples).contains(count)).chain([samples]);
    let mut counts: Vec<usize> = if asked.is_empty() {
        usual.collect()
    } else {
        let number = |count: &Count| match count {
            Count::Some(count) => *count,
            Count::All => samples,
        };
        asked.iter().map(number).collect()
    };
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// The seconds that cells will take, by what cells of their arm took with the nearest number of labels; none where one of an
/// arm was never measured.
fn left(done: &[Measured], pending: &[Cell]) -> Option<f64> {
    pending
        .iter()
        .map(|cell| {
            let of_arm = done.iter().filter(|measured| measured.arm == cell.arm);
            let nearest = of_arm.clone().map(|measured| measured.labels.abs_diff(cell.labels)).min()?;
            let like: Vec<f64> = of_arm
                .filter(|measured| measured.labels.abs_diff(cell.labels) == nearest)
                .map(|measured| measured.seconds)
                .collect();
            Some(like.iter().sum::<f64>() / like.len() as f64)
        })
        .sum()
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// What all cells share.
struct Setting<'a> {
    arguments: &'a Arguments,
    recipe: Recipe,
    weights: PathBuf,
    step: u64,
    images: Images,
    /// The labels of the samples that may be labelled, and of the test samples.
    train: Vec<i64>,
    test: Vec<i64>,
    /// Checksums of what was learned from and begun with.
    digest: Value,
    classes: usize,
    /// The numbers of labels, ascending.
    counts: Vec<usize>,
    arms: Vec<Arm>,
    /// What is set of the trainings' recipes.
    set: Vec<Assignment>,
    device: Device,
}

impl<'a> Setting<'a> {
    fn open(arguments: &'a Arguments, device: Device) -> Result<Self> {
        ensure!(arguments.draws > 0, "--draws 0: at least 1");
        let budget = arguments.budget;
        ensure!(budget > 0.0 && budget.is_finite(), "--budget {budget}: seconds above 0");
        ensure!(arguments.epochs != Some(0), "--epochs 0: at least 1");
        let mut recipe = recipe_of(&arguments.from)?;
        ensure!(recipe.objective.modality() == Modality::Images, "--from: a run on images");
        let last = last_checkpoint(&arguments.from)?;
        recipe.data.source = Some(arguments.data.clone());
        recipe.data.limit = arguments.limit.or(recipe.data.limit);
        recipe.data.test_limit = arguments.test_limit.or(recipe.data.test_limit);
        let images = Images::open(&recipe.data)?;
        let no_labels = || format!("{} has no labels to be drawn from and judged by", arguments.data);
        let (train, test) = images.train.labels().zip(images.test.labels()).with_context(no_labels)?;
        let classes = images.classes().len();
        if let Some(class) = (0..classes as i64).find(|class| !train.contains(class)) {
            bail!("{}: no training sample of the class {}", arguments.data, images.classes()[class as usize]);
        }
        let counts = counts(&arguments.labels, train.len(), classes);
        for &count in &counts {
            labels::drawn(&train, classes, count, Key::new(arguments.seed))?;
        }
        let mut arms = if arguments.arms.is_empty() { Arm::ALL.to_vec() } else { arguments.arms.clone() };
        arms.sort_unstable();
        arms.dedup();
        // A method or field that is not there is refused before anything is written.
        let set = arguments.set.iter().map(|text| text.parse()).collect::<Result<Vec<Assignment>>>()?;
        for method in [SUPERVISED, &arguments.method] {
            let set = set_of(method, &arguments.method, &set);
            let recipe = FinetuneRecipe::read(method, Some(&arguments.from), &set)?;
            ensure!(
                !matches!(recipe.method, MethodConfig::Distillation(_)),
                "--method {method}: its teacher would know other labels than a draw; name a method that makes its labels itself"
            );
        }
        let digest = json!({
            "train": digest::of_images(images.train.as_ref())?,
            "test": digest::of_images(images.test.as_ref())?,
            "checkpoint": digest::of_file(&last.weights)?,
        });
        Ok(Setting {
            arguments,
            recipe,
            digest,
            weights: last.weights,
            step: last.step,
            images,
            train,
            test,
            classes,
            counts,
            arms,
            set,
            device,
        })
    }

    /// What cells of the same ladder have in common.
    fn plan(&self) -> Value {
        let from = std::path::absolute(&self.arguments.from).unwrap_or_else(|_| self.arguments.from.clone());
        json!({
            "from": from, "step": self.step, "data": self.arguments.data,
            "method": self.arguments.method,
            "budget": self.budget(), "epochs": self.arguments.epochs, "set": self.arguments.set,
            "samples": self.train.len(), "test": self.test.len(), "classes": self.classes,
            "digest": self.digest,
        })
    }

    /// The cells, draw by draw, so that a ladder that is stopped has all its rungs. With all labels there is nothing to choose, and
    /// but one draw, with which a network is trained by every seed all the same.
    fn cells(&self) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for draw in 0..self.arguments.draws {
            for &labels in &self.counts {
                for &arm in &self.arms {
                    let all = labels == self.train.len();
                    let proposed = arm.choice() == Choice::Proposed;
                    let same = all && (proposed || draw > 0 && arm.learning() == Learning::Linear);
                    if !same {
                        cells.push(Cell { arm, labels, draw, seed: self.arguments.seed + draw });
                    }
                }
            }
        }
        ensure!(
            !cells.is_empty(),
            "--arms: an arm that draws its labels, where only all labels are asked for"
        );
        Ok(cells)
    }

    /// Measures a cell; the signal that asked to stop, where one did.
    fn measure(
        &self,
        cell: &Cell,
        eyes: &mut Option<Eyes>,
        pace: &mut Pace,
    ) -> Result<Result<Measured, i32>> {
        let (choice, learning) = (cell.arm.choice(), cell.arm.learning());
        if eyes.is_none() && (choice == Choice::Proposed || learning == Learning::Linear) {
            *eyes = Some(Eyes::open(self)?);
        }
        let seen = || eyes.as_ref().context("the samples were not encoded");
        let mut started = Instant::now();
        let labelled = match choice {
            Choice::Drawn => labels::drawn(&self.train, self.classes, cell.labels, Key::new(cell.seed))?,
            Choice::Proposed => labels::proposed(&seen()?.train, cell.labels, cell.seed)?,
        };
        let mut train = |method: &str, start| {
            pace.measure(self, method, start)?;
            started = Instant::now();
            train::train(self, cell, method, start, &labelled, pace)
        };
        let reached = match learning {
            Learning::Linear => Trained::Reached(seen()?.linear(&labelled, &self.recipe.eval)?),
            Learning::OnLabelled(start) => train(SUPERVISED, start)?,
            Learning::OnPseudoLabels => train(&self.arguments.method, Start::Pretrained)?,
        };
        let accuracy = match reached {
            Trained::Reached(accuracy) => accuracy,
            Trained::Interrupted(signal) => return Ok(Err(signal)),
        };
        Ok(Ok(Measured {
            arm: cell.arm,
            labels: cell.labels,
            given: labelled.len(),
            draw: cell.draw,
            seed: cell.seed,
            accuracy,
            seconds: started.elapsed().as_secs_f64(),
        }))
    }

    /// What is set of a method's recipe.
    fn set_of(&self, method: &str) -> Vec<Assignment> {
        set_of(method, &self.arguments.method, &self.set)
    }

    /// The seconds of a training; none where its epochs are given.
    fn budget(&self) -> Option<f64> {
        self.arguments.epochs.is_none().then_some(self.arguments.budget)
    }

    fn command(&self) -> String {
        let Arguments { from, data, draws, seed, .. } = self.arguments;
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|&count| if count == self.train.len() { "all".to_owned() } else { count.to_string() })
            .collect();
        let arms: Vec<String> = self.arms.iter().map(|arm| arm.key()).collect();
        let mut words = vec![
            format!("selfsup report annotation --from {} --data {data}", from.display()),
            format!("--labels {} --draws {draws} --seed {seed} --arms {}", counts.join(","), arms.join(",")),
            format!("--method {}", self.arguments.method),
        ];
        words.extend(self.arguments.epochs.map(|epochs| format!("--epochs {epochs}")));
        words.extend(self.budget().map(|budget| format!("--budget {budget}")));
        words.extend(self.arguments.limit.map(|limit| format!("--limit {limit}")));
        words.extend(self.arguments.test_limit.map(|limit| format!("--test-limit {limit}")));
        words.extend(self.arguments.set.iter().map(|set| format!("--set {set}")));
        words.push("--out NEW_FOLDER".to_owned());
        words.join(" ")
    }

    fn run(&self) -> &Path {
        &self.arguments.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(arm: Arm, labels: usize, seconds: f64) -> Measured {
        Measured { arm, labels, given: labels, draw: 0, seed: 0, accuracy: 0.5, seconds }
    }

    #[test]
    fn a_count_is_a_number_or_all() {
        assert_eq!("40".parse(), Ok(Count::Some(40)));
        assert_eq!("all".parse(), Ok(Count::All));
        assert_eq!("some".parse::<Count>(), Err("some: a number of labels, or all".to_owned()));
    }

    #[test]
    fn the_usual_counts_are_those_that_can_be_and_asked_ones_stay() {
        assert_eq!(counts(&[], 10_000, 10), [10, 40, 100, 250, 1000, 10_000]);
        assert_eq!(counts(&[], 600, 20), [40, 100, 250, 600]);
        assert_eq!(counts(&[], 100, 100), [100]);
        assert_eq!(counts(&[Count::All, Count::Some(5), Count::Some(7)], 7, 10), [5, 7]);
    }

    #[test]
    fn the_time_left_is_that_of_the_most_alike() {
        let done = [
            measured(Arm::SslLinear, 10, 1.0),
            measured(Arm::SslLinear, 10, 3.0),
            measured(Arm::SslLinear, 1000, 9.0),
        ];
        let cell = |arm, labels| Cell { arm, labels, draw: 1, seed: 1 };
        let pending = [cell(Arm::SslLinear, 40), cell(Arm::SslLinear, 900)];
        assert_eq!(left(&done, &pending), Some(11.0));
        assert_eq!(left(&done, &[cell(Arm::SslLinearChosen, 40)]), None);
        assert_eq!(duration(40.0), "40 s");
        assert_eq!(duration(600.0), "10 min");
        assert_eq!(duration(7200.0), "2.0 h");
    }
}
