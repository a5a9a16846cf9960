//! Jigsaw puzzles: in which order were the tiles of an image shuffled?
//!
//! Noroozi and Favaro 2016, *Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles*, section 3 and 4.
//! An image is a grid of 3 x 3 cells; out of each a tile is cut at a random place (64 of 75 pixels, so that neighbours are
//! 11 pixels apart on average); the tiles are put into the order of one of P permutations, which is to be told.
//!
//! Against shortcuts (section 4.2): the gap, for edges that go on; the random place within the cell, for absolute
//! position; mean and deviation of every tile taken out, for low-level statistics; the channels of a tile moved apart by
//! up to 2 pixels, for chromatic aberration. Grey images for 30 % of the samples are the views' business.
//!
//! Sizes are shares where the paper has pixels, so that images of any size fit. The permutations are chosen as in
//! algorithm 1, beginning at the identity; ties go to the one farthest from its nearest neighbour. A tile whose deviation
//! is below 0.001 is only centred, not made of noise.

use crate::permutations::far_apart;
use crate::tiles::{cut, for_channels, whole};
use selfsup_core::{
    Device, Error, Kind, LabelSpace, LabelledTiles, PretextLabeler, Result, Tensor, check_shape,
};
use serde::{Deserialize, Serialize};

/// The most permutations that are told apart, ten times the paper's. The greedy choice looks at all there are for each
/// that it adds: so many take seconds, all of 9 tiles minutes.
const MOST: i64 = 10_000;

const QUESTION: &str = "Which cells of the image, numbered row by row from 0, stand here?";

/// Settings of [`Jigsaw`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JigsawConfig {
    /// The cells along a side: 3 (section 3.1), or 2.
    pub grid: i64,
    /// The permutations that are told apart, at most all there are and 10,000; 1000 (section 3.2).
    pub permutations: i64,
    /// The side of a tile as a share of its cell's; 64 / 75 (section 3.1). What is left is gap and jitter.
    pub tile: f64,
    /// By how much the channels of a tile are moved apart at most, as a share of its side; 2 pixels of 64 (section 4.2).
    pub channel_jitter: f64,
}

impl Default for JigsawConfig {
    fn default() -> Self {
        JigsawConfig { grid: 3, permutations: 1000, tile: 64.0 / 75.0, channel_jitter: 2.0 / 64.0 }
    }
}

/// Shuffles the tiles of images.
#[derive(Debug)]
pub struct Jigsaw {
    config: JigsawConfig,
    /// `[P, grid * grid]`: at each place the cell whose tile stands there.
    permutations: Tensor,
    space: LabelSpace,
}

impl Jigsaw {
    /// Chooses the permutations.
    ///
    /// # Errors
    /// When a field cannot work.
    pub fn new(config: &JigsawConfig) -> Result<Self> {
        let JigsawConfig { grid, permutations, tile, channel_jitter } = *config;
        if !(2..=3).contains(&grid) {
            return Err(Error::config("grid", grid, "2 or 3"));
        }
        let cells = grid * grid;
        let all = (1..=cells).product::<i64>();
        if !(2..=all.min(MOST)).contains(&permutations) {
            let expected = if all <= MOST {
                format!("2 to {all}, the permutations of {cells} tiles")
            } else {
                format!("2 to {MOST}, as choosing more of the {all} permutations takes up to minutes")
            };
            return Err(Error::config("permutations", permutations, expected));
        }
        if !(tile > 0.0 && tile <= 1.0) {
            return Err(Error::config("tile", tile, "a share of the cell's side above 0 and at most 1"));
        }
        if !(0.0..=1.0).contains(&channel_jitter) {
            return Err(Error::config(
                "channel_jitter",
                channel_jitter,
                "a share of the tile's side, 0 to 1",
            ));
        }
        let chosen = far_apart(cells as usize, permutations as usize);
        let name = |order: &Vec<u8>| {
            let rows = order.chunks(grid as usize);
            rows.map(|row| row.iter().map(u8::to_string).collect::<String>()).collect::<Vec<_>>().join(" ")
        };
        let places: Vec<i64> = chosen.iter().flatten().map(|&cell| i64::from(cell)).collect();
        Ok(Jigsaw {
            config: config.clone(),
            permutations: Tensor::from_slice(&places).reshape([permutations, cells]),
            space: LabelSpace {
                question: QUESTION,
                tiles: cells,
                classes: chosen.iter().map(name).collect(),
            },
        })
    }

    /// A permutation for each of `n` images.
    fn draw(&self, n: i64, device: Device) -> Tensor {
        whole(0, self.config.permutations - 1, &[n], device)
    }

