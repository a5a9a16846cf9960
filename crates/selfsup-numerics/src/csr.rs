//! Square sparse matrices, row by row, and their product with a dense one.

use rayon::prelude::*;

/// A square sparse matrix in compressed rows: of each row the columns, ascending, and their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Csr {
    /// Row `i` has the entries from `offsets[i]` to `offsets[i + 1]`.
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// Rows that a thread multiplies at a time.
const ROWS: usize = 256;

impl Csr {
    /// Joins rows of ascending columns below their number.
    pub(crate) fn from_rows(rows: &[(Vec<u32>, Vec<f32>)]) -> Csr {
        let mut offsets = vec![0];
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for (row, row_values) in rows {
            columns.extend_from_slice(row);
            values.extend_from_slice(row_values);
            offsets.push(columns.len());
        }
        Csr { offsets, columns, values }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The number of entries.
    pub fn entries(&self) -> usize {
        self.columns.len()
    }

    /// The columns of a row, ascending, and their values.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[i]..self.offsets[i + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// The same places with the values that `value` gives for row, column and old value.
    #[must_use]
    pub fn map(mut self, value: impl Fn(usize, usize, f32) -> f32) -> Csr {
        for i in 0..self.rows() {
            for at in self.offsets[i]..self.offsets[i + 1] {
                self.values[at] = value(i, self.columns[at] as usize, self.values[at]);
            }
        }
        self
    }

    /// The sum of every row.
    pub fn row_sums(&self) -> Vec<f32> {
        (0..self.rows()).map(|i| self.row(i).1.iter().sum()).collect()
    }

    /// The sum of every column.
    pub fn column_sums(&self) -> Vec<f32> {
        let mut sums = vec![0.0; self.rows()];
        for (&column, value) in self.columns.iter().zip(&self.values) {
            sums[column as usize] += value;
        }
        sums
    }

    /// Writes the product with `x` to `out` and lets `finish` change every row of it, `(row, its new values, its values
    /// in x)`; it returns the sum of what `finish` returned, which does not depend on the threads.
    ///
    /// # Shapes
    /// Row-major `x` and `out` `[rows, width]`.
    ///
    /// # Panics
    /// When `x` or `out` has another length.
    pub fn multiply(
        &self,
        x: &[f32],
        width: usize,
        out: &mut [f32],
        finish: impl Fn(usize, &mut [f32], &[f32]) -> f64 + Sync,
    ) -> f64 {
        assert!(
            x.len() == self.rows() * width && out.len() == x.len(),
            "x and out of {} x {width} numbers",
            self.rows()
        );
        if width == 0 {
            return 0.0;
        }
        let block = |(block, out): (usize, &mut [f32])| -> f64 {
            let mut total = 0.0;
            for (i, out) in (block * ROWS..).zip(out.chunks_exact_mut(width)) {
                out.fill(0.0);
                let (columns, values) = self.row(i);
                for (&column, &value) in columns.iter().zip(values) {
                    let from = &x[column as usize * width..][..width];
                    out.iter_mut().zip(from).for_each(|(out, x)| *out += value * x);
                }
                total += finish(i, out, &x[i * width..][..width]);
            }
            total
        };
        let parts: Vec<f64> = out.par_chunks_mut(ROWS * width).enumerate().map(block).collect();
        parts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[[0, 2, 1], [3, 0, 0], [0, 0, 0]]`
    fn matrix() -> Csr {
        Csr::from_rows(&[(vec![1, 2], vec![2.0, 1.0]), (vec![0], vec![3.0]), (vec![], vec![])])
    }

    #[test]
    fn multiplies_as_a_dense_matrix_does_and_finishes_every_row() {
        let x = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        let mut out = [f32::NAN; 6];
        let total = matrix().multiply(&x, 2, &mut out, |i, row, before| {
            row[0] += i as f32;
            f64::from(before[0])
        });
        assert_eq!(out, [7.0, 70.0, 4.0, 30.0, 2.0, 0.0]);
        assert_eq!(total, 6.0);
    }

    #[test]
    fn multiplies_more_rows_than_a_block_holds() {
        let n = 3 * ROWS + 5;
        let rows: Vec<_> = (0..n).map(|i| (vec![((i * 7) % n) as u32], vec![i as f32])).collect();
        let x: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
        let mut out = vec![0.0; n];
        let total = Csr::from_rows(&rows).multiply(&x, 1, &mut out, |_, row, _| f64::from(row[0]));
        let expected: Vec<f32> = (0..n).map(|i| i as f32 * (((i * 7) % n) as f32 + 1.0)).collect();
        assert_eq!(out, expected);
        assert_eq!(total, expected.iter().map(|&v| f64::from(v)).sum::<f64>());
    }

    #[test]
    fn sums_and_maps_its_entries() {
        let matrix = matrix();
        assert_eq!((matrix.rows(), matrix.entries()), (3, 3));
        assert_eq!(matrix.row_sums(), [3.0, 3.0, 0.0]);
        assert_eq!(matrix.column_sums(), [3.0, 2.0, 1.0]);
        let mapped = matrix.map(|i, j, v| v + (10 * i + j) as f32);
        assert_eq!(mapped.row(0), ([1, 2].as_slice(), [3.0, 3.0].as_slice()));
        assert_eq!(mapped.row(1).1, [13.0]);
    }
}
