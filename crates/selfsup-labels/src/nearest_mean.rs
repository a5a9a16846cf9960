//! Nearest class mean: a sample has the class whose few labelled samples lie around the nearest mean, weighted by the margin
//! to the second nearest. Means may be shrunk towards the mean of all (Tibshirani, Hastie, Narasimhan and Chu 2002).
//!
//! ```text
//! label_i = argmin_c |x_i - m_c|        weight_i = 1 - |x_i - m_1st| / |x_i - m_2nd|
//! shrunk:  m_cj <- m_j + sign(m_cj - m_j) max(|m_cj - m_j| - shrink sqrt(1/n_c - 1/n) (s_j + median s), 0)
//! ```
//! with `s_j` the deviation of feature j within the classes. This is scikit-learn 1.9's `NearestCentroid`; a feature that
//! does not vary within classes, where that divides by zero, keeps what the formula leaves of it.

use crate::FewLabels;
use crate::memory::{restored_as, saved};
use selfsup_core::{
    Error, FeatureRows, Kind, PseudoLabeler, PseudoLabels, Reason, Result, Tensor, TensorExt, check_shape,
};
use selfsup_numerics::{Geometry, nearest_centres};
use serde::{Deserialize, Serialize};

/// Where means are, and which labels to trust.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NearestMeanConfig {
    /// In space, or on the sphere: by the cosine. There samples and means have length 1.
    pub geometry: Geometry,
    /// By how many deviations the means are drawn to the mean of all; 0 leaves them where they are.
    pub shrink: f64,
    /// Labels of a lower weight are rejected: their weight becomes 0. The default rejects none.
    pub min_weight: f64,
}

/// Labels features by the nearest class mean. The first batch is the set that the given labels are of, and what the means
/// are taken from; later ones are labelled by the same means.
#[derive(Debug)]
pub struct NearestMean {
    config: NearestMeanConfig,
    given: FewLabels,
    /// `[C, D]`, or `[0, 0]` before the first batch.
    means: Tensor,
}

impl NearestMean {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the means are to be shrunk by less than 0, or the least weight is not in `[0, 1]`.
    pub fn new(config: NearestMeanConfig, given: FewLabels) -> Result<NearestMean> {
        if !(config.shrink >= 0.0 && config.shrink.is_finite()) {
            return Err(Error::config("shrink", config.shrink, "0 or above"));
        }
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        let means = Tensor::zeros([0, 0], (Kind::Float, selfsup_core::Device::Cpu));
        Ok(NearestMean { config, given, means })
    }

    /// The means `[C, D]`, once a batch was labelled.
    pub fn means(&self) -> Option<&Tensor> {
        (self.means.size()[0] > 0).then_some(&self.means)
    }

    /// The means of the labelled rows of `x`.
    fn fit(&self, x: &Tensor) -> Result<Tensor> {
        self.given.over(x.size()[0])?;
        let (indices, labels) = (self.given.indices(), self.given.labels());
        let classes = self.given.classes();
        let rows = x.index_select(0, &Tensor::from_slice(&indices).to_device(x.device()));
        let rows = match self.config.geometry {
            Geometry::Euclidean => rows,
            Geometry::Spherical => rows.l2_normalize(),
        };
        let rows = rows.to_kind(Kind::Double); // [n, D]
        let labels = Tensor::from_slice(&labels).to_device(x.device());
        let members = labels.one_hot(classes).to_kind(Kind::Double); // [n, C]
        let counts = members.sum_dim_intlist(0, false, None).unsqueeze(1); // [C, 1]
        let mut means = members.tr().matmul(&rows) / &counts; // [C, D]
        if self.config.shrink > 0.0 {
            let n = indices.len() as i64;
            if n == classes {
                let expected =
                    "0, or more labelled samples than classes: one of each says nothing of deviations";
                return Err(Error::config("shrink", self.config.shrink, expected));
            }
            let off = (&rows - means.index_select(0, &labels)).square().sum_dim_intlist(0, false, None);
            let within = (off / (n - classes) as f64).sqrt(); // [D]
            let mut sorted = Vec::<f64>::try_from(&within)?;
            sorted.sort_by(f64::total_cmp);
            let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
            let overall = rows.mean_dim(0, true, None); // [1, D]
            let by = (counts.reciprocal() - 1.0 / n as f64).sqrt() * (within + median) * self.config.shrink;
            let apart = &means - &overall;
            means = overall + apart.sign() * (apart.abs() - by).clamp_min(0.0);
        }
        let means = match self.config.geometry {
            Geometry::Euclidean => means,
            Geometry::Spherical => means.l2_normalize(),
        };
        Ok(means.to_kind(Kind::Float))
    }
}

impl PseudoLabeler for NearestMean {
    type Scores = FeatureRows;

