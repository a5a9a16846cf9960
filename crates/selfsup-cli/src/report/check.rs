//! Whether the parts of a report fit together.

use super::{Confusion, Curve, Maps, ReportData, Scores};
use anyhow::{Result, ensure};

/// Refuses what no figure could be drawn of, with the part and the numbers that do not fit.
///
/// # Errors
/// Rows, labels and counts in other numbers than their columns, points and classes.
pub fn check(data: &ReportData) -> Result<()> {
    data.scores.as_ref().map_or(Ok(()), scores)?;
    data.maps.as_ref().map_or(Ok(()), maps)?;
    let of_answers = data.task.iter().flat_map(|task| &task.questions).filter_map(|q| q.confusion.as_ref());
    data.confusion.iter().chain(of_answers).try_for_each(confusion)?;
    data.curves.iter().try_for_each(curve)
}

fn scores(found: &Scores) -> Result<()> {
    let columns = found.columns.len();
    ensure!(columns > 0 || found.rows.is_empty(), "the scores have {} rows but no column", found.rows.len());
    found.rows.iter().try_for_each(|row| {
        let cells = row.cells.len();
        ensure!(cells == columns, "the scores of '{}' have {cells} cells for {columns} columns", row.name);
        Ok(())
    })
}

fn curve(curve: &Curve) -> Result<()> {
    let in_order = curve.points.is_sorted_by(|a, b| !a[0].is_finite() || !b[0].is_finite() || a[0] <= b[0]);
    ensure!(in_order, "the steps of the curve '{}' are not in order", curve.name);
    Ok(())
}

fn maps(maps: &Maps) -> Result<()> {
    for map in maps.maps.iter().filter(|_| !maps.labels.is_empty()) {
        let (points, labels) = (map.points.len(), maps.labels.len());
        ensure!(points == labels, "the map '{}' has {points} points but {labels} labels", map.name);
    }
    let classes = maps.classes.len();
    let unknown = maps.labels.iter().find(|&&label| label >= classes);
    ensure!(
        unknown.is_none(),
        "the maps have a label {}, but there are {classes} classes (labels begin at 0)",
        unknown.copied().unwrap_or_default()
    );
    Ok(())
}

fn confusion(found: &Confusion) -> Result<()> {
    let (rows, classes) = (found.counts.len(), found.classes.len());
    ensure!(rows == classes, "the confusion matrix has {rows} rows for {classes} classes");
    found.counts.iter().zip(&found.classes).try_for_each(|(row, class)| {
        let cells = row.len();
        ensure!(
            cells == classes,
            "the row '{class}' of the confusion matrix has {cells} cells for {classes} classes"
        );
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Column, Map, Questions, Row, Task};
    use super::*;

    fn message(data: &ReportData) -> String {
        check(data).unwrap_err().to_string()
    }

    #[test]
    fn nothing_fits() {
        check(&ReportData::default()).unwrap();
    }

    #[test]
    fn rejects_a_row_of_scores_without_a_column_for_each() {
        let scores = Scores {
            columns: vec![Column::default(); 2],
            rows: vec![Row { name: "trained".into(), cells: vec![None] }],
        };
        let data = ReportData { scores: Some(scores), ..ReportData::default() };
        assert_eq!(message(&data), "the scores of 'trained' have 1 cells for 2 columns");
    }

    #[test]
    fn rejects_labels_that_do_not_fit_the_points_or_the_classes() {
        let map = Map { name: "PCA".into(), points: vec![[0.0; 2]; 3] };
        let maps = |labels: Vec<usize>| {
            let maps = Maps { maps: vec![map.clone()], labels, classes: vec!["a".into(), "b".into()] };
            ReportData { maps: Some(maps), ..ReportData::default() }
        };
        assert_eq!(message(&maps(vec![0, 1])), "the map 'PCA' has 3 points but 2 labels");
        assert!(message(&maps(vec![0, 1, 2])).contains("label 2, but there are 2 classes"));
        check(&maps(vec![0, 1, 1])).unwrap();
        check(&maps(vec![])).unwrap();
    }

    fn matrix(counts: Vec<Vec<u64>>) -> Confusion {
        Confusion { by: "the linear probe".into(), counts, classes: vec!["a".into(), "b".into()] }
    }

    #[test]
    fn rejects_a_matrix_that_is_not_square() {
        let confusion =
            |counts: Vec<Vec<u64>>| ReportData { confusion: Some(matrix(counts)), ..ReportData::default() };
        assert!(message(&confusion(vec![vec![1, 2]])).contains("1 rows for 2 classes"));
        assert!(message(&confusion(vec![vec![1, 2], vec![3]])).contains("row 'b'"));
        let questions = Questions { confusion: Some(matrix(vec![vec![1, 2]])), ..Questions::default() };
        let task = Some(Task { questions: vec![questions], ..Task::default() });
        assert!(message(&ReportData { task, ..ReportData::default() }).contains("1 rows for 2 classes"));
        check(&confusion(vec![vec![1, 2], vec![3, 4]])).unwrap();
    }

    #[test]
    fn rejects_steps_out_of_order() {
        let curves = vec![Curve::loss(vec![[0.0, 1.0], [f64::NAN, 1.0], [2.0, 1.0], [1.0, 1.0]])];
        let data = ReportData { curves, ..ReportData::default() };
        assert!(message(&data).contains("'Loss' are not in order"));
    }
}
