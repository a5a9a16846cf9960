//! Recipes: everything a run is decided by, in one TOML file.
//!
//! Any field can be left out, and then has its default; any can be set on the command line. What a run was made with
//! stands in its folder, with every field.

mod assign;
mod blame;
mod views;
mod weights;

pub use assign::Assignment;
pub use views::{SizePhase, ViewKind, ViewsConfig};
pub use weights::{Weights, Whose};

use crate::nearest::instead;
use crate::network::NetworkConfig;
use crate::objective::{Modality, ObjectiveConfig};
use crate::robustness::RobustnessConfig;
use crate::suite::SuiteSettings;
use anyhow::{Context, Result, bail};
use selfsup::core::Error;
use selfsup::data::augment::{Interpolation, PlainConfig, ViewConfig};
use selfsup::data::text::TokenizerConfig;
use selfsup::data::{LoaderConfig, Pixels};
use selfsup::eval::{FewLabelConfig, KnnConfig, LinearProbeConfig};
use selfsup::train::{Clip, LoopConfig, OptimizerConfig, ScheduleConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Table;

/// The recipes of the folder `recipes` with these names.
macro_rules! shipped {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../recipes/", $name, ".toml")))),*]
    };
}

/// The shipped recipes by name.
pub const SHIPPED: &[(&str, &str)] = shipped! {
    "simclr-fashion-mnist"
    "simclr-cifar10"
    "simclr-images"
    "mlm-brown"
    "moco-v2"
    "dcl"
    "nnclr"
    "moco-v3"
    "swav"
    "mae"
    "simmim"
    "i-jepa"
    "supcon"
    "supervised"
    "byol"
    "vicreg"
    "barlow-twins"
    "simsiam"
    "tico"
    "lejepa"
    "w-mse"
    "denoising"
    "colorization"
    "inpainting"
    "image-gpt"
    "rotation"
    "jigsaw"
    "context-prediction"
    "combined"
    "densecl"
    "simclr-v2"
    "pirl"
    "dino"
    "dino-vit"
    "deepcluster-v2"
    "msn"
    "ibot"
    "dinov2"
};

/// A recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is learned from.
    #[serde(default)]
    pub data: DataConfig,
    /// What is made of an image; none for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<ViewsConfig>,
    /// What is made of a text; none for images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// The network that learns.
    pub encoder: NetworkConfig,
    /// What it learns by.
    pub objective: ObjectiveConfig,
    /// What moves the parameters.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// How long and in which portions.
    #[serde(default)]
    pub train: TrainConfig,
    /// How the result is judged.
    #[serde(default)]
    pub eval: EvalConfig,
    /// Which weights of a checkpoint are meant; a file does not say it.
    #[serde(skip)]
    pub weights: Weights,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A known set's name, or the path of a file or folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How many training samples (for text: documents) are used; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// How many test samples are used; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// 1 to make images grey, 3 to make them colour; without it, as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Whether files of images are decoded once into a file in the cache, which every later epoch and run reads: for
    /// photographs that fit the disk uncompressed.
    pub decoded: bool,
    /// What views are made of on their way to the device: float32, bfloat16 for half of the transfer, uint8 for a quarter.
    pub pixels: Pixels,
    /// The positions that are mixed at a time where the set is shards that are read in their order.
    pub shuffle_buffer: usize,
    /// The training samples that a run was made with, as the run's own recipe tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// The share that is set aside, and not pretrained on, where the set has no test part.
    pub held_out: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            source: None,
            limit: None,
            test_limit: None,
            channels: None,
            samples: None,
            decoded: false,
            pixels: Pixels::default(),
            shuffle_buffer: 10_000,
            held_out: 0.2,
        }
    }
}

impl DataConfig {
    /// The set's name or path.
    ///
    /// # Errors
    /// When neither the recipe nor the command line says.
    pub fn source(&self) -> Result<&str> {
        self.source.as_deref().context("this recipe is for data of yours: name them with --data PATH")
    }

    /// The channels of the images that a run was made with.
    ///
    /// # Errors
    /// When the recipe is not a run's.
    pub fn channels(&self) -> Result<usize> {
        self.channels.context("data.channels is missing: a run's config.toml has it")
    }

    /// The training samples that a run was made with.
    ///
    /// # Errors
    /// When the recipe is not a run's.
    pub fn samples(&self) -> Result<usize> {
        self.samples.context("data.samples is missing: a run's config.toml has it")
    }
}

