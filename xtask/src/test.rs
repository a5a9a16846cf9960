//! `cargo xtask test`: every test of the workspace.

use std::env;
use std::fs;

use anyhow::{Context, Result};

use crate::run::{built, cargo, stage};
use crate::{peers, setup};

#[derive(clap::Args)]
pub struct Arguments {
    /// Afterwards, whether torchvision, timm and TensorBoard read what the program writes (installs them, 6 GB)
    #[arg(long)]
    peers: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    stage(
        "running all tests",
        &mut cargo(&["test", "--workspace"]),
        "see the first failure above; `cargo test -p CRATE NAME` runs one alone",
    )?;
    if arguments.peers { read_by_peers() } else { Ok(()) }
}

fn read_by_peers() -> Result<()> {
    let interpreter = peers::environment()?;
    let folder = env::temp_dir().join(format!("selfsup-peers-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let checked = stage(
        "checking that peers read what selfsup writes",
        peers::script(&interpreter, "crates/selfsup-cli/tests/peers/check.py")
            .arg(built("debug", "selfsup"))
            .arg(&folder),
        "the assertion above names what differs",
    );
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    checked
}
