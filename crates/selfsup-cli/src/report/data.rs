//! What a page shows, as plain data.

use super::robustness::RobustnessShown;
use super::{Chart, Curve};
use image::RgbImage;
use selfsup::core::Score;
use selfsup::eval::{Interval, LEVEL};

/// All that a report shows. What is empty or `None` is left out of the page.
#[derive(Clone, Debug, Default)]
pub struct ReportData {
    /// What the page is, as in `Comparison of runs`; a report of a pretraining when empty.
    pub kind: String,
    /// What the run is called, as in `simclr-fashion-mnist`.
    pub title: String,
    /// The method's name, as in `SimCLR`.
    pub method: String,
    /// Authors, title and year of the method's paper.
    pub paper: String,
    /// Names and values for the head: data, encoder, parameters, epochs, time, seed, machine.
    pub facts: Vec<(String, String)>,
    /// The command that repeats the run.
    pub command: String,
    /// What should make the reader doubt it, each in a sentence that begins small.
    pub warnings: Vec<String>,
    /// The scores of the trained encoder and what it is compared with.
    pub scores: Option<Scores>,
    /// The measures by group.
    pub suite: Vec<SuiteGroup>,
    /// What these are called together, as in `Full suite`; `Measures` when empty.
    pub suite_title: &'static str,
    /// What is left of the accuracy on disturbed images.
    pub robustness: Option<RobustnessShown>,
    /// Images and the views that the augmentations made of them.
    pub views: Vec<ViewRow>,
    /// Test images and what the method makes of them.
    pub made: Vec<ViewRow>,
    /// How well the method's own task is solved.
    pub task: Option<Task>,
    /// Sets of prototypes and the images near them.
    pub prototypes: Vec<PrototypeSet>,
    /// Where an encoder with attention looks.
    pub attention: Option<Attention>,
    /// What of test images their features come from.
    pub saliency: Option<Saliency>,
    /// What the clusters of the test images hold, the largest first.
    pub clusters: Vec<Cluster>,
    /// Test images and the training images with the nearest features.
    pub inversion: Vec<Query>,
    /// What was measured over the steps of the training.
    pub curves: Vec<Curve>,
    /// Features of the test set laid out on planes.
    pub maps: Option<Maps>,
    /// Some test samples and those nearest to them.
    pub neighbours: Vec<Query>,
    /// What the linear probe takes for what.
    pub confusion: Option<Confusion>,
    /// How well a language model predicts.
    pub perplexity: Option<Perplexity>,
    /// Pictures side by side, each set under a title of its own.
    pub galleries: Vec<Gallery>,
    /// How alike the layers of networks are.
    pub layers: Vec<Layers>,
}

/// Pictures side by side.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// What they are.
    pub title: String,
    /// One sentence on how to read them.
    pub note: String,
    /// What the first picture of every row is.
    pub first: String,
    /// The pictures.
    pub rows: Vec<ViewRow>,
}

/// How alike the layers of two networks are, 1 for those that one rotation makes equal.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The network whose layers are the rows.
    pub first: String,
    /// The network whose layers are the columns.
    pub second: String,
    /// The first network's layers.
    pub rows: Vec<String>,
    /// The second network's layers.
    pub columns: Vec<String>,
    /// `values[row][column]`
    pub values: Vec<Vec<f64>>,
    /// One sentence on how to read it.
    pub reading: String,
}

/// How well a method's own task is solved on images that were not learned from.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// What the method does, as in `tell by how many quarter turns an image was turned`.
    pub about: String,
    /// Numbers of the task.
    pub numbers: Vec<Number>,
    /// Questions with their answers.
    pub questions: Vec<Questions>,
}

impl Task {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.questions.is_empty()
    }
}

/// A number and how to read it.
#[derive(Clone, Debug, Default)]
pub struct Number {
    /// What it is called.
    pub name: String,
    /// The number.
    pub value: f64,
    /// One sentence on how to read it.
    pub reading: String,
}

/// Questions of one kind.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// Whose questions, where there are several; otherwise empty.
    pub name: String,
    /// What is asked.
    pub question: String,
    /// How many were asked.
    pub asked: u64,
    /// How many were answered rightly.
    pub right: u64,
    /// Some of them.
    pub shown: Vec<Answer>,
    /// Which answers were taken for which; none where there are many.
    pub confusion: Option<Confusion>,
}

/// A question as it was posed, and its answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The tiles.
    pub image: RgbImage,
    /// The right answer.
    pub truth: String,
    /// What was answered.
    pub given: String,
}

