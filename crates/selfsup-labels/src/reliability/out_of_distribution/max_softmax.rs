//! The highest class probability (Hendrycks and Gimpel 2017): the baseline that any other score is held against.

use super::detector::Familiarity;
use selfsup_core::{Probabilities, Result, Tensor};

/// `max_c p_ic`.
#[derive(Clone, Copy, Debug)]
pub struct MaxSoftmax;

impl Familiarity for MaxSoftmax {
    type Input = Probabilities;

    /// Of class probabilities `[N, C]`, `1 / C` to 1. It never fails.
    fn score(&self, input: &Probabilities) -> Result<Tensor> {
        Ok(input.tensor().amax([1].as_slice(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_highest_probability() {
        let p = Probabilities::new(&Tensor::from_slice2(&[[0.2_f32, 0.5, 0.3], [1.0, 0.0, 0.0]])).unwrap();
        assert_eq!(Vec::<f32>::try_from(MaxSoftmax.score(&p).unwrap()).unwrap(), [0.5, 1.0]);
    }
}
