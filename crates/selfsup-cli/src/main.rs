//! The `selfsup` program: recipes, pretraining, evaluation and reports.

mod allocator;
mod annotation;
mod asked;
mod attention;
mod attentive;
mod audit;
mod columns;
mod combined;
mod compare;
mod data;
mod definitions;
mod dense;
mod digest;
mod doctor;
mod drawn;
mod elsewhere;
mod embed;
mod evaluate;
mod export;
mod features;
mod finetune;
mod full;
mod images;
mod insight;
mod judge;
mod label;
mod label_table;
mod layers;
mod list;
mod model;
mod nearest;
mod network;
mod objective;
mod origin;
mod panics;
mod places;
mod pretext;
mod pretrain;
mod projected;
mod recipe;
mod report;
mod reporting;
mod robustness;
mod suite;
mod sure;
mod targets;
mod task;
mod text;
mod training;
mod warnings;
mod watch;

use anyhow::{Result, bail};
use asked::Asked;
use clap::{Args, Parser, Subcommand};
use recipe::Assignment;
use selfsup::core::{Device, device::parse_device, tch};
use std::path::PathBuf;
use std::process::ExitCode;

/// Self-supervised learning: pretrain an encoder on data without labels, see what it learned, take it along.
#[derive(Debug, Parser)]
#[command(name = "selfsup", version, max_term_width = 110)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pretrain an encoder as a recipe says.
    Pretrain(pretrain::Arguments),
    /// Train a classifier from few labels and many images without, from scratch or from a run's encoder.
    Finetune(finetune::Arguments),
    /// Judge a run's encoder by probes, beside the untrained encoder and the raw input.
    Eval {
        /// The run's folder.
        #[arg(required_unless_present = "features", conflicts_with = "features")]
        run: Option<PathBuf>,
        /// Judge features from elsewhere instead: a folder with train.npy, test.npy, train_labels.npy and
        /// test_labels.npy, or features.safetensors with these four. In place of the labels train_targets.npy and
        /// test_targets.npy hold numbers to predict (floats) or several labels (0 and 1), or test_anomalies.npy
        /// marks what is not normal.
        #[arg(long, value_name = "DIR")]
        features: Option<PathBuf>,
        /// Whose encoder.
        #[arg(long, value_enum, default_value = "trained", conflicts_with = "features")]
        weights: recipe::Whose,
        /// Judge the trained encoder alone: faster, where its rivals' scores are known from another seed
        #[arg(long, conflicts_with = "features")]
        alone: bool,
        /// Judge a run's encoder on these data instead: a known set's name or the path of a folder, all of it. Needs --out.
        #[arg(long, value_name = "NAME_OR_PATH", conflicts_with = "features")]
        data: Option<String>,
        /// A field of the evaluation, as in --set eval.knn.k=200; may be given again. With a run it needs --out.
        #[arg(long = "set", value_name = "FIELD=VALUE")]
        set: Vec<Assignment>,
        /// With a run: the folder for report.json and what else there is, in place of the run's own.
        #[arg(long, value_name = "DIR", conflicts_with = "features")]
        out: Option<PathBuf>,
        /// Replace what an earlier evaluation has left in --out.
        #[arg(long, requires = "out")]
        overwrite: bool,
        /// How much is asked; full also writes the page report.html.
        #[arg(long, value_enum, default_value = "probes")]
        suite: full::SuiteChoice,
        /// Print report.json instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        machine: Machine,
    },
    /// Ask a frozen encoder what is where: segment images, or find boxes in them, with a linear head on its feature maps.
    Dense(dense::Arguments),
    /// Compare runs, or folders of features, that were judged by eval --suite full, or fine-tuned runs: paired on the same test samples.
    Compare(compare::Arguments),
    /// Say which given labels of data are probably wrong.
    Audit(audit::Arguments),
    /// Write the features of data: features.npy and the samples' names, or one CSV.
    Embed {
        /// The run's folder.
        run: PathBuf,
        /// Whose encoder.
        #[arg(long, value_enum, default_value = "trained")]
        weights: recipe::Whose,
        /// A known set's name, or the path of a file or folder.
        #[arg(long, value_name = "NAME_OR_PATH")]
        data: String,
        /// features.npy (names go to features.names.txt beside it) or features.csv. Names of images begin with train/ or
        /// test/ where the data have a test part.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace files that are there.
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        machine: Machine,
    },
    /// Label data from few labels, with what each label can be trusted for and why; or propose what to label next.
    Label(Box<label::Arguments>),
    /// Write the encoder's weights as torchvision, timm or transformers load them.
    Export {
        /// The run's folder.
        run: PathBuf,
        /// Whose encoder.
        #[arg(long, value_enum, default_value = "trained")]
        weights: recipe::Whose,
        /// The folder to write model.safetensors and config.json to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write report.html and its plots; or, after annotation, tell how many labels a run saves.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Report(reporting::Arguments),
    /// List what can be named.
    List {
        /// What to list; everything when left out.
        what: Option<list::What>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell what this machine offers.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a known data set and print its folder.
    Data {
        /// The set's name; see selfsup list data.
        name: String,
    },
}

/// Where to compute.
#[derive(Debug, Args)]
struct Machine {
    /// auto, cpu, cuda, cuda:N or mps.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads of libtorch on the CPU; all when left out.
    #[arg(long)]
    threads: Option<i32>,
}

impl Machine {
    /// The device, with libtorch's threads set.
    ///
    /// # Errors
    /// When the machine lacks the device, or the threads are none.
    fn choose(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            anyhow::ensure!(threads > 0, "--threads {threads}: at least 1");
            tch::set_num_threads(threads);
        }
        Ok(parse_device(&self.device)?)
    }
}

