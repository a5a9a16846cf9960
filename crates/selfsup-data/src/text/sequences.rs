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
