//! The report of a run: one HTML page that carries all it shows, and the same figures as PNG files.
//!
//! [`ReportData`] is plain data: whoever has it can write a report, without a model or a tensor at hand.
//! - `annotation`: the page of a ladder of labels
//! - `audit`: the page of a noise audit
//! - `chart`: a chart in a page
//! - `check`: whether the data fit together
//! - `page`, `samples`, `method`: the page, section by section
//! - `saliency`: the sections on what the encoder looks at
//! - `suite`: the sections of the full suite
//! - `robustness`: accuracy against the strength of disturbances, and pictures of these
//! - `labels`: the page about labels, with its figures
//! - `sheet`: pictures with their captions as one PNG file
//! - `curve`: what a training logged
//! - `data`: what all of them take
//! - `files`: the figures as PNG files
//! - `outcome`: the sentence that says what came out
//! - `plot`: bars, curves, maps and the confusion matrix, in light and dark colours
//! - `pictures`: thumbnails and PNG bytes
//! - `font`: the typeface inside the program, for machines that have none
//! - `tsne`: two-dimensional maps of features

pub mod annotation;
pub mod audit;
mod chart;
mod check;
mod curve;
mod data;
mod files;
mod font;
mod labels;
mod method;
mod outcome;
mod page;
pub mod pictures;
mod plot;
pub mod robustness;
mod saliency;
mod samples;
mod sheet;
mod suite;
mod tsne;

pub use curve::Curve;
pub use data::*;
pub use labels::{Adequacy, LabelReport, Tally, Trusted};
pub use labels::{FILES as LABEL_FILES, write as write_labels};
pub use plot::{Along, Chart, Line, Point};
pub use suite::readable;
pub use tsne::{EPOCHS, tsne};

use anyhow::{Context, Result};
use selfsup::core::state::write_whole;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes `report.html` and `plots/*.png` into the folder of a run; returns the page's path.
///
/// # Errors
/// Data that do not fit together, and files that cannot be written.
pub fn write(data: &ReportData, run: &Path) -> Result<PathBuf> {
    check::check(data)?;
    let html = page::page(data)?;
    let plots = run.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make the folder {}", plots.display()))?;
    for (name, bytes) in files::figures(data)? {
        write_whole(&plots.join(name), &bytes)?;
    }
    let page = run.join("report.html");
    write_whole(&page, html.as_bytes())?;
    Ok(page)
}

#[cfg(test)]
mod tests;
