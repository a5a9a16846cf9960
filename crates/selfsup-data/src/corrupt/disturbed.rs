//! A set whose images are all disturbed in one way.

use super::Disturbance;
use crate::{Image, ImageSet};
use selfsup_core::{Dataset, Result};
use std::sync::Arc;

/// Another set's images with a [`Disturbance`]. What is drawn for a sample depends on the seed, its number, the disturbance and
/// its severity alone: neither on threads nor on what was read before.
pub struct DisturbedImages {
    /// The images as they are.
    pub set: Arc<dyn ImageSet>,
    /// What is done to them.
    pub disturbance: Disturbance,
    /// Decides the draws.
    pub seed: u64,
}

impl Dataset for DisturbedImages {
    type Item = Image;

    fn len(&self) -> usize {
        self.set.len()
    }

    fn get(&self, index: usize) -> Result<Image> {
        self.disturbance.apply(&self.set.get(index)?, self.seed, index)
    }
}

impl ImageSet for DisturbedImages {
    fn channels(&self) -> usize {
        self.set.channels()
    }

    fn labels(&self) -> Option<Vec<i64>> {
        self.set.labels()
    }

    fn classes(&self) -> Vec<String> {
        self.set.classes()
    }

    fn name(&self, index: usize) -> String {
        self.set.name(index)
    }
}
