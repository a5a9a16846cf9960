//! A model's most probable class, and distributions made sharper.

use selfsup_core::{Error, Kind, Probabilities, Result, Tensor, check_shape};

/// The highest probability of each row `[N]` and its class `[N]`; of equal ones the lower class.
pub(crate) fn most_probable(p: &Tensor) -> (Tensor, Tensor) {
    (p.amax([1].as_slice(), false), p.argmax(1, false))
}

/// The probabilities `[N, C]`, of which `C` must be `classes`.
pub(crate) fn with_classes(probabilities: &Probabilities, classes: i64) -> Result<&Tensor> {
    check_shape("probabilities", probabilities.tensor(), [-1, classes])?;
    Ok(probabilities.tensor())
}

/// An error unless there is a class.
pub(crate) fn check_classes(classes: i64) -> Result<()> {
    if classes < 1 {
        return Err(Error::config("classes", classes, "at least 1"));
    }
    Ok(())
}

/// An error unless `0 <= momentum < 1`: at 1 a running mean stands still.
pub(crate) fn check_momentum(momentum: f64) -> Result<()> {
    if !(0.0..1.0).contains(&momentum) {
        return Err(Error::config("momentum", momentum, "0 to below 1"));
    }
    Ok(())
}

/// Distributions at a temperature, `p^(1/T) / sum p^(1/T)` (MixMatch, Berthelot et al. 2019, equation 7): below 1 sharper,
/// 1 as they are, above 1 flatter.
///
/// # Errors
/// When the temperature is not above 0.
pub fn sharpen(probabilities: &Probabilities, temperature: f64) -> Result<Probabilities> {
    if temperature.is_nan() || temperature <= 0.0 {
        return Err(Error::config("temperature", temperature, "above 0"));
    }
    // By logarithms, as powers of small probabilities are 0 in 32 bits: a row of them has no sum.
    Probabilities::new(&(probabilities.tensor().log() / temperature).softmax(1, Kind::Float))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharpens_as_powers_do_and_keeps_zeros() {
        let p = Probabilities::new(&Tensor::from_slice2(&[[0.6_f32, 0.3, 0.1], [0.0, 0.5, 0.5]])).unwrap();
        let values = |t| Vec::<f64>::try_from(sharpen(&p, t).unwrap().tensor().view(-1)).unwrap();
        let expected = [0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46, 0.0, 0.5, 0.5];
        assert!(values(0.5).iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-6));
        assert!(values(1e-3).iter().zip([1.0, 0.0, 0.0, 0.0, 0.5, 0.5]).all(|(a, e)| (a - e).abs() < 1e-6));
        assert_eq!(sharpen(&p, 0.0).unwrap_err().to_string(), "temperature = 0: above 0");
        assert!(sharpen(&p, f64::NAN).is_err());
    }
}
