//! The weights of a resize along one axis.

use super::resample::Interpolation;

/// The most outputs that are worked on at once.
pub(super) const BLOCK: usize = 16;

/// Outputs that are worked on at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    /// The first of them.
    pub(super) first: usize,
    /// How many they are.
    pub(super) outputs: usize,
    /// The least of their starts.
    pub(super) base: usize,
    /// How far beyond the base their taps reach.
    pub(super) reach: usize,
}

/// For every output position along one axis, which inputs it sums and with which weights.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// The first input of each output.
    starts: Vec<usize>,
    /// From the middle of each output to its first input, in inputs.
    distances: Vec<f64>,
    /// What the weights of each sum to before they are scaled.
    sums: Vec<f64>,
    /// One row for each tap, of one weight an output and zeros up to a whole block.
    weights: Vec<f32>,
    input: usize,
    count: usize,
    /// The outputs, rounded up to whole blocks.
    padded: usize,
    blocks: Vec<Block>,
    /// Of each output, its start less its block's base; zeros up to a whole block.
    offsets: Vec<i32>,
}

impl Taps {
    /// The taps from `input` to `output` positions, all weights multiplied by `gain`; in reverse order when
    /// `mirrored`. Blocks have `block` outputs, of which [`BLOCK`] is a multiple.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        input: usize,
        output: usize,
        filter: Interpolation,
        gain: f64,
        mirrored: bool,
        block: usize,
    ) {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let narrow = 1.0 / stretch;
        self.input = input;
        self.padded = output.next_multiple_of(BLOCK);
        self.starts.clear();
        self.distances.clear();
        self.count = 1;
        for place in 0..output {
            let o = if mirrored { output - 1 - place } else { place };
            let centre = scale * (o as f64 + 0.5) + 0.5;
            let start = (centre - support).max(0.0) as usize;
            let end = ((centre + support) as usize).min(input);
            self.count = self.count.max(end - start);
            self.starts.push(start);
            self.distances.push(1.0 - centre);
        }
        for (start, distance) in self.starts.iter_mut().zip(&mut self.distances) {
            // Near the far border the run of `count` taps begins earlier, so that it ends inside.
            *start = (*start).min(input - self.count);
            *distance += *start as f64;
        }
        // The filter is 0 outside its support, which holds the taps between an output's own and `count`.
        self.weights.clear();
        self.weights.resize(self.count * self.padded, 0.0);
        self.sums.clear();
        self.sums.resize(output, 0.0);
        for (tap, weights) in self.weights.chunks_exact_mut(self.padded).enumerate() {
            filter.weigh(&self.distances, tap as f64, narrow, &mut self.sums, weights);
        }
        self.sums.iter_mut().for_each(|sum| *sum = gain / *sum);
        for weights in self.weights.chunks_exact_mut(self.padded) {
            for (weight, whole) in weights.iter_mut().zip(&self.sums) {
                *weight *= *whole as f32;
            }
        }
        self.blocks.clear();
        self.offsets.clear();
        for (i, starts) in self.starts.chunks(block).enumerate() {
            let base = starts.iter().copied().min().unwrap_or(0);
            let last = starts.iter().copied().max().unwrap_or(0);
            self.blocks.push(Block {
                first: i * block,
                outputs: starts.len(),
                base,
                reach: last + self.count - base,
            });
            self.offsets.extend(starts.iter().map(|start| (start - base) as i32));
        }
        self.offsets.resize(self.padded, 0);
    }

    /// The first input of each output.
    pub(super) fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// How many inputs there are.
    pub(super) fn input(&self) -> usize {
        self.input
    }

    /// How many inputs an output sums.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The weight of an output's tap.
    #[inline(always)]
    pub(super) fn weight(&self, tap: usize, output: usize) -> f32 {
        self.weights[tap * self.padded + output]
    }

    /// The weights, tap by tap, [`padded`](Self::padded) of each.
    #[inline(always)]
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The number of outputs, rounded up to whole blocks.
    #[inline(always)]
    pub(super) fn padded(&self) -> usize {
        self.padded
    }

    /// The blocks of outputs, in order.
    #[inline(always)]
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Of each output, its start less its block's base; zeros up to a whole block.
    #[inline(always)]
    pub(super) fn offsets(&self) -> &[i32] {
        &self.offsets
    }
}
