//! Lloyd's k-means (1982) with k-means++ (Arthur and Vassilvitskii 2007), Euclidean or spherical (Dhillon and Modha
//! 2001).
//!
//! ```text
//! assign:  l_i = argmin_k |x_i - c_k|^2        update:  c_k = mean { x_i : l_i = k }
//! ```
//! The assignment is one matrix product a block, exact, with ties to the lower cluster; on a CPU rows that cannot have
//! changed are left out (`assign.rs`). The update adds up rows in fixed parts on a CPU and is the product of the one-hot
//! assignment and the data elsewhere: the same on every run. From given
//! centres it goes the way of scikit-learn 1.9's `KMeans`: data are centred first, an empty cluster takes the sample
//! that lies farthest from its centre, and it ends when no label changes, or when the centres' total squared shift is
//! at most `tolerance` times the mean variance of the features.
//!
//! Spherical k-means works on rows of length 1 and scales each centre to length 1 after every update.

use crate::assign::{self, Assigner, TwoNearest};
use crate::finite_matrix;
use rand::RngExt;
use rayon::prelude::*;
use selfsup_core::tensor::{tensor_from_fn, with_slice};
use selfsup_core::{Device, Error, Key, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// Where the data live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Geometry {
    /// In space: centres are means.
    #[default]
    Euclidean,
    /// On the sphere: samples and centres have length 1, near means a high cosine.
    Spherical,
}

/// How to cluster. The defaults are scikit-learn's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansConfig {
    /// The number of clusters.
    pub clusters: i64,
    /// The most rounds of assignment and update.
    pub iterations: usize,
    /// The centres' total squared shift that counts as none, relative to the mean variance of the features.
    pub tolerance: f64,
    /// Where the data live.
    pub geometry: Geometry,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        KMeansConfig { clusters: 8, iterations: 300, tolerance: 1e-4, geometry: Geometry::Euclidean }
    }
}

/// Centres, and how the data they were fitted to fall to them.
#[derive(Debug)]
pub struct KMeans {
    /// The centres, `[K, D]` Float.
    pub centres: Tensor,
    /// The cluster of every sample, `[N]` Int64.
    pub labels: Tensor,
    /// The sum of the squared distances of the samples to their centres (on the sphere: of the scaled samples).
    pub inertia: f64,
    /// The rounds that were done.
    pub iterations: usize,
    geometry: Geometry,
}

/// The cluster of every sample of a set, and how clear it is.
#[derive(Debug)]
pub struct Assignment {
    /// The nearest centre, `[N]` Int64.
    pub labels: Tensor,
    /// The squared distance to it, `[N]` Float.
    pub nearest: Tensor,
    /// The squared distance to the second nearest, `[N]` Float; infinite when there is only one centre.
    pub second: Tensor,
}

/// Samples assigned at a time: bounds the memory of the distances.
const BLOCK: i64 = 8192;

impl KMeans {
    /// Clusters `x` from centres that greedy k-means++ draws at `key`: each further centre is the best of
    /// `2 + ln K` samples drawn in proportion to their squared distance from the centres so far.
    ///
    /// # Shapes
    /// `x` `[N, D]`.
    ///
    /// # Errors
    /// When `x` is no finite matrix, the number of clusters is not in `1..=N`, or there is no iteration.
    pub fn fit(x: &Tensor, config: &KMeansConfig, key: Key) -> Result<KMeans> {
        let (x, offset) = prepare(x, config)?;
        let centres = plus_plus(&x, config.clusters, key)?;
        lloyd(&x, &offset, centres, config)
    }

    /// Clusters `x` from the given centres.
    ///
    /// # Shapes
    /// `x` `[N, D]`, `centres` `[K, D]`.
    ///
    /// # Errors
    /// As [`fit`](KMeans::fit), and when the centres do not fit.
    pub fn fit_from(x: &Tensor, centres: &Tensor, config: &KMeansConfig) -> Result<KMeans> {
        let (x, offset) = prepare(x, config)?;
        let (centres, _) = finite_matrix("centres", centres)?;
        check_shape("centres", &centres, [config.clusters, x.size()[1]])?;
        let centres = match config.geometry {
            Geometry::Euclidean => centres - &offset,
            Geometry::Spherical => centres.l2_normalize(),
        };
        lloyd(&x, &offset, centres, config)
    }

