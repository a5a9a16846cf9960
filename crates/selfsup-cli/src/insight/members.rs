//! Test images that stand for a cluster or fit it least, and the training images that a test image's feature would be taken for.

use crate::images;
use crate::judge::Seen;
use crate::report::{Cluster, Query, Sample};
use anyhow::{Result, ensure};
use selfsup::eval::{
    ClusterMembers, ClusterMembersConfig, Neighbourhood, cluster_members, nearest_neighbours,
};
use serde::{Deserialize, Serialize};

/// The clusters where no number of classes is known.
const CLUSTERS: i64 = 10;
/// The largest clusters, which are kept.
const KEPT: usize = 10;
/// The training images nearest to each test image.
const NEAREST: i64 = 8;

/// As report.json holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembersFound {
    /// The largest clusters of the test images.
    pub clusters: Vec<ClusterMembers>,
    /// Test images and the training images nearest to them.
    pub inversion: Vec<Neighbourhood>,
    /// How many clusters there are.
    #[serde(default)]
    pub cluster_count: usize,
    /// The seed of the clusters.
    pub seed: u64,
}

/// Looks for them in the features of the trained encoder. `classes` are those of the set, where it has some; `queries` test images are
/// taken evenly.
///
/// # Errors
/// When features are not finite.
pub fn measure(seen: &Seen, classes: usize, queries: usize, seed: u64) -> Result<MembersFound> {
    let (train, test) = (super::unlabelled(&seen.train)?, super::unlabelled(&seen.test)?);
    let clusters = if classes > 1 { classes as i64 } else { CLUSTERS };
    let config = ClusterMembersConfig { clusters: clusters.min(test.len()), seed, ..Default::default() };
    let queries: Vec<i64> =
        images::evenly(test.len() as usize, queries).into_iter().map(|i| i as i64).collect();
    let mut clusters = cluster_members(&test.x, &config)?;
    let cluster_count = clusters.len();
    clusters.truncate(KEPT);
    Ok(MembersFound {
        clusters,
        cluster_count,
        inversion: nearest_neighbours(&test, &queries, &train, NEAREST.min(train.len()))?,
        seed,
    })
}

impl MembersFound {
    /// The clusters with their images; `test` shows the test image at a position.
    ///
    /// # Errors
    /// When report.json is of another set, or an image cannot be read.
    pub fn clusters(&self, tests: usize, test: &dyn Fn(i64) -> Result<Sample>) -> Result<Vec<Cluster>> {
        let show = |members: &[(i64, f32)]| -> Result<Vec<(Sample, f64)>> {
            members
                .iter()
                .map(|&(i, near)| {
                    known("test", i, tests)?;
                    Ok((test(i)?, f64::from(near)))
                })
                .collect()
        };
        self.clusters
            .iter()
            .map(|cluster| {
                Ok(Cluster {
                    images: tests,
                    clusters: self.cluster_count,
                    size: cluster.size,
                    cohesion: cluster.cohesion,
                    typical: show(&cluster.typical)?,
                    atypical: show(&cluster.atypical)?,
                })
            })
            .collect()
    }

    /// The test images with the training images nearest to them.
    ///
    /// # Errors
    /// As [`clusters`](MembersFound::clusters).
    pub fn inversion(
        &self,
        [trains, tests]: [usize; 2],
        train: &dyn Fn(i64) -> Result<Sample>,
        test: &dyn Fn(i64) -> Result<Sample>,
    ) -> Result<Vec<Query>> {
        self.inversion
            .iter()
            .map(|found| {
                known("test", found.query, tests)?;
                let nearest = found.neighbours.iter().map(|&i| {
                    known("training", i, trains)?;
                    train(i)
                });
                Ok(Query { query: test(found.query)?, nearest: nearest.collect::<Result<_>>()? })
            })
            .collect()
    }
}

fn known(part: &str, i: i64, count: usize) -> Result<()> {
    ensure!(
        (0..count as i64).contains(&i),
        "report.json names the {part} image {i} of {count}: run selfsup eval again"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Shown;
    use selfsup::core::{Device, Kind, Tensor};

    fn seen() -> Seen {
        let x = |n: i64| (Tensor::arange(n * 4, (Kind::Float, Device::Cpu)) * 1.7).sin().view([n, 4]);
        Seen { train: x(30), test: x(20), views: None, layers: Vec::new() }
    }

    fn sample(i: i64) -> Sample {
        Sample { shown: Shown::Text(i.to_string()), class: None }
    }

    #[test]
    fn a_training_image_of_the_same_feature_is_found_first() {
        let found = measure(&seen(), 3, 4, 1).unwrap();
        // The first twenty training images have the test images' features.
        let firsts: Vec<(i64, i64)> = found.inversion.iter().map(|n| (n.query, n.neighbours[0])).collect();
        assert_eq!(firsts, [(0, 0), (5, 5), (10, 10), (15, 15)]);
        assert_eq!((found.inversion[0].neighbours.len(), found.clusters.len()), (8, 3));
        let shown = found.inversion([30, 20], &|i| Ok(sample(i)), &|i| Ok(sample(i))).unwrap();
        assert!(matches!(&shown[1].nearest[0].shown, Shown::Text(text) if text == "5"));
        let clusters = found.clusters(20, &|i| Ok(sample(i))).unwrap();
        assert_eq!(clusters.iter().map(|c| c.size).sum::<usize>(), 20);
    }

    #[test]
    fn there_are_as_many_clusters_as_classes_and_the_largest_are_kept() {
        let found = measure(&seen(), 14, 4, 1).unwrap();
        assert_eq!((found.clusters.len(), found.cluster_count), (10, 14));
        assert!(found.clusters.is_sorted_by(|a, b| a.size >= b.size));
        let clusters = found.clusters(20, &|i| Ok(sample(i))).unwrap();
        assert_eq!((clusters[0].images, clusters[0].clusters), (20, 14));
        assert_eq!(measure(&seen(), 0, 4, 1).unwrap().cluster_count, 10);
    }

    #[test]
    fn a_report_of_another_set_is_refused() {
        let found = measure(&seen(), 0, 4, 1).unwrap();
        let error = found.clusters(3, &|i| Ok(sample(i))).unwrap_err().to_string();
        assert!(error.starts_with("report.json names the test image "), "{error}");
        let error = found.inversion([1, 20], &|i| Ok(sample(i)), &|i| Ok(sample(i))).unwrap_err().to_string();
        assert!(error.contains(" of 1: run selfsup eval again"), "{error}");
    }
}
