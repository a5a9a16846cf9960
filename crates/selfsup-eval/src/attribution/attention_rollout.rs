//! Attention rollout (Abnar and Zuidema 2020): what part of an input each token of the last block comes from, if information
//! flows as attention says and is passed on by half at every block's shortcut.
//!
//! ```text
//! A_l = (mean over heads of W_l + I) / 2, rows scaled to sum to 1        R = A_L ... A_2 A_1                (section 3)
//! ```
//! It sees attention alone: neither values nor perceptrons, and no score. That is why it is to be checked (`sanity`) more than others.

use super::score::check_finite;
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// The shares of the tokens that come in, for each token that comes out. Memory is that of two matrices an input, whatever the
/// depth.
#[derive(Debug, Default)]
pub struct AttentionRollout {
    so_far: Option<Tensor>, // [N, T, T]
}

impl AttentionRollout {
    /// No block yet.
    pub fn new() -> Self {
        AttentionRollout::default()
    }

    /// Adds the next block's attention.
    ///
    /// # Shapes
    /// Probabilities `[N, heads, T, T]`, a row for each query.
    ///
    /// # Errors
    /// When it does not fit the blocks before, or is negative or not finite.
    pub fn add(&mut self, attention: &Tensor) -> Result<()> {
        let [n, heads, tokens, _] = check_shape("attention", attention, [-1, -1, -1, -1])?;
        check_shape("attention", attention, [n, heads, tokens, tokens])?;
        if attention.numel() == 0 {
            return Err(Error::config("attention", format!("{:?}", attention.size()), "at least one token"));
        }
        check_finite("attention", attention)?;
        if bool::try_from(attention.lt(0.0).any())? {
            return Err(Error::config("attention", "a number below 0", "probabilities"));
        }
        let mean = attention.detach().to_kind(Kind::Float).mean_dim(1, false, None); // [N, T, T]
        let passed_on = mean + Tensor::eye(tokens, (Kind::Float, attention.device()));
        let shares = &passed_on / passed_on.sum_dim_intlist(-1, true, None);
        self.so_far = Some(match &self.so_far {
            None => shares,
            Some(before) => {
                check_shape("attention of the blocks before", before, [n, tokens, tokens])?;
                shares.matmul(before)
            }
        });
        Ok(())
    }

    /// The shares of the tokens that come in, `[N, T, T]`, a row for each token that comes out; rows sum to 1.
    ///
    /// # Errors
    /// When no block was added.
    pub fn finish(self) -> Result<Tensor> {
        self.so_far.ok_or_else(|| Error::config("blocks", 0, "at least one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::wave;
    use selfsup_core::{Device, TensorExt};

    fn blocks(n: i64, heads: i64, tokens: i64) -> Vec<Tensor> {
        (1..=3)
            .map(|i| (wave(&[n, heads, tokens, tokens], 0.2 * f64::from(i)) * 3.0).softmax(-1, None))
            .collect()
    }

    fn rollout(blocks: &[Tensor]) -> Tensor {
        let mut rollout = AttentionRollout::new();
        for block in blocks {
            rollout.add(block).unwrap();
        }
        rollout.finish().unwrap()
    }

    #[test]
    fn equals_a_loop_over_blocks_and_tokens() {
        let (n, heads, t) = (2, 3, 4);
        let blocks = blocks(n, heads, t);
        let found = rollout(&blocks);
        for i in 0..n {
            // How much of token `from` is in token `to` after some blocks.
            let mut share = vec![vec![0.0; t as usize]; t as usize];
            for (to, row) in share.iter_mut().enumerate() {
                row[to] = 1.0;
            }
            for block in &blocks {
                let mut next = vec![vec![0.0; t as usize]; t as usize];
                for (to, row) in next.iter_mut().enumerate() {
                    for (through, before) in share.iter().enumerate() {
                        let mean: f64 = (0..heads)
                            .map(|h| block.double_value(&[i, h, to as i64, through as i64]))
                            .sum::<f64>()
                            / heads as f64;
                        let passed = 0.5 * mean + if to == through { 0.5 } else { 0.0 };
                        for (from, cell) in row.iter_mut().enumerate() {
                            *cell += passed * before[from];
                        }
                    }
                }
                share = next;
            }
            for (to, row) in share.iter().enumerate() {
                for (from, expected) in row.iter().enumerate() {
                    let found = found.double_value(&[i, to as i64, from as i64]);
                    assert!((found - expected).abs() < 1e-6, "{i} {to} {from}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn shares_sum_to_one_and_tokens_that_see_only_themselves_stay_themselves() {
        let sums = rollout(&blocks(2, 3, 5)).sum_dim_intlist(-1, false, None);
        assert!((sums - 1.0).abs().max().scalar().unwrap() < 1e-6);
        let own = Tensor::eye(5, (Kind::Float, Device::Cpu));
        let block = own.expand([1, 2, 5, 5], false);
        let found = rollout(&[block.shallow_clone(), block]).get(0);
        assert!((found - own).abs().max().scalar().unwrap() < 1e-7);
    }

    #[test]
    fn rejects_blocks_that_do_not_fit() {
        let refused = |blocks: &[Tensor]| {
            let mut rollout = AttentionRollout::new();
            let added = blocks.iter().try_for_each(|block| rollout.add(block));
            added.and_then(|()| rollout.finish()).unwrap_err().to_string()
        };
        assert_eq!(refused(&[]), "blocks = 0: at least one");
        let (small, large) = (blocks(1, 2, 3).remove(0), blocks(1, 2, 4).remove(0));
        let error = refused(&[small.shallow_clone(), large]);
        assert_eq!(error, "attention of the blocks before: expected [1, 4, 4], found [1, 3, 3]");
        assert_eq!(refused(&[small.narrow(3, 0, 2)]), "attention: expected [1, 2, 3, 3], found [1, 2, 3, 2]");
        assert_eq!(refused(&[&small - 0.5]), "attention = a number below 0: probabilities");
        assert!(refused(&[&small * f64::NAN]).starts_with("attention is not finite"));
    }
}
