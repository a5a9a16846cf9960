//! Retrieval: does a search for what is near a sample find its class?
//!
//! ```text
//! precision@k = hits among the first k / k               hit rate@k = 1 if there is a hit among the first k
//! recall@k    = hits among the first k / R               R = relevant samples of the gallery: those of the query's class
//! AP   = 1/R sum_{hits at place p} precision@p                            mAP: its mean over queries
//! nDCG@k = sum_{hits at place p <= k} 1/log2(p+1)  /  sum_{p <= min(k, R)} 1/log2(p+1)     (Jarvelin and Kekalainen 2002)
//! ```
//! **Ties.** Samples that are equally near the query stand in no order. Every measure is the expectation over all orders
//! of them (McSherry and Najork 2008), so that it depends neither on the order of the files nor on luck: features that
//! have collapsed to one point score what chance scores. Without ties the measures are those of
//! torchmetrics, with ties nDCG is scikit-learn's.
//!
//! **Self-matches.** Where queries are samples of the gallery, a query finds itself first and must not count it
//! ([`SelfMatches::Exclude`]). A query without relevant samples is left out and counted.
//!
//! The search is exact, block by block of queries; only the ranks of one block are in memory. For galleries of millions an index of
//! inverted lists may take its place ([`ApproximateSearch`]); what share of the exact neighbours it finds is then part of the outcome.

use super::tied_ranking::{QueryScores, groups};
use crate::measurement::Origin;
use crate::{Mean, Measurement, check_pair};
use rand::seq::SliceRandom;
use selfsup_core::{Error, Features, Key, Result, Tensor};
use selfsup_numerics::{Ivf, IvfConfig, Metric, SelfMatches, TopKConfig, neighbour_recall, top_k};
use serde::{Deserialize, Serialize};

/// What is searched, and how much of it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrievalConfig {
    /// The numbers of samples looked at, ascending. Of a smaller gallery, all; what is missing to `k` counts as no hit in the
    /// precision, as in torchmetrics.
    pub cutoffs: Vec<i64>,
    /// The length of the list that the average precision goes over; the whole gallery when none. With less,
    /// it divides by the relevant samples that the list can hold, and ties at its end go to the earlier sample.
    pub depth: Option<i64>,
    /// What "near" means.
    pub metric: Metric,
    /// Whether a query may find itself.
    pub self_matches: SelfMatches,
    /// Queries asked, drawn where there are more; all when none.
    pub max_queries: Option<usize>,
    /// An index in the place of the exact search, which needs a `depth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approximate: Option<ApproximateSearch>,
    /// Draws of the intervals.
    pub resamples: usize,
    /// Decides which queries are asked, the centres of an index, and the draws of the intervals.
    pub seed: u64,
}

/// A search in inverted lists ([`Ivf`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApproximateSearch {
    /// The lists that the gallery is put into.
    pub lists: i64,
    /// The lists that a query is compared with.
    pub probes: i64,
    /// The queries that are searched exactly too, to measure what is missed.
    pub checked: usize,
}

impl Default for ApproximateSearch {
    fn default() -> Self {
        ApproximateSearch { lists: 256, probes: 16, checked: 1000 }
    }
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        RetrievalConfig {
            cutoffs: vec![1, 5, 10],
            depth: None,
            metric: Metric::Cosine,
            self_matches: SelfMatches::Keep,
            max_queries: None,
            approximate: None,
            resamples: 1000,
            seed: 0,
        }
    }
}

/// The measures of a search, means over its queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// The mean average precision.
    pub map: Mean,
    /// The measures of the first `k`, by `k`.
    pub at: Vec<RetrievalAt>,
    /// Queries whose class has no other sample in the gallery: they are in no mean.
    pub without_relevant: usize,
    /// The samples each query was compared with.
    pub candidates: i64,
    /// The share of the exact `depth` nearest that an approximate search found; none for an exact one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_recall: Option<f64>,
    /// How it was searched.
    pub config: RetrievalConfig,
}

/// The measures of the first `k` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrievalAt {
    /// How many were looked at.
    pub k: i64,
    /// The share of them that is relevant.
    pub precision: Mean,
    /// The share of what is relevant that is among them.
    pub recall: Mean,
    /// The share of queries with a hit among them; "recall@k" of the literature on metric learning.
    pub hit_rate: Mean,
    /// The normalised discounted cumulative gain.
    pub ndcg: Mean,
}

