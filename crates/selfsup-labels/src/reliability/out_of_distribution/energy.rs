//! The energy score (Liu et al. 2020, section 3): how much evidence there is for any class at all. The softmax divides by
//! it and forgets it.
//!
//! ```text
//! -E_i = T log sum_c exp(z_ic / T)
//! ```

use super::detector::Familiarity;
use selfsup_core::{Error, Logits, Result, Tensor};
use selfsup_numerics::familiarity::energy::negative_energy;

/// The negative free energy of logits.
#[derive(Clone, Copy, Debug)]
pub struct Energy {
    temperature: f64,
}

impl Energy {
    /// The paper's temperature is 1.
    ///
    /// # Errors
    /// When the temperature is not above 0.
    pub fn new(temperature: f64) -> Result<Energy> {
        if temperature.is_nan() || temperature <= 0.0 {
            return Err(Error::config("temperature", temperature, "above 0"));
        }
        Ok(Energy { temperature })
    }
}

impl Familiarity for Energy {
    type Input = Logits;

    /// Of logits `[N, C]`, in their units. It never fails.
    fn score(&self, input: &Logits) -> Result<Tensor> {
        negative_energy(input.tensor(), self.temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(temperature: f64, logits: &[[f32; 3]]) -> Vec<f64> {
        let logits = Logits::new(&Tensor::from_slice2(logits)).unwrap();
        Vec::try_from(Energy::new(temperature).unwrap().score(&logits).unwrap()).unwrap()
    }

    #[test]
    fn equals_the_formula_and_moves_with_the_logits() {
        let rows = [[1.0_f32, -2.0, 0.5], [0.0, 0.0, 0.0]];
        for temperature in [0.5, 1.0, 10.0] {
            let found = score(temperature, &rows);
            for (row, found) in rows.iter().zip(&found) {
                let sum: f64 = row.iter().map(|&z| (f64::from(z) / temperature).exp()).sum();
                assert!((found - temperature * sum.ln()).abs() < 1e-5);
            }
            let moved = score(temperature, &rows.map(|row| row.map(|z| z + 7.0)));
            assert!(moved.iter().zip(&found).all(|(m, f)| (m - f - 7.0).abs() < 1e-4));
        }
        assert!(score(1.0, &[[500.0, 0.0, 0.0]])[0].is_finite());
    }

    #[test]
    fn rejects_a_temperature_of_zero() {
        assert_eq!(Energy::new(0.0).unwrap_err().to_string(), "temperature = 0: above 0");
    }
}
