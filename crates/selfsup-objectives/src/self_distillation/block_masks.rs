//! Masks of rectangular blocks, as BEiT draws them and iBOT and DINOv2 after it.
//!
//! Bao, Dong, Piao and Wei 2022, *BEiT: BERT Pre-Training of Image Transformers*, algorithm 1: blocks of random area and
//! aspect are added until the wanted share of the patches is hidden. Zhou et al. 2022, *iBOT*, section 3.3: with
//! probability 0.5 nothing is hidden, otherwise a share from 0.1 to 0.5.

use selfsup_core::{Device, Error, Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which patches are hidden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockMasking {
    /// The probability that patches of a view are hidden at all. 0.5 (section 3.3 of iBOT's paper).
    pub probability: f64,
    /// The smallest and largest share of a view's patches that is hidden. 0.1 to 0.5 (section 3.3).
    pub ratio: [f64; 2],
    /// The smallest aspect of a block, and by its inverse the largest. 0.3 (the code of BEiT, iBOT and DINOv2).
    pub aspect: f64,
}

impl Default for BlockMasking {
    fn default() -> Self {
        BlockMasking { probability: 0.5, ratio: [0.1, 0.5], aspect: 0.3 }
    }
}

/// How the views of a batch share the masking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shares {
    /// Each view is drawn by itself, as in iBOT.
    Independent,
    /// The probability is the exact share of the batch's views, and their ratios are spread evenly over the range, in
    /// random order, as in DINOv2.
    Stratified,
}

impl BlockMasking {
    pub(crate) fn check(&self) -> Result<()> {
        let [low, high] = self.ratio;
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(Error::config("masking.probability", self.probability, "from 0 to 1"));
        }
        if !(0.0 <= low && low <= high && high <= 1.0) {
            let expected = "two shares from 0 to 1, the smaller first";
            return Err(Error::config("masking.ratio", format!("[{low}, {high}]"), expected));
        }
        if !(0.0 < self.aspect && self.aspect <= 1.0) {
            return Err(Error::config("masking.aspect", self.aspect, "above 0 and at most 1"));
        }
        Ok(())
    }

    /// Masks for `views` views of `rows` x `columns` patches, from libtorch's generator: Bool
    /// `[views, rows * columns]` on the CPU, true where a patch is hidden.
    pub(crate) fn draw(&self, views: i64, grid: [i64; 2], shares: Shares) -> Result<Tensor> {
        self.draw_from(&mut Draws::default(), views, grid, shares)
    }

    fn draw_from(
        &self,
        draws: &mut Draws,
        views: i64,
        [rows, columns]: [i64; 2],
        shares: Shares,
    ) -> Result<Tensor> {
        let (grid, views) = ([rows as usize, columns as usize], views as usize);
        let mut masks = Vec::with_capacity(views);
        // The smallest block: as large a part of the picture as in iBOT's code, or four patches as in DINOv2's.
        let least = match shares {
            Shares::Independent => ((rows.min(columns) / 3) as f64).powi(2).max(1.0),
            Shares::Stratified => 4.0,
        };
        match shares {
            Shares::Independent => {
                for _ in 0..views {
                    let ratio = if draws.next()? < self.probability {
                        draws.between(self.ratio[0], self.ratio[1])?
                    } else {
                        0.0
                    };
                    masks.push(self.mask(grid, ratio, least, draws)?);
                }
            }
            Shares::Stratified => {
                let masked = (views as f64 * self.probability) as usize;
                let width = (self.ratio[1] - self.ratio[0]) / masked.max(1) as f64;
                for i in 0..views {
                    let low = self.ratio[0] + width * i as f64;
                    let ratio = if i < masked { draws.between(low, low + width)? } else { 0.0 };
                    masks.push(self.mask(grid, ratio, least, draws)?);
                }
                for i in (1..views).rev() {
                    masks.swap(i, draws.below(i + 1)?);
                }
            }
        }
        Ok(Tensor::from_slice(&masks.concat()).view([views as i64, rows * columns]))
    }

    /// One mask, row by row, that hides at most `ratio` of the patches, and less only where no block fits.
    fn mask(
        &self,
        [rows, columns]: [usize; 2],
        ratio: f64,
        least: f64,
        draws: &mut Draws,
    ) -> Result<Vec<bool>> {
        let mut mask = vec![false; rows * columns];
        let wanted = ratio * mask.len() as f64;
        let mut hidden = 0;
        // Ten blocks that fit nowhere in a row end the mask.
        let mut failures = 0;
        while (hidden as f64) < wanted && failures < 10 {
            let left = wanted - hidden as f64;
            let area = draws.between(least, left)?;
            let aspect = draws.between(self.aspect.ln(), -self.aspect.ln())?.exp();
            let height = (area * aspect).sqrt().round() as usize;
            let width = (area / aspect).sqrt().round() as usize;
            failures += 1;
            if height >= rows || width >= columns {
                continue;
            }
            let (top, from) = (draws.below(rows - height + 1)?, draws.below(columns - width + 1)?);
            let block =
                || (top..top + height).flat_map(|r| (from..from + width).map(move |c| r * columns + c));
            let new = block().filter(|&i| !mask[i]).count();
            if new == 0 || new as f64 > left {
                continue;
            }
            block().for_each(|i| mask[i] = true);
            hidden += new;
            failures = 0;
        }
        Ok(mask)
    }
}