/// Searches the gallery for every query. A sample is relevant to a query of its class.
///
/// # Errors
/// When the sets do not fit each other, a number of the configuration cannot work, or no query has a relevant sample.
pub fn retrieval(queries: &Features, gallery: &Features, config: &RetrievalConfig) -> Result<Retrieval> {
    check_pair(gallery, queries)?;
    let candidates = check(queries, gallery, config)?;
    let depth = config.depth.unwrap_or(candidates).min(candidates);
    let asked = asked(queries.len(), config);
    let labels = Vec::<i64>::try_from(&gallery.labels)?;
    let mut of_class = vec![0_i64; gallery.classes as usize];
    for &label in &labels {
        of_class[label as usize] += 1;
    }
    let exclude = config.self_matches == SelfMatches::Exclude;
    let search = TopKConfig {
        // Without self-matches one more is searched, and the query itself, or else the last, is left out.
        k: depth + i64::from(exclude),
        metric: config.metric,
        ..Default::default()
    };
    let index = config.approximate.map(|approximate| {
        let ivf = IvfConfig { lists: approximate.lists, metric: config.metric, ..Default::default() };
        Ok::<_, Error>((Ivf::fit(&gallery.x, &ivf, Key::new(config.seed).with(2))?, approximate))
    });
    let index = index.transpose()?;
    let look = |x: &Tensor| match &index {
        Some((ivf, approximate)) => ivf.search(x, search.k, approximate.probes),
        None => top_k(x, &gallery.x, &search),
    };
    let mut scores = Vec::new();
    let mut without_relevant = 0;
    for block in asked.chunks((RANKS / search.k).max(1) as usize) {
        let block_queries = queries.select(&Tensor::from_slice(block));
        let found = look(&block_queries.x)?;
        let near = Vec::<f32>::try_from(found.scores.reshape([-1]))?;
        let indices = Vec::<i64>::try_from(found.indices.reshape([-1]))?;
        let classes = Vec::<i64>::try_from(&block_queries.labels)?;
        let rows = near.chunks(search.k as usize).zip(indices.chunks(search.k as usize));
        for ((near, indices), (&query, &class)) in rows.zip(block.iter().zip(&classes)) {
            let relevant = of_class[class as usize] - i64::from(exclude);
            if relevant == 0 {
                without_relevant += 1;
                continue;
            }
            // An index that found fewer fills up with -1.
            let ranking = near.iter().zip(indices).filter(|(_, i)| **i >= 0 && (!exclude || **i != query));
            let ranking = ranking.map(|(&near, &i)| (near, labels[i as usize] == class));
            scores.push(QueryScores::of(
                &groups(ranking.take(depth as usize)),
                relevant,
                depth,
                &config.cutoffs,
            ));
        }
    }
    if scores.is_empty() {
        return Err(Error::config("queries", "none with another sample of its class", "at least one"));
    }
    let mean = |part: &dyn Fn(&QueryScores) -> f64| {
        let values: Vec<f64> = scores.iter().map(part).collect();
        Mean::over_samples(&values, config.resamples, Key::new(config.seed).with(1))
    };
    let at = config.cutoffs.iter().enumerate().map(|(i, &k)| {
        Ok(RetrievalAt {
            k,
            precision: mean(&|s| s.at[i].precision)?,
            recall: mean(&|s| s.at[i].recall)?,
            hit_rate: mean(&|s| s.at[i].hit_rate)?,
            ndcg: mean(&|s| s.at[i].ndcg)?,
        })
    });
    Ok(Retrieval {
        at: at.collect::<Result<_>>()?,
        map: mean(&|s| s.average_precision)?,
        without_relevant,
        candidates,
        index_recall: index
            .map(|(ivf, approximate)| {
                let some: Vec<i64> = asked.iter().copied().take(approximate.checked).collect();
                let x = queries.x.index_select(0, &Tensor::from_slice(&some));
                // Without the query itself, which both lists hold.
                let others = |indices: Tensor| -> Result<Tensor> {
                    let rows = Vec::<Vec<i64>>::try_from(indices)?;
                    let others = some.iter().zip(rows).flat_map(|(query, row)| {
                        row.into_iter().filter(move |i| !exclude || i != query).take(depth as usize)
                    });
                    Ok(Tensor::from_slice(&others.collect::<Vec<i64>>()).reshape([-1, depth]))
                };
                let found = others(ivf.search(&x, search.k, approximate.probes)?.indices)?;
                neighbour_recall(&found, &others(top_k(&x, &gallery.x, &search)?.indices)?)
            })
            .transpose()?,
        config: config.clone(),
    })
}

