//! A chart in a page, with its key.

use super::page;
use super::plot::{self, Chart, ChartPlot, Line};
use anyhow::Result;
use maud::{Markup, PreEscaped, html};

/// The chart with a key above and `reading` below; `description` is what a reader who does not see it is told.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn chart(chart: &Chart, description: &str, reading: &str) -> Result<Markup> {
    let figure = plot::svg(&ChartPlot(chart), description)?;
    Ok(html! {
        @if chart.lines.len() > 1 {
            ul.key {
                @for (number, line) in chart.lines.iter().enumerate() {
                    li { (page::mark(Line::mark(number))) (line.name) }
                }
            }
        }
        figure { (PreEscaped(figure)) figcaption { (reading) } }
    })
}
