//! Core-set selection (Sener and Savarese 2018, algorithm 1): ask about the sample farthest from all labelled ones, again and
//! again, so that no sample is far from a labelled one. The greedy solution of the k-centre problem covers within twice the
//! best possible radius (Gonzalez 1985).
//!
//! ```text
//! repeat n times: i = argmax_i min_{j labelled or chosen} |x_i - x_j|
//! ```
//! Exact: distances are sums of squared differences, a block of samples against a block of centres at a time. Where nothing
//! is labelled, the first is the sample nearest to the mean of all.

use super::pool::{Picks, Pool, Selector};
use rayon::prelude::*;
use selfsup_core::tensor::with_slice;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Proposes samples that cover the feature space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreSet {}

impl Selector for CoreSet {
    type Pool = Pool;

    /// As [`Selector::select_next`].
    ///
    /// # Errors
    /// When there are fewer than `n` samples without a label, or features are so large that their squares are not finite.
    fn select_next(&self, n: usize, pool: &Pool) -> Result<Vec<i64>> {
        let mut picks = Picks::new(n, pool)?;
        if n == 0 {
            return Ok(Vec::new());
        }
        let d = pool.features().size()[1] as usize;
        with_slice(pool.features(), |rows: &[f32]| {
            let mut nearest = vec![f32::INFINITY; pool.len()];
            let mut centres = pool.labelled();
            if centres.is_empty() {
                let nearness: Vec<f64> = distances_to_mean(rows, d).iter().map(|d| -d).collect();
                centres.extend(picks.take_best(nearness.into_iter().enumerate()));
            }
            while !picks.done() {
                approach(rows, d, &centres, &mut nearest);
                if nearest.iter().any(|distance| !distance.is_finite()) {
                    return Err(Error::NonFinite {
                        what: "a squared distance".to_owned(),
                        detail: "scale the features below 1e18".to_owned(),
                    });
                }
                centres.clear();
                centres.extend(picks.take_best(nearest.iter().map(|&d| f64::from(d)).enumerate()));
            }
            Ok(picks.into_order())
        })?
    }
}

/// Squared, in 64 bits.
fn distances_to_mean(rows: &[f32], d: usize) -> Vec<f64> {
    let n = (rows.len() / d) as f64;
    let mut mean = vec![0.0; d];
    for row in rows.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / n);
    }
    let distance = |row: &[f32]| row.iter().zip(&mean).map(|(&v, m)| (f64::from(v) - m).powi(2)).sum();
    rows.chunks_exact(d).map(distance).collect()
}

/// Samples and centres that are compared while they lie in a cache.
const ROWS: usize = 64;
const CENTRES: usize = 64;

/// Lowers the squared distance of every sample to its nearest centre by new centres.
fn approach(rows: &[f32], d: usize, centres: &[usize], nearest: &mut [f32]) {
    let block = |(nearest, block): (&mut [f32], &[f32])| {
        for centres in centres.chunks(CENTRES) {
            for (nearest, row) in nearest.iter_mut().zip(block.chunks_exact(d)) {
                for &centre in centres {
                    *nearest = nearest.min(square_distance(row, &rows[centre * d..][..d]));
                }
            }
        }
    };
    nearest.par_chunks_mut(ROWS).zip(rows.par_chunks(ROWS * d)).for_each(block);
}

/// By differences, which loses no digits to the length of the rows, in sixteen lanes that the compiler keeps in vectors.
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 =
        a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..16 {
            lanes[i] += (a[i] - b[i]) * (a[i] - b[i]);
        }
    }
    lanes.into_iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, FeatureRows, Kind, Tensor};

    fn wave(n: i64, d: i64) -> Tensor {
        let i = Tensor::arange(n * d, (Kind::Double, Device::Cpu));
        (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([n, d]).to_kind(Kind::Float)
    }

    fn select(x: &Tensor, labelled: &[i64], n: usize) -> Vec<i64> {
        CoreSet {}.select_next(n, &Pool::new(&FeatureRows::new(x).unwrap(), labelled).unwrap()).unwrap()
    }

    /// The definition: the farthest of all, anew each time.
    fn naive(x: &Tensor, labelled: &[i64], n: usize) -> Vec<i64> {
        let x = Vec::<Vec<f64>>::try_from(x).unwrap();
        let distance = |a: usize, b: usize| x[a].iter().zip(&x[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let mut centres: Vec<usize> = labelled.iter().map(|&i| i as usize).collect();
        for _ in 0..n {
            let (mut best, mut most) = (0, -1.0);
            for i in 0..x.len() {
                let nearest = centres.iter().map(|&c| distance(i, c)).fold(f64::INFINITY, f64::min);
                if !centres.contains(&i) && nearest > most {
                    (best, most) = (i, nearest);
                }
            }
            centres.push(best);
        }
        centres[labelled.len()..].iter().map(|&i| i as i64).collect()
    }

    #[test]
    fn equals_a_naive_loop() {
        for (n, d) in [(40, 3), (200, 16), (150, 37)] {
            let x = wave(n, d);
            assert_eq!(select(&x, &[3, 17], 12), naive(&x, &[3, 17], 12));
            let many: Vec<i64> = (0..n).step_by(2).collect(); // more than a block of centres
            assert_eq!(select(&x, &many, 10), naive(&x, &many, 10));
        }
    }

    #[test]
    fn is_not_disturbed_by_a_far_origin() {
        let x = (wave(100, 8) * 256.0).round(); // whole numbers: exact when moved
        assert_eq!(select(&x, &[0], 20), select(&(&x + 4096.0), &[0], 20));
        assert_eq!(select(&x, &[0], 20), naive(&x, &[0], 20));
    }

    #[test]
    fn starts_in_the_middle_where_nothing_is_labelled() {
        let line = Tensor::from_slice(&[0.0_f32, 1.0, 2.0, 3.0, 10.0]).unsqueeze(1);
        assert_eq!(select(&line, &[], 3), [3, 4, 0]); // mean 3.2
        assert_eq!(select(&line, &[0], 2), [4, 3]);
    }

    #[test]
    fn ties_go_to_the_lower_position() {
        let square =
            Tensor::from_slice2(&[[0.0_f32, 0.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]);
        assert_eq!(select(&square, &[0], 4), [1, 2, 3, 4]);
    }

    #[test]
    fn rejects_distances_that_are_not_finite() {
        let x = Tensor::from_slice2(&[[1e30_f32], [-1e30], [0.0]]);
        let pool = Pool::new(&FeatureRows::new(&x).unwrap(), &[0]).unwrap();
        let error = CoreSet {}.select_next(1, &pool).unwrap_err().to_string();
        assert_eq!(error, "a squared distance is not finite: scale the features below 1e18");
    }
}
