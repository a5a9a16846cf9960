//! A plot of bars as SVG, which a browser and a Git host show as it is.

use std::fmt::Write as _;

/// A bar from the axis' start to `value`, with an interval of one `spread` to both sides, and a mark to compare it with.
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub spread: f64,
    pub mark: Option<f64>,
}

const LEFT: f64 = 190.0;
const WIDTH: f64 = 480.0;
const ROW: f64 = 22.0;

/// Shares as horizontal bars, the first on top. The axis begins below the smallest number and ends above the largest.
pub fn bars(bars: &[Bar]) -> String {
    let numbers =
        || bars.iter().flat_map(|bar| [Some(bar.value - bar.spread), Some(bar.value + bar.spread), bar.mark]);
    let least = numbers().flatten().fold(1.0, f64::min);
    let most = numbers().flatten().fold(0.0, f64::max);
    let (from, to) = ((least * 20.0 - 0.2).floor() / 20.0, (most * 20.0 + 0.2).ceil() / 20.0);
    let x = |value: f64| LEFT + WIDTH * ((value - from) / (to - from).max(1e-9)).clamp(0.0, 1.0);
    let height = ROW * bars.len() as f64 + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LEFT + WIDTH + 70.0
    );
    let mut tick = from;
    while tick <= to + 1e-9 {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"6\" y2=\"{1:.1}\" stroke=\"#ddd\"/><text x=\"{0:.1}\" y=\"{2:.1}\" \
             text-anchor=\"middle\">{3:.0}</text>",
            x(tick),
            height - 28.0,
            height - 12.0,
            100.0 * tick
        );
        tick += 0.05;
    }
    for (i, bar) in bars.iter().enumerate() {
        let middle = ROW * i as f64 + 20.0;
        let name = bar.name.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text><rect x=\"{LEFT}\" y=\"{:.1}\" \
             width=\"{:.1}\" height=\"12\" fill=\"#4477aa\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" \
             y2=\"{middle:.1}\" stroke=\"black\" stroke-width=\"2\"/>",
            LEFT - 8.0,
            middle + 4.0,
            middle - 6.0,
            x(bar.value) - LEFT,
            x(bar.value - bar.spread),
            x(bar.value + bar.spread),
        );
        if let Some(mark) = bar.mark {
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"#cc3311\" stroke-width=\"2\"/>",
                x(mark),
                middle - 8.0,
                middle + 8.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{:.1}</text>",
            LEFT + WIDTH + 12.0,
            middle + 4.0,
            100.0 * bar.value
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_bars_are_of_larger_numbers_and_names_are_escaped() {
        let bar = |name: &str, value| Bar { name: name.into(), value, spread: 0.01, mark: Some(0.6) };
        let svg = bars(&[bar("a<b", 0.8), bar("c", 0.7)]);
        let widths: Vec<f64> = svg
            .lines()
            .filter_map(|line| line.split_once(" width=\"")?.1.split_once('"')?.0.parse().ok())
            .collect();
        assert!(widths.len() == 2 && widths[0] > widths[1], "{widths:?}");
        assert!(svg.contains("a&lt;b") && svg.ends_with("</svg>\n"));
        assert!(bars(&[]).starts_with("<svg"));
    }
}
