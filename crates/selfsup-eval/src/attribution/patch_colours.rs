//! Patches that are alike to an encoder, in one colour: the principal components of the features of all patches of some images,
//! as DINOv2 shows them (Oquab et al. 2024, figure 1).
//!
//! The first component splits the patches at its mean into foreground and background. Then the first three components of the
//! foreground's patches are red, green and blue, each from its least to its greatest value; the background is black. DINOv2's
//! authors pick by hand the side and the threshold that look right. Here the foreground is the side that holds the smaller share
//! of the patches on the images' borders, so that the same features always give the same colours.

use super::score::check_inputs;
use selfsup_core::{Error, Kind, Result, Tensor, check_shape};
use selfsup_numerics::Pca;

/// Images in the colours of their patches.
#[derive(Debug)]
pub struct PatchColours {
    /// Red, green and blue from 0 to 1, `[N, 3, H', W']`; black outside the foreground.
    pub colours: Tensor,
    /// Whether a patch is of the foreground, `[N, H', W']` Bool.
    pub foreground: Tensor,
    /// The share of the foreground's variance that the three components hold.
    pub explained: f64,
}

/// Colours the patches of images that belong together.
///
/// # Shapes
/// Features of patches `[N, D, H', W']` Float.
///
/// # Errors
/// When the features are not finite, or there are fewer than two patches.
pub fn patch_colours(features: &Tensor) -> Result<PatchColours> {
    check_inputs("patch features", features)?;
    let [n, d, height, width] = check_shape("patch features", features, [-1, -1, -1, -1])?;
    if n * height * width < 2 {
        return Err(Error::config(
            "patch features",
            format!("{:?}", features.size()),
            "at least two patches",
        ));
    }
    let rows = features.detach().permute([0, 2, 3, 1]).reshape([-1, d]); // [N H' W', D]
    let first = Pca::fit(&rows, 1)?.transform(&rows)?.view([n, height, width]);
    let foreground = foreground(&first)?;
    let chosen = foreground.view([-1]).nonzero().squeeze_dim(1);
    let of_foreground = rows.index_select(0, &chosen); // [P, D]
    let components = d.min(3).min(of_foreground.size()[0]);
    let pca = Pca::fit(&of_foreground, components)?;
    let found = pca.transform(&of_foreground)?; // [P, K]
    let (least, most) = (found.amin([0_i64].as_slice(), true), found.amax([0_i64].as_slice(), true));
    let range = &most - &least;
    // A component that does not vary is grey, and so is one that there is not.
    let scaled =
        ((found - least) / range.clamp_min(1e-12)).where_self(&range.gt(1e-12), &Tensor::from(0.5_f32));
    let options = (Kind::Float, features.device());
    let colours = Tensor::zeros([n * height * width, 3], options);
    let painted = Tensor::full([chosen.size()[0], 3], 0.5, options);
    painted.narrow(1, 0, components).copy_(&scaled);
    let colours = colours.index_copy(0, &chosen, &painted);
    Ok(PatchColours {
        colours: colours.view([n, height, width, 3]).permute([0, 3, 1, 2]).contiguous(),
        foreground,
        explained: f64::try_from(pca.explained_variance_ratio.sum(Kind::Double))?,
    })
}

/// The side of the first component that is less at the borders; all patches where one side is empty.
fn foreground(first: &Tensor) -> Result<Tensor> {
    let [_, height, width] = check_shape("first component", first, [-1, -1, -1])?;
    let above = first.gt(0.0);
    let inside = Tensor::zeros([height, width], (Kind::Bool, first.device()));
    if height > 2 && width > 2 {
        let _ = inside.narrow(0, 1, height - 2).narrow(1, 1, width - 2).fill_(1);
    }
    let border = inside.logical_not();
    let share = |side: &Tensor| -> Result<f64> {
        let all = f64::try_from(side.sum(Kind::Double))?;
        Ok(f64::try_from(side.logical_and(&border).sum(Kind::Double))? / all)
    };
    let below = above.logical_not();
    let (of_above, of_below) = (share(&above)?, share(&below)?);
    Ok(if of_above.is_nan() || of_below.is_nan() {
        above.ones_like()
    } else if of_above <= of_below {
        above
    } else {
        below
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::wave;
    use selfsup_core::{Device, TensorExt};

    /// Two images of 6 x 6 patches with a square of 2 x 2 patches in the middle whose features are far from the others', and
    /// differ among themselves in three more directions.
    fn planted() -> Tensor {
        let x = wave(&[2, 5, 6, 6], 0.31) * 0.01;
        let square = x.narrow(2, 2, 2).narrow(3, 2, 2);
        let _ = square.select(1, 0).g_add_scalar_(10.0);
        let _ = square.narrow(1, 1, 3).g_add_(&wave(&[2, 3, 2, 2], 0.7));
        x
    }

    #[test]
    fn the_square_in_the_middle_is_the_foreground_and_has_the_colours() {
        for sign in [1.0, -1.0] {
            let found = patch_colours(&(planted() * sign)).unwrap();
            let expected = Tensor::zeros([2, 6, 6], (Kind::Bool, Device::Cpu));
            let _ = expected.narrow(1, 2, 2).narrow(2, 2, 2).fill_(1);
            assert_eq!(found.foreground, expected);
            let black = found.colours.sum_dim_intlist(1, false, None).eq(0.0);
            let outside = black.logical_and(&expected.logical_not()).sum(Kind::Int64);
            assert_eq!(i64::try_from(outside).unwrap(), 2 * (36 - 4));
            assert!(found.explained > 0.99 && found.explained <= 1.0 + 1e-6, "{}", found.explained);
            let inside = found.colours.narrow(2, 2, 2).narrow(3, 2, 2);
            assert!((inside.max() - 1.0).abs().scalar().unwrap() < 1e-6);
        }
    }

    #[test]
    fn the_colours_are_the_components_of_the_foreground() {
        let x = planted();
        let found = patch_colours(&x).unwrap();
        let rows = x.narrow(2, 2, 2).narrow(3, 2, 2).permute([0, 2, 3, 1]).reshape([8, 5]);
        let components = Pca::fit(&rows, 3).unwrap().transform(&rows).unwrap();
        let (least, most) =
            (components.amin([0_i64].as_slice(), true), components.amax([0_i64].as_slice(), true));
        let expected = (components - &least) / (most - &least);
        let found = found.colours.narrow(2, 2, 2).narrow(3, 2, 2).permute([0, 2, 3, 1]).reshape([8, 3]);
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn features_that_do_not_vary_are_grey() {
        let found = patch_colours(&(wave(&[1, 4, 3, 3], 0.1) * 0.0 + 2.0)).unwrap();
        assert!(bool::try_from(found.foreground.all()).unwrap());
        assert!(bool::try_from(found.colours.eq(0.5).all()).unwrap());
        let one_direction = patch_colours(&wave(&[1, 1, 4, 4], 0.1)).unwrap();
        assert!(bool::try_from(one_direction.colours.isfinite().all()).unwrap());
    }

    #[test]
    fn rejects_what_has_no_patches_to_compare() {
        let error = patch_colours(&wave(&[1, 4, 1, 1], 0.1)).unwrap_err().to_string();
        assert_eq!(error, "patch features = [1, 4, 1, 1]: at least two patches");
        assert!(patch_colours(&(planted() / 0.0)).unwrap_err().to_string().contains("not finite"));
        assert!(patch_colours(&wave(&[4, 4], 0.1)).is_err());
    }
}
