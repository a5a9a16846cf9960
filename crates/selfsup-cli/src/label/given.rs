//! The labels that a person gave: from files, drawn from those of the data, those that a run was trained with.

use super::arguments::Arguments;
use super::samples::Samples;
use crate::{drawn, label_table};
use anyhow::{Result, bail, ensure};
use selfsup::core::{Reason, Tensor};
use selfsup::data::{GivenLabels, LabelFile, LabelRow};
use selfsup::labels::FewLabels;
use std::collections::HashSet;
use std::path::Path;

/// Why a label stands that a fine-tuned run has learned from.
const TAUGHT: &str = "the run was trained with this label";

/// What the labels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To label all others: each class needs two, as some are held out.
    Label,
    /// To say what to label next: classes may still lack labels.
    Collect,
}

/// The labels that a person gave.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The labelled samples, ascending.
    pub indices: Vec<usize>,
    /// Their classes.
    pub labels: Vec<i64>,
    /// How far each counts, above 0.
    pub weights: Vec<f64>,
    /// Where each comes from, for a person.
    pub reasons: Vec<&'static str>,
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
            (Some(path), _) => Some(of_people(&label_table::read(path)?)?),
            (None, Some(count)) => Some(own(samples, count, arguments.draw.unwrap_or(0))?),
            (None, None) => None,
        };
        let Some(file) = corrected(base, arguments)? else { return Ok(None) };
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
        Ok(Some(Given::of(&found, |_, _| Reason::Given.sentence())))
    }

    /// What is known beside the answers of a fine-tuned run: the labels that it was trained with, where they are of these
    /// samples, and what a person corrected. The classes are those of the data, where these have all of the run's.
    ///
    /// # Errors
    /// With the file, line and value that cannot be.
    pub fn beside_run(arguments: &Arguments, samples: &Samples, classes: &[String]) -> Result<Given> {
        let known = truth(arguments, samples).map(|_| samples.set.classes());
        let known = known.filter(|known| classes.iter().all(|class| known.contains(class)));
        let known = known.unwrap_or_else(|| classes.to_vec());
        let taught = samples.taught()?;
        let learned: HashSet<String> =
            taught.iter().flat_map(LabelFile::rows).map(|row| row.file.clone()).collect();
        let by_hand = corrected(None, arguments)?;
        let corrected: HashSet<String> =
            by_hand.iter().flat_map(LabelFile::rows).map(|row| row.file.clone()).collect();
        let file = match (taught, by_hand) {
            (Some(taught), Some(by_hand)) => taught.corrected_by(&by_hand),
            (Some(file), None) | (None, Some(file)) => file,
            (None, None) => return Ok(Given { classes: known, ..Given::default() }),
        };
        let found = file.find_in(samples.set.len(), |index| samples.set.name(index), Some(&known))?;
        Ok(Given::of(&found, |index, reason| {
            let name = samples.set.name(index);
            let taught = learned.contains(&name) && !corrected.contains(&name);
            // A machine's label stays a machine's, whoever has learned from it since.
            if taught { reason.and_then(a_machines).unwrap_or(TAUGHT) } else { Reason::Given.sentence() }
        }))
    }

    /// A label of weight 0 was rejected by a person.
    fn of(found: &GivenLabels, reason: impl Fn(usize, Option<&str>) -> &'static str) -> Given {
        let mut order: Vec<usize> = (0..found.indices.len()).collect();
        order.sort_unstable_by_key(|&at| found.indices[at]);
        let mut given = Given { classes: found.classes.clone(), ..Given::default() };
        for at in order {
            let (index, label, weight) = (found.indices[at], found.labels[at], found.weights[at]);
            if weight > 0.0 {
                given.indices.push(index);
                given.labels.push(label);
                given.weights.push(weight);
                given.reasons.push(reason(index, found.reasons[at].as_deref()));
            } else {
                given.rejected.push((index, label));
            }
        }
        given
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
        let names: Vec<String> = present.iter().map(|&label| self.classes[label as usize].clone()).collect();
        (names.len() > 1).then(|| self.among(&names))
    }

    /// The labels of these classes, numbered as they are here; what was rejected is left out.
    #[must_use]
    pub fn among(&self, classes: &[String]) -> Given {
        let place = |label: i64| classes.iter().position(|class| *class == self.classes[label as usize]);
        let kept = (0..self.indices.len()).filter_map(|at| Some((at, place(self.labels[at])?)));
        let mut given = Given { classes: classes.to_vec(), ..Given::default() };
        for (at, label) in kept {
            given.indices.push(self.indices[at]);
            given.labels.push(label as i64);
            given.weights.push(self.weights[at]);
            given.reasons.push(self.reasons[at]);
        }
        given
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

/// Labels with what a person corrected in their place, a later file winning over an earlier one; none where there are neither.
fn corrected(base: Option<LabelFile>, arguments: &Arguments) -> Result<Option<LabelFile>> {
    let mut labels = base;
    for path in &arguments.corrected {
        let file = of_people(&label_table::read(path)?)?;
        labels = Some(match labels {
            Some(labels) => labels.corrected_by(&file),
            None => file,
        });
    }
    Ok(labels)
}

/// The rows of a file that a person stands for. A machine's, which `selfsup label` writes beside them, are no given labels.
///
/// # Errors
/// When all are a machine's.
pub fn of_people(file: &LabelFile) -> Result<LabelFile> {
    let people = file.only(|row| row.reason.as_deref().and_then(a_machines).is_none());
    let (all, path) = (file.rows().len(), file.path().display());
    let machines = all - people.rows().len();
    ensure!(
        machines < all,
        "{path}: all {all} labels are a machine's, by their reasons; what a person gave has no reason, or another, as in \
         \"{}\"",
        Reason::Given.sentence()
    );
    if machines > 0 {
        eprintln!(
            "note: {path}: {machines} of {all} labels are a machine's, by their reasons, and count as none"
        );
    }
    Ok(people)
}

/// The reason, where it is one for which a machine gives a label.
fn a_machines(reason: &str) -> Option<&'static str> {
    let known = (0..).map_while(|code| Reason::from_code(code).ok());
    let mut machines = known.filter(|known| !matches!(known, Reason::Given | Reason::Doubted));
    machines.find(|known| known.sentence() == reason).map(Reason::sentence)
}

