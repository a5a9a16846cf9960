//! Features and targets of a folder, checked.

use crate::elsewhere::{ONE_FILE, checked_features, checked_labels, classes, is_floating, read_npy};
use anyhow::{Context, Result, bail, ensure};
use selfsup::core::state;
use selfsup::core::{Kind, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The names of the arrays that make such a folder.
const NAMES: [&str; 3] = ["train_targets", "test_targets", "test_anomalies"];

/// Whether a folder holds other targets than classes. What cannot be read is the business of whoever reads it.
pub fn lie_in(folder: &Path) -> bool {
    NAMES.iter().any(|name| folder.join(format!("{name}.npy")).is_file())
        || state::read_header(&folder.join(ONE_FILE))
            .is_ok_and(|header| NAMES.iter().any(|name| header.tensors.contains_key(*name)))
}

/// What is asked of the features.
#[derive(Debug)]
pub enum Asked {
    /// Numbers to predict, `[N, T]` and `[M, T]` floats.
    Numbers([Tensor; 2]),
    /// Labels that a sample has or not, `[N, K]` and `[M, K]` of 0 and 1.
    Labels([Tensor; 2]),
    /// Which test samples are not normal, and the classes of the training samples, which are normal: one where nothing else is said.
    Anomalies { marks: Vec<bool>, classes: (Vec<i64>, i64) },
}

/// Features and targets of a folder, checked.
#[derive(Debug)]
pub struct Given {
    /// `[N, D]` Float.
    pub train: Tensor,
    /// `[M, D]` Float.
    pub test: Tensor,
    /// What is asked of them.
    pub asked: Asked,
}

impl Given {
    /// Reads what is in a folder.
    ///
    /// # Errors
    /// When a file is missing or cannot be read, or the arrays do not belong together; the message names the array.
    pub fn read(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        let one = folder.join(ONE_FILE);
        if !one.is_file() {
            let path = |name: &str| folder.join(format!("{name}.npy"));
            let take = |name: &str| path(name).is_file().then(|| read_npy(&path(name))).transpose();
            return Self::new(take, |name| path(name).display().to_string());
        }
        let others = ["train", "test"].iter().chain(&NAMES).map(|name| folder.join(format!("{name}.npy")));
        if let Some(other) = others.into_iter().find(|path| path.is_file()) {
            bail!("{}: there is {ONE_FILE} beside it; leave the one that is meant", other.display());
        }
        let tensors: BTreeMap<String, Tensor> = state::read(&one)?;
        let take = |name: &str| Ok(tensors.get(name).map(Tensor::shallow_clone));
        Self::new(take, |name| format!("{}: {name}", one.display()))
    }

    /// `take` gives an array by its name, if there is one; `called` says where it is from.
    pub fn new(
        take: impl Fn(&str) -> Result<Option<Tensor>>,
        called: impl Fn(&str) -> String,
    ) -> Result<Self> {
        let needed = |name: &str| take(name)?.with_context(|| format!("{} is missing", called(name)));
        let features = |name: &str| checked_features(&needed(name)?, &called(name));
        let (train, test) = (features("train")?, features("test")?);
        let (d, found) = (train.size()[1], test.size()[1]);
        ensure!(d == found, "{}: {found} features a row, but {} has {d}", called("test"), called("train"));
        let marks = take("test_anomalies")?;
        // What is known may be of several classes, what is to be told from it has none.
        let known = take("train_labels")?.filter(|_| marks.is_some());
        for labels in ["train_labels", "test_labels"] {
            ensure!(
                take(labels)?.is_none() || labels == "train_labels" && known.is_some(),
                "{}: a class for each sample, beside other targets; leave those that are meant",
                called(labels)
            );
        }
        let rows = |name: &str, x: &Tensor, of: &str, n: i64| -> Result<()> {
            let found = x.size().first().copied().unwrap_or(0);
            ensure!(found == n, "{}: {found} rows for the {n} of {}", called(name), called(of));
            Ok(())
        };
        if let Some(marks) = marks {
            for name in ["train_targets", "test_targets"] {
                ensure!(
                    take(name)?.is_none(),
                    "{}: targets beside test_anomalies; leave those that are meant",
                    called(name)
                );
            }
            let name = "test_anomalies";
            let marks = marks.to_kind(Kind::Double);
            ensure!(
                marks.dim() == 1,
                "{}: 0 or 1 for each sample [M], this is {:?}",
                called(name),
                marks.size()
            );
            rows(name, &marks, "test", test.size()[0])?;
            let marks = Vec::<f64>::try_from(marks)?;
            if let Some(row) = marks.iter().position(|mark| *mark != 0.0 && *mark != 1.0) {
                anyhow::bail!(
                    "{}: row {row} is {}: 0 for a normal sample, 1 for another",
                    called(name),
                    marks[row]
                );
            }
            let marks: Vec<bool> = marks.into_iter().map(|mark| mark == 1.0).collect();
            ensure!(
                marks.contains(&true) && marks.contains(&false),
                "{}: both normal samples (0) and others (1) are needed",
                called(name)
            );
            let classes = match &known {
                None => (vec![0; train.size()[0] as usize], 1),
                Some(labels) => {
                    let name = "train_labels";
                    rows(name, labels, "train", train.size()[0])?;
                    let labels = checked_labels(labels, &called(name))?;
                    let count = classes(&labels, &called(name))?;
                    (labels, count)
                }
            };
            return Ok(Given { train, test, asked: Asked::Anomalies { marks, classes } });
        }
        let targets = |name: &str, of: &str, n: i64| -> Result<Tensor> {
            let y = needed(name)?;
            rows(name, &y, of, n)?;
            let floats = is_floating(&y);
            match y.dim() {
                1 if floats => Ok(y.unsqueeze(1)),
                2 if y.size()[1] > 0 => Ok(y),
                _ => anyhow::bail!(
                    "{}: floats [N] or [N, T] are numbers to predict, whole numbers [N, K] of 0 and 1 are labels, these are {:?} {:?}; \
                     one class for each sample belongs into train_labels and test_labels",
                    called(name),
                    y.kind(),
                    y.size()
                ),
            }
        };
        let y = targets("train_targets", "train", train.size()[0])?;
        let z = targets("test_targets", "test", test.size()[0])?;
        let (a, b) = (y.size()[1], z.size()[1]);
        ensure!(a == b, "{}: {b} columns, but {} has {a}", called("test_targets"), called("train_targets"));
        ensure!(
            is_floating(&y) == is_floating(&z),
            "{}: {:?}, but {} is {:?}: both are numbers to predict (floats), or both labels (whole numbers)",
            called("test_targets"),
            z.kind(),
            called("train_targets"),
            y.kind()
        );
        for (name, y) in [("train_targets", &y), ("test_targets", &z)] {
            let fine = if is_floating(y) { y.isfinite() } else { y.eq(0).logical_or(&y.eq(1)) };
            let fine = fine.all_dim(1, false);
            if !bool::try_from(fine.all())? {
                let row = i64::try_from(fine.to_kind(Kind::Int64).argmin(0, false))?;
                let wrong =
                    if is_floating(y) { "a number that is not finite" } else { "another label than 0 or 1" };
                anyhow::bail!("{}: row {row} holds {wrong}", called(name));
            }
        }
        for (name, y) in [("train_targets", &y), ("test_targets", &z)].iter().filter(|(_, y)| is_floating(y))
        {
            let varies = y.amin([0].as_slice(), false).ne_tensor(&y.amax([0].as_slice(), false)); // [T]
            if !bool::try_from(varies.all())? {
                let column = i64::try_from(varies.to_kind(Kind::Int64).argmin(0, false))?;
                anyhow::bail!(
                    "{}: all values of column {column} are equal: nothing to predict",
                    called(name)
                );
            }
        }
        let asked = if is_floating(&y) { Asked::Numbers([y, z]) } else { Asked::Labels([y, z]) };
        Ok(Given { train, test, asked })
    }
}
