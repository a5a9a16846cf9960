//! `[eval.suite]`: how the full suite asks.

use anyhow::{Result, ensure};
use selfsup::core::Error;
use selfsup::eval::{
    ApproximateSearch, FewLabelConfig, FullSuiteConfig, LabelCurveConfig, LabelFreeConfig,
    NovelClassesConfig, RetrievalConfig,
};
use selfsup::numerics::{Metric, SelfMatches};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// `[eval.suite]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuiteSettings {
    /// How many of the nearest retrieval looks at, ascending.
    pub cutoffs: Vec<i64>,
    /// The length of the list that mAP goes over; without it, all other test samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<i64>,
    /// What "near" means.
    pub metric: Metric,
    /// Test samples that are searched for among the others, drawn where there are more.
    pub queries: usize,
    /// Inverted lists in the place of the exact search, for test parts of millions; without it, the search is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approximate: Option<ApproximateSearch>,
    /// Draws of retrieval's intervals.
    pub resamples: usize,
    /// Labels of each class at the points of the curve, ascending; draws and strength are those of `[eval.few_label]`.
    pub labels_per_class: Vec<usize>,
    /// Starts of k-means, of which the best counts.
    pub starts: u64,
    /// Test samples that the silhouette compares, drawn where there are more.
    pub max_silhouettes: usize,
    /// Classes that are left out in turn.
    pub novel_classes: NovelClassesConfig,
    /// Decides what is drawn: queries, starts, the silhouette's samples.
    pub seed: u64,
}

impl Default for SuiteSettings {
    fn default() -> Self {
        let RetrievalConfig { cutoffs, depth, metric, approximate, resamples, seed, .. } =
            RetrievalConfig::default();
        let FullSuiteConfig { label_curve, starts, max_silhouettes, novel_classes, .. } =
            FullSuiteConfig::default();
        SuiteSettings {
            cutoffs,
            depth,
            metric,
            queries: 2000,
            approximate,
            resamples,
            labels_per_class: label_curve.labels_per_class,
            starts,
            max_silhouettes,
            novel_classes,
            seed,
        }
    }
}

impl SuiteSettings {
    /// Refuses what cannot work whatever the data are.
    ///
    /// # Errors
    /// With the field and what would be right.
    pub fn check(&self) -> Result<()> {
        let at = "eval.suite";
        let Self { cutoffs, labels_per_class, novel_classes, .. } = self;
        ascending("cutoffs", cutoffs)?;
        let longest = cutoffs.last().copied().unwrap_or(1);
        if let Some(depth) = self.depth.filter(|depth| *depth < longest) {
            anyhow::bail!("{at}.depth = {depth}: at least {longest}, the last of the cutoffs");
        }
        if let Some(ApproximateSearch { lists, probes, checked }) = self.approximate {
            ensure!(
                self.depth.is_some(),
                "{at}.depth is missing: a number beside approximate, which ranks no whole gallery"
            );
            ensure!(lists > 0, "{at}.approximate.lists = {lists}: at least 1");
            ensure!(
                (1..=lists).contains(&probes),
                "{at}.approximate.probes = {probes}: 1 to {lists}, the lists"
            );
            ensure!(checked > 0, "{at}.approximate.checked = 0: at least 1 query");
        }
        ascending("labels_per_class", labels_per_class)?;
        ensure!(self.max_silhouettes > 2, "{at}.max_silhouettes = {}: at least 3", self.max_silhouettes);
        for (field, value) in [
            ("queries", self.queries),
            ("resamples", self.resamples),
            ("starts", self.starts as usize),
            ("novel_classes.classes", novel_classes.classes),
            ("novel_classes.max_train", novel_classes.max_train),
            ("novel_classes.max_test", novel_classes.max_test),
            ("novel_classes.outliers.k", novel_classes.outliers.k.max(0) as usize),
        ] {
            ensure!(value > 0, "{at}.{field} = {value}: at least 1");
        }
        Ok(())
    }

