//! t-SNE: a plane on which samples that are near in feature space lie near.
//!
//! van der Maaten, "Accelerating t-SNE using Tree-Based Algorithms", 2014, begun from the first two principal
//! components as in Kobak and Berens, "The art of using t-SNE for single-cell transcriptomics", 2019: such a
//! map keeps more of the large-scale order than one begun at random, and it is the same every time.

use anyhow::{Context, Result, ensure};
use bhtsne::tSNE;
use rayon::ThreadPoolBuilder;

/// Neighbours that count, van der Maaten's usual value.
const PERPLEXITY: f32 = 30.0;

/// How much of the far field is summarised; larger is faster and coarser.
const THETA: f32 = 0.5;

/// The deviation of the first component of the beginning, small as in the paper.
const BEGINNING: f32 = 1e-4;

/// The steps that lay a map out, van der Maaten's.
pub const EPOCHS: usize = 1000;

/// Fewer samples than this make no neighbourhoods.
const FEWEST: usize = 10;

/// Lays samples out on a plane; `progress` hears after every epoch how many are done.
///
/// # Shapes
/// `features`: `n * dim` values row by row, principal components in order; returns `n` points. With fewer than ten
/// samples these are the first two components.
///
/// # Errors
/// A number of values other than `n * dim`, fewer than two components, values that are not finite, and a machine that
/// has no thread to give.
pub fn tsne(
    features: &[f32],
    n: usize,
    dim: usize,
    mut progress: impl FnMut(usize) + Send,
) -> Result<Vec<[f32; 2]>> {
    ensure!(
        Some(features.len()) == n.checked_mul(dim),
        "{} values are not {n} samples of {dim} features",
        features.len()
    );
    ensure!(dim >= 2, "a map needs samples of at least two features, these have {dim}");
    ensure!(features.iter().all(|x| x.is_finite()), "the features for a map are not all finite");
    let rows: Vec<&[f32]> = features.chunks_exact(dim).collect();
    if n < FEWEST {
        return Ok(rows.iter().map(|row| [row[0], row[1]]).collect());
    }
    let variance = rows.iter().map(|row| row[0] * row[0]).sum::<f32>() / n as f32;
    let scale = BEGINNING / variance.sqrt().max(f32::MIN_POSITIVE);
    let beginning: Vec<f32> = rows.iter().flat_map(|row| [row[0] * scale, row[1] * scale]).collect();
    let perplexity = PERPLEXITY.min((n - 1) as f32 / 3.0);
    // Several threads add the forces in an order that changes from time to time, and the map with it.
    let alone = ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .context("cannot start the thread that draws a map")?;
    Ok(alone.install(|| {
        let mut map: tSNE<f32, &[f32]> = tSNE::new(&rows);
        map.perplexity(perplexity)
            .epochs(EPOCHS)
            .epoch_callback(move |epoch, _| progress(epoch + 1))
            .initial_embedding(beginning)
            .barnes_hut(THETA, |a, b| distance(a, b));
        map.embedding().chunks_exact(2).map(|point| [point[0], point[1]]).collect()
    }))
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two groups far apart in the last of four features.
    fn groups(n: usize) -> Vec<f32> {
        (0..n)
            .flat_map(|i| {
                let x = i as f32;
                [(x * 0.37).sin(), (x * 0.91).cos(), (x * 1.7).sin(), if i % 2 == 0 { 20.0 } else { -20.0 }]
            })
            .collect()
    }

    #[test]
    fn keeps_groups_apart() {
        let map = tsne(&groups(200), 200, 4, |_| ()).unwrap();
        let nearest_is_alike = (0..200).filter(|&i| {
            let gap = |j: usize| (map[i][0] - map[j][0]).hypot(map[i][1] - map[j][1]);
            let nearest = (0..200).filter(|&j| j != i).min_by(|&a, &b| gap(a).total_cmp(&gap(b))).unwrap();
            nearest % 2 == i % 2
        });
        assert!(nearest_is_alike.count() > 190);
    }

    #[test]
    fn gives_the_same_map_every_time() {
        let map = tsne(&groups(120), 120, 4, |_| ()).unwrap();
        for _ in 0..3 {
            assert_eq!(tsne(&groups(120), 120, 4, |_| ()).unwrap(), map);
        }
    }

    #[test]
    fn tells_how_many_epochs_are_done() {
        let mut heard = Vec::new();
        tsne(&groups(40), 40, 4, |done| heard.push(done)).unwrap();
        assert!(heard.iter().copied().eq(1..=EPOCHS), "{heard:?}");
    }

    #[test]
    fn few_samples_lie_where_their_components_say() {
        assert_eq!(tsne(&[1.0, 2.0, 3.0, 4.0], 2, 2, |_| ()).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(tsne(&groups(10), 10, 4, |_| ()).unwrap().len(), 10);
    }

    #[test]
    fn rejects_values_that_do_not_fit() {
        assert!(tsne(&[1.0; 7], 2, 4, |_| ()).is_err());
        assert!(tsne(&[1.0; 7], 7, 1, |_| ()).is_err());
        assert!(tsne(&[f32::NAN; 8], 2, 4, |_| ()).is_err());
    }
}
