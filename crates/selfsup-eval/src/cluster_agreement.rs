//! Do clusters that were found without labels agree with classes? Between two partitions `C` (classes) and `K` (clusters),
//! whatever their names:
//!
//! ```text
//! accuracy       max over one-to-one m  1/N sum_i [m(k_i) = c_i]                 optimal assignment      (Kuhn 1955)
//! homogeneity    I(C;K) / H(C)       completeness    I(C;K) / H(K)              (Rosenberg and Hirschberg 2007)
//! NMI            I(C;K) / mean(H(C), H(K)), which is the V-measure, their harmonic mean
//! AMI            (I - E[I]) / (mean(H(C), H(K)) - E[I])    E over random clusterings of these sizes  (Vinh et al. 2010)
//! ARI            (pairs together in both - expected) / (greatest - expected)           (Hubert and Arabie 1985)
//! ```
//! AMI and ARI are 0 on average for clusters drawn at random; accuracy, NMI and V are not, and grow with the number of
//! clusters. Values are scikit-learn 1.9's, in 64 bits, also where a partition has one part: homogeneity is 1 with one
//! class, completeness with one cluster. Clusters beyond the number of classes count as wrong in the accuracy.

use crate::contingency::Table;
use crate::interval::LEVEL;
use crate::measurement::Origin;
use crate::{Interval, Mean, Measurement};
use selfsup_core::{Result, Tensor};
use selfsup_numerics::best_matching;
use serde::{Deserialize, Serialize};

/// How far clusters agree with classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterAgreement {
    /// The accuracy when each cluster is given a class of its own so that it is greatest.
    pub accuracy: Mean,
    /// The normalised mutual information, with the arithmetic mean.
    pub nmi: Mean,
    /// The mutual information adjusted for chance.
    pub ami: Mean,
    /// The Rand index adjusted for chance.
    pub ari: Mean,
    /// Whether clusters hold samples of one class each.
    pub homogeneity: Mean,
    /// Whether a class' samples are in one cluster.
    pub completeness: Mean,
    /// Their harmonic mean.
    pub v_measure: Mean,
    /// The classes that occur.
    pub classes: usize,
    /// The clusters that occur; empty ones do not count.
    pub clusters: usize,
    /// The class that each cluster is given for the accuracy, clusters by ascending number; none for those left over.
    pub assignment: Vec<(i64, Option<i64>)>,
}

/// Compares clusters with classes. Intervals are the jackknife's (Wilson's for the accuracy, at the assignment found), and
/// left out where more than 1024 pairs of class and cluster occur.
///
/// # Shapes
/// `labels` and `clusters` `[N]` Int64 of any values.
///
/// # Errors
/// When the two do not fit each other or are empty.
pub fn cluster_agreement(labels: &Tensor, clusters: &Tensor) -> Result<ClusterAgreement> {
    let table = Table::of(labels, clusters)?;
    let (rows, columns) = (table.class_names.len(), table.cluster_names.len());
    let n = table.n() as usize;
    let mut gain = vec![0.0; rows * columns];
    table.cells.iter().for_each(|cell| gain[cell.cluster * rows + cell.class] = cell.count as f64);
    let matching = best_matching(&gain, columns, rows)?;
    let matched = matching.iter().enumerate().filter_map(|(cluster, class)| Some(cluster * rows + (*class)?));
    let right = matched.map(|at| gain[at]).sum::<f64>() as u64;
    let assignment = table.cluster_names.iter().zip(&matching);
    let value = table.measures();
    let without: Vec<([f64; 6], u64)> = if table.cells.len() > MOST_CELLS {
        Vec::new()
    } else {
        (0..table.cells.len()).map(|i| (table.without_one_of(i).measures(), table.cells[i].count)).collect()
    };
    let mean = |i: usize| -> Result<Mean> {
        let without: Vec<(f64, u64)> = without.iter().map(|(values, count)| (values[i], *count)).collect();
        Ok(Mean { value: value[i], interval: Interval::jackknife(value[i], &without, LEVEL)?, n })
    };
    Ok(ClusterAgreement {
        accuracy: Mean {
            value: right as f64 / n as f64,
            interval: Interval::wilson(right, n as u64, LEVEL)?,
            n,
        },
        nmi: mean(0)?,
        ami: mean(1)?,
        ari: mean(2)?,
        homogeneity: mean(3)?,
        completeness: mean(4)?,
        v_measure: mean(5)?,
        classes: rows,
        clusters: columns,
        assignment: assignment.map(|(&name, class)| (name, class.map(|c| table.class_names[c]))).collect(),
    })
}

