//! Rows to their nearest centres on a CPU, and again after the centres have moved.
//!
//! The first assignment is a matrix product, block by block. Later ones leave out what cannot have changed (Hamerly 2010,
//! *Making k-means even faster*): of every row an upper bound of the distance to its own centre and a lower bound of the
//! distance to all others are kept. When a centre moves, both change by at most as much; while the upper bound is the
//! lower of the two, the row stays where it is. Bounds are widened by what rounding can do to a distance, so that the
//! labels are those of a full assignment but for ties within it.

use crate::product::products;
use rayon::prelude::*;

/// Rows that a thread assigns at a time, and centres it holds against them: half a megabyte of products.
const ROWS: usize = 256;
const CENTRES: usize = 512;

/// The nearest centre of a row and the squared distances to it and to the second nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TwoNearest {
    pub label: i64,
    pub nearest: f32,
    pub second: f32,
}

/// Centres as the products take them.
struct Centres {
    /// `-2 c`, row by row.
    scaled: Vec<f32>,
    /// `|c|^2`.
    squares: Vec<f32>,
    d: usize,
}

impl Centres {
    fn new(centres: &[f32], d: usize) -> Self {
        Centres { scaled: centres.iter().map(|v| -2.0 * v).collect(), squares: squares(centres, d), d }
    }

    /// `rows` are of `d` numbers, `row_squares` their squared lengths.
    fn two_nearest(&self, rows: &[f32], row_squares: &[f32]) -> Vec<TwoNearest> {
        let none = TwoNearest { label: 0, nearest: f32::INFINITY, second: f32::INFINITY };
        let mut found = vec![none; row_squares.len()];
        let mut distances = vec![0.0; row_squares.len() * CENTRES.min(self.squares.len())];
        let blocks = self.scaled.chunks(CENTRES * self.d).zip(self.squares.chunks(CENTRES));
        for ((centres, squares), first) in blocks.zip((0..).step_by(CENTRES)) {
            let distances = &mut distances[..found.len() * squares.len()];
            products(rows, centres, self.d, distances);
            for (found, row) in found.iter_mut().zip(distances.chunks_exact_mut(squares.len())) {
                row.iter_mut().zip(squares).for_each(|(distance, square)| *distance += square);
                let (least, at) = least(row);
                row[at] = f32::INFINITY;
                let rest = self::least(row).0;
                if least < found.nearest {
                    let second = rest.min(found.nearest);
                    *found = TwoNearest { label: (first + at) as i64, nearest: least, second };
                } else {
                    found.second = found.second.min(least);
                }
            }
        }
        for (found, square) in found.iter_mut().zip(row_squares) {
            found.nearest = (found.nearest + square).max(0.0);
            found.second = (found.second + square).max(0.0);
        }
        found
    }
}

/// The two nearest centres of every row of `d` numbers.
pub(crate) fn two_nearest(x: &[f32], centres: &[f32], d: usize) -> Vec<TwoNearest> {
    let centres = Centres::new(centres, d);
    x.par_chunks(ROWS * d).flat_map_iter(|rows| centres.two_nearest(rows, &squares(rows, d))).collect()
}

/// An assignment that is kept up to date.
pub(crate) struct Assigner {
    pub labels: Vec<i64>,
    row_squares: Vec<f32>,
    bounds: Vec<Bounds>,
    /// The centres of the bounds.
    centres: Vec<f32>,
    d: usize,
}

/// Of the distances of a row.
#[derive(Clone, Copy)]
struct Bounds {
    /// To its own centre, from above.
    upper: f32,
    /// To any other, from below.
    lower: f32,
}

impl Assigner {
    /// Assigns rows of `d` numbers to their nearest centres.
    pub(crate) fn new(x: &[f32], centres: &[f32], d: usize) -> Self {
        let row_squares: Vec<f32> = x.par_chunks(ROWS * d).flat_map_iter(|rows| squares(rows, d)).collect();
        let scaled = Centres::new(centres, d);
        let slack = Slack::new(&scaled);
        let assign = |(rows, row_squares): (&[f32], &[f32])| {
            let found = scaled.two_nearest(rows, row_squares);
            found
                .into_iter()
                .zip(row_squares)
                .map(|(two, &square)| (two.label, slack.bounds(two, square)))
                .collect::<Vec<_>>()
        };
        let (labels, bounds) =
            x.par_chunks(ROWS * d).zip(row_squares.par_chunks(ROWS)).flat_map_iter(assign).unzip();
        Assigner { labels, row_squares, bounds, centres: centres.to_vec(), d }
    }

