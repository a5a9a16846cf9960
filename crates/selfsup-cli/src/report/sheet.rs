//! Pictures with their captions as one PNG file, which is read without the page.

use super::plot::text::{self, Place, write_text};
use super::plot::{palette, refused};
use super::{Answer, Cluster, Prototype, Shown, ViewRow, font, method, pictures, saliency};
use anyhow::{Context, Result};
use image::{Rgb, RgbImage, imageops};
use plotters::backend::BitMapBackend;
use plotters::drawing::IntoDrawingArea;
use plotters::style::RGBColor;

/// Side of a picture.
const CELL: u32 = 144;
/// Room around pictures.
const GAP: u32 = 16;
/// Height of a line of a caption.
const LINE: u32 = 22;
/// Lines of a caption or the title, at most.
const LINES: usize = 3;
/// Height of the letters of a caption.
const LETTERS: u32 = 17;
/// Height of the title's letters.
const TITLE: u32 = 28;
/// Height of a line of the title.
const HEAD: u32 = 38;
/// Answers beside each other.
const ANSWERS: usize = 8;

/// What is right, and what is wrong, on white; the words say it too.
const RIGHT: RGBColor = RGBColor(0x16, 0x71, 0x3c);
const WRONG: RGBColor = RGBColor(0xa8, 0x32, 0x1e);

/// A picture with what stands below it.
struct Cell<'a> {
    image: &'a RgbImage,
    caption: String,
    ink: RGBColor,
}

impl<'a> Cell<'a> {
    fn new(image: &'a RgbImage, caption: impl Into<String>) -> Self {
        Cell { image, caption: caption.into(), ink: palette::MUTED.light }
    }
}

/// Pictures beside each other, below words where there are some.
struct Row<'a> {
    heading: String,
    cells: Vec<Cell<'a>>,
}

impl<'a> Row<'a> {
    fn of_views(row: &'a ViewRow, first: &str) -> Self {
        let views = row.views.iter().map(|view| Cell::new(&view.image, view.caption.as_str()));
        let cells = std::iter::once(Cell::new(&row.image, first)).chain(views);
        Row { heading: String::new(), cells: cells.collect() }
    }

    fn of_answers(answers: &'a [Answer]) -> Self {
        let cells = answers.iter().map(|answer| {
            let (is_right, caption) = answer.caption();
            Cell { image: &answer.image, caption, ink: if is_right { RIGHT } else { WRONG } }
        });
        Row { heading: String::new(), cells: cells.collect() }
    }

    fn of_captioned(shown: &'a [(&'a RgbImage, String)]) -> Self {
        let cells = shown.iter().map(|(image, caption)| Cell::new(image, caption.as_str())).collect();
        Row { heading: String::new(), cells }
    }

    fn of_prototype(prototype: &'a Prototype, images: u64) -> Self {
        let cells = prototype.nearest.iter().filter_map(|(sample, score)| match &sample.shown {
            Shown::Image(image) => Some(Cell::new(image, method::near(sample, *score))),
            Shown::Text(_) => None,
        });
        Row { heading: method::heading(prototype, images), cells: cells.collect() }
    }
}

impl<'a> Row<'a> {
    /// The typical members, then the atypical ones.
    fn of_cluster((index, cluster): (usize, &'a Cluster)) -> [Self; 2] {
        let cells = |members: &'a [(super::Sample, f64)]| -> Vec<Cell<'a>> {
            let cell = |(sample, near): &'a (super::Sample, f64)| match &sample.shown {
                Shown::Image(image) => Some(Cell::new(image, saliency::caption(sample, *near))),
                Shown::Text(_) => None,
            };
            members.iter().filter_map(cell).collect()
        };
        let heading = saliency::heading(index, cluster);
        [
            Row { heading, cells: cells(&cluster.typical) },
            Row { heading: "atypical".into(), cells: cells(&cluster.atypical) },
        ]
    }
}

/// Clusters with their typical and their atypical members.
///
/// # Errors
/// What plotters refuses.
pub fn clusters(title: &str, shown: &[Cluster]) -> Result<Vec<u8>> {
    let rows = shown.iter().enumerate().flat_map(Row::of_cluster);
    sheet(title, &rows.filter(|row| !row.cells.is_empty()).collect::<Vec<_>>())
}

/// Images, and beside each what belongs to it.
///
/// # Errors
/// What plotters refuses.
pub fn views(title: &str, first: &str, rows: &[ViewRow]) -> Result<Vec<u8>> {
    sheet(title, &rows.iter().map(|row| Row::of_views(row, first)).collect::<Vec<_>>())
}

