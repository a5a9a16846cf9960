//! The images of a fine-tuning, and which of them have labels.

use super::recipe::{FinetuneRecipe, LabelsConfig};
use crate::{digest, drawn, images, label_table};
use anyhow::{Context, Result, bail, ensure};
use selfsup::data::{ExistingFile, GivenLabels, ImageSet, LabelFile, LabelRow};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The images, the labels, and what is judged by.
pub struct Sets {
    /// The set's name.
    pub name: String,
    /// The images without labels; the labelled ones are among them unless they come from elsewhere.
    pub unlabelled: Arc<dyn ImageSet>,
    /// Their true labels, for counting how many pseudo-labels are right.
    pub truth: Option<Vec<i64>>,
    /// The labelled images, in the order of the labels.
    pub labelled: Arc<dyn ImageSet>,
    /// Their labels; `indices` are positions in `labelled`.
    pub given: GivenLabels,
    /// What is judged by, where there are labels to judge with.
    pub test: Option<Arc<dyn ImageSet>>,
    /// Whether the test part was split off here, because the set has none.
    pub held_out: bool,
}

impl Sets {
    /// Opens the sets and finds the labels in them.
    ///
    /// # Errors
    /// With the file, row, class or field that cannot work.
    pub fn open(recipe: &FinetuneRecipe) -> Result<Self> {
        let (data, labels) = (&recipe.data, &recipe.labels);
        let file = labels.file.as_deref().map(label_table::read).transpose()?;
        let splits = crate::data::open_images(data.source()?)?;
        // What a set's folders are named after need not be what is labelled here.
        let classes = splits.train.labels().map(|_| splits.train.classes());
        let classes = classes.filter(|classes| file.as_ref().is_none_or(|file| speaks_of(file, classes)));

        let own = labels.source.is_none();
        let (mut train, mut test, mut held_out) = (splits.train, splits.test, false);
        if test.is_none() && classes.is_some() {
            let (mut learned, mut judged) = images::held_out_of(train.len(), data.held_out)?;
            if let Some(file) = file.as_ref().filter(|_| own) {
                // What a person labelled is there to be learned from.
                let given = file.match_to(train.len(), |i| train.name(i), classes.as_deref())?;
                learned.extend(given.indices);
                learned.sort_unstable();
                learned.dedup();
                judged.retain(|i| learned.binary_search(i).is_err());
                ensure!(
                    !judged.is_empty(),
                    "data.held_out = {}: all images that would be held out are labelled",
                    data.held_out
                );
            }
            test = Some(images::part(&train, judged)?);
            (train, held_out) = (images::part(&train, learned)?, true);
        }
        let prepared = |set, field: &str, limit, channels| -> Result<Arc<dyn ImageSet>> {
            let mut set = images::limited(set, field, limit)?;
            if data.decoded {
                set = images::decoded(set)?;
            }
            images::with_channels(set, channels)
        };
        if let Some(limit) = data.limit.filter(|&limit| limit < train.len()) {
            eprintln!("note       data.limit = {limit}: of {} images, the others are left out", train.len());
        }
        let unlabelled = prepared(train, "limit", data.limit, data.channels)?;
        let channels = Some(unlabelled.channels());
        let test = test.filter(|_| classes.is_some());
        let test = test.map(|set| prepared(set, "test_limit", data.test_limit, channels)).transpose()?;

        let source = match &labels.source {
            None => Arc::clone(&unlabelled),
            Some(source) => {
                let set = crate::data::open_images(source).context("the labelled images")?.train;
                images::with_channels(set, channels)?
            }
        };
        let mut given = match (&file, labels.per_class) {
            (Some(file), _) => {
                let known = if own { classes.clone() } else { named_like(&source, file).or(classes.clone()) };
                file.match_to(source.len(), |i| source.name(i), known.as_deref())?.counting()
            }
            (None, Some(count)) => drawn(source.as_ref(), count, labels)?,
            (None, None) => bail!("labels.file: a CSV file of labels, or labels.per_class"),
        };
        let lonely: Vec<&String> =
            given.classes.iter().zip(given.per_class()).filter(|(_, n)| *n == 1).map(|(c, _)| c).collect();
        if let Some(first) = lonely.first().filter(|_| lonely.len() < given.classes.len()) {
            eprintln!(
                "note       a single label of the class {first}: more would tell it better from others"
            );
        }
        let known = classes.filter(|classes| *classes == given.classes);
        let truth = known.as_ref().and_then(|_| unlabelled.labels());
        let labelled = images::part(&source, std::mem::take(&mut given.indices))?;
        given.indices = (0..given.labels.len()).collect();
        let test = test.filter(|test| known.is_some() && test.labels().is_some());
        Ok(Sets { name: splits.name, unlabelled, truth, labelled, given, test, held_out })
    }

    /// A checksum of the labelled images, their labels and the labels' weights.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn digest(&self) -> Result<Value> {
        let mut value = digest::of_images(self.labelled.as_ref())?;
        let mut sum = 0;
        for (label, weight) in self.given.labels.iter().zip(&self.given.weights) {
            sum = crc32c::crc32c_append(sum, &label.to_le_bytes());
            sum = crc32c::crc32c_append(sum, &weight.to_le_bytes());
        }
        value["given"] = format!("{sum:08x}").into();
        Ok(value)
    }

    /// Writes the labels, with their weights and reasons, as a file that can be given again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_labels(&self, path: &Path) -> Result<()> {
        let given = &self.given;
        let row = |i: usize| LabelRow {
            file: self.labelled.name(i),
            label: given.classes.get(given.labels[i] as usize).cloned().unwrap_or_default(),
            weight: Some(given.weights[i]).filter(|&weight| weight != 1.0),
            reason: given.reasons[i].clone(),
            ..LabelRow::default()
        };
        let rows = (0..given.labels.len()).map(row);
        Ok(LabelFile::new(path, rows.collect())?.write(path, ExistingFile::Replace)?)
    }
}

/// Whether one of the file's labels is one of these classes.
fn speaks_of(file: &LabelFile, classes: &[String]) -> bool {
    file.rows().iter().any(|row| classes.contains(&row.label))
}

/// The classes of a set, where the file speaks of them.
fn named_like(set: &Arc<dyn ImageSet>, file: &LabelFile) -> Option<Vec<String>> {
    set.labels().map(|_| set.classes()).filter(|classes| speaks_of(file, classes))
}

/// Some of a set's own labels of each class.
fn drawn(set: &dyn ImageSet, count: usize, config: &LabelsConfig) -> Result<GivenLabels> {
    let Some(all) = set.labels() else {
        bail!("labels.per_class = {count}: a set with labels of its own, or a file of labels with --labels");
    };
    let classes = set.classes();
    let mut given = GivenLabels { classes: classes.clone(), ..GivenLabels::default() };
    let asked = format!("labels.per_class = {count}");
    for (class, members) in
        drawn::of_each(&all, &classes, count, config.draw, &asked)?.into_iter().enumerate()
    {
        given.labels.extend(std::iter::repeat_n(class as i64, count));
        given.weights.extend(std::iter::repeat_n(1.0, count));
        given.reasons.extend(std::iter::repeat_n(None, count));
        given.indices.extend(members);
    }
    ensure!(classes.len() > 1, "labels: a set of at least two classes");
    Ok(given)
}
