//! The outcome of a run in words, computed from its scores and nothing else.

use super::{Cell, Scores};

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
    let doubt = if is_within_spread(trained, other) { " (within the spread of the repetitions)" } else { "" };
    format!("{:.1} points {side} the {name}{doubt}", points.abs())
}

/// Whether the difference is smaller than the repetitions of both scatter.
fn is_within_spread(a: Cell, b: Cell) -> bool {
    (a.n > 1 || b.n > 1) && (a.mean - b.mean).abs() < a.std.hypot(b.std)
}

/// An accuracy in per cent with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// A score as the table shows it, in per cent: `84.1`, or `71.0 ± 0.8` over repetitions.
pub fn score(cell: Cell) -> String {
    if cell.n > 1 { format!("{} ± {}", percent(cell.mean), percent(cell.std)) } else { percent(cell.mean) }
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

    fn scores(values: &[(&str, f64, f64, usize)]) -> Scores {
        let row = |&(name, mean, std, n): &(&str, f64, f64, usize)| Row {
            name: name.into(),
            cells: vec![Some(Cell { mean, std, n })],
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
    fn the_spread_is_shown_for_repetitions_only() {
        assert_eq!(score(Cell { mean: 0.7104, std: 0.0081, n: 5 }), "71.0 ± 0.8");
        assert_eq!(score(Cell { mean: 0.7104, std: 0.0, n: 1 }), "71.0");
    }
}
