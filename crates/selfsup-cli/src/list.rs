//! `selfsup list`: what can be named.

use crate::finetune;
use crate::network::ENCODERS;
use crate::objective::{METHODS, Method};
use crate::recipe::SHIPPED;
use anyhow::{Context, Result};
use clap::ValueEnum;
use selfsup::data::dataset::OF_IMAGES;
use selfsup::fetch;
use serde_json::{Value, json};
use std::io::Write as _;

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The shipped recipes.
    Recipes,
    /// The networks of `encoder.kind`.
    Encoders,
    /// The methods of `objective.kind`.
    #[value(alias = "objectives")]
    Methods,
    /// The methods of selfsup finetune, each with a recipe of its own.
    Finetune,
    /// The known data sets.
    Data,
}

impl What {
    const ALL: [What; 5] = [What::Recipes, What::Encoders, What::Methods, What::Finetune, What::Data];

    fn title(self) -> &'static str {
        match self {
            What::Recipes => "recipes",
            What::Encoders => "encoders",
            What::Methods => "methods",
            What::Finetune => "finetune methods",
            What::Data => "data",
        }
    }

    /// The same for a program.
    fn json(self) -> Vec<Value> {
        match self {
            What::Methods => METHODS.iter().map(Method::json).collect(),
            What::Finetune => finetune::METHODS.iter().map(finetune::Method::json).collect(),
            _ => self
                .entries()
                .into_iter()
                .map(|(name, about)| json!({ "name": name, "about": about }))
                .collect(),
        }
    }

    /// Names, and what each stands for.
    fn entries(self) -> Vec<(&'static str, String)> {
        match self {
            What::Recipes => SHIPPED.iter().map(|(name, text)| (*name, first_comment(text))).collect(),
            What::Encoders => ENCODERS.iter().map(|&(name, about)| (name, about.to_owned())).collect(),
            What::Methods => {
                let about = |m: &Method| {
                    let needs = m.needs.describe();
                    format!("{} ({}): {}; for {needs} ({})", m.name, m.family, m.about, m.paper)
                };
                METHODS.iter().map(|method| (method.kind, about(method))).collect()
            }
            What::Finetune => {
                let about = |m: &finetune::Method| format!("{}: {} ({})", m.name, m.about, m.paper);
                finetune::METHODS.iter().map(|method| (method.kind, about(method))).collect()
            }
            What::Data => {
                let kind = |name| if OF_IMAGES.contains(&name) { " [images]" } else { "" };
                fetch::sets().iter().map(|set| (set.name, set.about.to_owned() + kind(set.name))).collect()
            }
        }
    }
}

/// The first line of a recipe says what it is.
fn first_comment(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim().to_owned()
}

/// Runs the command.
///
/// # Errors
/// When the list cannot be printed.
pub fn run(what: Option<What>, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let chosen = What::ALL.into_iter().filter(|w| what.is_none_or(|what| what == *w));
    if json {
        let value = match what {
            Some(what) => Value::Array(what.json()),
            None => Value::Object(chosen.map(|w| (w.title().to_owned(), Value::Array(w.json()))).collect()),
        };
        let text = serde_json::to_string_pretty(&value)?;
        return writeln!(out, "{text}").context("the standard output");
    }
    for w in chosen {
        writeln!(out, "{}", w.title()).context("the standard output")?;
        for (name, about) in w.entries() {
            writeln!(out, "  {name:<27} {about}").context("the standard output")?;
        }
    }
    Ok(())
}
