//! Tensors as plain memory, for algorithms that go through samples one by one.

use selfsup_core::{Error, Kind, Result, Tensor, check_kind, check_shape};

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
