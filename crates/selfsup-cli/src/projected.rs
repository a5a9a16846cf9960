//! An encoder with the first layers of a projector on it: what SimCLRv2 fine-tunes.
//!
//! Chen et al. 2020 (2), section 2: the classifier does not lie on the features, but on what the first layer of the projector
//! makes of them, with its norm and ReLU. As an encoder of its own it goes wherever encoders go: every method of fine-tuning
//! learns it, and `selfsup label`, `embed` and `export` take it.

use crate::network::{ImageNetwork, NetworkConfig};
use crate::recipe::inside;
use selfsup::core::{
    Encoder, Error, HeadNorm, MapEncoder, MlpHead, MlpHeadConfig, Mode, PatchEncoder, PixelEncoder, Result,
    Tensor, nn,
};
use serde::{Deserialize, Serialize};

/// Settings of [`Projected`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectedConfig {
    /// The sizes of the projector's layers.
    pub hidden: Vec<i64>,
    /// The norm of each, before its ReLU.
    pub norm: HeadNorm,
    /// The encoder below.
    pub network: Box<NetworkConfig>,
}

/// An encoder and layers of a projector.
#[derive(Debug)]
pub struct Projected {
    network: Box<dyn ImageNetwork>,
    layers: MlpHead,
    dim: i64,
}

impl Projected {
    /// Under which path below the encoder's the layers stand, with the names of the projector that they are of.
    pub const LAYERS: &'static str = "projector";

    /// Makes the encoder's parameters under `path`, and those of the layers below it.
    ///
    /// # Errors
    /// When there is no layer, or a field of the encoder cannot work.
    pub fn new(path: &nn::Path, config: &ProjectedConfig) -> Result<Self> {
        let Some((&dim, below)) = config.hidden.split_last() else {
            return Err(Error::config("hidden", "[]", "at least one layer"));
        };
        let network = config.network.network(path.clone()).map_err(|e| inside(e, "network"))?;
        let shape = MlpHeadConfig {
            hidden: below.to_vec(),
            output: dim,
            hidden_norm: config.norm,
            output_norm: config.norm,
        };
        let layers = MlpHead::new(path / Self::LAYERS, network.dim(), &shape)?;
        Ok(Projected { network, layers, dim })
    }
}

impl Encoder for Projected {
    fn dim(&self) -> i64 {
        self.dim
    }

    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.layers.forward(&self.network.encode(x, mode)?, mode)?.relu())
    }

    fn intermediate(&self, x: &Tensor, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut all = self.network.intermediate(x, mode)?;
        if let Some((name, features)) = all.last_mut() {
            "network".clone_into(name);
            let projected = self.layers.forward(features, mode)?.relu();
            all.push(("features".to_owned(), projected));
        }
        Ok(all)
    }
}

impl ImageNetwork for Projected {
    fn as_map(&self) -> Option<&(dyn MapEncoder + 'static)> {
        self.network.as_map()
    }

    fn as_patches(&self) -> Option<&(dyn PatchEncoder + 'static)> {
        self.network.as_patches()
    }

    fn as_pixels(&self) -> Option<&(dyn PixelEncoder + 'static)> {
        self.network.as_pixels()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::{Device, Kind, Site, tch};
    use selfsup::objectives::{SimClrV2, SimClrV2Classifier, SimClrV2Config};

    fn network() -> NetworkConfig {
        toml::from_str("kind = \"convnet\"\nwidths = [4, 6]\nstrides = [1, 2]\nchannels_in = 1").unwrap()
    }

    fn projected(hidden: &[i64]) -> NetworkConfig {
        let (hidden, network) = (hidden.to_vec(), Box::new(network()));
        NetworkConfig::Projected(ProjectedConfig { hidden, norm: HeadNorm::BatchNorm, network })
    }

    #[test]
    fn is_the_middle_of_simclrv2s_network_by_the_same_names() {
        let store = nn::VarStore::new(Device::Cpu);
        let below = network();
        let encoder = below.image_encoder(store.root() / "encoder").unwrap();
        let site = below.site(&store, encoder.as_ref(), 10);
        let projector = MlpHeadConfig { hidden: vec![5, 7], ..MlpHeadConfig::projector(5, 3) };
        let pretrained = SimClrV2::new(&site, &SimClrV2Config { temperature: 0.5, projector }).unwrap();
        drop(site);
        let images = (Tensor::arange(6 * 64, (Kind::Float, Device::Cpu)) * 0.3).sin().reshape([6, 1, 8, 8]);
        // Statistics of BatchNorm that are not those of the start.
        let _ = pretrained.middle(encoder.as_ref(), &images, 2, Mode::Train).unwrap();
        for (layers, hidden) in [(1, &[5][..]), (2, &[5, 7])] {
            let own = nn::VarStore::new(Device::Cpu);
            let middle = projected(hidden).image_encoder(own.root() / "encoder").unwrap();
            let v = store.variables();
            tch::no_grad(|| {
                for (name, x) in own.variables() {
                    let name = name.replace("encoder.projector.", "objective.projector.");
                    x.shallow_clone().copy_(&v[&name]);
                }
            });
            for mode in [Mode::Eval, Mode::Train] {
                let expected = pretrained.middle(encoder.as_ref(), &images, layers, mode).unwrap();
                let found = middle.encode(&images, mode).unwrap();
                assert!(found.allclose(&expected, 1e-5, 1e-5, false), "{layers}, {mode:?}");
            }
            assert_eq!(middle.dim(), *hidden.last().unwrap());
            let layers_seen = middle.intermediate(&images, Mode::Eval).unwrap();
            assert_eq!(layers_seen.last().unwrap().1, middle.encode(&images, Mode::Eval).unwrap());
            let classifier =
                SimClrV2Classifier::new(store.root() / "classifier" / layers, &pretrained, layers, 3);
            assert!(classifier.is_ok());
        }
    }

    #[test]
    fn a_recipe_holds_it_and_says_what_cannot_work() {
        let config = projected(&[5]);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<NetworkConfig>(&text).unwrap(), config);
        let NetworkConfig::Projected(coloured) = config.for_images(3).unwrap() else { panic!("{config:?}") };
        assert_eq!(*coloured.network, network().for_images(3).unwrap());
        let store = nn::VarStore::new(Device::Cpu);
        let error = projected(&[]).image_encoder(store.root() / "encoder").unwrap_err().to_string();
        assert_eq!(error, "encoder.hidden = []: at least one layer");
        let site_of = projected(&[5]);
        let encoder = site_of.image_encoder(store.root() / Site::<dyn ImageNetwork>::ENCODER).unwrap();
        assert!(encoder.as_map().is_some() && encoder.as_patches().is_none());
    }
}