/// Above this many pairs the measures without each sample take longer than they are worth.
const MOST_CELLS: usize = 1024;

impl ClusterAgreement {
    /// The measures for a report. `split` says which samples were clustered, `seed` what the clustering was drawn with, and
    /// `by` how they were, as in `k-means`.
    pub fn measurements(&self, split: &str, seed: Option<u64>, by: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed };
        let what = format!("{} clusters by {by} against {} classes", self.clusters, self.classes);
        let of = |name: &str, mean: &Mean, text: &str| {
            origin.mean(format!("cluster_{name}"), mean, format!("{text}: {what}"))
        };
        vec![
            of(
                "accuracy",
                &self.accuracy,
                "accuracy when each cluster is given a class of its own, the best way",
            ),
            of("nmi", &self.nmi, "mutual information over the mean of the entropies; 1 for equal partitions"),
            of("ami", &self.ami, "mutual information adjusted for chance, 0 at random (Vinh et al. 2010)"),
            of("ari", &self.ari, "Rand index adjusted for chance, 0 at random (Hubert and Arabie 1985)"),
            of(
                "homogeneity",
                &self.homogeneity,
                "how far a cluster tells the class, 1 when clusters are pure",
            ),
            of(
                "completeness",
                &self.completeness,
                "how far a class tells the cluster, 1 when classes are whole",
            ),
            of("v_measure", &self.v_measure, "harmonic mean of homogeneity and completeness"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(labels: &[i64], clusters: &[i64]) -> ClusterAgreement {
        cluster_agreement(&Tensor::from_slice(labels), &Tensor::from_slice(clusters)).unwrap()
    }

    /// Accuracy, NMI, AMI, ARI, homogeneity, completeness, V.
    fn values(a: &ClusterAgreement) -> [f64; 7] {
        [a.accuracy, a.nmi, a.ami, a.ari, a.homogeneity, a.completeness, a.v_measure].map(|m| m.value)
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        let near = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-9);
        assert!(near && found.len() == expected.len(), "{found:?}\nexpected {expected:?}");
    }

    fn sixty() -> (Vec<i64>, Vec<i64>) {
        ((0..60).map(|i| i * i % 7).collect(), (0..60).map(|i| i * i % 11 / 2 * 10 - 5).collect())
    }

    // def ours(y, k):
    //     m = contingency_matrix(y, k); i, j = scipy.optimize.linear_sum_assignment(-m)
    //     return [m[i, j].sum() / len(y), normalized_mutual_info_score(y, k), adjusted_mutual_info_score(y, k),
    //             adjusted_rand_score(y, k), *homogeneity_completeness_v_measure(y, k)]           # scikit-learn 1.9.1
    // i = np.arange(60); ours(i * i % 7, i * i % 11 // 2 * 10 - 5); ours(i % 4, i // 15); ours(i % 4, np.zeros(60));
    // ours(np.zeros(60), i % 4); ours(np.zeros(60), np.zeros(60)); ours(i % 4, i); ours(i, i); ours(i % 4, -i % 4)
    #[test]
    fn agrees_with_scikit_learn() {
        let i: Vec<i64> = (0..60).collect();
        let of = |f: fn(i64) -> i64| i.iter().map(|&i| f(i)).collect::<Vec<i64>>();
        let (y, k) = sixty();
        let cases = [
            (y, k),
            (of(|i| i % 4), of(|i| i / 15)),
            (of(|i| i % 4), of(|_| 0)),
            (of(|_| 0), of(|i| i % 4)),
            (of(|_| 0), of(|_| 0)),
            (of(|i| i % 4), i.clone()),
            (i.clone(), i.clone()),
            (of(|i| i % 4), of(|i| (-i).rem_euclid(4))),
        ];
        for ((y, k), expected) in cases.iter().zip(SKLEARN) {
            assert_close(&values(&agreement(y, k)), &expected);
        }
    }

    const SKLEARN: [[f64; 7]; 8] = [
        [
            0.3,
            0.008376661964266847,
            -0.05787715286857022,
            -0.0418075530108351,
            0.008309695513707574,
            0.008444716526655625,
            0.008376661964266846,
        ],
        [
            0.26666666666666666,
            0.005050952267856293,
            -0.057466185307633776,
            -0.04888888888888889,
            0.005050952267856293,
            0.005050952267856293,
            0.005050952267856293,
        ],
        [0.25, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        [0.25, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        [1.0; 7],
        [
            0.06666666666666667,
            0.5058878647216384,
            3.738938805661707e-14,
            0.0,
            0.9999999999999993,
            0.3385876151975627,
            0.5058878647216385,
        ],
        [1.0; 7],
        [1.0; 7],
    ];

    #[test]
    fn names_do_not_matter_and_equal_partitions_agree() {
        let (y, k) = sixty();
        let renamed: Vec<i64> = k.iter().map(|k| 1000 - 7 * k).collect();
        assert_close(&values(&agreement(&y, &k)), &values(&agreement(&y, &renamed)));
        let found = agreement(&y, &y.iter().map(|y| 3 - y).collect::<Vec<_>>());
        assert_close(&values(&found), &[1.0; 7]);
        assert!(found.assignment.iter().all(|(cluster, class)| *class == Some(3 - cluster)));
    }

    #[test]
    fn clusters_beyond_the_classes_have_none() {
        let found = agreement(&[0, 0, 0, 5, 5, 5], &[9, 9, 2, 4, 4, 4]);
        assert_eq!(found.assignment, [(2, None), (4, Some(5)), (9, Some(0))]);
        assert_eq!((found.accuracy.value, found.classes, found.clusters), (5.0 / 6.0, 2, 3));
        let two = agreement(&[0, 0, 1, 1, 2, 2], &[7, 7, 7, 7, 8, 8]);
        assert_eq!((two.accuracy.value, two.clusters), (4.0 / 6.0, 2));
    }

    #[test]
    fn random_clusters_have_no_agreement_beyond_chance() {
        let y: Vec<i64> = (0..3000).map(|i| i % 5).collect();
        let k: Vec<i64> = (0..3000)
            .map(|i| (((f64::from(i) * 12.9898).sin() * 43758.5453).fract().abs() * 8.0) as i64)
            .collect();
        let found = agreement(&y, &k);
        for measure in [found.ami, found.ari] {
            let interval = measure.interval.unwrap();
            assert!(measure.value.abs() < 0.01 && interval.low < 0.0 && interval.high > 0.0, "{measure:?}");
        }
    }

    #[test]
    fn the_jackknife_leaves_each_sample_out_once() {
        let (y, k) = sixty();
        let without: Vec<(f64, u64)> = (0..60)
            .map(|i| {
                let skip = |v: &[i64]| [&v[..i], &v[i + 1..]].concat();
                (agreement(&skip(&y), &skip(&k)).ari.value, 1)
            })
            .collect();
        let found = agreement(&y, &k).ari;
        let expected = Interval::jackknife(found.value, &without, 0.95).unwrap().unwrap();
        let found = found.interval.unwrap();
        assert_close(&[found.low, found.high], &[expected.low, expected.high]);
    }

    #[test]
    fn says_what_its_numbers_are() {
        let (y, k) = sixty();
        let numbers = agreement(&y, &k).measurements("test", Some(4), "k-means");
        assert_eq!(numbers.len(), 7);
        assert_eq!((numbers[3].name.as_str(), numbers[3].seed, numbers[3].n), ("cluster_ari", Some(4), 60));
        let expected = "Rand index adjusted for chance, 0 at random (Hubert and Arabie 1985): 4 clusters by k-means \
                        against 4 classes";
        assert_eq!(numbers[3].definition, expected);
    }

    #[test]
    fn rejects_partitions_that_do_not_fit() {
        let error = |y: &Tensor, k: &Tensor| cluster_agreement(y, k).unwrap_err().to_string();
        let y = Tensor::from_slice(&[0_i64, 1]);
        assert_eq!(error(&y, &Tensor::from_slice(&[0_i64])), "clusters: expected [2], found [1]");
        let floats = Tensor::from_slice(&[0.0_f32, f32::NAN]);
        assert_eq!(error(&y, &floats), "clusters: expected elements of kind Int64, found Float");
        let none = Tensor::from_slice::<i64>(&[]);
        assert_eq!(error(&none, &none), "labels = none: at least one sample");
    }
}