/// Uniform draws from libtorch's generator, fetched many at a time.
#[derive(Default)]
struct Draws(Vec<f64>);

impl Draws {
    /// From 0 to 1.
    fn next(&mut self) -> Result<f64> {
        if self.0.is_empty() {
            self.0 = Vec::try_from(Tensor::rand([256], (Kind::Double, Device::Cpu)))?;
        }
        Ok(self.0.pop().unwrap_or_default())
    }

    fn between(&mut self, a: f64, b: f64) -> Result<f64> {
        Ok(a + (b - a) * self.next()?)
    }

    /// A whole number below `n`.
    fn below(&mut self, n: usize) -> Result<usize> {
        Ok(((self.next()? * n as f64) as usize).min(n - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::TensorExt;

    fn shares(masks: &Tensor) -> Vec<f64> {
        Vec::try_from(masks.to_kind(Kind::Double).mean_dim([1_i64].as_slice(), false, None)).unwrap()
    }

    #[test]
    fn hides_the_shares_that_are_asked_for() {
        let masking = BlockMasking::default();
        for grid in [[7, 7], [14, 14], [6, 10]] {
            let found = shares(&masking.draw(2000, grid, Shares::Independent).unwrap());
            let none = found.iter().filter(|&&share| share == 0.0).count() as f64 / 2000.0;
            assert!((none - 0.5).abs() < 0.06, "{none} of the views of {grid:?} hide nothing");
            assert!(found.iter().all(|&share| share <= 0.5));
            let mean = found.iter().sum::<f64>() / found.iter().filter(|&&share| share > 0.0).count() as f64;
            assert!((mean - 0.3).abs() < 0.04, "{mean} of {grid:?} on average");
        }
    }

    #[test]
    fn a_stratified_batch_hides_an_exact_share_of_the_views_over_the_whole_range() {
        let masks = BlockMasking::default().draw(64, [14, 14], Shares::Stratified).unwrap();
        let mut found = shares(&masks);
        let first_half = found[..32].iter().filter(|&&share| share > 0.0).count();
        assert!((8..=24).contains(&first_half), "{first_half} of the first 32: in random order");
        found.sort_by(f64::total_cmp);
        assert_eq!(found.iter().filter(|&&share| share == 0.0).count(), 32);
        for (i, share) in found[32..].iter().enumerate() {
            let wanted = 0.1 + 0.4 * (i as f64 + 0.5) / 32.0;
            assert!((share - wanted).abs() < 0.05, "{share} where about {wanted} is right");
        }
    }

    #[test]
    fn one_block_is_a_rectangle() {
        let masking = BlockMasking { probability: 1.0, ratio: [0.09, 0.09], aspect: 1.0 };
        // 9 % of 10 x 10 patches is the least area of a block, 9: a square of 3 x 3.
        let masks = masking.draw(20, [10, 10], Shares::Independent).unwrap().view([20, 10, 10]);
        for mask in (0..20).map(|i| masks.get(i)) {
            let extent = |dim| mask.any_dim(dim, false).sum(Kind::Double).scalar().unwrap();
            assert_eq!((extent(0), extent(1), mask.sum(Kind::Double).scalar().unwrap()), (3.0, 3.0, 9.0));
        }
    }

    #[test]
    fn the_draws_decide() {
        // More than are used, so that libtorch's generator is not asked.
        let mask = |step: f64| {
            let mut draws = Draws((0..20_000).map(|i| (f64::from(i) * step).fract()).collect());
            let masks = BlockMasking::default().draw_from(&mut draws, 40, [7, 7], Shares::Independent);
            assert!(!draws.0.is_empty());
            masks.unwrap()
        };
        assert_eq!(mask(2.0_f64.sqrt()), mask(2.0_f64.sqrt()));
        assert_ne!(mask(2.0_f64.sqrt()), mask(3.0_f64.sqrt()));
    }

    #[test]
    fn a_stratified_batch_has_blocks_of_four_patches_on_large_grids() {
        // Four of 40 x 40 patches: far less than iBOT's smallest block, 13 x 13.
        let masking = BlockMasking { probability: 1.0, ratio: [0.0025, 0.0025], aspect: 1.0 };
        let masks = masking.draw(8, [40, 40], Shares::Stratified).unwrap().view([8, 40, 40]);
        for mask in (0..8).map(|i| masks.get(i)) {
            let extent = |dim| mask.any_dim(dim, false).sum(Kind::Double).scalar().unwrap();
            assert_eq!((extent(0), extent(1), mask.sum(Kind::Double).scalar().unwrap()), (2.0, 2.0, 4.0));
        }
    }

    #[test]
    fn rejects_shares_that_cannot_be() {
        let refused = |masking: BlockMasking| masking.check().unwrap_err().to_string();
        let error = refused(BlockMasking { ratio: [0.5, 0.1], ..Default::default() });
        assert_eq!(error, "masking.ratio = [0.5, 0.1]: two shares from 0 to 1, the smaller first");
        let error = refused(BlockMasking { probability: 1.5, ..Default::default() });
        assert_eq!(error, "masking.probability = 1.5: from 0 to 1");
        let error = refused(BlockMasking { aspect: 0.0, ..Default::default() });
        assert_eq!(error, "masking.aspect = 0: above 0 and at most 1");
    }
}
