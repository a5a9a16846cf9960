//! BERT's Transformer encoder for text (Devlin et al. 2019): token and position embeddings, then post-norm blocks,
//! `z <- norm(z + attention(z))`, `z <- norm(z + mlp(z))`, with GELU.
//!
//! Parameter names and shapes are those of `BertModel` in Hugging Face's transformers, so that its weights load
//! here: `embeddings.word_embeddings.weight`, `encoder.layer.0.attention.self.query.weight` and so on. Its pooler (a
//! layer for next-sentence prediction) is left out: skip `pooler.` when loading. Its second segment embedding is kept,
//! but every token here belongs to the first segment. Weights are drawn from the truncated normal distribution of
//! BERT's own code.

use crate::input::{check_keep, check_rate, check_sizes, check_tokens, shape};
use crate::pooling::Pooling;
use selfsup_core::layers::{Embedding, LayerNorm, Linear, truncated_normal};
use selfsup_core::transformer::{check_block, gather_tokens, linear, multi_head_attention};
use selfsup_core::{Device, Encoder, Error, Kind, Mode, Result, Tensor, TokenEncoder, nn};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The shape of a [`TextTransformer`]; by default that of BERT-base (section 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextTransformerConfig {
    /// The number of token ids.
    pub vocabulary: i64,
    /// The longest sequence.
    pub max_length: i64,
    /// The size of a token's vector, `D`.
    pub dim: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The number of attention heads; divides `dim`.
    pub heads: i64,
    /// The hidden size of a block's perceptron, as a multiple of `dim`.
    pub mlp_ratio: f64,
    /// The probability of dropping an activation or an attention weight in training.
    pub dropout: f64,
    /// The id that fills short sequences; nothing looks at it.
    pub pad_id: i64,
    /// How the tokens make one feature vector.
    pub pooling: Pooling,
}

impl Default for TextTransformerConfig {
    fn default() -> Self {
        TextTransformerConfig {
            vocabulary: 30522,
            max_length: 512,
            dim: 768,
            depth: 12,
            heads: 12,
            mlp_ratio: 4.0,
            dropout: 0.1,
            pad_id: 0,
            pooling: Pooling::Average,
        }
    }
}

const EPS: f64 = 1e-12;

#[derive(Debug)]
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    heads: i64,
    dropout: f64,
}

impl Block {
    fn new(path: &nn::Path, config: &TextTransformerConfig, hidden: i64) -> Self {
        let (dim, attention, output) = (config.dim, path / "attention", path / "output");
        let (looks, attended) = (&attention / "self", &attention / "output");
        Block {
            query: linear(&looks / "query", dim, dim, truncated_normal),
            key: linear(&looks / "key", dim, dim, truncated_normal),
            value: linear(&looks / "value", dim, dim, truncated_normal),
            attention_output: linear(&attended / "dense", dim, dim, truncated_normal),
            attention_norm: LayerNorm::new(&attended / "LayerNorm", dim, EPS),
            intermediate: linear(path / "intermediate" / "dense", dim, hidden, truncated_normal),
            output: linear(&output / "dense", hidden, dim, truncated_normal),
            output_norm: LayerNorm::new(&output / "LayerNorm", dim, EPS),
            heads: config.heads,
            dropout: config.dropout,
        }
    }

    /// `x` `[N, T, D]` to the same shape; `visible` `[N, 1, 1, T]` is true where there is no padding.
    fn forward(&self, x: &Tensor, visible: &Tensor, mode: Mode) -> Tensor {
        let dropout = |x: Tensor| x.dropout(self.dropout, mode.is_train());
        let attention_dropout = if mode.is_train() { self.dropout } else { 0.0 };
        let (q, k, v) = (self.query.forward(x), self.key.forward(x), self.value.forward(x));
        let attended = multi_head_attention([&q, &k, &v], self.heads, Some(visible), attention_dropout);
        let x = self.attention_norm.forward(&(x + dropout(self.attention_output.forward(&attended))));
        let hidden = self.intermediate.forward(&x).gelu("none"); // [N, T, hidden]
        self.output_norm.forward(&(&x + dropout(self.output.forward(&hidden))))
    }
}

