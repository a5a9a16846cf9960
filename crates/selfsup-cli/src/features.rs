//! Features of whole sets: images one by one, texts by document.

use crate::network::ImageNetwork;
use anyhow::Result;
use selfsup::core::{Batches, Device, Encoder, ImageViews, Kind, Mode, Tensor, TokenBatch, tch};
use selfsup::train::loggers::Progress;

/// Encodes batches in order to one matrix on the CPU.
///
/// # Shapes
/// `[N, D]` Float.
///
/// # Errors
/// Those of reading and of `encode`.
pub fn encode_all<B>(
    batches: &dyn Batches<Batch = B>,
    mut encode: impl FnMut(&B) -> Result<Tensor>,
) -> Result<Tensor> {
    let _without_gradient = tch::no_grad_guard();
    let mut all = Vec::new();
    let mut progress = None;
    for (done, batch) in (1..).zip(batches.epoch(0, 0)?) {
        let rows = encode(&batch?)?.to_device(Device::Cpu).to_kind(Kind::Float);
        let progress = progress.get_or_insert_with(|| {
            Progress::new("encoding", batches.batches_per_epoch(), 0, rows.size()[0] as u64)
        });
        progress.update(done, "");
        all.push(rows);
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(Tensor::cat(&all, 0))
}

/// Encodes the first view of every image.
///
/// # Errors
/// Those of reading and of the encoder.
pub fn of_images(
    encoder: &dyn ImageNetwork,
    batches: &dyn Batches<Batch = ImageViews>,
    device: Device,
) -> Result<Tensor> {
    encode_all(batches, |batch| image(encoder, &batch.views[0], device))
}

/// Encodes the first two views of every image.
///
/// # Errors
/// Those of reading and of the encoder.
pub fn of_pairs(
    encoder: &dyn ImageNetwork,
    batches: &dyn Batches<Batch = ImageViews>,
    device: Device,
) -> Result<[Tensor; 2]> {
    pairs(batches, |view| image(encoder, view, device))
}

/// The activations of every image by layer, averaged over their places, on the CPU.
///
/// # Errors
/// Those of reading and of the encoder.
pub fn layers(
    encoder: &dyn ImageNetwork,
    batches: &dyn Batches<Batch = ImageViews>,
    device: Device,
) -> Result<Vec<(String, Tensor)>> {
    let _without_gradient = tch::no_grad_guard();
    let mut all: Vec<(String, Vec<Tensor>)> = Vec::new();
    for batch in batches.epoch(0, 0)? {
        let view = batch?.views[0].to_device(device);
        for (i, (name, x)) in encoder.intermediate(&view, Mode::Eval)?.into_iter().enumerate() {
            let x = match x.dim() {
                3 => x.mean_dim([1].as_slice(), false, Kind::Float),
                4 => x.mean_dim([2, 3].as_slice(), false, Kind::Float),
                _ => x,
            };
            let x = x.to_device(Device::Cpu);
            match all.get_mut(i) {
                Some((_, parts)) => parts.push(x),
                None => all.push((name, vec![x])),
            }
        }
    }
    Ok(all.into_iter().map(|(name, parts)| (name, Tensor::cat(&parts, 0))).collect())
}

fn image(encoder: &dyn ImageNetwork, view: &Tensor, device: Device) -> Result<Tensor> {
    Ok(encoder.encode(&view.to_device(device), Mode::Eval)?)
}

/// The values of the first view of every image in a row.
///
/// # Errors
/// Those of reading.
pub fn of_pixels(batches: &dyn Batches<Batch = ImageViews>) -> Result<Tensor> {
    encode_all(batches, |batch| Ok(batch.views[0].flatten(1, -1)))
}

/// The values of the first two views of every image in a row.
///
/// # Errors
/// Those of reading.
pub fn of_pixel_pairs(batches: &dyn Batches<Batch = ImageViews>) -> Result<[Tensor; 2]> {
    pairs(batches, |view| Ok(view.flatten(1, -1)))
}

fn pairs(
    batches: &dyn Batches<Batch = ImageViews>,
    encode: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<[Tensor; 2]> {
    let both = encode_all(batches, |batch| {
        Ok(Tensor::stack(&[encode(&batch.views[0])?, encode(&batch.views[1])?], 1))
    })?; // [N, 2, D]
    Ok([both.select(1, 0), both.select(1, 1)])
}

/// Encodes sequences and averages those of a document.
///
/// # Shapes
/// `documents`: the document of every sequence; returns `[count, D]`.
///
/// # Errors
/// Those of reading and of the encoder.
pub fn of_documents(
    encoder: &dyn Encoder,
    batches: &dyn Batches<Batch = TokenBatch>,
    documents: &[usize],
    count: usize,
    device: Device,
) -> Result<Tensor> {
    let sequences =
        encode_all(batches, |batch| Ok(encoder.encode(&batch.tokens.to_device(device), Mode::Eval)?))?; // [S, D]
    Ok(average_by(&sequences, documents, count))
}

/// The mean of the rows that belong together.
///
/// # Shapes
/// `rows` `[S, D]` and the group of each to `[count, D]`; a group without rows is zero.
pub fn average_by(rows: &Tensor, groups: &[usize], count: usize) -> Tensor {
    let groups: Vec<i64> = groups.iter().map(|&g| g as i64).collect();
    let groups = Tensor::from_slice(&groups);
    let sums = Tensor::zeros([count as i64, rows.size()[1]], (Kind::Float, Device::Cpu));
    let sums = sums.index_add(0, &groups, rows);
    let counts = groups.bincount(None::<Tensor>, count as i64).clamp_min(1).to_kind(Kind::Float);
    sums / counts.unsqueeze(1)
}

/// How often each token stands in each document, as shares of its tokens.
///
/// # Shapes
/// `[count, vocabulary]` Float.
///
/// # Errors
/// Those of reading.
pub fn bag_of_words(
    batches: &dyn Batches<Batch = TokenBatch>,
    documents: &[usize],
    count: usize,
    vocabulary: i64,
) -> Result<Tensor> {
    let counts = encode_all(batches, |batch| {
        let [n, _] = selfsup::core::check_shape("tokens", &batch.tokens, [-1, -1])?;
        let is_word = batch.words.ge(0).to_kind(Kind::Float);
        let zeros = Tensor::zeros([n, vocabulary], (Kind::Float, Device::Cpu));
        Ok(zeros.scatter_add(1, &batch.tokens, &is_word))
    })?; // [S, V]
    let sums = average_by(&counts, documents, count);
    let totals = sums.sum_dim_intlist([1_i64].as_slice(), true, Kind::Float).clamp_min(1e-12);
    Ok(sums / totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_the_rows_of_a_group() {
        let rows = Tensor::from_slice2(&[[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        let means = average_by(&rows, &[1, 0, 1], 3);
        assert_eq!(means, Tensor::from_slice2(&[[3.0_f32, 4.0], [3.0, 4.0], [0.0, 0.0]]));
    }
}
