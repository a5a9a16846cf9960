//! `cargo xtask bench quality`: every method pretrained for the same time and judged in the same way.
//!
//! How many epochs a budget holds is measured once for each. Runs lie in `runs/quality`; what is done is not done again,
//! and a run that was stopped is taken up, so that the table can grow over several sittings.
//!
//! - `entrant`: what is pretrained, a recipe of ours or lightly's own implementation, and how
//! - `foretold`: how well the numbers that need no labels foretell the probes
//! - `page`: what came of it, as `docs/quality.json`, `docs/quality.svg` and the table of `docs/methods.md`

mod entrant;
mod foretold;
mod page;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo, program, root, stage};
use crate::{peers, setup};
use entrant::{Entrant, Outcome};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these methods: by name, or the recipes whose names contain one; several with commas between
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The set to learn from, in place of the recipes' own: a name or a path
    #[arg(long, value_name = "NAME_OR_PATH")]
    data: Option<String>,
    /// The time for pretraining each, in seconds
    #[arg(long, default_value_t = 120)]
    budget: u64,
    /// The optimizer steps for pretraining each, as near as whole epochs come, in place of a time: slow machines judge the same
    #[arg(long, conflicts_with_all = ["budget", "peers"])]
    steps: Option<u64>,
    /// So many images to learn from, the first of the training part
    #[arg(long, default_value_t = entrant::IMAGES, conflicts_with = "peers")]
    images: u64,
    /// The seeds of each
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The threads of each run; all cores, shared by the jobs, when left out
    #[arg(long)]
    threads: Option<usize>,
    /// Runs at a time; more than one makes sense with as many cores as `jobs` times `threads`
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Begin anew and write no table; fail when a method's features collapsed, or none of its probes is above that of its
    /// untrained encoder
    #[arg(long, conflicts_with = "peers")]
    check: bool,
    /// Lightly's implementations as well, where it has the method (installs it, 6 GB)
    #[arg(long)]
    peers: bool,
}

/// What all runs of a table have in common.
struct Setting {
    set: String,
    data: Option<String>,
    length: Length,
    images: u64,
    threads: usize,
    /// Where the runs lie.
    folder: PathBuf,
    /// The Python of lightly's side.
    python: Option<PathBuf>,
}

