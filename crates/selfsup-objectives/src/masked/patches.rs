//! Images as patches, row by row, and patches as images: what the methods that predict pixels share.
//!
//! A patch is the vector of its pixels, row by row, the channels of a pixel together (He et al. 2022, the
//! authors' `patchify`): value `(r * p + c) * C + k` is channel `k` of the pixel in row `r` and column `c`.

use selfsup_core::{
    Error, Kind, PictureScale, PictureSet, Pictures, Result, Tensor, check_kind, check_shape,
};

/// Cuts images into square patches with a side of `patch` pixels.
///
/// # Shapes
/// `[N, C, H, W]` to `[N, T, p p C]`, `T = (H / p)(W / p)`, row by row.
///
/// # Errors
/// [`Error::Shape`] when a side is no multiple of `patch`, [`Error::Config`] when `patch` is not positive.
pub fn patchify(images: &Tensor, patch: i64) -> Result<Tensor> {
    let [n, c, _, _] = check_shape("images", images, [-1, -1, -1, -1])?;
    let [rows, columns] = grid(images, patch)?;
    let cut = images.reshape([n, c, rows, patch, columns, patch]);
    Ok(cut.permute([0, 2, 4, 3, 5, 1]).reshape([n, rows * columns, patch * patch * c]))
}

/// Puts patches together again: the inverse of [`patchify`] for a grid of `[rows, columns]`.
///
/// # Shapes
/// `[N, T, p p C]` with `T = rows columns` to `[N, C, rows p, columns p]`.
///
/// # Errors
/// [`Error::Shape`] when there are other patches than the grid has, or a patch is not made of `p p` pixels.
pub fn unpatchify(patches: &Tensor, patch: i64, [rows, columns]: [i64; 2]) -> Result<Tensor> {
    let [n, _, values] = check_shape("patches", patches, [-1, rows * columns, -1])?;
    let pixels = patch * patch;
    if patch < 1 || values % pixels != 0 {
        return Err(Error::Shape {
            name: "patches".to_owned(),
            expected: format!("patches of {patch} x {patch} pixels"),
            found: format!("{values} values a patch"),
        });
    }
    let c = values / pixels;
    let pieces = patches.reshape([n, rows, columns, patch, patch, c]);
    Ok(pieces.permute([0, 5, 1, 3, 2, 4]).reshape([n, c, rows * patch, columns * patch]))
}

/// The rows and columns of the patches of images `[N, C, H, W]`.
pub(crate) fn grid(images: &Tensor, patch: i64) -> Result<[i64; 2]> {
    let [_, _, height, width] = check_shape("images", images, [-1, -1, -1, -1])?;
    if patch < 1 {
        return Err(Error::config("patch", patch, "a side of at least 1 pixel"));
    }
    if height % patch != 0 || width % patch != 0 {
        return Err(Error::Shape {
            name: "images".to_owned(),
            expected: format!("sides that are multiples of the patch's {patch} pixels"),
            found: format!("{height} x {width}"),
        });
    }
    Ok([height / patch, width / patch])
}

/// What a network makes of images of which it saw a part, to be looked at. Values are on the scale of the
/// views, that is, after the recipe's mean and standard deviation; everything else that the loss did to them
/// is undone.
#[derive(Debug)]
pub struct MaskedReconstruction {
    /// The images, `[N, C, H, W]`.
    pub input: Tensor,
    /// Which pixels were hidden, `[N, 1, H, W]` Bool.
    pub mask: Tensor,
    /// What the network says of all pixels, `[N, C, H, W]`; its loss is on the hidden ones alone.
    pub prediction: Tensor,
}

impl From<MaskedReconstruction> for Pictures {
    fn from(found: MaskedReconstruction) -> Self {
        let MaskedReconstruction { input, mask, prediction } = found;
        let seen = input.masked_fill(&mask, 0.0);
        let painted = prediction.where_self(&mask, &input);
        let columns =
            vec![("the image", input), ("what is seen of it", seen), ("with the rest painted", painted)];
        PictureSet { name: "".into(), scale: PictureScale::Views, columns }.into()
    }
}

