//! What the command is told, and what of it cannot work.

use crate::{finetune, label_table, places, report};
use anyhow::{Result, ensure};
use clap::ValueEnum;
use selfsup::data::ExistingFile;
use std::path::PathBuf;

/// What `selfsup label` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the run whose encoder looks at the samples.
    pub run: PathBuf,
    /// Whose encoder.
    #[arg(long, value_enum, default_value = "trained")]
    pub weights: crate::recipe::Whose,
    /// A known set's name, or the path of a file or folder; its training part is labelled.
    #[arg(long, value_name = "NAME_OR_PATH")]
    pub data: String,
    /// The file to write: labels.csv or labels.parquet; with --next, a CSV file of proposals.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Labels of some samples: a CSV or Parquet file with the columns file and label. Without any, samples get the classes of a
    /// run of selfsup finetune, or are clustered.
    #[arg(long, value_name = "FILE", conflicts_with = "labels_per_class")]
    pub labels: Option<PathBuf>,
    /// Try it out: draw so many labels of each class from those that the data have, and judge by the others.
    #[arg(long, value_name = "N")]
    pub labels_per_class: Option<usize>,
    /// With --labels-per-class: which ones are drawn.
    #[arg(long, value_name = "SEED", requires = "labels_per_class")]
    pub draw: Option<u64>,
    /// What a person corrected on a review page: corrected.csv. It wins over --labels; may be given again for every page, a
    /// later one winning over those before.
    #[arg(long, value_name = "FILE")]
    pub corrected: Vec<PathBuf>,
    /// Take the classes from the label file: the folders of the data are no classes.
    #[arg(long)]
    pub own_classes: bool,
    /// How to label; with labels mixed, without the classifier of a fine-tuned run or k-means.
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Without labels: how many clusters; suggested by several criteria when left out.
    #[arg(long, value_name = "K")]
    pub clusters: Option<i64>,
    /// Average predictions over so many augmented views of each sample too, and reject labels that most of them have not
    /// (mixed, linear, nearest-mean). Takes as many times longer.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub views: usize,
    /// Labels that are less probable are rejected: they have weight 0.
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    pub min_probability: f64,
    /// Do not reject samples that are unlike all labelled ones.
    #[arg(long)]
    pub keep_unlike: bool,
    /// Write review.html to this folder: the most doubtful labels, for a person to accept or correct.
    #[arg(long, value_name = "DIR")]
    pub review: Option<PathBuf>,
    /// How many the review page shows.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub review_samples: usize,
    /// Write report.html and report.json to this folder: how far the labels can be trusted.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Propose so many samples to be labelled next, in place of labelling; with --review, on a page to label them.
    #[arg(long, value_name = "N", conflicts_with_all = ["report", "method", "clusters", "min_probability", "keep_unlike"])]
    pub next: Option<usize>,
    /// With --next: how to choose; with labels cluster-uncertainty, without typiclust.
    #[arg(long, value_enum, requires = "next")]
    pub strategy: Option<Strategy>,
    /// Replace files that are there already.
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub machine: crate::Machine,
}

/// A way to label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Few labels: linear and spreading, in the shares with which held-out labels are predicted best.
    Mixed,
    /// Few labels: logistic regression on the features, averaged over views.
    Linear,
    /// Few labels: the class whose mean is nearest, averaged over views.
    NearestMean,
    /// Few labels: handed on along the graph of neighbours.
    Propagation,
    /// Few labels: handed on along the graph, where neighbours can outvote a label.
    Spreading,
    /// No labels: clusters around means.
    KMeans,
    /// No labels: clusters of equal size.
    Sinkhorn,
    /// No labels: clusters along the graph of neighbours.
    Agglomerative,
}

impl Method {
    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Mixed => "mixed",
            Method::Linear => "linear",
            Method::NearestMean => "nearest-mean",
            Method::Propagation => "propagation",
            Method::Spreading => "spreading",
            Method::KMeans => "k-means",
            Method::Sinkhorn => "sinkhorn",
            Method::Agglomerative => "agglomerative",
        }
    }

    /// Whether it can average over views.
    pub fn asks_views(self) -> bool {
        matches!(self, Method::Mixed | Method::Linear | Method::NearestMean)
    }

    /// Whether it needs labels.
    pub fn needs_labels(self) -> bool {
        !matches!(self, Method::KMeans | Method::Sinkhorn | Method::Agglomerative)
    }
}

