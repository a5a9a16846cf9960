//! Samples to batches.

use crate::Image;
use crate::augment::{Scratch, View};
use crate::text::TokenSequences;
use rayon::prelude::*;
use selfsup_core::tensor::tensor_of_numbers;
use selfsup_core::{Dataset, ImageViews, Key, Result, Tensor, TokenBatch};
use std::sync::Arc;

/// Makes a batch of some samples. It runs on the loader's threads and may use rayon.
pub trait Collate: Send + Sync {
    /// What an objective takes.
    type Batch: Send;

    /// The batch of the samples at `indices`. All randomness comes from `epoch`, the key of the run's epoch, and a
    /// sample's index, so that a batch does not depend on who makes it.
    ///
    /// # Errors
    /// When a sample cannot be read.
    fn collate(&self, indices: &[usize], epoch: Key) -> Result<Self::Batch>;
}

/// Reads images and makes views of each, written by all threads into one tensor's memory.
///
/// A sample's views are drawn from the key (seed, epoch, index, view). One [`PlainView`](crate::augment::PlainView)
/// as the only view makes batches for evaluation.
pub struct ImageCollate<D: ?Sized> {
    /// Where the images come from.
    pub dataset: Arc<D>,
    /// The views of every sample, in order.
    pub views: Vec<Arc<dyn View>>,
}

impl<D: Dataset<Item = Image> + Send + ?Sized> Collate for ImageCollate<D> {
    type Batch = ImageViews;

    /// # Shapes
    /// One tensor `[N, C, H, W]` a view, channels last in memory.
    fn collate(&self, indices: &[usize], epoch: Key) -> Result<ImageViews> {
        let n = indices.len();
        let shapes: Vec<[usize; 3]> = self.views.iter().map(|view| view.shape()).collect();
        let volumes: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
        let total = n * volumes.iter().sum::<usize>();
        let all = tensor_of_numbers(&[total as i64], |mut rest: &mut [f32]| {
            let mut samples: Vec<Vec<&mut [f32]>> = indices.iter().map(|_| Vec::new()).collect();
            for &volume in &volumes {
                let (view, after) = rest.split_at_mut(n * volume);
                rest = after;
                for (sample, out) in samples.iter_mut().zip(view.chunks_exact_mut(volume)) {
                    sample.push(out);
                }
            }
            samples.into_par_iter().zip(indices).try_for_each_init(
                Scratch::default,
                |scratch, (outs, &index)| {
                    let image = self.dataset.get(index)?;
                    for (v, (view, out)) in self.views.iter().zip(outs).enumerate() {
                        let mut rng = epoch.with(index as u64).with(v as u64).rng();
                        view.write(&image, &mut rng, scratch, out)?;
                    }
                    Ok(())
                },
            )
        })?;
        let mut start = 0;
        let views = shapes.iter().zip(&volumes).map(|([h, w, c], volume)| {
            let length = (n * volume) as i64;
            let view = all.narrow(0, start, length).view([n as i64, *h as i64, *w as i64, *c as i64]);
            start += length;
            view.permute([0, 3, 1, 2]) // [N, C, H, W]
        });
        Ok(ImageViews { views: views.collect(), indices: index_tensor(indices), labels: None })
    }
}

/// Puts sequences of tokens side by side.
pub struct TokenCollate {
    /// Where the sequences come from.
    pub sequences: Arc<TokenSequences>,
}

impl Collate for TokenCollate {
    type Batch = TokenBatch;

    /// # Shapes
    /// `tokens` and `words` are `[N, T]`.
    fn collate(&self, indices: &[usize], _epoch: Key) -> Result<TokenBatch> {
        let (mut tokens, mut words) = (Vec::new(), Vec::new());
        for &index in indices {
            let sequence = self.sequences.get(index)?;
            tokens.extend(sequence.tokens);
            words.extend(sequence.words);
        }
        let shape = [indices.len() as i64, self.sequences.length() as i64];
        Ok(TokenBatch {
            tokens: Tensor::f_from_slice(&tokens)?.f_view(shape)?,
            words: Tensor::f_from_slice(&words)?.f_view(shape)?,
            indices: index_tensor(indices),
        })
    }
}

fn index_tensor(indices: &[usize]) -> Tensor {
    Tensor::from_slice(&indices.iter().map(|&i| i as i64).collect::<Vec<_>>())
}
