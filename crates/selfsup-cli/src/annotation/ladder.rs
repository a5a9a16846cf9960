//! What the cells of a ladder say together: accuracy against labels for each arm, and how many labels an arm needs for what
//! training with all of them reaches.

use super::arm::Arm;
use super::cells::Measured;
use selfsup::core::Score;
use serde::Serialize;
use std::collections::BTreeMap;

/// An arm with so many labels, over all draws.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rung {
    /// How many labels were wanted.
    pub labels: usize,
    /// How many were given, on average.
    pub given: f64,
    /// The test accuracy.
    pub accuracy: Score,
    /// How long a draw took, on average.
    pub seconds: f64,
}

/// One arm of a ladder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rungs {
    /// Which.
    pub arm: Arm,
    /// By the number of labels, the fewest first.
    pub rungs: Vec<Rung>,
    /// How many labels it needs for the accuracy aimed at.
    pub needs: Needs,
}

/// How many labels are needed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// There is nothing to aim at.
    Unknown,
    /// The fewest that were tried suffice.
    AtMost(f64),
    /// About so many.
    About(f64),
    /// More than the most that were tried.
    NotReachedWith(f64),
}

/// Puts cells together: the arms in their order, aiming at `target`.
pub fn ladder(cells: &[Measured], target: Option<f64>) -> Vec<Rungs> {
    let mut by_arm: BTreeMap<Arm, BTreeMap<usize, Vec<&Measured>>> = BTreeMap::new();
    for cell in cells {
        by_arm.entry(cell.arm).or_default().entry(cell.labels).or_default().push(cell);
    }
    let rung = |(labels, cells): (usize, Vec<&Measured>)| {
        let mean =
            |of: fn(&Measured) -> f64| cells.iter().map(|cell| of(cell)).sum::<f64>() / cells.len() as f64;
        let accuracies: Vec<f64> = cells.iter().map(|cell| cell.accuracy).collect();
        Rung {
            labels,
            given: mean(|cell| cell.given as f64),
            accuracy: Score::of(&accuracies),
            seconds: mean(|cell| cell.seconds),
        }
    };
    let arm = |(arm, by_labels): (Arm, BTreeMap<usize, Vec<&Measured>>)| {
        let rungs: Vec<Rung> = by_labels.into_iter().map(rung).collect();
        let points: Vec<(f64, f64, f64)> =
            rungs.iter().map(|rung| (rung.given, rung.accuracy.mean, rung.accuracy.n as f64)).collect();
        Rungs { arm, rungs, needs: target.map_or(Needs::Unknown, |target| needed(&points, target)) }
    };
    by_arm.into_iter().map(arm).collect()
}

/// How many labels `target` takes, by points of labels, accuracy and weight, the fewest labels first: more labels do no
/// harm, so that accuracies that fall by chance are averaged with those before (isotonic regression by pool-adjacent-violators,
/// Barlow et al. 1972); between two points the accuracy grows with the logarithm of the labels.
pub fn needed(points: &[(f64, f64, f64)], target: f64) -> Needs {
    let rising = rising(points);
    let mut before: Option<(f64, f64)> = None;
    for (&(labels, ..), &accuracy) in points.iter().zip(&rising) {
        if accuracy >= target {
            return match before {
                None => Needs::AtMost(labels),
                Some((less, lower)) => {
                    let share = (target - lower) / (accuracy - lower);
                    Needs::About((less.ln() + share * (labels.ln() - less.ln())).exp())
                }
            };
        }
        before = Some((labels, accuracy));
    }
    before.map_or(Needs::Unknown, |(most, _)| Needs::NotReachedWith(most))
}

/// The nearest values, by weighted squares, that do not fall.
fn rising(points: &[(f64, f64, f64)]) -> Vec<f64> {
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new(); // mean, weight, points
    for &(_, value, weight) in points {
        blocks.push((value, weight, 1));
        while let [.., (a, wa, na), (b, wb, nb)] = blocks[..] {
            if a <= b {
                break;
            }
            blocks.truncate(blocks.len() - 2);
            blocks.push(((a * wa + b * wb) / (wa + wb), wa + wb, na + nb));
        }
    }
    blocks.into_iter().flat_map(|(mean, _, n)| std::iter::repeat_n(mean, n)).collect()
}

