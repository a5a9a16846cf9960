//! How alike the layers of two networks are, as a matrix of cells, a row for each layer of the first.

use super::super::Layers;
use super::text::{self, Place, write_text};
use super::{Area, Figure, palette, refused};
use anyhow::Result;
use plotters::backend::DrawingBackend;
use plotters::element::Rectangle;
use plotters::style::{Color, WHITE};

/// Side of a square of cells, about.
const SQUARE: usize = 900;
/// Widest name of a layer.
const NAME: u32 = 300;
/// More layers than this have no numbers in their cells.
const NUMBERED: usize = 14;
/// The height of a name.
const LINE: i32 = 30;

/// The legend below the cells: its room, its height, and the steps of its colours.
const LEGEND: i32 = 92;
const STRIP: i32 = 24;
const STEPS: i32 = 20;
/// The shade of the least value, so that its cell is no empty one.
const FAINT: f64 = 0.08;

/// The matrix of [`Layers`]: the nearer to the greatest value shown, the darker.
pub struct Likeness<'a>(pub &'a Layers);

impl Likeness<'_> {
    fn cell(&self) -> i32 {
        let most = self.0.rows.len().max(self.0.columns.len()).max(1);
        (SQUARE / most).clamp(LINE as usize, 110) as i32
    }

    /// Room for names beside the cells, and above them.
    fn room(&self) -> [i32; 2] {
        let widest = |names: &[String]| {
            let width = names.iter().map(|name| text::width(name, text::SMALL)).max().unwrap_or(0);
            (width.min(NAME) + 28) as i32 + 44
        };
        [widest(&self.0.rows), widest(&self.0.columns)]
    }

    /// The values that the colours run from and to: the nearest twentieths around all that are shown.
    pub fn span(&self) -> [f64; 2] {
        let values = || self.0.values.iter().flatten().copied().filter(|value| value.is_finite());
        let low = values().reduce(f64::min).map_or(0.0, |low| (low * 20.0).floor() / 20.0);
        let high = values().reduce(f64::max).map_or(1.0, |high| (high * 20.0).ceil() / 20.0);
        // A single value has a span too.
        [low, high.max(low + 0.05)]
    }

    /// How dark a share of the span is.
    fn shade(share: f64) -> f64 {
        ((FAINT + (1.0 - FAINT) * share.clamp(0.0, 1.0)) * 100.0).round() / 100.0
    }

    /// The colours from the least to the greatest value, with both.
    fn legend<B: DrawingBackend>(&self, area: &Area<B>, (left, top): (i32, i32), width: i32) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let x = |step: i32| left + width * step / STEPS;
        for step in 0..STEPS {
            let share = (f64::from(step) + 0.5) / f64::from(STEPS);
            let colour = palette::HEAT.light.mix(Self::shade(share)).filled();
            let square = [(x(step), top), (x(step + 1), top + STRIP)];
            area.draw(&Rectangle::new(square, colour)).map_err(refused)?;
        }
        let [low, high] = self.span().map(|end| format!("{end:.2}"));
        let below = top + STRIP + 22;
        write_text(area, &low, Place::new(left, below), text::SMALL, palette::MUTED.light)?;
        write_text(area, &high, Place::new(left + width, below).ending(), text::SMALL, palette::MUTED.light)
    }
}

