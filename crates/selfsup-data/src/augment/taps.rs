//! The weights of a resize along one axis.

use super::resample::Interpolation;

/// Outputs are worked on in blocks of this many, or of half of it.
pub(super) const BLOCK: usize = 16;

/// For every output position along one axis, which inputs it sums and with which weights.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// The first input of each output.
    starts: Vec<usize>,
    /// One row for each tap, of one weight an output and zeros up to a whole block.
    weights: Vec<f32>,
    count: usize,
    /// The outputs, rounded up to whole blocks.
    padded: usize,
    /// Of each half block, the least of its starts.
    bases: Vec<usize>,
    /// Of each output, its start less its half block's base; zeros up to a whole block.
    offsets: Vec<i32>,
}

impl Taps {
    /// The taps from `input` to `output` positions, all weights multiplied by `gain`; in reverse order when `mirrored`.
    pub(super) fn fill(
        &mut self,
        input: usize,
        output: usize,
        filter: Interpolation,
        gain: f64,
        mirrored: bool,
    ) {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let centre = |o: usize| scale * (o as f64 + 0.5);
        let first = |o: usize| (centre(o) - support + 0.5).max(0.0) as usize;
        let last = |o: usize| ((centre(o) + support + 0.5) as usize).min(input);
        self.count = (0..output).map(|o| last(o) - first(o)).max().unwrap_or(1);
        self.padded = output.next_multiple_of(BLOCK);
        self.starts.clear();
        self.starts.resize(output, 0);
        self.weights.clear();
        self.weights.resize(self.count * self.padded, 0.0);
        let narrow = 1.0 / stretch;
        for o in 0..output {
            let place = if mirrored { output - 1 - o } else { o };
            let (centre, first, last) = (centre(o) - 0.5, first(o), last(o));
            // Near the far border the run of `count` taps begins earlier, so that it ends inside.
            let start = first.min(input - self.count);
            self.starts[place] = start;
            let weight = |i: usize| filter.weight((i as f64 - centre) * narrow);
            let whole = gain / (first..last).map(weight).sum::<f64>();
            for i in first..last {
                self.weights[(i - start) * self.padded + place] = (weight(i) * whole) as f32;
            }
        }
        self.bases.clear();
        self.offsets.clear();
        for block in self.starts.chunks(BLOCK / 2) {
            let base = block.iter().copied().min().unwrap_or(0);
            self.bases.push(base);
            self.offsets.extend(block.iter().map(|start| (start - base) as i32));
        }
        self.bases.resize(self.padded / (BLOCK / 2), *self.bases.last().unwrap_or(&0));
        self.offsets.resize(self.padded, 0);
    }

    /// The first input of each output.
    pub(super) fn starts(&self) -> &[usize] {
        &self.starts
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

    /// The weights of a tap for all outputs, with zeros up to a whole block.
    #[inline(always)]
    pub(super) fn of_tap(&self, tap: usize) -> &[f32] {
        &self.weights[tap * self.padded..(tap + 1) * self.padded]
    }

    /// Of each half block, the least of its starts; those of outputs that do not exist have the last one's.
    #[inline(always)]
    pub(super) fn bases(&self) -> &[usize] {
        &self.bases
    }

    /// Of each output, its start less its half block's base; zeros up to a whole block.
    #[inline(always)]
    pub(super) fn offsets(&self) -> &[i32] {
        &self.offsets
    }
}
