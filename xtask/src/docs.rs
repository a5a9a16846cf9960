//! `cargo xtask docs`: the documentation of every crate.

use anyhow::Result;

use crate::run::{cargo, stage};
use crate::setup;

#[derive(clap::Args)]
pub struct Arguments {
    /// Opens it in a browser
    #[arg(long)]
    open: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    if arguments.open {
        command.arg("--open");
    }
    stage("building the documentation", &mut command, "the first message above names the place")
}
