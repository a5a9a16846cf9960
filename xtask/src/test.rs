//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::run::{cargo, stage};
use crate::setup;

pub fn run() -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    stage(
        "running all tests",
        &mut cargo(&["test", "--workspace"]),
        "see the first failure above; `cargo test -p CRATE NAME` runs one alone",
    )
}
