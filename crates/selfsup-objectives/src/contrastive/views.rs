//! What most methods of the family take: two views of every image, equal in size.

use selfsup_core::{Error, ImageViews, Result, Tensor, check_shape};

/// The two views of a batch, `[N, C, H, W]` each, and N.
///
/// # Errors
/// [`Error::Config`] when there are more or fewer than two, [`Error::Shape`] when they differ.
pub(crate) fn two_views<'a>(batch: &'a ImageViews, method: &str) -> Result<(&'a Tensor, &'a Tensor, i64)> {
    let [view0, view1] = batch.views.as_slice() else {
        return Err(Error::config("views", batch.views.len(), format!("two views an image for {method}")));
    };
    let [n, c, h, w] = check_shape("view 0", view0, [-1, -1, -1, -1])?;
    check_shape("view 1", view1, [n, c, h, w])?;
    Ok((view0, view1, n))
}
