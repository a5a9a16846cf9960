//! The audit as its page shows it.

use super::{Arguments, Audited, Part};
use crate::report::audit::{AuditData, ClassDoubts, Doubted};
use crate::report::{Along, Chart, Confusion, Line, Number, Point};
use anyhow::Result;
use selfsup::labels::Calibration;

/// Puts together what the page shows.
///
/// # Errors
/// When a sample that is shown cannot be read.
pub fn data(audited: &Audited) -> Result<AuditData> {
    let (found, given) = (audited.found, audited.given);
    let Arguments { data, part, shown, .. } = audited.arguments;
    // Those that are not suspicious too, so that there is something to look at where little is.
    let doubtful = audited.order().into_iter().filter(|&i| found.suggested[i] != audited.labels[i]);
    let doubted = doubtful.take(*shown).map(|i| {
        let sample = given.samples[i];
        let class = audited.class(audited.labels[i]).to_owned();
        Ok(Doubted {
            sample: audited.subject.show(sample, Some(class))?,
            file: audited.subject.name(sample),
            suggested: audited.class(found.suggested[i]).to_owned(),
            probability: found.probability[i],
        })
    });
    let classes = given.classes.iter().zip(audited.by_class()).zip(found.audit.joint.noise_rates());
    let joint = &found.audit.joint.calibrated;
    let counts = joint.iter().map(|row| row.iter().map(|&count| count.max(0) as u64).collect()).collect();
    let labels = audited.labels.len();
    let part = if *part == Part::Test { ", its test part" } else { "" };
    let facts = [
        ("Data", format!("{data}{part}")),
        ("Labels", format!("{labels} of {} classes", given.classes.len())),
        (
            "Judged by",
            format!(
                "logistic regression on the features of {}, C = {}, cross-validated: {:.1} % agree with the label",
                audited.arguments.run.display(),
                found.prediction.c,
                100.0 * found.prediction.accuracy
            ),
        ),
        ("Seed", audited.arguments.seed.to_string()),
        ("Time", format!("{:.0} s", audited.seconds)),
    ];
    Ok(AuditData {
        title: audited
            .arguments
            .labels
            .as_ref()
            .map_or_else(|| data.clone(), |file| file.display().to_string()),
        outcome: outcome(audited),
        facts: facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        command: audited.command(),
        planted: planted(audited),
        doubted: doubted.collect::<Result<_>>()?,
        classes: classes
            .map(|((name, (labels, doubted)), estimated)| ClassDoubts {
                name: name.clone(),
                labels,
                doubted,
                estimated,
            })
            .collect(),
        joint: Confusion { by: "the confident joint".into(), counts, classes: given.classes.clone() },
        calibration: Some(chart(&found.before, &found.after)),
        calibration_reading: reading(&found.before, &found.after),
    })
}

fn outcome(audited: &Audited) -> String {
    let (n, doubted) = (audited.labels.len(), audited.found.audit.doubted.len());
    let share = 100.0 * doubted as f64 / n as f64;
    let (estimated, random) = (100.0 * audited.estimated_wrong(), 100.0 * audited.noise());
    let words = format!(
        "{doubted} of {n} labels ({share:.1} %) are suspicious. {random:.1} % look drawn at random; the confident joint counts \
         {estimated:.1} % as confidently of another class."
    );
    let Some(counted) = &audited.counted else { return words };
    let found = 100.0 * counted.doubted_recall;
    format!(
        "{words} {} labels had been made wrong by intent: {found:.1} % of them are among those.",
        counted.planted
    )
}

fn planted(audited: &Audited) -> Vec<Number> {
    let Some(counted) = &audited.counted else { return Vec::new() };
    let number = |name: &str, value: f64, reading: &str| Number {
        name: name.to_owned(),
        value,
        reading: reading.to_owned(),
    };
    let ranking = &counted.ranking;
    let mut numbers = vec![
        number(
            "AUROC",
            ranking.auroc,
            "How often a planted label has a lower quality than another one: 0.5 is chance, 1 is always.",
        ),
        number(
            "average precision",
            ranking.average_precision,
            "The area under the precision-recall curve: 1 is best.",
        ),
        number(
            "precision at the planted number",
            ranking.precision,
            "The share of planted labels among those of the lowest quality, as many as were planted.",
        ),
        number(
            "recall of the suspicious",
            counted.doubted_recall,
            "The share of planted labels that is suspicious.",
        ),
        number(
            "restored",
            counted.restored,
            "The share of planted labels for which the former class is suggested.",
        ),
        number("ECE before scaling", audited.found.before.ece, "By the labels as they were checked."),
        number(
            "ECE after scaling",
            audited.found.after.ece,
            "By the same labels, each held out from its own scaling.",
        ),
        number(
            "ECE without the noise",
            counted.truth_ece,
            "Of the probabilities without the estimated noise, by the labels as they were before the planting.",
        ),
        number(
            "ECE of the quality",
            counted.quality_ece,
            "The quality as a probability that the label is right, by what was planted.",
        ),
    ];
    if let Some(precision) = counted.doubted_precision {
        let reading =
            "The share of planted labels among the suspicious ones. Others may be wrong from the beginning.";
        numbers.insert(3, number("precision of the suspicious", precision, reading));
    }
    numbers
}

fn chart(before: &Calibration, after: &Calibration) -> Chart {
    let line = |name: &str, found: &Calibration| Line {
        name: name.to_owned(),
        points: found
            .curve
            .iter()
            .map(|p| Point { x: p.confidence, y: p.accuracy, interval: None })
            .collect(),
    };
    let end = |x| Point { x, y: x, interval: None };
    Chart {
        name: "Accuracy by confidence".into(),
        along: Along { name: "confidence".into(), factors: false },
        up: "accuracy".into(),
        lines: vec![
            line("before scaling", before),
            line("after scaling", after),
            Line { name: "true confidences".into(), points: vec![end(0.0), end(1.0)] },
        ],
        reference: None,
    }
}

fn reading(before: &Calibration, after: &Calibration) -> String {
    format!(
        "Of the samples judged with a confidence, how many are judged as they are labelled. The expected calibration error is \
         {:.3} before scaling and {:.3} after, each sample scaled by what its label had no part in.",
        before.ece, after.ece
    )
}