/// Questions as they were posed, with what was answered.
///
/// # Errors
/// What plotters refuses.
pub fn answers(question: &str, shown: &[Answer]) -> Result<Vec<u8>> {
    sheet(question, &shown.chunks(ANSWERS).map(Row::of_answers).collect::<Vec<_>>())
}

/// Pictures with what is said of each.
///
/// # Errors
/// What plotters refuses.
pub fn captioned(title: &str, shown: &[(&RgbImage, String)]) -> Result<Vec<u8>> {
    sheet(title, &shown.chunks(ANSWERS).map(Row::of_captioned).collect::<Vec<_>>())
}

/// Prototypes, and the images nearest to each.
///
/// # Errors
/// What plotters refuses.
pub fn prototypes(title: &str, shown: &[Prototype], images: u64) -> Result<Vec<u8>> {
    sheet(title, &shown.iter().map(|prototype| Row::of_prototype(prototype, images)).collect::<Vec<_>>())
}

/// Words in lines of a width, no more than `most`.
fn lines(words: &str, letters: u32, room: u32, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for part in words.lines() {
        let mut line = String::new();
        for word in part.split_whitespace() {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if !line.is_empty() && text::width(&longer, letters) > room {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            } else {
                line = longer;
            }
        }
        lines.push(line);
    }
    if lines.len() > most {
        lines.truncate(most);
        lines[most - 1].push_str(" …");
    }
    lines.iter().map(|line| text::fitting(line, letters, room)).collect()
}

/// Draws rows of pictures below a title, on white.
fn sheet(title: &str, rows: &[Row]) -> Result<Vec<u8>> {
    font::register()?;
    let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0).max(1) as u32;
    let width = columns * (CELL + GAP) + GAP;
    let captions: Vec<Vec<Vec<String>>> = rows
        .iter()
        .map(|row| row.cells.iter().map(|cell| lines(&cell.caption, LETTERS, CELL, LINES)).collect())
        .collect();
    let pictures: Vec<Vec<RgbImage>> =
        rows.iter().map(|row| row.cells.iter().map(|cell| within_cell(cell.image)).collect()).collect();
    let tallest = |row: &[RgbImage]| row.iter().map(RgbImage::height).max().unwrap_or(0);
    let heading = |row: &Row| if row.heading.is_empty() { 0 } else { LINE + GAP / 2 };
    let below = |captions: &[Vec<String>]| captions.iter().map(Vec::len).max().unwrap_or(0) as u32 * LINE;
    let title = lines(title, TITLE, width - 2 * GAP, LINES);
    let mut tops = vec![2 * GAP + HEAD * title.len() as u32];
    for ((row, pictures), captions) in rows.iter().zip(&pictures).zip(&captions) {
        let top = tops.last().copied().unwrap_or_default();
        tops.push(top + heading(row) + tallest(pictures) + below(captions) + GAP);
    }
    let height = tops.last().copied().unwrap_or_default();
    let mut image = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for ((row, pictures), &top) in rows.iter().zip(&pictures).zip(&tops) {
        for (column, picture) in (0..).zip(pictures) {
            let (x, y) = (GAP + column * (CELL + GAP), top + heading(row));
            imageops::replace(&mut image, picture, i64::from(x), i64::from(y));
        }
    }
    let mut pixels = image.into_raw();
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        let left = GAP as i32;
        for (line, words) in (0..).zip(&title) {
            let at = Place::new(left, (GAP + line * HEAD + HEAD / 2) as i32);
            write_text(&area, words, at, TITLE, palette::INK.light)?;
        }
        for (((row, pictures), &top), captions) in rows.iter().zip(&pictures).zip(&tops).zip(&captions) {
            let heading_at = Place::new(left, (top + LINE / 2) as i32);
            let words = text::fitting(&row.heading, LETTERS, width - 2 * GAP);
            write_text(&area, &words, heading_at, LETTERS, palette::INK.light)?;
            for ((column, cell), lines) in (0..).zip(&row.cells).zip(captions) {
                let x = (GAP + column * (CELL + GAP)) as i32;
                for (line, words) in (0..).zip(lines) {
                    let y = (top + heading(row) + tallest(pictures) + line * LINE + LINE / 2) as i32 + 4;
                    write_text(&area, words, Place::new(x, y), LETTERS, cell.ink)?;
                }
            }
        }
        area.present().map_err(refused)?;
    }
    let image =
        RgbImage::from_raw(width, height, pixels).context("the sheet's pixels do not fit its size")?;
    pictures::png(&image)
}

