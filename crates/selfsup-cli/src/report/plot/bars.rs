//! Accuracy by probe and encoder, as bars that begin at zero.

use super::super::{Reach, Scores, outcome};
use super::text::{self, Place, write_text};
use super::{Area, Figure, palette, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::{PathElement, Rectangle};
use plotters::style::Color;

const WIDTH: u32 = 940;
/// Height of a probe's name.
const HEAD: i32 = 56;
/// Height of a bar with the room around it.
const STEP: i32 = 46;
/// The bar itself.
const BAR: i32 = 28;
/// Room between two probes.
const GAP: i32 = 28;
/// Where the scale begins, and where it ends unless what stands behind the bars needs the room.
const LEFT: i32 = 290;
const FULL: i32 = 760;
/// Room between a bar's end and what is written behind it.
const AFTER: i32 = 14;

/// From shares to places: from 0 as far as the scores ask, and as far beyond as bars and intervals reach.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    end: i32,
}

impl Scale {
    fn of(scores: &Scores, reach: Reach) -> Self {
        let cells = || scores.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let reached = cells().flat_map(|cell| cell.bounds().into_iter().flatten().chain([cell.mean]));
        let least = match reach {
            Reach::Whole => 1.0,
            Reach::Longest => f64::MIN_POSITIVE,
        };
        let (low, high) = reached
            .filter(|share| share.is_finite())
            .fold((0.0_f64, least), |(low, high), share| (low.min(share), high.max(share)));
        let widest = cells().map(|cell| text::width(&outcome::score(*cell), text::SMALL)).max().unwrap_or(0);
        let end = FULL.min(WIDTH as i32 - AFTER - widest as i32).max(LEFT + 100);
        Scale { low, high, end }
    }

    /// Where a share lies; one that is not a number lies at zero.
    fn x(&self, share: f64) -> i32 {
        let share = if share.is_nan() { 0.0 } else { share.clamp(self.low, self.high) };
        LEFT + ((share - self.low) / (self.high - self.low) * f64::from(self.end - LEFT)).round() as i32
    }
}

/// The bars of [`Scores`], by probe, the trained encoder's in the accent's colour.
pub struct Bars<'a>(pub &'a Scores);

impl Figure for Bars<'_> {
    fn title(&self) -> String {
        "Test accuracy in per cent".into()
    }

    fn size(&self) -> (u32, u32) {
        let group = HEAD + STEP * self.0.rows.len() as i32;
        let groups = self.0.columns.len() as i32;
        (WIDTH, (group * groups + GAP * (groups - 1)).max(1) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        draw(area, self.0, Reach::Whole)
    }
}

/// Draws the bars of scores by probe.
fn draw<B: DrawingBackend>(area: &Area<B>, scores: &Scores, reach: Reach) -> Result<()>
where
    B::ErrorType: 'static,
{
    let group = HEAD + STEP * scores.rows.len() as i32 + GAP;
    let scale = Scale::of(scores, reach);
    let zero = scale.x(0.0);
    for (index, column) in scores.columns.iter().enumerate() {
        let top = group * index as i32;
        let name = text::fitting(&column.name, text::NORMAL, WIDTH);
        write_text(area, &name, Place::new(0, top + HEAD / 2 - 4), text::NORMAL, palette::INK.light)?;
        for (place, row) in scores.rows.iter().enumerate() {
            let middle = top + HEAD + STEP * place as i32 + STEP / 2;
            let label = text::fitting(&row.name, text::SMALL, (LEFT - 16) as u32);
            let at = Place::new(LEFT - 16, middle).ending();
            write_text(area, &label, at, text::SMALL, palette::MUTED.light)?;
            let Some(cell) = row.cells[index] else {
                write_text(area, "–", Place::new(zero + AFTER, middle), text::SMALL, palette::MUTED.light)?;
                continue;
            };
            let tone = if place == 0 { palette::ACCENT } else { palette::BASELINE };
            let end = scale.x(cell.mean);
            let bar = [(zero.min(end), middle - BAR / 2), (zero.max(end), middle + BAR / 2)];
            area.draw(&Rectangle::new(bar, tone.light.filled())).map_err(refused)?;
            let mut far = end.max(zero);
            if let Some(bounds) = cell.bounds().filter(|bounds| bounds.iter().all(|x| x.is_finite())) {
                let [low, high] = bounds.map(|share| scale.x(share));
                far = far.max(high);
                for path in [
                    vec![(low, middle), (high, middle)],
                    vec![(low, middle - 6), (low, middle + 6)],
                    vec![(high, middle - 6), (high, middle + 6)],
                ] {
                    let line = palette::INK.light.stroke_width(2);
                    area.draw(&PathElement::new(path, line)).map_err(refused)?;
                }
            }
            let score = outcome::score(cell);
            write_text(area, &score, Place::new(far + AFTER, middle), text::SMALL, palette::INK.light)?;
        }
        let axis = vec![(zero, top + HEAD), (zero, top + group - GAP)];
        area.draw(&PathElement::new(axis, palette::MUTED.light.stroke_width(2))).map_err(refused)?;
    }
    Ok(())
}

