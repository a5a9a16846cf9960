//! How many clusters are there? Every candidate is clustered and judged by four criteria; one report holds them all.
//!
//! | criterion | suggests |
//! |---|---|
//! | [silhouette](mod@crate::silhouette) | the number with the highest mean |
//! | [Calinski and Harabasz](calinski_harabasz) | the number with the highest score |
//! | [Davies and Bouldin](davies_bouldin) | the number with the lowest index |
//! | [gap statistic](mod@crate::gap) | the least number that fits as well as the next; it alone can say 1 |
//!
//! Among equally good numbers the lowest is suggested. The criteria are heuristics and often disagree: look at all of them.

use crate::cluster_scores::{calinski_harabasz, davies_bouldin};
use crate::finite_matrix;
use crate::gap::{GapConfig, clusterings, fewest_that_fit, gaps};
use crate::k_means::Geometry;
use crate::silhouette::silhouette;
use crate::top_k::Metric;
use rand::RngExt;
use selfsup_core::{Error, Key, Result, Tensor, TensorExt};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How to judge candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuggestConfig {
    /// How to cluster, and what the gap statistic compares with.
    pub gap: GapConfig,
    /// Of more rows than this so many are drawn and judged in place of all.
    pub sample: i64,
}

impl Default for SuggestConfig {
    fn default() -> Self {
        SuggestConfig { gap: GapConfig::default(), sample: 5000 }
    }
}

/// What the criteria say about one number of clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The number of clusters.
    pub clusters: i64,
    /// The sum of squared distances to the centres.
    pub inertia: f64,
    /// The mean silhouette; none for one cluster.
    pub silhouette: Option<f64>,
    /// The score of Calinski and Harabasz; none for one cluster.
    pub calinski_harabasz: Option<f64>,
    /// The index of Davies and Bouldin; none for one cluster.
    pub davies_bouldin: Option<f64>,
    /// The gap.
    pub gap: f64,
    /// The deviation that the gap statistic allows for.
    pub gap_deviation: f64,
}

/// Numbers of clusters by all criteria. It displays as a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterCounts {
    /// The candidates, in ascending order.
    pub candidates: Vec<Candidate>,
    /// The rows that were judged.
    pub rows: i64,
    /// What the silhouette suggests.
    pub silhouette: i64,
    /// What the score of Calinski and Harabasz suggests.
    pub calinski_harabasz: i64,
    /// What the index of Davies and Bouldin suggests.
    pub davies_bouldin: i64,
    /// What the gap statistic suggests; none when each candidate fits better than the one before.
    pub gap: Option<i64>,
    /// What most criteria suggest; if none has more votes than another, the silhouette's.
    pub suggested: i64,
}

/// Judges numbers of clusters.
///
/// # Shapes
/// `features` `[N, D]`. With [`Geometry::Spherical`] they are scaled to length 1, and the silhouette is that of cosines.
///
/// # Errors
/// When the features are no finite matrix or all rows are equal, a candidate is not in `1..=rows - 1` for the rows that
/// are judged, none is above 1, or a setting cannot work.
pub fn suggest_clusters(
    features: &Tensor,
    candidates: &[i64],
    config: &SuggestConfig,
    key: Key,
) -> Result<ClusterCounts> {
    let (x, [n, _]) = finite_matrix("features", features)?;
    if config.sample < 3 {
        return Err(Error::config("sample", config.sample, "at least 3 rows"));
    }
    if candidates.iter().all(|&k| k < 2) {
        return Err(Error::config("candidates", format!("{candidates:?}"), "a number of clusters above 1"));
    }
    let x = if n > config.sample {
        x.index_select(0, &sample(n, config.sample, key).to_device(x.device()))
    } else {
        x
    };
    let (x, metric) = match config.gap.k_means.geometry {
        Geometry::Euclidean => (x, Metric::Euclidean),
        Geometry::Spherical => (x.l2_normalize(), Metric::Cosine),
    };
    let key = key.with(1);
    let clusterings = clusterings(&x, candidates, &config.gap, key)?;
    let gaps = gaps(&x, &clusterings, &config.gap, key)?;
    let mut judged = Vec::new();
    for ((clusters, found), gap) in clusterings.iter().zip(&gaps) {
        let labels = &found.labels;
        let scores = if *clusters == 1 {
            None
        } else {
            let silhouette = silhouette(&x, labels, metric)?.mean(None).scalar()?;
            Some((silhouette, calinski_harabasz(&x, labels)?, davies_bouldin(&x, labels)?))
        };
        judged.push(Candidate {
            clusters: *clusters,
            inertia: found.inertia,
            silhouette: scores.map(|s| s.0),
            calinski_harabasz: scores.map(|s| s.1),
            davies_bouldin: scores.map(|s| s.2),
            gap: gap.gap,
            gap_deviation: gap.deviation,
        });
    }
    let best = |score: fn(&Candidate) -> Option<f64>| {
        let scored = judged.iter().filter_map(|c| Some((score(c)?, c.clusters)));
        let better = |a: (f64, i64), b: (f64, i64)| if b.0 > a.0 { b } else { a };
        // There is a candidate above 1, so there is a score.
        scored.reduce(better).map_or(1, |best| best.1)
    };
    let silhouette = best(|c| c.silhouette);
    let calinski_harabasz = best(|c| c.calinski_harabasz);
    let davies_bouldin = best(|c| c.davies_bouldin.map(|index| -index));
    let gap = fewest_that_fit(&gaps);
    let named = [Some(silhouette), Some(calinski_harabasz), Some(davies_bouldin), gap];
    let suggested = most_named(&named).unwrap_or(silhouette);
    let rows = x.size()[0];
    Ok(ClusterCounts {
        candidates: judged,
        rows,
        silhouette,
        calinski_harabasz,
        davies_bouldin,
        gap,
        suggested,
    })
}

