//! Exact nearest-neighbour search: every key is compared with every query, a block at a time.
//!
//! The similarities of a block are one matrix product; from each only the best `k` are kept, so that the full matrix
//! `[Q, N]` never exists. A candidate is packed into one integer, its similarity in the upper and its complemented
//! index in the lower 32 bits: integers are never equal, so the order is total, ties go to the lower index, and the
//! result does not depend on blocks or threads. On the CPU a row is scanned once against the worst candidate kept;
//! elsewhere libtorch's `topk` selects among the packed integers.
//!
//! Ties are those of the computed 32-bit similarities. For [`Metric::Euclidean`], `|q - k|^2` is computed as
//! `|q|^2 - 2 q.k + |k|^2` on centred data: distances that differ by less than about 1e-3 of the data's spread may be
//! exchanged.

use crate::finite_matrix;
use crate::product::products;
use rayon::prelude::*;
use selfsup_core::tensor::{tensor_from_fn, with_slice};
use selfsup_core::{Device, Error, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// What "near" means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The cosine of the angle, largest first; a zero vector has similarity 0 to everything.
    #[default]
    Cosine,
    /// The Euclidean distance, smallest first.
    Euclidean,
}

/// Whether a query may find itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfMatches {
    /// Every key is a candidate.
    #[default]
    Keep,
    /// Queries and keys are the same samples in the same order, and key `i` is no candidate for query `i`.
    Exclude,
}

/// How to search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopKConfig {
    /// How many neighbours each query gets.
    pub k: i64,
    /// What "near" means.
    pub metric: Metric,
    /// Whether a query may find itself.
    pub self_matches: SelfMatches,
    /// Queries compared at a time on an accelerator; a CPU's threads take as many as fit their caches.
    pub query_block: i64,
    /// Keys compared at a time there; the search holds `query_block * key_block` similarities.
    pub key_block: i64,
}

impl Default for TopKConfig {
    fn default() -> Self {
        TopKConfig {
            k: 1,
            metric: Metric::Cosine,
            self_matches: SelfMatches::Keep,
            query_block: 1024,
            key_block: 4096,
        }
    }
}

/// The nearest keys of every query, nearest first.
#[derive(Debug)]
pub struct Neighbours {
    /// The keys' rows, `[Q, k]` Int64.
    pub indices: Tensor,
    /// Their cosine similarity or Euclidean distance, `[Q, k]` Float.
    pub scores: Tensor,
}

/// Finds the `k` nearest keys of every query.
///
/// # Shapes
/// `queries` `[Q, D]` and `keys` `[N, D]` on one device, of any kind (computed in Float).
///
/// # Errors
/// When the shapes do not fit, a value is not finite (or so large that its square is not), a block is empty, or `k`
/// is not in `1..=N` (`1..=N - 1` without self-matches).
pub fn top_k(queries: &Tensor, keys: &Tensor, config: &TopKConfig) -> Result<Neighbours> {
    let (keys, [n, d]) = finite_matrix("keys", keys)?;
    let (queries, _) = finite_matrix("queries", queries)?;
    check_shape("queries", &queries, [-1, d])?;
    let candidates = match config.self_matches {
        SelfMatches::Keep => n,
        SelfMatches::Exclude => {
            check_shape("queries", &queries, [n, d])?;
            n - 1
        }
    };
    if !(1..=candidates).contains(&config.k) {
        return Err(Error::config("k", config.k, format!("1 to {candidates}, the number of candidates")));
    }
    if config.query_block < 1 || config.key_block < 1 {
        let blocks = format!("{} x {}", config.query_block, config.key_block);
        return Err(Error::config("query_block x key_block", blocks, "at least 1 x 1"));
    }
    if n > i64::from(u32::MAX) {
        return Err(Error::config("keys", n, format!("at most {} rows", u32::MAX)));
    }
    let (queries, keys, offsets) = match config.metric {
        Metric::Cosine => (queries.l2_normalize(), keys.l2_normalize(), None),
        Metric::Euclidean => {
            // Distances do not change when all is moved to the keys' mean, and their rounding error shrinks.
            let mean = keys.mean_dim(0, true, None);
            let (queries, keys) = (queries - &mean, keys - &mean);
            let squares = keys.square().sum_dim_intlist(1, false, None); // [N]
            (queries, keys, Some(squares))
        }
    };
    let (scores, indices) = if queries.device() == Device::Cpu {
        on_cpu(&queries, &keys, offsets.as_ref(), config)?
    } else {
        on_accelerator(&queries, &keys, offsets.as_ref(), config)
    };
    let scores = match config.metric {
        Metric::Cosine => scores,
        Metric::Euclidean => (queries.square().sum_dim_intlist(1, true, None) - scores).clamp_min(0.0).sqrt(),
    };
    if !bool::try_from(scores.isfinite().all())? {
        return Err(overflow());
    }
    Ok(Neighbours { indices, scores })
}