fn embedding(path: nn::Path, rows: i64, dim: i64) -> Embedding {
    let embedding = Embedding::new(path, rows, dim);
    truncated_normal(&embedding.weight, 0.02);
    embedding
}

/// A Transformer on the tokens of a text.
#[derive(Debug)]
pub struct TextTransformer {
    /// The vectors of the token ids, `[V, D]`; a masked language model's head shares them.
    pub word_embeddings: Embedding,
    config: TextTransformerConfig,
    position_embeddings: Embedding,
    segment_embeddings: Embedding,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl TextTransformer {
    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, `heads` does not divide `dim`, `dropout` is no probability below
    /// 1, or `pad_id` is outside the vocabulary.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, config: &TextTransformerConfig) -> Result<Self> {
        let path = path.borrow();
        let TextTransformerConfig { vocabulary, max_length, dim, depth, heads, mlp_ratio, .. } = *config;
        check_sizes(&[
            ("vocabulary", vocabulary),
            ("max_length", max_length),
            ("dim", dim),
            ("depth", depth),
            ("heads", heads),
        ])?;
        let hidden = check_block(dim, heads, mlp_ratio)?;
        check_rate("dropout", config.dropout)?;
        if !(0..vocabulary).contains(&config.pad_id) {
            let expected = format!("a token id in 0..{vocabulary}");
            return Err(Error::config("pad_id", config.pad_id, expected));
        }

        let (embeddings, layers) = (path / "embeddings", path / "encoder" / "layer");
        Ok(TextTransformer {
            word_embeddings: embedding(&embeddings / "word_embeddings", vocabulary, dim),
            config: config.clone(),
            position_embeddings: embedding(&embeddings / "position_embeddings", max_length, dim),
            segment_embeddings: embedding(&embeddings / "token_type_embeddings", 2, dim),
            norm: LayerNorm::new(&embeddings / "LayerNorm", dim, EPS),
            blocks: (0..depth).map(|i| Block::new(&(&layers / i), config, hidden)).collect(),
        })
    }

    /// The tokens `[N, T, D]`, and where there is no padding, `[N, T]` Bool.
    fn forward(
        &self,
        x: &Tensor,
        keep: Option<&Tensor>,
        mode: Mode,
        visit: &mut dyn FnMut(String, &Tensor),
    ) -> Result<(Tensor, Tensor)> {
        let TextTransformerConfig { vocabulary, max_length, .. } = self.config;
        let [n, t] = check_tokens(x, vocabulary, max_length, &self.word_embeddings.weight)?;
        let mut visible = x.not_equal(self.config.pad_id); // [N, T]
        let positions = self.position_embeddings.weight.narrow(0, 0, t); // [T, D]
        let segment = self.segment_embeddings.weight.narrow(0, 0, 1); // [1, D]
        let mut z = self.word_embeddings.forward(x) + (positions + segment); // [N, T, D]
        if let Some(keep) = keep {
            check_keep(keep, n, t)?;
            z = gather_tokens(&z, keep); // [N, K, D]
            visible = visible.gather(1, keep, false);
        }
        check_not_all_padding(&visible)?;
        z = self.norm.forward(&z).dropout(self.config.dropout, mode.is_train());
        visit("embeddings".to_owned(), &z);
        let mask = visible.unsqueeze(1).unsqueeze(1); // [N, 1, 1, T]
        for (i, block) in self.blocks.iter().enumerate() {
            z = block.forward(&z, &mask, mode);
            visit(format!("encoder.layer.{i}"), &z);
        }
        Ok((z, visible))
    }

    fn pool(&self, tokens: &Tensor, visible: &Tensor) -> Tensor {
        match self.config.pooling {
            Pooling::ClassToken => tokens.select(1, 0),
            Pooling::Average => {
                let weights = visible.to_kind(tokens.kind()).unsqueeze(-1); // [N, T, 1]
                let sum = (tokens * &weights).sum_dim_intlist([1_i64].as_slice(), false, None);
                sum / weights.sum_dim_intlist([1_i64].as_slice(), false, None) // [N, D]
            }
        }
    }
}

