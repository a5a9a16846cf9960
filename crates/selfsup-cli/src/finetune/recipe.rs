//! What a fine-tuning is decided by, in one TOML file: what all methods share stands in `recipes/finetune.toml`, what is
//! different on a pretrained encoder in `recipes/finetune-from-run.toml`, what is a method's own in
//! `recipes/finetune-METHOD.toml`, and a run's folder holds every field.

use super::Arguments;
use super::method::MethodConfig;
use super::views::ViewsConfig;
use crate::nearest::instead;
use crate::network::NetworkConfig;
use crate::objective::ObjectiveConfig;
use crate::pretrain::recipe_of;
use crate::projected::ProjectedConfig;
use crate::recipe::{self, DataConfig, Recipe, TrainConfig, ViewKind, Weights, read_table};
use crate::training::plain_path;
use anyhow::{Context, Result, bail, ensure};
use selfsup::data::augment::{ColorJitter, GaussianBlur, ViewConfig};
use selfsup::objectives::{SimClrV2Config, SupervisedConfig};
use selfsup::train::{OptimizerConfig, ScheduleConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use toml::Table;

/// What all methods share.
const SHARED: &str = include_str!("../../recipes/finetune.toml");

/// What is different where a run's encoder is begun with.
const FROM_RUN: &str = include_str!("../../recipes/finetune-from-run.toml");

/// The recipes of the folder `recipes` of these methods.
macro_rules! shipped {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../recipes/finetune-", $name, ".toml")))),*]
    };
}

/// What is a method's own, by the name of the method.
pub const SHIPPED: &[(&str, &str)] = shipped! {
    "supervised"
    "pseudo-label"
    "mean-teacher"
    "mixmatch"
    "fixmatch"
    "flexmatch"
    "freematch"
    "softmatch"
    "distillation"
};

/// A recipe of fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneRecipe {
    /// The run whose encoder is begun with; none from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// What the classifier begins with on the encoder of a run.
    #[serde(default)]
    pub start: StartConfig,
    /// The images without labels.
    #[serde(default)]
    pub data: DataConfig,
    /// The labels.
    #[serde(default)]
    pub labels: LabelsConfig,
    /// What is made of an image.
    #[serde(default)]
    pub views: ViewsConfig,
    /// The network that learns.
    pub encoder: NetworkConfig,
    /// How it learns.
    pub method: MethodConfig,
    /// What moves the parameters.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// How long and in which portions: `batch_size` counts images without labels.
    #[serde(default)]
    pub train: TrainConfig,
    /// How the result is judged.
    #[serde(default)]
    pub eval: EvalConfig,
}

/// `[labels]`: a file of labels, or how many of the set's own are taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelsConfig {
    /// A CSV or Parquet file with the columns file and label, and perhaps weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// So many of the set's own labels of each class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_class: Option<usize>,
    /// Which of the set's own labels.
    pub draw: u64,
    /// Where the labelled images are; without it, among those of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The classes, in the order of the classifier's answers; those of the labels, whatever is said here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The labelled images of a step, beside `train.batch_size` without labels; no more than there are labels.
    pub batch_size: usize,
}

impl Default for LabelsConfig {
    fn default() -> Self {
        LabelsConfig {
            file: None,
            per_class: None,
            draw: 0,
            source: None,
            classes: Vec::new(),
            batch_size: 64,
        }
    }
}

/// `[start]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartConfig {
    /// The first weights of the linear layer.
    pub head: Head,
    /// The inverse regularisation strength of the probe, as in the few-label probe.
    pub c: f64,
    /// So many layers of the projector of a run of simclr-v2 stay on the encoder and are fine-tuned with it; 1 in the paper
    /// (Chen et al. 2020 (2), section 2), 0 for none.
    pub projector_layers: usize,
}

impl Default for StartConfig {
    fn default() -> Self {
        StartConfig { head: Head::Probe, c: 0.03, projector_layers: 0 }
    }
}

/// The first weights of the linear layer on the encoder of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Those of a linear probe on the labels.
    Probe,
    /// Random ones, as from scratch.
    Random,
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// The images classified at a time.
    pub batch_size: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig { batch_size: 500 }
    }
}

