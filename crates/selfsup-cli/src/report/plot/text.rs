//! Words in a figure.

use super::{Area, HPos, RGBColor, Result, VPos, font, refused};
use plotters::backend::DrawingBackend;
use plotters::element::Text;
use plotters::style::text_anchor::Pos;
use plotters::style::{Color, FontTransform, IntoFont, TextStyle};

/// Titles.
pub const LARGE: u32 = 42;
/// Words and numbers.
pub const NORMAL: u32 = 36;
/// What stands at axes and in cells.
pub const SMALL: u32 = 33;

/// Where text stands: a point, and how the text lies about it.
#[derive(Clone, Copy)]
pub struct Place {
    at: (i32, i32),
    horizontal: HPos,
    turned: bool,
}

impl Place {
    /// Text that begins at a point, its middle at the point's height.
    pub fn new(x: i32, y: i32) -> Self {
        Place { at: (x, y), horizontal: HPos::Left, turned: false }
    }

    /// Text that ends at the point.
    pub fn ending(self) -> Self {
        Place { horizontal: HPos::Right, ..self }
    }

    /// Text that has the point in its middle.
    pub fn centred(self) -> Self {
        Place { horizontal: HPos::Center, ..self }
    }

    /// Text that is read from below to above.
    pub fn turned(self) -> Self {
        Place { turned: true, ..self }
    }
}

fn style(size: u32, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from((font::FAMILY, size).into_font()) }
}

/// Writes one line.
///
/// # Errors
/// What the backend refuses.
pub fn write_text<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    place: Place,
    size: u32,
    colour: RGBColor,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    let mut style = style(size, colour).pos(Pos::new(place.horizontal, VPos::Center));
    if place.turned {
        style = style.transform(FontTransform::Rotate270);
    }
    area.draw(&Text::new(text, place.at, style)).map_err(refused)
}

/// The width that a line takes; 0 where there is no typeface.
pub fn width(text: &str, size: u32) -> u32 {
    (font::FAMILY, size).into_font().box_size(text).map_or(0, |(width, _)| width)
}

/// The text, cut short with an ellipsis where it is wider than there is room.
pub fn fitting(text: &str, size: u32, room: u32) -> String {
    let mut shown = text.trim().to_owned();
    let mut kept = shown.chars().count();
    while kept > 1 && width(&shown, size) > room {
        kept -= 1;
        shown = text.trim().chars().take(kept).collect::<String>().trim_end().to_owned() + "…";
    }
    shown
}