/// The number that is named more often than any other.
fn most_named(named: &[Option<i64>]) -> Option<i64> {
    let votes = |k: i64| named.iter().filter(|&&other| other == Some(k)).count();
    let most = named.iter().flatten().copied().max_by_key(|&k| votes(k))?;
    named.iter().flatten().all(|&k| k == most || votes(k) < votes(most)).then_some(most)
}

/// `count` of `n` rows, ascending.
fn sample(n: i64, count: i64, key: Key) -> Tensor {
    let mut rng = key.with(0).rng();
    let mut rows: Vec<i64> = (0..n).collect();
    for i in 0..count as usize {
        let other = rng.random_range(i..rows.len());
        rows.swap(i, other);
    }
    rows.truncate(count as usize);
    rows.sort_unstable();
    Tensor::from_slice(&rows)
}

impl fmt::Display for ClusterCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8}  {:>10}  {:>17}  {:>14}  {:>16}",
            "clusters", "silhouette", "Calinski-Harabasz", "Davies-Bouldin", "gap"
        )?;
        for c in &self.candidates {
            let shown =
                |score: Option<f64>| score.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}"));
            let gap = format!("{:.3} ± {:.3}", c.gap, c.gap_deviation);
            let (silhouette, ch, db) =
                (shown(c.silhouette), shown(c.calinski_harabasz), shown(c.davies_bouldin));
            writeln!(f, "{:>8}  {silhouette:>10}  {ch:>17}  {db:>14}  {gap:>16}", c.clusters)?;
        }
        let gap = self.gap.map_or_else(|| "more".to_owned(), |k| k.to_string());
        let (silhouette, ch, db) = (self.silhouette, self.calinski_harabasz, self.davies_bouldin);
        writeln!(f, "{:>8}  {silhouette:>10}  {ch:>17}  {db:>14}  {gap:>16}", "best")?;
        write!(f, "suggested: {} clusters, from {} samples", self.suggested, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind};

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    /// Four clouds.
    fn clouds(each: i64) -> Tensor {
        let centres = Tensor::from_slice2(&[[0.0_f32, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 10.0]]);
        centres.repeat([each, 1]) + formula(4 * each, 2)
    }

    fn quick() -> SuggestConfig {
        SuggestConfig { gap: GapConfig { references: 4, ..Default::default() }, ..Default::default() }
    }

    #[test]
    fn all_criteria_find_four_clouds() {
        let found = suggest_clusters(&clouds(30), &[6, 1, 2, 3, 4, 5], &quick(), Key::new(0)).unwrap();
        assert_eq!((found.silhouette, found.calinski_harabasz, found.davies_bouldin), (4, 4, 4));
        assert_eq!((found.gap, found.suggested, found.rows), (Some(4), 4, 120));
        let numbers: Vec<i64> = found.candidates.iter().map(|c| c.clusters).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        assert!(found.candidates[0].silhouette.is_none() && found.candidates[1].silhouette.is_some());
    }

    #[test]
    fn its_scores_are_those_of_the_criteria() {
        let (x, key) = (clouds(20), Key::new(3));
        let found = suggest_clusters(&x, &[2, 4], &quick(), key).unwrap();
        let gaps = crate::gap_statistic(&x, &[2, 4], &quick().gap, key.with(1)).unwrap();
        let labels = (Tensor::arange(80, (Kind::Int64, Device::Cpu))).remainder(4);
        let four = &found.candidates[1];
        let mean = silhouette(&x, &labels, Metric::Euclidean).unwrap().mean(None).scalar().unwrap();
        assert!((four.silhouette.unwrap() - mean).abs() < 1e-9);
        assert!((four.calinski_harabasz.unwrap() - calinski_harabasz(&x, &labels).unwrap()).abs() < 1e-6);
        assert!((four.davies_bouldin.unwrap() - davies_bouldin(&x, &labels).unwrap()).abs() < 1e-9);
        assert_eq!((four.gap, four.gap_deviation), (gaps[1].gap, gaps[1].deviation));
    }

    #[test]
    fn judges_a_sample_of_many_rows_drawn_at_the_key() {
        let config = SuggestConfig { sample: 100, ..quick() };
        let found = |seed| suggest_clusters(&clouds(200), &[3, 4, 5], &config, Key::new(seed)).unwrap();
        assert_eq!((found(0).rows, found(0).suggested), (100, 4));
        assert_eq!(found(0), found(0));
        assert_ne!(found(0).candidates[1].inertia, found(1).candidates[1].inertia);
        let rows = Vec::<i64>::try_from(sample(1000, 100, Key::new(0))).unwrap();
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]) && rows[99] < 1000);
    }

    #[test]
    fn on_the_sphere_lengths_do_not_matter() {
        let mut config = quick();
        config.gap.k_means.geometry = Geometry::Spherical;
        let x = formula(60, 3);
        let longer = &x * (Tensor::arange(60, (Kind::Float, Device::Cpu)) + 1.0).unsqueeze(1);
        let a = suggest_clusters(&x, &[2, 3, 4], &config, Key::new(0)).unwrap();
        let b = suggest_clusters(&longer, &[2, 3, 4], &config, Key::new(0)).unwrap();
        assert_eq!((a.silhouette, a.suggested), (b.silhouette, b.suggested));
        for (a, b) in a.candidates.iter().zip(&b.candidates) {
            assert!((a.silhouette.unwrap() - b.silhouette.unwrap()).abs() < 1e-4);
        }
    }

    #[test]
    fn fewer_distinct_rows_than_a_candidate_are_no_error() {
        let x = Tensor::from_slice(&[0.0_f32, 0.0, 0.0, 5.0, 5.0, 9.0, 9.0, 9.0]).unsqueeze(1);
        let found = suggest_clusters(&x, &[2, 3, 5], &quick(), Key::new(0)).unwrap();
        assert_eq!(found.silhouette, 3);
    }

    #[test]
    fn the_vote_needs_a_single_winner() {
        assert_eq!(most_named(&[Some(3), Some(2), Some(2), None]), Some(2));
        assert_eq!(most_named(&[Some(3), Some(2), Some(2), Some(3)]), None);
        assert_eq!(most_named(&[Some(3), None, None, None]), Some(3));
    }

    #[test]
    fn displays_as_a_table() {
        let candidate = |clusters, silhouette| Candidate {
            clusters,
            inertia: 1.0,
            silhouette,
            calinski_harabasz: silhouette.map(|s| 1000.0 * s),
            davies_bouldin: silhouette,
            gap: 0.25,
            gap_deviation: 0.01,
        };
        let counts = ClusterCounts {
            candidates: vec![candidate(1, None), candidate(2, Some(0.5))],
            rows: 40,
            silhouette: 2,
            calinski_harabasz: 2,
            davies_bouldin: 2,
            gap: None,
            suggested: 2,
        };
        let expected = "\
clusters  silhouette  Calinski-Harabasz  Davies-Bouldin               gap
       1           -                  -               -     0.250 ± 0.010
       2       0.500            500.000           0.500     0.250 ± 0.010
    best           2                  2               2              more
suggested: 2 clusters, from 40 samples";
        assert_eq!(counts.to_string(), expected);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let error = |candidates: &[i64], config: &SuggestConfig| {
            suggest_clusters(&formula(6, 2), candidates, config, Key::new(0)).unwrap_err().to_string()
        };
        assert_eq!(error(&[1, 1], &quick()), "candidates = [1, 1]: a number of clusters above 1");
        assert_eq!(error(&[2, 6], &quick()), "candidates = 6: 1 to 5, one less than the samples");
        assert_eq!(error(&[-3, 2], &quick()), "candidates = -3: 1 to 5, one less than the samples");
        let small = SuggestConfig { sample: 4, ..quick() };
        assert_eq!(error(&[2, 4], &small), "candidates = 4: 1 to 3, one less than the samples");
        let none = SuggestConfig { sample: 2, ..quick() };
        assert_eq!(error(&[2], &none), "sample = 2: at least 3 rows");
    }
}