    /// Labels features `[N, D]`. In the first batch given labels stay and have weight 1.
    ///
    /// # Errors
    /// When a given label is of a sample that the first batch does not have, there are too few of them to shrink means, or
    /// a later batch has another number of features.
    fn label(&mut self, scores: &FeatureRows) -> Result<PseudoLabels> {
        let x = scores.tensor();
        let fitted = match self.means() {
            Some(_) => None,
            None => Some(self.fit(x)?),
        };
        let means = fitted.as_ref().unwrap_or(&self.means).to_device(x.device());
        let found = nearest_centres(x, &means, self.config.geometry)?;
        // A sample on two means at once (0 / 0) belongs to neither.
        let margin: Tensor = 1.0 - (found.nearest / found.second).sqrt().nan_to_num(1.0, 1.0, 1.0);
        let weights = margin.masked_fill(&margin.lt(self.config.min_weight), 0.0);
        let labels = PseudoLabels::new(found.labels, weights, Reason::Central, Reason::Between);
        if let Some(means) = fitted {
            self.given.put_into(&labels);
            self.means = means;
        }
        Ok(labels)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![saved("means", &self.means)]
    }

    /// Takes up the means.
    ///
    /// # Errors
    /// When they are missing, no finite Floats, or not one for each class.
    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let means = restored_as(state, "means", &[-1, -1], Kind::Float)?;
        if means.size() != [0, 0] {
            check_shape("state.means", &means, [self.given.classes(), -1])?;
        }
        self.means = means;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affinity::tests::{formula, rows};
    use selfsup_core::Reason::{Between, Central, Given};

    fn labeler(geometry: Geometry, shrink: f64) -> NearestMean {
        let given = FewLabels::new(&[0, 7, 11, 20, 29, 3, 14, 22], &[0, 1, 2, 1, 0, 2, 0, 1], 3).unwrap();
        NearestMean::new(NearestMeanConfig { geometry, shrink, min_weight: 0.0 }, given).unwrap()
    }

    fn classes(found: &PseudoLabels) -> Vec<i64> {
        Vec::<i64>::try_from(&found.labels).unwrap()
    }

    // x = np.sin(np.arange(90).reshape(30, 3) ** 1.5 * 0.37)                                     # scikit-learn 1.9.1
    // l = [0, 1, 2, 1, 0, 2, 0, 1]; i = [0, 7, 11, 20, 29, 3, 14, 22]
    // c = NearestCentroid(shrink_threshold=...).fit(x[i], l);  c.centroids_, c.predict(x)
    #[test]
    fn agrees_with_scikit_learn() {
        let cases = [
            (
                0.0,
                "010022211212122111111110211010",
                [
                    [-0.2652463, -0.2989648, 0.7125313],
                    [-0.1942289, 0.5880543, -0.2808526],
                    [0.1598333, -0.8257162, 0.8701805],
                ],
            ),
            (
                0.3,
                "010222211212122111111110211212",
                [
                    [-0.1323449, -0.1806436, 0.5907059],
                    [-0.1323449, 0.4697331, -0.1590272],
                    [-0.0670577, -0.6669717, 0.7067346],
                ],
            ),
            (2.0, "000000000000000000000000000000", [[-0.1323449, -0.0980205, 0.3794246]; 3]),
        ];
        let x = formula(30, 3);
        for (shrink, expected, means) in cases {
            let mut labeler = labeler(Geometry::Euclidean, shrink);
            let first = labeler.label(&rows(&x)).unwrap();
            let difference = labeler.means().unwrap() - Tensor::from_slice2(&means);
            assert!(f64::try_from(difference.abs().max()).unwrap() < 1e-6, "shrink {shrink}");
            // The second time no label is given.
            let found: String =
                classes(&labeler.label(&rows(&x)).unwrap()).iter().map(i64::to_string).collect();
            assert_eq!(found, expected, "shrink {shrink}");
            for (index, label) in labeler.given.indices().iter().zip(labeler.given.labels()) {
                assert_eq!(first.labels.int64_value(&[*index]), label);
                assert_eq!(first.weights.double_value(&[*index]), 1.0);
                assert_eq!(first.reasons().unwrap()[*index as usize], Given);
            }
        }
    }

    #[test]
    fn weighs_labels_by_the_margin_to_the_second_mean() {
        let x = Tensor::from_slice(&[-1.0_f32, 1.0, 10.0, 0.0, 2.0, 5.0]).unsqueeze(1);
        let given = FewLabels::new(&[0, 1, 2], &[0, 0, 1], 2).unwrap();
        let config = NearestMeanConfig { min_weight: 0.1, ..Default::default() };
        let found = NearestMean::new(config, given).unwrap().label(&rows(&x)).unwrap();
        // Means are 0 and 10.
        assert_eq!(classes(&found)[..5], [0, 0, 1, 0, 0]);
        let weights = Vec::<f64>::try_from(&found.weights).unwrap();
        assert!((weights[3] - 1.0).abs() < 1e-3 && (weights[4] - 0.75).abs() < 1e-5 && weights[5] == 0.0);
        assert_eq!(found.reasons().unwrap(), [Given, Given, Given, Central, Central, Between]);
    }