/// The image as large as a cell has room for; pixels stay sharp when they grow.
fn within_cell(image: &RgbImage) -> RgbImage {
    let longer = image.width().max(image.height()).max(1);
    let filter = if longer < CELL { imageops::FilterType::Nearest } else { imageops::FilterType::Triangle };
    let side = |length: u32| (length * CELL / longer).max(1);
    imageops::resize(image, side(image.width()), side(image.height()), filter)
}

#[cfg(test)]
mod tests {
    use super::super::{Sample, View};
    use super::*;

    const GREY: Rgb<u8> = Rgb([90, 80, 70]);

    fn picture() -> RgbImage {
        RgbImage::from_pixel(4, 2, GREY)
    }

    fn drawn(png: &[u8]) -> RgbImage {
        image::load_from_memory(png).unwrap().into_rgb8()
    }

    /// How many pixels of a colour a part of a sheet has.
    fn count(sheet: &RgbImage, is: impl Fn(&Rgb<u8>) -> bool) -> usize {
        sheet.pixels().filter(|pixel| is(pixel)).count()
    }

    #[test]
    fn there_is_a_cell_for_each_picture_and_room_for_what_is_said_of_it() {
        let view = |caption: &str| View { image: picture(), caption: caption.into() };
        let row = |captions: &[&str]| ViewRow {
            image: picture(),
            views: captions.iter().map(|caption| view(caption)).collect(),
        };
        let short = drawn(&views("views", "stored", &[row(&["a", "b"]), row(&[])]).unwrap());
        assert_eq!(short.width(), 3 * CELL + 4 * GAP);
        assert_eq!(short.height(), HEAD + 2 * GAP + 2 * (CELL / 2 + LINE + GAP));
        assert_eq!(*short.get_pixel(GAP + CELL / 2, 2 * GAP + HEAD + CELL / 4), GREY);
        assert_eq!(count(&short, |&pixel| pixel == GREY), 4 * (CELL * CELL / 2) as usize);
        let long =
            "crop 62 %, flipped, brightness +0.31, contrast -0.22, saturation +0.04, hue +0.04, blurred";
        let tall = drawn(&views("views", "stored", &[row(&[long])]).unwrap());
        assert_eq!(tall.height(), HEAD + 2 * GAP + CELL / 2 + LINES as u32 * LINE + GAP);
    }

    #[test]
    fn words_are_broken_where_there_is_no_more_room() {
        assert_eq!(lines("left", LETTERS, CELL, 3), ["left"]);
        assert_eq!(lines("below left\ntrue: left", LETTERS, CELL, 3), ["below left", "true: left"]);
        let long = lines("one two three four five six seven eight nine ten eleven twelve", LETTERS, CELL, 2);
        assert_eq!(long.len(), 2);
        assert!(long[0].starts_with("one two") && long[1].ends_with('…'), "{long:?}");
        assert!(long.iter().all(|line| text::width(line, LETTERS) <= CELL), "{long:?}");
        assert_eq!(lines("", LETTERS, CELL, 3), Vec::<String>::new());
    }

    #[test]
    fn right_and_wrong_answers_differ_in_colour() {
        let answer = |given: &str| Answer { image: picture(), truth: "90°".into(), given: given.into() };
        let greenish = |pixel: &Rgb<u8>| pixel.0[1] > pixel.0[0].saturating_add(60);
        let reddish = |pixel: &Rgb<u8>| pixel.0[0] > pixel.0[1].saturating_add(60);
        let sheet = drawn(&answers("How far?", &[answer("90°")]).unwrap());
        assert!(count(&sheet, greenish) > 20 && count(&sheet, reddish) == 0);
        let sheet = drawn(&answers("How far?", &[answer("0°")]).unwrap());
        assert!(count(&sheet, greenish) == 0 && count(&sheet, reddish) > 20);
    }

    #[test]
    fn prototypes_stand_below_each_other_with_their_images() {
        let sample = || (Sample { shown: Shown::Image(picture()), class: Some("bag".into()) }, Some(0.9));
        let prototype =
            |n: usize| Prototype { number: n, assigned: 4, nearest: (0..n).map(|_| sample()).collect() };
        let sheet = drawn(&prototypes("nearest", &[prototype(3), prototype(2)], 10).unwrap());
        assert_eq!(sheet.width(), 3 * CELL + 4 * GAP);
        assert_eq!(count(&sheet, |&pixel| pixel == GREY), 5 * (CELL * CELL / 2) as usize);
    }
}
