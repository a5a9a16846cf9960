//! Accuracy by probe and encoder, as bars that begin at zero.

use super::super::{Scores, outcome};
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
/// Where the bars begin, and where one of 100 % ends.
const LEFT: i32 = 290;
const FULL: i32 = 760;

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
        let group = HEAD + STEP * self.0.rows.len() as i32 + GAP;
        for (index, column) in self.0.columns.iter().enumerate() {
            let top = group * index as i32;
            let name = text::fitting(&column.name, text::NORMAL, WIDTH);
            write_text(area, &name, Place::new(0, top + HEAD / 2 - 4), text::NORMAL, palette::INK.light)?;
            for (place, row) in self.0.rows.iter().enumerate() {
                let middle = top + HEAD + STEP * place as i32 + STEP / 2;
                let label = text::fitting(&row.name, text::SMALL, (LEFT - 16) as u32);
                let at = Place::new(LEFT - 16, middle).ending();
                write_text(area, &label, at, text::SMALL, palette::MUTED.light)?;
                let Some(cell) = row.cells[index] else {
                    write_text(area, "–", Place::new(LEFT + 14, middle), text::SMALL, palette::MUTED.light)?;
                    continue;
                };
                let tone = if place == 0 { palette::ACCENT } else { palette::BASELINE };
                let end = x(cell.mean);
                let bar = [(LEFT, middle - BAR / 2), (end, middle + BAR / 2)];
                area.draw(&Rectangle::new(bar, tone.light.filled())).map_err(refused)?;
                let mut far = end;
                if cell.n > 1 && cell.std.is_finite() {
                    let (low, high) = (x(cell.mean - cell.std), x(cell.mean + cell.std));
                    far = high;
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
                write_text(area, &score, Place::new(far + 14, middle), text::SMALL, palette::INK.light)?;
            }
            let axis = vec![(LEFT, top + HEAD), (LEFT, top + group - GAP)];
            area.draw(&PathElement::new(axis, palette::MUTED.light.stroke_width(2))).map_err(refused)?;
        }
        Ok(())
    }
}

/// Bars of other shares than accuracies, under a title of their own.
pub struct Shares<'a> {
    /// What they are, as in `Retrieval`.
    pub title: &'a str,
    /// The shares, by measure.
    pub scores: &'a Scores,
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
        Bars(self.scores).draw(area)
    }
}

/// Where an accuracy lies; one that is not a number lies at zero.
fn x(share: f64) -> i32 {
    LEFT + (share.clamp(0.0, 1.0) * f64::from(FULL - LEFT)).round() as i32
}
