//! Images to feature maps: an encoder's, or the colours in the cells of one.

use crate::recipe::Recipe;
use anyhow::{Result, ensure};
use selfsup::core::{Device, Kind, MapEncoder, Mode, PatchEncoder, Tensor, tch};
use selfsup::data::Image;
use selfsup::data::augment::{CropBox, Interpolation, resized_crop};
use selfsup::train::loggers::Progress;

/// Whose maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seer {
    /// The run's encoder.
    Trained,
    /// The same with the weights that its seed gives.
    Untrained,
    /// Nobody's: the colours.
    Colours,
}

impl Seer {
    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Seer::Trained => crate::evaluate::TRAINED,
            Seer::Untrained => "untrained",
            Seer::Colours => "colours",
        }
    }
}

/// Bytes that the maps of all parts of a set may take together.
const BYTES: usize = 8 << 30;
/// Of a cell so many colours a side are raw input, at most.
const COLOURS: i64 = 4;

/// Turns images into what a head sees of them.
pub struct Eye<'a> {
    encoder: &'a dyn MapEncoder,
    /// The side of a patch, of which images are multiples; 1 where there are none.
    patch: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
    device: Device,
}

impl<'a> Eye<'a> {
    /// The eye of a run's encoder, which sees colours as the run's recipe normalises them.
    ///
    /// # Errors
    /// When the recipe's mean and deviation fit no image of the encoder's channels.
    pub fn new(
        encoder: &'a dyn MapEncoder,
        patches: Option<&dyn PatchEncoder>,
        recipe: &Recipe,
        device: Device,
    ) -> Result<Self> {
        let view = recipe.plain_view();
        let channels = encoder.channels() as usize;
        // Refuses what would not fit.
        selfsup::data::augment::Normalize::new(&view.mean, &view.std, channels)?;
        let patch = patches.map_or(1, |patches| patches.patch_size() as usize);
        Ok(Eye { encoder, patch, mean: view.mean, std: view.std, device })
    }

    /// The size that images are brought to: `wanted`, or else `own`, at the nearest multiples of the patches' side.
    ///
    /// # Errors
    /// When the wanted size is no multiple.
    pub fn size(&self, wanted: Option<super::Size>, own: [usize; 2]) -> Result<[usize; 2]> {
        let patch = self.patch;
        let Some(super::Size(wanted)) = wanted else {
            return Ok(own.map(|side| ((side + patch / 2) / patch).max(1) * patch));
        };
        ensure!(
            wanted.iter().all(|side| side % patch == 0),
            "--size {}x{}: multiples of the encoder's patches of {patch} pixels",
            wanted[0],
            wanted[1]
        );
        Ok(wanted)
    }

    /// The maps of `count` images, which `image` reads, brought to one size; `total` images of all parts have theirs in memory.
    ///
    /// # Shapes
    /// `[N, D, h, w]` Float on the CPU.
    ///
    /// # Errors
    /// When an image cannot be read, the encoder refuses the size, or the maps would take too much memory.
    pub fn maps(
        &self,
        seer: Seer,
        part: &str,
        count: usize,
        total: usize,
        size: [usize; 2],
        image: impl Fn(usize) -> Result<Image>,
    ) -> Result<Tensor> {
        let mut all: Option<Tensor> = None;
        let mut progress = Progress::new(&format!("{}: {part} maps", seer.name()), count as u64, 0, 1);
        for index in 0..count {
            let map = self.map(seer, &image(index)?, size)?; // [D, h, w]
            let target = if let Some(all) = &all {
                all.shallow_clone()
            } else {
                let bytes = total.saturating_mul(map.numel() * size_of::<f32>());
                ensure!(
                    bytes <= BYTES,
                    "the maps of all {total} images, {:?} each, take {} GiB, of which there may be {}: fewer training images with --limit, \
                     or smaller maps with --size",
                    map.size(),
                    bytes >> 30,
                    BYTES >> 30
                );
                let shape = [&[count as i64], map.size().as_slice()].concat();
                let made = Tensor::f_empty(shape.as_slice(), (Kind::Float, Device::Cpu))?;
                all = Some(made.shallow_clone());
                made
            };
            target.get(index as i64).f_copy_(&map)?;
            progress.update(index as u64 + 1, "");
        }
        progress.finish();
        all.ok_or_else(|| anyhow::anyhow!("there is no {part} image"))
    }