    /// The tiles of every image in the order of its permutation.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]`, `labels` `[N]`, to `[N, K, C, h, h]`.
    fn shuffle(&self, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let [n, c, h, w] = check_shape("images", images, [-1, -1, -1, -1])?;
        let grid = self.config.grid;
        let (cell_h, cell_w) = (h / grid, w / grid);
        let side = (cell_h.min(cell_w) as f64 * self.config.tile).round() as i64;
        if side < 2 {
            let least = ((1.5 / self.config.tile).ceil() as i64).max(2) * grid;
            let expected = format!("images of at least {least} pixels a side, for tiles of 2");
            return Err(Error::Shape {
                name: "images".into(),
                expected,
                found: format!("{:?}", images.size()),
            });
        }
        let jitter = (side as f64 * self.config.channel_jitter).round() as i64;
        let order = self.permutations.to_device(images.device()).index_select(0, labels); // [N, K]
        let first = |cells: &Tensor, cell: i64, whole_side: i64| {
            let margin = (whole_side - grid * cell) / 2;
            let within = whole(0, cell - side, &[n, grid * grid], images.device());
            for_channels(&(cells * cell + within + margin), c, jitter, whole_side - side) // [N, K, C]
        };
        let tops = first(&order.divide_scalar_mode(grid, "floor"), cell_h, h);
        let lefts = first(&order.remainder(grid), cell_w, w);
        Ok(cut(images, &tops, &lefts, side))
    }
}

impl PretextLabeler for Jigsaw {
    fn space(&self) -> &LabelSpace {
        &self.space
    }

    /// Images `[N, C, H, W]` to tiles `[N, K, C, h, h]`, row by row of the puzzle, a permutation for each image.
    ///
    /// # Errors
    /// When a tile would have less than 2 pixels a side.
    fn label(&self, images: &Tensor) -> Result<LabelledTiles> {
        let [n, ..] = check_shape("images", images, [-1, -1, -1, -1])?;
        let labels = self.draw(n, images.device());
        Ok(LabelledTiles { tiles: normalise(&self.shuffle(images, &labels)?), labels })
    }
}

