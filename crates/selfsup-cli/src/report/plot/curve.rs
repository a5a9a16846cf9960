//! A measure over the steps of a training.

use super::super::Curve;
use super::axis::{Axis, Zero};
use super::text::{self, Place, write_text};
use super::{Area, Figure, palette, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::PathElement;
use plotters::style::Color;

const WIDTH: u32 = 920;
const HEIGHT: u32 = 480;
/// The frame of the curve: left, right, below.
const LEFT: i32 = 130;
const RIGHT: i32 = WIDTH as i32 - 30;
const BOTTOM: i32 = HEIGHT as i32 - 92;

/// The line of a [`Curve`], with the value that it is compared with dashed.
pub struct CurvePlot<'a>(pub &'a Curve);

impl CurvePlot<'_> {
    /// The points that can be drawn, in unbroken pieces.
    fn pieces(&self) -> Vec<Vec<[f64; 2]>> {
        let whole = |point: &[f64; 2]| point.iter().all(|x| x.is_finite());
        let pieces = self.0.points.split(|point| !whole(point));
        pieces.filter(|piece| !piece.is_empty()).map(<[[f64; 2]]>::to_vec).collect()
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.pieces().is_empty()
    }

    fn reference(&self) -> Option<&(String, f64)> {
        self.0.reference.as_ref().filter(|(_, value)| value.is_finite())
    }
}

impl Figure for CurvePlot<'_> {
    fn title(&self) -> String {
        self.0.name.clone()
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let pieces = self.pieces();
        let along = Axis::around(pieces.iter().flatten().map(|point| point[0]), Zero::Free);
        let values = pieces.iter().flatten().map(|point| point[1]);
        let up = Axis::around(values.chain(self.reference().map(|(_, value)| *value)), Zero::IfNear);
        // Above the frame there is room for what the dashed line is.
        let top = if self.reference().is_some() { 58 } else { 20 };
        let x = |value: f64| LEFT + (along.share(value) * f64::from(RIGHT - LEFT)).round() as i32;
        let y = |value: f64| BOTTOM - (up.share(value) * f64::from(BOTTOM - top)).round() as i32;
        let line = |path: Vec<(i32, i32)>, colour: palette::Tone, width: u32| {
            area.draw(&PathElement::new(path, colour.light.stroke_width(width))).map_err(refused)
        };

        for tick in up.ticks() {
            line(vec![(LEFT, y(tick)), (RIGHT, y(tick))], palette::GRID, 2)?;
            let at = Place::new(LEFT - 16, y(tick)).ending();
            write_text(area, &up.label(tick), at, text::SMALL, palette::MUTED.light)?;
        }
        for tick in along.ticks() {
            line(vec![(x(tick), BOTTOM), (x(tick), BOTTOM + 8)], palette::MUTED, 2)?;
            let at = Place::new(x(tick), BOTTOM + 30).centred();
            write_text(area, &along.label(tick), at, text::SMALL, palette::MUTED.light)?;
        }
        line(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], palette::MUTED, 2)?;
        let at = Place::new(i32::midpoint(LEFT, RIGHT), BOTTOM + 72).centred();
        write_text(area, "step", at, text::SMALL, palette::MUTED.light)?;

        if let Some((name, value)) = self.reference() {
            dashes(LEFT, RIGHT).try_for_each(|(from, to)| {
                line(vec![(from, y(*value)), (to, y(*value))], palette::MUTED, 3)
            })?;
            let name = text::fitting(name, text::SMALL, (RIGHT - LEFT - 80) as u32);
            let left = RIGHT - text::width(&name, text::SMALL) as i32;
            dashes(left - 64, left - 14)
                .try_for_each(|(from, to)| line(vec![(from, 18), (to, 18)], palette::MUTED, 3))?;
            write_text(area, &name, Place::new(RIGHT, 18).ending(), text::SMALL, palette::MUTED.light)?;
        }
        for piece in pieces {
            let mut path: Vec<(i32, i32)> = piece.iter().map(|point| (x(point[0]), y(point[1]))).collect();
            thin(&mut path);
            if let [(only, height)] = path[..] {
                path = vec![(only - 2, height), (only + 2, height)];
            }
            line(path, palette::ACCENT, 3)?;
        }
        Ok(())
    }
}

/// Keeps of the points of one column of pixels the first, the lowest, the highest and the last: the drawn line is the
/// same, however many steps there were.
fn thin(path: &mut Vec<(i32, i32)>) {
    let mut kept = Vec::new();
    for column in path.chunk_by(|a, b| a.0 == b.0) {
        let heights = || column.iter().enumerate().map(|(index, point)| (point.1, index));
        let mut chosen =
            [0, heights().min().map_or(0, |x| x.1), heights().max().map_or(0, |x| x.1), column.len() - 1];
        chosen.sort_unstable();
        kept.extend(chosen.map(|index| column[index]));
    }
    kept.dedup();
    *path = kept;
}

/// The pieces of a dashed line.
fn dashes(from: i32, to: i32) -> impl Iterator<Item = (i32, i32)> {
    (from..to).step_by(20).map(move |start| (start, (start + 12).min(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_are_thinned_to_the_line_they_draw() {
        let mut path: Vec<(i32, i32)> = (0..10_000).map(|i| (i / 1000, (i * 7919) % 101)).collect();
        let (low, high) = (path.iter().map(|p| p.1).min(), path.iter().map(|p| p.1).max());
        thin(&mut path);
        assert!(path.len() <= 40);
        assert_eq!((path.iter().map(|p| p.1).min(), path.iter().map(|p| p.1).max()), (low, high));
        assert!(path.is_sorted_by_key(|point| point.0));
    }

    #[test]
    fn values_that_are_not_finite_break_the_line() {
        let curve = Curve { points: vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, 1.0]], ..Curve::default() };
        assert_eq!(CurvePlot(&curve).pieces().len(), 2);
        let gone = Curve { points: vec![[0.0, f64::NAN]], ..Curve::default() };
        assert!(CurvePlot(&gone).is_empty());
    }
}
