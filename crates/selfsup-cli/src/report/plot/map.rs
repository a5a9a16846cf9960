//! Samples on a plane, in the colours of their classes.

use super::super::Map;
use super::text::{self, Place, write_text};
use super::{Area, Figure, palette, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::{Circle, PathElement};
use plotters::style::{Color, RGBColor, ShapeStyle};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 780;
/// Room between the outermost samples and the border.
const ROOM: f64 = 16.0;
/// A row of the key.
const ROW: u32 = 48;
/// Classes in a row of the key.
const COLUMNS: usize = 3;
/// More classes than this cannot be told apart; the key is left out.
const MOST: usize = 3 * palette::CLASSES.len();

/// How a class is drawn: ten colours, first as dots, then as rings, then as crosses, and so on in turn.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The colour.
    pub tone: palette::Tone,
    /// The shape.
    pub shape: Shape,
}

/// The shape of a mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A full circle.
    Dot,
    /// An empty circle.
    Ring,
    /// Two short lines.
    Cross,
}

impl Mark {
    /// The mark of a class.
    pub fn of(class: usize) -> Self {
        let shape = [Shape::Dot, Shape::Ring, Shape::Cross][class / palette::CLASSES.len() % 3];
        Mark { tone: palette::CLASSES[class % palette::CLASSES.len()], shape }
    }

    /// Whether so many classes can be told apart.
    pub fn tell_apart(classes: usize) -> bool {
        classes <= MOST
    }

    /// Draws it at a place.
    ///
    /// # Errors
    /// What the backend refuses.
    pub fn draw<B: DrawingBackend>(self, area: &Area<B>, (x, y): (i32, i32), radius: i32) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let RGBColor(red, green, blue) = self.tone.light;
        let colour = RGBColor(red, green, blue).mix(0.8);
        let line = ShapeStyle { color: colour, filled: false, stroke_width: 2 };
        match self.shape {
            Shape::Dot => area.draw(&Circle::new((x, y), radius, colour.filled())),
            Shape::Ring => area.draw(&Circle::new((x, y), radius, line)),
            Shape::Cross => area
                .draw(&PathElement::new(vec![(x - radius, y - radius), (x + radius, y + radius)], line))
                .and_then(|()| {
                    area.draw(&PathElement::new(
                        vec![(x - radius, y + radius), (x + radius, y - radius)],
                        line,
                    ))
                }),
        }
        .map_err(refused)
    }
}

/// A [`Map`] with the classes of its samples; samples without labels all look alike.
pub struct MapPlot<'a> {
    /// Where the samples lie.
    pub map: &'a Map,
    /// The class of each, or nothing.
    pub labels: &'a [usize],
    /// The classes' names.
    pub classes: &'a [String],
}

impl MapPlot<'_> {
    fn has_key(&self) -> bool {
        !self.labels.is_empty() && Mark::tell_apart(self.classes.len())
    }
}

impl Figure for MapPlot<'_> {
    fn title(&self) -> String {
        self.map.name.clone()
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let place = fit(&self.map.points);
        let radius = match self.map.points.len() {
            0..=300 => 9,
            301..=1000 => 7,
            1001..=4000 => 5,
            _ => 3,
        };
        for (index, point) in self.map.points.iter().enumerate() {
            if point.iter().all(|x| x.is_finite()) {
                let plain = Mark { tone: palette::ACCENT, shape: Shape::Dot };
                let mark = self.labels.get(index).map_or(plain, |&class| Mark::of(class));
                mark.draw(area, place(*point), radius)?;
            }
        }
        Ok(())
    }

    fn key_height(&self) -> u32 {
        if self.has_key() { ROW * self.classes.len().div_ceil(COLUMNS) as u32 + ROW / 2 } else { 0 }
    }

    fn draw_key<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        if !self.has_key() {
            return Ok(());
        }
        let column = WIDTH as usize / COLUMNS;
        for (class, name) in self.classes.iter().enumerate() {
            let x = (class % COLUMNS * column) as i32;
            let y = (class / COLUMNS) as i32 * ROW as i32 + ROW as i32;
            Mark::of(class).draw(area, (x + 12, y), 10)?;
            let name = text::fitting(name, text::SMALL, column as u32 - 56);
            write_text(area, &name, Place::new(x + 36, y), text::SMALL, palette::INK.light)?;
        }
        Ok(())
    }
}

/// Where points lie in the figure: in its middle, as large as there is room, a distance the same length both ways.
fn fit(points: &[[f32; 2]]) -> impl Fn([f32; 2]) -> (i32, i32) {
    let span = |axis: usize| {
        let finite = points.iter().filter(|point| point.iter().all(|x| x.is_finite()));
        let values = finite.map(|point| f64::from(point[axis]));
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if low <= high { (f64::midpoint(low, high), high - low) } else { (0.0, 0.0) }
    };
    let ((x_middle, width), (y_middle, height)) = (span(0), span(1));
    let (wide, tall) = (f64::from(WIDTH), f64::from(HEIGHT));
    let across = (wide - 2.0 * ROOM) / width;
    let along = (tall - 2.0 * ROOM) / height;
    let scale = if width + height > 0.0 { across.min(along) } else { 1.0 };
    move |point| {
        let x = wide / 2.0 + (f64::from(point[0]) - x_middle) * scale;
        let y = tall / 2.0 - (f64::from(point[1]) - y_middle) * scale;
        (x.round() as i32, y.round() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_points_lie_inside_and_keep_their_proportions() {
        let points = [[-1e6, 0.0], [1e6, 10.0], [0.0, 1e5], [f32::NAN, 1e30]];
        let place = fit(&points);
        let at: Vec<(i32, i32)> = points[..3].iter().map(|&point| place(point)).collect();
        assert!(at.iter().all(|&(x, y)| (0..WIDTH as i32).contains(&x) && (0..HEIGHT as i32).contains(&y)));
        let (wide, tall) = (f64::from(at[1].0 - at[0].0), f64::from(at[0].1 - at[2].1));
        assert!((wide / tall - 20.0).abs() < 0.5, "{wide} x {tall}");
    }

    #[test]
    fn points_that_are_all_the_same_lie_in_the_middle() {
        assert_eq!(fit(&[[3.0, 4.0]; 5])([3.0, 4.0]), (WIDTH as i32 / 2, HEIGHT as i32 / 2));
        assert_eq!(fit(&[])([0.0, 0.0]), (WIDTH as i32 / 2, HEIGHT as i32 / 2));
    }

    #[test]
    fn thirty_classes_have_marks_of_their_own() {
        let marks: std::collections::HashSet<String> =
            (0..MOST).map(|class| format!("{:?}", Mark::of(class))).collect();
        assert_eq!(marks.len(), MOST);
    }
}
