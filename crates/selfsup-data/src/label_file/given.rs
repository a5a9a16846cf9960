//! Labels of a file, as a set of samples has them.

use super::{LabelFile, Place, nearest};
use selfsup_core::{Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;

impl LabelFile {
    /// Finds the samples and classes that the rows are about, in a set of `len` samples that it calls `name(index)`. The
    /// classes are `known` ones, in their order; without, those of the file: by number where all are whole numbers,
    /// otherwise by name.
    ///
    /// # Errors
    /// Those of [`find_in`](LabelFile::find_in), and when all weights are 0 or a known class has no label that counts.
    pub fn match_to(
        &self,
        len: usize,
        name: impl Fn(usize) -> String,
        known: Option<&[String]>,
    ) -> Result<GivenLabels> {
        let given = self.find_in(len, name, known)?;
        if given.weights.iter().all(|&weight| weight == 0.0) {
            let problem = format!("weight: all {} are 0, so that no label counts", given.weights.len());
            return Err(Error::data(&self.path, problem));
        }
        given.check_per_class(1)?;
        Ok(given)
    }

    /// As [`match_to`](LabelFile::match_to), where classes may lack labels: while they are being collected.
    ///
    /// # Errors
    /// [`Error::Data`] with line and value when the set has no such file (with the nearest name), a file stands there twice
    /// (with the same label, or with two), or a class is not among the known ones.
    pub fn find_in(
        &self,
        len: usize,
        name: impl Fn(usize) -> String,
        known: Option<&[String]>,
    ) -> Result<GivenLabels> {
        let bad = |at: usize, problem: String| {
            let Place { path, line } = &self.places[at];
            Error::data(path, format!("line {line}: {problem}"))
        };
        let mut samples: HashMap<String, usize> = HashMap::with_capacity(len);
        for index in 0..len {
            samples.entry(name(index)).or_insert(index);
        }
        let classes = known.map_or_else(|| self.classes(), <[String]>::to_vec);
        let codes: HashMap<&str, i64> = classes.iter().map(String::as_str).zip(0..).collect();
        let mut seen: HashMap<usize, usize> = HashMap::new();
        let mut given =
            GivenLabels { path: self.path.clone(), classes: classes.clone(), ..GivenLabels::default() };
        for (at, row) in self.rows.iter().enumerate() {
            let Some(&index) = samples.get(&row.file) else {
                let near = nearest(&row.file, samples.keys().map(String::as_str));
                return Err(bad(at, format!("file = {}: the set has no such file{near}", row.file)));
            };
            if let Some(first) = seen.insert(index, at) {
                let (line, other) = (self.places[first].line, &self.rows[first].label);
                let problem = if *other == row.label {
                    format!("it is labelled {other} on line {line} already; remove one of the two")
                } else {
                    format!(
                        "it is labelled {} here and {other} on line {line}; keep the right one",
                        row.label
                    )
                };
                return Err(bad(at, format!("file = {}: {problem}", row.file)));
            }
            let Some(&code) = codes.get(row.label.as_str()) else {
                let near = nearest(&row.label, classes.iter().map(String::as_str));
                let problem = format!("the set has no such class{near}; its classes are {}", some(&classes));
                return Err(bad(at, format!("label = {}: {problem}", row.label)));
            };
            given.indices.push(index);
            given.labels.push(code);
            given.weights.push(row.weight.unwrap_or(1.0));
            given.reasons.push(row.reason.clone());
        }
        Ok(given)
    }

    /// The classes that the rows name, each once.
    fn classes(&self) -> Vec<String> {
        let mut classes: Vec<String> = self.rows.iter().map(|row| row.label.clone()).collect();
        classes.sort();
        classes.dedup();
        if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
            classes.sort_by_key(|class| class.parse::<i64>().unwrap_or_default());
        }
        classes
    }
}

/// Labels of some samples of a set, by the samples' numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenLabels {
    /// The file that they come from; messages name it.
    pub path: PathBuf,
    /// The samples, in the file's order, each once.
    pub indices: Vec<usize>,
    /// Their classes, in `0..classes.len()`.
    pub labels: Vec<i64>,
    /// How far each counts, 0 or above; 0 rejects the label.
    pub weights: Vec<f64>,
    /// Why each stands, as the file says; none where it does not say.
    pub reasons: Vec<Option<String>>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

impl GivenLabels {
    /// How many labels that count each class has.
    pub fn per_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for (&label, _) in self.labels.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0.0) {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The labels that count, those of weight 0 left out.
    #[must_use]
    pub fn counting(&self) -> GivenLabels {
        let kept: Vec<usize> = (0..self.weights.len()).filter(|&i| self.weights[i] > 0.0).collect();
        GivenLabels {
            path: self.path.clone(),
            indices: kept.iter().map(|&i| self.indices[i]).collect(),
            labels: kept.iter().map(|&i| self.labels[i]).collect(),
            weights: kept.iter().map(|&i| self.weights[i]).collect(),
            reasons: kept.iter().map(|&i| self.reasons[i].clone()).collect(),
            classes: self.classes.clone(),
        }
    }

    /// Asks for at least so many labels that count of every class: 2 where a part is to be held out.
    ///
    /// # Errors
    /// [`Error::Data`] with the classes that have fewer.
    pub fn check_per_class(&self, least: usize) -> Result<()> {
        let short: Vec<(&String, usize)> =
            self.classes.iter().zip(self.per_class()).filter(|(_, count)| *count < least).collect();
        let Some(&(class, count)) = short.first() else { return Ok(()) };
        let others = match short.len() - 1 {
            0 => String::new(),
            1 => ", nor has another class".to_owned(),
            n => format!(", nor have {n} other classes"),
        };
        let problem = match (count, least) {
            (0, 1) => format!("no label of the class {class}{others}: every class needs one that counts"),
            (0, _) => format!("no label of the class {class}: every class needs {least} that count"),
            (1, _) => format!(
                "a single label of the class {class}: every class needs {least}, as some are held out to judge by"
            ),
            _ => format!("{count} labels of the class {class}: every class needs {least}"),
        };
        Err(Error::data(&self.path, problem))
    }
}

