//! The page's sections that show samples: augmented views and nearest neighbours.

use super::{Query, Sample, Shown, ViewRow, pictures};
use anyhow::Result;
use image::RgbImage;
use maud::{Markup, html};

/// Images whose longer side has at most so many pixels are enlarged with sharp pixels.
const SMALL: u32 = 64;

/// Each image as stored, beside what training sees of it.
///
/// # Errors
/// Pictures without pixels.
pub fn views(rows: &[ViewRow], most: u32) -> Result<Markup> {
    let note = "Each image as it is stored, then views of it with what was drawn for them.";
    side_by_side("What training sees", note, "as stored", rows, most)
}

/// Each test image, beside what the method sees and makes of it.
///
/// # Errors
/// Pictures without pixels.
pub fn made(rows: &[ViewRow], most: u32) -> Result<Markup> {
    let note = "Test images, which training never saw, then what the method was shown of them and what it made of that. \
                It learned by making them alike.";
    side_by_side("What the method makes of images", note, "the image", rows, most)
}

/// Images, and beside each what belongs to it; pictures have at most `most` pixels a side.
///
/// # Errors
/// Pictures without pixels.
pub fn side_by_side(title: &str, note: &str, first: &str, rows: &[ViewRow], most: u32) -> Result<Markup> {
    let columns = 1 + rows.iter().map(|row| row.views.len()).max().unwrap_or(0);
    // As many rows beside each other as there is room for their pictures.
    let width = 7 * columns.min(8);
    let outer = format!("grid-template-columns:repeat(auto-fill,minmax(min(100%,{width}rem),1fr))");
    let inner = match columns {
        ..=4 => format!("grid-template-columns:repeat({columns},minmax(0,7.5rem))"),
        _ => "grid-template-columns:repeat(auto-fit,minmax(5.2rem,1fr))".into(),
    };
    let mut shown = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let number = index + 1;
        let mut figures = vec![html! {
            figure.stored { (picture(&row.image, &format!("Image {number}: {first}"), most)?) figcaption { (first) } }
        }];
        for view in &row.views {
            let alt = format!("Image {number}: {}", view.caption);
            figures
                .push(html! { figure { (picture(&view.image, &alt, most)?) figcaption { (view.caption) } } });
        }
        shown.push(figures);
    }
    Ok(html! {
        section {
            h2 { (title) }
            p.note { (note) }
            div.rows style=(outer) {
                @for row in shown { div.views style=(inner) { @for figure in row { (figure) } } }
            }
        }
    })
}

/// Test samples and those nearest to them in feature space.
///
/// # Errors
/// Pictures without pixels.
pub fn neighbours(found: &[Query], most: u32) -> Result<Markup> {
    let note = "Test samples, each with those whose features are nearest to its own, the nearest first.";
    queries("Nearest neighbours", note, found, most)
}

/// Samples, and those nearest to each.
///
/// # Errors
/// Pictures without pixels.
pub fn queries(title: &str, note: &str, queries: &[Query], most: u32) -> Result<Markup> {
    let pairs = || queries.iter().flat_map(|q| q.nearest.iter().map(move |near| is_same(&q.query, near)));
    let (compared, same) = (pairs().flatten().count(), pairs().flatten().filter(|&same| same).count());
    let (texts, images): (Vec<&Query>, Vec<&Query>) =
        queries.iter().partition(|query| matches!(query.query.shown, Shown::Text(_)));
    let images = images.into_iter().map(|query| pictured(query, most)).collect::<Result<Vec<_>>>()?;
    let texts = texts.into_iter().map(|query| passage(query, most)).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { (title) }
            p.note {
                (note)
                @if compared > 0 {
                    " Of the " (compared) " shown, " (same) " are of the class asked for (✓); the others have \
                     their class in red."
                }
            }
            @if !images.is_empty() { div.queries { @for query in images { (query) } } }
            @if !texts.is_empty() { div.passages { @for query in texts { (query) } } }
        }
    })
}

fn pictured(query: &Query, most: u32) -> Result<Markup> {
    let mut nearest = Vec::new();
    for sample in &query.nearest {
        let alt = sample.class.as_ref().map_or("Neighbour".into(), |class| format!("Neighbour: {class}"));
        nearest.push(
            html! { figure { (shown(sample, &alt, most)?) figcaption { (class(&query.query, sample)) } } },
        );
    }
    let alt = query.query.class.as_ref().map_or("Query".into(), |class| format!("Query: {class}"));
    Ok(html! {
        div.query {
            figure {
                (shown(&query.query, &alt, most)?)
                @if let Some(class) = &query.query.class { figcaption { (class) } }
            }
            div.nearest { @for figure in nearest { (figure) } }
        }
    })
}

fn passage(query: &Query, most: u32) -> Result<Markup> {
    let mut nearest = Vec::new();
    for sample in &query.nearest {
        nearest.push(
            html! { li { span.text { (shown(sample, "Neighbour", most)?) } " " (class(&query.query, sample)) } },
        );
    }
    Ok(html! {
        div {
            blockquote {
                (shown(&query.query, "Query", most)?)
                @if let Some(class) = &query.query.class { " " span.note { (class) } }
            }
            ol { @for item in nearest { (item) } }
        }
    })
}

/// A sample.
///
/// # Errors
/// A picture without pixels.
pub fn shown(sample: &Sample, alt: &str, most: u32) -> Result<Markup> {
    match &sample.shown {
        Shown::Image(image) => picture(image, alt, most),
        Shown::Text(text) => Ok(html! { (text) }),
    }
}

/// A neighbour's class, marked where it is that of the query.
fn class(query: &Sample, near: &Sample) -> Markup {
    html! {
        @if let Some(class) = &near.class {
            @match is_same(query, near) {
                Some(true) => span.same { "✓ " (class) },
                Some(false) => span.other { (class) },
                None => (class),
            }
        }
    }
}

/// Whether two samples are of one class; `None` where a class is not known.
fn is_same(a: &Sample, b: &Sample) -> Option<bool> {
    Some(a.class.as_ref()? == b.class.as_ref()?)
}

/// A picture inside the page, with what a reader who does not see it is told.
///
/// # Errors
/// A picture without pixels.
pub fn picture(image: &RgbImage, alt: &str, most: u32) -> Result<Markup> {
    let small = pictures::thumbnail(image, most);
    let address = pictures::data_uri(&pictures::png(&small)?);
    let crisp = small.width().max(small.height()) <= SMALL;
    Ok(html! {
        img.crisp[crisp] src=(address) alt=(alt) width=(small.width()) height=(small.height());
    })
}