/// How long each is pretrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// So many seconds.
    Seconds(u64),
    /// So many optimizer steps.
    Steps(u64),
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.steps == Some(0) || arguments.images == 0 {
        bail!("--steps and --images: at least 1 each");
    }
    if arguments.budget == 0 || arguments.seeds == 0 || arguments.jobs == 0 || arguments.threads == Some(0) {
        bail!("--budget, --seeds, --jobs and --threads: at least 1 each");
    }
    if arguments.peers && arguments.data.is_some() {
        bail!("--peers: lightly's side knows Fashion-MNIST alone; leave --data out");
    }
    setup::run(&setup::Arguments::default())?;
    stage(
        "building the program",
        &mut cargo(&["build", "--release", "-p", "selfsup-cli"]),
        "`cargo xtask doctor` says what this machine lacks",
    )?;
    let setting = Setting::new(arguments)?;
    let methods = listed("methods")?;
    let mut entrants = entrant::ours(&methods, &listed("recipes")?, &arguments.only);
    if arguments.data.is_none() {
        // A recipe without a set of its own is for colour images of the user's.
        entrants.retain(Entrant::has_data);
    }
    if arguments.peers {
        entrants.extend(entrant::peers(&methods, &arguments.only));
    }
    if let Some(name) = arguments.only.iter().find(|name| !entrants.iter().any(|entrant| entrant.is(name))) {
        bail!("--only {name}: no recipe of a method on images");
    }
    if arguments.check {
        // What an older program left says nothing of this one.
        entrants.iter().try_for_each(|entrant| entrant.forget(&setting))?;
    }

    // First the speeds, then seed by seed, so that a table that is stopped early has all methods.
    let failed = Mutex::new(BTreeMap::<String, String>::new());
    let fail = |entrant: &Entrant, error: &anyhow::Error| {
        eprintln!("    {} is left out: {error:#}", entrant.name);
        locked(&failed).insert(entrant.name.clone(), format!("{error:#}"));
    };
    let length = |entrant: &Entrant| entrant.length(&setting).map(|_| ());
    each(arguments.jobs, entrants.iter(), |entrant| {
        if let Err(error) = length(entrant) {
            fail(entrant, &error);
        }
    });
    let (outcomes, ill) = (Mutex::new(BTreeMap::<&str, Vec<Outcome>>::new()), Mutex::new(BTreeMap::new()));
    let tasks = (0..arguments.seeds).flat_map(|seed| entrants.iter().map(move |entrant| (entrant, seed)));
    each(arguments.jobs, tasks, |(entrant, seed)| {
        if locked(&failed).contains_key(&entrant.name) {
            return;
        }
        let result = entrant.outcome(seed, &setting).and_then(|outcome| {
            let mut outcomes = locked(&outcomes);
            outcomes.entry(&entrant.name).or_default().push(outcome);
            let rows: Vec<Value> = entrants
                .iter()
                .filter_map(|entrant| Some(page::row(entrant, outcomes.get(entrant.name.as_str())?)))
                .collect();
            if let Some(row) = rows.iter().find(|row| row["method"] == entrant.name.as_str()) {
                println!("{}", page::line(row));
                locked(&ill).insert(entrant.name.clone(), page::illness(row));
            }
            if arguments.check { Ok(()) } else { page::write(&rows, &setting) }
        });
        if let Err(error) = result {
            fail(entrant, &error);
        }
    });
    let failed = locked(&failed);
    if !failed.is_empty() {
        let names: Vec<_> = failed.keys().map(String::as_str).collect();
        bail!("not measured, as said above: {}", names.join(", "));
    }
    let ill = locked(&ill);
    let ill: Vec<_> =
        ill.iter().filter_map(|(name, why)| Some(format!("{name} {}", why.as_ref()?))).collect();
    if arguments.check && !ill.is_empty() {
        bail!("{}", ill.join("; "));
    }
    Ok(())
}

impl Setting {
    fn new(arguments: &Arguments) -> Result<Setting> {
        let set = arguments.data.as_deref().unwrap_or("fashion-mnist");
        let set = Path::new(set).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = arguments.threads.unwrap_or((cores / arguments.jobs).max(1));
        let length = arguments.steps.map_or(Length::Seconds(arguments.budget), Length::Steps);
        let long = match length {
            Length::Seconds(seconds) => format!("{seconds}s"),
            Length::Steps(steps) => format!("{steps}steps"),
        };
        let images = match arguments.images {
            entrant::IMAGES => String::new(),
            images => format!("-{images}"),
        };
        let check = if arguments.check { "-check" } else { "" };
        let name = format!("{set}-{long}-{threads}t{images}{check}");
        Ok(Setting {
            data: arguments.data.clone(),
            length,
            images: arguments.images,
            folder: root().join("runs/quality").join(name),
            python: arguments.peers.then(peers::environment).transpose()?,
            threads,
            set,
        })
    }
}

/// A lock of which no holder can leave a half-written value.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works on all tasks in their order, so many at a time.
fn each<T: Send>(jobs: usize, tasks: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
    let queue = Mutex::new(tasks.collect::<VecDeque<T>>());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(task) = locked(&queue).pop_front() else { break };
                    work(task);
                }
            });
        }
    });
}

/// A list that the program prints.
fn listed(what: &str) -> Result<Vec<Value>> {
    let output =
        program("release", "selfsup").args(["list", what, "--json"]).output().context("selfsup list")?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("selfsup list {what} --json printed {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_worked_on_once_whatever_the_number_of_jobs() {
        for jobs in [1, 3, 8] {
            let seen = Mutex::new(Vec::new());
            each(jobs, 0..5, |task| locked(&seen).push(task));
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4]);
        }
    }
}
