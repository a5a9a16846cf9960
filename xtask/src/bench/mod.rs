//! `cargo xtask bench`: the criterion benches, then every row of the table, ours alone or beside what users run today.
//!
//! - `rows`: what is measured, against whom, and what the machine would allow
//! - `worker`: a process that answers rounds
//! - `measure`: rounds in turn, and what comes of them
//! - `race`: the time to the same quality
//! - `table`: `docs/benchmarks.json` and `docs/benchmarks.md`
//! - `quality`: what every method reaches in the same time; `plot` draws it

mod measure;
mod plot;
mod quality;
mod race;
mod rows;
mod table;
mod worker;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::run::{cargo, program, stage};
use crate::{peers, setup};
use measure::Bench;
use rows::{Kind, ROWS};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Only the benches and rows whose names contain this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Few samples and short rounds: shows that everything runs, and gives rough numbers
    #[arg(long)]
    quick: bool,
    /// Beside what users run today, in turn with ours and on the same data (installs it, 6 GB)
    #[arg(long)]
    peers: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// Pretrain every method on images for the same time and judge it; writes docs/quality.json and docs/methods.md
    Quality(quality::Arguments),
}

/// Rounds of a row; the median counts.
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 2;
/// The share of a round's work that a quick run does.
const QUICK_SCALE: f64 = 0.1;

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(What::Quality(arguments)) = &arguments.what {
        return quality::run(arguments);
    }
    setup::run(&setup::Arguments::default())?;
    let chosen = |name: &str| arguments.only.as_deref().is_none_or(|only| name.contains(only));
    let rows: Vec<_> = ROWS.iter().filter(|row| chosen(row.name)).collect();
    if !arguments.peers {
        criterion(arguments)?;
    } else if rows.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        bail!(
            "--only {}: none of the rows {}",
            arguments.only.as_deref().unwrap_or_default(),
            names.join(", ")
        );
    }
    stage(
        "building our side",
        &mut cargo(&["build", "--release", "-p", "selfsup-benches", "--bin", "rows"]),
        "the message above names the place",
    )?;
    let data = selfsup_fetch::cache_dir()?.join("bench");
    if rows.iter().any(|row| row.kind == Kind::Race) {
        stage(
            "building the program",
            &mut cargo(&["build", "--release", "-p", "selfsup-cli"]),
            "the message above names the place",
        )?;
    }
    let mut prepare = program("release", "rows");
    prepare.arg("--prepare").arg("--data").arg(&data);
    stage("making the inputs", &mut prepare, "the message above says which one is missing")?;

    let bench = Bench {
        data,
        peers: arguments.peers.then(peers::environment).transpose()?,
        allocator: if arguments.peers { tcmalloc() } else { None },
        rounds: if arguments.quick { QUICK_ROUNDS } else { ROUNDS },
        scale: if arguments.quick { QUICK_SCALE } else { 1.0 },
    };
    let machine = bench.machine()?;
    let mut lines = Vec::new();
    for row in rows {
        for line in bench.row(row, &machine)? {
            println!("{}", line.text());
            lines.push(line);
        }
    }
    if arguments.quick {
        println!("rough numbers: docs/benchmarks.md is as it was");
        return Ok(());
    }
    table::write(lines, &machine)
}

fn criterion(arguments: &Arguments) -> Result<()> {
    let mut command = cargo(&["bench", "-p", "selfsup-benches", "--benches", "--"]);
    if arguments.quick {
        command.args(["--sample-size", "10", "--warm-up-time", "0.5", "--measurement-time", "1"]);
    }
    command.args(&arguments.only);
    stage("running the benches", &mut command, "the bench that failed is the last one named above")
}

/// The allocator that PyTorch's documentation recommends for CPUs, where it can be had.
fn tcmalloc() -> Option<PathBuf> {
    match selfsup_fetch::fetch(&peers::TCMALLOC) {
        Ok(folder) => std::fs::read_dir(folder)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so."))),
        Err(error) => {
            eprintln!("    without tcmalloc, whose settings are left out: {error}");
            None
        }
    }
}
