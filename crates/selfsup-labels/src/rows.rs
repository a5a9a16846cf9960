//! Tensors as plain memory, for algorithms that go through samples one by one.

use selfsup_core::{Device, Error, Kind, Result, Tensor, check_kind, check_shape};

/// A matrix, row by row.
pub(crate) struct Rows {
    values: Vec<f32>,
    columns: usize,
}

impl Rows {
    /// Copies `[N, C]` of any kind and device.
    pub(crate) fn of(x: &Tensor) -> Result<Rows> {
        let [_, columns] = check_shape("matrix", x, [-1, -1])?;
        let x = x.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        Ok(Rows { values: Vec::try_from(&x.view(-1))?, columns: columns as usize })
    }

    pub(crate) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.columns..][..self.columns]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }
}

/// The largest value of a row and where it first stands.
pub(crate) fn top(row: &[f32]) -> (f32, usize) {
    row.iter().enumerate().fold(
        (f32::NEG_INFINITY, 0),
        |(most, at), (c, &p)| {
            if p > most { (p, c) } else { (most, at) }
        },
    )
}

/// Labels `[N]` Int64 that are classes of `0..classes`, as indices.
pub(crate) fn class_indices(name: &str, labels: &Tensor, n: i64, classes: i64) -> Result<Vec<usize>> {
    check_shape(name, labels, [n])?;
    check_kind(name, labels, Kind::Int64)?;
    let labels = Vec::<i64>::try_from(labels)?;
    if let Some(label) = labels.iter().find(|&label| !(0..classes).contains(label)) {
        return Err(Error::config(name, label, format!("a class in 0..{classes}")));
    }
    Ok(labels.into_iter().map(|label| label as usize).collect())
}

/// An error unless there is a sample.
pub(crate) fn at_least_one(name: &str, n: i64) -> Result<()> {
    if n == 0 {
        return Err(Error::config(name, "no samples", "at least one"));
    }
    Ok(())
}
