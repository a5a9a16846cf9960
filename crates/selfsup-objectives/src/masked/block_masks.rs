//! The masks of I-JEPA: blocks of patches that are to be predicted, and a large block, without them, that is
//! seen.
//!
//! Assran et al. 2023, *Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture*,
//! section 3 and appendix A.1: sizes are drawn once for a batch, places for every image. Blocks of the
//! targets may overlap each other; what they cover leaves the context.
//!
//! A context is cut to the smallest of the batch, so that all fit one tensor: which patches it loses is
//! drawn, where the authors drop the last in reading order, which leaves the lower part of an image unseen.
//! Scale and aspect are drawn apart, where their code draws one number for both, and a block may reach the
//! last row and column. Where blocks leave too small a context, all blocks of the image are drawn anew, where
//! theirs lets the context see a target.

use selfsup_core::{Device, Error, Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of the masks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockMasksConfig {
    /// The least and greatest area of the context's square block, as a share of the image's; 0.85 to 1
    /// (section 3).
    pub context_scale: [f64; 2],
    /// The least and greatest area of a target's block; 0.15 to 0.2 (section 3).
    pub target_scale: [f64; 2],
    /// The least and greatest height of a target's block over its width; 0.75 to 1.5 (section 3).
    pub target_aspect: [f64; 2],
    /// The blocks to predict; 4 (section 3).
    pub targets: i64,
    /// The fewest patches that a context may have; 10 in the authors' recipes.
    pub min_context: i64,
}

impl Default for BlockMasksConfig {
    fn default() -> Self {
        BlockMasksConfig {
            context_scale: [0.85, 1.0],
            target_scale: [0.15, 0.2],
            target_aspect: [0.75, 1.5],
            targets: 4,
            min_context: 10,
        }
    }
}

/// The patches of a batch, by number, row by row.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// What is seen, `[N, K]` Int64.
    pub(crate) context: Tensor,
    /// What is predicted, `[N, M, S]` Int64.
    pub(crate) targets: Tensor,
}

/// Height and width of a block, in patches.
type Size = [i64; 2];

