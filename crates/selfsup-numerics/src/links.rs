//! Edges between the components of a graph, so that it becomes one.
//!
//! Every two components are joined by their nearest pair of rows, as scikit-learn 1.9 does. With more than 1024 components
//! that would be too many edges: until there are fewer, each is joined with its nearest other component alone.

use crate::knn_graph::Sets;
use crate::product::products;
use crate::top_k::Metric;
use rayon::prelude::*;
use std::ops::Range;

/// The most components of which every two are joined.
const MOST: usize = 1024;

/// Rows that a thread compares at a time, and the rows it compares them with: half a megabyte of products.
const ROWS: usize = 128;
const OTHERS: usize = 1024;

/// A pair of rows and how far apart they are.
#[derive(Clone, Copy)]
struct Pair {
    /// Grows with the distance.
    apart: f32,
    row: u32,
    other: u32,
}

const NONE: Pair = Pair { apart: f32::INFINITY, row: 0, other: 0 };

impl Pair {
    fn take_nearer(&mut self, found: Pair) {
        if found.apart < self.apart {
            *self = found;
        }
    }
}

/// The pairs of rows that join the components. The rows of `x`, of `d` numbers, have length 1 for the cosine;
/// `components` are numbered from 0.
pub(crate) fn links(x: &[f32], d: usize, metric: Metric, components: Vec<usize>) -> Vec<(u32, u32)> {
    links_of(x, d, metric, components, MOST)
}

fn links_of(x: &[f32], d: usize, metric: Metric, mut components: Vec<usize>, most: usize) -> Vec<(u32, u32)> {
    let mut links = Vec::new();
    loop {
        let sorted = Sorted::new(x, d, metric, &components);
        let count = sorted.parts.len();
        if count <= 1 {
            return links;
        }
        let found = sorted.nearest(if count <= most { Wanted::EveryLower } else { Wanted::Nearest });
        links.extend(found.iter().filter(|pair| pair.apart < f32::INFINITY).map(|p| (p.row, p.other)));
        if count <= most {
            return links;
        }
        let mut sets = Sets::new(components.len());
        let mut firsts = vec![None; count];
        for (row, &component) in components.iter().enumerate() {
            sets.join(row, *firsts[component].get_or_insert(row));
        }
        for &(a, b) in &links {
            sets.join(a as usize, b as usize);
        }
        components = sets.numbered();
    }
}

/// The pairs that are looked for.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    /// The nearest of every component with each of those before it.
    EveryLower,
    /// The nearest of every component with any other.
    Nearest,
}

/// The rows in the order of their components.
struct Sorted {
    x: Vec<f32>,
    d: usize,
    /// Where each stood.
    rows: Vec<u32>,
    /// The places of each component.
    parts: Vec<Range<usize>>,
    /// What is added to the product of two rows times `scale`, for the one and for the other.
    offsets: Vec<f32>,
    scale: f32,
}

impl Sorted {
    fn new(x: &[f32], d: usize, metric: Metric, components: &[usize]) -> Self {
        let count = components.iter().max().map_or(0, |last| last + 1);
        let mut ends = vec![0; count + 1];
        for &component in components {
            ends[component + 1] += 1;
        }
        (0..count).for_each(|c| ends[c + 1] += ends[c]);
        let mut rows: Vec<u32> = (0..components.len() as u32).collect();
        rows.sort_by_key(|&row| components[row as usize]); // stable
        let sorted: Vec<f32> = rows.iter().flat_map(|&row| &x[row as usize * d..][..d]).copied().collect();
        let (offsets, scale) = match metric {
            Metric::Euclidean => (crate::assign::squares(&sorted, d), -2.0),
            Metric::Cosine => (vec![0.0; rows.len()], -1.0),
        };
        let parts = ends.windows(2).map(|ends| ends[0]..ends[1]).collect();
        Sorted { x: sorted, d, rows, parts, offsets, scale }
    }

    /// For every component `count` pairs, or one when only the nearest is wanted.
    fn nearest(&self, wanted: Wanted) -> Vec<Pair> {
        let each = match wanted {
            Wanted::EveryLower => self.parts.len(),
            Wanted::Nearest => 1,
        };
        let blocks: Vec<(usize, Range<usize>)> = (0..self.parts.len())
            .flat_map(|c| {
                let part = self.parts[c].clone();
                let block = move |first: usize| (c, first..part.end.min(first + ROWS));
                self.parts[c].clone().step_by(ROWS).map(block)
            })
            .collect();
        let found: Vec<Vec<Pair>> = blocks
            .par_iter()
            .map(|(component, rows)| {
                let mut nearest = vec![NONE; each];
                self.compare(rows, 0..self.parts[*component].start, wanted, &mut nearest);
                if wanted == Wanted::Nearest {
                    let after = self.parts[*component].end..self.rows.len();
                    self.compare(rows, after, wanted, &mut nearest);
                }
                nearest
            })
            .collect();
        let mut nearest = vec![NONE; self.parts.len() * each];
        for ((component, _), found) in blocks.iter().zip(found) {
            for (nearest, found) in nearest[component * each..].iter_mut().zip(found) {
                nearest.take_nearer(found);
            }
        }
        nearest
    }

