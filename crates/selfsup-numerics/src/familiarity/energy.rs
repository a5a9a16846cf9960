//! The energy score (Liu et al. 2020, section 3): how much evidence there is for any class at all. The softmax divides by
//! it and forgets it.
//!
//! ```text
//! -E_i = T log sum_c exp(z_ic / T)
//! ```

use selfsup_core::{Error, Result, Tensor, check_shape};

/// Minus the free energy of logits, in their units; the paper's temperature is 1.
///
/// # Shapes
/// `logits` `[N, C]` to `[N]`.
///
/// # Errors
/// When `logits` is no matrix with a column, or the temperature is not above 0.
pub fn negative_energy(logits: &Tensor, temperature: f64) -> Result<Tensor> {
    let [_, classes] = check_shape("logits", logits, [-1, -1])?;
    if classes == 0 {
        return Err(Error::config("logits", "[N, 0]", "at least one class"));
    }
    if temperature.is_nan() || temperature <= 0.0 {
        return Err(Error::config("temperature", temperature, "above 0"));
    }
    Ok((logits / temperature).logsumexp([1].as_slice(), false) * temperature)
}

#[cfg(test)]
mod tests {
    use super::*;

    // z = torch.tensor([[1., -2., .5], [0., 0., 0.], [500., 0., 0.]])
    // [T * torch.logsumexp(z / T, 1) for T in (1, 10)]                                                # torch 2.11
    #[test]
    fn agrees_with_torch() {
        let logits = Tensor::from_slice2(&[[1.0_f32, -2.0, 0.5], [0.0, 0.0, 0.0], [500.0, 0.0, 0.0]]);
        for (temperature, expected) in [(1.0, TORCH[0]), (10.0, TORCH[1])] {
            let found = Vec::<f64>::try_from(negative_energy(&logits, temperature).unwrap()).unwrap();
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-4), "{found:?}");
        }
    }

    const TORCH: [[f64; 3]; 2] =
        [[1.5045969486236572, 1.0986123085021973, 500.0], [10.903020858764648, 10.986123085021973, 500.0]];

    #[test]
    fn rejects_what_has_no_energy() {
        let logits = Tensor::from_slice2(&[[1.0_f32, -2.0]]);
        assert_eq!(negative_energy(&logits, 0.0).unwrap_err().to_string(), "temperature = 0: above 0");
        let error = negative_energy(&logits.get(0), 1.0).unwrap_err().to_string();
        assert_eq!(error, "logits: expected [_, _], found [2]");
        let error = negative_energy(&logits.narrow(1, 0, 0), 1.0).unwrap_err().to_string();
        assert_eq!(error, "logits = [N, 0]: at least one class");
    }
}