/// How the encoder of a run is made and fed, be it a run of pretraining or of fine-tuning.
///
/// # Errors
/// When the folder holds no run.
pub fn encoder_of(run: &Path) -> Result<Recipe> {
    let path = run.join("config.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) if made(&text) => {
            let recipe: FinetuneRecipe = read_table(toml::from_str(&text)?, &[])?;
            recipe.classifier().with_context(|| path.display().to_string())
        }
        _ => recipe_of(run),
    }
}

/// Whether a run's config.toml is one of fine-tuning.
pub fn made(config: &str) -> bool {
    toml::from_str::<Table>(config).is_ok_and(|table| table.contains_key("method"))
}

impl FinetuneRecipe {
    /// The recipe of a method by name, or of a TOML file over what all methods share, with the encoder of a run where it
    /// begins with one, sizes and scale of the pixels as that has seen them, and fields set on top.
    ///
    /// # Errors
    /// One line that names the recipe, the field, the value that was wrong and what would be right.
    pub fn read(method: &str, from: Option<&Path>, assignments: &[recipe::Assignment]) -> Result<Self> {
        let own = match SHIPPED.iter().find(|(name, _)| *name == method.trim_start_matches("finetune-")) {
            Some((_, text)) => (*text).to_owned(),
            None if Path::new(method).is_file() => {
                std::fs::read_to_string(method).with_context(|| format!("{method} cannot be read"))?
            }
            None => bail!(
                "--method {method}: neither a recipe's file nor a method; {}",
                instead(method, SHIPPED.iter().map(|(name, _)| *name))
            ),
        };
        let mut table: Table = toml::from_str(SHARED)?;
        let own = own.parse::<Table>().with_context(|| format!("recipe {method}"))?;
        if from.is_some() {
            merge(&mut table, toml::from_str(FROM_RUN)?);
        }
        merge(&mut table, own);
        if let Some(run) = from {
            let before = encoder_of(run).with_context(|| format!("--from {}", run.display()))?;
            let channels = before.data.channels()?;
            let views = before.views();
            let view = views.kinds.first().cloned().unwrap_or_default().view;
            let mut inherited = Table::new();
            inherited.insert("from".to_owned(), run.to_string_lossy().into_owned().into());
            inherited.insert("encoder".to_owned(), toml::Value::try_from(&before.encoder)?);
            let mut seen = Table::new();
            seen.insert("size".to_owned(), toml::Value::try_from(view.size)?);
            seen.insert("mean".to_owned(), toml::Value::try_from(&view.mean)?);
            seen.insert("std".to_owned(), toml::Value::try_from(&view.std)?);
            inherited.insert("views".to_owned(), seen.into());
            let mut data = Table::new();
            data.insert("channels".to_owned(), toml::Value::try_from(channels)?);
            inherited.insert("data".to_owned(), data.into());
            table.remove("encoder");
            merge(&mut table, inherited);
        }
        let recipe: Self = read_table(table, assignments).with_context(|| format!("recipe {method}"))?;
        recipe.with_projector().with_context(|| format!("recipe {method}"))
    }

    /// Puts on the encoder the layers of the projector of its run that the start asks for.
    fn with_projector(mut self) -> Result<Self> {
        let layers = self.start.projector_layers;
        if layers == 0 {
            return Ok(self);
        }
        let field = format!("start.projector_layers = {layers}");
        let Some(run) = &self.from else {
            bail!("{field}: 0 from scratch; --from a run of simclr-v2 there is a projector");
        };
        let before = encoder_of(run).with_context(|| format!("--from {}", run.display()))?;
        let ObjectiveConfig::SimclrV2(SimClrV2Config { projector, .. }) = &before.objective else {
            let of = match &before.weights {
                Weights::Trained | Weights::Teacher { .. } => before.objective.method().kind,
                Weights::Averaged { .. } => "selfsup finetune, whose layers come along by themselves",
            };
            let run = run.display();
            bail!("{field}: 0, as {run} is a run of {of}; a projector to fine-tune from is one of simclr-v2");
        };
        let hidden = projector.hidden.get(..layers).with_context(|| {
            let most = projector.hidden.len();
            format!("{field}: at most {most}, the hidden layers of the projector of {}", run.display())
        })?;
        self.encoder = match self.encoder {
            // A run's own config.toml, taken as a recipe.
            NetworkConfig::Projected(config) if config.hidden == hidden => NetworkConfig::Projected(config),
            network => NetworkConfig::Projected(ProjectedConfig {
                hidden: hidden.to_vec(),
                norm: projector.hidden_norm,
                network: Box::new(network),
            }),
        };
        Ok(self)
    }

