//! One share against another, both from 0 to 1: accuracy against coverage, or against confidence.

use super::text::{self, Place, write_text};
use super::{Area, Figure, palette, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::{Circle, PathElement};
use plotters::style::Color;

const WIDTH: u32 = 920;
const HEIGHT: u32 = 620;
/// The frame: left, right, top, below.
const LEFT: i32 = 130;
const RIGHT: i32 = WIDTH as i32 - 40;
const TOP: i32 = 24;
const BOTTOM: i32 = HEIGHT as i32 - 92;

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// As a line.
    Line,
    /// As dots joined by a line, beside the diagonal that they should lie on.
    AgainstDiagonal,
}

/// Points in the unit square, in the order of the first share.
pub struct Traced<'a> {
    /// What it is called.
    pub title: &'a str,
    /// What goes to the right.
    pub along: &'a str,
    /// What goes up.
    pub up: &'a str,
    /// The points.
    pub points: &'a [[f64; 2]],
    /// How they are drawn.
    pub trace: Trace,
}

impl Traced<'_> {
    /// Where the axis that goes up begins: a round share below all points, so that what differs is seen.
    fn floor(&self) -> f64 {
        if self.trace == Trace::AgainstDiagonal {
            return 0.0;
        }
        let least = self.points.iter().map(|point| point[1]).fold(1.0, f64::min);
        [0.9, 0.8, 0.5].into_iter().find(|floor| *floor <= least).unwrap_or(0.0)
    }
}

impl Figure for Traced<'_> {
    fn title(&self) -> String {
        self.title.to_owned()
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let floor = self.floor();
        let x = |share: f64| LEFT + (share * f64::from(RIGHT - LEFT)).round() as i32;
        let y =
            |share: f64| BOTTOM - ((share - floor) / (1.0 - floor) * f64::from(BOTTOM - TOP)).round() as i32;
        let line = |path: Vec<(i32, i32)>, colour: palette::Tone, width: u32| {
            area.draw(&PathElement::new(path, colour.light.stroke_width(width))).map_err(refused)
        };
        for tick in 0..=4 {
            let share = f64::from(tick) / 4.0;
            let height = floor + share * (1.0 - floor);
            line(vec![(LEFT, y(height)), (RIGHT, y(height))], palette::GRID, 2)?;
            let at = Place::new(LEFT - 16, y(height)).ending();
            write_text(area, &percent(height), at, text::SMALL, palette::MUTED.light)?;
            let at = Place::new(x(share), BOTTOM + 30).centred();
            write_text(area, &percent(share), at, text::SMALL, palette::MUTED.light)?;
        }
        line(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], palette::MUTED, 2)?;
        let at = Place::new(i32::midpoint(LEFT, RIGHT), BOTTOM + 72).centred();
        let axes = format!("{} by {}, in per cent", self.up, self.along);
        write_text(area, &axes, at, text::SMALL, palette::MUTED.light)?;
        if self.trace == Trace::AgainstDiagonal {
            line(vec![(x(0.0), y(0.0)), (x(1.0), y(1.0))], palette::MUTED, 2)?;
        }
        let path: Vec<(i32, i32)> = self.points.iter().map(|point| (x(point[0]), y(point[1]))).collect();
        if self.trace == Trace::AgainstDiagonal {
            for &at in &path {
                area.draw(&Circle::new(at, 7, palette::ACCENT.light.filled())).map_err(refused)?;
            }
        }
        if path.len() > 1 { line(path, palette::ACCENT, 3) } else { Ok(()) }
    }
}

/// A share in per cent, with the digits that it needs.
fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{png, svg};
    use super::*;

    fn figure(points: &[[f64; 2]], trace: Trace) -> Traced<'_> {
        Traced { title: "t", along: "coverage", up: "accuracy", points, trace }
    }

    #[test]
    fn the_axis_begins_at_a_round_share_below_all_points() {
        let floor = |least: f64, trace| figure(&[[0.1, 1.0], [1.0, least]], trace).floor();
        assert_eq!(floor(0.93, Trace::Line), 0.9);
        assert_eq!(floor(0.9, Trace::Line), 0.9);
        assert_eq!(floor(0.6, Trace::Line), 0.5);
        assert_eq!(floor(0.4, Trace::Line), 0.0);
        assert_eq!(floor(0.93, Trace::AgainstDiagonal), 0.0);
    }

    #[test]
    fn is_drawn_with_none_one_and_many_points() {
        for points in [&[][..], &[[0.5, 0.5]], &[[0.1, 0.2], [0.5, 0.9], [1.0, 1.0]]] {
            for trace in [Trace::Line, Trace::AgainstDiagonal] {
                let drawn = svg(&figure(points, trace), "shares").unwrap();
                assert!(drawn.contains("accuracy by coverage, in per cent") && drawn.contains("100"));
                assert_eq!(
                    drawn.matches("<circle").count(),
                    if trace == Trace::Line { 0 } else { points.len() }
                );
                assert!(!png(&figure(points, trace)).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn shares_are_written_with_the_digits_they_need() {
        assert_eq!([percent(0.0), percent(0.925), percent(1.0)], ["0", "92.5", "100"]);
    }
}