impl Answer {
    /// Whether the answer is right, and the words under the picture, in one line or two.
    pub fn caption(&self) -> (bool, String) {
        if self.truth == self.given {
            return (true, format!("✓ {}", self.given));
        }
        (false, format!("✗ {}\ntrue: {}", self.given, self.truth))
    }
}

/// Prototypes that test images are spread over.
#[derive(Clone, Debug, Default)]
pub struct PrototypeSet {
    /// Which set, where there are several; otherwise empty.
    pub name: String,
    /// The images.
    pub images: u64,
    /// The prototypes.
    pub prototypes: usize,
    /// Those that an image at least is nearest to.
    pub used: usize,
    /// How many would be used if the images were spread over them evenly.
    pub effective: f64,
    /// The most used prototypes.
    pub shown: Vec<Prototype>,
}

/// A prototype and the images near it.
#[derive(Clone, Debug)]
pub struct Prototype {
    /// Its number, from 0.
    pub number: usize,
    /// The images that are nearer to it than to any other.
    pub assigned: u64,
    /// The nearest images, the nearest first, with how near they are.
    pub nearest: Vec<(Sample, Option<f64>)>,
}

/// Where an encoder looks.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    /// Who looks, as in `the class token`.
    pub of: String,
    /// The patches of an image.
    pub patches: usize,
    /// The images that the numbers of the captions are averaged over.
    pub images: usize,
    /// Images and a map for each head.
    pub rows: Vec<ViewRow>,
}

/// What of images an encoder's features come from, beside what random weights make of it.
#[derive(Clone, Debug, Default)]
pub struct Saliency {
    /// The columns of maps, as in `occlusion`.
    pub columns: Vec<String>,
    /// Images with their maps.
    pub rows: Vec<MapRow>,
    /// What the sanity check says of each method.
    pub checks: Vec<MapCheck>,
    /// Whether the last column has patches in the colours of their features.
    pub patch_colours: bool,
    /// By what share of the score's gain over the average image the parts of integrated gradients miss it; none where there are none.
    pub completeness_gap: Option<f64>,
    /// The images that the check is averaged over.
    pub images: usize,
}

/// An image and its maps, one for each column.
#[derive(Clone, Debug)]
pub struct MapRow {
    /// The image.
    pub image: RgbImage,
    /// The maps of the trained encoder.
    pub trained: Vec<RgbImage>,
    /// Those of random weights.
    pub random: Vec<RgbImage>,
}

/// How alike the maps of a trained and of a random network are.
#[derive(Clone, Debug, Default)]
pub struct MapCheck {
    /// The method, as in `Grad-CAM`.
    pub name: String,
    /// How to read its maps.
    pub reading: String,
    /// The rank correlation and its interval; none where there is none.
    pub rank_correlation: Option<(f64, Option<[f64; 2]>)>,
    /// The structural similarity and its interval; none of small maps.
    pub ssim: Option<(f64, Option<[f64; 2]>)>,
    /// What follows, in words.
    pub words: String,
}

/// A cluster of images.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The images of all clusters together.
    pub images: usize,
    /// How many clusters there are, of which the largest are shown.
    pub clusters: usize,
    /// Its members.
    pub size: usize,
    /// The mean cosine similarity of its members to its middle.
    pub cohesion: f64,
    /// The members nearest to the middle, with how near they are.
    pub typical: Vec<(Sample, f64)>,
    /// Those farthest from it.
    pub atypical: Vec<(Sample, f64)>,
}

/// How far the scale of bars reaches, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// To 100 %: the bars are shares of what could be.
    #[default]
    Whole,
    /// As far as the longest bar and its interval.
    Longest,
}

/// Accuracies by encoder and probe.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// The probes; the outcome is told by the first.
    pub columns: Vec<Column>,
    /// The trained encoder first, then what it is compared with.
    pub rows: Vec<Row>,
}

/// A probe.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// As in `linear`.
    pub name: String,
    /// One sentence on what is measured.
    pub explanation: String,
}

/// An encoder's scores.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// As in `trained`, `untrained encoder`, `raw input`.
    pub name: String,
    /// One for each column; `None` where it was not measured.
    pub cells: Vec<Option<Cell>>,
}

/// A score and how sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// The mean accuracy, from 0 to 1.
    pub mean: f64,
    /// What is known of how it would vary.
    pub spread: Spread,
}

