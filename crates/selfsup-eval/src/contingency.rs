//! How often classes meet clusters, and the measures of two partitions that follow from these counts alone; their formulas
//! stand in `cluster_agreement`.

use selfsup_core::{Error, Kind, Result, Tensor, check_kind, check_shape};

/// How often each class meets each cluster; pairs that never do are left out.
pub(crate) struct Table {
    /// The classes that occur, ascending.
    pub class_names: Vec<i64>,
    /// The clusters that occur, ascending.
    pub cluster_names: Vec<i64>,
    /// The pairs that occur.
    pub cells: Vec<Cell>,
}

#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub class: usize,
    pub cluster: usize,
    pub count: u64,
}

impl Table {
    /// Counts labels and clusters `[N]` Int64.
    pub fn of(labels: &Tensor, clusters: &Tensor) -> Result<Table> {
        let [n] = check_shape("labels", labels, [-1])?;
        check_shape("clusters", clusters, [n])?;
        for (name, x) in [("labels", labels), ("clusters", clusters)] {
            check_kind(name, x, Kind::Int64)?;
        }
        if n == 0 {
            return Err(Error::config("labels", "none", "at least one sample"));
        }
        let (labels, clusters) = (Vec::<i64>::try_from(labels)?, Vec::<i64>::try_from(clusters)?);
        let names = |values: &[i64]| {
            let mut names = values.to_vec();
            names.sort_unstable();
            names.dedup();
            names
        };
        let (class_names, cluster_names) = (names(&labels), names(&clusters));
        let place = |names: &[i64], value: i64| names.partition_point(|&name| name < value);
        let mut pairs: Vec<(usize, usize)> = labels
            .iter()
            .zip(&clusters)
            .map(|(&label, &cluster)| (place(&class_names, label), place(&cluster_names, cluster)))
            .collect();
        pairs.sort_unstable();
        let of_pair =
            |pair: &[(usize, usize)]| Cell { class: pair[0].0, cluster: pair[0].1, count: pair.len() as u64 };
        let cells = pairs.chunk_by(|a, b| a == b).map(of_pair).collect();
        Ok(Table { class_names, cluster_names, cells })
    }

    /// The samples.
    pub fn n(&self) -> u64 {
        self.cells.iter().map(|cell| cell.count).sum()
    }

    /// The same without one sample of the pair `cell`.
    pub fn without_one_of(&self, cell: usize) -> Table {
        let mut cells = self.cells.clone();
        cells[cell].count -= 1;
        cells.retain(|cell| cell.count > 0);
        Table { class_names: self.class_names.clone(), cluster_names: self.cluster_names.clone(), cells }
    }

    /// The sizes of the classes and of the clusters.
    fn sizes(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut classes, mut clusters) =
            (vec![0; self.class_names.len()], vec![0; self.cluster_names.len()]);
        for cell in &self.cells {
            classes[cell.class] += cell.count;
            clusters[cell.cluster] += cell.count;
        }
        (classes, clusters)
    }

    /// NMI, AMI, ARI, homogeneity, completeness and V-measure.
    pub fn measures(&self) -> [f64; 6] {
        let n = self.n() as f64;
        let (mut classes, mut clusters) = self.sizes();
        let term = |cell: &Cell| {
            let count = cell.count as f64;
            let apart = classes[cell.class] as f64 * clusters[cell.cluster] as f64;
            count / n * (count * n / apart).ln()
        };
        let mutual = self.cells.iter().map(term).sum::<f64>().max(0.0);
        classes.retain(|&size| size > 0);
        clusters.retain(|&size| size > 0);
        let (of_classes, of_clusters) = (entropy(&classes, n), entropy(&clusters, n));
        let share = |of: f64| if of > 0.0 { mutual / of } else { 1.0 };
        let (homogeneity, completeness) = (share(of_classes), share(of_clusters));
        let sum = homogeneity + completeness;
        let v = if sum > 0.0 { 2.0 * homogeneity * completeness / sum } else { 0.0 };
        let mean = 0.5 * (of_classes + of_clusters);
        let nmi = match (classes.len(), clusters.len()) {
            (1, 1) => 1.0,
            _ if mutual <= f64::EPSILON => 0.0,
            _ => mutual / mean,
        };
        let ami = match (classes.len(), clusters.len()) {
            (1, 1) => 1.0,
            (1, _) | (_, 1) => 0.0,
            _ => {
                let expected = expected_mutual_information(&classes, &clusters);
                let room = mean - expected;
                let room = if room < 0.0 { room.min(-f64::EPSILON) } else { room.max(f64::EPSILON) };
                (mutual - expected) / room
            }
        };
        [nmi, ami, self.adjusted_rand(&classes, &clusters), homogeneity, completeness, v]
    }

    fn adjusted_rand(&self, classes: &[u64], clusters: &[u64]) -> f64 {
        let pairs = |count: u64| count as f64 * (count as f64 - 1.0) / 2.0;
        let together: f64 = self.cells.iter().map(|cell| pairs(cell.count)).sum();
        let of_classes: f64 = classes.iter().map(|&size| pairs(size)).sum();
        let of_clusters: f64 = clusters.iter().map(|&size| pairs(size)).sum();
        if together == of_classes && together == of_clusters {
            return 1.0; // the same partition, or no pairs at all
        }
        let expected = of_classes * of_clusters / pairs(self.n());
        (together - expected) / (0.5 * (of_classes + of_clusters) - expected)
    }
}

