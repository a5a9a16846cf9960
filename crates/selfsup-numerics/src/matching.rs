//! The best one-to-one matching of rows and columns: the assignment problem, by shortest augmenting paths (Jonker and
//! Volgenant 1987; Crouse 2016, algorithm 1).
//!
//! ```text
//! max over one-to-one m    sum_i gain[i, m(i)]
//! ```
//! Rows are matched one after the other; each looks for the cheapest chain of exchanges that frees a column, by Dijkstra's
//! algorithm on costs that potentials keep from being negative. `R` rows and `C` columns take `O(min^2 max)` steps.

use selfsup_core::{Error, Result};

/// The column of every row in a matching of the greatest total gain. With more rows than columns, some rows have none.
/// Among equally good matchings one is returned, always the same.
///
/// # Shapes
/// `gain` row by row, `rows * columns` numbers.
///
/// # Errors
/// When there are more or fewer numbers, or one is not finite.
pub fn best_matching(gain: &[f64], rows: usize, columns: usize) -> Result<Vec<Option<usize>>> {
    if gain.len() != rows * columns {
        let expected = format!("{rows} x {columns}, rows and columns");
        return Err(Error::config("numbers of the gain", gain.len(), expected));
    }
    if let Some(at) = gain.iter().position(|g| !g.is_finite()) {
        let detail = format!("row {}, column {}", at / columns, at % columns);
        return Err(Error::NonFinite { what: "gain".to_owned(), detail });
    }
    if rows <= columns {
        let columns_of = augment(rows, columns, |i, j| -gain[i * columns + j]);
        return Ok(columns_of.into_iter().map(Some).collect());
    }
    let mut found = vec![None; rows];
    for (column, row) in augment(columns, rows, |i, j| -gain[j * columns + i]).into_iter().enumerate() {
        found[row] = Some(column);
    }
    Ok(found)
}

/// The column of each of the `n` rows at the least cost; there are as many columns at least.
fn augment(n: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let (mut row_potential, mut column_potential) = (vec![0.0; n], vec![0.0; columns]);
    let mut row_of: Vec<Option<usize>> = vec![None; columns];
    for start in 0..n {
        let mut distance = vec![f64::INFINITY; columns];
        let mut before = vec![None; columns]; // the column from whose row this one was reached
        let mut done = vec![false; columns];
        let (mut row, mut at, mut length) = (start, None, 0.0);
        let free = loop {
            let mut nearest = None;
            for j in (0..columns).filter(|&j| !done[j]) {
                let through = length + cost(row, j) - row_potential[row] - column_potential[j];
                if through < distance[j] {
                    distance[j] = through;
                    before[j] = at;
                }
                // Among equally near columns a free one ends the search.
                let better = nearest.is_none_or(|k: usize| {
                    distance[j] < distance[k]
                        || (distance[j] == distance[k] && row_of[j].is_none() && row_of[k].is_some())
                });
                if better {
                    nearest = Some(j);
                }
            }
            // There are more columns than matched rows: one is left, at a finite distance.
            let Some(j) = nearest else { return Vec::new() };
            length = distance[j];
            done[j] = true;
            match row_of[j] {
                None => break j,
                Some(next) => (row, at) = (next, Some(j)),
            }
        };
        row_potential[start] += length;
        for j in (0..columns).filter(|&j| done[j]) {
            if let Some(i) = row_of[j] {
                row_potential[i] += length - distance[j];
            }
            column_potential[j] -= length - distance[j];
        }
        let mut j = free;
        while let Some(previous) = before[j] {
            row_of[j] = row_of[previous];
            j = previous;
        }
        row_of[j] = Some(start);
    }
    let mut columns_of = vec![0; n];
    for (column, row) in row_of.iter().enumerate() {
        if let Some(row) = *row {
            columns_of[row] = column;
        }
    }
    columns_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// floor(1000 sin(0.37 i^1.5)), row by row.
    fn wave(count: usize) -> Vec<f64> {
        (0..count).map(|i| ((i as f64).powf(1.5) * 0.37).sin()).map(|v| (v * 1000.0).floor()).collect()
    }

    fn total(gain: &[f64], columns: usize, found: &[Option<usize>]) -> f64 {
        found.iter().enumerate().filter_map(|(i, j)| j.map(|j| gain[i * columns + j])).sum()
    }

    /// The greatest total by trying all matchings.
    fn by_trying(gain: &[f64], rows: usize, columns: usize) -> f64 {
        fn best(gain: &[f64], rows: usize, columns: usize, row: usize, taken: usize, skips: usize) -> f64 {
            if row == rows {
                return 0.0;
            }
            let free = (0..columns).filter(|j| taken >> j & 1 == 0);
            let tried = free
                .map(|j| gain[row * columns + j] + best(gain, rows, columns, row + 1, taken | 1 << j, skips));
            let skipped = (skips > 0).then(|| best(gain, rows, columns, row + 1, taken, skips - 1));
            tried.chain(skipped).fold(f64::NEG_INFINITY, f64::max)
        }
        best(gain, rows, columns, 0, 0, rows.saturating_sub(columns))
    }

    // c = np.floor(1000 * np.sin(np.arange(r * k) ** 1.5 * 0.37)).reshape(r, k)
    // i, j = scipy.optimize.linear_sum_assignment(c, maximize=True); c[i, j].sum()                    # SciPy 1.17.1
    #[test]
    fn agrees_with_scipy() {
        for ((rows, columns), expected) in [(8, 8), (5, 9), (9, 5), (60, 60), (40, 75)].into_iter().zip(SCIPY)
        {
            let gain = wave(rows * columns);
            let found = best_matching(&gain, rows, columns).unwrap();
            assert_eq!(total(&gain, columns, &found), expected, "{rows} x {columns}");
            assert_eq!(found.iter().flatten().count(), rows.min(columns));
        }
    }

    const SCIPY: [f64; 5] = [6719.0, 4646.0, 4731.0, 59608.0, 39899.0];

    proptest! {
        #[test]
        fn no_other_matching_is_better(
            (rows, columns, gain) in (1_usize..6, 1_usize..6).prop_flat_map(|(r, c)| {
                (Just(r), Just(c), prop::collection::vec((-3_i32..4).prop_map(f64::from), r * c))
            })
        ) {
            let found = best_matching(&gain, rows, columns).unwrap();
            let mut columns_used: Vec<usize> = found.iter().flatten().copied().collect();
            columns_used.sort_unstable();
            columns_used.dedup();
            prop_assert_eq!(columns_used.len(), rows.min(columns));
            prop_assert_eq!(total(&gain, columns, &found), by_trying(&gain, rows, columns));
        }
    }

    #[test]
    fn one_row_takes_its_best_column_and_nothing_is_matched_to_nothing() {
        assert_eq!(best_matching(&[1.0, 3.0, 2.0], 1, 3).unwrap(), [Some(1)]);
        assert_eq!(best_matching(&[1.0, 3.0, 2.0], 3, 1).unwrap(), [None, Some(0), None]);
        assert_eq!(best_matching(&[], 0, 0).unwrap(), []);
        assert_eq!(best_matching(&[], 2, 0).unwrap(), [None, None]);
    }

    #[test]
    fn rejects_what_is_no_matrix() {
        let error = best_matching(&[1.0; 5], 2, 3).unwrap_err().to_string();
        assert_eq!(error, "numbers of the gain = 5: 2 x 3, rows and columns");
        let error = best_matching(&[1.0, 2.0, 3.0, f64::NAN], 2, 2).unwrap_err().to_string();
        assert_eq!(error, "gain is not finite: row 1, column 1");
    }
}
