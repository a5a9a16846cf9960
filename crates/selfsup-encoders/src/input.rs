//! Checks at the networks' public entries: libtorch panics on what does not fit, these say what would.

use selfsup_core::{Device, Error, Kind, Mode, Result, Tensor, check_kind, check_shape};

/// Checks a batch of images against a network whose parameters are of `weight`'s kind and device; `[N, H, W]`.
pub(crate) fn check_images(x: &Tensor, channels: i64, weight: &Tensor) -> Result<[i64; 3]> {
    let [n, _, h, w] = check_shape("images", x, [-1, channels, -1, -1])?;
    if n < 1 || h < 1 || w < 1 {
        return Err(shape("images", "at least one sample and one pixel", format!("{:?}", x.size())));
    }
    check_kind("images", x, weight.kind())?;
    check_device("images", x, weight)?;
    Ok([n, h, w])
}

/// Checks that BatchNorm sees more than one value per channel in a network whose last map is `h` x `w`: a single one
/// has no variance.
pub(crate) fn check_batch_statistics(n: i64, h: i64, w: i64, mode: Mode) -> Result<()> {
    if mode.is_train() && n * h * w < 2 {
        let found = format!("{n} sample of {h} x {w} places in the last layer");
        return Err(shape("images", "more than one value per channel for BatchNorm to train on", found));
    }
    Ok(())
}

/// Checks a batch of token ids; `[N, T]`.
pub(crate) fn check_tokens(
    x: &Tensor,
    vocabulary: i64,
    max_length: i64,
    weight: &Tensor,
) -> Result<[i64; 2]> {
    let [n, t] = check_shape("tokens", x, [-1, -1])?;
    check_kind("tokens", x, Kind::Int64)?;
    check_device("tokens", x, weight)?;
    if n < 1 || t < 1 || t > max_length {
        let expected = format!("[N, T] with N from 1 and T from 1 to max_length = {max_length}");
        return Err(shape("tokens", expected, format!("{:?}", x.size())));
    }
    check_range("tokens", x, vocabulary)?;
    Ok([n, t])
}

/// Checks the indices of the tokens to keep, `[N, K]` below `t`.
pub(crate) fn check_keep(keep: &Tensor, n: i64, t: i64) -> Result<()> {
    let [_, k] = check_shape("keep", keep, [n, -1])?;
    check_kind("keep", keep, Kind::Int64)?;
    if k < 1 {
        return Err(shape("keep", "at least one token a sample", format!("{:?}", keep.size())));
    }
    check_range("keep", keep, t)
}

/// Checks that Int64 indices lie in `0..end`. On the CPU only: elsewhere the answer would make every step wait for the
/// device, whose own assertion catches it.
fn check_range(name: &str, x: &Tensor, end: i64) -> Result<()> {
    if x.device() == Device::Cpu {
        let (low, high) = (i64::try_from(x.min())?, i64::try_from(x.max())?);
        if low < 0 || high >= end {
            return Err(shape(name, format!("indices in 0..{end}"), format!("{low}..={high}")));
        }
    }
    Ok(())
}

fn check_device(name: &str, x: &Tensor, weight: &Tensor) -> Result<()> {
    if x.device() == weight.device() {
        return Ok(());
    }
    Err(shape(
        name,
        format!("a tensor on {:?} like the network", weight.device()),
        format!("{:?}", x.device()),
    ))
}

pub(crate) fn shape(name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Shape { name: name.to_owned(), expected: expected.into(), found: found.into() }
}

/// Checks that every size of a configuration is positive.
pub(crate) fn check_sizes(sizes: &[(&str, i64)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size < 1) {
        Some((field, size)) => Err(Error::config(*field, size, "a size of at least 1")),
        None => Ok(()),
    }
}

/// Checks a probability of dropping; dropping everything is refused.
pub(crate) fn check_rate(field: &str, rate: f64) -> Result<()> {
    if (0.0..1.0).contains(&rate) {
        Ok(())
    } else {
        Err(Error::config(field, rate, "a probability in [0, 1)"))
    }
}
