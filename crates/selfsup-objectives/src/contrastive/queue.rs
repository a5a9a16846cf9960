//! The vectors of the last batches, oldest out first: MoCo's dictionary of negatives, NNCLR's support set.
//!
//! He, Fan, Wu, Xie and Girshick 2020, *Momentum Contrast for Unsupervised Visual Representation Learning*,
//! section 3.2. It starts full, with random vectors of unit length, as in the authors' code. Their length must be a
//! multiple of the batch; here a batch wraps round the end.

use selfsup_core::{Error, Kind, Result, Tensor, TensorExt, check_shape, nn, tch};
use std::borrow::Borrow;

/// A first-in, first-out ring of vectors, held as variables that do not learn.
#[derive(Debug)]
pub struct Queue {
    /// `[K, D]`, in the order of the ring. Copy it before it takes part in a loss: [`push`](Queue::push) writes to it.
    pub vectors: Tensor,
    /// The row that is written next, an Int64 scalar.
    position: Tensor,
}

impl Queue {
    /// Makes the variables `vectors` and `position` under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when `length` is not positive.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, length: i64, dim: i64) -> Result<Self> {
        if length < 1 {
            return Err(Error::config("queue", length, "at least 1 vector"));
        }
        let path = path.borrow();
        let vectors = Tensor::randn([length, dim], (Kind::Float, path.device())).l2_normalize();
        let position = Tensor::zeros([0_i64; 0], (Kind::Int64, path.device()));
        Ok(Queue {
            vectors: path.add("vectors", vectors, false),
            position: path.add("position", position, false),
        })
    }

    /// Replaces the oldest vectors; of more than fit, the last remain.
    ///
    /// # Shapes
    /// `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the vectors are of another size.
    pub fn push(&self, vectors: &Tensor) -> Result<()> {
        let [length, dim] = check_shape("queue", &self.vectors, [-1, -1])?;
        let [n, _] = check_shape("vectors", vectors, [-1, dim])?;
        let left_out = (n - length).max(0);
        tch::no_grad(|| {
            let offsets = Tensor::arange_start(left_out, n, (Kind::Int64, self.position.device()));
            let rows = (offsets + &self.position).remainder(length);
            let source = vectors.detach().narrow(0, left_out, n - left_out).to_kind(self.vectors.kind());
            let _ = self.vectors.shallow_clone().index_copy_(0, &rows, &source);
            self.position.shallow_clone().copy_(&(&self.position + n).remainder(length));
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;
    use std::collections::VecDeque;

    fn rows(from: i64, n: i64) -> Tensor {
        (Tensor::arange(n, (Kind::Float, Device::Cpu)) + from as f64).unsqueeze(1).repeat([1, 2])
    }

    #[test]
    fn starts_with_different_vectors_of_unit_length() {
        let store = nn::VarStore::new(Device::Cpu);
        let queue = Queue::new(store.root(), 50, 8).unwrap();
        let norms = queue.vectors.norm_scalaropt_dim(2.0, [-1], false);
        assert!((norms - 1.0).abs().max().scalar().unwrap() < 1e-6);
        let similarity = queue.vectors.matmul(&queue.vectors.tr()).off_diagonal().unwrap();
        assert!(similarity.max().scalar().unwrap() < 0.999);
        assert!(store.trainable_variables().is_empty() && store.variables().len() == 2);
    }

    #[test]
    fn holds_what_a_queue_of_the_standard_library_holds() {
        let store = nn::VarStore::new(Device::Cpu);
        let queue = Queue::new(store.root(), 7, 2).unwrap();
        let mut expected = VecDeque::new();
        let mut from = 0;
        for n in [3, 3, 3, 7, 16, 2, 1] {
            queue.push(&rows(from, n)).unwrap();
            expected.extend(from..from + n);
            expected.drain(..expected.len().saturating_sub(7));
            from += n;
            if expected.len() == 7 {
                let mut found: Vec<f64> =
                    Vec::try_from(queue.vectors.select(1, 0).to_kind(Kind::Double)).unwrap();
                // From the oldest on.
                found.rotate_left(i64::try_from(&queue.position).unwrap() as usize);
                assert!(found.iter().map(|&v| v as i64).eq(expected.iter().copied()), "{found:?}");
            }
        }
    }

    #[test]
    fn rejects_an_empty_ring_and_vectors_of_another_size() {
        let store = nn::VarStore::new(Device::Cpu);
        let error = Queue::new(store.root(), 0, 2).unwrap_err().to_string();
        assert_eq!(error, "queue = 0: at least 1 vector");
        let queue = Queue::new(store.root(), 4, 3).unwrap();
        let error = queue.push(&rows(0, 2)).unwrap_err().to_string();
        assert_eq!(error, "vectors: expected [_, 3], found [2, 2]");
    }
}
