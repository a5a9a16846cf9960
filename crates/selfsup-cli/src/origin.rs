//! Where numbers come from: the recipe, the checkpoint and the samples. report.json and answers.json both say it, so that two files
//! of one folder are not taken together when one of them is older, and runs are not compared that saw other samples.

use crate::digest;
use crate::judge::Labels;
use crate::recipe::{EvalConfig, Recipe, Whose};
use crate::training::plain_path;
use anyhow::{Result, ensure};
use selfsup::core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// What a checkpoint was judged on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The optimizer steps of the checkpoint; none for features from elsewhere.
    pub step: Option<u64>,
    /// The checksum of the recipe but for its seed, as [`method`] has it; none for features from elsewhere.
    pub recipe: Option<String>,
    /// The seed of the recipe.
    pub seed: Option<u64>,
    /// Which of the set's own labels a fine-tuning had; none of anything else.
    #[serde(default)]
    pub draw: Option<u64>,
    /// Whose encoder it was.
    #[serde(default)]
    pub weights: Whose,
    /// What the probes were fitted on.
    pub train: Part,
    /// What they were judged on.
    pub test: Part,
}

/// A part of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The samples.
    pub samples: usize,
    /// The checksum of their classes, in order; none without labels.
    pub labels: Option<String>,
    /// Checksums of the samples themselves; none of features from elsewhere, which any encoder may have made.
    pub content: Option<Value>,
}

impl Part {
    /// Of samples with these labels and checksums.
    pub fn new(samples: usize, labels: Option<&[i64]>, content: Option<Value>) -> Self {
        Part { samples, labels: labels.map(digest::of_numbers), content }
    }

    /// Whether both are the same samples as far as both tell; `content` is known of data alone.
    pub fn is_like(&self, other: &Part) -> bool {
        let content = match (&self.content, &other.content) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.samples == other.samples && self.labels == other.labels && content
    }
}

impl Origin {
    /// Of features from elsewhere, of which the numbers of samples and the labels alone are known.
    ///
    /// # Errors
    /// None: labels are whole numbers.
    pub fn of_features([train, test]: [usize; 2], labels: Option<&Labels>) -> Result<Self> {
        let part = |samples: usize, labels: Option<&Tensor>| -> Result<Part> {
            let labels: Option<Vec<i64>> = labels.map(Vec::try_from).transpose()?;
            Ok(Part::new(samples, labels.as_deref(), None))
        };
        Ok(Origin {
            step: None,
            recipe: None,
            seed: None,
            draw: None,
            weights: Whose::Trained,
            train: part(train, labels.map(|labels| &labels.train))?,
            test: part(test, labels.map(|labels| &labels.test))?,
        })
    }

    /// Of a run's checkpoint.
    ///
    /// # Errors
    /// When a number of the recipe has no place in JSON.
    pub fn of_run(recipe: &Recipe, step: u64, [train, test]: [Part; 2]) -> Result<Self> {
        Ok(Origin {
            step: Some(step),
            recipe: Some(digest::of_value(&method(recipe)?)),
            seed: Some(recipe.train.seed),
            draw: None,
            weights: recipe.weights.whose(),
            train,
            test,
        })
    }

    /// Refuses a file that another file of the folder does not belong to; `path` and `other` are what they are called.
    ///
    /// # Errors
    /// With what differs, and the command that makes both anew.
    pub fn check_same(&self, path: &Path, other: &Origin, called: &str, folder: &Path) -> Result<()> {
        let number = |step: Option<u64>| step.map_or_else(|| "none".to_owned(), |step| step.to_string());
        let again = again(folder);
        ensure!(
            self.step == other.step,
            "{} is of step {}, but {called} is of step {}: {again}",
            path.display(),
            number(self.step),
            number(other.step)
        );
        for (what, same) in [
            ("another recipe", self.recipe == other.recipe),
            ("another seed", self.seed == other.seed),
            ("another draw of labels", self.draw == other.draw),
            ("another encoder, the teacher's or the student's,", self.weights == other.weights),
            ("other training samples", self.train == other.train),
            ("other test samples", self.test == other.test),
        ] {
            ensure!(same, "{} is of {what} than {called}: {again}", path.display());
        }
        Ok(())
    }
}

/// The command that judges a folder anew: a run's, one of features, or one that holds a run's report on other data.
pub fn again(folder: &Path) -> String {
    let place = folder.display();
    let Ok(config) = std::fs::read_to_string(folder.join("config.toml")) else {
        return format!("run selfsup eval --suite full --features {place}");
    };
    if crate::finetune::made(&config) {
        return format!("run selfsup finetune --resume --run {place} again, with its arguments");
    }
    if folder.join("checkpoints").is_dir() {
        return format!("run selfsup eval --suite full {place}");
    }
    format!(
        "run selfsup eval --suite full RUN --out {place} --overwrite, with the --data and --set that it was judged by"
    )
}

