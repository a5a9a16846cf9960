//! Masked language modelling: hide some tokens of a text and predict them from the rest.
//!
//! Devlin, Chang, Lee and Toutanova 2019, *BERT: Pre-training of Deep Bidirectional Transformers*, section 3.1, task 1:
//! 15 % of the tokens are chosen; of those 80 % become `[MASK]`, 10 % a random token, 10 % stay; the loss is the mean
//! cross-entropy over the chosen tokens. The prediction head is linear, GELU, LayerNorm, then the transposed token
//! embedding with a bias (appendix A and the authors' code).
//!
//! Differences from the paper: the mask is drawn anew at every step (dynamic masking, Liu et al. 2019, *RoBERTa*); every
//! token is chosen on its own with probability 0.15, so that the number varies around 15 %, as in today's libraries; a
//! random token is never a special one; there is no next-sentence task, which RoBERTa found to be of no use.
//!
//! The mask is drawn here and not where the sample is read, so that the method stands in one file; after the step's
//! `manual_seed` it is a function of the run's seed all the same.

use selfsup_core::layers::{Bias, LayerNorm, Linear, truncated_normal};
use selfsup_core::tch::Reduction;
use selfsup_core::{
    Error, Kind, Loss, Mode, Objective, Result, Step, Tensor, TokenBatch, TokenEncoder, check_kind,
    check_shape, nn,
};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The label of tokens that are not predicted; PyTorch's default for `ignore_index`.
pub const IGNORE: i64 = -100;

/// Settings of [`MaskedLanguageModelling`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskedLanguageModellingConfig {
    /// The share of tokens that are chosen: 0.15 (section 3.1).
    pub choose: f64,
    /// Of the chosen, the share that `[MASK]` replaces: 0.8 (section 3.1).
    pub mask: f64,
    /// Of the chosen, the share that a random token replaces: 0.1 (section 3.1); the others stay.
    pub random: f64,
    /// Whether all tokens of a word are chosen together (the authors' later models; off in the paper).
    pub whole_word: bool,
}

impl Default for MaskedLanguageModellingConfig {
    fn default() -> Self {
        MaskedLanguageModellingConfig { choose: 0.15, mask: 0.8, random: 0.1, whole_word: false }
    }
}

/// The ids that masking needs to know of a tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The number of tokens.
    pub size: i64,
    /// The id of `[MASK]`.
    pub mask_id: i64,
    /// The number of special tokens, which have the ids from 0 on.
    pub specials: i64,
}

/// A batch with a mask drawn over it.
#[derive(Debug)]
pub struct MaskedTokens {
    /// What the encoder sees, `[N, T]` Int64.
    pub inputs: Tensor,
    /// The original ids of the chosen tokens, [`IGNORE`] elsewhere, `[N, T]` Int64.
    pub labels: Tensor,
}

/// The masked language modelling objective with BERT's prediction head.
#[derive(Debug)]
pub struct MaskedLanguageModelling {
    config: MaskedLanguageModellingConfig,
    vocabulary: Vocabulary,
    dense: Linear,
    norm: LayerNorm,
    embedding: Tensor,
    bias: Tensor,
}

