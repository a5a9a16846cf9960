//! What most of these methods take: two views of one size.

use selfsup_core::{Error, ImageViews, Result, Tensor, check_shape};

/// The two views of a batch, `[N, C, H, W]` each, of at least two samples.
///
/// # Errors
/// When there are more or fewer views, they differ in shape, or a single sample leaves no statistics of a batch.
pub(crate) fn two_views<'a>(batch: &'a ImageViews, method: &str) -> Result<[&'a Tensor; 2]> {
    let [view0, view1] = batch.views.as_slice() else {
        return Err(Error::config("views", batch.views.len(), format!("two views an image for {method}")));
    };
    let shape = check_shape("view 0", view0, [-1, -1, -1, -1])?;
    check_shape("view 1", view1, shape)?;
    at_least_two("view 0", view0, shape[0])?;
    Ok([view0, view1])
}

/// Refuses `x`, a batch of so many samples, when there are no statistics of it.
///
/// # Errors
/// [`Error::Shape`] when there are fewer than 2.
pub(crate) fn at_least_two(name: &str, x: &Tensor, samples: i64) -> Result<()> {
    if samples >= 2 {
        return Ok(());
    }
    Err(Error::Shape {
        name: name.to_owned(),
        expected: "at least 2 samples".to_owned(),
        found: format!("{:?}", x.size()),
    })
}
