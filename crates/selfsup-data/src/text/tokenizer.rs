//! Byte-pair encoding trained on a corpus (Sennrich et al., "Neural machine translation of rare words with subword
//! units", on bytes as in Radford et al., "Language models are unsupervised multitask learners").
//!
//! Text is cut into words, each with the space before it; a word's bytes are merged, most frequent pair first. Every
//! text can be encoded, whatever its script. Files are `tokenizer.json` of the `tokenizers` library, which PyTorch's
//! users read with `transformers`.

use super::Corpus;
use selfsup_core::state::write_whole;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

/// The special tokens by their text, in the order of their ids.
const SPECIAL: [&str; 5] = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"];

/// The bytes that every vocabulary holds.
const BYTES: usize = 256;

/// How a tokenizer is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// The largest number of tokens, with the 5 special ones and the 256 bytes.
    pub vocab_size: usize,
    /// How often a pair must occur to be merged.
    pub min_frequency: u64,
    /// Whether letters are brought to lower case first.
    pub lowercase: bool,
}

impl Default for TokenizerConfig {
    /// 8,192 tokens: right for about a million words.
    fn default() -> Self {
        TokenizerConfig { vocab_size: 8192, min_frequency: 2, lowercase: false }
    }
}

/// The ids of the special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Fills sequences up.
    pub pad: i64,
    /// Begins a sequence.
    pub cls: i64,
    /// Ends a sequence.
    pub sep: i64,
    /// Stands in for what is to be predicted.
    pub mask: i64,
    /// Stands for what has no token; the bytes leave nothing over, so that it does not occur.
    pub unk: i64,
}

/// Text to token ids.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
}