impl MaskedLanguageModelling {
    /// Makes the head under `path`. `embedding` is the encoder's token embedding `[V, D]`, which the head shares.
    ///
    /// # Errors
    /// [`Error::Config`] when a share lies outside `[0, 1]` or `[MASK]` outside the vocabulary; [`Error::Shape`] when the
    /// embedding has another number of rows than the vocabulary.
    pub fn new<'a>(
        path: impl Borrow<nn::Path<'a>>,
        embedding: &Tensor,
        vocabulary: Vocabulary,
        config: MaskedLanguageModellingConfig,
    ) -> Result<Self> {
        let path = path.borrow();
        if !(config.choose > 0.0 && config.choose <= 1.0) {
            return Err(Error::config("choose", config.choose, "a share above 0 and at most 1"));
        }
        if !(config.mask >= 0.0 && config.random >= 0.0 && config.mask + config.random <= 1.0) {
            let value = format!("{} + {}", config.mask, config.random);
            return Err(Error::config("mask + random", value, "shares of at least 0 and at most 1 together"));
        }
        let Vocabulary { size, mask_id, specials } = vocabulary;
        if !(0 <= mask_id && mask_id < specials && specials < size) {
            return Err(Error::config(
                "mask_id",
                mask_id,
                format!("one of the {specials} specials of {size} tokens"),
            ));
        }
        let [_, d] = check_shape("embedding", embedding, [size, -1])?;
        let dense = Linear::new(path / "transform" / "dense", d, d, Bias::Yes);
        truncated_normal(&dense.weight, 0.02);
        Ok(MaskedLanguageModelling {
            config,
            vocabulary,
            dense,
            norm: LayerNorm::new(path / "transform" / "LayerNorm", d, 1e-12),
            embedding: embedding.shallow_clone(),
            bias: path.zeros("bias", &[size]),
        })
    }

    /// Draws a mask over a batch from libtorch's generator.
    ///
    /// # Errors
    /// [`Error::Shape`] when tokens and words differ in shape.
    pub fn mask(&self, batch: &TokenBatch) -> Result<MaskedTokens> {
        let [n, t] = check_shape("tokens", &batch.tokens, [-1, -1])?;
        check_kind("tokens", &batch.tokens, Kind::Int64)?;
        check_shape("words", &batch.words, [n, t])?;
        let uniform = || Tensor::rand([n, t], (Kind::Float, batch.tokens.device()));
        let draw = if self.config.whole_word {
            uniform().gather(1, &batch.words.clamp_min(0), false) // [N, T]: one draw a word, of which there are at most T
        } else {
            uniform()
        };
        let chosen = draw.lt(self.config.choose).logical_and(&batch.words.ge(0)); // [N, T]
        let fate = uniform(); // [N, T]
        let masked = chosen.logical_and(&fate.lt(self.config.mask));
        let replaced = chosen.logical_and(&fate.ge(1.0 - self.config.random));
        let Vocabulary { size, mask_id, specials } = self.vocabulary;
        let random = Tensor::randint_low(specials, size, [n, t], (Kind::Int64, batch.tokens.device()));
        let inputs = batch.tokens.where_self(&replaced.logical_not(), &random).masked_fill(&masked, mask_id);
        let labels = batch.tokens.masked_fill(&chosen.logical_not(), IGNORE);
        Ok(MaskedTokens { inputs, labels })
    }

    /// Predicts the chosen tokens of a masked batch. Returns their logits `[K, V]` and labels `[K]`; the head does not
    /// run on the tokens that nobody asks for.
    ///
    /// # Errors
    /// [`Error::Shape`] when the encoder's tokens do not fit.
    pub fn predict<E: TokenEncoder + ?Sized>(
        &self,
        encoder: &E,
        masked: &MaskedTokens,
        mode: Mode,
    ) -> Result<(Tensor, Tensor)> {
        let [n, t] = check_shape("labels", &masked.labels, [-1, -1])?;
        let hidden = encoder.tokens(&masked.inputs, None, mode)?; // [N, T, D]
        let [_, _, d] = check_shape("encoded tokens", &hidden, [n, t, self.embedding.size()[1]])?;
        let labels = masked.labels.reshape([-1]); // [N * T]
        let chosen = labels.ne(IGNORE).nonzero().squeeze_dim(1); // [K]
        let hidden = hidden.reshape([-1, d]).index_select(0, &chosen); // [K, D]
        let hidden = self.norm.forward(&self.dense.forward(&hidden).gelu("none")); // [K, D]
        Ok((hidden.linear(&self.embedding, Some(&self.bias)), labels.index_select(0, &chosen)))
    }
}

impl<E: TokenEncoder + ?Sized> Objective<E> for MaskedLanguageModelling {
    type Batch = TokenBatch;