    /// The classifier that came out of a run of this recipe, as a recipe of supervised training, by which an encoder is
    /// looked at.
    ///
    /// # Errors
    /// When the run was made before its classes were written down.
    fn classifier(&self) -> Result<Recipe> {
        ensure!(
            !self.labels.classes.is_empty(),
            "labels.classes is missing: the run is of an earlier version; fine-tune again"
        );
        let views = &self.views;
        let view = ViewConfig {
            size: views.size,
            scale: views.weak.scale,
            ratio: views.weak.ratio,
            flip: views.weak.flip,
            grayscale: 0.0,
            jitter: ColorJitter { p: 0.0, ..Default::default() },
            blur: GaussianBlur { p: 0.0, ..Default::default() },
            mean: views.mean.clone(),
            std: views.std.clone(),
            ..ViewConfig::default()
        };
        let kinds = vec![ViewKind { count: 2, view }];
        Ok(Recipe {
            data: self.data.clone(),
            views: Some(recipe::ViewsConfig { kinds, schedule: views.schedule.clone() }),
            text: None,
            encoder: self.encoder.clone(),
            objective: ObjectiveConfig::Supervised(SupervisedConfig {
                classes: self.labels.classes.len() as i64,
                ..Default::default()
            }),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            train: self.train.clone(),
            eval: recipe::EvalConfig { batch_size: self.eval.batch_size, ..Default::default() },
            weights: Weights::Averaged { classes: self.labels.classes.clone() },
        })
    }

