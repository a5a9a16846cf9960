//! The distance to the k-th nearest known sample (Sun et al. 2022), on features of length 1: no assumption on how
//! features are distributed.
//!
//! ```text
//! s_i = -|z_i - z_(k)|        z = features / |features|
//! ```

use crate::top_k::{Metric, TopKConfig, top_k};
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// Minus the distance to the k-th nearest known features, -2 to 0.
///
/// # Shapes
/// `x` `[N, D]`, `known` `[M, D]`, to `[N]` Float.
///
/// # Errors
/// When the two do not fit, a value is not finite, or `k` is not in `1..=M`.
pub fn minus_kth_distance(x: &Tensor, known: &Tensor, k: i64) -> Result<Tensor> {
    let [m, d] = check_shape("known features", known, [-1, -1])?;
    let [n, _] = check_shape("features", x, [-1, d])?;
    if !(1..=m).contains(&k) {
        return Err(Error::config("k", k, format!("1 to {m}, the number of known samples")));
    }
    if n == 0 {
        return Ok(Tensor::zeros([0], (Kind::Float, x.device())));
    }
    let config = TopKConfig { k, metric: Metric::Cosine, ..Default::default() };
    let cosine = top_k(x, known, &config)?.scores.select(1, k - 1); // [N]
    Ok(-(cosine * -2.0 + 2.0).clamp_min(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    fn wave(n: i64, from: i64) -> Tensor {
        let i = Tensor::arange(n * 3, (Kind::Double, Device::Cpu)) + from;
        (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([n, 3]).to_kind(Kind::Float)
    }

    // w = lambda n, s: np.sin((np.arange(n * 3) + s) ** 1.5 * 0.37).reshape(n, 3).astype(np.float32)
    // z = sklearn.preprocessing.normalize; m = NearestNeighbors(n_neighbors=4).fit(z(w(30, 0)))
    // -m.kneighbors(z(w(5, 1000)))[0][:, -1]                                                     # scikit-learn 1.9.1
    #[test]
    fn agrees_with_scikit_learn() {
        let found =
            Vec::<f64>::try_from(minus_kth_distance(&wave(5, 1000), &wave(30, 0), 4).unwrap()).unwrap();
        assert!(found.iter().zip(SKLEARN).all(|(f, e)| (f - e).abs() < 1e-4), "{found:?}");
    }

    const SKLEARN: [f64; 5] = [
        -0.27709262232491033,
        -0.6572519822671049,
        -0.9805432582241541,
        -0.9027581771275505,
        -0.7592902744514587,
    ];

    #[test]
    fn a_copy_of_a_known_sample_is_at_no_distance_and_its_length_does_not_matter() {
        let known = wave(6, 0);
        let found = minus_kth_distance(&(&known * 7.0), &known, 1).unwrap();
        assert!(f64::try_from(found.min()).unwrap() > -1e-3);
        assert_eq!(minus_kth_distance(&known.narrow(0, 0, 0), &known, 1).unwrap().size(), [0]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = |x: &Tensor, k| minus_kth_distance(x, &wave(5, 0), k).unwrap_err().to_string();
        assert_eq!(error(&wave(2, 0), 6), "k = 6: 1 to 5, the number of known samples");
        let wide = Tensor::zeros([2, 4], (Kind::Float, Device::Cpu));
        assert_eq!(error(&wide, 1), "features: expected [_, 3], found [2, 4]");
        assert!(error(&(wave(2, 0) / 0.0), 1).contains("not finite"));
    }
}