/// A way to choose what to label next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// Typical samples of parts of the data without labels.
    Typiclust,
    /// What is farthest from all labelled samples.
    CoreSet,
    /// What the model is least sure of, in each part of the data.
    ClusterUncertainty,
    /// What is both unsure and typical.
    WeightedRanks,
    /// The smallest difference between the two most probable classes.
    Margin,
    /// The highest entropy.
    Entropy,
    /// The lowest probability of the most probable class.
    LeastConfident,
}

impl Strategy {
    /// Whether it asks a model, which needs labels of two classes.
    pub fn asks_a_model(self) -> bool {
        !matches!(self, Strategy::Typiclust | Strategy::CoreSet)
    }
}

/// The names of the pages.
pub const REVIEW: &str = "review.html";
pub const REPORT_JSON: &str = "report.json";

/// The labels that a fine-tuned run has learned from, in its folder.
pub const TAUGHT: &str = "labels.csv";

impl Arguments {
    /// Whether there are labels to start from.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some() || self.labels_per_class.is_some() || !self.corrected.is_empty()
    }

    /// What happens to files that are there.
    pub fn existing(&self) -> ExistingFile {
        if self.overwrite { ExistingFile::Replace } else { ExistingFile::Keep }
    }

    /// The way to label.
    pub fn method(&self) -> Method {
        self.method.unwrap_or(if self.has_labels() { Method::Mixed } else { Method::KMeans })
    }

    /// Whether a run that was fine-tuned is to label by what it has learned itself.
    pub fn leaves_it_to_the_run(&self) -> bool {
        let few = self.labels.is_some() || self.labels_per_class.is_some();
        !few && self.method.is_none() && self.clusters.is_none()
    }

    /// Refuses what can be seen to be wrong without data.
    ///
    /// # Errors
    /// With the argument that is wrong, or the file that would be overwritten.
    pub fn check(&self) -> Result<()> {
        let method = self.method();
        if self.next.is_none() && method.needs_labels() && !self.has_labels() {
            anyhow::bail!("--method {}: needs labels; give some with --labels few.csv", method.name());
        }
        ensure!(
            method.needs_labels() || !self.has_labels(),
            "--method {}: takes no labels; leave them out, or choose mixed, linear, nearest-mean, propagation or spreading",
            method.name()
        );
        ensure!(
            self.clusters.is_none() || !method.needs_labels(),
            "--clusters: there are as many classes as the labels have; leave it out"
        );
        ensure!(self.clusters.is_none_or(|k| k > 0), "--clusters {}: at least 1", self.clusters.unwrap_or(0));
        ensure!(
            (0.0..=1.0).contains(&self.min_probability),
            "--min-probability {}: 0 to 1",
            self.min_probability
        );
        ensure!(self.next != Some(0), "--next 0: at least 1");
        ensure!(self.labels_per_class != Some(0), "--labels-per-class 0: at least 1");
        ensure!(self.review_samples > 0, "--review-samples 0: at least 1");
        match self.next {
            Some(_) => ensure!(
                self.out.extension().is_some_and(|ending| ending == "csv"),
                "--out {}: proposals are a file that ends in .csv",
                self.out.display()
            ),
            None => label_table::check_ending(&self.out)?,
        }
        self.check_places()
    }

    /// Refuses places that cannot be written to, and files that are to stay.
    fn check_places(&self) -> Result<()> {
        places::check_folder_of(&self.out)?;
        let mut files = vec![self.out.clone()];
        files.extend(self.review.iter().map(|folder| folder.join(REVIEW)));
        let pages = report::LABEL_FILES.into_iter().chain([REPORT_JSON]);
        files.extend(self.report.iter().flat_map(|folder| pages.clone().map(move |name| folder.join(name))));
        // A fine-tuned run keeps there what it has learned from.
        let config = std::fs::read_to_string(self.run.join("config.toml"));
        let taught = config.is_ok_and(|text| finetune::made(&text)).then(|| self.run.join(TAUGHT));
        for file in &files {
            // What is read must not be what is written: a file of labels would be lost.
            let same =
                |input: &PathBuf| input == file || input.canonicalize().ok() == file.canonicalize().ok();
            if let Some(input) =
                self.labels.iter().chain(&self.corrected).chain(&taught).find(|i| i.exists() && same(i))
            {
                anyhow::bail!("{}: is read and would be written over; name another", input.display());
            }
        }
        places::check_free(&files, self.overwrite)?;
        for folder in self.review.iter().chain(&self.report) {
            ensure!(!folder.exists() || folder.is_dir(), "{}: is no folder", folder.display());
            let holds_run = folder.join("config.toml").exists();
            ensure!(
                !holds_run,
                "{}: holds a run, whose report would be lost; name another",
                folder.display()
            );
        }
        Ok(())
    }
}
