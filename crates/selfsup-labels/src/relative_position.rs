//! Relative position: where does a second tile of an image lie from the first? Of the eight neighbours it is one.
//!
//! Doersch, Gupta and Efros 2015, *Unsupervised Visual Representation Learning by Context Prediction*, section 3. Out of
//! an image two tiles are cut, the second at one of the eight places around the first.
//!
//! Against shortcuts (sections 3.1 and 3.2): a gap of half a tile, for edges that go on; each tile moved by up to 7 of 96
//! pixels, for lines that line up; two of three channels replaced by noise of a hundredth of the third's deviation, or
//! the green-magenta axis projected out, for chromatic aberration; some tiles made coarse to as little as 100 pixels and
//! enlarged again, for the pixel grid.
//!
//! Sizes are shares where the paper has pixels, so that images of any size fit. The first tile is drawn from all places
//! around which all eight neighbours fit, so that its own place does not tell the answer. Subtracting the mean is the
//! views' normalisation. The paper does not say how many tiles are made coarse; within a batch all of them are equally
//! coarse.

use crate::tiles::{cut, for_channels, whole};
use selfsup_core::{
    Device, Error, Kind, LabelSpace, LabelledTiles, PretextLabeler, Result, Tensor, check_shape,
};
use serde::{Deserialize, Serialize};

/// What is done with colour, so that a lens does not tell where in the image a tile was. Grey tiles have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// One channel of a tile stays, and noise stands in place of the others ("color dropping", section 3.2).
    Drop,
    /// What separates green from magenta is projected out ("projection", section 3.2). Meant for channels of one scale.
    Project,
    /// Nothing.
    Keep,
}

/// Settings of [`RelativePosition`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelativePositionConfig {
    /// The side of a tile as a share of the image's smaller side; 0.2, about what 96 pixels are of the paper's images of
    /// 150,000 to 450,000.
    pub tile: f64,
    /// The gap between neighbours as a share of a tile's side; 0.5 (48 of 96 pixels, section 3.2).
    pub gap: f64,
    /// By how much a tile is moved at most, as a share of its side; 7 of 96 pixels (section 3.2).
    pub jitter: f64,
    /// What is done with colour.
    pub colour: Colour,
    /// The share of tiles that are made coarse; the paper says "some".
    pub coarse: f64,
    /// The pairs that are cut out of an image.
    pub pairs: i64,
}

impl Default for RelativePositionConfig {
    fn default() -> Self {
        RelativePositionConfig {
            tile: 0.2,
            gap: 0.5,
            jitter: 7.0 / 96.0,
            colour: Colour::Drop,
            coarse: 0.3,
            pairs: 1,
        }
    }
}

const QUESTION: &str = "Where does the second tile lie, seen from the first?";

/// The least side of a tile that was made coarse: 100 pixels (section 3.2).
const COARSEST: i64 = 10;

/// Cuts pairs of neighbouring tiles out of images.
#[derive(Debug)]
pub struct RelativePosition {
    config: RelativePositionConfig,
    space: LabelSpace,
}

