//! A recipe's texts: opened, split by document, tokenized, and cut into sequences.

use crate::network::TokenShape;
use crate::objective::ObjectiveConfig;
use crate::recipe::{DataConfig, Recipe, TextConfig};
use anyhow::{Result, bail};
use selfsup::core::state::{Extra, load, named_variables};
use selfsup::core::{
    Batches, Dataset, Device, Error, Key, Kind, Mode, Result as CoreResult, Tensor, TensorExt, nn, tch,
};
use selfsup::data::sampler::{Sequential, Shuffled};
use selfsup::data::text::{Corpus, TokenSequences, Tokenizer};
use selfsup::data::{Loader, LoaderConfig, TokenCollate};
use selfsup::objectives::{MaskedLanguageModelling, Vocabulary};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The texts of a recipe.
pub struct Texts {
    /// The set's name.
    pub name: String,
    /// The documents to learn from.
    pub train: Corpus,
    /// The documents to judge by, none of which is seen before.
    pub test: Corpus,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// The training documents as sequences.
    pub train_sequences: Arc<TokenSequences>,
    /// The test documents as sequences.
    pub test_sequences: Arc<TokenSequences>,
}

impl Texts {
    /// Opens the set, sets documents aside, and tokenizes: with the tokenizer in `trained` where a run has one already,
    /// else with one that is trained on the training documents.
    ///
    /// # Errors
    /// When the set cannot be opened, a part would be empty, or the tokenizer does not work out.
    pub fn open(data: &DataConfig, text: &TextConfig, trained: Option<&Path>) -> Result<Self> {
        let source = data.source()?;
        let corpus = crate::data::open_texts(source)?;
        let (mut train, mut test) =
            corpus.split(data.held_out, 0).map_err(|e| crate::recipe::inside(e, "data"))?;
        for (field, limit, part) in
            [("limit", data.limit, &mut train), ("test_limit", data.test_limit, &mut test)]
        {
            match limit {
                Some(0) => bail!("data.{field} = 0: at least 1 document"),
                Some(limit) => part.documents.truncate(limit),
                None => {}
            }
        }
        let tokenizer = match trained {
            Some(path) => Tokenizer::open(path)?,
            None => Tokenizer::train(&train, text.tokenizer)
                .map_err(|e| crate::recipe::inside(e, "text.tokenizer"))?,
        };
        let sequences = |part: &Corpus| -> CoreResult<_> {
            let inside = |e: Error| crate::recipe::inside(e, "text");
            Ok(Arc::new(TokenSequences::new(&tokenizer, part, text.length).map_err(inside)?))
        };
        let (train_sequences, test_sequences) = (sequences(&train)?, sequences(&test)?);
        let name = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Texts { name, train, test, tokenizer, train_sequences, test_sequences })
    }
}

/// What a text network takes, as the tokenizer and the recipe decide.
pub fn shape(recipe: &Recipe, tokenizer: &Tokenizer) -> TokenShape {
    TokenShape {
        vocabulary: tokenizer.vocab_size() as i64,
        max_length: recipe.text.as_ref().map_or(TextConfig::default().length, |text| text.length) as i64,
        pad_id: tokenizer.special().pad,
    }
}

/// What an objective needs to know of the tokens.
pub fn vocabulary(tokenizer: &Tokenizer) -> Vocabulary {
    Vocabulary { size: tokenizer.vocab_size() as i64, mask_id: tokenizer.special().mask, specials: SPECIALS }
}

/// The special tokens stand before all others.
const SPECIALS: i64 = 5;

/// The loader of shuffled sequences for training.
///
/// # Errors
/// With the field that cannot work.
pub fn training(
    sequences: &Arc<TokenSequences>,
    config: LoaderConfig,
    seed: u64,
) -> Result<Loader<TokenCollate>> {
    let collate = TokenCollate { sequences: Arc::clone(sequences) };
    Ok(Loader::new(collate, Shuffled { len: sequences.len() }, config, seed)
        .map_err(|e| crate::recipe::inside(e, "train"))?)
}

/// The loader of sequences in order, for evaluation.
///
/// # Errors
/// When the threads cannot be started.
pub fn plain(sequences: &Arc<TokenSequences>, batch_size: usize) -> Result<Loader<TokenCollate>> {
    let collate = TokenCollate { sequences: Arc::clone(sequences) };
    let config = LoaderConfig { batch_size, drop_last: false, threads: 1, prefetch: 2 };
    Ok(Loader::new(collate, Sequential { len: sequences.len() }, config, 0)?)
}

/// Perplexities of masked tokens in the held-out documents: of the model, and of guessing by the tokens' frequency in the
/// training documents (with one added to every count). Both predict the same tokens, chosen by a fixed key.
///
/// # Errors
/// Those of reading, of the encoder, and of the checkpoint.
pub fn perplexity(recipe: &Recipe, texts: &Texts, weights: &Path, device: Device) -> Result<Value> {
    let ObjectiveConfig::MaskedLanguageModelling(config) = &recipe.objective else {
        bail!("objective.kind: masked perplexity is of masked language modelling");
    };
    let _without_gradient = tch::no_grad_guard();
    let store = nn::VarStore::new(device);
    let encoder = recipe.encoder.text_encoder(store.root() / "encoder")?;
    let embedding = &encoder.word_embeddings.weight;
    let vocabulary = vocabulary(&texts.tokenizer);
    let head =
        MaskedLanguageModelling::new(store.root() / "objective", embedding, vocabulary, config.clone())?;
    load(weights, &named_variables(&store, ""), Extra::Refuse)?;
    let unigram = unigram(&plain(&texts.train_sequences, recipe.eval.batch_size)?, vocabulary.size)?; // [V]
    let (mut model_loss, mut unigram_loss, mut count) = (0.0, 0.0, 0.0);
    let test = plain(&texts.test_sequences, recipe.eval.batch_size)?;
    for (i, batch) in test.epoch(0, 0)?.enumerate() {
        Key::new(0).with(i as u64).seed_torch();
        let masked = head.mask(&batch?.to_device(device))?;
        let (logits, labels) = head.predict(&encoder, &masked, Mode::Eval)?; // [K, V], [K]
        let likelihood = logits.log_softmax(-1, Kind::Float).gather(1, &labels.unsqueeze(1), false);
        model_loss -= likelihood.sum(Kind::Double).scalar()?;
        unigram_loss -= unigram.index_select(0, &labels.to_device(Device::Cpu)).sum(Kind::Double).scalar()?;
        count += labels.size()[0] as f64;
    }
    if count == 0.0 {
        bail!("the held-out documents hold no token to predict");
    }
    Ok(json!({
        "model": f64::exp(model_loss / count),
        "unigram": f64::exp(unigram_loss / count),
        "tokens": count,
        "definition": "exponential of the mean negative log-likelihood of the masked tokens of the held-out documents",
    }))
}

/// The logarithms of the tokens' shares, with one added to every count.
fn unigram(batches: &Loader<TokenCollate>, vocabulary: i64) -> Result<Tensor> {
    let mut counts = Tensor::ones([vocabulary], (Kind::Double, Device::Cpu));
    for batch in batches.epoch(0, 0)? {
        let batch = batch?;
        let words = batch.tokens.masked_select(&batch.words.ge(0));
        counts += words.bincount(None::<Tensor>, vocabulary);
    }
    Ok((&counts / counts.sum(None)).log())
}
