//! A map at several sizes: what its places see, and what they are to say.

use super::BoxedMaps;
use crate::{BoxKind, TrueBox};
use rand::seq::SliceRandom;
use selfsup_core::{Key, Kind, Result, Tensor};
use selfsup_numerics::Pca;

/// Within so many cells of a box's middle a place belongs to it.
const RADIUS: f64 = 1.5;
/// A box belongs to the level at which its longer side is this to twice this many cells.
const SIDE: f64 = 2.0;

/// How many levels a map of `h` x `w` cells has: two cells at least a side.
pub(super) fn levels(h: i64, w: i64, most: usize) -> usize {
    let fits = |level: &usize| h.min(w) >> level >= 2;
    1 + (1..most).take_while(fits).count()
}

/// What a place is to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) class: usize,
    /// To the left, upper, right and lower edge, in cells of the level.
    pub(super) distances: [f64; 4],
}

impl Target {
    pub(super) fn centre(&self) -> f64 {
        let [l, t, r, b] = self.distances.map(|distance| distance.max(0.0));
        let even = |a: f64, b: f64| if a.max(b) > 0.0 { a.min(b) / a.max(b) } else { 0.0 };
        (even(l, r) * even(t, b)).sqrt()
    }
}

/// What is known of a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known {
    Box(Target),
    Background,
    /// It lies in a box that does not count, of which nothing is known.
    Neither,
}

pub(super) struct Targets {
    pub(super) of_places: Vec<Known>,
    pub(super) boxes: usize,
}

/// A map at several sizes, and what is seen of a place.
pub(super) struct Pyramid {
    pub(super) projection: Projection,
    pub(super) levels: usize,
}

impl Pyramid {
    /// The rows and columns of a level.
    pub(super) fn grid(set: &BoxedMaps, level: usize) -> [i64; 2] {
        let side = 1 << level;
        [set.maps.size()[2], set.maps.size()[3]].map(|cells| (cells + side - 1) / side)
    }

    /// What the places of a level are to say.
    pub(super) fn targets(&self, set: &BoxedMaps, image: usize, level: usize) -> Targets {
        let [rows, columns] = Self::grid(set, level);
        let [cell_height, cell_width] = set.cell(image);
        let side = f64::from(1 << level);
        let mut of_places = vec![Known::Background; (rows * columns) as usize];
        let mut areas = vec![f64::INFINITY; of_places.len()];
        let mut boxes = 0;
        for TrueBox { rectangle, class, kind } in &set.boxes[image] {
            let counted = *kind == BoxKind::Counted;
            // In cells of the level.
            let [x0, x1] = [rectangle.x0, rectangle.x1].map(|x| x / cell_width / side);
            let [y0, y1] = [rectangle.y0, rectangle.y1].map(|y| y / cell_height / side);
            if counted && self.level_of((x1 - x0).max(y1 - y0) * side) != level {
                continue;
            }
            boxes += usize::from(counted);
            let (middle_x, middle_y) = (0.5 * (x0 + x1), 0.5 * (y0 + y1));
            let nearest = |middle: f64, cells: i64| (middle.floor() as i64).clamp(0, cells - 1);
            let only = (nearest(middle_y, rows), nearest(middle_x, columns));
            for row in 0..rows {
                for column in 0..columns {
                    let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
                    let inside = x > x0 && x < x1 && y > y0 && y < y1;
                    let near = (x - middle_x).abs() <= RADIUS && (y - middle_y).abs() <= RADIUS;
                    // A box between the places still has one.
                    let own = (row, column) == only;
                    let at = (row * columns + column) as usize;
                    let area = (x1 - x0) * (y1 - y0);
                    if !counted {
                        if inside && of_places[at] == Known::Background {
                            of_places[at] = Known::Neither;
                        }
                    } else if ((inside && near) || own) && area < areas[at] {
                        areas[at] = area;
                        let distances = [x - x0, y - y0, x1 - x, y1 - y];
                        of_places[at] = Known::Box(Target { class: *class, distances });
                    }
                }
            }
        }
        Targets { of_places, boxes }
    }

    /// The level of a box whose longer side has so many cells of the map.
    pub(super) fn level_of(&self, cells: f64) -> usize {
        let level = (cells / SIDE).max(1.0).log2().floor();
        (level as usize).min(self.levels - 1)
    }

    /// The 3 x 3 cells around every place of a level; what lies outside the image is the mean. `[h w, F]`
    pub(super) fn neighbourhoods(&self, set: &BoxedMaps, image: usize, level: usize) -> Result<Tensor> {
        let map = self.projection.apply(&set.maps.narrow(0, image as i64, 1)); // [1, D, h, w]
        let side = 1 << level;
        let map = if level == 0 {
            map
        } else {
            map.f_avg_pool2d([side, side], [side, side], [0, 0], true, false, None)?
        };
        let around = map.f_im2col([3, 3], [1, 1], [1, 1], [1, 1])?; // [1, 9 D, h w]
        Ok(around.squeeze_dim(0).tr().contiguous())
    }
}

/// Maps to standardised channels, or to their first principal components.
pub(super) struct Projection {
    /// `[1, D, 1, 1]`
    pub(super) mean: Tensor,
    pub(super) scale: Tensor,
    /// `[K, D, 1, 1]`
    pub(super) components: Option<Tensor>,
}

impl Projection {
    pub(super) fn of(maps: &Tensor, components: i64, key: Key) -> Result<Projection> {
        /// Places that decide the components.
        const PLACES: usize = 50_000;
        let d = maps.size()[1];
        let mean = maps.mean_dim([0, 2, 3].as_slice(), true, Kind::Float);
        let scale = maps.std_dim([0, 2, 3].as_slice(), false, true);
        let scale = scale.where_self(&scale.gt(1e-6), &scale.ones_like());
        let mut projection = Projection { mean, scale, components: None };
        if d > components {
            let places = maps.size()[2] * maps.size()[3];
            let images = ((PLACES as i64 / places).max(1) as usize).min(maps.size()[0] as usize);
            let mut order: Vec<i64> = (0..maps.size()[0]).collect();
            order.shuffle(&mut key.rng());
            order.truncate(images);
            order.sort_unstable();
            let some = projection.apply(&maps.index_select(0, &Tensor::from_slice(&order)));
            let rows = some.permute([0, 2, 3, 1]).reshape([-1, d]);
            let components = components.min(rows.size()[0]);
            let found = Pca::fit(&rows, components)?;
            projection.components = Some(found.components.unsqueeze(-1).unsqueeze(-1));
        }
        Ok(projection)
    }

    /// `[N, D, h, w]` to `[N, K, h, w]`.
    pub(super) fn apply(&self, maps: &Tensor) -> Tensor {
        let maps = (maps - &self.mean) / &self.scale;
        match &self.components {
            Some(components) => maps.conv2d(components, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1),
            None => maps,
        }
    }
}