impl RelativePosition {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When a field cannot work, or a tile with its eight neighbours is larger than any image.
    pub fn new(config: &RelativePositionConfig) -> Result<Self> {
        let RelativePositionConfig { tile, gap, jitter, coarse, pairs, .. } = *config;
        if !(tile > 0.0 && tile < 1.0) {
            return Err(Error::config("tile", tile, "a share of the image's side between 0 and 1"));
        }
        for (field, value) in [("gap", gap), ("jitter", jitter)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(field, value, "a share of the tile's side, 0 to 1"));
            }
        }
        let span = tile * (3.0 + 2.0 * gap + 2.0 * jitter);
        // Rounding to pixels may take off a little.
        if span > 1.05 {
            let expected = format!(
                "tiles whose eight neighbours fit an image; with gap and jitter they span {span:.2} of it"
            );
            return Err(Error::config("tile", tile, expected));
        }
        if !(0.0..=1.0).contains(&coarse) {
            return Err(Error::config("coarse", coarse, "a share of the tiles, 0 to 1"));
        }
        if pairs < 1 {
            return Err(Error::config("pairs", pairs, "at least 1"));
        }
        let classes =
            ["above left", "above", "above right", "left", "right", "below left", "below", "below right"];
        let space = LabelSpace { question: QUESTION, tiles: 2, classes: classes.map(str::to_owned).to_vec() };
        Ok(RelativePosition { config: config.clone(), space })
    }

    /// The pairs that the labels name.
    ///
    /// # Shapes
    /// Images `[M, C, H, W]`, `labels` `[M]`, to `[M, 2, C, h, h]`.
    fn pairs(&self, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let [m, c, h, w] = check_shape("images", images, [-1, -1, -1, -1])?;
        let share = |of: i64, share: f64| (of as f64 * share).round() as i64;
        let side = share(h.min(w), self.config.tile);
        let (gap, jitter) = (share(side, self.config.gap), share(side, self.config.jitter));
        let span = 3 * side + 2 * gap + 2 * jitter;
        if side < 2 || span > h.min(w) {
            let expected = format!(
                "images in which 3 tiles of {} pixels with gaps of {gap} and jitter of {jitter} fit",
                side.max(2)
            );
            return Err(Error::Shape {
                name: "images".into(),
                expected,
                found: format!("{:?}", images.size()),
            });
        }
        let cell = labels + labels.ge(4).to_kind(Kind::Int64); // of 3 x 3, row by row, the middle left out
        let device = images.device();
        let places = |toward: &Tensor, length: i64| {
            let first = whole(side + gap + jitter, length - 2 * side - gap - jitter, &[m], device);
            let second = &first + (toward - 1) * (side + gap);
            let places = Tensor::stack(&[first, second], 1) + whole(-jitter, jitter, &[m, 2], device);
            for_channels(&places, c, 0, length - side) // [M, 2, C]
        };
        let tops = places(&cell.divide_scalar_mode(3, "floor"), h);
        let lefts = places(&cell.remainder(3), w);
        Ok(cut(images, &tops, &lefts, side))
    }
}

impl PretextLabeler for RelativePosition {
    fn space(&self) -> &LabelSpace {
        &self.space
    }

    /// Images `[N, C, H, W]` to tiles `[N * pairs, 2, C, h, h]`, the one in the middle first.
    ///
    /// # Errors
    /// When a tile with its neighbours does not fit the images.
    fn label(&self, images: &Tensor) -> Result<LabelledTiles> {
        let [n, ..] = check_shape("images", images, [-1, -1, -1, -1])?;
        let m = n * self.config.pairs;
        let images = images.repeat_interleave_self_int(self.config.pairs, 0, m); // [M, C, H, W]
        let labels = whole(0, 7, &[m], images.device());
        let tiles = self.pairs(&images, &labels)?;
        let tiles = without_aberration(&tiles, self.config.colour);
        Ok(LabelledTiles { tiles: coarsened(&tiles, self.config.coarse), labels })
    }
}

/// Tiles `[M, K, C, h, w]` whose colour tells nothing of the lens.
fn without_aberration(tiles: &Tensor, colour: Colour) -> Tensor {
    let size = tiles.size();
    let (m, k, c, device) = (size[0], size[1], size[2], tiles.device());
    if c != 3 {
        return tiles.shallow_clone();
    }
    match colour {
        Colour::Keep => tiles.shallow_clone(),
        Colour::Drop => {
            let kept = whole(0, 2, &[m, k, 1], device);
            let std = tiles.std_dim([3, 4].as_slice(), true, false).gather(2, &kept, false); // [M, K, 1]
            let noise = tiles.randn_like() * (std * 0.01).unsqueeze(-1).unsqueeze(-1);
            let is_kept = kept.eq_tensor(&Tensor::arange(3, (Kind::Int64, device))); // [M, K, 3]
            tiles.where_self(&is_kept.unsqueeze(-1).unsqueeze(-1), &noise)
        }
        Colour::Project => {
            let axis = Tensor::from_slice(&[-1.0_f32, 2.0, -1.0]).to_device(device); // a
            let projection = Tensor::eye(3, (Kind::Float, device)) - axis.outer(&axis) / 6.0; // I - a'a / (a a')
            projection.matmul(&tiles.flatten(3, 4)).reshape(&size)
        }
    }
}

