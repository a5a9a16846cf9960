//! Algorithms on feature matrices that several selfsup crates share: exact top-k search and the graph of
//! neighbours, k-means and agglomerative clustering and how good they are, Sinkhorn's optimal transport, principal
//! components. All are functions of plain tensors, run where their input lies, and hold no state of a training run.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@top_k`] | [`top_k()`]: the nearest keys of every query, in blocks, with ties resolved |
//! | [`ivf`] | [`Ivf`]: the same approximately, in inverted lists, and [`neighbour_recall()`]: how much that misses |
//! | [`knn_graph`] | [`KnnGraph`]: every row joined with its nearest, sparse ([`Csr`]) |
//! | [`k_means`] | [`KMeans`]: Lloyd's algorithm with k-means++, Euclidean or spherical |
//! | [`agglomerative`] | [`Agglomerative`]: clusters joined along the edges of a graph, by Ward's, average or complete linkage |
//! | [`mod@silhouette`], [`cluster_scores`], [`mod@gap`] | how good a clustering is |
//! | [`mod@suggest_clusters`] | [`suggest_clusters()`]: how many clusters there are, by all of these |
//! | [`matching`] | [`best_matching()`]: rows and columns one to one |
//! | [`familiarity`] | how like known samples a sample is: energy, Mahalanobis, k-th neighbour |
//! | [`mod@sinkhorn`] | [`sinkhorn()`]: scores to balanced soft assignments |
//! | [`lab`] | [`rgb_to_lab()`] and back, and the bins of ab ([`gamut()`]) that colours fall to ([`SoftEncoding`]) |
//! | [`pca`] | [`Pca`]: principal components with explained variance |
//!
//! # Example
//! Two clouds of points are found again, and so is the direction that separates them:
//! ```
//! use selfsup_core::{Key, Tensor};
//! use selfsup_numerics::{KMeans, KMeansConfig, Metric, Pca, TopKConfig, top_k};
//!
//! let x = Tensor::from_slice2(&[[0.0_f32, 0.0], [0.1, 0.0], [0.0, 0.1], [5.0, 5.0], [5.1, 5.0], [5.0, 5.1]]);
//!
//! let clusters = KMeans::fit(&x, &KMeansConfig { clusters: 2, ..Default::default() }, Key::new(0))?;
//! let labels = Vec::<i64>::try_from(&clusters.labels)?;
//! assert!(labels[0] == labels[2] && labels[3] == labels[5] && labels[0] != labels[3]);
//!
//! let neighbours = top_k(&x, &x, &TopKConfig { k: 2, metric: Metric::Euclidean, ..Default::default() })?;
//! assert_eq!(Vec::<i64>::try_from(neighbours.indices.select(1, 0))?, [0, 1, 2, 3, 4, 5]); // itself first
//!
//! let pca = Pca::fit(&x, 1)?;
//! assert!(pca.explained_variance_ratio.double_value(&[0]) > 0.99);
//! # Ok::<(), selfsup_core::Error>(())
//! ```

pub mod agglomerative;
mod assign;
pub mod cluster_scores;
mod clusters;
pub mod csr;
pub mod familiarity;
pub mod gap;
pub mod ivf;
pub mod k_means;
pub mod knn_graph;
pub mod lab;
mod links;
pub mod matching;
pub mod pca;
mod product;
pub mod silhouette;
pub mod sinkhorn;
pub mod suggest_clusters;
pub mod top_k;

pub use agglomerative::{Agglomerative, Linkage, Merge};
pub use cluster_scores::{calinski_harabasz, davies_bouldin};
pub use csr::Csr;
pub use gap::{Gap, GapConfig, Reference, fewest_that_fit, gap_statistic};
pub use ivf::{Ivf, IvfConfig, neighbour_recall};
pub use k_means::{Assignment, Geometry, KMeans, KMeansConfig, nearest_centres};
pub use knn_graph::{Edges, KnnGraph, KnnGraphConfig};
pub use lab::{SoftEncoding, gamut, lab_to_rgb, rgb_to_lab};
pub use matching::best_matching;
pub use pca::Pca;
pub use silhouette::silhouette;
pub use sinkhorn::{SinkhornConfig, sinkhorn};
pub use suggest_clusters::{Candidate, ClusterCounts, SuggestConfig, suggest_clusters};
pub use top_k::{Metric, Neighbours, SelfMatches, TopKConfig, top_k};

use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// Checks that `x` is a finite matrix with at least one row and column, and returns it in Float, detached.
fn finite_matrix(name: &str, x: &Tensor) -> Result<(Tensor, [i64; 2])> {
    let (x, shape, _) = matrix_with_range(name, x)?;
    Ok((x, shape))
}

/// The same, and its smallest and largest number: one look at it tells whether all are finite.
fn matrix_with_range(name: &str, x: &Tensor) -> Result<(Tensor, [i64; 2], [f64; 2])> {
    let shape = check_shape(name, x, [-1, -1])?;
    if shape.contains(&0) {
        return Err(Error::config(name, format!("{shape:?}"), "at least one row and one column"));
    }
    let x = x.detach().to_kind(Kind::Float);
    let (least, most) = x.aminmax(None, false); // NaN where there is one
    let range = [f64::try_from(least)?, f64::try_from(most)?];
    if !range.iter().all(|end| end.is_finite()) {
        let bad = x.isfinite().all_dim(1, false).logical_not().to_kind(Kind::Int64).argmax(0, false);
        return Err(Error::NonFinite {
            what: name.to_owned(),
            detail: format!("the first bad row is {}", i64::try_from(bad)?),
        });
    }
    Ok((x, shape, range))
}