fn overflow() -> Error {
    Error::NonFinite {
        what: "a squared distance".to_owned(),
        detail: "scale queries and keys below 1e18".to_owned(),
    }
}

/// Queries that a thread compares at a time, and keys: half a megabyte of similarities.
const QUERIES: usize = 128;
const KEYS: usize = 1024;

/// The `k` best similarities and their indices, both `[Q, k]`. The larger, the nearer: the cosine, or `2 q.k - |k|^2`, which
/// is the negative squared distance up to a constant of the query. Every thread has queries of its own, and looks at a
/// block of similarities while it lies in its cache.
fn on_cpu(
    queries: &Tensor,
    keys: &Tensor,
    squares: Option<&Tensor>,
    config: &TopKConfig,
) -> Result<(Tensor, Tensor)> {
    let (d, k) = (queries.size()[1] as usize, config.k as usize);
    let squares = squares.map(Vec::<f32>::try_from).transpose()?;
    let (queries, keys) = (queries.contiguous(), keys.contiguous());
    let best = with_slice(&queries, |queries: &[f32]| {
        with_slice(&keys, |keys: &[f32]| {
            let search = |(block, queries): (usize, &[f32])| {
                let mut best: Vec<Best> = queries.chunks_exact(d).map(|_| Best::new(k)).collect();
                let mut similarities = vec![0.0; best.len() * KEYS];
                for (i, keys) in keys.chunks(KEYS * d).enumerate() {
                    let (first, width) = (i * KEYS, keys.len() / d);
                    let similarities = &mut similarities[..best.len() * width];
                    products(queries, keys, d, similarities);
                    for (q, (best, row)) in
                        best.iter_mut().zip(similarities.chunks_exact_mut(width)).enumerate()
                    {
                        if let Some(squares) = &squares {
                            row.iter_mut()
                                .zip(&squares[first..])
                                .for_each(|(s, square)| *s = 2.0 * *s - square);
                        }
                        let itself = (block * QUERIES + q).wrapping_sub(first);
                        if config.self_matches == SelfMatches::Exclude && itself < width {
                            row[itself] = f32::NEG_INFINITY;
                        }
                        best.scan(row, first as u32);
                    }
                }
                best.iter_mut().for_each(Best::finish);
                best
            };
            queries.par_chunks(QUERIES * d).enumerate().flat_map_iter(search).collect::<Vec<Best>>()
        })
    })??;
    if best.iter().any(|b| b.packed.len() < k) {
        return Err(overflow());
    }
    let packed = || best.iter().flat_map(|b| &b.packed);
    let shape = [best.len() as i64, config.k];
    let scores = tensor_from_fn(&shape, |out| {
        out.iter_mut().zip(packed()).for_each(|(o, &p)| *o = unpack_score(p));
        Ok(())
    })?;
    let indices = tensor_from_fn(&shape, |out| {
        out.iter_mut().zip(packed()).for_each(|(o, &p)| *o = i64::from(!(p as u32)));
        Ok(())
    })?;
    Ok((scores, indices))
}