    fn loss(&mut self, encoder: &E, batch: &TokenBatch, _step: &Step) -> Result<Loss> {
        let masked = self.mask(batch)?;
        let (logits, labels) = self.predict(encoder, &masked, Mode::Train)?; // [K, V], [K]
        // A short batch may have nothing chosen: its loss is zero, with a gradient of zero.
        let chosen = labels.size()[0].max(1) as f64;
        let loss =
            logits.log_softmax(-1, Kind::Float).g_nll_loss(&labels, None::<Tensor>, Reduction::Sum, IGNORE)
                / chosen;
        let hits = logits.argmax(-1, false).eq_tensor(&labels).to_kind(Kind::Float).sum(None) / chosen;
        Ok(Loss::new(loss).with("masked_accuracy", &hits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Encoder, Key, TensorExt};

    const VOCABULARY: Vocabulary = Vocabulary { size: 7, mask_id: 3, specials: 5 };

    fn waves(shape: &[i64], shift: f64, scale: f64) -> Tensor {
        let n = shape.iter().product::<i64>();
        ((Tensor::arange(n, (Kind::Float, Device::Cpu)) * 0.37 + shift).sin() * scale).reshape(shape)
    }

    /// An encoder that gives every position a fixed vector and remembers nothing.
    #[derive(Debug)]
    struct Fixed(Tensor);

    impl Encoder for Fixed {
        fn dim(&self) -> i64 {
            4
        }
        fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
            Ok(self.tokens(x, None, mode)?.mean_dim(1, false, None))
        }
    }

    impl TokenEncoder for Fixed {
        fn tokens(&self, x: &Tensor, _keep: Option<&Tensor>, _mode: Mode) -> Result<Tensor> {
            let [n, t] = check_shape("tokens", x, [-1, -1])?;
            Ok(self.0.narrow(0, 0, n).narrow(1, 0, t))
        }
    }

    fn objective(
        store: &nn::VarStore,
        config: MaskedLanguageModellingConfig,
    ) -> Result<MaskedLanguageModelling> {
        let embedding = store.root().add("embedding", waves(&[7, 4], 4.0, 0.3), true);
        MaskedLanguageModelling::new(store.root() / "objective", &embedding, VOCABULARY, config)
    }

    fn batch(n: i64, t: i64) -> TokenBatch {
        let options = (Kind::Int64, Device::Cpu);
        let words = Tensor::arange(t, options).divide_scalar_mode(2, "floor").repeat([n, 1]);
        let ends = Tensor::arange(t, options).eq(0).logical_or(&Tensor::arange(t, options).eq(t - 1));
        TokenBatch {
            tokens: (Tensor::arange(n * t, options).remainder(2) + 5).reshape([n, t]),
            words: words.masked_fill(&ends, -1),
            indices: Tensor::arange(n, options),
        }
    }

    #[test]
    fn head_and_loss_equal_transformers() {
        // from transformers import BertConfig; import torch
        // from transformers.models.bert.modeling_bert import BertLMPredictionHead
        // f = lambda shape, k, s=0.3: (torch.sin(torch.arange(math.prod(shape)) * 0.37 + k) * s).reshape(shape)
        // h = BertLMPredictionHead(BertConfig(vocab_size=7, hidden_size=4)); t = h.transform
        // t.dense.weight, t.dense.bias = f((4, 4), 0), f((4,), 1)
        // t.LayerNorm.weight, t.LayerNorm.bias = 1 + f((4,), 2), f((4,), 3)
        // h.decoder.weight, h.decoder.bias = f((7, 4), 4), f((7,), 5)
        // y = h(f((2, 3, 4), 6, 1.)); labels = torch.tensor([[-100, 3, -100], [1, -100, 6]])
        // print(F.cross_entropy(y.view(-1, 7), labels.view(-1)), y[0, 1])
        let store = nn::VarStore::new(Device::Cpu);
        let objective = objective(&store, MaskedLanguageModellingConfig::default()).unwrap();
        let v = store.variables();
        selfsup_core::tch::no_grad(|| {
            for (name, value) in [
                ("objective.transform.dense.weight", waves(&[4, 4], 0.0, 0.3)),
                ("objective.transform.dense.bias", waves(&[4], 1.0, 0.3)),
                ("objective.transform.LayerNorm.weight", waves(&[4], 2.0, 0.3) + 1.0),
                ("objective.transform.LayerNorm.bias", waves(&[4], 3.0, 0.3)),
                ("objective.bias", waves(&[7], 5.0, 0.3)),
            ] {
                v[name].shallow_clone().copy_(&value);
            }
        });
        let labels = Tensor::from_slice(&[IGNORE, 3, IGNORE, 1, IGNORE, 6]).reshape([2, 3]);
        let masked = MaskedTokens { inputs: labels.zeros_like(), labels };
        let (logits, labels) =
            objective.predict(&Fixed(waves(&[2, 3, 4], 6.0, 1.0)), &masked, Mode::Eval).unwrap();
        assert_eq!(labels, Tensor::from_slice(&[3_i64, 1, 6]));
        let expected = [
            -0.208_892_3_f32,
            -0.677_450_4,
            -0.313_638_3,
            0.359_560_8,
            0.291_821_1,
            -0.207_890_9,
            -0.058_365_7,
        ];
        assert!((logits.get(0) - Tensor::from_slice(&expected)).abs().max().scalar().unwrap() < 1e-5);
        let loss = logits.cross_entropy_for_logits(&labels).scalar().unwrap();
        assert!((loss - 1.767_219_9).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn chooses_and_replaces_in_the_papers_shares() {
        let store = nn::VarStore::new(Device::Cpu);
        let objective = objective(&store, MaskedLanguageModellingConfig::default()).unwrap();
        let batch = batch(200, 102);
        let masked = objective.mask(&batch).unwrap();
        let count = |x: &Tensor| x.to_kind(Kind::Float).sum(None).scalar().unwrap();
        let chosen = masked.labels.ne(IGNORE);
        let n = count(&chosen);
        // Standard deviations of the binomials: 50 of 20,000 x 0.15, 22 of 3,000 x 0.8, 16 of 3,000 x 0.1.
        assert!((n - 3000.0).abs() < 250.0, "{n}");
        assert!((count(&masked.inputs.eq(3)) / n - 0.8).abs() < 0.04);
        // The data hold two ordinary tokens, of which a random one is the right one half of the time.
        let changed = masked.inputs.ne_tensor(&batch.tokens).logical_and(&masked.inputs.ne(3));
        assert!((count(&changed) / n - 0.05).abs() < 0.025);
        assert_eq!(
            count(&masked.inputs.lt(5).logical_and(&masked.inputs.ne(3))),
            0.0,
            "no special token appears"
        );
        assert_eq!(count(&chosen.logical_and(&batch.words.lt(0))), 0.0, "no special token is chosen");
        let untouched = chosen.logical_not();
        assert_eq!(count(&untouched.logical_and(&masked.inputs.ne_tensor(&batch.tokens))), 0.0);
        assert_eq!(count(&chosen.logical_and(&masked.labels.ne_tensor(&batch.tokens))), 0.0);
    }

    #[test]
    fn whole_words_are_chosen_together() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = MaskedLanguageModellingConfig { whole_word: true, ..Default::default() };
        let objective = objective(&store, config).unwrap();
        let masked = objective.mask(&batch(100, 102)).unwrap();
        // Words are tokens (2, 3), (4, 5), ...; tokens 1 and 100 share theirs with a special token.
        let pairs = masked.labels.narrow(1, 2, 98).ne(IGNORE).reshape([100, 49, 2]);
        let (first, second) = (pairs.select(2, 0), pairs.select(2, 1));
        assert_eq!(first, second);
        let share = first.to_kind(Kind::Float).mean(None).scalar().unwrap();
        assert!((share - 0.15).abs() < 0.03, "{share}");
    }

    #[test]
    fn gradients_reach_the_head_and_the_shared_embedding() {
        let store = nn::VarStore::new(Device::Cpu);
        let mut objective =
            objective(&store, MaskedLanguageModellingConfig { choose: 0.9, ..Default::default() }).unwrap();
        Key::new(1).seed_torch();
        let encoder = Fixed(waves(&[4, 12, 4], 0.0, 1.0));
        let loss = objective.loss(&encoder, &batch(4, 12), &Step::single(0, 1, 0, 0)).unwrap();
        loss.total.backward();
        for (name, parameter) in store.variables() {
            let gradient = parameter.grad();
            assert!(gradient.defined() && gradient.abs().max().scalar().unwrap() > 1e-6, "{name}");
        }
    }

    #[test]
    fn a_batch_with_nothing_to_choose_costs_nothing() {
        let store = nn::VarStore::new(Device::Cpu);
        let mut objective = objective(&store, MaskedLanguageModellingConfig::default()).unwrap();
        let mut batch = batch(2, 4);
        batch.words = batch.words.full_like(-1);
        let loss =
            objective.loss(&Fixed(waves(&[2, 4, 4], 0.0, 1.0)), &batch, &Step::single(0, 1, 0, 0)).unwrap();
        assert_eq!(loss.total.scalar().unwrap(), 0.0);
    }

    #[test]
    fn rejects_shares_and_vocabularies_that_cannot_be() {
        let refusal = |config| objective(&nn::VarStore::new(Device::Cpu), config).unwrap_err().to_string();
        let default = MaskedLanguageModellingConfig::default;
        assert!(
            refusal(MaskedLanguageModellingConfig { choose: 0.0, ..default() }).starts_with("choose = 0")
        );
        assert!(
            refusal(MaskedLanguageModellingConfig { mask: 0.95, ..default() })
                .starts_with("mask + random = ")
        );
        let store = nn::VarStore::new(Device::Cpu);
        let new = |rows, mask_id| {
            let embedding = waves(&[rows, 4], 0.0, 1.0);
            let vocabulary = Vocabulary { mask_id, ..VOCABULARY };
            MaskedLanguageModelling::new(store.root(), &embedding, vocabulary, default())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(new(6, 3), "embedding: expected [7, _], found [6, 4]");
        assert!(new(7, 6).starts_with("mask_id = 6"));
    }
}
