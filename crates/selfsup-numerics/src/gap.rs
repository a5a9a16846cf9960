//! The gap statistic: by how much k clusters fit the data better than they fit data without clusters.
//!
//! Tibshirani, Walther and Hastie 2001, *Estimating the number of clusters in a data set via the gap statistic*. With W_k
//! the sum of squared distances to the centres, and W*_kb the same of the b-th of B data sets drawn without clusters,
//!
//! ```text
//! Gap(k) = mean_b log W*_kb - log W_k        s_k = sd_b(log W*_kb) sqrt(1 + 1 / B)
//! the number of clusters is the least k with Gap(k) >= Gap(k + 1) - s_{k+1}
//! ```
//! Candidates need not follow one another; k + 1 is then the next one.

use crate::finite_matrix;
use crate::k_means::{KMeans, KMeansConfig};
use crate::pca::Pca;
use rand::RngExt;
use rayon::prelude::*;
use selfsup_core::tensor::tensor_from_fn;
use selfsup_core::{Error, Key, Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Where data without clusters are drawn from, uniformly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// The box that holds the data (the paper's choice a).
    Box,
    /// The box along the data's principal components that holds them (choice b): it turns with the data.
    #[default]
    PrincipalBox,
}

/// How to cluster and what to compare with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GapConfig {
    /// How to cluster; `clusters` is each candidate in turn.
    pub k_means: KMeansConfig,
    /// Of so many clusterings from different centres the best is taken, of the data and of every reference.
    pub starts: usize,
    /// The number B of data sets without clusters.
    pub references: usize,
    /// Where they are drawn from.
    pub reference: Reference,
}

impl Default for GapConfig {
    fn default() -> Self {
        GapConfig {
            k_means: KMeansConfig::default(),
            starts: 3,
            references: 10,
            reference: Reference::PrincipalBox,
        }
    }
}

/// The gap of a number of clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The number of clusters k.
    pub clusters: i64,
    /// log W_k.
    pub log_dispersion: f64,
    /// Gap(k).
    pub gap: f64,
    /// s_k.
    pub deviation: f64,
}

/// The gaps of numbers of clusters, in ascending order of the numbers; which of them it suggests says
/// [`fewest_that_fit`].
///
/// # Shapes
/// `x` `[N, D]`.
///
/// # Errors
/// When `x` is no finite matrix or all its rows are equal, a candidate is not in `1..=N - 1`, or a setting cannot work.
pub fn gap_statistic(x: &Tensor, candidates: &[i64], config: &GapConfig, key: Key) -> Result<Vec<Gap>> {
    let clusterings = clusterings(x, candidates, config, key)?;
    gaps(x, &clusterings, config, key)
}

/// The least number of clusters whose gap is within a deviation of the next one's; none when every next one is better by
/// more.
pub fn fewest_that_fit(gaps: &[Gap]) -> Option<i64> {
    let enough = |pair: &&[Gap]| pair[0].gap >= pair[1].gap - pair[1].deviation;
    gaps.windows(2).find(enough).map(|pair| pair[0].clusters)
}

/// The best clustering of `x` for each candidate, in ascending order.
pub(crate) fn clusterings(
    x: &Tensor,
    candidates: &[i64],
    config: &GapConfig,
    key: Key,
) -> Result<Vec<(i64, KMeans)>> {
    let (x, [n, _]) = finite_matrix("x", x)?;
    for (field, value) in [("starts", config.starts), ("references", config.references)] {
        if value == 0 {
            return Err(Error::config(field, 0, "at least 1"));
        }
    }
    let mut candidates = candidates.to_vec();
    candidates.sort_unstable();
    candidates.dedup();
    if candidates.is_empty() {
        return Err(Error::config("candidates", "[]", "at least one number of clusters"));
    }
    if let Some(bad) = candidates.iter().find(|k| !(1..n).contains(k)) {
        return Err(Error::config("candidates", bad, format!("1 to {}, one less than the samples", n - 1)));
    }
    if bool::try_from(x.eq_tensor(&x.narrow(0, 0, 1)).all())? {
        return Err(Error::config("x", format!("{n} equal rows"), "rows that differ"));
    }
    candidates.into_iter().map(|k| Ok((k, best(&x, k, config, key.with(0).with(k as u64))?))).collect()
}

/// The best of several clusterings.
fn best(x: &Tensor, clusters: i64, config: &GapConfig, key: Key) -> Result<KMeans> {
    let config = (KMeansConfig { clusters, ..config.k_means.clone() }, config.starts as u64);
    let mut best = KMeans::fit(x, &config.0, key.with(0))?;
    for start in 1..config.1 {
        let found = KMeans::fit(x, &config.0, key.with(start))?;
        if found.inertia < best.inertia {
            best = found;
        }
    }
    Ok(best)
}

