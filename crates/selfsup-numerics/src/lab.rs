//! Colours in CIE Lab, where equal distances look about equally different, and the bins of ab that
//! colorization predicts: its objective and the labeler of colour classes share them.
//!
//! sRGB (IEC 61966-2-1) with the white of D65 and a 2 degree observer, as in scikit-image's `rgb2lab`: L from
//! 0 to 100, a from green to red and b from blue to yellow, both within 110 of 0.

use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// From linear RGB to XYZ.
const XYZ_OF_RGB: [[f64; 3]; 3] =
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]];
/// And back.
const RGB_OF_XYZ: [[f64; 3]; 3] = [
    [3.240481340, -1.537151516, -0.498536326],
    [-0.969254950, 1.875990001, 0.041555926],
    [0.055646639, -0.204041338, 1.057311070],
];
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];

fn mixed(matrix: &[[f64; 3]; 3], [x, y, z]: [&Tensor; 3]) -> [Tensor; 3] {
    matrix.map(|row| x * row[0] + y * row[1] + z * row[2])
}

fn planes(x: &Tensor) -> [Tensor; 3] {
    [0, 1, 2].map(|channel| x.select(1, channel))
}

fn stacked([x, y, z]: [Tensor; 3]) -> Tensor {
    Tensor::stack(&[x, y, z], 1)
}

/// Lab of RGB.
///
/// # Shapes
/// RGB from 0 to 1, `[N, 3, H, W]` to the same.
///
/// # Errors
/// [`Error::Shape`] when there are not three channels.
pub fn rgb_to_lab(rgb: &Tensor) -> Result<Tensor> {
    check_shape("rgb", rgb, [-1, 3, -1, -1])?;
    let rgb = rgb.clamp(0.0, 1.0);
    let curved = ((&rgb + 0.055) / 1.055).pow_tensor_scalar(2.4);
    let linear = (&rgb / 12.92).where_self(&rgb.le(0.04045), &curved);
    let [r, g, b] = planes(&linear);
    let xyz = mixed(&XYZ_OF_RGB, [&r, &g, &b]);
    let [x, y, z] = [0, 1, 2].map(|i| {
        let t = &xyz[i] / WHITE[i];
        let root = t.clamp_min(1e-12).pow_tensor_scalar(1.0 / 3.0);
        root.where_self(&t.gt(0.008856), &(&t * 7.787 + 16.0 / 116.0))
    });
    Ok(stacked([&y * 116.0 - 16.0, (x - &y) * 500.0, (y - z) * 200.0]))
}

/// RGB of Lab; what no RGB has comes as near as clipping brings it.
///
/// # Shapes
/// `[N, 3, H, W]` to RGB from 0 to 1 of the same shape.
///
/// # Errors
/// [`Error::Shape`] when there are not three channels.
pub fn lab_to_rgb(lab: &Tensor) -> Result<Tensor> {
    check_shape("lab", lab, [-1, 3, -1, -1])?;
    let [l, a, b] = planes(lab);
    let y = (l + 16.0) / 116.0;
    let roots = [&y + a / 500.0, y.shallow_clone(), (&y - b / 200.0).clamp_min(0.0)];
    let [x, y, z] = [0, 1, 2].map(|i| {
        let t = &roots[i];
        let cube = t.pow_tensor_scalar(3.0);
        cube.where_self(&t.gt(0.2068966), &((t - 16.0 / 116.0) / 7.787)) * WHITE[i]
    });
    let linear = stacked(mixed(&RGB_OF_XYZ, [&x, &y, &z])).clamp(0.0, 1.0);
    let curved = linear.clamp_min(1e-12).pow_tensor_scalar(1.0 / 2.4) * 1.055 - 0.055;
    Ok(curved.where_self(&linear.gt(0.0031308), &(linear * 12.92)).clamp(0.0, 1.0))
}

/// Of the grid of ab with a step of 10 the points that the authors of colorization take for in gamut: for
/// each a the lowest and the highest b, all in units of 10.
const GAMUT: [[i64; 3]; 20] = [
    [-9, 5, 9],
    [-8, 2, 9],
    [-7, 0, 9],
    [-6, -2, 9],
    [-5, -3, 10],
    [-4, -4, 10],
    [-3, -5, 10],
    [-2, -5, 10],
    [-1, -6, 10],
    [0, -7, 10],
    [1, -8, 9],
    [2, -8, 9],
    [3, -9, 9],
    [4, -10, 9],
    [5, -10, 8],
    [6, -11, 8],
    [7, -11, 8],
    [8, -11, 7],
    [9, -11, 7],
    [10, -9, 0],
];

/// The 313 bins of Zhang, Isola and Efros 2016 (section 2.1), by rising a and then b: the numbers that their
/// models predict.
///
/// # Shapes
/// `[313, 2]` Float.
pub fn gamut() -> Tensor {
    let points = GAMUT.iter().flat_map(|&[a, low, high]| (low..=high).flat_map(move |b| [a, b]));
    let points: Vec<_> = points.map(|x| 10.0 * x as f32).collect();
    Tensor::from_slice(&points).view([-1, 2])
}

/// The soft encoding of colours (section 2.1): the nearest bins, weighted by a Gaussian of their distance,
/// sum 1.
#[derive(Clone, Copy, Debug)]
pub struct SoftEncoding {
    /// How many bins a colour is spread over.
    pub neighbours: i64,
    /// The standard deviation of the Gaussian, in units of ab.
    pub sigma: f64,
}

