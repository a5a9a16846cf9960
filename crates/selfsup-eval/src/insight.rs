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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};

    #[test]
    fn a_sample_of_the_gallery_finds_itself_first() {
        let features = clouds(30, 3, 3.0);
        let found = nearest_neighbours(&features, &[4, 17], &features, 5).unwrap();
        assert_eq!(found.len(), 2);
        for (found, query) in found.iter().zip([4, 17]) {
            assert_eq!((found.query, found.neighbours[0], found.neighbours.len()), (query, query, 5));
            assert!((found.similarities[0] - 1.0).abs() < 1e-5);
            assert!(found.similarities.is_sorted_by(|a, b| a >= b));
            assert!(found.neighbours.iter().all(|n| n % 3 == query % 3), "{found:?}");
        }
        assert!(nearest_neighbours(&features, &[], &features, 5).unwrap().is_empty());
    }

    #[test]
    fn the_map_keeps_what_varies_most() {
        let labels = Tensor::from_slice(&[0_i64; 40]);
        let features =
            Features::new(formula(40, 3) * Tensor::from_slice(&[1.0, 9.0, 3.0]), labels, 1).unwrap();
        let map = map_2d(&features).unwrap();
        assert_eq!(map.size(), [40, 2]);
        let spread = Vec::<f64>::try_from(map.std_correction([0].as_slice(), 1, false)).unwrap();
        assert!(spread[0] > spread[1] && spread[1] > 1.0, "{spread:?}");
    }

    #[test]
    fn rejects_queries_outside_and_maps_of_a_line() {
        let features = clouds(6, 3, 1.0);
        let error = nearest_neighbours(&features, &[6], &features, 1).unwrap_err().to_string();
        assert_eq!(error, "queries = 6: positions in 0..6");
        let error = nearest_neighbours(&features, &[0], &features, 7).unwrap_err().to_string();
        assert_eq!(error, "k = 7: 1 to 6, the number of candidates");
        let line = Features::new(formula(5, 1), Tensor::from_slice(&[0_i64; 5]), 1).unwrap();
        assert!(map_2d(&line).is_err());
    }
}
