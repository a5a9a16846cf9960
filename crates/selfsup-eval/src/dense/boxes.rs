//! Boxes in an image, and how far two overlap.
//!
//! ```text
//! IoU = |A and B| / |A or B|             against a crowd, |A and B| / |A|
//! ```

use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A box from its upper left to its lower right corner, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rectangle {
    /// The left edge.
    pub x0: f64,
    /// The upper edge.
    pub y0: f64,
    /// The right edge.
    pub x1: f64,
    /// The lower edge.
    pub y1: f64,
}

impl Rectangle {
    /// The area; 0 of an empty box.
    pub fn area(&self) -> f64 {
        (self.x1 - self.x0).max(0.0) * (self.y1 - self.y0).max(0.0)
    }

    /// The intersection over the union; 0 of empty boxes.
    pub fn iou(&self, other: &Rectangle) -> f64 {
        let both = self.intersection(other);
        ratio(both, self.area() + other.area() - both)
    }

    /// The area of what both cover.
    pub fn intersection(&self, other: &Rectangle) -> f64 {
        let common = Rectangle {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        };
        common.area()
    }

    /// An error unless the corners are numbers in this order.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let Rectangle { x0, y0, x1, y1 } = *self;
        let finite = [x0, y0, x1, y1].iter().all(|v| v.is_finite());
        if !finite || x1 < x0 || y1 < y0 {
            let found = format!("{x0}, {y0} to {x1}, {y1}");
            return Err(Error::config(name, found, "an upper left before a lower right corner, in pixels"));
        }
        Ok(())
    }
}

pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rectangle(x0: f64, y0: f64, x1: f64, y1: f64) -> Rectangle {
        Rectangle { x0, y0, x1, y1 }
    }

    #[test]
    fn overlap_is_the_formulas() {
        let a = rectangle(0.0, 0.0, 4.0, 2.0);
        for (b, iou) in [
            (a, 1.0),
            (rectangle(2.0, 0.0, 6.0, 2.0), 1.0 / 3.0),
            (rectangle(4.0, 0.0, 6.0, 2.0), 0.0),
            (rectangle(1.0, 0.5, 2.0, 1.5), 1.0 / 8.0),
            (rectangle(9.0, 9.0, 9.0, 9.0), 0.0),
        ] {
            assert!((a.iou(&b) - iou).abs() < 1e-12 && (b.iou(&a) - iou).abs() < 1e-12, "{b:?}");
        }
        let empty = rectangle(1.0, 1.0, 1.0, 1.0);
        assert_eq!(empty.iou(&empty), 0.0);
    }

    #[test]
    fn rejects_corners_in_another_order() {
        let error = rectangle(3.0, 0.0, 1.0, 2.0).check("truth").unwrap_err().to_string();
        assert_eq!(error, "truth = 3, 0 to 1, 2: an upper left before a lower right corner, in pixels");
        assert!(rectangle(f64::NAN, 0.0, 1.0, 2.0).check("truth").is_err());
    }
}
