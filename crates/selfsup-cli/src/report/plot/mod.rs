//! The figures of a report, each drawn twice by the same code: as SVG for the page and as a PNG file.
//!
//! Everything is drawn at twice the size that the page shows it at: the PNG is then sharp, and the whole numbers that
//! plotters places things by are fine enough. The SVG has the colours of a light page; [`palette::dark_rules`] are
//! the style rules that give it those of a dark one.
//! - `palette`: the colours
//! - `text`: words in a figure
//! - `axis`: the span of values along one side
//! - `bars`, `curve`, `likeness`, `lines`, `map`, `matrix`, `traced`: the figures

mod axis;
mod bars;
mod curve;
mod likeness;
mod lines;
mod map;
mod matrix;
pub mod palette;
pub mod text;
mod traced;

pub use bars::{Bars, Shares};
pub use curve::CurvePlot;
pub use likeness::Likeness;
pub use lines::{Along, Chart, ChartPlot, Line, Point};
pub use map::{MapPlot, Mark, Shape};
pub use matrix::Matrix;
pub use traced::{Trace, Traced};

use super::{font, pictures};
use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{RGBColor, WHITE};
use std::error::Error;
use text::{Place, write_text};

/// What is drawn on.
type Area<B> = DrawingArea<B, Shift>;

/// Height of the title of a PNG file.
const TITLE: u32 = 72;

/// Room around the figure in a PNG file.
const MARGIN: i32 = 24;

/// Something that can be drawn on any backend.
pub trait Figure {
    /// What it is called, for the file that stands alone; the page has headings.
    fn title(&self) -> String;

    /// Width and height.
    fn size(&self) -> (u32, u32);

    /// Draws it on an area of its size.
    ///
    /// # Errors
    /// What the backend refuses.
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static;

    /// The height of the key that a file needs below the figure; the page has its own.
    fn key_height(&self) -> u32 {
        0
    }

    /// Draws the key on an area of its height.
    ///
    /// # Errors
    /// What the backend refuses.
    fn draw_key<B: DrawingBackend>(&self, _area: &Area<B>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        Ok(())
    }
}

/// The figure as an `svg` element without a background, to stand in a page; `description` is what a reader who does
/// not see it is told.
///
/// # Errors
/// What plotters refuses.
pub fn svg(figure: &impl Figure, description: &str) -> Result<String> {
    let (width, height) = figure.size();
    let content = drawn((width, height), |area| figure.draw(area))?;
    let description = maud::html! { (description) }.into_string();
    let shown = width / 2;
    Ok(format!(
        "<svg viewBox=\"0 0 {width} {height}\" style=\"max-width:{shown}px\" role=\"img\" \
         aria-label=\"{description}\">{content}"
    ))
}

/// The figure as an SVG file with its title and its key, on white.
///
/// # Errors
/// What plotters refuses.
pub fn svg_file(figure: &impl Figure, description: &str) -> Result<String> {
    let (width, height) = outer(figure);
    let content = drawn((width, height), |area| whole(figure, area))?;
    let description = maud::html! { (description) }.into_string();
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         font-family=\"system-ui, sans-serif\" role=\"img\" aria-label=\"{description}\">{content}"
    ))
}

/// What an SVG element of a size holds, and its end.
fn drawn(size: (u32, u32), draw: impl FnOnce(&Area<SVGBackend<'_>>) -> Result<()>) -> Result<String> {
    font::register()?;
    let mut drawn = String::new();
    {
        let area = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(refused)?;
    }
    // Within a page the element needs no namespace, and its size is the style sheet's affair.
    let (_, content) = drawn.split_once('>').context("the figure has no beginning")?;
    Ok(content.trim().to_owned())
}

/// The size of a figure that stands alone.
fn outer(figure: &impl Figure) -> (u32, u32) {
    let (width, height) = figure.size();
    let shown_width = width.max(text::width(&figure.title(), text::LARGE));
    (shown_width + 2 * MARGIN as u32, height + TITLE + figure.key_height() + 2 * MARGIN as u32)
}

/// Draws a figure that stands alone.
fn whole<B: DrawingBackend>(figure: &impl Figure, area: &Area<B>) -> Result<()>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE).map_err(refused)?;
    let inner = area.margin(MARGIN, MARGIN, MARGIN, MARGIN);
    let (head, rest) = inner.split_vertically(TITLE);
    let (body, key) = rest.split_vertically(figure.size().1);
    write_text(&head, &figure.title(), Place::new(0, 28), text::LARGE, palette::INK.light)?;
    figure.draw(&body)?;
    figure.draw_key(&key)
}

/// The figure as a PNG file with its title and its key, on white.
///
/// # Errors
/// What plotters refuses.
pub fn png(figure: &impl Figure) -> Result<Vec<u8>> {
    font::register()?;
    let outer = outer(figure);
    let mut pixels = vec![0; 3 * outer.0 as usize * outer.1 as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, outer).into_drawing_area();
        whole(figure, &area)?;
        area.present().map_err(refused)?;
    }
    let image =
        RgbImage::from_raw(outer.0, outer.1, pixels).context("the figure's pixels do not fit its size")?;
    pictures::png(&image)
}

/// plotters' error in a form that crosses threads.
pub fn refused<E: Error + Send + Sync + 'static>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!(error).context("a figure of the report cannot be drawn")
}