    /// What the suite is asked, with the draws of `few`.
    pub fn config(&self, few: &FewLabelConfig) -> FullSuiteConfig {
        let asked = self.clone();
        FullSuiteConfig {
            retrieval: RetrievalConfig {
                cutoffs: asked.cutoffs,
                depth: asked.depth,
                metric: asked.metric,
                self_matches: SelfMatches::Exclude,
                max_queries: Some(asked.queries),
                approximate: asked.approximate,
                resamples: asked.resamples,
                seed: asked.seed,
            },
            label_curve: LabelCurveConfig {
                labels_per_class: asked.labels_per_class,
                few_label: few.clone(),
            },
            starts: asked.starts,
            max_silhouettes: asked.max_silhouettes,
            novel_classes: asked.novel_classes,
            label_free: LabelFreeConfig { seed: asked.seed, ..Default::default() },
            seed: asked.seed,
        }
    }
}

fn ascending<T: PartialOrd + Default + Debug>(field: &str, values: &[T]) -> Result<()> {
    let rising = values.windows(2).all(|w| w[0] < w[1]) && values.iter().all(|v| *v > T::default());
    ensure!(!values.is_empty() && rising, "eval.suite.{field} = {values:?}: ascending numbers, at least 1");
    Ok(())
}

/// An error of the suite with its field as the recipe has it.
pub fn blamed(error: Error) -> Error {
    let section = match &error {
        Error::Config { field, .. } if matches!(field.as_str(), "lists" | "probes") => {
            "eval.suite.approximate"
        }
        _ => "eval.suite",
    };
    crate::recipe::inside(error, section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn recipe(settings: &[&str]) -> Result<Recipe> {
        let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }";
        let settings: Vec<_> = settings.iter().map(|setting| setting.parse().unwrap()).collect();
        let recipe = Recipe::parse(text, &settings)?;
        crate::judge::check(&recipe)?;
        Ok(recipe)
    }

    #[test]
    fn without_the_table_the_suite_asks_as_the_library_does() {
        let few = FewLabelConfig::default();
        assert_eq!(recipe(&[]).unwrap().eval.suite.config(&few), FullSuiteConfig::default());
    }

    #[test]
    fn what_is_set_comes_back_from_the_file_of_a_run() {
        let set = [
            "eval.suite.depth=50",
            "eval.suite.approximate={ lists = 20, probes = 4 }",
            "eval.suite.cutoffs=[1, 20]",
        ];
        let recipe = recipe(&set).unwrap();
        let again = Recipe::parse(&recipe.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(again, recipe);
        let config = again.eval.suite.config(&FewLabelConfig::default()).retrieval;
        let approximate = Some(ApproximateSearch { lists: 20, probes: 4, checked: 1000 });
        assert_eq!((config.depth, config.approximate, config.cutoffs), (Some(50), approximate, vec![1, 20]));
        assert_eq!((config.max_queries, config.self_matches), (Some(2000), SelfMatches::Exclude));
    }

    #[test]
    fn names_the_field_that_cannot_work() {
        for (set, message) in [
            ("cutoffs=[5, 1]", "eval.suite.cutoffs = [5, 1]: ascending numbers, at least 1"),
            ("depth=5", "eval.suite.depth = 5: at least 10, the last of the cutoffs"),
            ("approximate={ lists = 20 }", "eval.suite.depth is missing: a number beside approximate"),
            ("labels_per_class=[0]", "eval.suite.labels_per_class = [0]: ascending numbers, at least 1"),
            ("starts=0", "eval.suite.starts = 0: at least 1"),
            ("max_silhouettes=2", "eval.suite.max_silhouettes = 2: at least 3"),
            ("novel_classes.classes=0", "eval.suite.novel_classes.classes = 0: at least 1"),
        ] {
            let error = recipe(&[&format!("eval.suite.{set}")]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let both = ["eval.suite.depth=50", "eval.suite.approximate={ lists = 20, probes = 40 }"];
        let error = recipe(&both).unwrap_err().to_string();
        assert_eq!(error, "eval.suite.approximate.probes = 40: 1 to 20, the lists");
        let error = recipe(&["eval.suite.metric=\"cosin\""]).unwrap_err().to_string();
        assert!(error.contains("eval.suite.metric") && error.contains("cosine"), "{error}");
        let error = blamed(Error::config("lists", 300, "1 to 60, the number of keys")).to_string();
        assert_eq!(error, "eval.suite.approximate.lists = 300: 1 to 60, the number of keys");
    }
}
