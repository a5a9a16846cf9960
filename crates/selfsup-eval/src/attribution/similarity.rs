//! What is explained where there are no labels: how far an input's features point the way that a reference's do.
//!
//! ```text
//! u_i = (r_i - m) / |r_i - m|        s_i(x) = (f(x) - m) . u_i
//! ```
//! with references `r`, most often the features of the inputs themselves as they are, and the mean `m` of many features (Crabbé and
//! van der Schaar 2022, without the mean; Lin et al. 2022 compare with a set of other inputs for the same reason: what all
//! features share says nothing of one). It is not a cosine: at the reference itself a cosine is at its greatest, and its
//! gradient zero.

use selfsup_core::{Error, Result, Tensor, TensorExt, check_shape};

/// References, one for each input of a batch.
#[derive(Debug)]
pub struct Similarity {
    /// Where features are measured from, `[D]`.
    mean: Tensor,
    /// Where each reference lies from there, at length 1, `[N, D]`.
    directions: Tensor,
}

impl Similarity {
    /// Holds references, without gradient.
    ///
    /// # Shapes
    /// `references` `[N, D]`, `mean` `[D]`.
    ///
    /// # Errors
    /// When they do not fit, or are not finite.
    pub fn new(references: &Tensor, mean: &Tensor) -> Result<Similarity> {
        let [_, d] = check_shape("references", references, [-1, -1])?;
        check_shape("mean", mean, [d])?;
        for (name, x) in [("references", references), ("mean", mean)] {
            if !bool::try_from(x.isfinite().all())? {
                let detail = "at least one of its numbers".to_owned();
                return Err(Error::NonFinite { what: name.to_owned(), detail });
            }
        }
        let mean = mean.detach();
        Ok(Similarity { directions: (references.detach() - &mean).l2_normalize(), mean })
    }

    /// How far features lie along their references; 0 for a reference that is the mean.
    ///
    /// # Shapes
    /// `[N, D]` to `[N]`.
    ///
    /// # Errors
    /// When there are not as many as references.
    pub fn score(&self, features: &Tensor) -> Result<Tensor> {
        let [n, d] = check_shape("references", &self.directions, [-1, -1])?;
        check_shape("features", features, [n, d])?;
        Ok(((features - &self.mean) * &self.directions).sum_dim_intlist(1, false, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::{assert_elements, wave};

    #[test]
    fn a_feature_scores_its_distance_from_the_mean_at_its_own_reference() {
        let (features, mean) = (wave(&[3, 4], 0.3), wave(&[4], 0.9));
        let similarity = Similarity::new(&features, &mean).unwrap();
        let distances = (&features - &mean).norm_scalaropt_dim(2.0, [1], false);
        let difference = (similarity.score(&features).unwrap() - distances).abs().max();
        assert!(difference.scalar().unwrap() < 1e-6);
    }

    #[test]
    fn the_gradient_at_the_reference_is_its_direction_and_not_zero() {
        let features = Tensor::from_slice2(&[[3.0_f32, 4.0]]).set_requires_grad(true);
        let similarity = Similarity::new(&features, &Tensor::from_slice(&[0.0_f32, 0.0])).unwrap();
        let score = similarity.score(&features).unwrap();
        let gradient = Tensor::run_backward(&[score.sum(None)], &[&features], false, false).remove(0);
        assert_elements(&gradient, &[0.6, 0.8], 1e-6);
    }

    #[test]
    fn a_reference_at_the_mean_has_no_direction() {
        let mean = wave(&[4], 0.9);
        let similarity = Similarity::new(&mean.unsqueeze(0), &mean).unwrap();
        assert_elements(&similarity.score(&wave(&[1, 4], 0.3)).unwrap(), &[0.0], 1e-12);
    }

    #[test]
    fn rejects_references_that_do_not_fit() {
        let (features, mean) = (wave(&[3, 4], 0.3), wave(&[4], 0.9));
        let error = Similarity::new(&features, &wave(&[3], 0.1)).unwrap_err().to_string();
        assert_eq!(error, "mean: expected [4], found [3]");
        let error = Similarity::new(&(&features / 0.0), &mean).unwrap_err().to_string();
        assert!(error.starts_with("references is not finite"), "{error}");
        let similarity = Similarity::new(&features, &mean).unwrap();
        let error = similarity.score(&wave(&[2, 4], 0.3)).unwrap_err().to_string();
        assert_eq!(error, "features: expected [3, 4], found [2, 4]");
    }
}
