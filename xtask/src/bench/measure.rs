//! Rounds of ours and of each peer in turn, so that what disturbs the machine disturbs all.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::race;
use super::rows::{Kind, Limit, Row, Setting};
use super::worker::Worker;
use crate::peers;
use crate::run::{output, program};

/// How to measure.
pub struct Bench {
    /// The inputs of both sides.
    pub data: PathBuf,
    /// The peers' Python, when they are to be run.
    pub peers: Option<PathBuf>,
    /// The allocator of the peers' best settings.
    pub allocator: Option<PathBuf>,
    pub rounds: usize,
    pub scale: f64,
}

/// What was found of the machine.
pub struct Machine {
    pub host: String,
    pub cores: usize,
    pub revision: String,
    /// A large matrix product of 32-bit floats, in operations a second.
    pub flops: f64,
}

/// A line of the table.
#[derive(Clone)]
pub struct Line {
    pub row: &'static str,
    pub shape: String,
    pub unit: &'static str,
    /// The peer; none where ours was measured alone.
    pub peer: Option<(&'static str, &'static str)>,
    pub ours: f64,
    pub theirs: Option<f64>,
    /// Above 1 we are ahead: the median over the rounds, the smallest, the largest.
    pub ratio: Option<[f64; 3]>,
    /// What the machine would allow.
    pub limit: Option<f64>,
}

/// One side of a row.
enum Side {
    Rounds(Worker),
    Start(Box<dyn Fn() -> Command>),
}

impl Bench {
    /// The machine, and how fast it multiplies.
    ///
    /// # Errors
    /// When our side cannot be run.
    pub fn machine(&self) -> Result<Machine> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let host = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_string())
        });
        let revision = output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
        let mut matmul = Worker::start("matmul", &mut self.ours("matmul"))?;
        let flops = (0..self.rounds).map(|_| rate(&matmul.round()?)).collect::<Result<Vec<_>>>()?;
        Ok(Machine { host: host.unwrap_or_else(|| "unknown".into()), cores, revision, flops: median(&flops) })
    }

    /// Measures a row: a line for each peer, or one of ours alone.
    ///
    /// # Errors
    /// When our side fails. A peer that fails is left out, with a message.
    pub fn row(&self, row: &'static Row, machine: &Machine) -> Result<Vec<Line>> {
        eprintln!("==> {}: {}", row.name, row.shape);
        if row.kind == Kind::Race {
            return race::run(self, row);
        }
        let worker_row = row.name.strip_suffix("-memory").unwrap_or(row.name);
        let mut ours = match row.kind {
            Kind::Start => Side::Start(Box::new({
                let data = self.data.clone();
                move || ours(worker_row, &data, 1.0)
            })),
            _ => Side::Rounds(Worker::start(row.name, &mut self.ours(worker_row))?),
        };
        let mut theirs = self.start_peers(row, worker_row);
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); 1 + theirs.len()];
        // A peak does not move from round to round, and an epoch is long.
        let rounds = match row.kind {
            Kind::Memory => 1,
            _ if matches!(row.script, "end_to_end.py" | "probe.py") => self.rounds.min(3),
            _ => self.rounds,
        };
        for _ in 0..rounds {
            values[0].push(ours.round(row.kind)?);
            for (i, (setting, side)) in theirs.iter_mut().enumerate() {
                let value = side.round(row.kind);
                values[i + 1].push(value.with_context(|| format!("{} of {}", setting.peer, row.name))?);
            }
        }
        let limit = self.limit(row, machine)?;
        let line = Line {
            row: row.name,
            shape: row.shape.to_owned(),
            unit: row.unit,
            peer: None,
            ours: median(&values[0]),
            theirs: None,
            ratio: None,
            limit,
        };
        if theirs.is_empty() {
            return Ok(vec![line]);
        }
        let of_peer = |(i, (setting, _)): (usize, &(&'static Setting, Side))| {
            // The smaller of two times or memories is ahead, the larger of two rates.
            let ahead = |(a, b): (&f64, &f64)| if row.kind == Kind::Rate { a / b } else { b / a };
            let ratios: Vec<f64> = values[0].iter().zip(&values[i + 1]).map(ahead).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            Line {
                peer: Some((setting.peer, setting.name)),
                theirs: Some(median(&values[i + 1])),
                ratio: Some([median(&ratios), least, most]),
                ..line.clone()
            }
        };
        Ok(theirs.iter().enumerate().map(of_peer).collect())
    }

    fn ours(&self, row: &str) -> Command {
        ours(row, &self.data, self.scale)
    }

    fn start_peers(&self, row: &'static Row, worker_row: &'static str) -> Vec<(&'static Setting, Side)> {
        let Some(python) = &self.peers else { return Vec::new() };
        let mut sides = Vec::new();
        for setting in row.peers.iter().filter(|setting| !setting.tcmalloc || self.allocator.is_some()) {
            let script = format!("benches/peers/{}", row.script);
            let (python, data, scale) = (python.clone(), self.data.clone(), self.scale);
            let allocator = self.allocator.clone().filter(|_| setting.tcmalloc);
            let command = move || {
                let mut command = peers::script(&python, &script);
                command.args(["--row", worker_row, "--setting", setting.name, "--data"]).arg(&data);
                command.arg("--threads").arg(cores().to_string()).arg("--scale").arg(scale.to_string());
                if let Some(allocator) = &allocator {
                    command.env("LD_PRELOAD", allocator);
                }
                command
            };
            eprintln!("    preparing {}", setting.peer);
            let side = match row.kind {
                Kind::Start => Ok(Side::Start(Box::new(command))),
                _ => Worker::start(setting.peer, &mut command()).map(Side::Rounds),
            };
            match side {
                Ok(side) => sides.push((setting, side)),
                Err(error) => eprintln!("    {} is left out: {error:#}", setting.peer),
            }
        }
        sides
    }

    fn limit(&self, row: &Row, machine: &Machine) -> Result<Option<f64>> {
        Ok(match row.limit {
            Limit::Unknown => None,
            Limit::Flops(flops) => Some(machine.flops / flops),
            Limit::Row(other, units) => {
                let mut worker = Worker::start(other, &mut self.ours(other))?;
                let rates = (0..self.rounds).map(|_| rate(&worker.round()?)).collect::<Result<Vec<_>>>()?;
                Some(median(&rates) * units)
            }
        })
    }
}

