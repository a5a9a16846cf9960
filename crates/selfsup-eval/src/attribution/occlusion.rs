//! Occlusion (Zeiler and Fergus 2014): by how much a score falls where a window of the image is hidden.
//!
//! ```text
//! M(p) = mean over windows w that hold p of  s(x) - s(x with w hidden)
//! ```
//! Windows slide by a stride; the last of a row or a column are cut off at the border. Values are those of captum's `Occlusion`,
//! with windows that hide all channels. It needs no gradient and asks for as many passes as there are windows.

use super::integrated_gradients::expanded;
use super::score::{ScoreFunction, check_inputs, scores};
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// What is hidden at a time, in rows and columns of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OcclusionConfig {
    /// The sides of the window.
    pub window: [i64; 2],
    /// By how far it moves; at most its sides, so that every pixel is hidden once.
    pub stride: [i64; 2],
}

impl OcclusionConfig {
    /// A window of a sixth of the image's sides that moves by half of its own: some hundred windows, whatever the size.
    pub fn of_image([height, width]: [i64; 2]) -> Self {
        let window = [height, width].map(|side| ((side + 5) / 6).max(1));
        OcclusionConfig { window, stride: window.map(|side| ((side + 1) / 2).max(1)) }
    }

    fn check(&self, sides: [i64; 2]) -> Result<()> {
        for ((window, stride), side) in self.window.into_iter().zip(self.stride).zip(sides) {
            if !(1..=side).contains(&window) {
                let expected = format!("sides from 1 to those of the image, {sides:?}");
                return Err(Error::config("window", format!("{:?}", self.window), expected));
            }
            if !(1..=window).contains(&stride) {
                let expected = format!("from 1 to the sides of the window, {:?}", self.window);
                return Err(Error::config("stride", format!("{:?}", self.stride), expected));
            }
        }
        Ok(())
    }
}