/// Bars of other shares than accuracies, under a title of their own.
pub struct Shares<'a> {
    /// What they are, as in `Retrieval`.
    pub title: &'a str,
    /// The shares, by measure.
    pub scores: &'a Scores,
    /// How far their scale reaches.
    pub reach: Reach,
}

impl Figure for Shares<'_> {
    fn title(&self) -> String {
        format!("{}, in per cent", self.title)
    }

    fn size(&self) -> (u32, u32) {
        Bars(self.scores).size()
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        draw(area, self.scores, self.reach)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Cell, Column, Row};
    use super::*;

    fn scores(cells: &[(f64, Option<[f64; 2]>)]) -> Scores {
        let row = |cell| Row { name: "a".into(), cells: vec![Some(Cell::of_interval(cell))] };
        let column = Column { name: "kept".into(), explanation: String::new() };
        Scores { columns: vec![column], rows: cells.iter().copied().map(row).collect() }
    }

    #[test]
    fn shares_lie_between_zero_and_the_whole() {
        let scale = Scale::of(&scores(&[(0.5, None)]), Reach::Whole);
        assert_eq!((scale.x(0.0), scale.x(1.0), scale.x(0.5)), (LEFT, FULL, i32::midpoint(LEFT, FULL)));
        assert_eq!(scale.x(f64::NAN), LEFT);
    }

    #[test]
    fn nothing_below_zero_or_above_the_whole_is_cut() {
        let scale =
            Scale::of(&scores(&[(1.04, Some([0.98, 1.25])), (-0.02, Some([-0.125, 0.1]))]), Reach::Whole);
        assert_eq!((scale.low, scale.high), (-0.125, 1.25));
        assert!(scale.x(-0.125) == LEFT && scale.x(0.0) > LEFT && scale.x(1.25) == scale.end);
        assert!(scale.x(1.04) > scale.x(1.0) && scale.x(-0.02) < scale.x(0.0));
    }

    #[test]
    fn small_numbers_fill_the_scale_where_it_reaches_as_far_as_they_do() {
        let scale = Scale::of(&scores(&[(0.02, Some([0.01, 0.03]))]), Reach::Longest);
        assert_eq!((scale.x(0.0), scale.x(0.03)), (LEFT, scale.end));
        let scale = Scale::of(&scores(&[(0.0, None)]), Reach::Longest);
        assert_eq!(scale.x(0.0), LEFT);
    }

    #[test]
    fn an_interval_is_drawn_from_its_lower_to_its_upper_bound() {
        let found = scores(&[(0.9, Some([0.5, 0.95]))]);
        let scale = Scale::of(&found, Reach::Whole);
        let svg = super::super::svg(&Bars(&found), "bars").unwrap();
        // Not as far to the right of the mean as to its left.
        let line = format!("points=\"{},", scale.x(0.5));
        assert!(svg.contains(&line) && svg.contains(&format!("{},", scale.x(0.95))), "{line} {svg}");
        assert!(!svg.contains(&format!("points=\"{},", scale.x(0.9 - 0.225))), "{svg}");
    }
}
