//! Documents cut into sequences of one length.

use super::{Corpus, Tokenizer};
use rayon::prelude::*;
use selfsup_core::{Dataset, Error, Result};

/// One sequence of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids: `[CLS]`, a piece of a document, `[SEP]`, padding.
    pub tokens: Vec<i64>,
    /// The number of the word that each token is part of, from 0; -1 for special tokens.
    pub words: Vec<i64>,
}

/// The documents of a corpus, cut into sequences of `length` tokens.
///
/// A document begins a new sequence, and no word is cut in two unless it is longer than a sequence.
#[derive(Clone, Debug)]
pub struct TokenSequences {
    length: usize,
    tokens: Vec<i64>,
    words: Vec<i64>,
    documents: Vec<usize>,
    labels: Option<Vec<i64>>,
}

impl TokenSequences {
    /// Encodes and cuts the documents; those without a token give no sequence.
    ///
    /// # Errors
    /// [`Error::Config`] when `length` leaves no room beside `[CLS]` and `[SEP]`, or there is no sequence.
    pub fn new(tokenizer: &Tokenizer, corpus: &Corpus, length: usize) -> Result<Self> {
        if length < 3 {
            return Err(Error::config("length", length, "at least 3 tokens: [CLS], one of the text, [SEP]"));
        }
        let special = tokenizer.special();
        let encoded: Vec<(Vec<i64>, Vec<i64>)> = corpus
            .documents
            .par_iter()
            .map(|document| tokenizer.encode(&document.text))
            .collect::<Result<_>>()?;
        let (mut tokens, mut words, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        for (document, (ids, word_ids)) in encoded.iter().enumerate() {
            let mut start = 0;
            while start < ids.len() {
                let end = piece_end(word_ids, start, length - 2);
                let padding = length - 2 - (end - start);
                tokens.push(special.cls);
                tokens.extend(&ids[start..end]);
                tokens.push(special.sep);
                tokens.extend(std::iter::repeat_n(special.pad, padding));
                words.push(-1);
                words.extend(word_ids[start..end].iter().map(|word| word - word_ids[start]));
                words.extend(std::iter::repeat_n(-1, padding + 1));
                documents.push(document);
                start = end;
            }
        }
        if documents.is_empty() {
            return Err(Error::config("corpus", "no tokens", "at least one document with text"));
        }
        let labels = corpus.labels().map(|labels| documents.iter().map(|&d| labels[d]).collect());
        Ok(TokenSequences { length, tokens, words, documents, labels })
    }

    /// The number of tokens in every sequence.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The document that each sequence is a piece of.
    pub fn documents(&self) -> &[usize] {
        &self.documents
    }

    /// The class of each sequence's document; nothing unless all documents have one.
    pub fn labels(&self) -> Option<Vec<i64>> {
        self.labels.clone()
    }
}

/// Where the piece that begins at `start` and holds at most `room` tokens ends: between two words if it can.
fn piece_end(words: &[i64], start: usize, room: usize) -> usize {
    let end = words.len().min(start + room);
    if end == words.len() {
        return end;
    }
    let boundary = (start + 1..=end).rev().find(|&i| words[i] != words[i - 1]);
    boundary.unwrap_or(end)
}

impl Dataset for TokenSequences {
    type Item = Sequence;

    fn len(&self) -> usize {
        self.documents.len()
    }

    fn get(&self, index: usize) -> Result<Sequence> {
        if index >= self.len() {
            return Err(Error::config("index", index, format!("a sequence in 0..{}", self.len())));
        }
        let range = index * self.length..(index + 1) * self.length;
        Ok(Sequence { tokens: self.tokens[range.clone()].to_vec(), words: self.words[range].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collate::{Collate, TokenCollate};
    use crate::text::{Document, TokenizerConfig};
    use proptest::prelude::*;
    use selfsup_core::Key;
    use std::sync::Arc;

    fn corpus(texts: &[&str]) -> Corpus {
        let document = |text: &&str| Document { name: "x".into(), text: (*text).to_owned(), label: Some(0) };
        Corpus::new(texts.iter().map(document).collect(), vec!["a".into()]).unwrap()
    }

    fn tokenizer() -> Tokenizer {
        // No pair occurs often enough to be merged: one token a byte, which makes lengths plain.
        let config = TokenizerConfig { vocab_size: 261, ..TokenizerConfig::default() };
        Tokenizer::train(&corpus(&["a"]), config).unwrap()
    }

    #[test]
    fn documents_are_framed_padded_and_cut_between_words() {
        let set = TokenSequences::new(&tokenizer(), &corpus(&["ab cde f", "", "gh"]), 7).unwrap();
        // " ab" and " cde" do not fit into 5 together; " cde" and " f" neither.
        let words: Vec<Vec<i64>> = (0..set.len()).map(|i| set.get(i).unwrap().words).collect();
        assert_eq!(words[0], [-1, 0, 0, 0, -1, -1, -1]);
        assert_eq!(words[1], [-1, 0, 0, 0, 0, -1, -1]);
        assert_eq!(words[2], [-1, 0, 0, -1, -1, -1, -1]);
        assert_eq!(words[3], [-1, 0, 0, 0, -1, -1, -1]);
        assert_eq!(set.documents(), [0, 0, 0, 2]);
        assert_eq!(set.labels().unwrap(), [0, 0, 0, 0]);
        let tokens = set.get(2).unwrap().tokens;
        assert_eq!((tokens[0], tokens[3], &tokens[4..]), (1, 2, &[0, 0, 0][..]));
    }

    #[test]
    fn batches_hold_the_sequences_row_by_row() {
        let sequences = Arc::new(TokenSequences::new(&tokenizer(), &corpus(&["ab", "c d"]), 6).unwrap());
        let batch = TokenCollate { sequences: Arc::clone(&sequences) }.collate(&[1, 0], Key::new(0)).unwrap();
        assert_eq!((batch.tokens.size(), batch.words.size()), (vec![2, 6], vec![2, 6]));
        assert_eq!(Vec::<i64>::try_from(&batch.indices).unwrap(), [1, 0]);
        let row = Vec::<i64>::try_from(&batch.tokens.get(1)).unwrap();
        assert_eq!(row, sequences.get(0).unwrap().tokens);
        assert!(TokenCollate { sequences }.collate(&[2], Key::new(0)).is_err());
    }

    #[test]
    fn refuses_lengths_without_room_and_texts_without_tokens() {
        let error = TokenSequences::new(&tokenizer(), &corpus(&["a"]), 2).unwrap_err().to_string();
        assert!(error.starts_with("length = 2: at least 3 tokens"), "{error}");
        assert!(TokenSequences::new(&tokenizer(), &corpus(&[""]), 8).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_lost(texts in prop::collection::vec("[a-d ]{0,40}", 1..5), length in 3_usize..20) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (tokenizer, corpus) = (tokenizer(), corpus(&texts));
            let Ok(set) = TokenSequences::new(&tokenizer, &corpus, length) else {
                prop_assert!(texts.iter().all(|text| text.is_empty()));
                return Ok(());
            };
            for (d, text) in texts.iter().enumerate() {
                let mut found = Vec::new();
                for i in (0..set.len()).filter(|&i| set.documents()[i] == d) {
                    let sequence = set.get(i).unwrap();
                    prop_assert_eq!(sequence.tokens.len(), length);
                    let body = sequence.tokens.iter().zip(&sequence.words).filter(|(_, word)| **word >= 0);
                    found.extend(body.map(|(token, _)| *token));
                }
                prop_assert_eq!(found, tokenizer.encode(text).unwrap().0);
            }
        }
    }
}
