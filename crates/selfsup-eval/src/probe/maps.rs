//! Feature maps as probes take them.

use selfsup_core::{Device, Error, Kind, Result, Tensor, check_shape};

/// Maps in Float on the CPU, `[N, D, h, w]`.
///
/// # Errors
/// When they have another shape or a side of 0, or a feature is not finite: the message names the image.
pub(crate) fn checked_maps(maps: &Tensor) -> Result<Tensor> {
    let shape = check_shape("maps", maps, [-1, -1, -1, -1])?;
    if shape.contains(&0) {
        return Err(Error::config("maps", format!("{shape:?}"), "at least one image, feature and place"));
    }
    let maps = maps.detach().to_device(Device::Cpu).to_kind(Kind::Float);
    // Image by image, so that no mask of all features is made.
    for image in 0..shape[0] {
        if !bool::try_from(maps.get(image).isfinite().all())? {
            let detail = format!("the first bad image is {image}");
            return Err(Error::NonFinite { what: "maps".to_owned(), detail });
        }
    }
    Ok(maps)
}