    /// Assigns samples to the centres.
    ///
    /// # Shapes
    /// `x` `[M, D]`.
    ///
    /// # Errors
    /// When `x` is no finite matrix or has another number of features than the centres.
    pub fn assign(&self, x: &Tensor) -> Result<Assignment> {
        nearest_centres(x, &self.centres, self.geometry)
    }
}

/// The two nearest of given centres for every sample. On the sphere samples and centres are scaled to length 1.
///
/// # Shapes
/// `x` `[M, D]`, `centres` `[K, D]`.
///
/// # Errors
/// When `x` or `centres` are no finite matrix, or they differ in the number of features.
pub fn nearest_centres(x: &Tensor, centres: &Tensor, geometry: Geometry) -> Result<Assignment> {
    let (x, _) = finite_matrix("x", x)?;
    let (centres, [_, d]) = finite_matrix("centres", centres)?;
    check_shape("x", &x, [-1, d])?;
    match geometry {
        Geometry::Euclidean => {
            let offset = centres.mean_dim(0, true, None);
            two_nearest(&(x - &offset), &(centres - &offset))
        }
        Geometry::Spherical => two_nearest(&x.l2_normalize(), &centres.l2_normalize()),
    }
}

/// The data as the iterations take them, and what was subtracted: the mean, against rounding; zero on the sphere.
fn prepare(x: &Tensor, config: &KMeansConfig) -> Result<(Tensor, Tensor)> {
    let (x, [n, _]) = finite_matrix("x", x)?;
    if !(1..=n).contains(&config.clusters) {
        return Err(Error::config("clusters", config.clusters, format!("1 to {n}, the number of samples")));
    }
    if config.iterations == 0 {
        return Err(Error::config("iterations", 0, "at least 1"));
    }
    if config.tolerance.is_nan() || config.tolerance < 0.0 {
        return Err(Error::config("tolerance", config.tolerance, "0 or above"));
    }
    let mean = x.mean_dim(0, true, None); // [1, D]
    Ok(match config.geometry {
        Geometry::Euclidean => (x - &mean, mean),
        Geometry::Spherical => (x.l2_normalize(), mean.zeros_like()),
    })
}

/// Greedy k-means++: centres `[K, D]`.
fn plus_plus(x: &Tensor, clusters: i64, key: Key) -> Result<Tensor> {
    let n = x.size()[0];
    let mut rng = key.rng();
    let trials = 2 + (clusters as f64).ln() as usize;
    let squares = x.square().sum_dim_intlist(1, true, None); // [N, 1]
    let distances = |rows: &Tensor| {
        let centres = x.index_select(0, rows);
        let norms = squares.index_select(0, rows).tr(); // [1, T]
        (&squares + norms - (&centres * 2).matmul(&x.tr()).tr()).clamp_min(0.0) // [N, T]
    };
    let first = Tensor::from_slice(&[rng.random_range(0..n)]).to_device(x.device());
    let mut nearest = distances(&first); // [N, 1]
    let mut chosen = vec![first];
    while (chosen.len() as i64) < clusters {
        let cumulated = nearest.squeeze_dim(1).cumsum(0, Kind::Double); // [N]
        let total = f64::try_from(cumulated.get(n - 1))?;
        let draws: Vec<f64> = (0..trials).map(|_| rng.random::<f64>() * total).collect();
        let draws = Tensor::from_slice(&draws).to_device(x.device());
        let candidates =
            draws.searchsorted(&cumulated, false, true, "right", None::<Tensor>).clamp_max(n - 1); // [T]
        let with_candidate = distances(&candidates).minimum(&nearest); // [N, T]
        let best = with_candidate.sum_dim_intlist(0, true, Kind::Double).argmin(1, false); // [1]
        nearest = with_candidate.index_select(1, &best);
        chosen.push(candidates.index_select(0, &best));
    }
    Ok(x.index_select(0, &Tensor::cat(&chosen, 0)))
}