/// Refuses a text without a token, of which there is no average. On the CPU only: elsewhere the answer would make every
/// step wait for the device.
fn check_not_all_padding(visible: &Tensor) -> Result<()> {
    if visible.device() == Device::Cpu {
        let empty = visible.any_dim(1, false).logical_not(); // [N]
        if bool::try_from(empty.any())? {
            let row = i64::try_from(empty.to_kind(Kind::Int64).argmax(0, false))?;
            return Err(shape(
                "tokens",
                "a token besides padding in every row",
                format!("none in row {row}"),
            ));
        }
    }
    Ok(())
}

impl Encoder for TextTransformer {
    fn dim(&self) -> i64 {
        self.config.dim
    }

    /// # Shapes
    /// `[N, T]` Int64 to `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokens are of another kind or longer than `max_length`, an id is outside the
    /// vocabulary, or a row is all padding (the last two are checked on the CPU).
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (tokens, visible) = self.forward(x, None, mode, &mut |_, _| ())?;
        Ok(self.pool(&tokens, &visible))
    }

    /// `embeddings`, `encoder.layer.0`, `encoder.layer.1`, ..., `[N, T, D]`, and `features`.
    fn intermediate(&self, x: &Tensor, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        let (tokens, visible) =
            self.forward(x, None, mode, &mut |name, x| all.push((name, x.shallow_clone())))?;
        all.push(("features".to_owned(), self.pool(&tokens, &visible)));
        Ok(all)
    }
}

