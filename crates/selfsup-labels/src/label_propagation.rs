//! Label propagation: every sample takes the mean of its neighbours' distributions, and the given labels stay.
//!
//! Zhu and Ghahramani 2002, *Learning from Labeled and Unlabeled Data with Label Propagation*. With the
//! similarities W of the samples, themselves included, and T = D^-1 W,
//!
//! ```text
//! Y <- T Y;  rows scaled to sum 1;  rows of given labels as they were           until Y settles
//! weight_i = 1 - H(y_i) / log C                                                 (Iscen et al. 2019)
//! ```
//! The iterations are scikit-learn's `LabelPropagation`, but for when they end: it sums the change over all samples, so that
//! its tolerance means something else for every size of a set; here the change is a share of all that is handed on.

use crate::FewLabels;
use crate::affinity::{Graph, Kernel, Until, propagate};
use selfsup_core::{Error, FeatureRows, PseudoLabeler, PseudoLabels, Result};
use serde::{Deserialize, Serialize};

/// How to propagate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelPropagationConfig {
    /// Which samples are neighbours.
    pub kernel: Kernel,
    /// The most iterations.
    pub max_iterations: usize,
    /// It ends when an iteration changes less than this share of all distributions.
    pub tolerance: f64,
    /// Labels of a lower weight are rejected: their weight becomes 0. The default rejects none.
    pub min_weight: f64,
}

impl Default for LabelPropagationConfig {
    fn default() -> Self {
        LabelPropagationConfig {
            kernel: Kernel::default(),
            max_iterations: 1000,
            tolerance: 1e-5,
            min_weight: 0.0,
        }
    }
}

/// Propagates few labels over a whole set.
///
/// ```
/// use selfsup_core::{FeatureRows, PseudoLabeler, Reason, Tensor};
/// use selfsup_labels::{FewLabels, Kernel, LabelPropagation, LabelPropagationConfig};
/// use selfsup_numerics::KnnGraphConfig;
///
/// let features = Tensor::from_slice(&[0.0_f32, 1.0, 2.0, 50.0, 51.0, 52.0, 90.0, 91.0]).unsqueeze(1);
/// let given = FewLabels::new(&[0, 5], &[0, 1], 2)?;
/// let kernel = Kernel::Knn(KnnGraphConfig { k: 1, ..Default::default() });
/// let config = LabelPropagationConfig { kernel, ..Default::default() };
/// let found = LabelPropagation::new(config, given)?.label(&FeatureRows::new(&features)?)?;
/// assert_eq!(Vec::<i64>::try_from(&found.labels)?[..6], [0, 0, 0, 1, 1, 1]);
/// assert_eq!(found.reasons()?[4..7], [Reason::Reached, Reason::Given, Reason::Unreached]);
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[derive(Debug)]
pub struct LabelPropagation {
    config: LabelPropagationConfig,
    given: FewLabels,
}

impl LabelPropagation {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When there is no iteration, the tolerance is below 0, or the least weight is not in `[0, 1]`.
    pub fn new(config: LabelPropagationConfig, given: FewLabels) -> Result<LabelPropagation> {
        Until { max_iterations: config.max_iterations, tolerance: config.tolerance }.check()?;
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        Ok(LabelPropagation { config, given })
    }

    /// Labels the set that a graph is of, whatever the configuration's kernel.
    ///
    /// # Errors
    /// When a given label is of a sample that the set does not have.
    pub fn label_along(&self, graph: &Graph) -> Result<PseudoLabels> {
        let LabelPropagationConfig { max_iterations, tolerance, min_weight, .. } = self.config;
        let &Graph { ref affinity, samples, device } = graph;
        let until = Until { max_iterations, tolerance };
        propagate(affinity, &self.given, samples, &until, min_weight, device, |label, row, before| {
            if let Some(label) = label {
                row.fill(0.0);
                row[label as usize] = 1.0;
                return;
            }
            // A sample is its own neighbour.
            row.iter_mut().zip(before).for_each(|(v, own)| *v += own);
            let sum: f32 = row.iter().sum();
            if sum > 0.0 {
                for v in row.iter_mut() {
                    *v /= sum;
                }
            }
        })
    }
}

impl PseudoLabeler for LabelPropagation {
    type Scores = FeatureRows;