/// The first names of a list.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NAMES, problem, read};
    use super::*;

    fn classes() -> Vec<String> {
        ["dog", "cat"].map(str::to_owned).to_vec()
    }

    fn matched(text: &str, known: Option<&[String]>) -> Result<GivenLabels> {
        read(text)?.match_to(NAMES.len(), |i| NAMES[i].to_owned(), known)
    }

    #[test]
    fn finds_samples_and_classes() {
        let text =
            "file,label,weight,reason\ndog/2.png,dog,,\n./cat/1.png,cat,0.25,as seen\ncat/2.png,dog,0,\n";
        let given = matched(text, Some(&classes())).unwrap();
        assert_eq!(given.indices, [3, 0, 1]);
        assert_eq!(given.labels, [0, 1, 0]);
        assert_eq!(given.weights, [1.0, 0.25, 0.0]);
        assert_eq!((given.classes.clone(), given.per_class()), (classes(), vec![1, 1]));
        let counting = given.counting();
        assert_eq!(
            (counting.indices, counting.labels, counting.weights, counting.reasons),
            (vec![3, 0], vec![0, 1], vec![1.0, 0.25], vec![None, Some("as seen".to_owned())])
        );
    }

    #[test]
    fn orders_classes_of_its_own_by_number_or_name() {
        let order = |labels: [&str; 3]| {
            let rows: String =
                labels.iter().zip(NAMES).map(|(label, name)| format!("{name},{label}\n")).collect();
            matched(&format!("file,label\n{rows}"), None).unwrap().classes
        };
        assert_eq!(order(["10", "9", "2"]), ["2", "9", "10"]);
        assert_eq!(order(["b10", "b9", "a"]), ["a", "b10", "b9"]);
        assert_eq!(order(["b", "a", "b"]), ["a", "b"]);
    }

    #[test]
    fn refuses_rows_that_the_set_has_not_or_that_say_two_things() {
        for (rows, message) in [
            ("cat/1.pgn,cat", "line 2: file = cat/1.pgn: the set has no such file; did you mean cat/1.png?"),
            (
                "photos/dog/2.png,dog",
                "line 2: file = photos/dog/2.png: the set has no such file; did you mean dog/2.png?",
            ),
            ("zzz,cat", "line 2: file = zzz: the set has no such file"),
            (
                "cat/1.png,cat\ndog/1.png,dog\ncat/1.png,cat",
                "line 4: file = cat/1.png: it is labelled cat on line 2 already; remove one of the two",
            ),
            (
                "cat/1.png,cat\ncat/1.png,dog",
                "line 3: file = cat/1.png: it is labelled dog here and cat on line 2; keep the right one",
            ),
            (
                "cat/1.png,catt",
                "line 2: label = catt: the set has no such class; did you mean cat?; its classes are dog, cat",
            ),
            ("cat/1.png,cat", "no label of the class dog: every class needs one that counts"),
        ] {
            let found = matched(&format!("file,label\n{rows}\n"), Some(&classes()));
            assert_eq!(problem(found), message, "{rows}");
        }
        let zero = matched("file,label,weight\ncat/1.png,cat,0\ndog/1.png,dog,0.0\n", Some(&classes()));
        assert_eq!(problem(zero), "weight: all 2 are 0, so that no label counts");
        let rejected = matched("file,label,weight\ncat/1.png,cat,0\ndog/1.png,dog,1\n", Some(&classes()));
        assert_eq!(problem(rejected), "no label of the class cat: every class needs one that counts");
        let many: Vec<String> = (0..30).map(|i| format!("class{i}")).collect();
        let message = problem(matched("file,label\ncat/1.png,x\n", Some(&many)));
        assert!(message.ends_with("class18, class19 and 10 more"), "{message}");
        let message = problem(matched("file,label\ncat/1.png,class3\n", Some(&many)));
        assert!(message.starts_with("no label of the class class0, nor have 28 other classes:"), "{message}");
    }

    #[test]
    fn a_single_label_of_a_class_is_refused_where_two_are_needed() {
        let given = matched("file,label\ndog/1.png,dog\ndog/2.png,dog\ncat/1.png,cat\n", None).unwrap();
        given.check_per_class(1).unwrap();
        assert_eq!(
            problem(given.check_per_class(2)),
            "a single label of the class cat: every class needs 2, as some are held out to judge by"
        );
        assert_eq!(
            problem(given.check_per_class(3)),
            problem(given.check_per_class(2)).replace("needs 2", "needs 3")
        );
    }

    #[test]
    fn labels_that_are_being_collected_may_lack_classes() {
        let file = read("file,label,weight\ncat/2.png,cat,0\n").unwrap();
        let given = file.find_in(NAMES.len(), |i| NAMES[i].to_owned(), Some(&classes())).unwrap();
        assert_eq!((given.indices, given.weights, given.classes), (vec![1], vec![0.0], classes()));
        assert!(file.find_in(1, |i| NAMES[i].to_owned(), Some(&classes())).is_err());
    }
}