    /// Assigns the same rows to centres that have moved; whether any changed its centre.
    pub(crate) fn update(&mut self, x: &[f32], centres: &[f32]) -> bool {
        let d = self.d;
        let moved: Vec<f32> = centres
            .chunks_exact(d)
            .zip(self.centres.chunks_exact(d))
            // Rounded up.
            .map(|(now, before)| square_distance(now, before).sqrt() * (1.0 + 1e-5))
            .collect();
        // The farthest that a centre other than a row's own has moved.
        let farthest = least(&moved.iter().map(|m| -m).collect::<Vec<_>>()).1;
        let second = (0..moved.len()).filter(|&k| k != farthest).fold(0.0_f32, |most, k| most.max(moved[k]));
        let scaled = Centres::new(centres, d);
        let slack = Slack::new(&scaled);
        let reassign = |Block { rows, row_squares, labels, bounds }: Block| {
            let (mut doubtful, mut gathered, mut their_squares) = (Vec::new(), Vec::new(), Vec::new());
            for (i, (bounds, &label)) in bounds.iter_mut().zip(labels.iter()).enumerate() {
                let own = label as usize;
                bounds.upper += moved[own];
                bounds.lower -= if own == farthest { second } else { moved[farthest] };
                if bounds.upper < bounds.lower {
                    continue;
                }
                let row = &rows[i * d..][..d];
                let distance = square_distance(row, &centres[own * d..][..d]);
                bounds.upper = (distance + slack.of(row_squares[i])).sqrt();
                if bounds.upper >= bounds.lower {
                    doubtful.push(i);
                    gathered.extend_from_slice(row);
                    their_squares.push(row_squares[i]);
                }
            }
            let mut changed = false;
            for (i, two) in doubtful.into_iter().zip(scaled.two_nearest(&gathered, &their_squares)) {
                changed |= labels[i] != two.label;
                labels[i] = two.label;
                bounds[i] = slack.bounds(two, row_squares[i]);
            }
            changed
        };
        let blocks = x.par_chunks(ROWS * d).zip(self.row_squares.par_chunks(ROWS));
        let blocks = blocks.zip(self.labels.par_chunks_mut(ROWS)).zip(self.bounds.par_chunks_mut(ROWS));
        let blocks =
            blocks.map(|(((rows, row_squares), labels), bounds)| Block { rows, row_squares, labels, bounds });
        // All blocks, so no short circuit.
        let changed = blocks.map(reassign).reduce(|| false, |a, b| a | b);
        self.centres.copy_from_slice(centres);
        changed
    }
}

/// What a thread brings up to date at a time.
struct Block<'a> {
    rows: &'a [f32],
    row_squares: &'a [f32],
    labels: &'a mut [i64],
    bounds: &'a mut [Bounds],
}

/// How far rounding can carry a squared distance.
struct Slack {
    relative: f32,
    largest: f32,
}

impl Slack {
    /// The error of a sum of `d` products is at most `d` times the smallest relative step, times the lengths.
    fn new(centres: &Centres) -> Self {
        let relative = (centres.d as f32 + 8.0) * f32::EPSILON;
        Slack { relative, largest: centres.squares.iter().copied().fold(0.0, f32::max) }
    }

    fn of(&self, row_square: f32) -> f32 {
        self.relative * (row_square + self.largest)
    }

    fn bounds(&self, two: TwoNearest, row_square: f32) -> Bounds {
        let slack = self.of(row_square);
        Bounds { upper: (two.nearest + slack).sqrt(), lower: (two.second - slack).max(0.0).sqrt() }
    }
}

/// The squared lengths of rows.
pub(crate) fn squares(rows: &[f32], d: usize) -> Vec<f32> {
    rows.chunks_exact(d).map(|row| dot(row, row)).collect()
}