/// `[text]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// The tokens of a sequence.
    pub length: usize,
    /// How the tokenizer is trained, on the training documents.
    pub tokenizer: TokenizerConfig,
}

impl Default for TextConfig {
    fn default() -> Self {
        TextConfig { length: 128, tokenizer: TokenizerConfig::default() }
    }
}

/// `[train]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Times that every sample is visited.
    pub epochs: u64,
    /// The samples of a batch.
    pub batch_size: usize,
    /// Batches whose gradients are added up before the optimizer moves.
    pub accumulate: u64,
    /// What every random draw of the run depends on.
    pub seed: u64,
    /// The largest norm of the gradient: a number is of all parameters together, `{ each = 3.0 }` of each, `{ modules = 3.0 }`
    /// within the encoder and within each part of the objective; without it, any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// Steps between two lines of the log.
    pub log_every: u64,
    /// Steps between two checkpoints, besides the one at every epoch's end; 0 for none.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, beside the last and the best.
    pub keep: usize,
    /// Steps that may be left out because a number was not finite, before the run stops.
    pub max_skipped: u64,
    /// Beginnings of the names of parameters whose learning rate stays at its base (SimSiam's predictor).
    pub fixed_lr: Vec<String>,
    /// Beginnings of the names of parameters that weight decay leaves alone, beside biases and norms (MSN's prototypes).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_decay: Vec<String>,
    /// What learning rates are multiplied by, by the beginnings of parameters' names (DINOv2's patch embedding).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lr_scale: BTreeMap<String, f64>,
    /// By how much the learning rate falls from each block of the encoder to the one before it, as BEiT and MAE fine-tune; without
    /// it, all have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Threads that make batches; 0 chooses half of the machine's.
    pub loader_threads: usize,
    /// Finished batches that may wait.
    pub prefetch: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let loader = LoaderConfig::default();
        TrainConfig {
            epochs: 100,
            batch_size: loader.batch_size,
            accumulate: 1,
            seed: 0,
            clip: None,
            log_every: 20,
            checkpoint_every: 0,
            keep: 1,
            max_skipped: 0,
            fixed_lr: Vec::new(),
            no_decay: Vec::new(),
            lr_scale: BTreeMap::new(),
            layer_decay: None,
            loader_threads: loader.threads,
            prefetch: loader.prefetch,
        }
    }
}

impl TrainConfig {
    /// What the training loop needs of it.
    pub fn to_loop(&self) -> LoopConfig {
        LoopConfig {
            epochs: self.epochs,
            accumulate: self.accumulate,
            clip: self.clip,
            log_every: self.log_every,
            checkpoint_every: (self.checkpoint_every > 0).then_some(self.checkpoint_every),
            keep: self.keep,
            max_skipped: self.max_skipped,
        }
    }

    /// What the loader needs of it.
    pub fn loader(&self) -> LoaderConfig {
        LoaderConfig {
            batch_size: self.batch_size,
            drop_last: true,
            threads: self.loader_threads,
            prefetch: self.prefetch,
        }
    }
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// The sides in pixels of the images that are encoded; without it, those of the training views.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// What an image's smaller side is resized to before the middle is cut out; without it, `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// The samples encoded at a time.
    pub batch_size: usize,
    /// The nearest-neighbour classifier.
    pub knn: KnnConfig,
    /// The linear probe.
    pub linear: LinearProbeConfig,
    /// The few-label probe.
    pub few_label: FewLabelConfig,
    /// How the full suite asks.
    pub suite: SuiteSettings,
    /// What is asked of disturbed images by the full suite.
    pub robustness: RobustnessConfig,
    /// The points of the report's map.
    pub map_points: usize,
    /// The queries whose nearest neighbours the report shows.
    pub queries: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig {
            size: None,
            resize: None,
            batch_size: 500,
            knn: KnnConfig::default(),
            linear: LinearProbeConfig::default(),
            few_label: FewLabelConfig::default(),
            suite: SuiteSettings::default(),
            robustness: RobustnessConfig::default(),
            map_points: 2000,
            queries: 8,
        }
    }
}

