//! Multi-crop (Caron et al. 2020, *Unsupervised Learning of Visual Features by Contrasting Cluster Assignments*,
//! section 3.2): views of several sizes of the same images, through one encoder.

use selfsup_core::{Encoder, Error, Mode, Result, Tensor, check_shape};

/// Checks the views `[N, C, H, W]`, which may differ in `H` and `W`, and returns the number of images.
pub(crate) fn check_crops(views: &[Tensor], method: &str) -> Result<i64> {
    let [first, _, ..] = views else {
        let expected = format!("at least two views an image for {method}");
        return Err(Error::config("views", views.len(), expected));
    };
    let [n, channels, _, _] = check_shape("view 0", first, [-1, -1, -1, -1])?;
    for (i, view) in views.iter().enumerate() {
        check_shape(&format!("view {i}"), view, [n, channels, -1, -1])?;
    }
    Ok(n)
}

/// Encodes V views of N images to `[V N, D]`, view by view. Neighbours of one size pass as one batch, so that BatchNorm
/// sees them together and those of another size apart, as in the authors' code.
pub(crate) fn encode_crops<E: Encoder + ?Sized>(encoder: &E, views: &[Tensor], mode: Mode) -> Result<Tensor> {
    let alike = |a: &Tensor, b: &Tensor| a.size() == b.size();
    let features: Vec<Tensor> = views
        .chunk_by(alike)
        .map(|views| encoder.encode(&Tensor::cat(views, 0), mode))
        .collect::<Result<_>>()?;
    Ok(Tensor::cat(&features, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{Pixels, waves};
    use selfsup_core::{Device, Site, nn};

    #[test]
    fn features_come_view_by_view() {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
        let views = [[3_i64, 1, 4, 4], [3, 1, 4, 4], [3, 1, 2, 2], [3, 1, 4, 4]].map(|s| waves(&s, 0.1));
        let features = encode_crops(&encoder, &views, Mode::Train).unwrap();
        assert_eq!(features.size(), [12, 4]);
        for (v, view) in views.iter().enumerate() {
            let alone = encoder.encode(view, Mode::Train).unwrap();
            assert!(features.narrow(0, 3 * v as i64, 3).allclose(&alone, 0.0, 1e-6, false));
        }
    }

    #[test]
    fn rejects_one_view_and_views_of_other_images() {
        let view = waves(&[3, 1, 2, 2], 0.0);
        let error = check_crops(&[view.shallow_clone()], "SwAV").unwrap_err().to_string();
        assert_eq!(error, "views = 1: at least two views an image for SwAV");
        let other = waves(&[3, 2, 2, 2], 0.0);
        let error = check_crops(&[view.shallow_clone(), view, other], "SwAV").unwrap_err().to_string();
        assert_eq!(error, "view 2: expected [3, 1, _, _], found [3, 2, 2, 2]");
    }
}