fn ours(row: &str, data: &PathBuf, scale: f64) -> Command {
    let mut command = program("release", "rows");
    command.args(["--row", row, "--data"]).arg(data);
    command.arg("--threads").arg(cores().to_string()).arg("--scale").arg(scale.to_string());
    command
}

/// The threads that both sides may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl Side {
    fn round(&mut self, kind: Kind) -> Result<f64> {
        match self {
            Side::Start(command) => first_answer(&mut command()),
            Side::Rounds(worker) => {
                let answer = worker.round()?;
                match kind {
                    Kind::Memory => {
                        let bytes = answer.get("peak_unshared_bytes").or(answer.get("peak_bytes"));
                        Ok(bytes.and_then(Value::as_f64).context("it does not tell its memory")? / 1e6)
                    }
                    Kind::Faults => answer["faults"].as_f64().context("it does not tell its page faults"),
                    _ => rate(&answer),
                }
            }
        }
    }
}

/// Units a second of a round.
fn rate(answer: &Value) -> Result<f64> {
    let number =
        |name: &str| answer[name].as_f64().with_context(|| format!("a round without {name}: {answer}"));
    Ok(number("work")? / number("seconds")?)
}

/// Seconds from the start of a program to its first line.
fn first_answer(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start it")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("it has no output")?).read_line(&mut line)?;
    let seconds = began.elapsed().as_secs_f64();
    child.wait()?;
    serde_json::from_str::<Value>(&line).with_context(|| format!("it answered {line:?}"))?;
    Ok(seconds)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

impl Line {
    /// As a person reads it while the bench runs.
    pub fn text(&self) -> String {
        let limit =
            self.limit.map_or(String::new(), |limit| format!(", the machine allows {}", number(limit)));
        let ours = format!("{}: {} {}", self.row, number(self.ours), self.unit);
        match (self.peer, self.theirs, self.ratio) {
            (Some((peer, _)), Some(theirs), Some([ratio, least, most])) => {
                format!("{ours}, {peer} {}: {ratio:.2}x ({least:.2} to {most:.2}){limit}", number(theirs))
            }
            _ => format!("{ours}{limit}"),
        }
    }

    /// As `docs/benchmarks.json` has it.
    pub fn json(&self, machine: &Machine) -> Value {
        json!({
            "row": self.row,
            "shape": self.shape,
            "peer": self.peer.map(|(peer, _)| peer),
            "setting": self.peer.map(|(_, setting)| setting),
            "ours": self.ours,
            "theirs": self.theirs,
            "unit": self.unit,
            "ratio": self.ratio.map(|ratio| ratio[0]),
            "spread": self.ratio.map(|ratio| [ratio[1], ratio[2]]),
            "limit": self.limit,
            "revision": machine.revision,
            "gflops": (machine.flops / 1e9).round(),
        })
    }
}

/// A number with three digits that count.
pub fn number(x: f64) -> String {
    let digits = 2 - x.abs().max(1e-9).log10().floor() as i32;
    format!("{x:.*}", digits.max(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            ["0.0123", "1.23", "12.3", "123", "1234"],
            [0.0123, 1.23, 12.3, 123.0, 1234.0].map(number)
        );
    }

    #[test]
    fn a_rate_is_work_by_time_and_needs_both() {
        assert_eq!(rate(&json!({"seconds": 2.0, "work": 10})).unwrap(), 5.0);
        assert!(rate(&json!({"work": 10})).unwrap_err().to_string().contains("without seconds"));
    }
}