    #[test]
    fn on_the_sphere_the_largest_cosine_to_the_mean_direction_wins() {
        let x = formula(30, 3);
        let longer = &x * (Tensor::arange(30, (Kind::Float, selfsup_core::Device::Cpu)) + 1.0).unsqueeze(1);
        let mut labeler = labeler(Geometry::Spherical, 0.0);
        labeler.label(&rows(&longer)).unwrap();
        let found = classes(&labeler.label(&rows(&x)).unwrap());
        let unit = |row: &[f64]| {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / length).collect::<Vec<_>>()
        };
        let x = Vec::<Vec<f64>>::try_from(&x).unwrap();
        let means: Vec<Vec<f64>> = (0..3)
            .map(|class| {
                let given = labeler.given.indices().into_iter().zip(labeler.given.labels());
                let members: Vec<_> =
                    given.filter(|(_, l)| *l == class).map(|(i, _)| unit(&x[i as usize])).collect();
                unit(&(0..3).map(|j| members.iter().map(|row| row[j]).sum()).collect::<Vec<f64>>())
            })
            .collect();
        for (row, found) in x.iter().zip(found) {
            let cosine = |class: &usize| row.iter().zip(&means[*class]).map(|(a, b)| a * b).sum::<f64>();
            let best = (0..3).max_by(|a, b| cosine(a).total_cmp(&cosine(b))).unwrap();
            assert_eq!(found, best as i64);
        }
    }

    #[test]
    fn goes_on_from_its_state() {
        let (mut a, mut b) = (labeler(Geometry::Euclidean, 0.3), labeler(Geometry::Euclidean, 0.3));
        b.restore(&a.state()).unwrap();
        assert!(b.means().is_none());
        a.label(&rows(&formula(30, 3))).unwrap();
        b.restore(&a.state()).unwrap();
        let next = rows(&(formula(9, 3) * 0.7));
        let (found, other) = (a.label(&next).unwrap(), b.label(&next).unwrap());
        assert_eq!(found.labels, other.labels);
        assert_eq!(found.weights, other.weights);
    }

    #[test]
    fn samples_at_one_place_and_equal_means_belong_to_neither_class() {
        let x = Tensor::ones([4, 2], (Kind::Float, selfsup_core::Device::Cpu));
        for shrink in [0.0, 0.5] {
            let given = FewLabels::new(&[0, 1, 2], &[0, 1, 1], 2).unwrap();
            let config = NearestMeanConfig { shrink, ..Default::default() };
            let found = NearestMean::new(config, given).unwrap().label(&rows(&x)).unwrap();
            assert_eq!(found.weights.double_value(&[3]), 0.0);
            assert_eq!(found.reasons().unwrap()[3], Between);
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let given = || FewLabels::new(&[0, 5], &[0, 1], 2).unwrap();
        let error = |config| NearestMean::new(config, given()).unwrap_err().to_string();
        let config = NearestMeanConfig { shrink: -1.0, ..Default::default() };
        assert_eq!(error(config), "shrink = -1: 0 or above");
        let config = NearestMeanConfig { min_weight: 2.0, ..Default::default() };
        assert_eq!(error(config), "min_weight = 2: 0 to 1");

        let config = NearestMeanConfig { shrink: 0.5, ..Default::default() };
        let mut one_of_each = NearestMean::new(config, given()).unwrap();
        let error = one_of_each.label(&rows(&formula(6, 2))).unwrap_err().to_string();
        assert!(error.starts_with("shrink = 0.5: 0, or more labelled samples than classes"), "{error}");

        let mut labeler = NearestMean::new(NearestMeanConfig::default(), given()).unwrap();
        let error = labeler.label(&rows(&formula(5, 2))).unwrap_err().to_string();
        assert_eq!(error, "indices = 5: 0 to 4, as there are 5 samples");
        labeler.label(&rows(&formula(6, 2))).unwrap();
        let error = labeler.label(&rows(&formula(6, 3))).unwrap_err().to_string();
        assert_eq!(error, "x: expected [_, 2], found [6, 3]");
        let error = labeler.restore(&[]).unwrap_err().to_string();
        assert_eq!(error, "state.means = missing: [_, _] Float");
        let error = labeler.restore(&[("means".to_owned(), formula(3, 2))]).unwrap_err().to_string();
        assert_eq!(error, "state.means: expected [2, _], found [3, 2]");
        let nan = [("means".to_owned(), formula(2, 2) / 0.0)];
        assert!(labeler.restore(&nan).unwrap_err().to_string().starts_with("state.means is not finite"));
    }
}