/// As [`on_cpu`], in tensor operations.
fn on_accelerator(
    queries: &Tensor,
    keys: &Tensor,
    squares: Option<&Tensor>,
    config: &TopKConfig,
) -> (Tensor, Tensor) {
    let (q, n) = (queries.size()[0], keys.size()[0]);
    let similarities = |rows: &Tensor, first_row: i64, first: i64| {
        let count = config.key_block.min(n - first);
        let block = keys.narrow(0, first, count).tr();
        let scores = match squares {
            None => rows.matmul(&block),
            Some(squares) => (rows * 2).matmul(&block) - squares.narrow(0, first, count),
        };
        if config.self_matches == SelfMatches::Exclude {
            let _ = scores.diagonal(first_row - first, 0, 1).fill_(f64::NEG_INFINITY);
        }
        scores // [rows, count]
    };
    let mut found = Vec::new();
    for first_row in (0..q).step_by(config.query_block as usize) {
        let rows = queries.narrow(0, first_row, config.query_block.min(q - first_row));
        let blocks = (0..n)
            .step_by(config.key_block as usize)
            .map(|first| (first, similarities(&rows, first_row, first)));
        found.push(select_with_topk(blocks, rows.size()[0], config.k, rows.device()));
    }
    let (scores, indices): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    (Tensor::cat(&scores, 0), Tensor::cat(&indices, 0))
}

/// The best candidates of one query so far.
struct Best {
    k: usize,
    packed: Vec<u64>,
    /// A score that at least `k` candidates reach: only a higher one can still get in, as indices only rise.
    threshold: f32,
}

impl Best {
    fn new(k: usize) -> Self {
        Best { k, packed: Vec::with_capacity(2 * k + SCAN), threshold: f32::NEG_INFINITY }
    }

    /// Offers the scores of the keys from `first` on.
    fn scan(&mut self, scores: &[f32], first: u32) {
        for (i, chunk) in scores.chunks(SCAN).enumerate() {
            // Nearly all chunks end here once the threshold is good, with a few vector instructions.
            if chunk.iter().fold(0, |any, &score| any | u8::from(score > self.threshold)) == 0 {
                continue;
            }
            for (j, &score) in chunk.iter().enumerate() {
                if score > self.threshold {
                    self.packed.push(pack(score, first + (i * SCAN + j) as u32));
                }
            }
            if self.packed.len() >= 2 * self.k {
                self.shrink();
            }
        }
    }

    /// Forgets all but the best `k`.
    fn shrink(&mut self) {
        let (_, worst, _) = self.packed.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        self.threshold = unpack_score(*worst);
        self.packed.truncate(self.k);
    }

    fn finish(&mut self) {
        self.packed.sort_unstable_by(|a, b| b.cmp(a));
        self.packed.truncate(self.k);
        self.packed.shrink_to_fit();
    }
}

/// How many scores are compared with the threshold at once.
const SCAN: usize = 32;

/// Score and index as one integer that is larger for a higher score and, among equal scores, for a lower index.
fn pack(score: f32, index: u32) -> u64 {
    let bits = (score + 0.0).to_bits(); // -0 becomes 0
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!index)
}

