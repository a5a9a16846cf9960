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

    /// The weighted sums of a channel's line, one for each output of `taps`, which were made for its length.
    #[inline(always)]
    pub(super) fn combine(&self, channel: usize, taps: &Taps, out: &mut [f32]) {
        let line = &self.values[channel * self.stride..(channel + 1) * self.stride];
        match self.instructions {
            Instructions::Any => combine(line, taps, out),
            // SAFETY: the machine has the instructions, and the line has two blocks of room behind its numbers.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { x86_64::combine_by_avx2(line, taps, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { x86_64::combine_by_avx512(line, taps, out) },
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

    /// How far beyond its base a block reads.
    #[inline(always)]
    fn reach(offsets: &[i32], count: usize) -> usize {
        offsets.iter().copied().max().unwrap_or(0) as usize + count
    }

    /// # Safety
    /// The machine has AVX-512, and behind the numbers for which `taps` were made `line` has two blocks more.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn combine_by_avx512(line: &[f32], taps: &Taps, out: &mut [f32]) {
        let blocks =
            out.chunks_mut(BLOCK).zip(taps.bases().chunks_exact(2)).zip(taps.offsets().chunks_exact(BLOCK));
        for (block, ((out, bases), offsets)) in blocks.enumerate() {
            let base = bases[0].min(bases[1]);
            let mut places = [0; BLOCK];
            for (i, (place, offset)) in places.iter_mut().zip(offsets).enumerate() {
                *place = (bases[i / (BLOCK / 2)] - base) as i32 + offset;
            }
            let near = reach(&places[..out.len()], taps.count()) <= 2 * BLOCK;
            let from = line[base..].as_ptr();
            // SAFETY: two blocks lie behind every base; an output's taps lie in the line, so do those of the outputs that
            // do not exist, which begin at the base; weights have whole blocks, and the store is masked to `out`.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(BLOCK)));
                let places = _mm512_loadu_si512(places.as_ptr().cast());
                let mut sum = _mm512_setzero_ps();
                for tap in 0..taps.count() {
                    let places = _mm512_add_epi32(places, _mm512_set1_epi32(tap as i32));
                    let weights = _mm512_loadu_ps(taps.of_tap(tap)[block * BLOCK..].as_ptr());
                    let values = if near {
                        _mm512_permutex2var_ps(low, places, high)
                    } else {
                        _mm512_i32gather_ps::<4>(places, from)
                    };
                    sum = _mm512_add_ps(sum, _mm512_mul_ps(weights, values));
                }
                _mm512_mask_storeu_ps(out.as_mut_ptr(), (u32::MAX >> (32 - out.len())) as u16, sum);
            }
        }
    }

    /// # Safety
    /// The machine has AVX2, and behind the numbers for which `taps` were made `line` has two blocks more.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn combine_by_avx2(line: &[f32], taps: &Taps, out: &mut [f32]) {
        const HALF: usize = BLOCK / 2;
        let blocks = out.chunks_mut(HALF).zip(taps.bases()).zip(taps.offsets().chunks_exact(HALF));
        for (block, ((out, &base), offsets)) in blocks.enumerate() {
            let near = reach(&offsets[..out.len()], taps.count()) <= BLOCK;
            let from = line[base..].as_ptr();
            let mut sums = [0.0_f32; HALF];
            // SAFETY: as above, in half blocks.
            unsafe {
                let (low, high) = (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(HALF)));
                let places = _mm256_loadu_si256(offsets.as_ptr().cast());
                let mut sum = _mm256_setzero_ps();
                for tap in 0..taps.count() {
                    let places = _mm256_add_epi32(places, _mm256_set1_epi32(tap as i32));
                    let weights = _mm256_loadu_ps(taps.of_tap(tap)[block * HALF..].as_ptr());
                    let values = if near {
                        // Bit 3 of the place, moved to the sign, says which half has it.
                        let half = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(places));
                        let (low, high) =
                            (_mm256_permutevar8x32_ps(low, places), _mm256_permutevar8x32_ps(high, places));
                        _mm256_blendv_ps(low, high, half)
                    } else {
                        _mm256_i32gather_ps::<4>(from, places)
                    };
                    sum = _mm256_add_ps(sum, _mm256_mul_ps(weights, values));
                }
                _mm256_storeu_ps(sums.as_mut_ptr(), sum);
            }
            out.copy_from_slice(&sums[..out.len()]);
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
            let mut taps = Taps::default();
            taps.fill(input, output, filter, 1.0, mirrored);
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
            for channel in 0..channels {
                let results: Vec<Vec<u32>> = all.iter().map(|instructions| {
                    lines.instructions = *instructions;
                    let mut out = vec![0.0; output];
                    lines.combine(channel, &taps, &mut out);
                    out.iter().map(|v| v.to_bits()).collect()
                }).collect();
                prop_assert!(results.iter().all(|result| *result == results[0]), "{:?}", all);
                for (o, bits) in results[0].iter().enumerate() {
                    let start = taps.starts()[o];
                    let naive: f64 = (0..taps.count())
                        .map(|t| f64::from(taps.weight(t, o)) * f64::from(row[(start + t) * channels + channel]))
                        .sum();
                    prop_assert!((naive - f64::from(f32::from_bits(*bits))).abs() < 1e-4);
                }
            }
        }
    }
}