/// Tiles `[M, K, C, h, h]`, a share of them shrunk and enlarged again.
fn coarsened(tiles: &Tensor, share: f64) -> Tensor {
    let size = tiles.size();
    let side = size[4];
    if share == 0.0 || side <= COARSEST {
        return tiles.shallow_clone();
    }
    let drawn = whole(COARSEST, side - 1, &[1], Device::Cpu).int64_value(&[0]);
    let small = tiles.flatten(0, 1).adaptive_avg_pool2d([drawn, drawn]);
    let coarse = small.upsample_bilinear2d([side, side], false, None, None).reshape(&size);
    let which = Tensor::rand([size[0], size[1], 1, 1, 1], (Kind::Float, tiles.device())).lt(share);
    coarse.where_self(&which, tiles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::TensorExt;

    fn plain() -> RelativePositionConfig {
        RelativePositionConfig { colour: Colour::Keep, coarse: 0.0, ..Default::default() }
    }

    /// Pixels that are their place: row in channel 0, column in channel 1.
    fn places(n: i64, h: i64, w: i64) -> Tensor {
        let rows = Tensor::arange(h, (Kind::Float, Device::Cpu)).reshape([h, 1]).expand([h, w], false);
        let columns = Tensor::arange(w, (Kind::Float, Device::Cpu)).expand([h, w], false);
        Tensor::stack(&[rows, columns], 0).unsqueeze(0).repeat([n, 1, 1, 1])
    }

    #[test]
    fn the_second_tile_lies_where_the_label_says_with_gap_and_jitter() {
        let labeler = RelativePosition::new(&RelativePositionConfig { pairs: 3, ..plain() }).unwrap();
        let found = labeler.label(&places(200, 224, 300)).unwrap();
        // 0.2 of 224 is 45, half of it 23, 7/96 of it 3.
        assert_eq!(found.tiles.size(), [600, 2, 2, 45, 45]);
        let start = found.tiles.select(3, 0).select(3, 0); // [600, 2, 2]
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for m in 0..600 {
            let label = found.labels.int64_value(&[m]);
            let name = &labeler.space.classes[label as usize];
            let away =
                |axis: i64| (start.double_value(&[m, 1, axis]) - start.double_value(&[m, 0, axis])) as i64;
            let down = i64::from(name.contains("below")) - i64::from(name.contains("above"));
            let right = i64::from(name.contains("right")) - i64::from(name.contains("left"));
            for error in [away(0) - down * 68, away(1) - right * 68] {
                assert!(error.abs() <= 6, "{name}: {error}");
                (least, most) = (least.min(error), most.max(error));
            }
        }
        assert!(least < -3 && most > 3, "no jitter: {least} to {most}");
        let counts = Vec::<i64>::try_from(found.labels.bincount::<Tensor>(None, 8)).unwrap();
        assert!(counts.len() == 8 && counts.iter().all(|count| *count > 40), "{counts:?}");
    }

    #[test]
    fn the_place_of_the_first_tile_does_not_tell_the_label() {
        let labeler = RelativePosition::new(&plain()).unwrap();
        let images = places(4000, 40, 40);
        let found = labeler.label(&images).unwrap();
        let first = found.tiles.select(1, 0).select(2, 0).select(2, 0); // [4000, 2]
        let mean = first.mean_dim(0, false, Kind::Float);
        for label in 0..8 {
            let of = first.index_select(0, &found.labels.eq(label).nonzero().flatten(0, 1));
            let off = (of.mean_dim(0, false, Kind::Float) - &mean).abs().max().scalar().unwrap();
            assert!(off < 0.5, "class {label}: {off}");
        }
    }

    #[test]
    fn one_channel_stays_and_the_others_are_faint_noise() {
        let tiles = (Tensor::arange(20 * 2 * 3 * 64, (Kind::Float, Device::Cpu)) * 0.7)
            .sin()
            .reshape([20, 2, 3, 8, 8]);
        let found = without_aberration(&tiles, Colour::Drop);
        let same = found.eq_tensor(&tiles).flatten(3, 4).all_dim(3, false).to_kind(Kind::Int64); // [20, 2, 3]
        let kept = Vec::<i64>::try_from(same.sum_dim_intlist(2, false, None).flatten(0, 1)).unwrap();
        assert!(kept.iter().all(|kept| *kept == 1), "{kept:?}");
        assert!(
            Vec::<i64>::try_from(same.sum_dim_intlist([0, 1].as_slice(), false, None))
                .unwrap()
                .iter()
                .all(|n| *n > 3)
        );
        let ratio =
            found.std_dim([3, 4].as_slice(), true, false) / tiles.std_dim([3, 4].as_slice(), true, false);
        let faint = ratio.masked_select(&same.eq(0));
        assert!((faint.mean(None).scalar().unwrap() - 0.01).abs() < 0.001);
        let grey = tiles.narrow(2, 0, 1);
        assert_eq!(without_aberration(&grey, Colour::Drop), grey);
    }

    #[test]
    fn projection_takes_out_green_against_magenta_and_leaves_grey() {
        // numpy: a = np.array([[-1, 2, -1]]); (np.eye(3) - a.T @ a / (a @ a.T)) @ np.array([0.2, 0.9, 0.4])
        let tiles = Tensor::from_slice(&[0.2_f32, 0.9, 0.4]).reshape([1, 1, 3, 1, 1]);
        let found = without_aberration(&tiles, Colour::Project).flatten(0, -1);
        let expected = Tensor::from_slice(&[0.4_f32, 0.5, 0.6]);
        assert!((found - expected).abs().max().scalar().unwrap() < 1e-5);
        let grey = Tensor::ones([1, 1, 3, 2, 2], (Kind::Float, Device::Cpu)) * 0.7;
        let off = without_aberration(&grey, Colour::Project) - &grey;
        assert!(off.abs().max().scalar().unwrap() < 1e-6);
    }

    #[test]
    fn coarse_tiles_lose_detail_but_not_their_mean() {
        let tiles = (Tensor::arange(40 * 2 * 32 * 32, (Kind::Float, Device::Cpu)) * 2.0)
            .sin()
            .reshape([40, 2, 1, 32, 32]);
        let found = coarsened(&tiles, 0.5);
        let same = found.eq_tensor(&tiles).flatten(2, 4).all_dim(2, false).to_kind(Kind::Float);
        let share = same.mean(None).scalar().unwrap();
        assert!((0.25..0.75).contains(&share), "{share}");
        let variance = |x: &Tensor| x.var(true).scalar().unwrap();
        assert!(variance(&found) < 0.95 * variance(&tiles));
        let small = tiles.narrow(3, 0, 10).narrow(4, 0, 10);
        assert_eq!(coarsened(&small, 1.0), small);
    }

    #[test]
    fn the_seed_of_libtorch_decides() {
        let labeler = RelativePosition::new(&RelativePositionConfig::default()).unwrap();
        let images =
            (Tensor::arange(4 * 3 * 80 * 80, (Kind::Float, Device::Cpu)) * 0.7).sin().reshape([4, 3, 80, 80]);
        let draw = |seed| {
            selfsup_core::tch::manual_seed(seed);
            labeler.label(&images).unwrap()
        };
        let (a, b, other) = (draw(1), draw(1), draw(2));
        assert!(a.tiles == b.tiles && a.labels == b.labels);
        assert!(a.tiles != other.tiles);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let refused =
            |config: RelativePositionConfig| RelativePosition::new(&config).unwrap_err().to_string();
        assert_eq!(
            refused(RelativePositionConfig { tile: 0.4, ..plain() }),
            "tile = 0.4: tiles whose eight neighbours fit an image; with gap and jitter they span 1.66 of it"
        );
        assert!(refused(RelativePositionConfig { tile: 0.0, ..plain() }).starts_with("tile = 0: a share"));
        assert!(refused(RelativePositionConfig { gap: -1.0, ..plain() }).starts_with("gap = -1: a share"));
        assert!(refused(RelativePositionConfig { jitter: f64::NAN, ..plain() }).starts_with("jitter = NaN"));
        assert!(
            refused(RelativePositionConfig { coarse: 2.0, ..plain() }).starts_with("coarse = 2: a share")
        );
        assert_eq!(refused(RelativePositionConfig { pairs: 0, ..plain() }), "pairs = 0: at least 1");
        let labeler = RelativePosition::new(&plain()).unwrap();
        let error = labeler.label(&places(1, 6, 6)).unwrap_err().to_string();
        assert_eq!(
            error,
            "images: expected images in which 3 tiles of 2 pixels with gaps of 1 and jitter of 0 fit, found [1, 2, 6, 6]"
        );
    }
}