fn main() -> ExitCode {
    panics::quiet();
    let command = Program::parse().command;
    let advice = "close other programs, or set a smaller eval.batch_size in the run's config.toml";
    match panics::caught(advice, || run(command)) {
        Ok(code) => code,
        // Of list and doctor nothing is lost when the reader has seen enough, as head does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    error.to_string() == "the standard output"
        && io.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List { what, json } => list::run(what, json)?,
        Command::Doctor { json } => doctor::run(json)?,
        Command::Data { name } => data::fetch_set(&name)?,
        Command::Pretrain(arguments) => return pretrain::run(&arguments),
        Command::Finetune(arguments) => return finetune::run(&arguments),
        Command::Eval { run, features, weights, alone, data, set, out, overwrite, suite, json, machine } => {
            match (run, features) {
                (Some(run), _) => {
                    let rivals = if alone { evaluate::Rivals::None } else { evaluate::Rivals::All };
                    let whose = weights;
                    let asked =
                        Asked { run, whose, rivals, suite, data, set, out, overwrite, print_json: json };
                    let device = machine.choose()?;
                    evaluate::run(&asked, device)?;
                    if suite == full::SuiteChoice::Full {
                        match &asked.out {
                            None => reporting::of_run(&asked.run, device)?,
                            Some(out) => reporting::of(&asked.run, out, asked.command(), device)?,
                        }
                    }
                }
                (None, Some(features)) => {
                    machine.choose()?;
                    if targets::lie_in(&features) {
                        targets::run(&features, &set, suite, json)?;
                        return Ok(ExitCode::SUCCESS);
                    }
                    elsewhere::run(&features, &set, suite, json)?;
                }
                (None, None) => bail!("name a run's folder, or one of features with --features"),
            }
        }
        Command::Dense(arguments) => dense::run(&arguments)?,
        Command::Compare(arguments) => compare::run(&arguments)?,
        Command::Audit(arguments) => audit::run(&arguments)?,
        Command::Embed { run, weights, data, out, overwrite, machine } => {
            embed::run(&run, weights, &data, &out, overwrite, machine.choose()?)?;
        }
        Command::Label(arguments) => label::run(&arguments)?,
        Command::Export { run, weights, out } => export::run(&run, weights, &out)?,
        Command::Report(arguments) => return reporting::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}
