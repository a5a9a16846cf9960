//! Text: documents, a tokenizer trained on them, and sequences of tokens of one length.
//!
//! ```
//! use selfsup_data::text::{Corpus, Document, TokenSequences, Tokenizer, TokenizerConfig};
//!
//! let document = |text: &str| Document { name: "a".into(), text: text.into(), label: None };
//! let corpus = Corpus::new(vec![document("the cat sat on the mat"), document("the dog sat too")], vec![])?;
//! let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
//! let tokenizer = Tokenizer::train(&corpus, config)?;
//! let sequences = TokenSequences::new(&tokenizer, &corpus, 8)?;
//! assert_eq!(sequences.length(), 8);
//! # Ok::<(), selfsup_core::Error>(())
//! ```

mod brown;
mod corpus;
mod sequences;
mod tokenizer;

pub use corpus::{Corpus, Document};
pub use sequences::{Sequence, TokenSequences};
pub use tokenizer::{SpecialTokens, Tokenizer, TokenizerConfig};
