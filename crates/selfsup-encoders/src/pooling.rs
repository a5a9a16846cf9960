//! How a network of tokens makes one vector of them.

use serde::{Deserialize, Serialize};

/// How a network of tokens makes one vector of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The first token: ViT's class token, BERT's `[CLS]`.
    ClassToken,
    /// The average: over ViT's patches (not its class token), over a text's tokens (not its padding).
    Average,
}