    /// Labels the set `[N, D]` that the given labels are of, with distributions `[N, C]`. Given labels have weight 1. A
    /// sample that no label reaches has an even distribution, and its label, the lowest, means nothing.
    ///
    /// # Errors
    /// When a given label is of a sample that the set does not have, or the kernel does not fit the set.
    fn label(&mut self, scores: &FeatureRows) -> Result<PseudoLabels> {
        self.given.over(scores.tensor().size()[0])?;
        self.label_along(&Graph::new(scores, &self.config.kernel)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affinity::tests::{assert_agrees, five, formula, knn, rows};
    use selfsup_core::Reason::{Given, Reached, Unreached};
    use selfsup_core::{Reason, Tensor};
    use selfsup_numerics::{Edges, KnnGraph, KnnGraphConfig};

    fn propagation(kernel: Kernel, max_iterations: usize, given: FewLabels) -> LabelPropagation {
        let config = LabelPropagationConfig { kernel, max_iterations, tolerance: 0.0, ..Default::default() };
        LabelPropagation::new(config, given).unwrap()
    }

    // x = np.sin(np.arange(90).reshape(30, 3) ** 1.5 * 0.37)                                     # scikit-learn 1.9.1
    // y = np.full(30, -1); y[[0, 7, 11, 20, 29]] = [0, 1, 2, 1, 0]
    // m = LabelPropagation("knn", n_neighbors=5, max_iter=R, tol=0).fit(x, y)                    # directed
    // m = LabelPropagation(either, max_iter=R, tol=0).fit(x, y) with
    //     def either(X, Y): A = kneighbors_graph(X, 4).toarray(); return np.maximum(A, A.T) + np.eye(30)
    // m = LabelPropagation("rbf", gamma=2.5, max_iter=R, tol=0).fit(x, y)
    // m.transduction_, m.label_distributions_[[1, 5, 11, 13, 28]]
    #[test]
    fn agrees_with_scikit_learn() {
        let cases = [
            (
                knn(4, Edges::Directed),
                5,
                "010222211212122111111110211010",
                [
                    [0.0, 1.0, 0.0],
                    [0.0746667, 0.0, 0.9253333],
                    [0.0, 0.0, 1.0],
                    [0.064, 0.0, 0.936],
                    [0.0, 1.0, 0.0],
                ],
            ),
            (
                knn(4, Edges::Directed),
                200,
                "010222211212122111111110211210",
                [
                    [0.0, 1.0, 0.0],
                    [0.0932461, 0.0, 0.9067539],
                    [0.0, 0.0, 1.0],
                    [0.0879489, 0.0, 0.9120511],
                    [0.003355, 0.9964298, 0.0002152],
                ],
            ),
            (
                knn(4, Edges::Either),
                5,
                "010022211212122111111110010010",
                [
                    [0.0, 1.0, 0.0],
                    [0.3051393, 0.0015164, 0.6933443],
                    [0.0, 0.0, 1.0],
                    [0.18788, 0.0, 0.81212],
                    [0.0, 1.0, 0.0],
                ],
            ),
            (
                knn(4, Edges::Either),
                200,
                "010022211212122111111110010010",
                [
                    [0.0045062, 0.9953184, 0.0001754],
                    [0.3435599, 0.0119954, 0.6444446],
                    [0.0, 0.0, 1.0],
                    [0.2407871, 0.0082597, 0.7509531],
                    [0.0092855, 0.990353, 0.0003615],
                ],
            ),
            (
                Kernel::Rbf { gamma: 2.5 },
                5,
                "010022211212122111111110010010",
                [
                    [0.0030938, 0.9919411, 0.0049651],
                    [0.2221069, 0.0090445, 0.7688486],
                    [0.0, 0.0, 1.0],
                    [0.1801188, 0.0378477, 0.7820335],
                    [0.0158172, 0.9785719, 0.0056108],
                ],
            ),
            (
                Kernel::Rbf { gamma: 2.5 },
                200,
                "010022211212122111111110210010",
                [
                    [0.011918, 0.9793888, 0.0086932],
                    [0.2129216, 0.0262767, 0.7608016],
                    [0.0, 0.0, 1.0],
                    [0.1876956, 0.0545272, 0.7577772],
                    [0.026883, 0.9626586, 0.0104584],
                ],
            ),
        ];
        for (kernel, max_iterations, classes, expected) in cases {
            assert_agrees(&mut propagation(kernel, max_iterations, five()), classes, expected);
        }
    }

    #[test]
    fn settles_at_the_mean_of_the_neighbours() {
        let x = formula(30, 3);
        let soft = propagation(knn(4, Edges::Either), 2000, five()).label(&rows(&x)).unwrap().soft.unwrap();
        let y = Vec::<Vec<f64>>::try_from(soft).unwrap();
        let graph = KnnGraph::new(&x, &KnnGraphConfig { k: 4, ..Default::default() }).unwrap();
        for i in (0..30).filter(|i| ![0, 7, 11, 20, 29].contains(i)) {
            let neighbours = graph.distances.row(i).0;
            for (class, own) in y[i].iter().enumerate() {
                let sum: f64 = neighbours.iter().map(|&j| y[j as usize][class]).sum();
                assert!((sum / neighbours.len() as f64 - own).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn given_labels_stay_and_unreached_samples_have_no_weight() {
        // Three pairs far apart; the third has no label.
        let x = Tensor::from_slice(&[0.0_f32, 1.0, 50.0, 51.0, 100.0, 101.0]).unsqueeze(1);
        for kernel in [knn(1, Edges::Either), Kernel::Rbf { gamma: 1.0 }] {
            let given = FewLabels::new(&[0, 3], &[1, 0], 2).unwrap();
            let found = propagation(kernel, 100, given).label(&rows(&x)).unwrap();
            assert_eq!(found.reasons().unwrap(), [Given, Reached, Reached, Given, Unreached, Unreached]);
            assert_eq!(Vec::<i64>::try_from(found.labels.narrow(0, 0, 4)).unwrap(), [1, 1, 0, 0]);
            assert_eq!(Vec::<f64>::try_from(&found.weights).unwrap(), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
            let soft = Vec::<Vec<f64>>::try_from(found.soft.unwrap()).unwrap();
            assert_eq!(soft[1], [0.0, 1.0]);
            assert_eq!(soft[5], [0.5, 0.5]);
        }
    }

    #[test]
    fn a_sample_between_classes_is_rejected_below_the_least_weight() {
        let x = Tensor::from_slice(&[0.0_f32, 1.0, 2.0]).unsqueeze(1);
        let given = FewLabels::new(&[0, 2], &[0, 1], 2).unwrap();
        let config =
            LabelPropagationConfig { kernel: knn(1, Edges::Either), min_weight: 0.5, ..Default::default() };
        let found = LabelPropagation::new(config, given).unwrap().label(&rows(&x)).unwrap();
        assert_eq!(found.reasons().unwrap(), [Given, Reason::Unsure, Given]);
        assert_eq!(found.weights.double_value(&[1]), 0.0);
    }

    #[test]
    fn duplicated_samples_get_the_same_distribution() {
        let x = formula(8, 2).repeat([4, 1]);
        let given = FewLabels::new(&[0, 1], &[0, 1], 2).unwrap();
        let soft =
            propagation(Kernel::Rbf { gamma: 1.0 }, 2000, given).label(&rows(&x)).unwrap().soft.unwrap();
        // Samples 2 to 7 have no label, and neither have their copies.
        let copies = |copy: i64| soft.narrow(0, 8 * copy + 2, 6);
        for copy in 1..4 {
            assert!(f64::try_from((copies(copy) - copies(0)).abs().max()).unwrap() < 1e-5);
        }
    }

    #[test]
    fn ends_when_nothing_changes() {
        let label = |tolerance, max_iterations| {
            let config = LabelPropagationConfig {
                kernel: knn(4, Edges::Either),
                tolerance,
                max_iterations,
                ..Default::default()
            };
            let found = LabelPropagation::new(config, five()).unwrap().label(&rows(&formula(30, 3)));
            found.unwrap().soft.unwrap()
        };
        assert_eq!(label(10.0, 1000), label(0.0, 1));
        let difference = (label(1e-5, 1000) - label(0.0, 1000)).abs().max();
        assert!((1e-9..1e-3).contains(&f64::try_from(difference).unwrap()));
    }

    #[test]
    fn rejects_what_cannot_work() {
        let error = |config| LabelPropagation::new(config, five()).unwrap_err().to_string();
        assert_eq!(
            error(LabelPropagationConfig { max_iterations: 0, ..Default::default() }),
            "max_iterations = 0: at least 1"
        );
        let config = LabelPropagationConfig { tolerance: f64::NAN, ..Default::default() };
        assert_eq!(error(config), "tolerance = NaN: 0 or above");
        let config = LabelPropagationConfig { min_weight: 2.0, ..Default::default() };
        assert_eq!(error(config), "min_weight = 2: 0 to 1");
        let mut labeler = propagation(knn(4, Edges::Either), 1, five());
        let error = labeler.label(&rows(&formula(29, 3))).unwrap_err().to_string();
        assert_eq!(error, "indices = 29: 0 to 28, as there are 29 samples");
    }

    #[test]
    fn one_graph_serves_several_labels() {
        let kernel = knn(4, Edges::Either);
        let x = rows(&formula(30, 3));
        let graph = Graph::new(&x, &kernel).unwrap();
        let config = LabelPropagationConfig { kernel, ..Default::default() };
        for given in [five(), FewLabels::new(&[3, 9], &[1, 0], 2).unwrap()] {
            let mut labeler = LabelPropagation::new(config.clone(), given).unwrap();
            let (along, alone) = (labeler.label_along(&graph).unwrap(), labeler.label(&x).unwrap());
            assert_eq!((along.labels, along.weights), (alone.labels, alone.weights));
            assert_eq!(along.soft, alone.soft);
        }
        let outside = LabelPropagation::new(config, FewLabels::new(&[3, 30], &[1, 0], 2).unwrap()).unwrap();
        assert!(outside.label_along(&graph).is_err());
    }
}