impl BlockMasksConfig {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::Config`] with the field, as `masks.FIELD`.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |field: &str, value: String, expected: &str| {
            Err(Error::config(format!("masks.{field}"), value, expected))
        };
        for (field, range) in [("context_scale", self.context_scale), ("target_scale", self.target_scale)] {
            if !(range[0] > 0.0 && range[0] <= range[1] && range[1] <= 1.0) {
                return fail(field, format!("{range:?}"), "two rising shares above 0 and at most 1");
            }
        }
        let [low, high] = self.target_aspect;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return fail("target_aspect", format!("{:?}", self.target_aspect), "two rising numbers above 0");
        }
        for (field, value) in [("targets", self.targets), ("min_context", self.min_context)] {
            if value < 1 {
                return fail(field, value.to_string(), "at least 1");
            }
        }
        Ok(())
    }

    /// Draws the blocks of `n` images of `[rows, columns]` patches, from libtorch's generator on the CPU.
    ///
    /// # Errors
    /// [`Error::Config`] when blocks of these sizes leave no image a context of `min_context` patches.
    pub(crate) fn draw(&self, n: i64, grid: [i64; 2], device: Device) -> Result<Blocks> {
        let u = uniforms(4)?;
        let target = size(grid, between(self.target_scale, u[0]), between(self.target_aspect, u[1]));
        let context = size(grid, between(self.context_scale, u[2]), 1.0);
        let (mut contexts, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let (seen, predicted) = self.draw_one(grid, context, target)?;
            contexts.push(seen);
            targets.extend(predicted);
        }
        let kept = contexts.iter().map(Vec::len).min().unwrap_or(0);
        let mut seen = Vec::new();
        for mut patches in contexts {
            // Every subset of the size that all have is as likely as any other.
            let keys = uniforms(patches.len())?;
            for (i, key) in (0..kept).zip(keys) {
                let left = patches.len() - i;
                patches.swap(i, i + ((key * left as f64) as usize).min(left - 1));
            }
            seen.extend_from_slice(&patches[..kept]);
        }
        let to =
            |patches: &[i64], shape: &[i64]| Tensor::from_slice(patches).reshape(shape).to_device(device);
        Ok(Blocks {
            context: to(&seen, &[n, kept as i64]),
            targets: to(&targets, &[n, self.targets, target[0] * target[1]]),
        })
    }

    /// The context and the targets, one after the other, of one image.
    fn draw_one(&self, grid: [i64; 2], context: Size, target: Size) -> Result<(Vec<i64>, Vec<i64>)> {
        let mut most = 0;
        for _ in 0..TRIES {
            let u = uniforms(2 * (self.targets as usize + 1))?;
            let mut places = u.chunks(2);
            let mut block =
                |size: Size| places.next().map_or_else(Vec::new, |u| place(grid, size, [u[0], u[1]]));
            let predicted: Vec<i64> = (0..self.targets).flat_map(|_| block(target)).collect();
            let mut seen = block(context);
            seen.retain(|patch| !predicted.contains(patch));
            if seen.len() as i64 >= self.min_context {
                return Ok((seen, predicted));
            }
            most = most.max(seen.len());
        }
        let [rows, columns] = grid;
        let expected =
            format!("at most {most}, what the blocks leave of {rows} x {columns} patches for the context");
        Err(Error::config("masks.min_context", self.min_context, expected))
    }
}

/// How often the blocks of an image are drawn before their sizes are held impossible.
const TRIES: usize = 100;

/// The height and width of a block with this share of the area, and this height over width.
fn size([rows, columns]: [i64; 2], scale: f64, aspect: f64) -> Size {
    let area = ((rows * columns) as f64 * scale).floor();
    let side = |length: f64, most: i64| (length.round() as i64).clamp(1, most);
    [side((area * aspect).sqrt(), rows), side((area / aspect).sqrt(), columns)]
}

/// The patches of a block, which `u` in [0, 1) places: row and column of its corner.
fn place([rows, columns]: [i64; 2], [height, width]: Size, u: [f64; 2]) -> Vec<i64> {
    let corner = |free: i64, u: f64| ((u * (free + 1) as f64) as i64).min(free);
    let (top, left) = (corner(rows - height, u[0]), corner(columns - width, u[1]));
    (top..top + height)
        .flat_map(|row| (left..left + width).map(move |column| row * columns + column))
        .collect()
}

fn between([low, high]: [f64; 2], u: f64) -> f64 {
    low + u * (high - low)
}

/// Numbers in [0, 1) from libtorch's generator, which the trainer seeds at every step.
fn uniforms(count: usize) -> Result<Vec<f64>> {
    Ok(Vec::try_from(Tensor::rand([count as i64], (Kind::Double, Device::Cpu)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::check_shape;
    use std::collections::HashSet;

    fn rows(x: &Tensor) -> Vec<Vec<i64>> {
        let x = x.flatten(1, -1);
        (0..x.size()[0]).map(|i| Vec::try_from(x.get(i)).unwrap()).collect()
    }

    #[test]
    fn targets_are_rectangles_of_one_size_that_the_context_does_not_see() {
        let config = BlockMasksConfig::default();
        for grid in [[14, 14], [10, 20], [7, 9]] {
            let Blocks { context, targets } = config.draw(16, grid, Device::Cpu).unwrap();
            let [_, kept] = check_shape("context", &context, [16, -1]).unwrap();
            let [_, _, size] = check_shape("targets", &targets, [16, 4, -1]).unwrap();
            assert!(kept >= 10);
            let share = size as f64 / (grid[0] * grid[1]) as f64;
            assert!((0.12..0.25).contains(&share), "{share}");
            let whole = 0..grid[0] * grid[1];
            for (seen, predicted) in rows(&context).into_iter().zip(rows(&targets)) {
                let unique: HashSet<_> = seen.iter().collect();
                assert_eq!(unique.len() as i64, kept);
                assert!(seen.iter().chain(&predicted).all(|patch| whole.contains(patch)));
                assert!(seen.iter().all(|patch| !predicted.contains(patch)));
                for block in predicted.chunks(size as usize) {
                    let (row, column) = (|p: i64| p / grid[1], |p: i64| p % grid[1]);
                    let (first, last) = (block[0], block[block.len() - 1]);
                    let area = (row(last) - row(first) + 1) * (column(last) - column(first) + 1);
                    assert_eq!((area, block.iter().collect::<HashSet<_>>().len() as i64), (size, size));
                }
            }
        }
    }

    #[test]
    fn every_patch_is_predicted_and_seen_at_times() {
        let config = BlockMasksConfig::default();
        let (mut seen, mut predicted) = (HashSet::new(), HashSet::new());
        for _ in 0..40 {
            let Blocks { context, targets } = config.draw(16, [7, 7], Device::Cpu).unwrap();
            seen.extend(rows(&context).concat());
            predicted.extend(rows(&targets).concat());
        }
        assert_eq!((seen.len(), predicted.len()), (49, 49));
    }

    #[test]
    fn sizes_follow_scale_and_aspect() {
        // int(14 * 14 * 0.2) = 39; sqrt(39 * 1.5) = 7.6 and sqrt(39 / 1.5) = 5.1
        assert_eq!(size([14, 14], 0.2, 1.5), [8, 5]);
        assert_eq!(size([14, 14], 1.0, 1.0), [14, 14]);
        assert_eq!(size([4, 20], 0.9, 1.0), [4, 8]);
        assert_eq!(place([3, 4], [2, 3], [0.99, 0.0]), [4, 5, 6, 8, 9, 10]);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let good = BlockMasksConfig::default();
        for (config, message) in [
            (
                BlockMasksConfig { context_scale: [0.9, 0.8], ..good },
                "masks.context_scale = [0.9, 0.8]: two rising shares above 0 and at most 1",
            ),
            (
                BlockMasksConfig { target_scale: [0.0, 0.8], ..good },
                "masks.target_scale = [0.0, 0.8]: two rising shares above 0 and at most 1",
            ),
            (
                BlockMasksConfig { target_aspect: [0.0, 1.0], ..good },
                "masks.target_aspect = [0.0, 1.0]: two rising numbers above 0",
            ),
            (BlockMasksConfig { targets: 0, ..good }, "masks.targets = 0: at least 1"),
            (BlockMasksConfig { min_context: 0, ..good }, "masks.min_context = 0: at least 1"),
        ] {
            assert_eq!(config.check().unwrap_err().to_string(), message);
        }
        let config = BlockMasksConfig { target_scale: [1.0, 1.0], target_aspect: [1.0, 1.0], ..good };
        assert_eq!(
            config.draw(2, [4, 4], Device::Cpu).unwrap_err().to_string(),
            "masks.min_context = 10: at most 0, what the blocks leave of 4 x 4 patches for the context"
        );
    }
}
