//! Several measures against one quantity, with the intervals of their repetitions.

use super::axis::{Axis, Zero};
use super::map::{Mark, Shape};
use super::palette;
use super::text::{self, Place, write_text};
use super::{Area, Figure, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::PathElement;
use plotters::style::Color;

const WIDTH: u32 = 1180;
const HEIGHT: u32 = 700;
/// The frame: left, right, above, below.
const LEFT: i32 = 140;
const RIGHT: i32 = WIDTH as i32 - 60;
const TOP: i32 = 58;
const BOTTOM: i32 = HEIGHT as i32 - 100;
/// A row of the key.
const ROW: u32 = 48;
/// Lines in a row of the key.
const COLUMNS: usize = 2;
/// The classes' colours in another order, in which colours that are near each other have different shapes.
const COLOURS: [usize; palette::CLASSES.len()] = [0, 1, 4, 2, 8, 7, 3, 9, 6, 5];
/// How far intervals of neighbouring lines stand from each other.
const APART: i32 = 9;
/// The room that a tick's words need.
const TICK: i32 = 90;

/// What is drawn: lines over one quantity.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it is called.
    pub name: String,
    /// What runs along.
    pub along: Along,
    /// What runs up.
    pub up: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// A value to compare with, drawn as a dashed line, and what it is.
    pub reference: Option<(String, f64)>,
}

/// What runs along a chart.
#[derive(Clone, Debug, Default)]
pub struct Along {
    /// What it is called.
    pub name: String,
    /// Whether equal factors are equally far apart, instead of equal differences; such values are above 0.
    pub factors: bool,
}

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// From the left to the right.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where along.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// The interval around it; none where nothing was repeated.
    pub interval: Option<[f64; 2]>,
}

impl Line {
    /// The mark of the line with a number: ten colours, and no two lines in a row have the same shape.
    pub fn mark(number: usize) -> Mark {
        let shape = [Shape::Dot, Shape::Ring, Shape::Cross][number % 3];
        Mark { shape, ..Mark::of(COLOURS[number % COLOURS.len()]) }
    }
}

/// A [`Chart`] to be drawn.
pub struct ChartPlot<'a>(pub &'a Chart);

impl ChartPlot<'_> {
    fn points(&self) -> impl Iterator<Item = &Point> + Clone {
        self.0.lines.iter().flat_map(|line| &line.points).filter(|point| self.is_drawn(point))
    }

    fn is_drawn(&self, point: &Point) -> bool {
        point.x.is_finite() && point.y.is_finite() && (!self.0.along.factors || point.x > 0.0)
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.points().next().is_none()
    }

    fn scaled(&self, x: f64) -> f64 {
        if self.0.along.factors { x.log10() } else { x }
    }

    /// The values that stand below the frame, with their places: where factors count, those that were measured, as many
    /// as have room; else round ones.
    fn ticks(&self, x: impl Fn(f64) -> i32) -> Vec<(i32, String)> {
        let axis = Axis::around(self.points().map(|point| point.x), Zero::Free);
        if !self.0.along.factors {
            return axis.ticks().into_iter().map(|tick| (x(tick), axis.label(tick))).collect();
        }
        let mut measured: Vec<f64> = self.points().map(|point| point.x).collect();
        measured.sort_by(f64::total_cmp);
        measured.dedup();
        let mut ticks: Vec<(i32, String)> = Vec::new();
        for value in measured {
            if ticks.last().is_none_or(|(last, _)| x(value) - last >= TICK) {
                // A mean over draws is no whole number.
                ticks.push((x(value), ((value * 10.0).round() / 10.0).to_string()));
            }
        }
        ticks
    }
}

