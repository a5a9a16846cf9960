//! The horizontal half of a resize: weighted sums of numbers of a line that lie at places of their own for each output.
//!
//! The compiler makes no vector instructions of such reads. With AVX-512 or AVX2 the numbers that a block of outputs
//! needs are loaded once and permuted for each tap; every sum has the same terms in the same order as without, and none is
//! fused, so that the results are equal bit for bit.

use super::taps::{BLOCK, Taps};

/// A line of each channel, with room behind it for reading whole registers.
#[derive(Debug, Default)]
pub(super) struct Lines {
    values: Vec<f32>,
    /// The numbers from one channel to the next.
    stride: usize,
    instructions: Instructions,
}

/// What the machine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    Any,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Default for Instructions {
    fn default() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Instructions::Avx512;
            }
            if is_x86_feature_detected!("avx2") {
                return Instructions::Avx2;
            }
        }
        Instructions::Any
    }
}

impl Lines {
    /// Takes up a line in the order column, channel.
    #[inline(always)]
    pub(super) fn load(&mut self, row: &[f32], channels: usize) {
        self.stride = row.len() / channels + 2 * BLOCK;
        self.values.resize(channels * self.stride, 0.0);
        if channels == 3 {
            let (red, rest) = self.values.split_at_mut(self.stride);
            let (green, blue) = rest.split_at_mut(self.stride);
            for (((pixel, r), g), b) in row.chunks_exact(3).zip(red).zip(green).zip(blue) {
                (*r, *g, *b) = (pixel[0], pixel[1], pixel[2]);
            }
        } else {
            self.values[..row.len()].copy_from_slice(row);
        }
    }

    /// How many outputs of taps it works on at once.
    pub(super) fn block(&self) -> usize {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => BLOCK / 2,
            _ => BLOCK,
        }
    }

    /// The weighted sums of the lines, one for each output of `taps`, which were made for their length and for blocks of
    /// [`block`](Self::block). Those of the first channel begin at `first` in `out`, those of the next `area` later.
    #[inline(always)]
    pub(super) fn combine(&self, taps: &Taps, out: &mut [f32], first: usize, area: usize) {
        let lines = self.values.chunks_exact(self.stride);
        assert!(
            self.stride >= taps.input() + 2 * BLOCK
                && out.len() >= (lines.len() - 1) * area + first + taps.starts().len()
        );
        match self.instructions {
            Instructions::Any => {
                for (line, plane) in lines.zip(out.chunks_mut(area)) {
                    combine(line, taps, &mut plane[first..]);
                }
            }
            // SAFETY: the machine has the instructions; the rest was just checked.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe {
                x86_64::combine_by_avx2(&self.values, self.stride, taps, &mut out[first..], area);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe {
                x86_64::combine_by_avx512(&self.values, self.stride, taps, &mut out[first..], area);
            },
        }
    }
}