/// Every channel of every tile with mean 0 and deviation 1.
fn normalise(tiles: &Tensor) -> Tensor {
    let mean = tiles.mean_dim([3, 4].as_slice(), true, Kind::Float);
    let std = tiles.std_dim([3, 4].as_slice(), true, true);
    (tiles - mean) / std.clamp_min(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::TensorExt;

    fn jigsaw(config: JigsawConfig) -> Jigsaw {
        Jigsaw::new(&config).unwrap()
    }

    fn images(n: i64, c: i64, side: i64) -> Tensor {
        (Tensor::arange(n * c * side * side, (Kind::Float, Device::Cpu)) * 0.7)
            .sin()
            .reshape([n, c, side, side])
    }

    #[test]
    fn without_gap_the_tiles_are_the_cells_in_the_order_that_the_label_names() {
        let config = JigsawConfig { permutations: 12, tile: 1.0, channel_jitter: 0.0, ..Default::default() };
        let jigsaw = jigsaw(config);
        let images = images(5, 2, 12);
        let found = jigsaw.label(&images).unwrap();
        assert_eq!(found.tiles.size(), [5, 9, 2, 4, 4]);
        for n in 0..5 {
            let label = found.labels.int64_value(&[n]);
            let name: String = jigsaw.space.classes[label as usize].split(' ').collect();
            for (k, cell) in name.chars().enumerate() {
                let cell = i64::from(cell.to_digit(10).unwrap());
                let expected = images.get(n).narrow(1, cell / 3 * 4, 4).narrow(2, cell % 3 * 4, 4);
                let expected = normalise(&expected.reshape([1, 1, 2, 4, 4])).reshape([2, 4, 4]);
                let tile = found.tiles.get(n).get(k as i64);
                assert!((tile - expected).abs().max().scalar().unwrap() < 1e-6);
            }
        }
    }

    #[test]
    fn tiles_keep_a_gap_that_varies_and_stay_within_their_cells() {
        // The pixels are their columns, so that a tile's least value is where it was cut.
        let columns = Tensor::arange(225, (Kind::Float, Device::Cpu)).expand([64, 1, 225, 225], false);
        let jigsaw = jigsaw(JigsawConfig { permutations: 2, channel_jitter: 0.0, ..Default::default() });
        let labels = Tensor::zeros([64], (Kind::Int64, Device::Cpu));
        let tiles = jigsaw.shuffle(&columns, &labels).unwrap();
        assert_eq!(tiles.size(), [64, 9, 1, 64, 64]);
        let left = tiles.amin([2, 3, 4].as_slice(), false).reshape([64, 3, 3]); // [64, row, column]
        let right = tiles.amax([2, 3, 4].as_slice(), false).reshape([64, 3, 3]);
        for cell in 0..3 {
            let (first, last) = (left.narrow(2, cell, 1), right.narrow(2, cell, 1));
            assert!(first.min().scalar().unwrap() >= 75.0 * cell as f64);
            assert!(last.max().scalar().unwrap() < 75.0 * (cell + 1) as f64);
        }
        let gap = left.narrow(2, 1, 2) - right.narrow(2, 0, 2) - 1.0;
        assert!(gap.min().scalar().unwrap() >= 0.0 && gap.max().scalar().unwrap() <= 22.0);
        let mean = gap.mean(None).scalar().unwrap();
        assert!((mean - 11.0).abs() < 2.0, "{mean}");
    }

    #[test]
    fn brightness_and_contrast_of_a_tile_do_not_tell_its_place() {
        let jigsaw =
            jigsaw(JigsawConfig { permutations: 4, tile: 1.0, channel_jitter: 0.0, ..Default::default() });
        let labels = Tensor::from_slice(&[0_i64, 3]);
        let plain = images(2, 3, 27);
        let bright = &plain * 3.0 + 5.0;
        let tiles = |images: &Tensor| normalise(&jigsaw.shuffle(images, &labels).unwrap());
        assert!((tiles(&plain) - tiles(&bright)).abs().max().scalar().unwrap() < 1e-4);
        let flat = tiles(&(plain * 0.0 + 0.3));
        assert!(flat.abs().max().scalar().unwrap() < 1e-3);
        // torch: t = (torch.arange(16.) * 0.7).sin().reshape(4, 4); (t - t.mean()) / t.std()
        let t =
            normalise(&(Tensor::arange(16, (Kind::Float, Device::Cpu)) * 0.7).sin().reshape([1, 1, 1, 4, 4]));
        let expected = [
            -0.139932, 0.772205, 1.25535, 1.082272, 0.334372, -0.636599, -1.373981, -1.530969, -1.033731,
            -0.116125, 0.790284, 1.259199, 1.070081, 0.311875, -0.658823, -1.385478,
        ];
        for (found, expected) in Vec::<f64>::try_from(t.flatten(0, -1)).unwrap().into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn small_images_have_tiles_and_large_ones_the_papers() {
        for (side, tile) in [(28, 8), (36, 10), (225, 64)] {
            let jigsaw = jigsaw(JigsawConfig { permutations: 3, ..Default::default() });
            assert_eq!(jigsaw.label(&images(2, 3, side)).unwrap().tiles.size(), [2, 9, 3, tile, tile]);
        }
    }

    #[test]
    fn the_seed_of_libtorch_decides() {
        let jigsaw = jigsaw(JigsawConfig { permutations: 20, ..Default::default() });
        let images = images(8, 3, 36);
        let draw = |seed| {
            selfsup_core::tch::manual_seed(seed);
            jigsaw.label(&images).unwrap()
        };
        let (a, b, other) = (draw(1), draw(1), draw(2));
        assert!(a.tiles == b.tiles && a.labels == b.labels);
        assert!(a.labels != other.labels);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let refused = |config: JigsawConfig| Jigsaw::new(&config).unwrap_err().to_string();
        assert_eq!(refused(JigsawConfig { grid: 4, ..Default::default() }), "grid = 4: 2 or 3");
        assert_eq!(
            refused(JigsawConfig { grid: 2, ..Default::default() }),
            "permutations = 1000: 2 to 24, the permutations of 4 tiles"
        );
        assert_eq!(
            refused(JigsawConfig { permutations: 10_001, ..Default::default() }),
            "permutations = 10001: 2 to 10000, as choosing more of the 362880 permutations takes up to minutes"
        );
        assert_eq!(
            refused(JigsawConfig { permutations: 362_881, ..Default::default() }),
            "permutations = 362881: 2 to 10000, as choosing more of the 362880 permutations takes up to minutes"
        );
        assert!(refused(JigsawConfig { tile: 1.5, ..Default::default() }).starts_with("tile = 1.5: a share"));
        assert!(refused(JigsawConfig { tile: f64::NAN, ..Default::default() }).starts_with("tile = NaN"));
        assert!(
            refused(JigsawConfig { channel_jitter: -1.0, ..Default::default() })
                .starts_with("channel_jitter = -1: a share")
        );
        let jigsaw = jigsaw(JigsawConfig { permutations: 2, ..Default::default() });
        let error = jigsaw.label(&images(1, 1, 5)).unwrap_err().to_string();
        assert_eq!(
            error,
            "images: expected images of at least 6 pixels a side, for tiles of 2, found [1, 1, 5, 5]"
        );
    }
}
