//! What the tests of this family share: an encoder of patches small enough for a loop in Python, and a comparison.

use selfsup_core::layers::{Bias, Linear};
use selfsup_core::transformer::gather_tokens;
use selfsup_core::{
    Encoder, Error, Kind, MapEncoder, Mode, PatchEncoder, Result, Tensor, TokenEncoder, check_shape, nn,
};

/// A linear layer on patches of 2 x 2 pixels; the class token is the mean `m` of their embeddings, and a patch's token
/// its embedding plus m / 2, so that a hidden patch can be told from the others.
#[derive(Debug)]
pub(crate) struct Patches(Linear);

impl Patches {
    pub(crate) fn new(path: nn::Path) -> Self {
        Patches(Linear::new(path, 4, 4, Bias::No))
    }

    fn embed(&self, x: &Tensor) -> Result<Tensor> {
        check_shape("images", x, [-1, 1, -1, -1])?;
        Ok(self.0.forward(&x.pixel_unshuffle(2).flatten(2, 3).transpose(1, 2))) // [N, T, 4]
    }

    fn mix(embedded: &Tensor) -> Tensor {
        let mean = embedded.mean_dim([1_i64].as_slice(), true, None); // [N, 1, 4]
        Tensor::cat(&[&mean, &(embedded + &mean / 2.0)], 1)
    }
}

impl Encoder for Patches {
    fn dim(&self) -> i64 {
        4
    }

    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.pool(&self.tokens(x, None, mode)?))
    }
}

impl TokenEncoder for Patches {
    fn tokens(&self, x: &Tensor, keep: Option<&Tensor>, _mode: Mode) -> Result<Tensor> {
        let embedded = self.embed(x)?;
        Ok(Self::mix(&keep.map_or_else(|| embedded.shallow_clone(), |keep| gather_tokens(&embedded, keep))))
    }
}

impl MapEncoder for Patches {
    fn channels(&self) -> i64 {
        1
    }

    fn map_dim(&self) -> i64 {
        4
    }

    fn map(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let (rows, tokens) = (x.size()[2] / 2, self.tokens(x, None, mode)?);
        let map = tokens.narrow(1, 1, tokens.size()[1] - 1).transpose(1, 2).unflatten(2, [rows, -1]);
        Ok((map, self.pool(&tokens)))
    }
}

impl PatchEncoder for Patches {
    fn patch_size(&self) -> i64 {
        2
    }

    fn tokens_masked(&self, x: &Tensor, mask: &Tensor, token: &Tensor, _mode: Mode) -> Result<Tensor> {
        let embedded = self.embed(x)?;
        Ok(Self::mix(&embedded.where_self(&mask.logical_not().unsqueeze(-1), token)))
    }

    fn pool(&self, tokens: &Tensor) -> Tensor {
        tokens.select(1, 0)
    }

    fn each_attention(&self, _x: &Tensor, _see: &mut dyn FnMut(Tensor)) -> Result<()> {
        Err(Error::Other("a linear layer looks nowhere".to_owned()))
    }
}

/// Whether the elements of a tensor, in its order, are these, to 1e-5 of the largest.
pub(crate) fn assert_near(found: &Tensor, expected: &[f64]) {
    let found: Vec<f64> = Vec::try_from(found.detach().to_kind(Kind::Double).reshape([-1])).unwrap();
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-5 * scale, "element {i}: {found} where {expected} is right");
    }
}

/// A mask of `views` views of 2 x 2 patches, some of which hide nothing.
pub(crate) fn hidden(views: i64) -> Tensor {
    let mask: Vec<bool> = (0..views).flat_map(|i| (0..4).map(move |t| (i * 3 + t * 2) % 5 < 2)).collect();
    Tensor::from_slice(&mask).view([views, 4])
}