/// By how much the scores fall where the images are hidden behind `baseline`.
///
/// # Shapes
/// Images `[N, C, H, W]` Float to `[N, H, W]`; `baseline` broadcasts to the images.
///
/// # Errors
/// When the window is larger than the image, the stride larger than the window, or images, baseline or scores are not finite or
/// do not fit.
pub fn occlusion(
    function: &ScoreFunction,
    images: &Tensor,
    baseline: &Tensor,
    config: &OcclusionConfig,
) -> Result<Tensor> {
    check_inputs("images", images)?;
    let [n, _, height, width] = check_shape("images", images, [-1, -1, -1, -1])?;
    config.check([height, width])?;
    let (images, baseline) = (images.detach(), expanded(baseline, images)?);
    let whole = scores(function, &images)?;
    let options = (Kind::Float, images.device());
    let (sums, counts) =
        (Tensor::zeros([n, height, width], options), Tensor::zeros([height, width], options));
    let starts = |side: i64, at: usize| {
        let moves = (side - config.window[at] + config.stride[at] - 1) / config.stride[at];
        (0..=moves).map(move |i| i * config.stride[at])
    };
    for top in starts(height, 0) {
        for left in starts(width, 1) {
            let rows = config.window[0].min(height - top);
            let columns = config.window[1].min(width - left);
            let of = |x: &Tensor| x.narrow(-2, top, rows).narrow(-1, left, columns);
            let hidden = images.copy();
            of(&hidden).copy_(&of(&baseline));
            let fall = &whole - scores(function, &hidden)?; // [N]
            let _ = of(&sums).g_add_(&fall.view([n, 1, 1]));
            let _ = of(&counts).g_add_scalar_(1.0);
        }
    }
    Ok(sums / counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::{assert_elements, network, wave};
    use selfsup_core::{Device, TensorExt};

    fn number(value: f64) -> Tensor {
        Tensor::full([1], value, (Kind::Float, Device::Cpu))
    }

    fn score(x: &Tensor) -> Tensor {
        network(x).1
    }

    // o, x = captum.attr.Occlusion(g), wave([2, 2, 5, 6], 0.29)     # g as in grad_cam.rs, captum 0.9.0
    // o.attribute(x, sliding_window_shapes=(2, 2, 3), strides=(2, 2, 2), baselines=0.1)[:, 0]
    // o.attribute(x, sliding_window_shapes=(2, 3, 3), strides=(2, 1, 2), baselines=0.0)[0, 0]
    #[test]
    fn maps_equal_captums_where_windows_overlap_and_where_they_are_cut_off() {
        let x = wave(&[2, 2, 5, 6], 0.29);
        let config = OcclusionConfig { window: [2, 3], stride: [2, 2] };
        let found = occlusion(&|x| Ok(score(x)), &x, &number(0.1), &config).unwrap();
        let rows = [
            [-0.0581927, -0.0581927, -0.030644, -0.0030953, -0.0690426, -0.1349899],
            [-0.0581927, -0.0581927, -0.030644, -0.0030953, -0.0690426, -0.1349899],
            [-0.0542552, -0.0542552, -0.1771527, -0.3000501, -0.1739696, -0.047889],
            [-0.0542552, -0.0542552, -0.1771527, -0.3000501, -0.1739696, -0.047889],
            [0.1133227, 0.1133227, 0.031429, -0.0504646, -0.0533376, -0.0562106],
            [0.1195308, 0.1195308, 0.0996192, 0.0797076, 0.0440413, 0.008375],
            [0.1195308, 0.1195308, 0.0996192, 0.0797076, 0.0440413, 0.008375],
            [0.1611556, 0.1611556, 0.2226779, 0.2842001, 0.2262612, 0.1683223],
            [0.1611556, 0.1611556, 0.2226779, 0.2842001, 0.2262612, 0.1683223],
            [0.0031182, 0.0031182, 0.0215695, 0.0400208, 0.0211744, 0.002328],
        ];
        assert_elements(&found, &rows.concat(), 1e-6);
        let config = OcclusionConfig { window: [3, 3], stride: [1, 2] };
        let found = occlusion(&|x| Ok(score(x)), &x, &number(0.0), &config).unwrap();
        let rows = [
            [0.1332747, 0.1332747, 0.041679, -0.0499166, -0.1259166, -0.2019166],
            [0.1603934, 0.1603934, 0.045817, -0.0687593, -0.1039464, -0.1391336],
            [0.0894432, 0.0894432, -0.0118945, -0.1132323, -0.1137241, -0.1142159],
            [0.0675275, 0.0675275, -0.0386813, -0.1448901, -0.1076278, -0.0703655],
            [-0.052457, -0.052457, -0.1273176, -0.2021782, -0.1332793, -0.0643804],
        ];
        assert_elements(&found.get(0), &rows.concat(), 1e-6);
    }

    #[test]
    fn pixel_by_pixel_a_sum_is_taken_apart_exactly() {
        let (x, w) = (wave(&[2, 3, 4, 5], 0.37), wave(&[3, 4, 5], 0.5));
        let sum = |x: &Tensor| Ok((x * &w).sum_dim_intlist([1_i64, 2, 3].as_slice(), false, None));
        let config = OcclusionConfig { window: [1, 1], stride: [1, 1] };
        let found = occlusion(&sum, &x, &number(0.0), &config).unwrap();
        let expected = (&x * &w).sum_dim_intlist(1, false, None);
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn a_constant_score_falls_nowhere_and_one_window_hides_all_alike() {
        let x = wave(&[2, 2, 5, 6], 0.29);
        let constant = |x: &Tensor| Ok(x.sum_dim_intlist([1_i64, 2, 3].as_slice(), false, None) * 0.0);
        let found = occlusion(&constant, &x, &number(0.0), &OcclusionConfig::of_image([5, 6])).unwrap();
        assert_elements(&found, &[0.0; 60], 1e-12);
        let config = OcclusionConfig { window: [5, 6], stride: [5, 6] };
        let found = occlusion(&|x| Ok(score(x)), &x, &number(0.0), &config).unwrap();
        let falls = score(&x) - score(&x.zeros_like());
        let expected = falls.view([2, 1, 1]).expand([2, 5, 6], false);
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn the_usual_window_fits_images_of_any_size() {
        for side in [1, 2, 5, 7, 28, 32, 224] {
            OcclusionConfig::of_image([side, side + 3]).check([side, side + 3]).unwrap();
        }
        assert_eq!(OcclusionConfig::of_image([28, 28]).window, [5, 5]);
        assert_eq!(OcclusionConfig::of_image([28, 28]).stride, [3, 3]);
    }

    #[test]
    fn rejects_windows_that_do_not_fit() {
        let x = wave(&[1, 2, 5, 6], 0.29);
        let refused = |x: &Tensor, window, stride| {
            let config = OcclusionConfig { window, stride };
            occlusion(&|x| Ok(score(x)), x, &number(0.0), &config).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&x, [6, 2], [1, 1]),
            "window = [6, 2]: sides from 1 to those of the image, [5, 6]"
        );
        assert!(refused(&x, [0, 2], [1, 1]).starts_with("window = [0, 2]"));
        assert_eq!(refused(&x, [2, 2], [3, 1]), "stride = [3, 1]: from 1 to the sides of the window, [2, 2]");
        assert!(refused(&x, [2, 2], [0, 1]).starts_with("stride = [0, 1]"));
        assert!(refused(&(&x * f64::NAN), [2, 2], [1, 1]).starts_with("images is not finite"));
        assert!(refused(&wave(&[2, 5], 0.1), [1, 1], [1, 1]).contains("images: expected [_, _, _, _]"));
    }
}
