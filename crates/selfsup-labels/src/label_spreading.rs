//! Label spreading: every sample takes a share of its neighbours' distributions and keeps a share of its own first one, so
//! that a given label which its neighbours contradict can be outvoted.
//!
//! Zhou, Bousquet, Lal, Weston and Schoelkopf 2004, *Learning with Local and Global Consistency*, section 2. With the
//! similarities W of the samples, none with itself, and S = D^-1/2 W D^-1/2,
//!
//! ```text
//! F <- alpha S F + (1 - alpha) Y                                                until F settles
//! weight_i = 1 - H(f_i / sum f_i) / log C                                       (Iscen et al. 2019)
//! ```
//! The iterations are scikit-learn's `LabelSpreading`, but for when they end, as in `label_propagation.rs`. With directed edges
//! a degree is the number of edges that arrive, as there.

use crate::FewLabels;
use crate::affinity::{Graph, Kernel, Until, propagate};
use selfsup_core::{Error, FeatureRows, PseudoLabeler, PseudoLabels, Result};
use serde::{Deserialize, Serialize};

/// How to spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelSpreadingConfig {
    /// Which samples are neighbours.
    pub kernel: Kernel,
    /// The share that comes from the neighbours: 0.99 (section 4). scikit-learn: 0.2.
    pub alpha: f64,
    /// The most iterations.
    pub max_iterations: usize,
    /// It ends when an iteration changes less than this share of all that is spread.
    pub tolerance: f64,
    /// Labels of a lower weight are rejected: their weight becomes 0. The default rejects none.
    pub min_weight: f64,
}

impl Default for LabelSpreadingConfig {
    fn default() -> Self {
        LabelSpreadingConfig {
            kernel: Kernel::default(),
            alpha: 0.99,
            max_iterations: 1000,
            tolerance: 1e-5,
            min_weight: 0.0,
        }
    }
}

/// Spreads few labels over a whole set.
#[derive(Debug)]
pub struct LabelSpreading {
    config: LabelSpreadingConfig,
    given: FewLabels,
}

impl LabelSpreading {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When alpha is not between 0 and 1, there is no iteration, the tolerance is below 0, or the least weight is not in
    /// `[0, 1]`.
    pub fn new(config: LabelSpreadingConfig, given: FewLabels) -> Result<LabelSpreading> {
        if !(config.alpha > 0.0 && config.alpha < 1.0) {
            return Err(Error::config("alpha", config.alpha, "above 0 and below 1"));
        }
        Until { max_iterations: config.max_iterations, tolerance: config.tolerance }.check()?;
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        Ok(LabelSpreading { config, given })
    }

    /// Labels the set that a graph is of, whatever the configuration's kernel.
    ///
    /// # Errors
    /// When a given label is of a sample that the set does not have.
    pub fn label_along(&self, graph: &Graph) -> Result<PseudoLabels> {
        let LabelSpreadingConfig { alpha, max_iterations, tolerance, min_weight, .. } = self.config;
        let &Graph { samples, device, .. } = graph;
        let affinity = graph.affinity.normalised()?;
        let until = Until { max_iterations, tolerance };
        let (share, own) = (alpha as f32, (1.0 - alpha) as f32);
        propagate(&affinity, &self.given, samples, &until, min_weight, device, |label, row, _| {
            for v in row.iter_mut() {
                *v *= share;
            }
            if let Some(label) = label {
                row[label as usize] += own;
            }
        })
    }
}

impl PseudoLabeler for LabelSpreading {
    type Scores = FeatureRows;

    /// Labels the set `[N, D]` that the given labels are of, with distributions `[N, C]`. Given labels stay and have weight
    /// 1; their distributions are what was spread, and contradict a label that does not fit its neighbours. A sample that
    /// no label reaches has an even distribution, and its label, the lowest, means nothing.
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
    use selfsup_core::Tensor;
    use selfsup_numerics::Edges;

    fn spreading(kernel: Kernel, alpha: f64, max_iterations: usize, given: FewLabels) -> LabelSpreading {
        let config =
            LabelSpreadingConfig { kernel, alpha, max_iterations, tolerance: 0.0, ..Default::default() };
        LabelSpreading::new(config, given).unwrap()
    }