/// The paper's.
impl Default for SoftEncoding {
    fn default() -> Self {
        SoftEncoding { neighbours: 5, sigma: 5.0 }
    }
}

impl SoftEncoding {
    /// Spreads colours over bins.
    ///
    /// # Shapes
    /// Colours `[M, 2]` and bins `[Q, 2]` to the bins of each colour `[M, K]` Int64, and their weights `[M,
    /// K]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when either are no pairs, [`Error::Config`] when there are fewer bins than
    /// neighbours.
    pub fn nearest(self, colours: &Tensor, bins: &Tensor) -> Result<(Tensor, Tensor)> {
        let [_, _] = check_shape("colours", colours, [-1, 2])?;
        let [q, _] = check_shape("bins", bins, [-1, 2])?;
        if !(1..=q).contains(&self.neighbours) || self.sigma.is_nan() || self.sigma <= 0.0 {
            let found = format!("{} with sigma {}", self.neighbours, self.sigma);
            return Err(Error::config("neighbours", found, format!("1 to {q} and a positive sigma")));
        }
        // The squares written out: the product of matrices that cdist would take loses the digits that decide a tie.
        let square = |axis: i64| (colours.select(1, axis).unsqueeze(1) - bins.select(1, axis)).square();
        let (squares, index) = (square(0) + square(1)).topk(self.neighbours, 1, false, true); // [M, K]
        Ok((index, (squares / (-2.0 * self.sigma * self.sigma)).softmax(1, Kind::Float)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, TensorExt};

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().scalar().unwrap()
    }

    #[test]
    fn known_colours_have_their_lab() {
        // skimage.color.rgb2lab of white, red, green, blue and a dark grey.
        let rgb =
            [[1.0_f32, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.02, 0.02, 0.02]];
        let lab = rgb_to_lab(&Tensor::from_slice2(&rgb).view([5, 3, 1, 1])).unwrap().view([5, 3]);
        let expected = Tensor::from_slice2(&EXPECTED);
        assert!(difference(&lab, &expected) < 0.01, "{lab}");
    }

    const EXPECTED: [[f32; 3]; 5] = [
        [100.0, -0.0025, 0.0047],
        [53.2406, 80.0923, 67.2028],
        [87.7351, -86.1830, 83.1797],
        [32.2957, 79.1880, -107.8573],
        [1.3983, 0.0, 0.0],
    ];

    #[test]
    fn lab_goes_there_and_back() {
        let rgb = Tensor::rand([4, 3, 8, 8], (Kind::Float, Device::Cpu));
        let back = lab_to_rgb(&rgb_to_lab(&rgb).unwrap()).unwrap();
        assert!(difference(&rgb, &back) < 1e-4);
        let error = rgb_to_lab(&rgb.narrow(1, 0, 1)).unwrap_err().to_string();
        assert_eq!(error, "rgb: expected [_, 3, _, _], found [4, 1, 8, 8]");
    }

    #[test]
    fn there_are_313_bins_and_every_colour_has_one_nearby() {
        let bins = gamut();
        assert_eq!(bins.size(), [313, 2]);
        assert_eq!(Vec::<f32>::try_from(bins.get(0)).unwrap(), [-90.0, 50.0]);
        assert_eq!(Vec::<f32>::try_from(bins.get(312)).unwrap(), [100.0, 0.0]);
        let rgb = Tensor::rand([4, 3, 40, 40], (Kind::Float, Device::Cpu)).round();
        let ab = rgb_to_lab(&rgb).unwrap().narrow(1, 1, 2).permute([0, 2, 3, 1]).reshape([-1, 2]);
        let one = SoftEncoding { neighbours: 1, sigma: 5.0 };
        let nearest = bins.index_select(0, &one.nearest(&ab, &bins).unwrap().0.squeeze_dim(1));
        let furthest = (nearest - ab).square().sum_dim_intlist([1_i64].as_slice(), false, None).max();
        assert!(furthest.sqrt().scalar().unwrap() < 7.08);
    }

    #[test]
    fn a_colour_is_spread_over_its_five_nearest_bins() {
        let bins = gamut();
        let colour = Tensor::from_slice2(&[[2.5_f32, 1.5]]);
        let (index, weights) = SoftEncoding::default().nearest(&colour, &bins).unwrap();
        let kernel = |a: f64, b: f64| (-((a - 2.5).powi(2) + (b - 1.5).powi(2)) / 50.0).exp();
        let around = [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0), (10.0, 10.0), (0.0, -10.0)];
        let sum: f64 = around.iter().map(|&(a, b)| kernel(a, b)).sum();
        for (k, (a, b)) in (0..).zip(around) {
            let bin = bins.get(index.int64_value(&[0, k]));
            assert_eq!((bin.double_value(&[0]), bin.double_value(&[1])), (a, b), "{k}");
            assert!((weights.double_value(&[0, k]) - kernel(a, b) / sum).abs() < 1e-6);
        }
        let error =
            SoftEncoding { neighbours: 0, sigma: 5.0 }.nearest(&colour, &bins).unwrap_err().to_string();
        assert_eq!(error, "neighbours = 0 with sigma 5: 1 to 313 and a positive sigma");
    }
}