    /// The recipe of a run.
    ///
    /// # Errors
    /// When the folder holds no run of fine-tuning.
    pub fn of_run(run: &Path) -> Result<Self> {
        let path = run.join("config.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        read_table(toml::from_str(&text)?, &[]).with_context(|| path.display().to_string())
    }

    /// Which of the set's own labels; none where they come from a file.
    pub fn draw(&self) -> Option<u64> {
        self.labels.file.is_none().then_some(self.labels.draw)
    }

    /// What makes it a method beside others: all but the seed, the draw of labels, and what changes no number.
    ///
    /// # Errors
    /// When a number is too large for JSON.
    pub fn method_beside_others(&self) -> Result<Value> {
        let mut recipe = self.clone();
        for source in [&mut recipe.data.source, &mut recipe.labels.source] {
            *source = source.as_deref().map(plain_path);
        }
        recipe.labels.draw = 0;
        recipe.data.decoded = false;
        let free = TrainConfig::default();
        recipe.train = TrainConfig {
            seed: free.seed,
            log_every: free.log_every,
            checkpoint_every: free.checkpoint_every,
            keep: free.keep,
            loader_threads: free.loader_threads,
            prefetch: free.prefetch,
            ..recipe.train
        };
        recipe.eval = EvalConfig::default();
        Ok(serde_json::to_value(&recipe)?)
    }

    /// Every field, as a file.
    ///
    /// # Errors
    /// When a number is too large for TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// What decides the weights that a run ends with: a run goes on only with the same. `data` tells what the sources held.
    ///
    /// # Errors
    /// When a number is too large for JSON.
    pub fn fingerprint(&self, data: &Value) -> Result<Value> {
        let mut recipe = self.clone();
        recipe.data.source = recipe.data.source.as_deref().map(plain_path);
        recipe.labels.source = recipe.labels.source.as_deref().map(plain_path);
        let mut value = serde_json::to_value(&recipe)?;
        let mut forget = |section: &str, fields: &[&str]| {
            if let Some(section) = value.get_mut(section).and_then(Value::as_object_mut) {
                for field in fields {
                    section.remove(*field);
                }
            }
        };
        forget("data", &["decoded"]);
        // Which labels they are, the checksum of the data tells.
        forget("labels", &["file", "per_class", "draw"]);
        forget("train", &["loader_threads", "prefetch", "checkpoint_every", "keep"]);
        if let Some(recipe) = value.as_object_mut() {
            // What the encoder began with does not matter any more.
            recipe.remove("from");
            recipe.remove("start");
            // Which teacher it is, its checksum tells.
            if let Some(method) = recipe.get_mut("method").and_then(Value::as_object_mut) {
                method.remove("teacher");
            }
            recipe.remove("eval");
            recipe.insert("samples".to_owned(), data.clone());
        }
        Ok(value)
    }
}

/// The recipe that a command line asks for.
///
/// # Errors
/// As [`FinetuneRecipe::read`], and when it says nothing of the images.
pub fn assembled(arguments: &Arguments) -> Result<FinetuneRecipe> {
    let mut recipe = FinetuneRecipe::read(&arguments.method, arguments.from.as_deref(), &arguments.set)?;
    if let Some(file) = &arguments.labels {
        (recipe.labels.file, recipe.labels.per_class) = (Some(file.clone()), None);
    }
    if let Some(count) = arguments.labels_per_class {
        (recipe.labels.file, recipe.labels.per_class) = (None, Some(count));
    }
    if let Some(draw) = arguments.draw {
        recipe.labels.draw = draw;
    }
    if let Some(source) = &arguments.unlabelled {
        recipe.data.source = Some(source.clone());
    }
    if let Some(source) = &arguments.labelled {
        recipe.labels.source = Some(source.clone());
    }
    match (&mut recipe.method, &arguments.teacher) {
        (MethodConfig::Distillation(method), Some(teacher)) => method.teacher = Some(teacher.clone()),
        (MethodConfig::Distillation(method), None) => {
            method.teacher = method.teacher.take().or_else(|| recipe.from.clone());
        }
        (_, Some(_)) => bail!("--teacher: for --method distillation alone"),
        (_, None) => {}
    }
    ensure!(
        recipe.data.source.is_some(),
        "--unlabelled is missing: a known set's name, or the path of a file or folder"
    );
    ensure!(
        recipe.labels.file.is_some() || recipe.labels.per_class.is_some(),
        "--labels is missing: a CSV file of labels, or --labels-per-class for some of the set's own"
    );
    Ok(recipe)
}

/// Puts what `over` holds into `table`, section by section.
fn merge(table: &mut Table, over: Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => drop(table.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_recipe_is_of_its_method() {
        for (name, _) in SHIPPED {
            let recipe = FinetuneRecipe::read(name, None, &[]).unwrap();
            assert_eq!(recipe.method.method().kind, *name);
            let again: FinetuneRecipe = toml::from_str(&recipe.to_toml().unwrap()).unwrap();
            assert_eq!(again, recipe);
            assert!(made(&recipe.to_toml().unwrap()));
        }
        assert!(!made("objective = { kind = \"simclr\" }"));
    }

    #[test]
    fn fields_are_set_and_wrong_ones_named() {
        let read = |settings: &[&str]| {
            let settings: Vec<_> = settings.iter().map(|s| s.parse().unwrap()).collect();
            FinetuneRecipe::read("fixmatch", None, &settings)
        };
        let recipe = read(&[
            "train.epochs=3",
            "method.learning.mixing.kind=cutmix",
            "method.learning.mixing.alpha=0.5",
        ]);
        assert_eq!(recipe.unwrap().train.epochs, 3);
        let error = format!("{:#}", read(&["method.learning.wieght=2"]).unwrap_err());
        assert!(error.contains("method.learning.wieght") && error.contains("did you mean"), "{error}");
        let error = format!("{:#}", FinetuneRecipe::read("fixmach", None, &[]).unwrap_err());
        assert!(error.contains("--method fixmach") && error.contains("fixmatch"), "{error}");
    }

    #[test]
    fn a_section_is_merged_field_by_field() {
        let mut table: Table = toml::from_str("a = { x = 1, y = 2 }\nb = 3").unwrap();
        merge(&mut table, toml::from_str("a = { y = 4 }\nc = 5").unwrap());
        assert_eq!(table, toml::from_str("a = { x = 1, y = 4 }\nb = 3\nc = 5").unwrap());
    }

    #[test]
    fn of_a_run_the_pixels_are_taken_and_not_its_growing_views() {
        let run = tempfile::tempdir().unwrap();
        let channels = "data.channels=1".parse().unwrap();
        let before = Recipe::read("simclr-fashion-mnist", &[channels]).unwrap();
        assert!(!before.views().schedule.is_empty());
        std::fs::write(run.path().join("config.toml"), before.to_toml().unwrap()).unwrap();
        let recipe = FinetuneRecipe::read("freematch", Some(run.path()), &[]).unwrap();
        let seen = &before.views().kinds[0].view;
        assert_eq!(recipe.encoder, before.encoder);
        assert_eq!(
            (recipe.views.size, &recipe.views.mean, &recipe.views.std),
            (seen.size, &seen.mean, &seen.std)
        );
        assert!(recipe.views.schedule.is_empty());
    }
}
