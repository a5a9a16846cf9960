//! Grad-CAM (Selvaraju et al. 2017): which places of a map of features a score is made of, roughly.
//!
//! ```text
//! w_c = mean over places of ds / dA_c          M = sum_c w_c A_c,  or its positive part                   (equations 1 and 2)
//! ```
//! The map is as coarse as the features'; [`interpolate`] brings it to the size of the image. Values are those of captum's
//! `LayerGradCam`.

use super::score::{MapFunction, check_finite, check_inputs, gradient};
use selfsup_core::{Error, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// Which parts of a map are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// What speaks for the score, as in the paper.
    #[default]
    Positive,
    /// What speaks against it too.
    Both,
}

/// How much the places of a map add to the scores.
///
/// # Shapes
/// Images `[N, C, H, W]` Float to `[N, H', W']`, the size of the function's map.
///
/// # Errors
/// When images, map or scores are not finite or do not fit, or the scores do not depend on the map.
pub fn grad_cam(function: &MapFunction, images: &Tensor, sign: Sign) -> Result<Tensor> {
    let n = check_inputs("images", images)?;
    // With a gradient to the images there is one to the map, whether or not the network's weights learn.
    let images = images.detach().set_requires_grad(true);
    let (map, scores) = function(&images)?;
    check_shape("map", &map, [n, -1, -1, -1])?;
    check_finite("map", &map)?;
    let weights = gradient(&scores, &map, n)?.mean_dim([2_i64, 3].as_slice(), true, None); // [N, C, 1, 1]
    let found = (weights * map.detach()).sum_dim_intlist(1, false, None);
    Ok(match sign {
        Sign::Positive => found.relu(),
        Sign::Both => found,
    })
}

/// Maps at another size, by interpolation between their places.
///
/// # Shapes
/// `[N, H', W']` to `[N, height, width]`.
///
/// # Errors
/// When they are no maps, or a side is below 1.
pub fn interpolate(maps: &Tensor, [height, width]: [i64; 2]) -> Result<Tensor> {
    check_shape("maps", maps, [-1, -1, -1])?;
    if height < 1 || width < 1 {
        return Err(Error::config("height and width", format!("{height} and {width}"), "at least 1"));
    }
    let maps = maps.unsqueeze(1).f_upsample_bilinear2d([height, width], false, None, None)?;
    Ok(maps.squeeze_dim(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::{assert_elements, network, wave};
    use selfsup_core::TensorExt;

    // class G(nn.Module): c = nn.Conv2d(2, 3, 3) with wave([3, 2, 3, 3], 0.41) and wave([3], 0.77); t = nn.Tanh()
    //     def forward(s, x): return s.t(s.c(x)).square().mean((2, 3)) @ wave([3], 0.59)
    // captum.attr.LayerGradCam(g, g.t).attribute(wave([2, 2, 5, 6], 0.29))     # captum 0.9.0
    const CAPTUM: [f64; 24] = [
        0.0588961, 0.0354377, 0.0025227, 0.0155641, 0.0455876, 0.0165579, 0.0054544, 0.0058797, -0.0395736,
        0.0588271, -0.05552, 0.0549923, -0.0271496, -0.0410737, 0.0397043, 0.0444566, 0.0347987, -0.0154354,
        -0.0315783, 0.0353862, 0.0431725, -0.0422361, 0.0351058, 0.0436398,
    ];

    #[test]
    fn maps_equal_captums() {
        let x = wave(&[2, 2, 5, 6], 0.29);
        let found = grad_cam(&|x| Ok(network(x)), &x, Sign::Both).unwrap();
        assert_eq!(found.size(), [2, 3, 4]);
        assert_elements(&found, &CAPTUM, 1e-6);
        let found = grad_cam(&|x| Ok(network(x)), &x, Sign::Positive).unwrap();
        assert_elements(&found, &CAPTUM.map(|x| x.max(0.0)), 1e-6);
    }

    #[test]
    fn of_an_average_the_map_adds_up_to_the_score() {
        // s = h . mean of A: the weights are h / (H W), so that the map's sum is the score.
        let h = wave(&[3], 0.59);
        let function = |x: &Tensor| {
            let (map, _) = network(x);
            let score = map.mean_dim([2_i64, 3].as_slice(), false, None).mv(&h);
            Ok((map, score))
        };
        let x = wave(&[2, 2, 5, 6], 0.29);
        let found =
            grad_cam(&function, &x, Sign::Both).unwrap().sum_dim_intlist([1_i64, 2].as_slice(), false, None);
        let expected = function(&x).unwrap().1;
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn a_constant_score_has_no_map() {
        let function = |x: &Tensor| {
            let (map, score) = network(x);
            Ok((map, score * 0.0 + 2.0))
        };
        let found = grad_cam(&function, &wave(&[1, 2, 5, 6], 0.29), Sign::Positive).unwrap();
        assert_elements(&found, &[0.0; 12], 1e-12);
    }

    #[test]
    fn a_larger_map_is_interpolated() {
        let map = Tensor::from_slice2(&[[0.0_f32, 1.0]]).unsqueeze(0);
        // torch.nn.functional.interpolate(..., size=(1, 4), mode="bilinear")
        assert_elements(&interpolate(&map, [1, 4]).unwrap(), &[0.0, 0.25, 0.75, 1.0], 1e-6);
        assert_eq!(
            interpolate(&map, [0, 4]).unwrap_err().to_string(),
            "height and width = 0 and 4: at least 1"
        );
    }

    #[test]
    fn rejects_a_score_that_is_not_made_from_the_map() {
        let x = wave(&[2, 2, 5, 6], 0.29);
        let elsewhere =
            |x: &Tensor| Ok((network(x).0, x.sum_dim_intlist([1_i64, 2, 3].as_slice(), false, None)));
        let error = grad_cam(&elsewhere, &x, Sign::Both).unwrap_err().to_string();
        assert_eq!(error, "scores = made from something else: a function of what is explained");
        let flat = |x: &Tensor| Ok((x.flatten(1, -1), network(x).1));
        let error = grad_cam(&flat, &x, Sign::Both).unwrap_err().to_string();
        assert_eq!(error, "map: expected [2, _, _, _], found [2, 60]");
        assert!(grad_cam(&|x| Ok(network(x)), &(&x / 0.0), Sign::Both).is_err());
    }
}
