//! The views that a batch must have: two of every image, or one. Crops of several sizes are checked in
//! [`crops`](crate::clustering::crops).

use selfsup_core::{Error, ImageViews, Kind, Result, Tensor, check_kind, check_shape};

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

/// The one view of a batch, of images with so many channels.
///
/// # Errors
/// [`Error::Config`] when there are more or fewer views, and as [`check_images`].
pub(crate) fn one_view<'a>(batch: &'a ImageViews, channels: i64, method: &str) -> Result<&'a Tensor> {
    let [view] = batch.views.as_slice() else {
        return Err(Error::config("views", batch.views.len(), format!("one view an image for {method}")));
    };
    check_images("view 0", view, channels)?;
    Ok(view)
}

/// Checks images and returns how many there are and their sides.
///
/// # Errors
/// [`Error::Shape`] when they have other channels or there is no pixel, and when they are not Float.
pub(crate) fn check_images(name: &str, images: &Tensor, channels: i64) -> Result<[i64; 3]> {
    let [n, _, h, w] = check_shape(name, images, [-1, channels, -1, -1])?;
    check_kind(name, images, Kind::Float)?;
    if n * h * w < 1 {
        return Err(Error::Shape {
            name: name.to_owned(),
            expected: "at least one image with pixels".to_owned(),
            found: format!("{:?}", images.size()),
        });
    }
    Ok([n, h, w])
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