/// The gaps of clusterings of `x`.
pub(crate) fn gaps(
    x: &Tensor,
    clusterings: &[(i64, KMeans)],
    config: &GapConfig,
    key: Key,
) -> Result<Vec<Gap>> {
    let frame = Frame::new(x, config.reference)?;
    let mut logs = vec![Vec::new(); clusterings.len()];
    for b in 0..config.references as u64 {
        let key = key.with(1).with(b);
        let drawn = frame.draw(key)?;
        for ((clusters, _), logs) in clusterings.iter().zip(&mut logs) {
            logs.push(best(&drawn, *clusters, config, key.with(*clusters as u64))?.inertia.ln());
        }
    }
    let gap = |((clusters, found), logs): (&(i64, KMeans), &Vec<f64>)| {
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / count;
        let log_dispersion = found.inertia.ln();
        let deviation = variance.sqrt() * (1.0 + 1.0 / count).sqrt();
        Gap { clusters: *clusters, log_dispersion, gap: mean - log_dispersion, deviation }
    };
    Ok(clusterings.iter().zip(&logs).map(gap).collect())
}

/// A box around data.
struct Frame {
    rows: i64,
    /// The least coordinate along each side, and the side's length.
    sides: Vec<(f32, f32)>,
    /// The directions of the sides, one a row, and what is added after turning to them.
    turn: Option<(Tensor, Tensor)>,
}

impl Frame {
    fn new(x: &Tensor, reference: Reference) -> Result<Frame> {
        let (x, [rows, d]) = finite_matrix("x", x)?;
        let (coordinates, turn) = match reference {
            Reference::Box => (x, None),
            Reference::PrincipalBox => {
                let pca = Pca::fit(&x, rows.min(d))?;
                (pca.transform(&x)?, Some((pca.components, pca.mean)))
            }
        };
        let bounds = |bound: Tensor| Vec::<f32>::try_from(bound);
        let least = bounds(coordinates.amin([0].as_slice(), false))?;
        let most = bounds(coordinates.amax([0].as_slice(), false))?;
        let sides = least.into_iter().zip(most).map(|(least, most)| (least, most - least)).collect();
        Ok(Frame { rows, sides, turn })
    }

