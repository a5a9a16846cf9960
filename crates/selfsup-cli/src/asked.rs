//! What `selfsup eval RUN` is asked: by the run's own recipe, or on other data and by other settings of the evaluation, which are
//! told in a folder of their own.

use crate::evaluate::Rivals;
use crate::full::SuiteChoice;
use crate::pretrain::recipe_of;
use crate::recipe::{Assignment, Recipe, Whose};
use crate::training::plain_path;
use anyhow::{Context, Result, ensure};
use selfsup::core::state::write_whole;
use std::path::{Path, PathBuf};

/// What an evaluation leaves.
const FILES: [&str; 5] = ["config.toml", "report.json", "answers.json", "report.html", "plots"];

/// What is asked of a run.
pub struct Asked {
    /// Its folder.
    pub run: PathBuf,
    /// Whose encoder.
    pub whose: Whose,
    /// What it is judged beside.
    pub rivals: Rivals,
    /// How much.
    pub suite: SuiteChoice,
    /// Other data than the run's own.
    pub data: Option<String>,
    /// Other fields of the evaluation than the run's own.
    pub set: Vec<Assignment>,
    /// Where it is told; in the run's folder when left out.
    pub out: Option<PathBuf>,
    /// Whether what an earlier evaluation has left there may be replaced.
    pub overwrite: bool,
    /// Whether report.json is printed in place of a table.
    pub print_json: bool,
}

impl Asked {
    /// The recipe that it is judged by.
    ///
    /// # Errors
    /// When the folder holds no run, a field is none of the evaluation's or cannot work, or the report has no place of its own.
    pub fn recipe(&self) -> Result<Recipe> {
        let own = recipe_of(&self.run)?;
        let other = self.data.is_some() || !self.set.is_empty();
        ensure!(
            self.out.is_some() || !other,
            "--out is missing: the report in the run's folder is of its own data and settings; name a folder for this one"
        );
        if !other {
            return Ok(own);
        }
        for field in &self.set {
            ensure!(
                field.section() == "eval",
                "--set {}: a run is judged by the fields of eval alone; train it anew for others",
                field.field()
            );
        }
        let mut recipe = Recipe::parse(&own.to_toml()?, &self.set)?;
        if let Some(data) = &self.data {
            recipe.data.source = Some(plain_path(data));
            (recipe.data.limit, recipe.data.test_limit) = (None, None);
        }
        Ok(recipe)
    }

    /// Where it is told.
    ///
    /// # Errors
    /// When what lies there would be lost.
    pub fn place(&self) -> Result<&Path> {
        let Some(out) = &self.out else { return Ok(&self.run) };
        let is_run = out.join("env.json").exists();
        // Features that were judged have a report, and no recipe.
        let is_features = out.join("report.json").exists() && !out.join("config.toml").exists();
        ensure!(
            !is_run && !is_features,
            "{}: holds a report that would be lost; name another with --out",
            out.display()
        );
        crate::places::free_in(out, &FILES, self.overwrite)?;
        Ok(out)
    }

    /// Makes the place, and writes there what it was judged by.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin(&self, recipe: &Recipe) -> Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        Ok(write_whole(&out.join("config.toml"), recipe.to_toml()?.as_bytes())?)
    }

    /// The command that judges again.
    pub fn command(&self) -> String {
        let mut words = vec![format!("selfsup eval {}", self.run.display())];
        if self.suite == SuiteChoice::Full {
            words.push("--suite full".to_owned());
        }
        words.extend(self.data.iter().map(|data| format!("--data {data}")));
        words.extend(self.set.iter().map(|set| format!("--set {set}")));
        words.push("--out NEW_FOLDER".to_owned());
        words.join(" ")
    }
}