/// How a score varies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Spread {
    /// Not known: it was measured once.
    #[default]
    None,
    /// From repetition to repetition; printed behind a plus-minus sign.
    StandardDeviation {
        /// The standard deviation, in the score's unit.
        std: f64,
        /// The repetitions.
        n: usize,
    },
    /// Between two bounds, at some level of confidence; printed in brackets.
    Interval {
        /// The lower bound.
        low: f64,
        /// The upper bound.
        high: f64,
        /// The share of repetitions in which such an interval covers the true value.
        level: f64,
    },
}

impl Cell {
    /// A score over repetitions, or one that was measured once, which its interval belongs to if it has one.
    pub fn of(score: &Score, interval: Option<Interval>) -> Self {
        let Score { mean, std, n } = *score;
        let spread = match interval {
            _ if n > 1 => Spread::StandardDeviation { std, n },
            Some(Interval { low, high, level, .. }) => Spread::Interval { low, high, level },
            None => Spread::None,
        };
        Cell { mean, spread }
    }

    /// A score and its 95 % interval, where it has one.
    pub fn of_interval((mean, interval): (f64, Option<[f64; 2]>)) -> Self {
        let spread = interval.map(|[low, high]| Spread::Interval { low, high, level: LEVEL });
        Cell { mean, spread: spread.unwrap_or_default() }
    }

    /// Where the line through a bar's end begins and ends.
    pub fn bounds(&self) -> Option<[f64; 2]> {
        match self.spread {
            Spread::StandardDeviation { std, .. } => Some([self.mean - std, self.mean + std]),
            Spread::Interval { low, high, .. } => Some([low, high]),
            Spread::None => None,
        }
    }
}

/// Measures that answer one question.
#[derive(Clone, Debug, Default)]
pub struct SuiteGroup {
    /// As in `Retrieval`.
    pub title: String,
    /// One sentence on how to read the figure.
    pub reading: String,
    /// The trained encoder first, then what it is compared with.
    pub encoders: Vec<String>,
    /// The measures, in order.
    pub measures: Vec<SuiteMeasure>,
    /// The most telling of them as bars; none where they are no shares.
    pub figure: Option<Scores>,
    /// How far the scale of the bars reaches.
    pub reach: Reach,
    /// A measure along something, and a sentence on how to read that.
    pub chart: Option<(Chart, String)>,
}

/// A measure of every encoder.
#[derive(Clone, Debug, Default)]
pub struct SuiteMeasure {
    /// As in `recall@10`.
    pub name: String,
    /// What it is.
    pub definition: String,
    /// The values and their intervals, one for each encoder; `None` where it was not measured.
    pub values: Vec<Option<(f64, Option<[f64; 2]>)>>,
}

/// An image and views of it.
#[derive(Clone, Debug)]
pub struct ViewRow {
    /// The image as stored.
    pub image: RgbImage,
    /// What training sees of it.
    pub views: Vec<View>,
}

/// One augmented view.
#[derive(Clone, Debug)]
pub struct View {
    /// The view as training sees it, in displayable colours.
    pub image: RgbImage,
    /// What was drawn for it, as in `crop 62 %, flipped, hue +0.04`.
    pub caption: String,
}

/// Planes with the same samples on each.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// Best in pairs that stand side by side: a projection of the trained and of the untrained encoder.
    pub maps: Vec<Map>,
    /// The class of every sample, an index into `classes`; empty for samples without labels.
    pub labels: Vec<usize>,
    /// The classes' names.
    pub classes: Vec<String>,
}

/// Samples on a plane.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// As in `t-SNE, trained`.
    pub name: String,
    /// Where each sample lies.
    pub points: Vec<[f32; 2]>,
}

/// A sample as a reader sees it.
#[derive(Clone, Debug)]
pub enum Shown {
    /// A thumbnail.
    Image(RgbImage),
    /// The beginning of a text.
    Text(String),
}

/// A sample with its class's name, where it has one.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The sample itself.
    pub shown: Shown,
    /// The name of its class.
    pub class: Option<String>,
}

/// A sample and those nearest to it.
#[derive(Clone, Debug)]
pub struct Query {
    /// The sample asked for.
    pub query: Sample,
    /// The nearest first.
    pub nearest: Vec<Sample>,
}

/// How often a class was taken for another.
#[derive(Clone, Debug, Default)]
pub struct Confusion {
    /// Who took it so, as in `the linear probe`.
    pub by: String,
    /// `counts[true class][predicted class]`
    pub counts: Vec<Vec<u64>>,
    /// The classes' names.
    pub classes: Vec<String>,
}

/// Perplexities on held-out text; lower is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Of the trained model.
    pub model: f64,
    /// Of guessing by the frequency of the tokens alone.
    pub unigram: f64,
}