    // x = np.sin(np.arange(90).reshape(30, 3) ** 1.5 * 0.37)                                     # scikit-learn 1.9.1
    // y = np.full(30, -1); y[[0, 7, 11, 20, 29]] = [0, 1, 2, 1, 0]
    // m = LabelSpreading("knn", n_neighbors=5, alpha=0.8, max_iter=R, tol=0).fit(x, y)           # directed
    // m = LabelSpreading(either, alpha=0.8, max_iter=R, tol=0).fit(x, y) with
    //     def either(X, Y): A = kneighbors_graph(X, 4).toarray(); return np.maximum(A, A.T) + np.eye(30)
    // m = LabelSpreading("rbf", gamma=2.5, alpha=0.8, max_iter=R, tol=0).fit(x, y)
    // m.transduction_, m.label_distributions_[[1, 5, 11, 13, 28]]
    #[test]
    fn agrees_with_scikit_learn() {
        let cases = [
            (
                knn(4, Edges::Directed),
                5,
                "010022211212122111111110010010",
                [
                    [0.0, 1.0, 0.0],
                    [0.0305637, 0.0, 0.9694363],
                    [0.0120084, 0.0, 0.9879916],
                    [0.0286179, 0.0, 0.9713821],
                    [0.0, 1.0, 0.0],
                ],
            ),
            (
                knn(4, Edges::Directed),
                200,
                "010022211212122111111110010010",
                [
                    [0.0, 1.0, 0.0],
                    [0.0555493, 0.0030884, 0.9413624],
                    [0.0220702, 0.001227, 0.9767028],
                    [0.0512752, 0.0028507, 0.945874],
                    [0.005629, 0.9938721, 0.0004989],
                ],
            ),
            (
                knn(4, Edges::Either),
                5,
                "010022011212120111111110010010",
                [
                    [0.0, 1.0, 0.0],
                    [0.3230992, 0.0146745, 0.6622263],
                    [0.1125147, 0.0050857, 0.8823996],
                    [0.2116804, 0.0049349, 0.7833847],
                    [0.0, 1.0, 0.0],
                ],
            ),
            (
                knn(4, Edges::Either),
                200,
                "010022011212120111111110010010",
                [
                    [0.0034342, 0.9963059, 0.00026],
                    [0.3472122, 0.0350396, 0.6177482],
                    [0.1277905, 0.0141295, 0.85808],
                    [0.2383164, 0.0240612, 0.7376224],
                    [0.0061163, 0.9934208, 0.000463],
                ],
            ),
            (
                Kernel::Rbf { gamma: 2.5 },
                5,
                "010022211212122111111110010010",
                [
                    [0.0065493, 0.9875305, 0.0059201],
                    [0.2430269, 0.0189333, 0.7380398],
                    [0.0856947, 0.0065283, 0.907777],
                    [0.2124191, 0.0348368, 0.7527441],
                    [0.0421386, 0.9492605, 0.0086008],
                ],
            ),
            (
                Kernel::Rbf { gamma: 2.5 },
                200,
                "010022211212122111111110010010",
                [
                    [0.0174154, 0.9738931, 0.0086915],
                    [0.2554621, 0.0342166, 0.7103213],
                    [0.0947955, 0.0134544, 0.8917501],
                    [0.2279485, 0.0492799, 0.7227716],
                    [0.0531079, 0.9348173, 0.0120748],
                ],
            ),
        ];
        for (kernel, max_iterations, classes, expected) in cases {
            assert_agrees(&mut spreading(kernel, 0.8, max_iterations, five()), classes, expected);
        }
    }

    /// Equation 3 of the paper, F = (I - alpha S)^-1 Y, by Gauss's elimination in 64 bits.
    #[test]
    fn settles_at_the_closed_form() {
        let (x, alpha) = (formula(30, 3), 0.9);
        let features = Vec::<Vec<f64>>::try_from(&x).unwrap();
        let alike = |i: usize, j: usize| {
            let apart: f64 = features[i].iter().zip(&features[j]).map(|(a, b)| (a - b) * (a - b)).sum();
            if i == j { 0.0 } else { (-2.5 * apart).exp() }
        };
        let degree: Vec<f64> = (0..30).map(|i| (0..30).map(|j| alike(i, j)).sum()).collect();
        let mut system: Vec<Vec<f64>> = (0..30)
            .map(|i| {
                let entry = |j: usize| alike(i, j) / (degree[i] * degree[j]).sqrt();
                let left = (0..30).map(|j| f64::from(u8::from(i == j)) - alpha * entry(j));
                let label = [0, 7, 11, 20, 29].iter().position(|&g| g == i).map(|at| [0, 1, 2, 1, 0][at]);
                left.chain((0..3).map(|c| f64::from(u8::from(label == Some(c))))).collect()
            })
            .collect();
        for pivot in 0..30 {
            let row: Vec<f64> = system[pivot].iter().map(|v| v / system[pivot][pivot]).collect();
            for (i, other) in system.iter_mut().enumerate() {
                let factor = other[pivot];
                if i != pivot {
                    other.iter_mut().zip(&row).for_each(|(v, p)| *v -= factor * p);
                }
            }
            system[pivot] = row;
        }
        let mut labeler = spreading(Kernel::Rbf { gamma: 2.5 }, alpha, 500, five());
        let soft = Vec::<Vec<f64>>::try_from(labeler.label(&rows(&x)).unwrap().soft.unwrap()).unwrap();
        for (found, solved) in soft.iter().zip(&system) {
            let sum: f64 = solved[30..].iter().sum();
            assert!(found.iter().zip(&solved[30..]).all(|(f, s)| (f - s / sum).abs() < 1e-5));
        }
    }

