//! Structural similarity (Wang et al. 2004): how alike two pictures are, window by window.
//!
//! ```text
//! SSIM(x, y) = (2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2)),    c1 = (0.01 L)^2, c2 = (0.03 L)^2
//! ```
//! with means, variances and the covariance (n - 1 in the denominator) of a square window, averaged over all windows that lie inside;
//! `L` is the range of the values. Values are scikit-image's `structural_similarity` with its defaults.

use super::score::check_finite;
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// How alike pictures are, pair by pair: 1 for the same, about 0 for unrelated ones.
///
/// # Shapes
/// `[N, H, W]` twice to `[N]` Double. `window` is the side of the window, scikit-image's is 7.
///
/// # Errors
/// When the pictures do not fit each other or are not finite, the window is not odd, below 3 or larger than they are, or the range
/// is not positive.
pub fn ssim(x: &Tensor, y: &Tensor, window: i64, range: f64) -> Result<Tensor> {
    let [n, height, width] = check_shape("x", x, [-1, -1, -1])?;
    check_shape("y", y, [n, height, width])?;
    check_finite("x", x)?;
    check_finite("y", y)?;
    if window < 3 || window % 2 == 0 || window > height.min(width) {
        let expected = format!("an odd side from 3 to {}, that of the pictures", height.min(width));
        return Err(Error::config("window", window, expected));
    }
    if !(range > 0.0 && range.is_finite()) {
        return Err(Error::config("range", range, "above 0"));
    }
    let (x, y) = (x.to_kind(Kind::Double), y.to_kind(Kind::Double));
    let mean = |x: &Tensor| x.unsqueeze(1).avg_pool2d([window, window], [1, 1], [0, 0], false, true, None);
    let places = (window * window) as f64;
    let of_sample = places / (places - 1.0);
    let (mx, my) = (mean(&x), mean(&y));
    let covariance =
        |a: &Tensor, b: &Tensor, ma: &Tensor, mb: &Tensor| (mean(&(a * b)) - ma * mb) * of_sample;
    let (sx, sy, sxy) =
        (covariance(&x, &x, &mx, &mx), covariance(&y, &y, &my, &my), covariance(&x, &y, &mx, &my));
    let (c1, c2) = ((0.01 * range).powi(2), (0.03 * range).powi(2));
    let above = (&mx * &my * 2.0 + c1) * (sxy * 2.0 + c2);
    let below = (mx.square() + my.square() + c1) * (sx + sy + c2);
    Ok((above / below).flatten(1, -1).mean_dim(1, false, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::{assert_elements, wave};

    fn pair() -> (Tensor, Tensor) {
        let x = wave(&[1, 9, 8], 0.13);
        let y = &x * 0.6 + wave(&[1, 9, 8], 0.31) * 0.4;
        (x, y)
    }

    // x, y = wave([9, 8], 0.13), 0.6 * wave([9, 8], 0.13) + 0.4 * wave([9, 8], 0.31)
    // skimage.metrics.structural_similarity(x, y, data_range=2, win_size=7), (..., data_range=1, win_size=3)
    #[test]
    fn equals_scikit_images() {
        let (x, y) = pair();
        assert_elements(&ssim(&x, &y, 7, 2.0).unwrap(), &[0.688_240_243], 1e-6);
        assert_elements(&ssim(&x, &y, 3, 1.0).unwrap(), &[0.608_590_014], 1e-6);
    }

    #[test]
    fn the_same_picture_is_wholly_alike_and_order_does_not_matter() {
        let (x, y) = pair();
        assert_elements(&ssim(&x, &x, 7, 2.0).unwrap(), &[1.0], 1e-12);
        let (there, back) = (ssim(&x, &y, 5, 2.0).unwrap(), ssim(&y, &x, 5, 2.0).unwrap());
        assert!(f64::try_from((there - back).abs().max()).unwrap() < 1e-12);
        let flat = x.zeros_like();
        assert_elements(&ssim(&flat, &flat, 3, 1.0).unwrap(), &[1.0], 1e-12);
    }

    #[test]
    fn rejects_windows_and_pictures_that_do_not_fit() {
        let (x, y) = pair();
        for window in [1, 4, 9] {
            let error = ssim(&x, &y, window, 1.0).unwrap_err().to_string();
            assert_eq!(error, format!("window = {window}: an odd side from 3 to 8, that of the pictures"));
        }
        assert_eq!(ssim(&x, &y, 3, 0.0).unwrap_err().to_string(), "range = 0: above 0");
        assert!(ssim(&x, &y.narrow(1, 0, 5), 3, 1.0).is_err());
        assert!(ssim(&(&x / 0.0), &y, 3, 1.0).unwrap_err().to_string().contains("not finite"));
    }
}