    /// As many rows as the data have, each drawn at its own key.
    fn draw(&self, key: Key) -> Result<Tensor> {
        let (sides, width) = (&self.sides, self.sides.len());
        let drawn = tensor_from_fn(&[self.rows, width as i64], |out: &mut [f32]| {
            out.par_chunks_mut(width).enumerate().for_each(|(i, row)| {
                let mut rng = key.with(i as u64).rng();
                for (v, (least, length)) in row.iter_mut().zip(sides) {
                    *v = least + length * rng.random::<f32>();
                }
            });
            Ok(())
        })?;
        Ok(match &self.turn {
            None => drawn,
            Some((directions, mean)) => {
                drawn.to_device(directions.device()).matmul(directions) + mean.to_kind(Kind::Float)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    /// Three clouds of thirty.
    fn clouds() -> Tensor {
        let centres = Tensor::from_slice2(&[[0.0_f32, 0.0], [9.0, 0.0], [0.0, 9.0]]);
        centres.repeat([30, 1]) + formula(90, 2)
    }

    fn config() -> GapConfig {
        GapConfig { references: 6, ..Default::default() }
    }

    #[test]
    fn finds_three_clouds() {
        for reference in [Reference::Box, Reference::PrincipalBox] {
            let config = GapConfig { reference, ..config() };
            let gaps = gap_statistic(&clouds(), &[1, 2, 3, 4, 5], &config, Key::new(0)).unwrap();
            assert_eq!(fewest_that_fit(&gaps), Some(3), "{gaps:?}");
        }
    }

    #[test]
    fn finds_one_cluster_in_data_without_clusters() {
        let frame = Frame { rows: 200, sides: vec![(0.0, 1.0), (0.0, 1.0)], turn: None };
        let x = frame.draw(Key::new(5)).unwrap();
        let gaps = gap_statistic(&x, &[1, 2, 3, 4], &config(), Key::new(0)).unwrap();
        assert_eq!(fewest_that_fit(&gaps), Some(1), "{gaps:?}");
    }

    #[test]
    fn is_the_formula_on_the_references_that_it_draws() {
        let (x, key) = (clouds(), Key::new(4));
        let config = GapConfig { reference: Reference::Box, starts: 1, references: 3, ..config() };
        let found = gap_statistic(&x, &[1], &config, key).unwrap();
        // With one cluster W is the sum of squared distances to the mean.
        let log_w = |x: &Tensor| {
            let rows = Vec::<Vec<f64>>::try_from(x).unwrap();
            let mean = |j: usize| rows.iter().map(|row| row[j]).sum::<f64>() / rows.len() as f64;
            let means = [mean(0), mean(1)];
            let square = |row: &Vec<f64>| row.iter().zip(means).map(|(v, m)| (v - m) * (v - m)).sum::<f64>();
            rows.iter().map(square).sum::<f64>().ln()
        };
        let frame = Frame::new(&x, Reference::Box).unwrap();
        let logs: Vec<f64> = (0..3).map(|b| log_w(&frame.draw(key.with(1).with(b)).unwrap())).collect();
        let mean = logs.iter().sum::<f64>() / 3.0;
        let deviation = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
        assert!((found[0].log_dispersion - log_w(&x)).abs() < 1e-5);
        assert!((found[0].gap - (mean - log_w(&x))).abs() < 1e-5);
        assert!((found[0].deviation - deviation * (4.0_f64 / 3.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn references_fill_the_box_around_the_data() {
        let x = clouds();
        let drawn = Frame::new(&x, Reference::Box).unwrap().draw(Key::new(1)).unwrap();
        let (low, high) = (x.amin([0].as_slice(), true), x.amax([0].as_slice(), true));
        assert!(bool::try_from((drawn.ge_tensor(&low) * drawn.le_tensor(&high)).all()).unwrap());
        let middle = drawn.mean_dim(0, true, None) - (&low + &high) / 2.0;
        assert!(bool::try_from(middle.abs().less_tensor(&((high - low) * 0.15)).all()).unwrap());
    }

    #[test]
    fn principal_references_keep_to_the_plane_of_the_data() {
        let x = formula(50, 2).matmul(&Tensor::from_slice2(&[[1.0_f32, 2.0, -1.0], [0.0, 1.0, 1.0]]));
        let drawn = Frame::new(&x, Reference::PrincipalBox).unwrap().draw(Key::new(1)).unwrap();
        // (3, -1, 1) is at right angles to both directions.
        let off = drawn.matmul(&Tensor::from_slice(&[3.0_f32, -1.0, 1.0]));
        let expected = x.matmul(&Tensor::from_slice(&[3.0_f32, -1.0, 1.0]));
        assert!(f64::try_from(expected.abs().max()).unwrap() < 1e-5);
        assert!(f64::try_from(off.abs().max()).unwrap() < 1e-4);
    }

    #[test]
    fn is_a_function_of_its_key_and_does_not_depend_on_scale() {
        let gaps = |x: &Tensor, seed| gap_statistic(x, &[3, 1, 2, 2], &config(), Key::new(seed)).unwrap();
        let x = clouds();
        assert_eq!(gaps(&x, 1), gaps(&x, 1));
        assert_ne!(gaps(&x, 1), gaps(&x, 2));
        for (a, b) in gaps(&x, 1).iter().zip(&gaps(&(&x * 4.0), 1)) {
            assert!(a.clusters == b.clusters && (a.gap - b.gap).abs() < 1e-4, "{a:?} {b:?}");
        }
        let numbers: Vec<i64> = gaps(&x, 1).iter().map(|gap| gap.clusters).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn says_so_when_more_clusters_are_always_better() {
        let gap = |clusters, gap| Gap { clusters, log_dispersion: 0.0, gap, deviation: 0.1 };
        assert_eq!(fewest_that_fit(&[gap(1, 0.0), gap(2, 0.5), gap(4, 1.0)]), None);
        assert_eq!(fewest_that_fit(&[gap(1, 0.0), gap(2, 0.5), gap(4, 0.55)]), Some(2));
        assert_eq!(fewest_that_fit(&[]), None);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let error = |x: &Tensor, candidates: &[i64], config: &GapConfig| {
            gap_statistic(x, candidates, config, Key::new(0)).unwrap_err().to_string()
        };
        let x = formula(5, 2);
        assert_eq!(error(&x, &[2, 5], &config()), "candidates = 5: 1 to 4, one less than the samples");
        assert_eq!(error(&x, &[], &config()), "candidates = []: at least one number of clusters");
        assert_eq!(error(&(x * 0.0), &[2], &config()), "x = 5 equal rows: rows that differ");
        let x = formula(5, 2);
        assert_eq!(error(&x, &[2], &GapConfig { starts: 0, ..config() }), "starts = 0: at least 1");
        assert_eq!(error(&x, &[2], &GapConfig { references: 0, ..config() }), "references = 0: at least 1");
    }
}
