//! Which of a checkpoint's weights are meant.

use anyhow::{bail, ensure};
use clap::ValueEnum;
use selfsup::core::Result;
use selfsup::core::Tensor;
use selfsup::core::state::{Extra, load, read, read_header};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Below what the objectives of `selfsup finetune` keep the averages of encoder and classifier.
const AVERAGES: &str = "objective.teacher.";

/// What stands between an objective's place and the variables of its teacher's encoder.
const TEACHERS_ENCODER: &str = "teacher.encoder.";

/// Whose weights a command is to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The encoder's that learned; of a run of selfsup finetune, the averages that it keeps of them.
    #[default]
    Trained,
    /// The encoder's that the method has as a teacher: the moving average, which DINO, iBOT and DINOv2 are judged by.
    Teacher,
}

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
    /// Those of the teacher, wherever it has a variable that the student has too.
    Teacher {
        /// Where the objective stands that has the teacher, as in `objective.` or, in a combination, `objective.dino.`.
        place: String,
    },
}

impl Weights {
    /// These weights of the checkpoint of a run, or its teacher's.
    ///
    /// # Errors
    /// When the method has no teacher with an encoder, or several.
    pub fn of(self, whose: Whose, checkpoint: &Path) -> anyhow::Result<Self> {
        if whose == Whose::Trained {
            return Ok(self);
        }
        ensure!(
            self == Weights::Trained,
            "--weights teacher: of a run of selfsup finetune the averages are used as it is; leave it out"
        );
        let header = read_header(checkpoint)?;
        let place = |name: &String| {
            let at = name.find(TEACHERS_ENCODER).filter(|_| name.starts_with("objective."))?;
            Some(name[..at].to_owned())
        };
        let places: BTreeSet<String> = header.tensors.keys().filter_map(place).collect();
        match places.into_iter().collect::<Vec<_>>().as_slice() {
            [place] => Ok(Weights::Teacher { place: place.clone() }),
            [] => bail!(
                "--weights teacher: the run's method has no teacher with an encoder of its own; leave it out"
            ),
            places => {
                bail!(
                    "--weights teacher: the run has several teachers, at {}; leave it out",
                    places.join(", ")
                )
            }
        }
    }

    /// What stands in a report or beside exported weights.
    pub fn whose(&self) -> Whose {
        match self {
            Weights::Trained | Weights::Averaged { .. } => Whose::Trained,
            Weights::Teacher { .. } => Whose::Teacher,
        }
    }

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
            Weights::Teacher { place } => {
                load(checkpoint, &variables, Extra::Refuse)?;
                let of_teacher = |(name, x): (&String, &Tensor)| {
                    let name = taught(place, name)?;
                    variables.contains_key(&name).then(|| (name, x.shallow_clone()))
                };
                let teachers = variables.iter().filter_map(of_teacher).collect();
                load(checkpoint, &teachers, Extra::Skip(&["encoder.", "objective."]))
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
            Weights::Teacher { place } => {
                let teachers =
                    variables.into_iter().filter_map(|(name, x)| Some((taught(place, &name)?, x))).collect();
                load(checkpoint, &teachers, Extra::Skip(&["encoder.", "objective."]))
            }
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
            Weights::Teacher { place } => format!("{place}{TEACHERS_ENCODER}"),
        };
        let strip = |(name, x): (String, Tensor)| Some((name.strip_prefix(&below)?.to_owned(), x));
        Ok(read(checkpoint)?.into_iter().filter_map(strip).collect())
    }
}

/// Where the average of a variable stands.
fn averaged(name: &str) -> String {
    format!("{AVERAGES}{}", name.strip_prefix("objective.").unwrap_or(name))
}

/// Where the teacher's variable stands that belongs to a student's: to the encoder's or to the objective's at `place`.
fn taught(place: &str, name: &str) -> Option<String> {
    let own = name.starts_with("encoder.").then_some(name).or_else(|| name.strip_prefix(place))?;
    (!own.starts_with("teacher.")).then(|| format!("{place}teacher.{own}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::state::{named_variables, save};
    use selfsup::core::{Device, nn};

    /// A store whose variables hold `first`, `first + 1`, ... in the order of their names.
    fn store(names: &[&str], first: f64) -> nn::VarStore {
        let store = nn::VarStore::new(Device::Cpu);
        for name in names {
            let (path, last) = name.rsplit_once('.').unwrap();
            let path = path.split('.').fold(store.root(), |path, part| path / part);
            let _ = path.zeros(last, &[1]);
        }
        for (i, (_, x)) in named_variables(&store, "").into_iter().enumerate() {
            selfsup::core::tch::no_grad(|| drop(x.shallow_clone().fill_(first + i as f64)));
        }
        store
    }

    fn saved(names: &[&str], folder: &Path) -> std::path::PathBuf {
        let path = folder.join("model.safetensors");
        save(&path, &named_variables(&store(names, 1.0), "")).unwrap();
        path
    }

    fn value(of: &nn::VarStore, name: &str) -> f64 {
        of.variables()[name].double_value(&[0])
    }

    const DINO: [&str; 5] = [
        "encoder.w",
        "objective.head.w",
        "objective.loss.centre",
        "objective.teacher.encoder.w",
        "objective.teacher.head.w",
    ];

    #[test]
    fn a_teachers_weights_stand_where_the_students_stood() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(&DINO, folder.path());
        let weights = Weights::Trained.of(Whose::Teacher, &path).unwrap();
        assert_eq!(weights, Weights::Teacher { place: "objective.".to_owned() });
        let filled = store(&DINO, 0.0);
        weights.load(&path, named_variables(&filled, "")).unwrap();
        let found = DINO.map(|name| value(&filled, name));
        assert_eq!(found, [4.0, 5.0, 3.0, 4.0, 5.0], "the encoder and the head are the teacher's");
        let encoder = store(&DINO[..1], 0.0);
        weights.load_encoder(&path, named_variables(&encoder, "")).unwrap();
        assert_eq!(value(&encoder, "encoder.w"), 4.0);
        let exported = weights.of_encoder(&path).unwrap();
        assert_eq!((exported.len(), exported["w"].double_value(&[0])), (1, 4.0));
        assert_eq!(Weights::Trained.of(Whose::Trained, &path).unwrap(), Weights::Trained);
    }

    #[test]
    fn a_part_of_a_combination_may_have_the_teacher() {
        let names = [
            "encoder.w",
            "objective.dino.head.w",
            "objective.dino.teacher.encoder.w",
            "objective.rotation.head.w",
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = saved(&names, folder.path());
        let weights = Weights::Trained.of(Whose::Teacher, &path).unwrap();
        let filled = store(&names, 0.0);
        weights.load(&path, named_variables(&filled, "")).unwrap();
        assert_eq!(names.map(|name| value(&filled, name)), [3.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_teacher_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |names: &[&str], weights: Weights| {
            weights.of(Whose::Teacher, &saved(names, folder.path())).unwrap_err().to_string()
        };
        let error = refused(&["encoder.w", "objective.projector.w"], Weights::Trained);
        assert!(error.starts_with("--weights teacher: the run's method has no teacher"), "{error}");
        let two = ["encoder.w", "objective.a.teacher.encoder.w", "objective.b.teacher.encoder.w"];
        let error = refused(&two, Weights::Trained);
        assert!(error.contains("several teachers, at objective.a., objective.b."), "{error}");
        let error = refused(&DINO, Weights::Averaged { classes: Vec::new() });
        assert!(error.contains("a run of selfsup finetune"), "{error}");
    }
}
