//! What of an input an encoder's answer hangs on. Everything here is asked of a function from inputs to one score each: the
//! [`Similarity`](similarity::Similarity) of the features to a reference where there are no labels, the score of a class where
//! a probe has learned some.
//! - `score`: the functions that are asked, and their gradients
//! - `similarity`: a score without labels
//! - `integrated_gradients`, `grad_cam`, `occlusion`: how much each place of an input adds to the score
//! - `attention_rollout`: where a Transformer's tokens come from, through all its blocks
//! - `patch_colours`: what patches are alike to the encoder
//! - `sanity`: whether a map shows what was learned, or only the image
//! - `rank_correlation`, `ssim`: how alike two maps are
//! - `columns`: the same for rows of tables

pub mod attention_rollout;
pub mod columns;
pub mod grad_cam;
pub mod integrated_gradients;
pub mod occlusion;
pub mod patch_colours;
pub mod rank_correlation;
pub mod sanity;
pub mod score;
pub mod similarity;
pub mod ssim;

#[cfg(test)]
mod fixtures {
    use selfsup_core::{Device, Kind, Tensor};

    /// sin(step i^1.5) in 64 bits, then Float.
    pub fn wave(shape: &[i64], step: f64) -> Tensor {
        let i = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (i.pow_tensor_scalar(1.5) * step).sin().to_kind(Kind::Float).reshape(shape)
    }

    /// Whether a tensor's elements, in its order, are these.
    pub fn assert_elements(found: &Tensor, expected: &[f64], tolerance: f64) {
        let found = Vec::<f64>::try_from(found.detach().to_kind(Kind::Double).reshape([-1])).unwrap();
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < tolerance, "element {i}: {found}, expected {expected}");
        }
    }

    /// The network of the captum snippets: a 3 x 3 convolution from 2 to 3 channels and tanh; the score is a weighted sum of
    /// the channels' mean squares. Returns the map and the score.
    pub fn network(x: &Tensor) -> (Tensor, Tensor) {
        let (weight, bias) = (wave(&[3, 2, 3, 3], 0.41), wave(&[3], 0.77));
        let map = x.conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 1).tanh();
        let score = map.square().mean_dim([2_i64, 3].as_slice(), false, None).mv(&wave(&[3], 0.59));
        (map, score)
    }
}