/// The rows' squared lengths, `[N]`.
fn squares(x: &Tensor) -> Tensor {
    x.square().sum_dim_intlist(1, false, None)
}

/// Calls `each` with the squared distances of blocks of rows from all centres `[block, K]`, less the rows' squared
/// lengths.
fn for_blocks(x: &Tensor, centres: &Tensor, mut each: impl FnMut(Tensor)) {
    let norms = squares(centres); // [K]
    let transposed = (centres * -2).tr();
    for first in (0..x.size()[0]).step_by(BLOCK as usize) {
        let rows = x.narrow(0, first, BLOCK.min(x.size()[0] - first));
        each(norms.addmm(&rows, &transposed));
    }
}

/// The nearest centre of every row, `[N]` Int64, in tensor operations.
fn nearest(x: &Tensor, centres: &Tensor) -> Tensor {
    let mut labels = Vec::new();
    for_blocks(x, centres, |distances| labels.push(distances.argmin(1, false)));
    Tensor::cat(&labels, 0)
}

/// The squared distance of every row to its own centre, `[N]`.
fn own_distances(x: &Tensor, labels: &Tensor, centres: &Tensor) -> Tensor {
    (x - centres.index_select(0, labels)).square().sum_dim_intlist(1, false, None)
}

fn two_nearest(x: &Tensor, centres: &Tensor) -> Result<Assignment> {
    if x.device() == Device::Cpu {
        let d = x.size()[1] as usize;
        let (x, centres) = (x.contiguous(), centres.contiguous());
        let found =
            with_slice(&x, |x: &[f32]| with_slice(&centres, |centres| assign::two_nearest(x, centres, d)))??;
        let column = |f: fn(&TwoNearest) -> f32| Tensor::from_slice(&found.iter().map(f).collect::<Vec<_>>());
        let labels: Vec<i64> = found.iter().map(|two| two.label).collect();
        return Ok(Assignment {
            labels: Tensor::from_slice(&labels),
            nearest: column(|two| two.nearest),
            second: column(|two| two.second),
        });
    }
    let squares = squares(x);
    let (mut labels, mut nearest, mut second) = (Vec::new(), Vec::new(), Vec::new());
    for_blocks(x, centres, |distances| {
        let (least, label) = distances.min_dim(1, true);
        let others = distances.scatter_value(1, &label, f64::INFINITY);
        second.push(others.amin([1].as_slice(), false));
        nearest.push(least.squeeze_dim(1));
        labels.push(label.squeeze_dim(1));
    });
    let whole = |parts: &[Tensor]| (Tensor::cat(parts, 0) + &squares).clamp_min(0.0);
    Ok(Assignment { labels: Tensor::cat(&labels, 0), nearest: whole(&nearest), second: whole(&second) })
}

fn lloyd(x: &Tensor, offset: &Tensor, mut centres: Tensor, config: &KMeansConfig) -> Result<KMeans> {
    let variance = f64::try_from(x.var_correction([0].as_slice(), 0, false).mean(Kind::Double))?;
    let tolerance = config.tolerance * variance;
    let x = x.contiguous();
    let mut assigning = Assigning::new(&x, &centres)?;
    let (mut iterations, mut changed) = (0, true);
    while iterations < config.iterations {
        iterations += 1;
        let updated = update(&x, &assigning.labels()?, &centres, config)?;
        let shift = f64::try_from((&updated - &centres).square().sum(Kind::Double))?;
        centres = updated;
        let settled = shift <= tolerance || !changed;
        changed = assigning.update(&x, &centres)?;
        if settled {
            break;
        }
    }
    let labels = assigning.labels()?;
    let inertia = f64::try_from(own_distances(&x, &labels, &centres).sum(Kind::Double))?;
    Ok(KMeans { centres: centres + offset, labels, inertia, iterations, geometry: config.geometry })
}