impl Recipe {
    /// Reads a shipped recipe by name or a file by path, with fields set on top.
    ///
    /// # Errors
    /// One line that names the recipe, the field, the value that was wrong and what would be right.
    pub fn read(name: &str, assignments: &[Assignment]) -> Result<Self> {
        let text = match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => (*text).to_owned(),
            None if Path::new(name).is_file() => {
                std::fs::read_to_string(name).with_context(|| format!("{name} cannot be read"))?
            }
            None => bail!(
                "{name} is neither a recipe's file nor a shipped recipe; {}",
                instead(name, SHIPPED.iter().map(|(shipped, _)| *shipped))
            ),
        };
        Self::parse(&text, assignments).with_context(|| format!("recipe {name}"))
    }

    /// Reads a recipe's text, with fields set on top.
    ///
    /// # Errors
    /// As [`read`](Recipe::read).
    pub fn parse(text: &str, assignments: &[Assignment]) -> Result<Self> {
        let mut recipe: Recipe = read_table(toml::from_str(text)?, assignments)?;
        match recipe.objective.modality() {
            Modality::Images if recipe.text.is_some() => bail!("[text]: the objective learns from images"),
            Modality::Images => drop(recipe.views.get_or_insert_default()),
            Modality::Text if recipe.views.is_some() => bail!("[views]: the objective learns from text"),
            Modality::Text => drop(recipe.text.get_or_insert_default()),
        }
        Ok(recipe)
    }

    /// What decides the weights that a run ends with: a run goes on only with the same. `data` tells what the source held.
    ///
    /// # Errors
    /// When a number is too large for JSON.
    pub fn fingerprint(&self, data: &serde_json::Value) -> Result<serde_json::Value> {
        let mut value = serde_json::to_value(self)?;
        if let Some(recipe) = value.as_object_mut() {
            recipe.remove("eval");
            // The pixels are the same, wherever they are read from.
            if let Some(data) = recipe.get_mut("data").and_then(serde_json::Value::as_object_mut) {
                data.remove("decoded");
            }
            if let Some(train) = recipe.get_mut("train").and_then(serde_json::Value::as_object_mut) {
                for free in ["loader_threads", "prefetch", "checkpoint_every", "keep"] {
                    train.remove(free);
                }
            }
            recipe.insert("samples".to_owned(), data.clone());
        }
        Ok(value)
    }

    /// Every field, as a file.
    ///
    /// # Errors
    /// When a number is too large for TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// The views of images.
    pub fn views(&self) -> ViewsConfig {
        self.views.clone().unwrap_or_default()
    }

    /// The view in which images are judged: plain, as large as a training view, normalised as that is.
    pub fn plain_view(&self) -> PlainConfig {
        let views = self.views();
        let view = views.kinds.first().cloned().unwrap_or_default().view;
        PlainConfig {
            size: self.eval.size.unwrap_or(view.size),
            resize: self.eval.resize,
            interpolation: Interpolation::Bilinear,
            mean: view.mean,
            std: view.std,
        }
    }

    /// The raw input that encoders are compared with: pixels from 0 to 1 at the size of a training view.
    pub fn raw_view(&self) -> PlainConfig {
        let plain = self.plain_view();
        let size = self.pair().view.size;
        // The same part of the image as in the plain view.
        let resize = plain.resize.map(|resize| (size * resize).div_ceil(plain.size.max(1)));
        PlainConfig { size, resize, mean: vec![0.0], std: vec![1.0], ..plain }
    }

    /// Two training views of the first kind.
    pub fn pair(&self) -> ViewKind {
        ViewKind { count: 2, ..self.views().kinds.first().cloned().unwrap_or_default() }
    }

    /// The same two in the space of [`raw_view`](Recipe::raw_view).
    pub fn raw_pair(&self) -> ViewKind {
        let ViewKind { count, view } = self.pair();
        ViewKind { count, view: ViewConfig { mean: vec![0.0], std: vec![1.0], ..view } }
    }
}

/// Reads a table, with fields set on top. A kind decides which other fields there are, so kinds come first; then every
/// field is there to be set.
///
/// # Errors
/// One line that names the field, the value that was wrong and what would be right.
pub fn read_table<T: Serialize + DeserializeOwned>(
    mut table: Table,
    assignments: &[Assignment],
) -> Result<T> {
    for assignment in assignments.iter().filter(|a| a.is_kind()) {
        assignment.apply(&mut table)?;
    }
    let whole: T = blame::read(&table).map_err(anyhow::Error::msg)?;
    let mut table = Table::try_from(&whole)?;
    for assignment in assignments.iter().filter(|a| !a.is_kind()) {
        assignment.apply(&mut table)?;
    }
    blame::read(&table).map_err(anyhow::Error::msg)
}

/// The same error with its field inside a section of the recipe.
pub fn inside(error: Error, section: &str) -> Error {
    match error {
        Error::Config { field, value, expected } => {
            Error::Config { field: format!("{section}.{field}"), value, expected }
        }
        other => other,
    }
}