    /// Compares the rows at some places with those at others.
    fn compare(&self, rows: &Range<usize>, others: Range<usize>, wanted: Wanted, nearest: &mut [Pair]) {
        let d = self.d;
        let block = &self.x[rows.start * d..rows.end * d];
        let mut found = vec![0.0; rows.len() * OTHERS];
        let mut component = self.parts.partition_point(|part| part.end <= others.start);
        for first in others.clone().step_by(OTHERS) {
            let end = others.end.min(first + OTHERS);
            let found = &mut found[..rows.len() * (end - first)];
            products(block, &self.x[first * d..end * d], d, found);
            while self.parts[component].end <= first {
                component += 1;
            }
            for (row, found) in rows.clone().zip(found.chunks_exact_mut(end - first)) {
                let offset = self.offsets[row];
                found
                    .iter_mut()
                    .zip(&self.offsets[first..end])
                    .for_each(|(v, other)| *v = offset + other + self.scale * *v);
                let parts = self.parts[component..].iter().take_while(|part| part.start < end);
                for (i, part) in parts.enumerate() {
                    let place = part.start.max(first)..part.end.min(end);
                    let (apart, at) = crate::assign::least(&found[place.start - first..place.end - first]);
                    let pair = Pair { apart, row: self.rows[row], other: self.rows[place.start + at] };
                    let slot = if wanted == Wanted::Nearest { 0 } else { component + i };
                    nearest[slot].take_nearer(pair);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, d: usize) -> Vec<f32> {
        (0..n * d).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i % 7) as f32)).collect()
    }

    fn distance(x: &[f32], d: usize, a: usize, b: usize) -> f64 {
        let (a, b) = (&x[a * d..][..d], &x[b * d..][..d]);
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    }

    #[test]
    fn joins_every_two_components_by_their_nearest_rows() {
        let (n, d) = (2500, 3);
        let x = wave(n, d);
        let components: Vec<usize> = (0..n).map(|i| if i < 9 { i } else { 9 + i * i % 3 }).collect();
        let count = components.iter().max().unwrap() + 1;
        let mut least = vec![f64::INFINITY; count * count];
        for a in 0..n {
            for b in 0..n {
                let place = &mut least[components[a] * count + components[b]];
                *place = place.min(distance(&x, d, a, b));
            }
        }
        let found = links(&x, d, Metric::Euclidean, components.clone());
        assert_eq!(found.len(), count * (count - 1) / 2);
        for (a, b) in found {
            let (a, b) = (a as usize, b as usize);
            assert!(components[a] > components[b]);
            let expected = least[components[a] * count + components[b]];
            assert!((distance(&x, d, a, b) - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn with_too_many_components_joins_the_nearest_first_until_there_is_one() {
        let (n, d) = (300, 2);
        let x = wave(n, d);
        let found = links_of(&x, d, Metric::Euclidean, (0..n).collect(), 5);
        let mut sets = Sets::new(n);
        for &(a, b) in &found {
            sets.join(a as usize, b as usize);
        }
        assert!(sets.numbered().iter().all(|&set| set == 0));
        assert!(found.len() < 2 * n);
        // In the first round every row is joined with its nearest other.
        for (row, &(a, b)) in found[..n].iter().enumerate() {
            assert_eq!(row as u32, a);
            let others = (0..n).filter(|&other| other != row);
            let least = others.map(|other| distance(&x, d, row, other)).fold(f64::INFINITY, f64::min);
            assert!((distance(&x, d, row, b as usize) - least).abs() < 1e-4);
        }
    }

    #[test]
    fn by_the_cosine_the_smallest_angle_is_nearest() {
        let x = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8, -1.0, 0.0];
        let mut found = links(&x, 2, Metric::Cosine, vec![0, 0, 1, 1]);
        assert_eq!(found.pop(), Some((2, 1)));
        assert!(found.is_empty());
        assert!(links(&x, 2, Metric::Cosine, vec![0; 4]).is_empty());
    }
}
