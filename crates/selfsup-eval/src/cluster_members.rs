//! What clusters hold: the members that stand for them, and those that fit least.

use selfsup_core::{Error, Key, Result, Tensor, TensorExt, check_shape};
use selfsup_numerics::{Geometry, KMeans, KMeansConfig};
use serde::{Deserialize, Serialize};

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterMembers {
    /// Its members.
    pub size: usize,
    /// The mean cosine similarity of its members to its centre.
    pub cohesion: f64,
    /// Positions of the members nearest to the centre and their cosine similarities to it, the nearest first.
    pub typical: Vec<(i64, f32)>,
    /// The same of those farthest from it, the farthest first; none that is typical.
    pub atypical: Vec<(i64, f32)>,
}

/// How clusters are found and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterMembersConfig {
    /// The clusters.
    pub clusters: i64,
    /// Starts of k-means, of which the one with the least inertia counts.
    pub starts: u64,
    /// The typical members of each, and as many atypical ones, at most.
    pub members: usize,
    /// Decides the starts.
    pub seed: u64,
}

impl Default for ClusterMembersConfig {
    fn default() -> Self {
        ClusterMembersConfig { clusters: 10, starts: 3, members: 6, seed: 0 }
    }
}

/// Clusters features by direction with spherical k-means and shows who stands for each cluster; the largest clusters come first, empty ones
/// are left out.
///
/// # Shapes
/// `x` `[N, D]`.
///
/// # Errors
/// When `x` is no finite matrix, there are more clusters than samples, or nothing to find or show.
pub fn cluster_members(x: &Tensor, config: &ClusterMembersConfig) -> Result<Vec<ClusterMembers>> {
    if config.starts == 0 || config.members == 0 {
        let found = format!("{} and {}", config.starts, config.members);
        return Err(Error::config("starts and members", found, "at least 1"));
    }
    let k_means =
        KMeansConfig { clusters: config.clusters, geometry: Geometry::Spherical, ..Default::default() };
    let mut best: Option<KMeans> = None;
    for start in 0..config.starts {
        let found = KMeans::fit(x, &k_means, Key::new(config.seed).with(start))?;
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    let best = best.ok_or_else(|| Error::config("starts", 0, "at least 1"))?;
    members_of(x, &best.labels, &best.centres, config.members)
}

/// The members of given clusters, as [`cluster_members`] shows them.
///
/// # Shapes
/// `x` `[N, D]`, `labels` `[N]` Int64 in `0..K`, `centres` `[K, D]`.
///
/// # Errors
/// When they do not fit each other.
pub fn members_of(
    x: &Tensor,
    labels: &Tensor,
    centres: &Tensor,
    members: usize,
) -> Result<Vec<ClusterMembers>> {
    let [n, d] = check_shape("x", x, [-1, -1])?;
    check_shape("labels", labels, [n])?;
    let [k, _] = check_shape("centres", centres, [-1, d])?;
    let labels = Vec::<i64>::try_from(labels)?;
    if let Some(label) = labels.iter().find(|label| !(0..k).contains(*label)) {
        return Err(Error::config("labels", label, format!("clusters in 0..{k}")));
    }
    let own = centres.index_select(0, &Tensor::from_slice(&labels).to_device(x.device()));
    let near = (x.l2_normalize() * own.l2_normalize()).sum_dim_intlist(1, false, None);
    let near = Vec::<f32>::try_from(near)?;
    let mut clusters: Vec<Vec<(i64, f32)>> = vec![Vec::new(); k as usize];
    for (i, (&label, &near)) in labels.iter().zip(&near).enumerate() {
        clusters[label as usize].push((i as i64, near));
    }
    clusters.retain(|cluster| !cluster.is_empty());
    // The sorts keep the order of equals, so that the first of them in the set stands before.
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.len()));
    let show = |mut all: Vec<(i64, f32)>| {
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        let typical = all[..members.min(all.len())].to_vec();
        let atypical = all[typical.len()..].iter().rev().take(members).copied().collect();
        let cohesion = all.iter().map(|(_, near)| f64::from(*near)).sum::<f64>() / all.len() as f64;
        ClusterMembers { size: all.len(), cohesion, typical, atypical }
    };
    Ok(clusters.into_iter().map(show).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::clouds;

    fn positions(members: &[(i64, f32)]) -> Vec<i64> {
        members.iter().map(|(i, _)| *i).collect()
    }

    #[test]
    fn the_nearest_stand_for_a_cluster_and_the_farthest_fit_least() {
        // Angles from the first centre: 0, 10, 20, 30, 40 degrees; the last sample is the second cluster's.
        let point =
            |degrees: f64| [degrees.to_radians().cos() as f32 * 3.0, degrees.to_radians().sin() as f32 * 3.0];
        let x = Tensor::from_slice2(&[
            point(20.0),
            point(0.0),
            point(40.0),
            point(10.0),
            point(30.0),
            point(90.0),
        ]);
        let labels = Tensor::from_slice(&[0_i64, 0, 0, 0, 0, 1]);
        let centres = Tensor::from_slice2(&[[1.0_f32, 0.0], [0.0, 1.0]]);
        let found = members_of(&x, &labels, &centres, 2).unwrap();
        assert_eq!((found.len(), found[0].size, found[1].size), (2, 5, 1));
        assert_eq!(positions(&found[0].typical), [1, 3]);
        assert_eq!(positions(&found[0].atypical), [2, 4]);
        assert_eq!((positions(&found[1].typical), found[1].atypical.len()), (vec![5], 0));
        assert!((found[0].atypical[0].1 - 40_f32.to_radians().cos()).abs() < 1e-6);
        let cohesion: f64 =
            [0.0_f64, 10.0, 20.0, 30.0, 40.0].iter().map(|d| d.to_radians().cos()).sum::<f64>() / 5.0;
        assert!((found[0].cohesion - cohesion).abs() < 1e-6);
    }

    #[test]
    fn clear_clouds_are_the_clusters() {
        let set = clouds(90, 3, 8.0);
        let config = ClusterMembersConfig { clusters: 3, members: 4, ..Default::default() };
        let found = cluster_members(&set.x, &config).unwrap();
        assert_eq!(found.iter().map(|c| c.size).collect::<Vec<_>>(), [30, 30, 30]);
        for cluster in &found {
            let class = cluster.typical[0].0 % 3;
            assert!(cluster.typical.iter().chain(&cluster.atypical).all(|(i, _)| i % 3 == class));
            assert!(cluster.typical[3].1 >= cluster.atypical[0].1);
        }
        assert_eq!(cluster_members(&set.x, &config).unwrap(), found, "a function of the seed");
    }

    #[test]
    fn a_sample_is_not_typical_and_atypical_at_once() {
        let set = clouds(5, 1, 1.0);
        let config = ClusterMembersConfig { clusters: 1, members: 4, ..Default::default() };
        let found = cluster_members(&set.x, &config).unwrap();
        assert_eq!((found[0].typical.len(), found[0].atypical.len()), (4, 1));
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let set = clouds(6, 3, 1.0);
        let config = ClusterMembersConfig { members: 0, clusters: 2, ..Default::default() };
        let error = cluster_members(&set.x, &config).unwrap_err().to_string();
        assert_eq!(error, "starts and members = 3 and 0: at least 1");
        let many = ClusterMembersConfig { clusters: 7, ..Default::default() };
        assert!(cluster_members(&set.x, &many).unwrap_err().to_string().starts_with("clusters = 7"));
        let centres = set.x.narrow(0, 0, 2);
        let error = members_of(&set.x, &set.labels, &centres, 2).unwrap_err().to_string();
        assert_eq!(error, "labels = 2: clusters in 0..2");
    }
}