impl Figure for Likeness<'_> {
    fn title(&self) -> String {
        format!("How alike the layers of {} (rows) and {} (columns) are: CKA", self.0.first, self.0.second)
    }

    fn size(&self) -> (u32, u32) {
        let ([left, top], cell) = (self.room(), self.cell());
        let side = |names: &[String], room: i32| (room + cell * names.len() as i32 + 2) as u32;
        (side(&self.0.columns, left), side(&self.0.rows, top) + LEGEND as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let ([left, top], cell) = (self.room(), self.cell());
        let (width, height) = self.size();
        let heading = |name: &str, room: u32| text::fitting(name, text::SMALL, room);
        let at = Place::new(left.midpoint(width as i32), 18).centred();
        write_text(area, &heading(&self.0.second, width), at, text::SMALL, palette::MUTED.light)?;
        let at = Place::new(18, top.midpoint(height as i32 - LEGEND)).centred().turned();
        write_text(area, &heading(&self.0.first, height), at, text::SMALL, palette::MUTED.light)?;
        for (row, name) in self.0.rows.iter().enumerate() {
            let name = text::fitting(name, text::SMALL, NAME);
            let at = Place::new(left - 12, top + cell * row as i32 + cell / 2).ending();
            write_text(area, &name, at, text::SMALL, palette::INK.light)?;
        }
        for (column, name) in self.0.columns.iter().enumerate() {
            let name = text::fitting(name, text::SMALL, NAME);
            let at = Place::new(left + cell * column as i32 + cell / 2, top - 12).turned();
            write_text(area, &name, at, text::SMALL, palette::INK.light)?;
        }
        let [low, high] = self.span();
        let numbered = self.0.rows.len().max(self.0.columns.len()) <= NUMBERED;
        for (row, values) in self.0.values.iter().enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let (x, y) = (left + cell * column as i32, top + cell * row as i32);
                let square = [(x, y), (x + cell - 2, y + cell - 2)];
                let ground = palette::GRID.light.mix(0.35);
                area.draw(&Rectangle::new(square, ground.filled())).map_err(refused)?;
                let shade = Self::shade((value - low) / (high - low));
                let heat = palette::HEAT.light.mix(shade);
                area.draw(&Rectangle::new(square, heat.filled())).map_err(refused)?;
                if numbered {
                    let ink = if shade > 0.6 { WHITE } else { palette::INK.light };
                    let at = Place::new(x + (cell - 2) / 2, y + (cell - 2) / 2).centred();
                    write_text(area, &format!("{value:.2}"), at, text::SMALL, ink)?;
                }
            }
        }
        self.legend(area, (left, height as i32 - LEGEND + 20), width as i32 - left - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{png, svg};
    use super::*;

    #[test]
    fn every_pair_has_a_cell_with_its_number() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut layers = Layers {
            first: "a".into(),
            second: "b".into(),
            rows: names(&["blocks.0", "features"]),
            columns: names(&["blocks.0", "blocks.1", "features"]),
            values: vec![vec![1.0, 0.5, -0.01], vec![0.25, 0.75, 0.125]],
            reading: String::new(),
        };
        let figure = svg(&Likeness(&layers), "layers").unwrap();
        for part in ["1.00", "-0.01", "0.75", "blocks.1", "features"] {
            assert!(figure.contains(part), "{part}: {figure}");
        }
        assert_eq!(Likeness(&layers).span(), [-0.05, 1.0]);
        assert!(figure.contains("-0.05"), "the legend is not in the figure");
        assert!(png(&Likeness(&layers)).unwrap().len() > 1000);
        layers.rows = (0..30).map(|i| format!("blocks.{i}")).collect();
        layers.values = vec![vec![0.5; 3]; 30];
        layers.values[0][0] = 0.45;
        let figure = svg(&Likeness(&layers), "layers").unwrap();
        // The ends of the legend alone.
        assert_eq!((figure.matches("0.45\n").count(), figure.matches("0.50\n").count()), (1, 1), "{figure}");
    }

    #[test]
    fn colours_run_over_the_values_that_are_shown() {
        let span = |values: Vec<f64>| Likeness(&Layers { values: vec![values], ..Layers::default() }).span();
        assert_eq!(span(vec![0.97, 0.81, f64::NAN]), [0.8, 1.0]);
        assert_eq!(span(vec![0.5]), [0.5, 0.55]);
        assert_eq!(span(vec![]), [0.0, 1.0]);
        assert!(Likeness::shade(0.0) > 0.0 && Likeness::shade(1.0) == 1.0);
    }
}
