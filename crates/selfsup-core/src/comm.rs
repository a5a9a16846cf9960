//! Ranks that train together. A method written against [`Communicator`] is right on one process today and on many
//! tomorrow.

use crate::{Result, Tensor};

/// A group of processes that each hold a share of the batch.
pub trait Communicator: Sync {
    /// This process' number, in `0..world_size`.
    fn rank(&self) -> i64;

    /// The number of processes.
    fn world_size(&self) -> i64;

    /// Concatenates `x` of all ranks along dimension 0, in rank order; the gradient flows back to every rank.
    ///
    /// # Shapes
    /// `[N, ...]` to `[world_size * N, ...]`.
    ///
    /// # Errors
    /// When a rank is lost or the shapes differ.
    fn gather(&self, x: &Tensor) -> Result<Tensor>;

    /// Sums `x` over all ranks; the gradient flows back to every rank.
    ///
    /// # Errors
    /// When a rank is lost or the shapes differ.
    fn all_reduce(&self, x: &Tensor) -> Result<Tensor>;
}

/// The communicator of a run on one process: everything is already here.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Communicator for SingleProcess {
    fn rank(&self) -> i64 {
        0
    }

    fn world_size(&self) -> i64 {
        1
    }

    fn gather(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.shallow_clone())
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.shallow_clone())
    }
}
