//! The outcome of a run in words, computed from its scores and nothing else.

use super::{Cell, Scores, Spread};

/// What came out, for the head of the report: how the trained encoder (the first row) does by the first probe, and
/// how much that is above or below each other row; `None` without a score to tell.
pub fn sentence(scores: &Scores) -> Option<String> {
    let column = scores.columns.first()?;
    let trained = scores.rows.first()?.cells.first().copied().flatten()?;
    let mut text = format!(
        "The {} encoder reaches {} % test accuracy ({})",
        scores.rows.first()?.name,
        percent(trained.mean),
        column.name
    );
    let others: Vec<String> = scores.rows[1..]
        .iter()
        .filter_map(|row| Some(comparison(trained, row.cells.first().copied().flatten()?, &row.name)))
        .collect();
    if !others.is_empty() {
        text.push_str(": ");
        text.push_str(&others.join(", and "));
    }
    text.push('.');
    Some(text)
}

/// As in `6.2 points above the untrained encoder`.
fn comparison(trained: Cell, other: Cell, name: &str) -> String {
    let points = (trained.mean - other.mean) * 100.0;
    if !points.is_finite() {
        return format!("not comparable with the {name}");
    }
    if format!("{:.1}", points.abs()) == "0.0" {
        return format!("no better than the {name}");
    }
    let side = if points > 0.0 { "above" } else { "below" };
    format!("{:.1} points {side} the {name}{}", points.abs(), doubt(trained, other))
}

/// What speaks against taking a difference for one: the repetitions scatter as much, or the intervals have values in common.
fn doubt(a: Cell, b: Cell) -> &'static str {
    let std = |cell: Cell| match cell.spread {
        Spread::StandardDeviation { std, .. } => std,
        Spread::None | Spread::Interval { .. } => 0.0,
    };
    match (a.spread, b.spread) {
        (Spread::Interval { low: a, high: b, .. }, Spread::Interval { low: c, high: d, .. })
            if a <= d && c <= b =>
        {
            " (their 95 % intervals overlap)"
        }
        _ if (a.mean - b.mean).abs() < std(a).hypot(std(b)) => " (within the spread of the repetitions)",
        _ => "",
    }
}

/// An accuracy in per cent with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// A score as the table shows it, in per cent: `84.1`, `71.0 ± 0.8` over repetitions, or `71.0 [69.9, 72.1]` with its interval.
pub fn score(cell: Cell) -> String {
    match parts(cell) {
        (value, Some(interval)) => format!("{value} {interval}"),
        (value, None) => value,
    }
}

/// A score and its interval, as [`score`] puts them together.
pub fn parts(cell: Cell) -> (String, Option<String>) {
    let mean = percent(cell.mean);
    match cell.spread {
        Spread::None => (mean, None),
        Spread::StandardDeviation { std, .. } => (format!("{mean} ± {}", percent(std)), None),
        Spread::Interval { low, high, .. } => (mean, Some(format!("[{}, {}]", percent(low), percent(high)))),
    }
}

/// What stands beside the scores, in words; empty where nothing does.
pub fn legend(scores: &Scores) -> String {
    let spreads = || scores.rows.iter().flat_map(|row| row.cells.iter().flatten()).map(|cell| cell.spread);
    let mut said = String::new();
    if spreads().any(|spread| matches!(spread, Spread::StandardDeviation { .. })) {
        said.push_str(" ± is the standard deviation over repetitions.");
    }
    let level = spreads().find_map(|spread| match spread {
        Spread::Interval { level, .. } => Some(level),
        _ => None,
    });
    let brackets =
        |level: f64| format!(" Brackets hold the {:.0} % interval over test samples.", level * 100.0);
    said + &level.map(brackets).unwrap_or_default()
}

/// The words with a capital letter at the beginning.
pub fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Column, Row};
    use super::*;
    use selfsup::core::Score;

    fn scores(values: &[(&str, f64, f64, usize)]) -> Scores {
        let row = |&(name, mean, std, n): &(&str, f64, f64, usize)| Row {
            name: name.into(),
            cells: vec![Some(Cell::of(&Score { mean, std, n }, None))],
        };
        Scores {
            columns: vec![Column { name: "linear probe".into(), explanation: String::new() }],
            rows: values.iter().map(row).collect(),
        }
    }

    #[test]
    fn tells_a_gain_and_a_loss() {
        let found = scores(&[
            ("trained", 0.841, 0.0, 1),
            ("untrained encoder", 0.779, 0.0, 1),
            ("raw input", 0.85, 0.0, 1),
        ]);
        assert_eq!(
            sentence(&found).unwrap(),
            "The trained encoder reaches 84.1 % test accuracy (linear probe): 6.2 points above the untrained \
             encoder, and 0.9 points below the raw input."
        );
    }

    #[test]
    fn an_equal_score_is_no_gain() {
        let found = scores(&[("trained", 0.80004, 0.0, 1), ("raw input", 0.8, 0.0, 1)]);
        assert!(sentence(&found).unwrap().ends_with("no better than the raw input."));
    }

    #[test]
    fn a_difference_within_the_spread_is_called_so() {
        let found = scores(&[("trained", 0.71, 0.01, 5), ("raw input", 0.70, 0.012, 5)]);
        assert!(sentence(&found).unwrap().contains("within the spread"));
    }

    #[test]
    fn without_a_score_there_is_no_outcome() {
        assert_eq!(sentence(&Scores::default()), None);
        let unmeasured = Scores {
            columns: vec![Column::default()],
            rows: vec![Row { name: "trained".into(), cells: vec![None] }],
        };
        assert_eq!(sentence(&unmeasured), None);
    }

    #[test]
    fn a_deviation_and_an_interval_are_not_shown_alike() {
        let repeated = |n| Cell::of(&Score { mean: 0.7104, std: 0.0081, n }, None);
        let interval = Cell::of_interval((0.7104, Some([0.6949, 0.7131])));
        assert_eq!(score(repeated(5)), "71.0 ± 0.8");
        assert_eq!(score(repeated(1)), "71.0");
        assert_eq!(score(interval), "71.0 [69.5, 71.3]");
        assert_eq!(score(Cell::of_interval((0.7104, None))), "71.0");
        let with = |cells: &[Cell]| {
            let cells = cells.iter().map(|cell| Some(*cell)).collect();
            legend(&Scores { rows: vec![Row { name: String::new(), cells }], ..Default::default() })
        };
        assert_eq!(with(&[repeated(1)]), "");
        assert_eq!(with(&[repeated(5)]), " ± is the standard deviation over repetitions.");
        assert_eq!(
            with(&[interval, repeated(5)]),
            " ± is the standard deviation over repetitions. Brackets hold the 95 % interval over test samples."
        );
        assert_eq!(interval.bounds(), Some([0.6949, 0.7131]));
    }

    #[test]
    fn intervals_that_have_values_in_common_leave_a_doubt() {
        let cell = |low, high| Cell::of_interval((0.5 * (low + high), Some([low, high])));
        assert_eq!(doubt(cell(0.5, 0.7), cell(0.65, 0.9)), " (their 95 % intervals overlap)");
        assert_eq!(doubt(cell(0.5, 0.6), cell(0.65, 0.9)), "");
        assert_eq!(doubt(cell(0.8, 0.9), cell(0.5, 0.7)), "");
    }
}
