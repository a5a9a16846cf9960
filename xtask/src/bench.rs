//! `cargo xtask bench`: the criterion benches.

use anyhow::Result;

use crate::run::{cargo, stage};
use crate::setup;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only the benches whose names contain this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Few samples: shows that everything runs, and gives rough numbers
    #[arg(long)]
    quick: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    let mut command = cargo(&["bench", "-p", "selfsup-benches", "--"]);
    if arguments.quick {
        command.args(["--sample-size", "10", "--warm-up-time", "0.5", "--measurement-time", "1"]);
    }
    command.args(&arguments.only);
    stage("running the benches", &mut command, "the bench that failed is the last one named above")
}
