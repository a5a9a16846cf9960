//! The labels that a person gave: from a file, drawn from those of the data, corrected.

use super::arguments::Arguments;
use super::samples::Samples;
use crate::label_table;
use anyhow::{Result, bail, ensure};
use rand::seq::SliceRandom;
use selfsup::core::{Key, Tensor};
use selfsup::data::{GivenLabels, LabelFile, LabelRow};
use selfsup::labels::FewLabels;
use std::collections::HashSet;
use std::path::Path;

/// What the labels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To label all others: each class needs two, as some are held out.
    Label,
    /// To say what to label next: classes may still lack labels.
    Collect,
}

/// The labels that a person gave.
#[derive(Debug)]
pub struct Given {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The labelled samples, ascending.
    pub indices: Vec<usize>,
    /// Their classes.
    pub labels: Vec<i64>,
    /// Samples whose label a person rejected, with that label.
    pub rejected: Vec<(usize, i64)>,
}

impl Given {
    /// Finds the labels that the arguments name; none where they name none.
    ///
    /// # Errors
    /// With the file, line and value that cannot be, or the class that lacks labels.
    pub fn open(arguments: &Arguments, samples: &Samples, purpose: Purpose) -> Result<Option<Given>> {
        let base = match (&arguments.labels, arguments.labels_per_class) {
            (Some(path), _) => Some(label_table::read(path)?),
            (None, Some(count)) => Some(drawn(samples, count, arguments.draw.unwrap_or(0))?),
            (None, None) => None,
        };
        let corrected = arguments.corrected.as_deref().map(label_table::read).transpose()?;
        let by_hand: HashSet<String> =
            corrected.iter().flat_map(LabelFile::rows).map(|row| row.file.clone()).collect();
        let file = match (base, corrected) {
            (Some(base), Some(corrected)) => base.corrected_by(&corrected),
            (Some(file), None) | (None, Some(file)) => file,
            (None, None) => return Ok(None),
        };
        let known = truth(arguments, samples).map(|_| samples.set.classes());
        let name = |index| samples.set.name(index);
        let found = match purpose {
            Purpose::Label => {
                let found = file.match_to(samples.set.len(), name, known.as_deref())?;
                found.check_per_class(2)?;
                ensure!(
                    found.classes.len() > 1,
                    "{}: all labels are {}; there must be two classes to tell apart",
                    file.path().display(),
                    found.classes[0]
                );
                found
            }
            Purpose::Collect => file.find_in(samples.set.len(), name, known.as_deref())?,
        };
        Ok(Some(Given::of(&found, |index| by_hand.contains(&name(index)))))
    }

    /// A label of weight 0 was rejected by a person where it stands among the corrected ones; elsewhere it is none.
    fn of(found: &GivenLabels, by_hand: impl Fn(usize) -> bool) -> Given {
        let mut rows: Vec<(usize, i64, bool)> = found
            .indices
            .iter()
            .zip(&found.labels)
            .zip(&found.weights)
            .map(|((&index, &label), &weight)| (index, label, weight > 0.0))
            .collect();
        rows.sort_unstable();
        let counting = || rows.iter().filter(|row| row.2);
        Given {
            classes: found.classes.clone(),
            indices: counting().map(|row| row.0).collect(),
            labels: counting().map(|row| row.1).collect(),
            rejected: rows.iter().filter(|row| !row.2 && by_hand(row.0)).map(|row| (row.0, row.1)).collect(),
        }
    }

    /// No labels, of these classes.
    pub fn none_of(classes: &[String]) -> Given {
        Given { classes: classes.to_vec(), indices: Vec::new(), labels: Vec::new(), rejected: Vec::new() }
    }

    /// The samples that a person has looked at, whatever was said of them.
    pub fn seen(&self) -> HashSet<usize> {
        self.indices.iter().copied().chain(self.rejected.iter().map(|r| r.0)).collect()
    }

    /// The labels at some places of the list, for labelers.
    ///
    /// # Errors
    /// When a class has none there.
    pub fn few(&self, places: &[usize]) -> Result<FewLabels> {
        let indices: Vec<i64> = places.iter().map(|&at| self.indices[at] as i64).collect();
        let labels: Vec<i64> = places.iter().map(|&at| self.labels[at]).collect();
        Ok(FewLabels::new(&indices, &labels, self.classes.len() as i64)?)
    }

    /// The labels of the classes that have some, with the classes numbered anew; none where only one class has labels.
    pub fn of_present_classes(&self) -> Option<Given> {
        let mut present: Vec<i64> = self.labels.clone();
        present.sort_unstable();
        present.dedup();
        let place = |label: &i64| present.binary_search(label).ok().map(|at| at as i64);
        (present.len() > 1).then(|| Given {
            classes: present.iter().map(|&label| self.classes[label as usize].clone()).collect(),
            indices: self.indices.clone(),
            labels: self.labels.iter().filter_map(place).collect(),
            rejected: Vec::new(),
        })
    }

    /// The samples' rows, `[M]` Int64.
    pub fn rows(&self) -> Tensor {
        Tensor::from_slice(&self.indices.iter().map(|&index| index as i64).collect::<Vec<_>>())
    }

    /// The labels, `[M]` Int64.
    pub fn label_tensor(&self) -> Tensor {
        Tensor::from_slice(&self.labels)
    }
}

/// The true classes of the data, where it has them and they are to be used.
pub fn truth(arguments: &Arguments, samples: &Samples) -> Option<Vec<i64>> {
    samples.set.labels().filter(|_| !arguments.own_classes)
}

/// `count` labels of each class, drawn by a seed.
fn drawn(samples: &Samples, count: usize, seed: u64) -> Result<LabelFile> {
    let Some(labels) = samples.set.labels() else {
        bail!("--labels-per-class {count}: the data have no labels to draw from; give a file with --labels");
    };
    let classes = samples.set.classes();
    let mut rows = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let mut of_class: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class as i64).collect();
        of_class.shuffle(&mut Key::new(seed).with(class as u64).rng());
        ensure!(
            of_class.len() >= count,
            "--labels-per-class {count}: at most {}, the samples of the class {name}",
            of_class.len()
        );
        rows.extend(of_class[..count].iter().map(|&index| LabelRow {
            file: samples.set.name(index),
            label: name.clone(),
            ..LabelRow::default()
        }));
    }
    Ok(LabelFile::new(Path::new("--labels-per-class"), rows)?)
}