/// Ranks held at a time: with indices, similarities and what the search holds, some 100 MB.
const RANKS: i64 = 2 << 20;

/// Checks the configuration and returns how many samples a query is compared with.
fn check(queries: &Features, gallery: &Features, config: &RetrievalConfig) -> Result<i64> {
    let exclude = config.self_matches == SelfMatches::Exclude;
    if exclude && queries.len() != gallery.len() {
        let expected = format!("the {} samples of the gallery, as self_matches is exclude", gallery.len());
        return Err(Error::config("queries", queries.len(), expected));
    }
    let candidates = gallery.len() - i64::from(exclude);
    if candidates < 1 {
        return Err(Error::config("gallery", gallery.len(), "at least two samples, without self-matches"));
    }
    let cutoffs = &config.cutoffs;
    if !cutoffs.windows(2).all(|w| w[0] < w[1]) || cutoffs.iter().any(|&k| k < 1) {
        return Err(Error::config("cutoffs", format!("{cutoffs:?}"), "ascending numbers, at least 1"));
    }
    let longest = cutoffs.last().copied().unwrap_or(1);
    if let Some(depth) = config.depth.filter(|&depth| depth < longest) {
        return Err(Error::config("depth", depth, format!("at least {longest}, the last of the cutoffs")));
    }
    if let Some(approximate) = &config.approximate {
        if config.depth.is_none() {
            return Err(Error::config(
                "depth",
                "none",
                "a number, as an approximate search ranks no whole gallery",
            ));
        }
        if approximate.checked == 0 {
            return Err(Error::config("approximate.checked", 0, "at least 1 query"));
        }
    }
    if config.max_queries == Some(0) {
        return Err(Error::config("max_queries", 0, "at least 1"));
    }
    Ok(candidates)
}

/// The queries asked, ascending.
fn asked(count: i64, config: &RetrievalConfig) -> Vec<i64> {
    let mut all: Vec<i64> = (0..count).collect();
    if let Some(most) = config.max_queries.filter(|&most| most < all.len()) {
        all.shuffle(&mut Key::new(config.seed).with(0).rng());
        all.truncate(most);
        all.sort_unstable();
    }
    all
}

impl Retrieval {
    /// The measures for a report, of queries from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.config.seed) };
        let near = match self.config.metric {
            Metric::Cosine => "cosine similarity",
            Metric::Euclidean => "Euclidean distance",
        };
        let whole = match self.config.depth {
            Some(depth) if depth < self.candidates => format!("the {depth} nearest"),
            _ => "the whole gallery".to_owned(),
        };
        let among = format!("of the gallery of {}, by {near}; ties in expectation", self.candidates);
        let mut all = vec![origin.mean(
            "map",
            &self.map,
            format!("mean over queries of the average precision of samples of the query's class in {whole}, {among}"),
        )];
        for at in &self.at {
            let k = at.k;
            let first = format!("among the {k} nearest {among}");
            all.push(origin.mean(
                format!("precision@{k}"),
                &at.precision,
                format!("share of samples of the query's class {first}"),
            ));
            all.push(origin.mean(
                format!("recall@{k}"),
                &at.recall,
                format!("share of all samples of the query's class that is {first}"),
            ));
            all.push(origin.mean(
                format!("hit_rate@{k}"),
                &at.hit_rate,
                format!("share of queries with a sample of their class {first}"),
            ));
            all.push(origin.mean(
                format!("ndcg@{k}"),
                &at.ndcg,
                format!("normalised discounted cumulative gain {first} (Jarvelin and Kekalainen 2002)"),
            ));
        }
        if let (Some(recall), Some(approximate)) = (self.index_recall, &self.config.approximate) {
            let ApproximateSearch { lists, probes, checked } = approximate;
            let text = format!(
                "share of the exact nearest that the approximate search found, {probes} of {lists} inverted lists a query, on {checked} \
                 queries at most"
            );
            // Queries without relevant samples are searched as well.
            let asked = self.map.n + self.without_relevant;
            all.push(origin.plain("index_recall", recall, asked.min(*checked), text));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};
    use selfsup_core::{Device, Kind};

