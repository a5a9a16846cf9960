//! Samples to batches.

use crate::Image;
use crate::augment::{Scratch, View};
use crate::pixels::{Pixels, normalize_of, to_bfloat16};
use crate::text::TokenSequences;
use rayon::prelude::*;
use selfsup_core::tensor::{tensor_from_fn, tensor_of_numbers};
use selfsup_core::{Dataset, ImageViews, Key, Kind, Result, Rng, Tensor, TokenBatch};
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
    /// What the views are made of until [`Unpack`](crate::Unpack) makes them numbers for a network.
    pub pixels: Pixels,
}

impl<D: Dataset<Item = Image> + Send + ?Sized> ImageCollate<D> {
    /// Draws all views into `numbers`, view by view, sample by sample; `write` makes one of them.
    fn draw<T: Send>(
        &self,
        indices: &[usize],
        epoch: Key,
        mut numbers: &mut [T],
        write: impl Fn(&dyn View, &Image, &mut Rng, &mut Desk, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        let mut samples: Vec<Vec<&mut [T]>> = indices.iter().map(|_| Vec::new()).collect();
        for view in &self.views {
            let volume = view.shape().iter().product();
            let (all, rest) = numbers.split_at_mut(indices.len() * volume);
            numbers = rest;
            for (sample, out) in samples.iter_mut().zip(all.chunks_exact_mut(volume)) {
                sample.push(out);
            }
        }
        samples.into_par_iter().zip(indices).try_for_each_init(Desk::default, |desk, (outs, &index)| {
            let image = self.dataset.get(index)?;
            for (v, (view, out)) in self.views.iter().zip(outs).enumerate() {
                let mut rng = epoch.with(index as u64).with(v as u64).rng();
                write(view.as_ref(), &image, &mut rng, desk, out)?;
            }
            Ok(())
        })
    }
}

impl<D: Dataset<Item = Image> + Send + ?Sized> Collate for ImageCollate<D> {
    type Batch = ImageViews;

    /// # Shapes
    /// One tensor `[N, C, H, W]` a view, channels last in memory.
    fn collate(&self, indices: &[usize], epoch: Key) -> Result<ImageViews> {
        let n = indices.len();
        let shapes: Vec<[usize; 3]> = self.views.iter().map(|view| view.shape()).collect();
        let volume = |shape: &[usize; 3]| n * shape.iter().product::<usize>();
        let total = [shapes.iter().map(volume).sum::<usize>() as i64];
        let all = match self.pixels {
            Pixels::Float32 => tensor_of_numbers(&total, |numbers: &mut [f32]| {
                self.draw(indices, epoch, numbers, |view, image, rng, desk, out| {
                    view.write(image, rng, &mut desk.scratch, out)
                })
            }),
            Pixels::Bfloat16 => tensor_from_fn(&total, |numbers: &mut [i16]| {
                self.draw(indices, epoch, numbers, |view, image, rng, desk, out| {
                    desk.write(view, image, rng)?;
                    for (o, x) in out.iter_mut().zip(&desk.numbers) {
                        *o = to_bfloat16(*x);
                    }
                    Ok(())
                })
            })
            .and_then(|bits| Ok(bits.f_view_dtype(Kind::BFloat16)?)),
            Pixels::Uint8 => tensor_from_fn(&total, |numbers: &mut [u8]| {
                self.draw(indices, epoch, numbers, |view, image, rng, desk, out| {
                    let normalize = normalize_of(view)?;
                    desk.write(view, image, rng)?;
                    normalize.undo(&desk.numbers, out);
                    Ok(())
                })
            }),
        }?;
        let mut start = 0;
        let views = shapes.iter().map(|shape| {
            let length = volume(shape) as i64;
            let [h, w, c] = shape.map(|side| side as i64);
            let view = all.narrow(0, start, length).view([n as i64, h, w, c]);
            start += length;
            view.permute([0, 3, 1, 2]) // [N, C, H, W]
        });
        Ok(ImageViews { views: views.collect(), indices: index_tensor(indices), labels: None })
    }
}

/// A thread's working memory.
#[derive(Default)]
struct Desk {
    scratch: Scratch,
    numbers: Vec<f32>,
}

impl Desk {
    /// Draws a view into `numbers`.
    fn write(&mut self, view: &dyn View, image: &Image, rng: &mut Rng) -> Result<()> {
        self.numbers.resize(view.shape().iter().product(), 0.0);
        view.write(image, rng, &mut self.scratch, &mut self.numbers)
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
