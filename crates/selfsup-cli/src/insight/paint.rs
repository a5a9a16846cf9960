//! Maps and pixels as pictures.

use anyhow::{Context, Result};
use image::RgbImage;
use selfsup::core::{Device, Kind, Tensor};

/// Each map as shares of its own brightest place, `[N, H, W]` to the same; what is below zero is 0.
pub fn shares_of_brightest(maps: &Tensor) -> Tensor {
    let most = maps.flatten(1, 2).amax([1_i64].as_slice(), true).unsqueeze(-1).clamp_min(1e-12);
    (maps / most).clamp_min(0.0)
}

/// Each map from 0 at its darkest place to 1 at its brightest, `[N, H, W]` to the same; one that is the same everywhere is 0.
pub fn shares_of_range(maps: &Tensor) -> Tensor {
    let places = [1_i64, 2];
    shares_of_brightest(&(maps - maps.amin(places.as_slice(), true)))
}

/// From black over violet and orange to near white: shares of the brightest, `[N, H, W]` to pixels `[N, 3, H, W]`. How
/// light a colour is rises evenly, so that the map is right without colours too.
pub fn glow(x: &Tensor) -> Tensor {
    const STOPS: [[f64; 3]; 5] =
        [[0.0, 0.0, 0.02], [0.32, 0.07, 0.48], [0.72, 0.22, 0.47], [0.99, 0.54, 0.38], [0.99, 0.99, 0.75]];
    let place = x.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let channel = |channel: usize| {
        let mut sum = place.zeros_like();
        for (i, stop) in STOPS.iter().enumerate() {
            let nearness: Tensor = 1.0 - (&place - i as f64).abs();
            sum += nearness.clamp_min(0.0) * stop[channel];
        }
        sum
    };
    Tensor::stack(&[channel(0), channel(1), channel(2)], 1)
}

/// `[C, H, W]` from 0 to 1 as a picture.
///
/// # Errors
/// When the channels are neither 1 nor 3.
pub fn pixels_to_picture(x: &Tensor) -> Result<RgbImage> {
    let x = x.to_device(Device::Cpu).nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0);
    let size = x.size();
    let bytes = (x.expand([3, size[1], size[2]], false) * 255.0).round().to_kind(Kind::Uint8);
    let bytes = Vec::<u8>::try_from(bytes.permute([1, 2, 0]).contiguous().view(-1))?;
    RgbImage::from_raw(size[2] as u32, size[1] as u32, bytes).context("an image's pixels do not fill it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brighter_is_lighter() {
        let x = Tensor::linspace(0.0, 1.0, 101, (Kind::Float, Device::Cpu)).view([1, 1, 101]);
        let weights = Tensor::from_slice(&[0.299_f32, 0.587, 0.114]).view([1, 3, 1, 1]);
        let lightness = (glow(&x) * weights).sum_dim_intlist(1, false, Kind::Float).view(-1);
        let steps = lightness.diff::<Tensor>(1, 0, None, None);
        assert!(steps.min().double_value(&[]) > 0.0);
        assert!(lightness.double_value(&[0]) < 0.01 && lightness.double_value(&[100]) > 0.95);
    }

    #[test]
    fn the_brightest_place_of_each_map_is_one() {
        let maps = Tensor::from_slice(&[1.0_f32, 4.0, -2.0, 0.0, 0.0, 0.0]).view([2, 1, 3]);
        let found = Vec::<f32>::try_from(shares_of_brightest(&maps).view(-1)).unwrap();
        assert_eq!(found, [0.25, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let found = Vec::<f32>::try_from(shares_of_range(&maps).view(-1)).unwrap();
        assert_eq!(found, [0.5, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