/// The true classes of the data, where it has them and they are to be used.
pub fn truth(arguments: &Arguments, samples: &Samples) -> Option<Vec<i64>> {
    samples.set.labels().filter(|_| !arguments.own_classes)
}

/// `count` of the data's own labels of each class, drawn by a seed.
fn own(samples: &Samples, count: usize, seed: u64) -> Result<LabelFile> {
    let Some(labels) = samples.set.labels() else {
        bail!("--labels-per-class {count}: the data have no labels to draw from; give a file with --labels");
    };
    let classes = samples.set.classes();
    let asked = format!("--labels-per-class {count}");
    let drawn = drawn::of_each(&labels, &classes, count, seed, &asked)?;
    let rows = drawn.into_iter().zip(&classes).flat_map(|(members, name)| {
        members.into_iter().map(move |index| LabelRow {
            file: samples.set.name(index),
            label: name.clone(),
            ..LabelRow::default()
        })
    });
    Ok(LabelFile::new(Path::new("--labels-per-class"), rows.collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: &[(&str, Option<f64>, Option<&str>)]) -> LabelFile {
        let row = |&(file, weight, reason): &(&str, Option<f64>, Option<&str>)| LabelRow {
            file: file.to_owned(),
            label: "cat".to_owned(),
            weight,
            reason: reason.map(str::to_owned),
            ..LabelRow::default()
        };
        LabelFile::new(Path::new("few.csv"), rows.iter().map(row).collect()).unwrap()
    }

    #[test]
    fn what_a_machine_said_is_no_given_label() {
        let machine = Reason::Confident.sentence();
        let found = of_people(&file(&[
            ("1", None, None),
            ("2", Some(0.9), Some(machine)),
            ("3", Some(1.0), Some("a person chose it")),
            ("4", Some(0.0), Some("a person rejected it")),
            ("5", Some(0.0), Some(Reason::Unsure.sentence())),
            ("6", None, Some("Anna says so")),
            ("7", None, Some(TAUGHT)),
        ]));
        let names: Vec<String> = found.unwrap().rows().iter().map(|row| row.file.clone()).collect();
        assert_eq!(names, ["1", "3", "4", "6", "7"]);
        let error = of_people(&file(&[("1", None, Some(machine))])).unwrap_err().to_string();
        assert!(error.starts_with("few.csv: all 1 labels are a machine's"), "{error}");
        assert_eq!(
            a_machines(Reason::OutOfDistribution.sentence()),
            Some(Reason::OutOfDistribution.sentence())
        );
        assert_eq!(a_machines(Reason::Doubted.sentence()), None);
    }

    #[test]
    fn weights_are_kept_and_a_weight_of_0_rejects() {
        let rows = [("2", Some(0.25), None), ("0", None, None), ("1", Some(0.0), None)];
        let found = file(&rows).find_in(3, |i| i.to_string(), None).unwrap();
        let given = Given::of(&found, |_, _| "why");
        assert_eq!(
            (given.indices, given.weights, given.rejected),
            (vec![0, 2], vec![1.0, 0.25], vec![(1, 0)])
        );
    }

    #[test]
    fn classes_are_numbered_as_in_another_list() {
        let given = Given {
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            indices: vec![1, 4, 6],
            labels: vec![2, 1, 0],
            weights: vec![1.0, 0.5, 1.0],
            reasons: vec!["x", "y", "z"],
            rejected: vec![(2, 0)],
        };
        let some = given.among(&["c".to_owned(), "a".to_owned()]);
        assert_eq!((some.indices, some.labels, some.weights), (vec![1, 6], vec![0, 1], vec![1.0, 1.0]));
        assert_eq!((some.reasons, some.rejected), (vec!["x", "z"], Vec::new()));
        assert_eq!(given.of_present_classes().unwrap().labels, given.labels);
    }
}