    #[test]
    fn the_distribution_of_a_wrong_label_contradicts_it() {
        // Two pairs of clouds of five; sample 2 of the first is given the label of the second.
        let x = Tensor::from_slice(&[0.0_f32, 1.0, 2.0, 3.0, 4.0, 50.0, 51.0, 52.0, 53.0, 54.0]).unsqueeze(1);
        let given = FewLabels::new(&[0, 1, 2, 3, 4, 7], &[0, 0, 1, 0, 0, 1], 2).unwrap();
        let found = spreading(knn(3, Edges::Either), 0.9, 300, given).label(&rows(&x)).unwrap();
        assert_eq!(found.labels.int64_value(&[2]), 1);
        assert_eq!((found.weights.double_value(&[2]), found.reasons().unwrap()[2]), (1.0, Given));
        assert!(found.soft.unwrap().double_value(&[2, 0]) > 0.6);
    }

    #[test]
    fn samples_without_neighbours_that_reach_them_have_no_weight() {
        let x = Tensor::from_slice(&[0.0_f32, 1.0, 50.0, 51.0, 100.0, 101.0]).unsqueeze(1);
        let given = FewLabels::new(&[0, 3], &[1, 0], 2).unwrap();
        let found = spreading(knn(1, Edges::Mutual), 0.5, 50, given).label(&rows(&x)).unwrap();
        assert_eq!(found.reasons().unwrap(), [Given, Reached, Reached, Given, Unreached, Unreached]);
        assert_eq!(Vec::<f64>::try_from(&found.weights).unwrap(), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_order_of_the_samples_does_not_matter() {
        let x = formula(30, 3);
        let mirrored = FewLabels::new(&[29, 22, 18, 9, 0], &[0, 1, 2, 1, 0], 3).unwrap();
        let kernel = || knn(4, Edges::Either);
        let a = spreading(kernel(), 0.8, 50, five()).label(&rows(&x)).unwrap().soft.unwrap();
        let b = spreading(kernel(), 0.8, 50, mirrored).label(&rows(&x.flip([0]))).unwrap().soft.unwrap();
        assert!(f64::try_from((a - b.flip([0])).abs().max()).unwrap() < 1e-5);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let error = |config| LabelSpreading::new(config, five()).unwrap_err().to_string();
        for (alpha, shown) in [(0.0, "0"), (1.0, "1"), (f64::NAN, "NaN")] {
            let config = LabelSpreadingConfig { alpha, ..Default::default() };
            assert_eq!(error(config), format!("alpha = {shown}: above 0 and below 1"));
        }
        assert_eq!(
            error(LabelSpreadingConfig { max_iterations: 0, ..Default::default() }),
            "max_iterations = 0: at least 1"
        );
        let config = LabelSpreadingConfig { min_weight: -0.5, ..Default::default() };
        assert_eq!(error(config), "min_weight = -0.5: 0 to 1");
    }

    #[test]
    fn one_graph_serves_several_labels() {
        let kernel = knn(4, Edges::Either);
        let x = rows(&formula(30, 3));
        let graph = Graph::new(&x, &kernel).unwrap();
        let config = LabelSpreadingConfig { kernel, ..Default::default() };
        for given in [five(), FewLabels::new(&[3, 9], &[1, 0], 2).unwrap()] {
            let mut labeler = LabelSpreading::new(config.clone(), given).unwrap();
            let (along, alone) = (labeler.label_along(&graph).unwrap(), labeler.label(&x).unwrap());
            assert_eq!((along.labels, along.weights), (alone.labels, alone.weights));
            assert_eq!(along.soft, alone.soft);
        }
        let outside = LabelSpreading::new(config, FewLabels::new(&[3, 30], &[1, 0], 2).unwrap()).unwrap();
        assert!(outside.label_along(&graph).is_err());
    }
}
