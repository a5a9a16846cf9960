//! A process that prepares itself, says `ready`, and then does one timed round for every line `round`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub struct Worker {
    what: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, or ends instead; its own message has gone to standard error then.
    pub fn start(what: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("it has no output")?);
        let mut worker = Worker { what: what.to_string(), child, input, output: BufReader::new(output) };
        match worker.line()?.as_str() {
            "ready" => Ok(worker),
            other => bail!("{what} said {other:?} instead of \"ready\""),
        }
    }

    /// Does one round; the answer is a JSON object with at least `seconds` and `work`.
    ///
    /// # Errors
    /// When the process ends or answers something else.
    pub fn round(&mut self) -> Result<Value> {
        let input = self.input.as_mut().context("its input is closed")?;
        writeln!(input, "round")
            .and_then(|()| input.flush())
            .with_context(|| format!("{} has ended", self.what))?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}", self.what))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line).with_context(|| self.what.clone())? == 0 {
            bail!("{} ended: its message stands above", self.what);
        }
        Ok(line.trim().to_string())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // At the end of its input a worker ends by itself; one that failed has ended already.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