    fn map(&self, seer: Seer, image: &Image, size: [usize; 2]) -> Result<Tensor> {
        let image = if self.encoder.channels() == 1 { image.to_grey() } else { image.to_colour() };
        let planes = resized_crop(&image, CropBox::whole(&image), size, Interpolation::Bilinear)?;
        let shape = [1, planes.channels, planes.height, planes.width].map(|side| side as i64);
        let x = Tensor::f_from_slice(&planes.values)?.f_view(shape)?; // [1, C, H, W]
        let by_channel = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]);
        let normal = (&x - by_channel(&self.mean)) / by_channel(&self.std);
        let map = tch::no_grad(|| self.encoder.map(&normal.to_device(self.device), Mode::Eval))?.0;
        let map = match seer {
            Seer::Trained | Seer::Untrained => map.to_device(Device::Cpu).to_kind(Kind::Float),
            Seer::Colours => colours(&x, [map.size()[2], map.size()[3]])?,
        };
        Ok(map.squeeze_dim(0))
    }
}

/// The colours in the cells of a map, four a side where a cell has as many pixels.
///
/// # Shapes
/// `[1, C, H, W]` to `[1, C k k, h, w]`.
fn colours(x: &Tensor, [h, w]: [i64; 2]) -> Result<Tensor> {
    let cell = (x.size()[2] / h).min(x.size()[3] / w);
    let side = cell.clamp(1, COLOURS);
    Ok(x.f_adaptive_avg_pool2d([h * side, w * side])?.f_pixel_unshuffle(side)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImageModel;

    fn recipe(encoder: &str) -> Recipe {
        let text =
            format!("encoder = {encoder}\nobjective = {{ kind = \"simclr\" }}\ndata = {{ samples = 4 }}");
        Recipe::parse(&text, &[]).unwrap()
    }

    fn image(height: usize, width: usize) -> Image {
        let pixels = (0..height * width * 3).map(|i| (i * i * 31 % 251) as u8).collect();
        Image::new(pixels, [height, width, 3]).unwrap()
    }

    #[test]
    fn maps_cover_images_of_any_size_and_colours_have_the_same_places() {
        for (encoder, patch, size) in [
            ("{ kind = \"convnet\", widths = [4, 6], strides = [2, 2] }", 1, [24, 36]),
            (
                "{ kind = \"vit\", image_size = 16, patch_size = 8, dim = 16, heads = 2, depth = 1 }",
                8,
                [24, 40],
            ),
        ] {
            let recipe = recipe(encoder);
            let model = ImageModel::on_images(&recipe, Device::Cpu).unwrap();
            let (network, patches) = (model.encoder.as_map().unwrap(), model.encoder.as_patches());
            let eye = Eye::new(network, patches, &recipe, Device::Cpu).unwrap();
            let own = eye.size(None, [24, 36]).unwrap();
            assert_eq!((own, eye.patch), (size, patch), "{encoder}");
            let found = eye.maps(Seer::Untrained, "test", 2, 2, size, |_| Ok(image(24, 36))).unwrap();
            let seen = eye.maps(Seer::Colours, "test", 2, 2, size, |_| Ok(image(24, 36))).unwrap();
            assert_eq!(found.size()[1], network.map_dim());
            assert_eq!((found.size()[2..].to_vec(), seen.size()[1]), (seen.size()[2..].to_vec(), 48));
            assert_eq!(found.get(0), found.get(1));
        }
    }

    #[test]
    fn the_colours_of_a_cell_stand_at_its_place() {
        let x = Tensor::arange(64, (Kind::Float, Device::Cpu)).reshape([1, 1, 8, 8]);
        let found = colours(&x, [2, 2]).unwrap();
        assert_eq!(found.size(), [1, 16, 2, 2]);
        let cell = Vec::<f32>::try_from(found.get(0).select(1, 1).select(1, 0)).unwrap();
        assert_eq!(cell[..5], [32.0, 33.0, 34.0, 35.0, 40.0]);
    }

    #[test]
    fn sizes_that_cut_patches_and_images_that_are_too_many_are_refused() {
        let recipe =
            recipe("{ kind = \"vit\", image_size = 16, patch_size = 8, dim = 16, heads = 2, depth = 1 }");
        let model = ImageModel::on_images(&recipe, Device::Cpu).unwrap();
        let (network, patches) = (model.encoder.as_map().unwrap(), model.encoder.as_patches());
        let eye = Eye::new(network, patches, &recipe, Device::Cpu).unwrap();
        let error = eye.size("20x16".parse().ok(), [16, 16]).unwrap_err().to_string();
        assert_eq!(error, "--size 20x16: multiples of the encoder's patches of 8 pixels");
        let error = eye.maps(Seer::Trained, "training", 2, 1 << 40, [16, 16], |_| Ok(image(16, 16)));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("GiB, of which there may be 8: fewer training images with --limit"),
            "{error}"
        );
    }
}
