//! `selfsup compare`: which of several runs is better on the same test samples, and whether that could be chance.
//!
//! Two runs are paired sample by sample, by the answers that `eval --suite full`, or a fine-tuning, left beside report.json. Runs that differ
//! in their seed alone, or in which labels they were given by a draw, are one method, whose mean over seeds is compared with those of others.
//!
//! | file | holds |
//! |---|---|
//! | `judged.rs` | what a run's evaluation has left, and which runs are of one method |
//! | `comparison.rs` | the pairs, the methods, their tests |
//! | `show.rs` | tables and a page of them |

mod comparison;
mod judged;
mod show;

use crate::finetune::CLASSIFIER;
use crate::layers::{self, Seen};
use crate::places;
use crate::report;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use comparison::Comparison;
use judged::Judged;
use selfsup::core::state::write_whole;
use std::path::PathBuf;

/// What is compared.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folders of runs or of features.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The probe whose answers are paired: linear or knn; of runs of selfsup finetune their classifier. Linear, or that, when left out.
    #[arg(long)]
    probe: Option<String>,
    /// Compare the layers of runs on images too: how alike every two are on the same test images, by CKA.
    #[arg(long)]
    cka: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// A folder for compare.json, report.html and the plots.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what an earlier call has left there.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    machine: crate::Machine,
}

/// Runs the command.
///
/// # Errors
/// When a folder was not judged by the full suite, the folders have other test samples, the probe is not known, or what is to be written is
/// there already.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(out) = &arguments.out {
        places::check_no_report(out)?;
        places::free_in(out, &["compare.json", "report.html", "plots"], arguments.overwrite)?;
    }
    for (i, folder) in arguments.runs.iter().enumerate() {
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        let same = |other: &&PathBuf| other.canonicalize().ok() == folder.canonicalize().ok();
        if let Some(first) = arguments.runs[..i].iter().find(same) {
            let same = if folder == first { String::new() } else { format!(", as {}", first.display()) };
            bail!("{} is named twice{same}; name each folder once", folder.display());
        }
    }
    let runs = arguments.runs.iter().map(|folder| Judged::read(folder)).collect::<Result<Vec<_>>>()?;
    let classified = runs.iter().all(|run| run.answers.predictions.contains_key(CLASSIFIER));
    let usual = if classified { CLASSIFIER } else { "linear" };
    let mut comparison = Comparison::of(&runs, arguments.probe.as_deref().unwrap_or(usual))?;
    if arguments.cka {
        let device = arguments.machine.choose()?;
        let folders = arguments.runs.iter().zip(&comparison.runs).zip(&runs);
        let seen = folders
            .map(|((folder, called), judged)| Seen::of(folder, &called.run, judged.origin.weights, device));
        let seen = seen.collect::<Result<Vec<_>>>()?;
        comparison.layers = layers::pairs(&seen)?;
    }
    let text = serde_json::to_string_pretty(&comparison)?;
    if arguments.json {
        println!("{text}");
    } else {
        println!("{}", comparison.tables());
    }
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        write_whole(&out.join("compare.json"), text.as_bytes())?;
        eprintln!("{}", report::write(&comparison.page(), out)?.display());
    }
    Ok(())
}
