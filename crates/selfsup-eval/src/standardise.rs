//! Features to mean 0 and standard deviation 1, by the statistics of a training part.

use selfsup_core::{Kind, Tensor};

/// The statistics of a training part.
#[derive(Debug)]
pub struct Standardiser {
    mean: Tensor,
    scale: Tensor,
}

impl Standardiser {
    /// Measures features. One that never varies keeps scale 1, as in scikit-learn's `StandardScaler`.
    ///
    /// # Shapes
    /// `x` `[N, D]`.
    pub fn of(x: &Tensor) -> Standardiser {
        let x = x.to_kind(Kind::Double);
        let mean = x.mean_dim(0, true, None); // [1, D]
        let deviation = x.std_correction([0].as_slice(), 0, true);
        // What rounding leaves of a constant is no variation.
        let constant = deviation.le_tensor(&(mean.abs() * 1e-9 + f64::MIN_POSITIVE));
        let scale = deviation.masked_fill(&constant, 1.0);
        Standardiser { mean, scale }
    }

    /// Standardised features.
    ///
    /// # Shapes
    /// `[M, D]` to the same, Float.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        ((x.to_kind(Kind::Double) - &self.mean) / &self.scale).to_kind(Kind::Float)
    }

    /// The weights and the bias for features as they are that are as much as these for standardised ones.
    ///
    /// # Shapes
    /// `weight` `[K, D]` and `bias` `[K]` to the same, Double.
    pub fn unfold(&self, weight: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
        let weight = weight.to_kind(Kind::Double) / &self.scale;
        let bias = bias.to_kind(Kind::Double) - weight.matmul(&self.mean.squeeze_dim(0));
        (weight, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardises_by_the_population_and_leaves_constants_alone() {
        let x = Tensor::from_slice2(&[[1.0_f32, 0.1], [3.0, 0.1], [5.0, 0.1]]);
        let z = Standardiser::of(&x).apply(&x);
        let expected = Tensor::from_slice2(&[[-1.5_f64.sqrt(), 0.0], [0.0, 0.0], [1.5_f64.sqrt(), 0.0]]);
        assert!(f64::try_from((z - expected).abs().max()).unwrap() < 1e-7);
    }
}
