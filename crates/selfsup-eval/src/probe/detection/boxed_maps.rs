//! Feature maps with boxes, checked.

use crate::probe::maps::checked_maps;
use crate::{Rectangle, TrueBox};
use selfsup_core::{Error, Result, Tensor, check_shape};

/// Feature maps with the boxes of their images.
#[derive(Debug)]
pub struct BoxedMaps {
    /// `[N, D, h, w]` Float.
    pub(super) maps: Tensor,
    pub(super) boxes: Vec<Vec<TrueBox>>,
    /// The height and width of every image in pixels.
    pub(super) sizes: Vec<[f64; 2]>,
    pub(super) classes: usize,
}

impl BoxedMaps {
    /// Checks and holds maps and boxes. `sizes` are the heights and widths of the images in the unit of the boxes; a map covers its
    /// image whole.
    ///
    /// # Shapes
    /// `maps` `[N, D, h, w]`; a list of boxes and a size for each.
    ///
    /// # Errors
    /// When the shapes do not fit or are empty, a feature is not finite, an image has no size, a box no area or not inside its
    /// image, or a class is not in `0..classes`.
    pub fn new(
        maps: &Tensor,
        boxes: Vec<Vec<TrueBox>>,
        sizes: Vec<[f64; 2]>,
        classes: usize,
    ) -> Result<BoxedMaps> {
        let [n, ..] = check_shape("maps", maps, [-1, -1, -1, -1])?;
        for (name, found) in [("boxes", boxes.len()), ("sizes", sizes.len())] {
            if found as i64 != n {
                return Err(Error::config(name, found, format!("{n}, one for each map")));
            }
        }
        for (i, (of_image, [height, width])) in boxes.iter().zip(&sizes).enumerate() {
            if ![height, width].iter().all(|side| **side > 0.0 && side.is_finite()) {
                let found = format!("{height} x {width}");
                return Err(Error::config(
                    format!("size of image {i}"),
                    found,
                    "a height and a width above 0",
                ));
            }
            for TrueBox { rectangle, class, .. } in of_image {
                rectangle.check(&format!("a box of image {i}"))?;
                let Rectangle { x0, y0, x1, y1 } = rectangle;
                let inside = *x0 >= 0.0 && *y0 >= 0.0 && x1 <= width && y1 <= height;
                if !inside || rectangle.area() <= 0.0 {
                    let found = format!("{x0}, {y0} to {x1}, {y1}");
                    let expected = format!("a box with an area, inside {width} x {height}");
                    return Err(Error::config(format!("a box of image {i}"), found, expected));
                }
                if *class >= classes {
                    return Err(Error::config(
                        format!("class of image {i}"),
                        class,
                        format!("in 0..{classes}"),
                    ));
                }
            }
        }
        let maps = checked_maps(maps)?;
        Ok(BoxedMaps { maps, boxes, sizes, classes })
    }

    pub(super) fn len(&self) -> i64 {
        self.maps.size()[0]
    }

    /// The sides of a cell of the map in pixels of the image: height, width.
    pub(super) fn cell(&self, image: usize) -> [f64; 2] {
        let [height, width] = self.sizes[image];
        [height / self.maps.size()[2] as f64, width / self.maps.size()[3] as f64]
    }
}