impl Figure for ChartPlot<'_> {
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
        let Chart { along, up: up_name, lines, reference, .. } = self.0;
        let across = Axis::around(self.points().map(|point| self.scaled(point.x)), Zero::Free);
        let ends = self.points().flat_map(|point| point.interval.unwrap_or([point.y; 2]));
        let compared = reference.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        let values = self.points().map(|point| point.y).chain(ends).chain(compared);
        let up = Axis::around(values.filter(|value| value.is_finite()), Zero::IfNear);
        let x = |value: f64| {
            LEFT + 30 + (across.share(self.scaled(value)) * f64::from(RIGHT - LEFT - 60)).round() as i32
        };
        let y = |value: f64| BOTTOM - (up.share(value) * f64::from(BOTTOM - TOP)).round() as i32;
        let draw = |path: Vec<(i32, i32)>, tone: palette::Tone, width: u32| {
            area.draw(&PathElement::new(path, tone.light.stroke_width(width))).map_err(refused)
        };

        for tick in up.ticks() {
            draw(vec![(LEFT, y(tick)), (RIGHT, y(tick))], palette::GRID, 2)?;
            let at = Place::new(LEFT - 16, y(tick)).ending();
            write_text(area, &up.label(tick), at, text::SMALL, palette::MUTED.light)?;
        }
        for (place, tick) in self.ticks(x) {
            draw(vec![(place, BOTTOM), (place, BOTTOM + 8)], palette::MUTED, 2)?;
            write_text(
                area,
                &tick,
                Place::new(place, BOTTOM + 30).centred(),
                text::SMALL,
                palette::MUTED.light,
            )?;
        }
        draw(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], palette::MUTED, 2)?;
        let at = Place::new(i32::midpoint(LEFT, RIGHT), BOTTOM + 74).centred();
        write_text(area, &along.name, at, text::SMALL, palette::MUTED.light)?;
        let room = (RIGHT - LEFT) as u32 / 2 - 20;
        write_text(
            area,
            &text::fitting(up_name, text::SMALL, room),
            Place::new(0, 18),
            text::SMALL,
            palette::MUTED.light,
        )?;

        if let Some((name, value)) = reference.as_ref().filter(|(_, value)| value.is_finite()) {
            for from in (LEFT..RIGHT).step_by(20) {
                draw(vec![(from, y(*value)), ((from + 12).min(RIGHT), y(*value))], palette::MUTED, 3)?;
            }
            let name = text::fitting(name, text::SMALL, room);
            write_text(area, &name, Place::new(RIGHT, 18).ending(), text::SMALL, palette::MUTED.light)?;
        }
        let repeated = self.points().any(|point| point.interval.is_some());
        for (number, line) in lines.iter().enumerate() {
            let mark = Line::mark(number);
            let aside = if repeated { (2 * number as i32 - (lines.len() as i32 - 1)) * APART / 2 } else { 0 };
            let drawn: Vec<&Point> = line.points.iter().filter(|point| self.is_drawn(point)).collect();
            draw(drawn.iter().map(|point| (x(point.x) + aside, y(point.y))).collect(), mark.tone, 3)?;
            for point in drawn {
                let place = x(point.x) + aside;
                if let Some([low, high]) =
                    point.interval.filter(|ends| ends.iter().all(|end| end.is_finite()))
                {
                    draw(vec![(place, y(low)), (place, y(high))], mark.tone, 2)?;
                    for end in [low, high] {
                        draw(vec![(place - 5, y(end)), (place + 5, y(end))], mark.tone, 2)?;
                    }
                }
                mark.draw(area, (place, y(point.y)), 8)?;
            }
        }
        Ok(())
    }

    fn key_height(&self) -> u32 {
        ROW * self.0.lines.len().div_ceil(COLUMNS) as u32 + ROW / 2
    }

    fn draw_key<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let column = WIDTH as usize / COLUMNS;
        for (number, line) in self.0.lines.iter().enumerate() {
            let x = (number % COLUMNS * column) as i32;
            let y = (number / COLUMNS) as i32 * ROW as i32 + ROW as i32;
            Line::mark(number).draw(area, (x + 12, y), 10)?;
            let name = text::fitting(&line.name, text::SMALL, column as u32 - 56);
            write_text(area, &name, Place::new(x + 36, y), text::SMALL, palette::INK.light)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{png, svg};
    use super::*;

    fn point(x: f64, y: f64) -> Point {
        Point { x, y, interval: Some([y - 0.02, y + 0.03]) }
    }

    fn ladder() -> Chart {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.into(),
            points: points.iter().map(|&(x, y)| point(x, y)).collect(),
        };
        Chart {
            name: "Accuracy against labels".into(),
            along: Along { name: "labels".into(), factors: true },
            up: "test accuracy".into(),
            lines: vec![
                line("supervised", &[(10.0, 0.3), (100.0, 0.6), (1000.0, 0.8)]),
                line("features", &[(10.0, 0.5), (100.0, f64::NAN), (1000.0, 0.8)]),
            ],
            reference: Some(("all labels".into(), 0.9)),
        }
    }

    #[test]
    fn equal_factors_are_equally_far_apart() {
        let chart = ladder();
        let plot = ChartPlot(&chart);
        let ticks = plot.ticks(|x| (x.log10() * 100.0).round() as i32);
        let words: Vec<&str> = ticks.iter().map(|(_, word)| word.as_str()).collect();
        assert_eq!(
            (words, ticks[1].0 - ticks[0].0, ticks[2].0 - ticks[1].0),
            (vec!["10", "100", "1000"], 100, 100)
        );
    }

    #[test]
    fn a_mean_is_shown_with_a_decimal() {
        let mut chart = ladder();
        chart.lines[0].points = [35.0 / 3.0, 1000.0].map(|x| point(x, 0.5)).into();
        chart.lines.truncate(1);
        let ticks = ChartPlot(&chart).ticks(|x| (x.log10() * 100.0).round() as i32);
        assert_eq!(ticks.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>(), ["11.7", "1000"]);
    }

    #[test]
    fn ticks_that_would_stand_on_each_other_are_left_out() {
        let mut chart = ladder();
        chart.lines[0].points = [10.0, 11.0, 12.0, 1000.0].map(|x| point(x, 0.5)).into();
        let ticks = ChartPlot(&chart).ticks(|x| (x.log10() * 100.0).round() as i32);
        assert_eq!(ticks.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>(), ["10", "1000"]);
    }

    #[test]
    fn is_drawn_with_its_words_and_as_a_file_with_its_key() {
        let chart = ladder();
        let drawn = svg(&ChartPlot(&chart), "two lines").unwrap();
        for words in ["labels", "test accuracy", "all labels", "1000"] {
            assert!(drawn.contains(words), "{words} is not in the figure");
        }
        assert!(!drawn.contains("NaN"));
        let file = image::load_from_memory(&png(&ChartPlot(&chart)).unwrap()).unwrap();
        assert!(file.height() > HEIGHT + ROW);
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_nothing_is_an_empty_frame() {
        let none =
            Chart { lines: vec![Line { name: "a".into(), points: vec![point(0.0, 1.0)] }], ..ladder() };
        assert!(ChartPlot(&none).is_empty());
        svg(&ChartPlot(&none), "nothing").unwrap();
        assert!(!ChartPlot(&ladder()).is_empty());
    }

    #[test]
    fn no_two_lines_have_the_same_mark() {
        let marks: std::collections::HashSet<String> =
            (0..10).map(|n| format!("{:?}", Line::mark(n))).collect();
        assert_eq!(marks.len(), 10);
        let near = |a: Mark, b: Mark| {
            let (a, b) = (a.tone.light, b.tone.light);
            let apart = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
            apart(a.0, b.0) + apart(a.1, b.1) + apart(a.2, b.2) < 90_u32.pow(2)
        };
        for (a, b) in (0..10).flat_map(|b| (0..b).map(move |a| (Line::mark(a), Line::mark(b)))) {
            assert!(a.shape != b.shape || !near(a, b), "{a:?} and {b:?} look alike");
        }
    }
}
