//! A comparison as tables for a terminal and as a page.

use super::comparison::{Comparison, MethodPair};
use crate::layers::LayerPair;
use crate::report::{Cell, Column, ReportData, Row, Scores, SuiteGroup, SuiteMeasure};
use selfsup::eval::{Mean, Paired};

impl Comparison {
    /// For a terminal.
    pub fn tables(&self) -> String {
        let mut lines = vec![format!("{:<40}{:>30}", "run", format!("{} accuracy [95 %]", self.probe))];
        let mean = |mean: &Mean| match mean.interval {
            Some(i) => format!("{:.4} [{:.4}, {:.4}]", mean.value, i.low, i.high),
            None => format!("{:.4}", mean.value),
        };
        for run in &self.runs {
            lines.push(format!("{:<40}{:>30}", run.run, mean(&run.accuracy)));
        }
        lines.push(String::new());
        lines.push(format!(
            "{:<40}{:>30}{:>9}{:>9}{:>9}",
            "first - second", "difference [95 %]", "p", "Holm", "McNemar"
        ));
        for pair in &self.pairs {
            let who = format!("{} - {}", pair.first, pair.second);
            let Paired { difference, p_value, .. } = &pair.paired;
            let (p, holm, exact) = (p_value, pair.p_holm, pair.mcnemar.p_value);
            lines.push(format!("{who:<40}{:>30}{p:>9.4}{holm:>9.4}{exact:>9.4}", mean(difference)));
        }
        if !self.methods.is_empty() {
            lines.push(String::new());
            lines.push(format!("{:<60}{:>30}", "method", "mean over seeds [95 %]"));
            for method in &self.methods {
                lines.push(format!(
                    "{:<60}{:>30}",
                    format!("{} ({} seeds)", method.method, method.accuracy.n),
                    mean(&method.accuracy)
                ));
            }
            for MethodPair { first, second, test, p_holm } in &self.method_pairs {
                lines.push(format!(
                    "{first} - {second}: {}, p = {:.4}, Holm {p_holm:.4}",
                    mean(&test.difference),
                    test.p_value
                ));
            }
        }
        for pair in &self.layers {
            lines.push(String::new());
            lines.push(pair.table());
        }
        lines.join("\n")
    }

    /// For report.html.
    pub fn page(&self) -> ReportData {
        let of = |mean: &Mean| Some((mean.value, mean.interval.map(|i| [i.low, i.high])));
        let cell = |mean: &Mean| of(mean).map(Cell::of_interval);
        let bars = Scores {
            columns: vec![Column { name: format!("{} probe", self.probe), explanation: String::new() }],
            rows: self
                .runs
                .iter()
                .map(|r| Row { name: r.run.clone(), cells: vec![cell(&r.accuracy)] })
                .collect(),
        };
        let definition = |key: &str| self.definitions[key].as_str().unwrap_or_default().to_owned();
        let accuracies = self.runs.iter().map(|run| SuiteMeasure {
            name: run.run.clone(),
            definition: run.method.clone(),
            values: vec![of(&run.accuracy)],
        });
        let pairs = self.pairs.iter().map(|pair| SuiteMeasure {
            name: format!("{} − {}", pair.first, pair.second),
            definition: definition("paired"),
            values: vec![
                of(&pair.paired.difference),
                Some((pair.paired.p_value, None)),
                Some((pair.p_holm, None)),
                Some((pair.mcnemar.p_value, None)),
            ],
        });
        let methods = self.methods.iter().map(|method| SuiteMeasure {
            name: method.method.clone(),
            definition: definition("methods"),
            values: vec![of(&method.accuracy)],
        });
        let method_pairs = self.method_pairs.iter().map(|pair| SuiteMeasure {
            name: format!("{} − {}", pair.first, pair.second),
            definition: definition("method_pairs"),
            values: vec![
                of(&pair.test.difference),
                Some((pair.test.p_value, None)),
                Some((pair.p_holm, None)),
            ],
        });
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut suite = vec![
            SuiteGroup {
                title: "Accuracy".to_owned(),
                reading: "Each bar is a run's accuracy in per cent; the line through its end is the 95 % interval. Runs whose lines \
                          overlap may still differ surely: see the pairs."
                    .to_owned(),
                encoders: words(&["accuracy"]),
                measures: accuracies.collect(),
                figure: Some(bars),
                ..Default::default()
            },
            SuiteGroup {
                title: "Pairs on the same test samples".to_owned(),
                encoders: words(&["difference", "p, permutation", "p, Holm", "p, McNemar"]),
                measures: pairs.collect(),
                ..Default::default()
            },
        ];
        if !self.methods.is_empty() {
            suite.push(SuiteGroup {
                title: "Means over seeds".to_owned(),
                encoders: words(&["accuracy"]),
                measures: methods.collect(),
                ..Default::default()
            });
        }
        if !self.method_pairs.is_empty() {
            suite.push(SuiteGroup {
                title: "Pairs of methods".to_owned(),
                encoders: words(&["difference", "p, Welch", "p, Holm"]),
                measures: method_pairs.collect(),
                ..Default::default()
            });
        }
        ReportData {
            kind: "Comparison of runs".to_owned(),
            title: self.runs.iter().map(|run| run.run.as_str()).collect::<Vec<_>>().join(", "),
            facts: vec![("Test samples".to_owned(), self.test_samples.to_string())],
            suite,
            layers: self.layers.iter().map(LayerPair::figure).collect(),
            ..Default::default()
        }
    }
}