impl Tokenizer {
    /// Trains a tokenizer on the texts of a corpus. The same texts give the same tokenizer.
    ///
    /// # Errors
    /// [`Error::Config`] when the vocabulary is too small to hold the bytes.
    pub fn train(corpus: &Corpus, config: TokenizerConfig) -> Result<Self> {
        let least = BYTES + SPECIAL.len();
        if config.vocab_size < least {
            return Err(Error::config("vocab_size", config.vocab_size, format!("at least {least}")));
        }
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        let bytes = ByteLevel::new(true, true, true);
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(bytes)));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(bytes)));
        inner
            .with_normalizer(config.lowercase.then_some(NormalizerWrapper::Lowercase(Lowercase)))
            .map_err(|e| Error::Other(format!("the tokenizer's normalizer: {e}")))?;
        let trainer = BpeTrainer::builder()
            .vocab_size(config.vocab_size)
            .min_frequency(config.min_frequency)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(SPECIAL.iter().map(|s| AddedToken::from(*s, true)).collect())
            .build();
        let texts = corpus.documents.iter().map(|document| document.text.as_str());
        inner
            .train(&mut TrainerWrapper::BpeTrainer(trainer), texts)
            .map_err(|e| Error::Other(format!("the tokenizer cannot be trained: {e}")))?;
        Self::of(inner, Path::new("tokenizer"))
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is damaged or lacks a special token.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| Error::data(path, format!("no tokenizer.json: {e}")))?;
        Self::of(inner, path)
    }

    /// Writes a `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = self.inner.to_string(true).map_err(|e| Error::Other(format!("the tokenizer: {e}")))?;
        write_whole(path, text.as_bytes())
    }

    /// The number of tokens: ids lie below it.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of the special tokens.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// The token ids of a text, and for each the number of the word that it is part of. No special tokens are added,
    /// and a text that spells one gets its letters.
    ///
    /// # Errors
    /// [`Error::Other`] when the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<(Vec<i64>, Vec<i64>)> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| Error::Other(format!("a text cannot be encoded: {e}")))?;
        let ids = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        let words = encoding.get_word_ids().iter().map(|word| word.map_or(-1, i64::from)).collect();
        Ok((ids, words))
    }

    /// The text of token ids; special tokens are left out.
    ///
    /// # Errors
    /// [`Error::Other`] when an id is no token.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let tokens = 0..self.vocab_size() as i64;
        if let Some(bad) = ids.iter().find(|id| !tokens.contains(id)) {
            return Err(Error::Other(format!("{bad} is no token: ids lie in {tokens:?}")));
        }
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        self.inner.decode(&ids, true).map_err(|e| Error::Other(format!("tokens cannot be decoded: {e}")))
    }

    fn of(mut inner: tokenizers::Tokenizer, path: &Path) -> Result<Self> {
        inner.set_encode_special_tokens(true);
        let id = |text: &str| {
            let found = inner.token_to_id(text).map(i64::from);
            found.ok_or_else(|| {
                Error::data(path, format!("lacks the token {text}; it needs {}", SPECIAL.join(" ")))
            })
        };
        let special = SpecialTokens {
            pad: id(SPECIAL[0])?,
            cls: id(SPECIAL[1])?,
            sep: id(SPECIAL[2])?,
            mask: id(SPECIAL[3])?,
            unk: id(SPECIAL[4])?,
        };
        Ok(Tokenizer { inner, special })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Document;

    fn corpus() -> Corpus {
        let text = "The cats sat on the mats. The cats, the mats and the bats sat.\nThat was that.";
        let document = Document { name: "a".to_owned(), text: text.repeat(5), label: None };
        Corpus::new(vec![document], vec![]).unwrap()
    }

    fn train(vocab_size: usize) -> Tokenizer {
        Tokenizer::train(&corpus(), TokenizerConfig { vocab_size, ..TokenizerConfig::default() }).unwrap()
    }

    #[test]
    fn special_tokens_come_first_and_the_vocabulary_keeps_its_size() {
        let tokenizer = train(280);
        let expected = SpecialTokens { pad: 0, cls: 1, sep: 2, mask: 3, unk: 4 };
        assert_eq!((tokenizer.special(), tokenizer.vocab_size()), (expected, 280));
    }

    #[test]
    fn every_text_comes_back_and_words_are_numbered() {
        let tokenizer = train(280);
        for text in
            [" the cats sat.", " na\u{ef}ve \u{6f22}\u{5b57} \u{1f600}\n\ttabs", " [MASK] [PAD] is spelled"]
        {
            let (ids, words) = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert_eq!(ids.len(), words.len());
            assert!(ids.iter().all(|&id| id > 4), "{ids:?}");
            assert!(
                words[0] == 0 && words.windows(2).all(|w| w[1] - w[0] == 0 || w[1] - w[0] == 1),
                "{words:?}"
            );
        }
        let (_, words) = tokenizer.encode("the cats.").unwrap();
        assert_eq!(words.last(), Some(&2));
        assert!(tokenizer.decode(&[280]).is_err());
    }

    #[test]
    fn training_repeats_itself_and_files_keep_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a.json"), folder.path().join("b.json"));
        train(290).save(&first).unwrap();
        train(290).save(&second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        let (opened, trained) = (Tokenizer::open(&first).unwrap(), train(290));
        let text = "That [SEP] mat";
        assert_eq!(opened.encode(text).unwrap(), trained.encode(text).unwrap());
    }

    #[test]
    fn a_file_is_replaced_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("tokenizer.json"), folder.path().join("other"));
        train(280).save(&path).unwrap();
        std::fs::hard_link(&path, &other).unwrap();
        train(285).save(&path).unwrap();
        // What the old file held is whole to the last moment.
        assert_eq!(Tokenizer::open(&other).unwrap().vocab_size(), 280);
        assert_eq!(Tokenizer::open(&path).unwrap().vocab_size(), 285);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn lower_case_is_a_choice() {
        let config = TokenizerConfig { vocab_size: 280, lowercase: true, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&corpus(), config).unwrap();
        assert_eq!(tokenizer.encode("THE cats").unwrap(), tokenizer.encode("the Cats").unwrap());
    }

    #[test]
    fn refuses_a_vocabulary_without_room_for_the_bytes_and_files_of_others() {
        let config = TokenizerConfig { vocab_size: 100, ..TokenizerConfig::default() };
        let error = Tokenizer::train(&corpus(), config).unwrap_err().to_string();
        assert_eq!(error, "vocab_size = 100: at least 261");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: no tokenizer.json"), "{error}");
    }
}