fn combine(line: &[f32], taps: &Taps, out: &mut [f32]) {
    for (o, (sum, &start)) in out.iter_mut().zip(taps.starts()).enumerate() {
        *sum = (0..taps.count()).fold(0.0, |sum, tap| sum + taps.weight(tap, o) * line[start + tap]);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{BLOCK, Taps};
    use std::arch::x86_64::{
        _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_i32gather_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_permutevar8x32_ps, _mm256_set1_epi32,
        _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm512_add_epi32, _mm512_add_ps,
        _mm512_i32gather_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_mul_ps,
        _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    };

    /// # Safety
    /// The machine has AVX-512. `taps` are in blocks of 16. `lines` begin `stride` numbers apart, each with 32 more than
    /// those for which `taps` were made; `out` has places for all outputs of each, `area` apart.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn combine_by_avx512(
        lines: &[f32],
        stride: usize,
        taps: &Taps,
        out: &mut [f32],
        area: usize,
    ) {
        let one = _mm512_set1_epi32(1);
        for block in taps.blocks() {
            let mask = (u32::MAX >> (32 - block.outputs)) as u16;
            // SAFETY: 32 numbers lie behind every base. An output's taps lie in the line, and so do those of the outputs
            // that only fill the block, which begin at the base. Offsets and weights have whole blocks, and the store is
            // masked to the block's outputs.
            unsafe {
                let first = _mm512_loadu_si512(taps.offsets().as_ptr().add(block.first).cast());
                for channel in 0..lines.len() / stride {
                    let from = lines.as_ptr().add(channel * stride + block.base);
                    let mut weights = taps.weights().as_ptr().add(block.first);
                    let mut places = first;
                    let mut sum = _mm512_setzero_ps();
                    let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(BLOCK)));
                    for _ in 0..taps.count() {
                        let values = if block.reach <= 2 * BLOCK {
                            _mm512_permutex2var_ps(low, places, high)
                        } else {
                            _mm512_i32gather_ps::<4>(places, from)
                        };
                        sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(weights), values));
                        places = _mm512_add_epi32(places, one);
                        weights = weights.add(taps.padded());
                    }
                    _mm512_mask_storeu_ps(out.as_mut_ptr().add(channel * area + block.first), mask, sum);
                }
            }
        }
    }

    /// # Safety
    /// As for AVX-512, with AVX2 and blocks of 8.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn combine_by_avx2(
        lines: &[f32],
        stride: usize,
        taps: &Taps,
        out: &mut [f32],
        area: usize,
    ) {
        const HALF: usize = BLOCK / 2;
        let one = _mm256_set1_epi32(1);
        for block in taps.blocks() {
            // SAFETY: as above.
            unsafe {
                let first = _mm256_loadu_si256(taps.offsets().as_ptr().add(block.first).cast());
                for channel in 0..lines.len() / stride {
                    let from = lines.as_ptr().add(channel * stride + block.base);
                    let mut weights = taps.weights().as_ptr().add(block.first);
                    let mut places = first;
                    let mut sum = _mm256_setzero_ps();
                    let (low, high) = (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(HALF)));
                    for _ in 0..taps.count() {
                        let values = if block.reach <= BLOCK {
                            // Bit 3 of the place, moved to the sign, says which half has it.
                            let half = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(places));
                            let low = _mm256_permutevar8x32_ps(low, places);
                            _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(high, places), half)
                        } else {
                            _mm256_i32gather_ps::<4>(from, places)
                        };
                        sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_loadu_ps(weights), values));
                        places = _mm256_add_epi32(places, one);
                        weights = weights.add(taps.padded());
                    }
                    let mut sums = [0.0_f32; HALF];
                    _mm256_storeu_ps(sums.as_mut_ptr(), sum);
                    let at = channel * area + block.first;
                    out[at..at + block.outputs].copy_from_slice(&sums[..block.outputs]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resample::Interpolation;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_set_of_instructions_gives_the_same_bits(
            input in 1_usize..400,
            output in 1_usize..120,
            channels in prop::sample::select(vec![1_usize, 3]),
            bicubic: bool,
            mirrored: bool,
            seed: u32,
        ) {
            let filter = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let row: Vec<f32> =
                (0..input * channels).map(|i| ((i as u32).wrapping_mul(2_654_435_761) ^ seed) as f32 / 1e9).collect();
            let mut lines = Lines::default();
            lines.load(&row, channels);
            // What lies behind a line must not matter.
            for channel in 0..channels {
                lines.values[channel * lines.stride + input..(channel + 1) * lines.stride].fill(f32::NAN);
            }
            let best = lines.instructions;
            let mut all = vec![Instructions::Any];
            #[cfg(target_arch = "x86_64")]
            {
                if best != Instructions::Any {
                    all.push(Instructions::Avx2);
                }
                if best == Instructions::Avx512 {
                    all.push(Instructions::Avx512);
                }
            }
            let (mut taps, mut results) = (Taps::default(), Vec::new());
            for instructions in &all {
                lines.instructions = *instructions;
                taps.fill(input, output, filter, 1.0, mirrored, lines.block());
                // Rows of `output` and 3 numbers that stay as they are.
                let mut out = vec![7.0; channels * (output + 3)];
                lines.combine(&taps, &mut out, 2, output + 3);
                results.push(out);
            }
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert!(results.iter().all(|result| bits(result) == bits(&results[0])), "{:?}", all);
            for (i, found) in results[0].iter().enumerate() {
                let (channel, o) = (i / (output + 3), i % (output + 3));
                if !(2..output + 2).contains(&o) {
                    prop_assert_eq!(*found, 7.0);
                    continue;
                }
                let start = taps.starts()[o - 2];
                let naive: f64 = (0..taps.count())
                    .map(|t| f64::from(taps.weight(t, o - 2)) * f64::from(row[(start + t) * channels + channel]))
                    .sum();
                prop_assert!((naive - f64::from(*found)).abs() < 1e-4);
            }
        }
    }
}