    fn labelled(x: Tensor, labels: &[i64], classes: i64) -> Features {
        Features::new(x, Tensor::from_slice(labels), classes).unwrap()
    }

    fn forty() -> Features {
        let labels: Vec<i64> = (0..40).map(|i| i * 7 % 5 % 3).collect();
        labelled(formula(40, 4), &labels, 3)
    }

    fn values(found: &Retrieval) -> Vec<f64> {
        let at = found.at.iter().flat_map(|a| [a.precision, a.recall, a.hit_rate, a.ndcg].map(|m| m.value));
        [found.map.value].into_iter().chain(at).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        let near = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < tolerance);
        assert!(near, "{found:?}\nexpected {expected:?}");
    }

    // x = torch.sin(torch.arange(160.).double() ** 1.5 * 0.37).reshape(40, 4).float(); y = torch.arange(40) * 7 % 5 % 3
    // z = F.normalize(x, dim=1); s = z @ z.T; off = ~torch.eye(40, dtype=bool)
    // p = s[off].double() + 2  # what is not above 0 counts as not relevant there
    // t = (y[:, None] == y)[off]; i = torch.arange(40)[:, None].expand(40, 40)[off]
    // import torchmetrics.retrieval as r                                                        # torchmetrics 1.9.0
    // [r.RetrievalMAP()(p, t, i)] + [m(top_k=k)(p, t, i) for k in (1, 5, 10) for m in
    //     (r.RetrievalPrecision, r.RetrievalRecall, r.RetrievalHitRate, r.RetrievalNormalizedDCG)]
    #[test]
    fn agrees_with_torchmetrics_without_self_matches() {
        let config = RetrievalConfig { self_matches: SelfMatches::Exclude, ..Default::default() };
        let found = retrieval(&forty(), &forty(), &config).unwrap();
        assert_close(&values(&found), &TORCHMETRICS, 1e-6);
        assert_eq!((found.candidates, found.without_relevant, found.map.n), (39, 0, 40));
    }

    // q, g = z[:10], z[10:]; p = (q @ g.T).flatten().double() + 2; t = (y[:10, None] == y[10:]).flatten()
    // i = torch.arange(10).repeat_interleave(30); as above
    #[test]
    fn agrees_with_torchmetrics_on_two_sets() {
        let all = forty();
        let range = |a, b| all.select(&Tensor::arange_start(a, b, (Kind::Int64, Device::Cpu)));
        let found = retrieval(&range(0, 10), &range(10, 40), &RetrievalConfig::default()).unwrap();
        assert_close(&values(&found), &TWO_SETS, 1e-6);
    }

    // faiss.IndexFlatIP(4) with z added; _, f = index.search(z, 11); drop i from f[i]; hits among the first 10, all 40
    // (y[np.array(f)] == y[:, None]).sum() / 400                                                 # faiss 1.15.1
    #[test]
    fn finds_what_faiss_finds() {
        let config = RetrievalConfig { self_matches: SelfMatches::Exclude, ..Default::default() };
        let found = retrieval(&forty(), &forty(), &config).unwrap();
        assert!((found.at[2].precision.value - FAISS).abs() < 1e-9);
    }

    #[test]
    fn an_index_with_all_lists_is_exact_and_says_so() {
        let all = clouds(400, 4, 2.0);
        let exact =
            RetrievalConfig { self_matches: SelfMatches::Exclude, depth: Some(30), ..Default::default() };
        let with = |probes| {
            let approximate = Some(ApproximateSearch { lists: 10, probes, checked: 50 });
            retrieval(&all, &all, &RetrievalConfig { approximate, ..exact.clone() }).unwrap()
        };
        let whole = with(10);
        assert_close(&values(&whole), &values(&retrieval(&all, &all, &exact).unwrap()), 1e-9);
        assert_eq!(whole.index_recall, Some(1.0));
        let few = with(2);
        assert!(few.index_recall.unwrap() < 1.0 && few.index_recall.unwrap() > 0.3, "{few:?}");
        let told = few.measurements("test");
        assert_eq!(told.last().map(|m| (m.name.as_str(), m.n)), Some(("index_recall", 50)));
        // A query finds itself in its own list: with one list of one neighbour it finds no other.
        let alone = Some(ApproximateSearch { lists: 400, probes: 1, checked: 50 });
        let one = RetrievalConfig { approximate: alone, cutoffs: vec![1], depth: Some(1), ..exact.clone() };
        let found = retrieval(&all, &all, &one).unwrap();
        assert!(found.index_recall.unwrap() < 0.1, "{found:?}");
        let approximate = Some(ApproximateSearch::default());
        let config = RetrievalConfig { approximate, ..Default::default() };
        let error = retrieval(&all, &all, &config).unwrap_err().to_string();
        assert_eq!(error, "depth = none: a number, as an approximate search ranks no whole gallery");
    }

    #[test]
    fn queries_without_relevant_samples_are_among_those_whose_neighbours_are_checked() {
        // The first ten are alone in their classes.
        let labels: Vec<i64> = (0..60).map(|i| if i < 10 { i } else { 10 + i % 2 }).collect();
        let set = labelled(formula(60, 4), &labels, 12);
        let approximate = Some(ApproximateSearch { lists: 4, probes: 4, checked: 1000 });
        let config = RetrievalConfig {
            self_matches: SelfMatches::Exclude,
            depth: Some(20),
            approximate,
            ..Default::default()
        };
        let found = retrieval(&set, &set, &config).unwrap();
        assert_eq!((found.map.n, found.without_relevant), (50, 10));
        assert_eq!(found.measurements("test").last().map(|m| m.n), Some(60));
    }

    // As for two sets above, with top_k=100: 30 samples are there.
    #[test]
    fn agrees_with_torchmetrics_on_a_cutoff_above_the_gallery() {
        let all = forty();
        let range = |a, b| all.select(&Tensor::arange_start(a, b, (Kind::Int64, Device::Cpu)));
        let config = RetrievalConfig { cutoffs: vec![100], ..Default::default() };
        let found = retrieval(&range(0, 10), &range(10, 40), &config).unwrap();
        assert_close(&values(&found), &ABOVE_THE_SET, 1e-6);
    }

    const ABOVE_THE_SET: [f64; 5] = [0.41883593797683716, 0.10799999535083771, 1.0, 1.0, 0.6834643483161926];

    const TORCHMETRICS: [f64; 13] = [
        0.3687693178653717,
        0.3499999940395355,
        0.023333333432674408,
        0.3499999940395355,
        0.3499999940395355,
        0.26500001549720764,
        0.09785714745521545,
        0.824999988079071,
        0.28625208139419556,
        0.2800000011920929,
        0.20000000298023224,
        0.9750000238418579,
        0.29273679852485657,
    ];
    const TWO_SETS: [f64; 13] = [
        0.41883593797683716,
        0.4000000059604645,
        0.03333333507180214,
        0.4000000059604645,
        0.4000000059604645,
        0.3400000035762787,
        0.15000000596046448,
        0.8999999761581421,
        0.35234197974205017,
        0.3499999940395355,
        0.32499998807907104,
        1.0,
        0.36626309156417847,
    ];
    const FAISS: f64 = 0.28;

    #[test]
    fn collapsed_features_score_what_chance_scores_whatever_the_order_of_the_files() {
        let one_point = Tensor::ones([12, 3], (Kind::Float, Device::Cpu));
        let score = |labels: &[i64]| {
            let set = labelled(one_point.shallow_clone(), labels, 2);
            let config = RetrievalConfig { self_matches: SelfMatches::Exclude, ..Default::default() };
            values(&retrieval(&set, &set, &config).unwrap())
        };
        let sorted = score(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        assert_close(&sorted, &score(&[0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1]), 1e-12);
        assert!((sorted[1] - 5.0 / 11.0).abs() < 1e-12, "precision@1 is the share of the class: {sorted:?}");
    }

    #[test]
    fn copies_of_a_query_are_found_but_not_the_query() {
        // Three copies of each of two samples that are of different classes.
        let x = formula(2, 3).repeat([3, 1]);
        let set = labelled(x, &[0, 1, 0, 1, 0, 1], 2);
        let config = RetrievalConfig {
            cutoffs: vec![1, 2, 3],
            self_matches: SelfMatches::Exclude,
            ..Default::default()
        };
        let found = retrieval(&set, &set, &config).unwrap();
        assert_close(&values(&found)[..9], &[1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 1e-12);
        assert_close(&[found.at[2].precision.value], &[2.0 / 3.0], 1e-12);
    }

    #[test]
    fn one_class_is_always_found_and_a_cutoff_above_the_gallery_takes_the_gallery() {
        let set = labelled(formula(5, 2), &[0; 5], 1);
        let found =
            retrieval(&set, &set, &RetrievalConfig { cutoffs: vec![50], ..Default::default() }).unwrap();
        assert_close(&values(&found), &[1.0, 5.0 / 50.0, 1.0, 1.0, 1.0], 1e-12);
    }

    #[test]
    fn a_query_alone_in_its_class_is_left_out_and_counted() {
        let set = labelled(formula(5, 2), &[0, 0, 1, 0, 0], 2);
        let config = RetrievalConfig { self_matches: SelfMatches::Exclude, ..Default::default() };
        let found = retrieval(&set, &set, &config).unwrap();
        assert_eq!((found.without_relevant, found.map.n), (1, 4));
        let alone = labelled(formula(2, 2), &[0, 1], 2);
        let error = retrieval(&alone, &alone, &config).unwrap_err().to_string();
        assert_eq!(error, "queries = none with another sample of its class: at least one");
    }

    #[test]
    fn blocks_and_a_depth_leave_no_seam() {
        // 1,500 samples: more ranks than a block holds.
        let (queries, gallery) = (clouds(1500, 3, 0.3), clouds(1700, 3, 0.3));
        let whole = retrieval(&queries, &gallery, &RetrievalConfig::default()).unwrap();
        let part = RetrievalConfig { depth: Some(10), ..Default::default() };
        let part = retrieval(&queries, &gallery, &part).unwrap();
        assert_eq!(whole.at, part.at);
        let few = RetrievalConfig { max_queries: Some(300), ..Default::default() };
        let few = retrieval(&queries, &gallery, &few).unwrap();
        assert_eq!(few.map.n, 300);
        let interval = few.map.interval.unwrap();
        assert!(interval.low < whole.map.value && whole.map.value < interval.high, "{few:?}");
    }

    #[test]
    fn every_number_of_a_report_says_what_it_is() {
        let found = retrieval(&forty(), &forty(), &RetrievalConfig::default()).unwrap().measurements("test");
        assert_eq!(found.len(), 13);
        assert_eq!(found[2].name, "recall@1");
        assert!(
            found.iter().all(|m| m.split == "test" && m.seed == Some(0) && m.interval.is_some() && m.n == 40)
        );
        let expected = "share of all samples of the query's class that is among the 1 nearest of the gallery of 40, by \
                        cosine similarity; ties in expectation";
        assert_eq!(found[2].definition, expected);
    }

    #[test]
    fn rejects_what_it_cannot_search() {
        let all = forty();
        let error = |queries: &Features, config: RetrievalConfig| {
            retrieval(queries, &all, &config).unwrap_err().to_string()
        };
        let half = all.select(&Tensor::arange(20, (Kind::Int64, Device::Cpu)));
        let exclude = RetrievalConfig { self_matches: SelfMatches::Exclude, ..Default::default() };
        assert_eq!(
            error(&half, exclude),
            "queries = 20: the 40 samples of the gallery, as self_matches is exclude"
        );
        let cutoffs = RetrievalConfig { cutoffs: vec![5, 1], ..Default::default() };
        assert_eq!(error(&all, cutoffs), "cutoffs = [5, 1]: ascending numbers, at least 1");
        let depth = RetrievalConfig { depth: Some(3), ..Default::default() };
        assert_eq!(error(&all, depth), "depth = 3: at least 10, the last of the cutoffs");
        let none = RetrievalConfig { max_queries: Some(0), ..Default::default() };
        assert_eq!(error(&all, none), "max_queries = 0: at least 1");
        let wide = labelled(formula(4, 5), &[0, 1, 2, 0], 3);
        assert_eq!(error(&wide, RetrievalConfig::default()), "test features: expected [_, 4], found [4, 5]");
        let mut bad = forty();
        let _ = bad.x.get(3).fill_(f64::NAN);
        bad.labels = bad.labels.shallow_clone();
        assert!(error(&bad, RetrievalConfig::default()).contains("not finite: the first bad row is 3"));
    }
}
