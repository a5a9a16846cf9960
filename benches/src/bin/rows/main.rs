//! Our side of `cargo xtask bench`: a worker that answers rounds, as the scripts in `benches/peers` do.
//!
//! `rows --row ROW --data DIR` prepares a row, prints `ready`, and after that does one timed round for every line `round`
//! on its standard input: `{"seconds": 1.9, "work": 2048.0}`. `work` counts what the row is measured in. `rows --prepare
//! --data DIR` makes the inputs that both sides read.

mod augmentation;
mod inputs;
mod losses;
mod memory;
mod neighbours;
mod probe;
mod training;

use anyhow::{Result, bail};
use clap::Parser;
use selfsup::core::tch;
// For the allocator that the crate links.
use selfsup_benches as _;
use serde_json::{Map, Value, json};
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

/// What the worker is told.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Make the inputs and end.
    #[arg(long)]
    prepare: bool,
    /// The row to answer for.
    #[arg(long, default_value = "")]
    row: String,
    /// The folder of the inputs.
    #[arg(long)]
    data: PathBuf,
    /// Threads of libtorch, and of the loader where nothing else works.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The share of a round's work to do.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

impl Options {
    /// A share of `count` as `--scale` says, as a multiple of `multiple` that is not zero.
    fn scaled(&self, count: usize, multiple: usize) -> usize {
        ((count as f64 * self.scale / multiple as f64).round().max(1.0) as usize) * multiple
    }
}

/// What a round did.
pub struct Round {
    /// How long it took.
    pub seconds: f64,
    /// How much of what the row is measured in.
    pub work: f64,
    /// What else there is to say.
    pub more: Map<String, Value>,
}

/// A row that is ready to be timed.
pub type Rounds = Box<dyn FnMut() -> Result<Round>>;

/// Times `work` units done by `run`.
fn timed(work: f64, run: impl FnOnce() -> Result<()>) -> Result<Round> {
    let began = Instant::now();
    run()?;
    Ok(Round { seconds: began.elapsed().as_secs_f64(), work, more: Map::new() })
}

/// Rounds of a short step, repeated so often that one takes about `seconds`.
fn repeated(seconds: f64, work: f64, mut step: impl FnMut() -> Result<()> + 'static) -> Result<Rounds> {
    step()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..3 {
        fastest = fastest.min(timed(1.0, &mut step)?.seconds);
    }
    let count = (seconds / fastest).round().max(1.0) as u64;
    Ok(Box::new(move || timed(count as f64 * work, || (0..count).try_for_each(|_| step()))))
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.prepare {
        return inputs::prepare(&options.data);
    }
    tch::set_num_threads(options.threads as i32);
    let mut rounds = match options.row.as_str() {
        row @ ("views-32" | "views-32-blur" | "views-224" | "multi-crop" | "decode-224") => {
            augmentation::row(row, &options)?
        }
        "matmul" => losses::matmul(&options)?,
        row @ ("nt-xent-256" | "nt-xent-1024" | "barlow" | "vicreg" | "swav-sinkhorn" | "dino") => {
            losses::loss(row, &options)?
        }
        row if row.starts_with("step-") => training::step(row, &options)?,
        row @ ("end-to-end" | "end-to-end-bf16") => training::end_to_end(row, &options)?,
        "first-step" => return training::first_step(&options),
        "knn" => neighbours::knn(&options)?,
        "kmeans" => neighbours::k_means(&options)?,
        "probe" => probe::of_pixels(&options)?,
        "probe-512" => probe::of_features(&options)?,
        "loader-steady" => memory::steady(&options)?,
        row if row.starts_with("loader-memory-") => memory::loader(row, &options)?,
        other => bail!("--row {other}: no such row"),
    };
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.trim() != "round" {
            bail!("expected the line `round`, got {line:?}");
        }
        answer(rounds()?)?;
    }
    Ok(())
}

/// Prints a round as a line of JSON.
fn answer(round: Round) -> Result<()> {
    let mut answer = round.more;
    answer.insert("seconds".to_owned(), json!(round.seconds));
    answer.insert("work".to_owned(), json!(round.work));
    let mut out = io::stdout().lock();
    writeln!(out, "{}", Value::Object(answer))?;
    Ok(out.flush()?)
}
