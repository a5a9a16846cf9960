//! `cargo xtask data`: named data sets into the cache.

use std::io::{self, Write};

use anyhow::{Result, bail};

#[derive(clap::Args)]
pub struct Arguments {
    /// The data set
    name: Option<String>,
    /// Shows every data set with its licence and whether it is in the cache
    #[arg(long)]
    list: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.name {
        _ if arguments.list => list(),
        Some(name) => {
            println!("{}", selfsup_fetch::fetch(selfsup_fetch::find(name)?)?.display());
            Ok(())
        }
        None => bail!("name a data set, or use --list to see them"),
    }
}

fn list() -> Result<()> {
    let mut out = io::stdout().lock();
    for set in selfsup_fetch::sets() {
        let place = selfsup_fetch::cached(set)?
            .map_or("not fetched yet".to_string(), |folder| folder.display().to_string());
        writeln!(out, "{:<14} {}\n{:<14} licence: {}; {place}", set.name, set.about, "", set.licence)?;
    }
    Ok(())
}
