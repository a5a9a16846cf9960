//! The measures of one ranking in which some samples are equally near: expectations over all orders of these (McSherry and
//! Najork 2008, sections 2 and 3).
//!
//! Of a tie of `n` samples with `r` relevant ones every place holds a relevant one with chance `r/n`; given that it does, the
//! `i` places before it in the tie hold `i (r-1)/(n-1)` more on average.

/// Samples that are equally near: how many, and how many of them are relevant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    n: f64,
    relevant: f64,
}

/// Nearest first.
pub(super) fn groups(ranking: impl Iterator<Item = (f32, bool)>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut last = f32::NAN;
    for (near, relevant) in ranking {
        if near != last {
            groups.push(Group { n: 0.0, relevant: 0.0 });
            last = near;
        }
        if let Some(group) = groups.last_mut() {
            group.n += 1.0;
            group.relevant += f64::from(u8::from(relevant));
        }
    }
    groups
}

/// The measures of one query.
pub(super) struct QueryScores {
    pub average_precision: f64,
    pub at: Vec<ScoresAt>,
}

#[derive(Default)]
pub(super) struct ScoresAt {
    pub precision: f64,
    pub recall: f64,
    pub hit_rate: f64,
    pub ndcg: f64,
}

impl QueryScores {
    pub fn of(groups: &[Group], relevant: i64, depth: i64, cutoffs: &[i64]) -> QueryScores {
        let best = relevant.min(depth) as f64;
        QueryScores {
            average_precision: precision_sum(groups) / best,
            at: cutoffs.iter().map(|&k| scores_at(groups, relevant as f64, k, depth)).collect(),
        }
    }
}

/// The expected sum of the precisions at hits: a hit at the i-th place of a tie has, on average, a share of the other
/// relevant ones before it.
fn precision_sum(groups: &[Group]) -> f64 {
    let (mut sum, mut place, mut hits) = (0.0, 0.0, 0.0);
    for group in groups {
        let before = if group.n > 1.0 { (group.relevant - 1.0) / (group.n - 1.0) } else { 0.0 };
        for i in 0..if group.relevant > 0.0 { group.n as usize } else { 0 } {
            let i = i as f64;
            sum += group.relevant / group.n * (hits + 1.0 + i * before) / (place + i + 1.0);
        }
        place += group.n;
        hits += group.relevant;
    }
    sum
}

/// Of the first `k`, of which a list of `depth` may have fewer: these missing ones are no hits.
fn scores_at(groups: &[Group], relevant: f64, k: i64, depth: i64) -> ScoresAt {
    let looked_at = k.min(depth) as usize;
    let discount = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let (mut place, mut hits, mut gain, mut miss) = (0, 0.0, 0.0, 1.0);
    for group in groups {
        let taken = (group.n as usize).min(looked_at - place);
        let share = group.relevant / group.n;
        hits += share * taken as f64;
        gain += share * (place..place + taken).map(discount).sum::<f64>();
        // Without replacement: the chance that none of those taken is relevant.
        let others = group.n - group.relevant;
        miss *= (0..taken).map(|i| ((others - i as f64) / (group.n - i as f64)).max(0.0)).product::<f64>();
        place += taken;
        if place == looked_at {
            break;
        }
    }
    let ideal: f64 = (0..looked_at.min(relevant as usize)).map(discount).sum();
    ScoresAt { precision: hits / k as f64, recall: hits / relevant, hit_rate: 1.0 - miss, ndcg: gain / ideal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        let near = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < tolerance);
        assert!(near, "{found:?}\nexpected {expected:?}");
    }

    // t = [[1, 0, 1, 0, 0, 1]]; s = [[.9, .9, .9, .2, .2, .1]]; sklearn.metrics.ndcg_score(t, s, k=k) for k in (1, 2, 4, 6)
    // mean over itertools.permutations of the ties: sklearn.metrics.average_precision_score(t, by place)    # 1.9.1
    #[test]
    fn ties_are_taken_in_expectation_as_in_scikit_learn() {
        let ranking = [(0.9, true), (0.9, false), (0.9, true), (0.2, false), (0.2, false), (0.1, true)];
        let scores = QueryScores::of(&groups(ranking.into_iter()), 3, 6, &[1, 2, 4, 6]);
        let ndcg: Vec<f64> = scores.at.iter().map(|at| at.ndcg).collect();
        assert_close(&ndcg, &TIED_NDCG, 1e-9);
        assert!((scores.average_precision - TIED_AP).abs() < 1e-9, "{}", scores.average_precision);
        let hit: Vec<f64> = scores.at.iter().map(|at| at.hit_rate).collect();
        assert_close(&hit, &[2.0 / 3.0, 1.0, 1.0, 1.0], 1e-12);
        let precision: Vec<f64> = scores.at.iter().map(|at| at.precision).collect();
        assert_close(&precision, &[2.0 / 3.0, 2.0 / 3.0, 0.5, 0.5], 1e-12);
    }

    const TIED_NDCG: [f64; 4] =
        [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 0.833827121632869];
    const TIED_AP: f64 = 0.7037037037037036;

    #[test]
    fn expectations_equal_the_mean_over_all_orders_of_a_tie() {
        // Four tied samples after one that is not: the mean over 24 orders.
        let tied = [true, false, false, true];
        let scores =
            |ranking: &[(f32, bool)]| QueryScores::of(&groups(ranking.iter().copied()), 3, 5, &[2, 3]);
        let mut sums = [0.0; 9];
        let mut count = 0.0;
        for order in 0..256_usize {
            let order = [order % 4, order / 4 % 4, order / 16 % 4, order / 64];
            if (0..4).any(|i| !order.contains(&i)) {
                continue;
            }
            let places = order.iter().enumerate().map(|(i, &t)| (0.5 - 0.1 * i as f32, tied[t]));
            let ranking: Vec<(f32, bool)> = [(0.9, true)].into_iter().chain(places).collect();
            let one = scores(&ranking);
            let parts = one.at.iter().flat_map(|a| [a.precision, a.recall, a.hit_rate, a.ndcg]);
            [one.average_precision].into_iter().chain(parts).zip(&mut sums).for_each(|(v, sum)| *sum += v);
            count += 1.0;
        }
        assert_eq!(count, 24.0);
        let mut ranking = vec![(0.9, true)];
        ranking.extend(tied.map(|relevant| (0.5, relevant)));
        let one = scores(&ranking);
        let parts = one.at.iter().flat_map(|a| [a.precision, a.recall, a.hit_rate, a.ndcg]);
        let found: Vec<f64> = [one.average_precision].into_iter().chain(parts).collect();
        assert_close(&found, &sums.map(|sum| sum / count), 1e-12);
    }
}