/// What makes a run's method: its recipe without the seed, and without what changes no number.
///
/// # Errors
/// When a number of the recipe has no place in JSON.
pub fn method(recipe: &Recipe) -> Result<Value> {
    let mut recipe = recipe.clone();
    recipe.data.source = recipe.data.source.as_deref().map(plain_path);
    let EvalConfig { batch_size, map_points, queries, .. } = EvalConfig::default();
    recipe.eval = EvalConfig { batch_size, map_points, queries, ..recipe.eval };
    recipe.train.log_every = 0;
    let mut value = recipe.fingerprint(&Value::Null)?;
    value["eval"] = json!(recipe.eval);
    if let Some(train) = value["train"].as_object_mut() {
        train.remove("seed");
    }
    Ok(value)
}

/// The fields of a JSON value that are no object, by their path, as in `train.batch_size`.
pub fn fields(value: &Value) -> Vec<(String, &Value)> {
    fn below<'a>(path: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
        match value.as_object() {
            Some(object) => {
                for (name, value) in object {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    below(&path, value, found);
                }
            }
            None => found.push((path.to_owned(), value)),
        }
    }
    let mut found = Vec::new();
    below("", value, &mut found);
    found
}

/// What the key `origin` of report.json is.
pub const DEFINITION: &str = "what was judged on what: the checkpoint's step, checksums of the recipe without its seed, and of the training and \
                              test samples; selfsup compare takes together what agrees in these";

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(setting: &str) -> Recipe {
        let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }\ndata = { source = \"images\" }";
        Recipe::parse(text, &[setting.parse().unwrap()]).unwrap()
    }

    fn digest_of(setting: &str) -> String {
        digest::of_value(&method(&recipe(setting)).unwrap())
    }

    #[test]
    fn another_seed_is_the_same_method_and_another_temperature_is_not() {
        let plain = digest_of("train.seed=0");
        for same in [
            "train.seed=7",
            "train.loader_threads=3",
            "train.log_every=1",
            "eval.queries=2",
            "data.source=./images",
        ] {
            assert_eq!(digest_of(same), plain, "{same}");
        }
        for other in [
            "objective.temperature=0.2",
            "optimizer.lr=0.0123",
            "data.limit=100",
            "train.batch_size=32",
            "views.kinds=[{ size = 20 }]",
            "eval.knn.k=3",
        ] {
            assert_ne!(digest_of(other), plain, "{other}");
        }
    }

    #[test]
    fn parts_are_alike_as_far_as_both_tell() {
        let images = |pixels: &str| Part::new(3, Some(&[0, 1, 2]), Some(json!({ "pixels": pixels })));
        let features = Part::new(3, Some(&[0, 1, 2]), None);
        assert!(images("a").is_like(&features) && features.is_like(&images("b")));
        assert!(images("a").is_like(&images("a")) && !images("a").is_like(&images("b")));
        assert!(!features.is_like(&Part::new(3, Some(&[0, 2, 1]), None)));
        assert!(!features.is_like(&Part::new(4, Some(&[0, 1, 2]), None)));
    }

    #[test]
    fn what_differs_between_two_files_is_named() {
        let part = |n| Part::new(n, None, None);
        let one = Origin::of_run(&recipe("train.seed=1"), 8, [part(4), part(2)]).unwrap();
        let refusal = |other: Origin| {
            one.check_same(Path::new("a/answers.json"), &other, "report.json", Path::new("a"))
                .map_err(|e| e.to_string())
        };
        assert_eq!(refusal(one.clone()), Ok(()));
        let step = refusal(Origin { step: Some(9), ..one.clone() }).unwrap_err();
        assert_eq!(
            step,
            "a/answers.json is of step 8, but report.json is of step 9: run selfsup eval --suite full --features a"
        );
        for (other, what) in [
            (Origin { recipe: None, ..one.clone() }, "another recipe"),
            (Origin { seed: Some(2), ..one.clone() }, "another seed"),
            (
                Origin { weights: Whose::Teacher, ..one.clone() },
                "another encoder, the teacher's or the student's,",
            ),
            (Origin { train: part(5), ..one.clone() }, "other training samples"),
            (Origin { test: part(5), ..one.clone() }, "other test samples"),
        ] {
            let refusal = refusal(other).unwrap_err();
            assert!(refusal.starts_with(&format!("a/answers.json is of {what} than")), "{refusal}");
        }
    }
}
