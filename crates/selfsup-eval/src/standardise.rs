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
        let n = x.size()[0] as f64;
        let sum = |rows: &Tensor| rows.sum_dim_intlist([0].as_slice(), true, None);
        let mean = by_rows(x, |rows| sum(rows)) / n; // [1, D]
        let deviation = (by_rows(x, |rows| sum(&(rows - &mean).square())) / n).sqrt();
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
        let standardised = Tensor::empty(x.size(), (Kind::Float, x.device()));
        for (mut to, rows) in blocks(&standardised).zip(blocks(x)) {
            to.copy_(&((rows.to_kind(Kind::Double) - &self.mean) / &self.scale));
        }
        standardised
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

/// The sum over blocks of rows of what `f` says of each, in 64 bits: the copy in 64 bits never leaves the cache.
pub(crate) fn by_rows(x: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let parts: Vec<Tensor> = blocks(x).map(|rows| f(&rows.to_kind(Kind::Double))).collect();
    Tensor::stack(&parts, 0).sum_dim_intlist([0].as_slice(), false, None)
}

/// Blocks of rows that fit a core's cache; the one of an empty `x` is empty.
fn blocks(x: &Tensor) -> impl Iterator<Item = Tensor> {
    const NUMBERS: i64 = 1 << 16;
    let (n, d) = (x.size()[0], x.size()[1]);
    let rows = (NUMBERS / d.max(1)).max(1);
    (0..n.max(1)).step_by(rows as usize).map(move |start| x.narrow(0, start, rows.min(n - start)))
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