/// The labels of the samples while the centres move.
enum Assigning {
    /// On a CPU, without an operator of libtorch on all samples, whose threads would go on spinning beside rayon's.
    Kept(Assigner),
    /// Elsewhere, anew each time.
    Anew(Tensor),
}

impl Assigning {
    fn new(x: &Tensor, centres: &Tensor) -> Result<Self> {
        if x.device() != Device::Cpu {
            return Ok(Assigning::Anew(nearest(x, centres)));
        }
        let d = x.size()[1] as usize;
        let centres = Vec::<f32>::try_from(centres.contiguous().view(-1))?;
        Ok(Assigning::Kept(with_slice(x, |x: &[f32]| Assigner::new(x, &centres, d))?))
    }

    /// Whether a sample changed its centre.
    fn update(&mut self, x: &Tensor, centres: &Tensor) -> Result<bool> {
        match self {
            Assigning::Kept(assigner) => {
                let centres = Vec::<f32>::try_from(centres.contiguous().view(-1))?;
                with_slice(x, |x: &[f32]| assigner.update(x, &centres))
            }
            Assigning::Anew(labels) => {
                let before = std::mem::replace(labels, nearest(x, centres));
                Ok(before != *labels)
            }
        }
    }

    /// `[N]` Int64.
    fn labels(&self) -> Result<Tensor> {
        Ok(match self {
            Assigning::Kept(assigner) => Tensor::f_from_slice(&assigner.labels)?,
            Assigning::Anew(labels) => labels.shallow_clone(),
        })
    }
}

/// The means of the clusters `[K, D]`, on the sphere scaled to length 1; empty clusters take far samples.
fn update(x: &Tensor, labels: &Tensor, centres: &Tensor, config: &KMeansConfig) -> Result<Tensor> {
    let clusters = config.clusters;
    let sums =
        if x.device() == Device::Cpu { sums_on_cpu(x, labels, clusters)? } else { sums(x, labels, clusters) };
    let mut counts = Vec::<i64>::try_from(labels.bincount(None::<Tensor>, clusters))?;
    if counts.contains(&0) {
        fill_empty(x, labels, &own_distances(x, labels, centres), &sums, &mut counts)?;
    }
    Ok(match config.geometry {
        Geometry::Euclidean => {
            let counts: Vec<f32> = counts.iter().map(|&c| c as f32).collect();
            sums / Tensor::from_slice(&counts).to_device(x.device()).unsqueeze(1)
        }
        Geometry::Spherical => sums.l2_normalize(),
    })
}

/// The sums of the clusters' rows `[K, D]`, as products with one-hot assignments.
fn sums(x: &Tensor, labels: &Tensor, clusters: i64) -> Tensor {
    let (n, d) = (x.size()[0], x.size()[1]);
    let mut sums = Tensor::zeros([clusters, d], (Kind::Float, x.device()));
    for first in (0..n).step_by(BLOCK as usize) {
        let count = BLOCK.min(n - first);
        let members = Tensor::zeros([count, clusters], (Kind::Float, x.device()));
        let members = members.scatter_value(1, &labels.narrow(0, first, count).unsqueeze(1), 1.0);
        sums = sums.addmm(&members.tr(), &x.narrow(0, first, count));
    }
    sums
}

/// The same row by row. The rows are cut into parts whose number depends on the shapes alone, so that the sums do not
/// depend on the threads.
fn sums_on_cpu(x: &Tensor, labels: &Tensor, clusters: i64) -> Result<Tensor> {
    /// The most numbers that all parts together hold.
    const HELD: usize = 1 << 24;
    let (n, d) = (x.size()[0] as usize, x.size()[1] as usize);
    let size = clusters as usize * d;
    let parts = (HELD / size).clamp(1, 16).min(n.div_ceil(BLOCK as usize));
    let rows = n.div_ceil(parts);
    let parts: Vec<Vec<f32>> = with_slice(&x.contiguous(), |x: &[f32]| {
        with_slice(&labels.contiguous(), |labels: &[i64]| {
            let sum = |(x, labels): (&[f32], &[i64])| {
                let mut sums = vec![0.0_f32; size];
                for (row, &label) in x.chunks_exact(d).zip(labels) {
                    let sum = &mut sums[label as usize * d..][..d];
                    sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
                }
                sums
            };
            x.par_chunks(rows * d).zip(labels.par_chunks(rows)).map(sum).collect()
        })
    })??;
    tensor_from_fn(&[clusters, d as i64], |out: &mut [f32]| {
        for part in parts {
            out.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
        }
        Ok(())
    })
}