fn unpack_score(packed: u64) -> f32 {
    let ordered = (packed >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

/// The `k` best scores and their indices, both `[rows, k]`, of similarity blocks `(first index, [rows, n])`.
fn select_with_topk(
    blocks: impl Iterator<Item = (i64, Tensor)>,
    rows: i64,
    k: i64,
    device: Device,
) -> (Tensor, Tensor) {
    // The bits of a float order like an integer once the lower 31 of a negative one are complemented; to do it twice
    // undoes it.
    let reorder =
        |bits: Tensor| bits.bitwise_xor_tensor(&(bits.lt(0).to_kind(Kind::Int) * i64::from(i32::MAX)));
    let mut packed = Tensor::empty([rows, 0], (Kind::Int64, device));
    for (first, scores) in blocks {
        let indices = Tensor::arange_start(first, first + scores.size()[1], (Kind::Int64, device));
        let ordered = reorder((scores + 0.0).view_dtype(Kind::Int)).to_kind(Kind::Int64);
        let block = ordered * (1_i64 << 32) + (i64::from(u32::MAX) - indices); // [rows, n]
        packed = Tensor::cat(&[packed, block], 1);
        packed = packed.topk(k.min(packed.size()[1]), 1, true, true).0;
    }
    let ordered = packed.floor_divide_scalar(1_i64 << 32); // [rows, k]
    let indices = i64::from(u32::MAX) - (packed - &ordered * (1_i64 << 32));
    (reorder(ordered.to_kind(Kind::Int)).view_dtype(Kind::Float), indices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    /// All scores of a query by loops in 64 bits, sorted stably.
    fn naive(query: &[f64], keys: &[Vec<f64>], metric: Metric) -> Vec<(usize, f64)> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut scored: Vec<(usize, f64)> = keys
            .iter()
            .map(|key| match metric {
                Metric::Cosine => {
                    let lengths = (dot(query, query) * dot(key, key)).sqrt();
                    if lengths == 0.0 { 0.0 } else { dot(query, key) / lengths }
                }
                Metric::Euclidean => {
                    query.iter().zip(key).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
                }
            })
            .enumerate()
            .collect();
        scored.sort_by(|a, b| match metric {
            Metric::Cosine => b.1.total_cmp(&a.1),
            Metric::Euclidean => a.1.total_cmp(&b.1),
        });
        scored
    }

    fn rows<T: selfsup_core::tch::kind::Element + Copy>(x: &Tensor) -> Vec<Vec<T>> {
        Vec::<Vec<T>>::try_from(x).unwrap()
    }

    #[test]
    fn agrees_with_a_loop_whatever_the_blocks() {
        let (queries, keys) = (formula(23, 5), formula(41, 5) + 0.2);
        let (q, k) = (rows::<f64>(&queries), rows::<f64>(&keys));
        for metric in [Metric::Cosine, Metric::Euclidean] {
            for (query_block, key_block) in [(1024, 4096), (7, 10), (1, 1)] {
                let config = TopKConfig { k: 6, metric, query_block, key_block, ..Default::default() };
                let found = top_k(&queries, &keys, &config).unwrap();
                if metric == Metric::Cosine {
                    let (unit, units) = (queries.l2_normalize(), keys.l2_normalize());
                    let (_, indices) = on_accelerator(&unit, &units, None, &config);
                    assert_eq!(rows::<i64>(&indices), rows::<i64>(&found.indices));
                }
                let (indices, scores) = (rows::<i64>(&found.indices), rows::<f64>(&found.scores));
                for i in 0..23 {
                    for (j, (index, score)) in naive(&q[i], &k, metric)[..6].iter().enumerate() {
                        assert_eq!(indices[i][j], *index as i64, "{metric:?} query {i}");
                        assert!((scores[i][j] - score).abs() < 1e-5, "{metric:?} query {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn leaves_a_query_out_of_its_own_neighbours() {
        let x = formula(12, 3);
        for key_block in [5, 4096] {
            let config = TopKConfig {
                k: 11,
                self_matches: SelfMatches::Exclude,
                query_block: 4,
                key_block,
                ..Default::default()
            };
            for (i, found) in rows::<i64>(&top_k(&x, &x, &config).unwrap().indices).into_iter().enumerate() {
                let mut found = found;
                found.sort_unstable();
                assert_eq!(found, (0..12).filter(|j| *j != i as i64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_zero_vector_is_equally_far_from_all() {
        let found = top_k(
            &Tensor::zeros([1, 2], (Kind::Float, Device::Cpu)),
            &formula(5, 2),
            &TopKConfig { k: 5, ..Default::default() },
        )
        .unwrap();
        assert_eq!(rows::<i64>(&found.indices), [[0, 1, 2, 3, 4]]);
        assert_eq!(rows::<f32>(&found.scores), [[0.0; 5]]);
    }

    proptest! {
        #[test]
        fn ties_go_to_the_lower_index(
            keys in prop::collection::vec(prop::collection::vec(-2_i8..3, 2), 1..90),
            query in prop::collection::vec(-2_i8..3, 2),
            k in 1_usize..90,
            key_block in 1_i64..100,
        ) {
            // Small integers have exact distances once the mean is an integer too: each key comes with its negative.
            let keys: Vec<Vec<f64>> = keys.iter()
                .flat_map(|key| [key.iter().map(|&v| f64::from(v)).collect(), key.iter().map(|&v| -f64::from(v)).collect()])
                .collect();
            let query: Vec<f64> = query.into_iter().map(f64::from).collect();
            let k = k.min(keys.len());
            let config = TopKConfig { k: k as i64, metric: Metric::Euclidean, key_block, ..Default::default() };
            let found = top_k(&Tensor::from_slice2(&[&query]), &Tensor::from_slice2(&keys), &config).unwrap();
            let expected = naive(&query, &keys, Metric::Euclidean)[..k].iter().map(|(i, _)| *i as i64).collect::<Vec<_>>();
            prop_assert_eq!(&rows::<i64>(&found.indices)[0], &expected);
        }

        #[test]
        fn both_ways_of_selection_agree(
            scores in prop::collection::vec(prop::sample::select(vec![-1.5_f32, -1e-30, -0.0, 0.0, 1e-30, 0.5, 2.0]), 1..120),
            k in 1_i64..20,
            width in 1_usize..50,
        ) {
            let k = k.min(scores.len() as i64);
            let blocks = || scores.chunks(width).enumerate()
                .map(|(i, c)| ((i * width) as i64, Tensor::from_slice(c).unsqueeze(0)));
            let mut best = Best::new(k as usize);
            scores.chunks(width).enumerate().for_each(|(i, c)| best.scan(c, (i * width) as u32));
            best.finish();
            let (b, j) = select_with_topk(blocks(), 1, k, Device::Cpu);
            let indices: Vec<i64> = best.packed.iter().map(|&p| i64::from(!(p as u32))).collect();
            prop_assert_eq!(&rows::<i64>(&j)[0], &indices);
            let scores: Vec<f32> = best.packed.iter().map(|&p| unpack_score(p)).collect();
            prop_assert_eq!(&rows::<f32>(&b)[0], &scores);
        }
    }

    #[test]
    fn rejects_what_it_cannot_search() {
        let (x, y) = (formula(4, 3), formula(5, 2));
        let search =
            |q: &Tensor, k: &Tensor, config: TopKConfig| top_k(q, k, &config).unwrap_err().to_string();
        assert_eq!(search(&x, &y, TopKConfig::default()), "queries: expected [_, 2], found [4, 3]");
        let config = TopKConfig { k: 5, ..Default::default() };
        assert_eq!(search(&x, &x, config), "k = 5: 1 to 4, the number of candidates");
        let config = TopKConfig { k: 4, self_matches: SelfMatches::Exclude, ..Default::default() };
        assert_eq!(search(&x, &x, config), "k = 4: 1 to 3, the number of candidates");
        let config = TopKConfig { key_block: 0, ..Default::default() };
        assert_eq!(search(&x, &x, config), "query_block x key_block = 1024 x 0: at least 1 x 1");
        let _ = x.get(2).fill_(f64::NAN);
        assert_eq!(
            search(&formula(4, 3), &x, TopKConfig::default()),
            "keys is not finite: the first bad row is 2"
        );
        let huge = formula(4, 3) * 1e30;
        let config = TopKConfig { metric: Metric::Euclidean, ..Default::default() };
        assert!(search(&huge, &huge, config).contains("below 1e18"));
    }
}