/// The squared distance of two rows: the same from either, and 0 for equal ones.
pub(crate) fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    dot_with(a, b, |a, b| (a - b) * (a - b))
}

/// The inner product of two rows.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_with(a, b, |a, b| a * b)
}

/// The sum of `term` over two rows, in sixteen lanes that the compiler keeps in vectors.
#[inline]
fn dot_with(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| term(*a, *b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..16 {
            lanes[i] += term(a[i], b[i]);
        }
    }
    lanes.into_iter().sum::<f32>() + rest
}

/// The smallest number and where it first stands.
pub(crate) fn least(row: &[f32]) -> (f32, usize) {
    let smaller = |a: f32, b: f32| if b < a { b } else { a };
    let mut lanes = [f32::INFINITY; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder().iter().copied().fold(f32::INFINITY, smaller);
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane = smaller(*lane, v));
    }
    let least = lanes.into_iter().fold(rest, smaller);
    (least, row.iter().position(|&v| v == least).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wave(n: usize, d: usize, step: f32) -> Vec<f32> {
        (0..n * d).map(|i| (i as f32 * step).sin() * (1.0 + (i % 7) as f32)).collect()
    }

    /// By a loop in doubles: label and both squared distances.
    fn loop_of(row: &[f32], centres: &[f32]) -> (usize, f64, f64) {
        let distance = |centre: &[f32]| -> f64 {
            row.iter().zip(centre).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
        };
        let all: Vec<f64> = centres.chunks_exact(row.len()).map(distance).collect();
        let at = (0..all.len()).min_by(|&a, &b| all[a].total_cmp(&all[b])).unwrap();
        let second = (0..all.len()).filter(|&k| k != at).map(|k| all[k]).fold(f64::INFINITY, f64::min);
        (at, all[at], second)
    }

    #[test]
    fn finds_the_two_nearest_of_more_rows_and_centres_than_a_block_holds() {
        let (d, x, centres) = (5, wave(700, 5, 0.37), wave(1100, 5, 0.73));
        for (row, found) in x.chunks_exact(d).zip(two_nearest(&x, &centres, d)) {
            let (label, nearest, second) = loop_of(row, &centres);
            assert_eq!(found.label, label as i64);
            assert!((f64::from(found.nearest) - nearest).abs() < 1e-3);
            assert!((f64::from(found.second) - second).abs() < 1e-3);
        }
        let one = two_nearest(&x, &centres[..d], d);
        assert!(one.iter().all(|two| two.label == 0 && two.second.is_infinite()));
    }

    #[test]
    fn the_least_of_a_row_is_the_first_of_equal_ones() {
        for n in [1, 15, 16, 40] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 7 + 3) % 5) as f32).collect();
            let first = row.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap();
            assert_eq!(least(&row), (*first.1, first.0));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn after_any_moves_the_labels_are_those_of_a_full_assignment(
            n in 1_usize..600, k in 1_usize..20, d in 1_usize..40, seed in 0_u32..1000, size in 0.001_f32..2.0,
        ) {
            let noise = |i: usize, salt: u32| {
                let hash = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503));
                (hash >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            let x: Vec<f32> = (0..n * d).map(|i| noise(i, seed)).collect();
            let mut centres: Vec<f32> = (0..k * d).map(|i| noise(i, seed + 1)).collect();
            let mut assigner = Assigner::new(&x, &centres, d);
            for step in 0..6 {
                let before = assigner.labels.clone();
                for (i, v) in centres.iter_mut().enumerate() {
                    *v += size * noise(i, seed + 2 + step) / (1.0 + step as f32);
                }
                let changed = assigner.update(&x, &centres);
                prop_assert_eq!(changed, before != assigner.labels);
                for (row, &label) in x.chunks_exact(d).zip(&assigner.labels) {
                    let (at, nearest, _) = loop_of(row, &centres);
                    let own = loop_of(row, &centres[label as usize * d..][..d]).1;
                    prop_assert!(at as i64 == label || own - nearest < 1e-5, "{own} against {nearest}");
                }
            }
        }
    }
}