impl TokenEncoder for TextTransformer {
    /// The vectors at padding are not meant to be used.
    ///
    /// # Shapes
    /// `[N, T]` Int64 to `[N, T, D]`, or `[N, K, D]` with `keep`, whose tokens keep their positions.
    ///
    /// # Errors
    /// As [`encode`](Encoder::encode), and when `keep` names a token that there is not.
    fn tokens(&self, x: &Tensor, keep: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        Ok(self.forward(x, keep, mode, &mut |_, _| ())?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{assert_ends, assert_gradients, difference, fill, fingerprint, parameters};

    // c = transformers.BertConfig(vocab_size=50, max_position_embeddings=12, hidden_size=24, num_hidden_layers=2,
    //     num_attention_heads=3, intermediate_size=96)
    // m = fill(transformers.BertModel(c, add_pooling_layer=False))
    fn small() -> TextTransformerConfig {
        TextTransformerConfig {
            vocabulary: 50,
            max_length: 12,
            dim: 24,
            depth: 2,
            heads: 3,
            ..TextTransformerConfig::default()
        }
    }

    fn built(config: &TextTransformerConfig) -> (nn::VarStore, TextTransformer) {
        let store = nn::VarStore::new(Device::Cpu);
        let network = TextTransformer::new(store.root(), config).unwrap();
        fill(&store);
        (store, network)
    }

    // i = torch.arange(18).reshape(2, 9); t = (i * i * 7 + i * 3) % 49 + 1; t[1, 6:] = 0
    fn tokens() -> Tensor {
        Tensor::from_slice2(&[[1_i64, 11, 35, 24, 27, 44, 26, 22, 32], [7, 45, 48, 16, 47, 43, 0, 0, 0]])
    }

    // print(fingerprint(m), sum(p.numel() for p in m.parameters()))
    // y = m(t, attention_mask=(t != 0).long()).last_hidden_state; k = (t != 0).float()[:, :, None]
    // print(ends(y[:, :6]), ends(y[:, 0]), ends((y * k).sum(1) / k.sum(1)))
    #[test]
    fn equals_bert_of_transformers() {
        let (store, network) = built(&small());
        assert_eq!((fingerprint(&store), parameters(&store)), (0xec38_e4d2_0746_fd8c, 16032));
        assert_ends(
            &network.tokens(&tokens(), None, Mode::Eval).unwrap().narrow(1, 0, 6),
            [0.131388, 0.992842, -2.176665, -0.904554, -0.083577, -0.288987, 1.606624, -1.405415],
        );
        assert_ends(
            &network.encode(&tokens(), Mode::Eval).unwrap(),
            [1.235459, 0.051464, -1.165538, -0.617065, -0.106233, -0.028196, 0.859616, -0.572814],
        );
        let (_store, network) = built(&TextTransformerConfig { pooling: Pooling::ClassToken, ..small() });
        assert_ends(
            &network.encode(&tokens(), Mode::Eval).unwrap(),
            [0.131388, 0.992842, -2.176665, -0.904554, 0.33061, 0.251851, 0.590015, -0.866676],
        );
    }

    #[test]
    fn more_padding_changes_nothing() {
        let (_store, network) = built(&small());
        let padded = Tensor::cat(&[tokens(), tokens().narrow(1, 0, 3).zeros_like()], 1); // [2, 12]
        let found = network.encode(&padded, Mode::Eval).unwrap();
        assert!(difference(&found, &network.encode(&tokens(), Mode::Eval).unwrap()) < 1e-5);
    }

    #[test]
    fn kept_tokens_keep_their_positions() {
        let (_store, network) = built(&small());
        let order = Tensor::from_slice2(&[[4_i64, 0, 8, 1, 2, 3, 5, 6, 7], [1, 0, 2, 3, 4, 5, 8, 6, 7]]);
        let found = network.tokens(&tokens(), Some(&order), Mode::Eval).unwrap();
        let all = network.tokens(&tokens(), None, Mode::Eval).unwrap();
        assert!(difference(&found, &gather_tokens(&all, &order)) < 1e-5);
        let some = network.tokens(&tokens(), Some(&order.narrow(1, 0, 3)), Mode::Eval).unwrap();
        assert_eq!(some.size(), [2, 3, 24]);
    }

    #[test]
    fn drops_in_training_only() {
        let (_store, network) = built(&small());
        let encode = |mode| network.encode(&tokens(), mode).unwrap();
        assert_eq!(encode(Mode::Eval), encode(Mode::Eval));
        assert!(difference(&encode(Mode::Train), &encode(Mode::Eval)) > 0.01);
    }

    #[test]
    fn names_its_intermediate_features() {
        let (_store, network) = built(&small());
        let all = network.intermediate(&tokens(), Mode::Eval).unwrap();
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["embeddings", "encoder.layer.0", "encoder.layer.1", "features"]);
        assert_eq!(all[2].1, network.tokens(&tokens(), None, Mode::Eval).unwrap());
        assert_eq!(all[3].1, network.encode(&tokens(), Mode::Eval).unwrap());
    }

    #[test]
    fn gradients_reach_all_parameters() {
        let (store, network) = built(&TextTransformerConfig { dropout: 0.0, ..small() });
        assert_gradients(&store, &network.encode(&tokens(), Mode::Train).unwrap());
    }

    #[test]
    fn rejects_tokens_that_do_not_fit() {
        let (_store, network) = built(&small());
        let error = |x: &Tensor| network.encode(x, Mode::Eval).unwrap_err().to_string();
        assert_eq!(error(&(tokens() + 2)), "tokens: expected indices in 0..50, found 2..=50");
        assert!(error(&(tokens() - 2)).contains("found -2..=46"));
        let long = tokens().repeat([1, 2]);
        assert!(error(&long).contains("T from 1 to max_length = 12, found [2, 18]"), "{}", error(&long));
        assert!(error(&tokens().to_kind(Kind::Float)).contains("kind Int64"));
        assert!(error(&tokens().flatten(0, 1)).contains("found [18]"));
        let empty = tokens() * Tensor::from_slice2(&[[1_i64], [0]]);
        assert_eq!(
            error(&empty),
            "tokens: expected a token besides padding in every row, found none in row 1"
        );
    }

    #[test]
    fn rejects_sizes_that_do_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        for (config, message) in [
            (TextTransformerConfig { heads: 5, ..small() }, "heads = 5: a divisor of dim = 24"),
            (TextTransformerConfig { pad_id: 50, ..small() }, "pad_id = 50: a token id in 0..50"),
            (TextTransformerConfig { dropout: -0.1, ..small() }, "dropout = -0.1: a probability in [0, 1)"),
            (TextTransformerConfig { max_length: 0, ..small() }, "max_length = 0: a size of at least 1"),
        ] {
            assert_eq!(TextTransformer::new(store.root(), &config).unwrap_err().to_string(), message);
        }
    }
}
