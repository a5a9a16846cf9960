//! Who belongs to which cluster, and how they lie around their means.

use rayon::prelude::*;
use selfsup_core::{Device, Error, Kind, Result, Tensor, check_kind, check_shape};

/// Samples by their clusters, of which there are 2 at least and one less than samples at most.
pub(crate) struct Clusters {
    /// The cluster of every sample, numbered by the order of the labels' values.
    pub labels: Vec<usize>,
    /// The samples of every cluster, ascending; none is empty.
    pub members: Vec<Vec<usize>>,
}

impl Clusters {
    /// Checks labels of `n` samples.
    pub(crate) fn new(labels: &Tensor, n: i64) -> Result<Clusters> {
        check_kind("labels", labels, Kind::Int64)?;
        check_shape("labels", labels, [n])?;
        let labels = Vec::<i64>::try_from(labels.to_device(Device::Cpu))?;
        let mut values = labels.clone();
        values.sort_unstable();
        values.dedup();
        let count = values.len();
        if !(2..n).contains(&(count as i64)) {
            let expected = format!("2 to {}, one less than the samples", n - 1);
            return Err(Error::config("clusters that the labels name", count, expected));
        }
        let labels: Vec<usize> = labels.iter().map(|l| values.partition_point(|v| v < l)).collect();
        let mut members = vec![Vec::new(); count];
        for (i, &label) in labels.iter().enumerate() {
            members[label].push(i);
        }
        Ok(Clusters { labels, members })
    }

    /// The means of all clusters and how far their samples lie from them. `x` has rows of `d` numbers.
    pub(crate) fn spreads(&self, x: &[f32], d: usize) -> Vec<Spread> {
        self.members.par_iter().map(|members| Spread::new(x, d, members)).collect()
    }
}

/// How the samples of a cluster lie around their mean.
pub(crate) struct Spread {
    pub mean: Vec<f64>,
    /// The number of samples.
    pub count: f64,
    /// The sum of their squared distances from the mean.
    pub squares: f64,
    /// The mean of their distances from the mean.
    pub distance: f64,
}

impl Spread {
    fn new(x: &[f32], d: usize, members: &[usize]) -> Self {
        let rows = || members.iter().map(|&i| &x[i * d..][..d]);
        let count = members.len() as f64;
        let mut mean = vec![0.0; d];
        for row in rows() {
            mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += f64::from(v));
        }
        for mean in &mut mean {
            *mean /= count;
        }
        let (mut squares, mut distances) = (0.0, 0.0);
        for row in rows() {
            let square: f64 = row.iter().zip(&mean).map(|(&v, mean)| (f64::from(v) - mean).powi(2)).sum();
            squares += square;
            distances += square.sqrt();
        }
        Spread { mean, count, squares, distance: distances / count }
    }
}
