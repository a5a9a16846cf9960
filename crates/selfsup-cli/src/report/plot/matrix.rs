//! What a probe takes for what, as a matrix of cells, a row for each true class.

use super::super::Confusion;
use super::text::{self, Place, write_text};
use super::{Area, Figure, palette, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::Rectangle;
use plotters::style::{Color, WHITE};

/// Side of the square of cells, about.
const SQUARE: u32 = 820;
/// Widest name of a class.
const NAME: u32 = 270;
/// More classes than this have no numbers in their cells.
const NUMBERED: usize = 12;
/// More classes than this have no names.
const NAMED: usize = 30;

/// The matrix of a [`Confusion`]: each cell's share of its row in per cent.
pub struct Matrix<'a> {
    found: &'a Confusion,
    /// What a row is a class of.
    rows: &'static str,
    columns: &'static str,
}

impl<'a> Matrix<'a> {
    /// True classes against predicted ones.
    pub fn of_truth(found: &'a Confusion) -> Self {
        Matrix { found, rows: "true", columns: "predicted" }
    }

    /// The classes of given labels against those that a model is sure of.
    pub fn of_given(found: &'a Confusion) -> Self {
        Matrix { found, rows: "given", columns: "confident" }
    }

    fn classes(&self) -> usize {
        self.found.classes.len()
    }

    fn cell(&self) -> i32 {
        (SQUARE as i32 / self.classes().max(1) as i32).clamp(1, 140)
    }

    /// Room for the names beside and above the cells.
    fn left(&self) -> i32 {
        let longest = self.found.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let names = if self.classes() > NAMED { 0 } else { (longest as u32 * 17 + 28).min(NAME) };
        names as i32 + 44
    }
}

impl Figure for Matrix<'_> {
    fn title(&self) -> String {
        format!("Confusions of {}, per cent of each {} class", self.found.by, self.rows)
    }

    fn size(&self) -> (u32, u32) {
        let square = self.cell() * self.classes() as i32;
        ((self.left() + square + 2) as u32, (self.left() + square + 2) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let (cell, left, classes) = (self.cell(), self.left(), self.classes());
        let gap = i32::from(cell > 12) * 2;
        let middle = left + cell * classes as i32 / 2;
        let at = Place::new(middle, 18).centred();
        write_text(area, self.columns, at, text::SMALL, palette::MUTED.light)?;
        let at = Place::new(18, middle).centred().turned();
        write_text(area, self.rows, at, text::SMALL, palette::MUTED.light)?;
        for (index, name) in self.found.classes.iter().enumerate().take_while(|_| classes <= NAMED) {
            let size = text::SMALL.min(cell as u32);
            let name = text::fitting(name, size, left as u32 - 60);
            let centre = left + cell * index as i32 + cell / 2;
            let at = Place::new(left - 12, centre).ending();
            write_text(area, &name, at, size, palette::INK.light)?;
            write_text(area, &name, Place::new(centre, left - 12).turned(), size, palette::INK.light)?;
        }
        for (row, counts) in self.found.counts.iter().enumerate() {
            let total: u64 = counts.iter().sum();
            for (column, &count) in counts.iter().enumerate() {
                let (x, y) = (left + cell * column as i32, left + cell * row as i32);
                let share = count as f64 / total.max(1) as f64;
                let square = [(x, y), (x + cell - gap, y + cell - gap)];
                let ground = palette::GRID.light.mix(0.35);
                if classes <= NAMED {
                    area.draw(&Rectangle::new(square, ground.filled())).map_err(refused)?;
                }
                // Small confusions stay visible: the shade grows with the root of the share.
                let shade = (share.sqrt() * 100.0).round() / 100.0;
                if shade > 0.0 {
                    let heat = palette::HEAT.light.mix(shade);
                    area.draw(&Rectangle::new(square, heat.filled())).map_err(refused)?;
                }
                if classes <= NUMBERED && count > 0 {
                    let ink = if shade > 0.6 { WHITE } else { palette::INK.light };
                    let at = Place::new(x + (cell - gap) / 2, y + (cell - gap) / 2).centred();
                    write_text(area, &percent(count, total), at, text::SMALL, ink)?;
                }
            }
        }
        Ok(())
    }
}

/// How many of all in per cent, halves up, and not as nothing where there is something.
fn percent(count: u64, total: u64) -> String {
    if count > 0 && 100 * count < total {
        return "<1".to_owned();
    }
    ((200 * count + total) / (2 * total.max(1))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_is_not_written_as_nothing() {
        let written = [0, 1, 4, 5, 9, 10, 14, 15, 25, 995, 1000].map(|count| percent(count, 1000));
        assert_eq!(written, ["0", "<1", "<1", "<1", "<1", "1", "1", "2", "3", "100", "100"]);
        assert_eq!(percent(0, 0), "0");
    }
}