/// What came out in one sentence; `reference` is who reaches the target, with how many labels.
pub fn sentence(arms: &[Rungs], target: Option<f64>, reference: Arm, labels: usize) -> String {
    let Some(target) = target else {
        return format!(
            "How many labels are saved cannot be said: {} with all labels was not measured.",
            reference.name()
        );
    };
    let needs = |found: &Rungs| {
        let name = found.arm.name();
        match found.needs {
            Needs::AtMost(n) => format!("{name} needs {n:.0} or fewer"),
            Needs::About(n) => format!("{name} about {n:.0}"),
            Needs::NotReachedWith(n) => format!("{name} does not reach it with {n:.0}"),
            Needs::Unknown => format!("{name} was not measured"),
        }
    };
    let others: Vec<String> = arms.iter().filter(|found| found.arm != reference).map(needs).collect();
    let reached = format!("{} reaches {:.1} % with all {labels} labels", reference.name(), 100.0 * target);
    let said = match others.split_last() {
        None => format!("{reached}."),
        Some((last, [])) => format!("{reached}; for as much, {last}."),
        Some((last, others)) => format!("{reached}; for as much, {}, and {last}.", others.join(", ")),
    };
    let own = arms.iter().find(|found| found.arm == reference);
    let above = own.into_iter().flat_map(|found| &found.rungs).filter(|rung| rung.labels < labels);
    let above = above.max_by(|a, b| a.accuracy.mean.total_cmp(&b.accuracy.mean));
    match above.filter(|rung| rung.accuracy.mean - rung.accuracy.std > target) {
        None => said,
        Some(rung) => format!(
            "{said} But with {} labels it reached {:.1} %: more did not help it, so that this is no measure of what all labels are worth.",
            rung.labels,
            100.0 * rung.accuracy.mean
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(arm: Arm, labels: usize, draw: u64, accuracy: f64) -> Measured {
        Measured { arm, labels, given: labels, draw, seed: draw, accuracy, seconds: 2.0 }
    }

    #[test]
    fn labels_are_interpolated_by_their_logarithm() {
        let points = [(10.0, 0.5, 1.0), (1000.0, 0.9, 1.0)];
        let Needs::About(n) = needed(&points, 0.7) else { panic!("not between") };
        assert!((n - 100.0).abs() < 1e-9);
        assert_eq!(needed(&points, 0.5), Needs::AtMost(10.0));
        assert_eq!(needed(&points, 0.91), Needs::NotReachedWith(1000.0));
        let Needs::About(n) = needed(&points, 0.9) else { panic!("not between") };
        assert!((n - 1000.0).abs() < 1e-9);
        assert_eq!(needed(&[], 0.5), Needs::Unknown);
    }

    #[test]
    fn accuracies_that_fall_by_chance_are_averaged() {
        // sklearn.isotonic.isotonic_regression([0.5, 0.8, 0.7, 0.75, 0.6, 0.9], sample_weight=[1, 1, 3, 1, 1, 2])
        let points = [
            (1.0, 0.5, 1.0),
            (2.0, 0.8, 1.0),
            (3.0, 0.7, 3.0),
            (4.0, 0.75, 1.0),
            (5.0, 0.6, 1.0),
            (6.0, 0.9, 2.0),
        ];
        let expected = ISOTONIC;
        assert!(
            rising(&points).iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12),
            "{:?}",
            rising(&points)
        );
        // A lucky draw of few labels does not reach what more labels do not.
        assert!(matches!(needed(&points, 0.8), Needs::About(n) if n > 5.0));
    }

    const ISOTONIC: [f64; 6] = [0.5, 4.25 / 6.0, 4.25 / 6.0, 4.25 / 6.0, 4.25 / 6.0, 0.9];

    #[test]
    fn cells_are_averaged_over_their_draws() {
        let cells = [
            cell(Arm::SslLinearChosen, 40, 0, 0.8),
            cell(Arm::SslLinear, 250, 0, 0.9),
            cell(Arm::SslLinear, 40, 0, 0.6),
            cell(Arm::SslLinear, 40, 1, 0.7),
        ];
        let found = ladder(&cells, Some(0.8));
        assert_eq!(
            found.iter().map(|rungs| rungs.arm).collect::<Vec<_>>(),
            [Arm::SslLinear, Arm::SslLinearChosen]
        );
        let first = &found[0].rungs;
        assert_eq!((first[0].labels, first[0].accuracy.n, first[1].labels), (40, 2, 250));
        assert!((first[0].accuracy.mean - 0.65).abs() < 1e-12 && first[0].accuracy.std > 0.05);
        assert!(matches!(found[0].needs, Needs::About(n) if n > 40.0 && n < 250.0));
        assert_eq!(found[1].needs, Needs::AtMost(40.0));
    }

    #[test]
    fn the_sentence_says_what_every_arm_needs() {
        let cells = [
            cell(Arm::SslLinear, 10, 0, 0.5),
            cell(Arm::SslLinear, 1000, 0, 0.9),
            cell(Arm::SslLinearChosen, 10, 0, 0.7),
        ];
        let found = ladder(&cells, Some(0.9));
        assert_eq!(
            sentence(&found, Some(0.9), Arm::SslLinear, 1000),
            "SSL + linear reaches 90.0 % with all 1000 labels; for as much, SSL + linear + chosen samples does not reach it \
             with 10."
        );
        let falling = [cell(Arm::Supervised, 40, 0, 0.6), cell(Arm::Supervised, 1000, 0, 0.5)];
        let said = sentence(&ladder(&falling, Some(0.5)), Some(0.5), Arm::Supervised, 1000);
        assert!(said.ends_with("But with 40 labels it reached 60.0 %: more did not help it, so that this is no measure of what all labels are worth."), "{said}");
        let by_chance = [
            cell(Arm::Supervised, 40, 0, 0.45),
            cell(Arm::Supervised, 40, 1, 0.57),
            cell(Arm::Supervised, 1000, 0, 0.5),
        ];
        let said = sentence(&ladder(&by_chance, Some(0.5)), Some(0.5), Arm::Supervised, 1000);
        assert_eq!(said, "supervised from scratch reaches 50.0 % with all 1000 labels.");
        assert!(sentence(&ladder(&cells, None), None, Arm::SslLinear, 1000).contains("cannot be said"));
    }
}
