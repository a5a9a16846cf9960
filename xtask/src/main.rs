//! Development commands: `cargo xtask COMMAND`.

mod arrows;
mod bench;
mod data;
mod demo;
mod docs;
mod doctor;
mod libtorch;
mod lint;
mod peers;
mod run;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, tests, lints, demonstrates and benchmarks the workspace")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Gets libtorch into the cache and links it to .libtorch; after that plain cargo commands work
    Setup(setup::Arguments),
    /// Says what is found on this machine, what is missing and what to do
    Doctor(doctor::Arguments),
    /// Runs all tests (after setup)
    Test(test::Arguments),
    /// Checks format, clippy, docs, the arrows between crates and, where installed, cargo-deny
    Lint,
    /// Fetches a data set into the cache and prints its folder
    Data(data::Arguments),
    /// Pretrains on Fashion-MNIST, evaluates and reports: the whole way in a few minutes
    Demo(demo::Arguments),
    /// Runs the benchmarks
    Bench(bench::Arguments),
    /// Builds the documentation
    Docs(docs::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        None => Arguments::command().print_help().map_err(Into::into),
        Some(Command::Setup(arguments)) => setup::run(&arguments).map(|_| ()),
        Some(Command::Doctor(arguments)) => doctor::run(&arguments),
        Some(Command::Test(arguments)) => test::run(&arguments),
        Some(Command::Lint) => lint::run(),
        Some(Command::Data(arguments)) => data::run(&arguments),
        Some(Command::Demo(arguments)) => demo::run(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Docs(arguments)) => docs::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
