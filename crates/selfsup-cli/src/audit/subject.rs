//! The samples of a data set with their names, as the command needs them before and after encoding.

use crate::features;
use crate::images;
use crate::insight;
use crate::model::{ImageModel, TextModel};
use crate::objective::Modality;
use crate::recipe::Recipe;
use crate::report::{Sample, Shown};
use crate::text;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use selfsup::core::{Device, Tensor};
use selfsup::data::ImageSet;
use selfsup::data::text::{Corpus, TokenSequences, Tokenizer};
use std::path::Path;
use std::sync::Arc;

/// Which part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What is learned from; of data without parts, all.
    Train,
    /// What is judged by.
    Test,
}

/// Samples of one part of a data set.
pub enum Subject {
    /// Images.
    Images(Arc<dyn ImageSet>),
    /// Documents.
    Texts(Corpus),
}

impl Subject {
    /// Opens data for a run.
    ///
    /// # Errors
    /// When the data cannot be opened, do not fit the run, or have no such part.
    pub fn open(recipe: &Recipe, data: &str, part: Part) -> Result<Self> {
        match (recipe.objective.modality(), part) {
            (Modality::Images, _) => {
                let splits = crate::data::open_images(data)?;
                let set = match part {
                    Part::Train => splits.train,
                    Part::Test => {
                        splits.test.with_context(|| format!("--part test: {data} has no test part"))?
                    }
                };
                Ok(Subject::Images(images::with_channels(set, Some(recipe.data.channels()?))?))
            }
            (Modality::Text, Part::Train) => Ok(Subject::Texts(crate::data::open_texts(data)?)),
            (Modality::Text, Part::Test) => bail!("--part test: texts have no parts; leave it out"),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Subject::Images(set) => set.len(),
            Subject::Texts(corpus) => corpus.documents.len(),
        }
    }

    /// What a sample is called.
    pub fn name(&self, index: usize) -> String {
        match self {
            Subject::Images(set) => set.name(index),
            Subject::Texts(corpus) => {
                corpus.documents.get(index).map_or_else(String::new, |document| document.name.clone())
            }
        }
    }

    /// The class of every sample, if the data have classes.
    pub fn labels(&self) -> Option<Vec<i64>> {
        match self {
            Subject::Images(set) => set.labels(),
            Subject::Texts(corpus) => corpus.labels(),
        }
    }

    /// The names of the classes.
    pub fn classes(&self) -> Vec<String> {
        match self {
            Subject::Images(set) => set.classes(),
            Subject::Texts(corpus) => corpus.classes.clone(),
        }
    }

    /// The features of all samples by a run's encoder, `[N, D]` Float on the CPU.
    ///
    /// # Errors
    /// When the checkpoint does not fit, or a sample cannot be read.
    pub fn encode(&self, recipe: &Recipe, run: &Path, weights: &Path, device: Device) -> Result<Tensor> {
        match self {
            Subject::Images(set) => {
                let model = ImageModel::on_images(recipe, device)?;
                model.load(weights)?;
                let view = images::plain_view(recipe, set.channels())?;
                let batches = images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
                features::of_images(model.encoder.as_ref(), &batches, device)
            }
            Subject::Texts(corpus) => {
                let settings = recipe.text.clone().unwrap_or_default();
                let tokenizer = Tokenizer::open(&run.join("tokenizer.json"))?;
                let model = TextModel::on_text(recipe, &tokenizer, device)?;
                model.load(weights)?;
                let sequences = Arc::new(TokenSequences::new(&tokenizer, corpus, settings.length)?);
                let batches = text::plain(&sequences, recipe.eval.batch_size)?;
                let (documents, count) = (sequences.documents(), corpus.documents.len());
                features::of_documents(model.encoder.as_ref(), &batches, documents, count, device)
            }
        }
    }

    /// A sample for a reader.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn show(&self, index: usize, class: Option<String>) -> Result<Sample> {
        let shown = match self {
            Subject::Images(set) => Shown::Image(insight::picture(&set.get(index)?)?),
            Subject::Texts(corpus) => Shown::Text(insight::excerpt(&corpus.documents[index].text)),
        };
        Ok(Sample { shown, class })
    }
}
