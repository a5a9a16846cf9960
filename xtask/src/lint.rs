//! `cargo xtask lint`: everything that is checked without running the code.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, root, stage};
use crate::{arrows, setup};

/// What may not stand in the code, and why. Split so that this file does not contain them.
const REFUSED: &[(&str, &str)] = &[
    (concat!("#[ign", "ore"), "a test runs or is deleted"),
    (concat!("to", "do!("), "unfinished code is not committed"),
    (concat!("unimpl", "emented!("), "unfinished code is not committed"),
];

pub fn run() -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    stage("checking the format", &mut cargo(&["fmt", "--all", "--check"]), "`cargo fmt --all` formats it")?;
    arrows::check()?;
    refused_words()?;
    stage(
        "running clippy",
        &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        "each message above names its place; clippy comes with `rustup component add clippy`",
    )?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
    // Beside the flags of .cargo/config.toml, which RUSTDOCFLAGS would replace.
    docs.args(["--config", "build.rustdocflags=['-Dwarnings']"]);
    stage("checking the documentation", &mut docs, "each message above names its place")?;
    if output("cargo", &["deny", "--version"]).is_some() {
        stage(
            "checking licences and advisories",
            &mut cargo(&["deny", "--all-features", "check"]),
            "deny.toml holds what is allowed",
        )?;
    } else {
        eprintln!("==> cargo-deny is not installed: licences and advisories are not checked");
    }
    Ok(())
}

fn refused_words() -> Result<()> {
    eprintln!("==> looking for unfinished code");
    let mut found = Vec::new();
    for folder in ["crates", "benches", "xtask"] {
        let mut files = Vec::new();
        rust_files(&root().join(folder), &mut files)?;
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            for (number, line) in text.lines().enumerate() {
                for (word, why) in REFUSED.iter().filter(|(word, _)| line.contains(word)) {
                    found.push(format!("{}:{}: {word} ({why})", file.display(), number + 1));
                }
            }
        }
    }
    if !found.is_empty() {
        bail!("refused in the code:\n{}", found.join("\n"));
    }
    Ok(())
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