/// Gives each empty cluster the sample farthest from its own centre, out of a cluster that keeps another.
fn fill_empty(
    x: &Tensor,
    labels: &Tensor,
    distances: &Tensor,
    sums: &Tensor,
    counts: &mut [i64],
) -> Result<()> {
    let mut farthest = Vec::<i64>::try_from(distances.sort_stable(true, 0, true).1)?.into_iter();
    let labels = Vec::<i64>::try_from(labels)?;
    let empty: Vec<usize> = (0..counts.len()).filter(|&k| counts[k] == 0).collect();
    for cluster in empty {
        // There are at least as many samples as clusters, so while one is empty another has two.
        let Some(sample) = farthest.find(|&i| counts[labels[i as usize] as usize] > 1) else { break };
        let from = labels[sample as usize];
        let row = x.get(sample);
        let _ = sums.get(from).subtract_(&row);
        sums.get(cluster as i64).copy_(&row);
        counts[from as usize] -= 1;
        counts[cluster] = 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    fn config(clusters: i64) -> KMeansConfig {
        KMeansConfig { clusters, ..Default::default() }
    }

    #[test]
    fn both_ways_of_adding_rows_agree() {
        let (x, clusters) = (formula(5000, 7), 11);
        let labels = Tensor::arange(5000, (Kind::Int64, Device::Cpu)).remainder(clusters);
        let difference = sums(&x, &labels, clusters) - sums_on_cpu(&x, &labels, clusters).unwrap();
        assert!(difference.abs().max().scalar().unwrap() < 1e-3);
    }

    #[test]
    fn both_ways_of_assigning_agree() {
        let (x, centres) = (formula(700, 5), formula(1100, 5) + 0.1);
        assert_eq!(two_nearest(&x, &centres).unwrap().labels, nearest(&x, &centres));
    }

    fn assert_centres(found: &KMeans, expected: &[[f64; 3]]) {
        let difference = (&found.centres - Tensor::from_slice2(expected)).abs().max();
        assert!(f64::try_from(difference).unwrap() < 1e-5, "{:?}", Vec::<Vec<f64>>::try_from(&found.centres));
    }

    // x = np.sin(np.arange(180).reshape(60, 3) ** 1.5 * 0.37)
    // km = sklearn.cluster.KMeans(4, init=x[:4], n_init=1, algorithm="lloyd").fit(x)   # 1.9.1
    // km.cluster_centers_, km.inertia_, km.n_iter_, np.bincount(km.labels_), km.labels_[:12]
    #[test]
    fn agrees_with_scikit_learn_from_given_centres() {
        let x = formula(60, 3);
        let found = KMeans::fit_from(&x, &x.narrow(0, 0, 4), &config(4)).unwrap();
        assert_centres(
            &found,
            &[
                [0.71713198, 0.85134202, 0.76925515],
                [0.62482195, 0.21189126, -0.68708488],
                [-0.64461459, 0.61827925, -0.00709566],
                [-0.33723973, -0.78939899, 0.17902206],
            ],
        );
        assert!((found.inertia - 34.045768617604).abs() < 1e-4);
        assert_eq!(found.iterations, 3);
        let counts = Vec::<i64>::try_from(found.labels.bincount(None::<Tensor>, 4)).unwrap();
        assert_eq!(counts, [12, 15, 12, 21]);
        let first = Vec::<i64>::try_from(found.labels.narrow(0, 0, 12)).unwrap();
        assert_eq!(first, [0, 1, 2, 3, 3, 3, 3, 2, 2, 3, 2, 3]);
    }

    // The same with init = [x[0], x[1], x[2], [9, 9, 9], [9, 9, 10]]: two clusters start empty.
    #[test]
    fn repairs_empty_clusters_as_scikit_learn_does() {
        let x = formula(60, 3);
        let far = Tensor::from_slice2(&[[9.0_f32, 9.0, 9.0], [9.0, 9.0, 10.0]]);
        let found = KMeans::fit_from(&x, &Tensor::cat(&[x.narrow(0, 0, 3), far], 0), &config(5)).unwrap();
        assert_centres(
            &found,
            &[
                [0.71713198, 0.85134202, 0.76925515],
                [0.66665634, 0.27347385, -0.66546829],
                [-0.69930512, 0.78527443, -0.22503406],
                [0.15513707, -0.56246962, 0.72896227],
                [-0.72793076, -0.7634712, -0.23633431],
            ],
        );
        assert!((found.inertia - 23.551580454187437).abs() < 1e-4);
        assert_eq!(found.iterations, 14);
    }

    #[test]
    fn is_a_function_of_its_key_and_no_worse_than_a_start_at_the_first_samples() {
        let x = formula(300, 3);
        let fit = |seed| KMeans::fit(&x, &config(6), Key::new(seed)).unwrap();
        assert_eq!(fit(1).labels, fit(1).labels);
        let from_first = KMeans::fit_from(&x, &x.narrow(0, 0, 6), &config(6)).unwrap().inertia;
        assert!((0..5).all(|seed| fit(seed).inertia < 1.1 * from_first));
    }

    #[test]
    fn starts_in_every_cloud_when_clouds_lie_far_apart() {
        let clouds = Tensor::arange(5, (Kind::Float, Device::Cpu)).repeat([20]).unsqueeze(1) * 100.0;
        let x = clouds + formula(100, 1);
        for seed in 0..10 {
            let found = KMeans::fit(&x, &config(5), Key::new(seed)).unwrap();
            let counts = Vec::<i64>::try_from(found.labels.bincount(None::<Tensor>, 5)).unwrap();
            assert_eq!(counts, [20; 5], "seed {seed}");
        }
    }

    #[test]
    fn the_sphere_ignores_lengths() {
        let x = formula(60, 3);
        let scaled = &x * (Tensor::arange(60, (Kind::Float, Device::Cpu)) + 1.0).unsqueeze(1);
        let config = KMeansConfig { geometry: Geometry::Spherical, ..config(4) };
        let a = KMeans::fit(&x, &config, Key::new(3)).unwrap();
        let b = KMeans::fit(&scaled, &config, Key::new(3)).unwrap();
        assert_eq!(a.labels, b.labels);
        let lengths = a.centres.norm_scalaropt_dim(2.0, [1].as_slice(), false);
        assert!(f64::try_from((lengths - 1.0).abs().max()).unwrap() < 1e-6);
        // A centre points along the sum of its members' directions.
        let members = x.l2_normalize().index_select(0, &a.labels.eq(0).nonzero().squeeze_dim(1));
        let direction = members.sum_dim_intlist([0].as_slice(), false, None).l2_normalize();
        assert!(f64::try_from((direction - a.centres.get(0)).abs().max()).unwrap() < 1e-5);
    }

    /// Lloyd's rounds on the sphere by loops: labels by the largest cosine, centres along the sums.
    #[test]
    fn on_the_sphere_it_goes_the_way_of_a_loop_in_64_bits() {
        let x = formula(60, 3);
        let unit = |row: &[f64]| {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / length).collect::<Vec<f64>>()
        };
        let rows: Vec<Vec<f64>> =
            Vec::<Vec<f64>>::try_from(&x).unwrap().iter().map(|row| unit(row)).collect();
        let mut centres = rows[..4].to_vec();
        let mut labels = vec![0; 60];
        for _ in 0..100 {
            for (label, row) in labels.iter_mut().zip(&rows) {
                let cosine = |k: &usize| row.iter().zip(&centres[*k]).map(|(a, b)| a * b).sum::<f64>();
                *label = (0..4).max_by(|a, b| cosine(a).total_cmp(&cosine(b))).unwrap();
            }
            for (k, centre) in centres.iter_mut().enumerate() {
                let members = || rows.iter().zip(&labels).filter(|(_, label)| **label == k);
                let sum = |j: usize| members().map(|(row, _)| row[j]).sum::<f64>();
                *centre = unit(&[sum(0), sum(1), sum(2)]);
            }
        }
        let config = KMeansConfig { geometry: Geometry::Spherical, tolerance: 0.0, ..config(4) };
        let found = KMeans::fit_from(&x, &x.narrow(0, 0, 4), &config).unwrap();
        let labels: Vec<i64> = labels.into_iter().map(|label| label as i64).collect();
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), labels);
        for (found, centre) in Vec::<Vec<f64>>::try_from(&found.centres).unwrap().iter().zip(&centres) {
            assert!(found.iter().zip(centre).all(|(f, e)| (f - e).abs() < 1e-5));
        }
    }

    #[test]
    fn given_centres_on_the_sphere_need_no_length() {
        let x = Tensor::from_slice2(&[[3.0_f32, 0.0], [0.0, 2.0], [1.0, 1.0]]);
        let centres = Tensor::from_slice2(&[[0.0_f32, 7.0], [0.1, 0.0]]);
        let found = nearest_centres(&x, &centres, Geometry::Spherical).unwrap();
        assert_eq!(Vec::<i64>::try_from(&found.labels.narrow(0, 0, 2)).unwrap(), [1, 0]);
        let second = Vec::<f64>::try_from(&found.second).unwrap();
        let expected = [2.0, 2.0, 2.0 - 2.0_f64.sqrt()];
        assert!(second.iter().zip(expected).all(|(s, e)| (s - e).abs() < 1e-6), "{second:?}");
        let error = nearest_centres(&x, &centres.narrow(1, 0, 1), Geometry::Spherical).unwrap_err();
        assert_eq!(error.to_string(), "x: expected [_, 1], found [3, 2]");
    }

    #[test]
    fn assigns_new_samples_with_both_distances() {
        let x = Tensor::from_slice2(&[[0.0_f32, 0.0], [10.0, 0.0]]);
        let found = KMeans::fit_from(&x, &x, &config(2)).unwrap();
        let assignment = found.assign(&Tensor::from_slice2(&[[1.0_f32, 2.0], [9.0, 0.0]])).unwrap();
        assert_eq!(Vec::<i64>::try_from(assignment.labels).unwrap(), [0, 1]);
        assert_eq!(Vec::<f64>::try_from(assignment.nearest).unwrap(), [5.0, 1.0]);
        assert_eq!(Vec::<f64>::try_from(assignment.second).unwrap(), [85.0, 81.0]);
    }

    #[test]
    fn survives_fewer_distinct_samples_than_clusters() {
        let x = Tensor::ones([5, 2], (Kind::Float, Device::Cpu));
        let found = KMeans::fit(&x, &config(3), Key::new(0)).unwrap();
        assert!(found.inertia.abs() < 1e-9);
        assert!(bool::try_from(found.centres.eq(1.0).all()).unwrap());
        let one = KMeans::fit(&x.narrow(0, 0, 1), &config(1), Key::new(0)).unwrap();
        assert_eq!(Vec::<i64>::try_from(one.labels).unwrap(), [0]);
    }

    #[test]
    fn rejects_what_it_cannot_cluster() {
        let x = formula(5, 3);
        let error = KMeans::fit(&x, &config(6), Key::new(0)).unwrap_err().to_string();
        assert_eq!(error, "clusters = 6: 1 to 5, the number of samples");
        let error = KMeans::fit_from(&x, &formula(2, 2), &config(2)).unwrap_err().to_string();
        assert_eq!(error, "centres: expected [2, 3], found [2, 2]");
        let error = KMeans::fit(&(x / 0.0), &config(2), Key::new(0)).unwrap_err().to_string();
        assert_eq!(error, "x is not finite: the first bad row is 0");
    }
}