fn entropy(sizes: &[u64], n: f64) -> f64 {
    // One part has exactly none.
    if sizes.len() < 2 {
        return 0.0;
    }
    -sizes.iter().map(|&size| size as f64 / n).map(|p| p * p.ln()).sum::<f64>()
}

/// The mean of the mutual information over all clusterings with these sizes (Vinh et al. 2010, equation 24a).
fn expected_mutual_information(classes: &[u64], clusters: &[u64]) -> f64 {
    let n: u64 = classes.iter().sum();
    // ln of the factorials of 0 to n
    let log_factorial: Vec<f64> = (0..=n)
        .scan(0.0, |sum, i| {
            *sum += (i.max(1) as f64).ln();
            Some(*sum)
        })
        .collect();
    let f = |i: u64| log_factorial[i as usize];
    let mut distinct = clusters.to_vec();
    distinct.sort_unstable();
    let mut expected = 0.0;
    for &a in classes {
        // Clusters of one size have one value.
        for same in distinct.chunk_by(|x, y| x == y) {
            let b = same[0];
            let ends = f(a) + f(b) + f(n - a) + f(n - b) - f(n);
            let mut sum = 0.0;
            for both in (a + b).saturating_sub(n).max(1)..=a.min(b) {
                let p = ends - f(both) - f(a - both) - f(b - both) - f(n + both - a - b);
                let share = both as f64 / n as f64;
                sum += share * (share * n as f64 * n as f64 / (a as f64 * b as f64)).ln() * p.exp();
            }
            expected += sum * same.len() as f64;
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_pairs_and_leaves_out_one_of_a_pair() {
        let labels = Tensor::from_slice(&[5_i64, 5, 7, 7, 7]);
        let clusters = Tensor::from_slice(&[1_i64, 1, 1, 0, 0]);
        let table = Table::of(&labels, &clusters).unwrap();
        let cells: Vec<_> = table.cells.iter().map(|c| (c.class, c.cluster, c.count)).collect();
        assert_eq!(cells, [(0, 1, 2), (1, 0, 2), (1, 1, 1)]);
        assert_eq!(table.without_one_of(2).cells.len(), 2);
        assert_eq!(table.without_one_of(0).n(), 4);
    }

    // n = 3, sizes (1, 2) twice: one sample alone in both partitions with chance 1/3, else apart.
    #[test]
    fn the_expected_information_is_the_mean_over_all_clusterings() {
        let same = -(1.0 / 3.0_f64 * (1.0 / 3.0_f64).ln() + 2.0 / 3.0 * (2.0 / 3.0_f64).ln());
        let other = 1.0 / 3.0 * ((1.0 / 3.0) / (2.0 / 9.0_f64)).ln() * 2.0
            + 1.0 / 3.0 * ((1.0 / 3.0) / (4.0 / 9.0_f64)).ln();
        let expected = same / 3.0 + other * 2.0 / 3.0;
        assert!((expected_mutual_information(&[1, 2], &[2, 1]) - expected).abs() < 1e-12);
    }
}
