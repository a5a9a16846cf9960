//! Noise: Gaussian, shot (counted photons) and impulse (salt and pepper).

use super::level::Level;
use super::plane::Plane;
use rand::{Rng as _, RngExt};
use rand_distr::{Distribution, Poisson, StandardNormal};
use selfsup_core::{Error, Result, Rng};

/// Adds normal noise to every value.
pub(super) fn gaussian(planes: &mut [Plane], level: Level, rng: &mut Rng) {
    let sigma = level.pick([0.04, 0.06, 0.08, 0.09, 0.10], [0.08, 0.12, 0.18, 0.26, 0.38]);
    for v in planes.iter_mut().flat_map(|plane| &mut plane.values) {
        *v += sigma * normal(rng);
    }
}

/// Counts so many photons a value: fewer, noisier.
///
/// # Errors
/// None: the expected counts are above 0.
pub(super) fn shot(planes: &mut [Plane], level: Level, rng: &mut Rng) -> Result<()> {
    let photons = level.pick([500.0, 250.0, 100.0, 75.0, 50.0], [60.0, 25.0, 12.0, 5.0, 3.0]);
    for v in planes.iter_mut().flat_map(|plane| &mut plane.values) {
        if *v > 0.0 {
            let count = Poisson::new(*v * photons)
                .map_err(|error| Error::config("photons", *v * photons, error.to_string()))?;
            *v = count.sample(rng) / photons;
        }
    }
    Ok(())
}

/// Makes a share of the values 0 or 1, as scikit-image's `random_noise`.
pub(super) fn impulse(planes: &mut [Plane], level: Level, rng: &mut Rng) {
    let share = level.pick([0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]);
    for v in planes.iter_mut().flat_map(|plane| &mut plane.values) {
        if rng.random::<f64>() < share {
            *v = f64::from(rng.next_u32() & 1);
        }
    }
}

/// A draw from the standard normal distribution.
pub(super) fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}