impl MaskedReconstruction {
    /// From patches `[N, T, p p C]` and the mask of the patches `[N, T]`.
    pub(crate) fn new(input: &Tensor, mask: &Tensor, prediction: &Tensor, patch: i64) -> Result<Self> {
        let grid = grid(input, patch)?;
        check_kind("mask", mask, Kind::Bool)?;
        let pixels = mask.unsqueeze(-1).expand([-1, -1, patch * patch], false); // [N, T, p p]
        Ok(MaskedReconstruction {
            input: input.shallow_clone(),
            mask: unpatchify(&pixels, patch, grid)?,
            prediction: unpatchify(prediction, patch, grid)?,
        })
    }

    /// The images with the hidden part as the network says, `[N, C, H, W]`.
    pub fn filled(&self) -> Tensor {
        self.prediction.where_self(&self.mask, &self.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masked::reference::wave;
    use selfsup_core::Device;

    #[test]
    fn a_patch_holds_its_pixels_row_by_row() {
        let images = wave(0.0, &[2, 3, 4, 6]);
        let patches = patchify(&images, 2).unwrap();
        assert_eq!(patches.size(), [2, 6, 12]);
        for (n, row, column, r, c, k) in [(0, 0, 0, 0, 0, 0), (1, 1, 2, 0, 1, 2), (1, 0, 1, 1, 0, 1)] {
            let found = patches.double_value(&[n, row * 3 + column, (r * 2 + c) * 3 + k]);
            assert_eq!(found, images.double_value(&[n, k, row * 2 + r, column * 2 + c]));
        }
    }

    // import torch; from lightly.models.utils import patchify
    // x = (torch.arange(2*3*4*4) * 0.7).sin().reshape(2, 3, 4, 4); print(patchify(x, 2)[1, 2])
    #[test]
    fn patches_are_lightlys() {
        let expected = [
            0.997557_f32,
            0.134110,
            -0.943107,
            0.807975,
            0.740972,
            -0.507132,
            -0.916522,
            0.205598,
            0.999996,
            -0.958672,
            -0.473203,
            0.766547,
        ];
        let found = patchify(&wave(0.0, &[2, 3, 4, 4]), 2).unwrap().get(1).get(2);
        assert!(f64::try_from((found - Tensor::from_slice(&expected)).abs().max()).unwrap() < 1e-5);
    }

    #[test]
    fn images_come_back_from_their_patches_square_or_not() {
        for (height, width) in [(8, 8), (4, 12), (12, 4)] {
            let images = wave(1.0, &[2, 3, height, width]);
            let patches = patchify(&images, 4).unwrap();
            assert_eq!(unpatchify(&patches, 4, [height / 4, width / 4]).unwrap(), images);
        }
    }

    #[test]
    fn a_reconstruction_is_filled_where_it_was_hidden() {
        let (input, prediction) = (wave(0.0, &[1, 2, 4, 8]), wave(5.0, &[1, 8, 8]));
        let mask = Tensor::arange(8, (Kind::Int64, Device::Cpu)).eq(6).unsqueeze(0);
        let picture = MaskedReconstruction::new(&input, &mask, &prediction, 2).unwrap();
        assert_eq!(picture.mask.size(), [1, 1, 4, 8]);
        assert_eq!(i64::try_from(picture.mask.sum(Kind::Int64)).unwrap(), 4);
        let filled = picture.filled();
        assert_eq!(
            filled.narrow(2, 2, 2).narrow(3, 4, 2),
            picture.prediction.narrow(2, 2, 2).narrow(3, 4, 2)
        );
        assert_eq!(filled.narrow(2, 0, 2), input.narrow(2, 0, 2));
    }

    #[test]
    fn refuses_sides_and_patches_that_do_not_fit() {
        let error = |result: Result<Tensor>| result.unwrap_err().to_string();
        let images = wave(0.0, &[1, 1, 6, 8]);
        assert_eq!(
            error(patchify(&images, 4)),
            "images: expected sides that are multiples of the patch's 4 pixels, found 6 x 8"
        );
        assert_eq!(error(patchify(&images, 0)), "patch = 0: a side of at least 1 pixel");
        let patches = patchify(&images, 2).unwrap();
        assert_eq!(error(unpatchify(&patches, 2, [2, 4])), "patches: expected [_, 8, _], found [1, 12, 4]");
        assert_eq!(
            error(unpatchify(&patches, 4, [3, 4])),
            "patches: expected patches of 4 x 4 pixels, found 4 values a patch"
        );
    }
}
