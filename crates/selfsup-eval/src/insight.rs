//! Views of features for the eye: who is near whom, and a map of all.

use selfsup_core::{Error, Features, Result, Tensor};
use selfsup_numerics::{Pca, TopKConfig, top_k};
use serde::{Deserialize, Serialize};

/// A sample of a set and what lies nearest to it there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbourhood {
    /// The sample's position in the query set.
    pub query: i64,
    /// The positions of its neighbours in the set that was searched, nearest first.
    pub neighbours: Vec<i64>,
    /// Their cosine similarities.
    pub similarities: Vec<f32>,
}

/// The `k` samples of `gallery` nearest in angle to each of the `queries` of `features`.
///
/// # Errors
/// When the sets do not fit each other, a query lies outside its set, or the gallery has fewer than `k` samples.
pub fn nearest_neighbours(
    features: &Features,
    queries: &[i64],
    gallery: &Features,
    k: i64,
) -> Result<Vec<Neighbourhood>> {
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(query) = queries.iter().find(|q| !(0..features.len()).contains(*q)) {
        return Err(Error::config("queries", query, format!("positions in 0..{}", features.len())));
    }
    let x = features.x.index_select(0, &Tensor::from_slice(queries));
    let found = top_k(&x, &gallery.x, &TopKConfig { k, ..Default::default() })?;
    let (indices, scores) =
        (Vec::<Vec<i64>>::try_from(&found.indices)?, Vec::<Vec<f32>>::try_from(&found.scores)?);
    let each = queries.iter().zip(indices.into_iter().zip(scores));
    Ok(each
        .map(|(&query, (neighbours, similarities))| Neighbourhood { query, neighbours, similarities })
        .collect())
}

/// The features along their two directions of greatest variance, `[N, 2]` Float.
///
/// # Errors
/// When there are fewer than two samples or features.
pub fn map_2d(features: &Features) -> Result<Tensor> {
    Pca::fit(&features.x, 2)?.transform(&features.x)
}
