//! Which of a checkpoint's weights are meant.

use selfsup::core::Result;
use selfsup::core::Tensor;
use selfsup::core::state::{Extra, load, read};
use std::collections::BTreeMap;
use std::path::Path;

/// Below what the objectives of `selfsup finetune` keep the averages of encoder and classifier.
const AVERAGES: &str = "objective.teacher.";

/// Which of a checkpoint's weights are a run's encoder and objective.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// Those that the optimizer moved.
    #[default]
    Trained,
    /// The averages that `selfsup finetune` keeps of the encoder and of the classifier on it.
    Averaged {
        /// The classes that it tells apart.
        classes: Vec<String>,
    },
}

impl Weights {
    /// Fills variables from a checkpoint. `variables` are named as in a run of pretraining.
    ///
    /// # Errors
    /// When a variable is missing, extra, or of another shape; nothing has changed then.
    pub fn load(&self, checkpoint: &Path, variables: BTreeMap<String, Tensor>) -> Result<()> {
        match self {
            Weights::Trained => load(checkpoint, &variables, Extra::Refuse),
            Weights::Averaged { .. } => {
                let averages = variables.into_iter().map(|(name, x)| (averaged(&name), x)).collect();
                load(checkpoint, &averages, Extra::Skip(&["encoder.", "objective."]))
            }
        }
    }

    /// Fills the variables of an encoder, named as in a run of pretraining, from a checkpoint.
    ///
    /// # Errors
    /// As [`load`](Weights::load).
    pub fn load_encoder(&self, checkpoint: &Path, variables: BTreeMap<String, Tensor>) -> Result<()> {
        match self {
            Weights::Trained => load(checkpoint, &variables, Extra::Skip(&["objective."])),
            Weights::Averaged { .. } => self.load(checkpoint, variables),
        }
    }

    /// The encoder's weights in a checkpoint, by their names below the encoder.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn of_encoder(&self, checkpoint: &Path) -> Result<BTreeMap<String, Tensor>> {
        let below = match self {
            Weights::Trained => "encoder.".to_owned(),
            Weights::Averaged { .. } => averaged("encoder."),
        };
        let strip = |(name, x): (String, Tensor)| Some((name.strip_prefix(&below)?.to_owned(), x));
        Ok(read(checkpoint)?.into_iter().filter_map(strip).collect())
    }
}

/// Where the average of a variable stands.
fn averaged(name: &str) -> String {
    format!("{AVERAGES}{}", name.strip_prefix("objective.").unwrap_or(name))
}
