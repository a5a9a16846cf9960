//! The KoLeo regulariser of DINOv2: the features of a batch are to lie far from their nearest neighbours.
//!
//! Sablayrolles, Douze, Schmid and Jégou 2019, *Spreading vectors for similarity search*, from the estimator of entropy
//! by Kozachenko and Leonenko; Oquab et al. 2023, *DINOv2*, section 4. With z of unit length and nn(i) the nearest other
//! sample of the batch,
//!
//! ```text
//! L = - mean over i of log( |z_i - z_nn(i) + eps| + eps ),     eps = 1e-8
//! ```

use selfsup_core::{Error, Result, Tensor, TensorExt, check_shape, tch};

/// The KoLeo regulariser.
#[derive(Clone, Copy, Debug, Default)]
pub struct KoLeoLoss;

const EPS: f64 = 1e-8;

impl KoLeoLoss {
    /// The mean over a batch, among the samples of this rank alone, as in the authors' code.
    ///
    /// # Shapes
    /// `x` `[N, D]`, of any length. Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is no matrix, or there is no second sample.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [n, _] = check_shape("features", x, [-1, -1])?;
        if n < 2 {
            return Err(Error::Shape {
                name: "features".to_owned(),
                expected: "at least 2 samples, so that each has a neighbour".to_owned(),
                found: format!("{:?}", x.size()),
            });
        }
        let z = x.l2_normalize(); // [N, D]
        let nearest = tch::no_grad(|| {
            let cosines = z.matmul(&z.tr());
            let _ = cosines.diagonal(0, 0, 1).fill_(-2.0); // a sample is not its own neighbour
            cosines.argmax(1, false) // [N]
        });
        let difference = &z - z.index_select(0, &nearest) + EPS;
        let distances = difference.norm_scalaropt_dim(2.0, [1], false); // [N]
        Ok(-(distances + EPS).log().mean(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::waves;
    use crate::self_distillation::tiny::assert_near;

    #[test]
    fn equals_a_loop_over_samples() {
        let x = waves(&[6, 3], 0.4);
        let z = x.l2_normalize();
        let mut sum = 0.0;
        for i in 0..6 {
            let distance = |j| {
                let square = |k| (z.double_value(&[i, k]) - z.double_value(&[j, k])).powi(2);
                (0..3).map(square).sum::<f64>().sqrt()
            };
            let nearest = (0..6).filter(|&j| j != i).map(distance).fold(f64::INFINITY, f64::min);
            sum -= nearest.ln() / 6.0;
        }
        assert!((KoLeoLoss.forward(&x).unwrap().scalar().unwrap() - sum).abs() < 1e-4);
    }

    // x = wave([5, 3], 0.).requires_grad_(); l = lightly.loss.KoLeoLoss()(x); l.backward(); print(l, x.grad)
    #[test]
    fn equals_lightlys_in_value_and_gradient() {
        let x = waves(&[5, 3], 0.0).set_requires_grad(true);
        let loss = KoLeoLoss.forward(&x).unwrap();
        loss.backward();
        assert_near(&loss, &[3.0411556]);
        assert_near(
            &x.grad(),
            &[
                18.4534225,
                8.4516687,
                -5.5251055,
                -1.7029412,
                -10.2547941,
                -13.9836492,
                0.0227984,
                -0.0028123,
                -0.0271004,
                -18.3046036,
                -8.1990919,
                5.7626486,
                2.0631649,
                10.431879,
                13.8943081,
            ],
        );
    }

    #[test]
    fn two_opposite_samples_are_two_apart_at_any_length() {
        let x = Tensor::from_slice2(&[[0.3_f32, 0.4], [-6.0, -8.0]]);
        let found = KoLeoLoss.forward(&x).unwrap().scalar().unwrap();
        assert!((found + 2.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn two_equal_samples_have_a_finite_gradient() {
        let x = Tensor::from_slice2(&[[0.3_f32, 0.4], [0.3, 0.4], [-1.0, 0.5]]).set_requires_grad(true);
        KoLeoLoss.forward(&x).unwrap().backward();
        assert!(x.grad().isfinite().all().scalar().unwrap() == 1.0);
    }

    #[test]
    fn rejects_a_batch_of_one() {
        let error = KoLeoLoss.forward(&waves(&[1, 3], 0.0)).unwrap_err().to_string();
        let expected = "features: expected at least 2 samples, so that each has a neighbour, found [1, 3]";
        assert_eq!(error, expected);
        let error = KoLeoLoss.forward(&waves(&[3], 0.0)).unwrap_err().to_string();
        assert_eq!(error, "features: expected [_, _], found [3]");
    }
}
