//! What users run today, in a Python environment of its own in the cache: for the checks and timings beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use selfsup_fetch::{Item, Part, Set, Source, python};

use crate::run::{root, stage};

/// The packages with their exact versions.
const REQUIREMENTS: &str = "benches/peers/requirements.txt";

/// The allocator that PyTorch's tuning guide advises for CPUs.
pub static TCMALLOC: Set = Set {
    name: "tcmalloc",
    about: "the allocator of gperftools, for the peers' best settings",
    licence: "BSD-3-Clause",
    folder: "tcmalloc",
    parts: &[Part {
        sources: &[Source::Debian { package: "libtcmalloc-minimal4", root: "usr/lib/x86_64-linux-gnu" }],
        // Whatever version the system has.
        items: &[Item::Folder { from: "", names: "libtcmalloc_minimal.so.4.*", to: "", sha256: None }],
    }],
};

/// The Python of the peers' environment, which is made when it is missing or was made for other versions.
///
/// # Errors
/// When the environment cannot be made or a package cannot be installed.
pub fn environment() -> Result<PathBuf> {
    let requirements = root().join(REQUIREMENTS);
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let folder = selfsup_fetch::cache_dir()?.join("peers");
    let interpreter = folder.join("bin/python");
    let installed = folder.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(interpreter);
    }
    stage(
        "making the peers' Python environment",
        Command::new(python()).args(["-m", "venv", "--clear"]).arg(&folder),
        "install Python's venv (on Debian: python3-venv)",
    )?;
    stage(
        "installing the peers",
        Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements),
        "pip says above what it could not install",
    )?;
    fs::write(&installed, wanted).with_context(|| format!("writing {}", installed.display()))?;
    Ok(interpreter)
}

/// A peer's script in its environment.
pub fn script(interpreter: &Path, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(script).current_dir(root());
    command
}
