//! `selfsup finetune`: a classifier from few labels and many images without.
//!
//! | file | holds |
//! |---|---|
//! | `recipe.rs` | what a run is decided by, and the shipped recipes |
//! | `method.rs` | the table of methods |
//! | `sets.rs` | the images, and which of them have labels |
//! | `views.rs` | weak and strong views, and the batches of them |
//! | `start.rs` | the first weights on a pretrained encoder, and of the classifier on it |
//! | `teacher.rs` | the run that teaches in a distillation |
//! | `score.rs` | the test images, and report.json |

mod method;
mod recipe;
mod score;
mod sets;
mod start;
mod teacher;
mod views;

pub use method::{METHODS, Method, MethodConfig};
pub use recipe::{FinetuneRecipe, encoder_of, made};
pub use score::{CLASSIFIER, Report};

use crate::full::Answers;
use crate::images::Stretches;
use crate::network::ImageNetwork;
use crate::recipe::Assignment;
use crate::training::{Continue, Learner, OnDevice, Training, called};
use crate::{digest, panics};
use anyhow::Result;
use method::Place;
use selfsup::core::{Device, Key, LabelledAndUnlabelled, Mode, Objective, Tensor, nn};
use selfsup::train::checkpoint::{Checkpoints, Pointer};
use selfsup::train::{Existing, Outcome};
use serde_json::json;
use sets::Sets;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use teacher::{RunTeacher, SharedTeacher};

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// supervised, pseudo-label, mean-teacher, mixmatch, fixmatch, flexmatch, freematch, softmatch, distillation, or a TOML
    /// file.
    #[arg(long, value_name = "METHOD")]
    method: String,
    /// A CSV or Parquet file of the labels, with the columns file and label.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["labels_per_class", "resume"])]
    labels: Option<PathBuf>,
    /// Take so many of the set's own labels of each class instead, for experiments.
    #[arg(long, value_name = "N", conflicts_with = "labels")]
    labels_per_class: Option<usize>,
    /// Which labels these are: another number, another draw; 0 when left out.
    #[arg(long, value_name = "SEED", requires = "labels_per_class", conflicts_with = "labels")]
    draw: Option<u64>,
    /// The images without labels: a known set's name, or the path of a file or folder.
    #[arg(long, value_name = "NAME_OR_PATH")]
    unlabelled: Option<String>,
    /// Where the labelled images are, if not among these.
    #[arg(long, value_name = "NAME_OR_PATH")]
    labelled: Option<String>,
    /// Begin with the encoder of a run of selfsup pretrain; without, from scratch.
    #[arg(long, value_name = "RUN")]
    from: Option<PathBuf>,
    /// For --method distillation: the run of selfsup finetune whose classifier teaches; that of --from when left out.
    #[arg(long, value_name = "RUN")]
    teacher: Option<PathBuf>,
    /// The folder of the run; runs/finetune-METHOD when left out.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Set a field of the recipe, as in --set train.epochs=30; may be given again.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<Assignment>,
    #[command(flatten)]
    folder: Continue,
    /// Print report.json instead of a summary.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: crate::Machine,
}

/// Runs the command. Everything that can be refused is refused before the run's folder is touched.
///
/// # Errors
/// One that names the field or file that cannot work, or why the training stopped.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let device = arguments.machine.choose()?;
    let stem = Path::new(&arguments.method).file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.trim_start_matches("finetune-");
    let folder = arguments.run.clone().unwrap_or_else(|| Path::new("runs").join(format!("finetune-{stem}")));
    let recipe = recipe::assembled(arguments)?;
    let existing = arguments.folder.existing();
    let advice = format!(
        "train.batch_size = {}: try a smaller batch, smaller views or a smaller encoder",
        recipe.train.batch_size
    );
    let config = Config { recipe, folder, device, existing };
    match panics::caught(&advice, || train(&config))? {
        Ended::Interrupted(signal) => Ok(ExitCode::from(128 + signal as u8)),
        Ended::Finished(report) => {
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{}", report.summary());
            }
            eprintln!("{} written", config.folder.join("report.json").display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A fine-tuning that is to be done.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is decided by.
    pub recipe: FinetuneRecipe,
    /// The folder of the run.
    pub folder: PathBuf,
    /// Where it is computed.
    pub device: Device,
    /// What to do with a run that the folder holds.
    pub existing: Existing,
}

/// How a fine-tuning ended.
#[derive(Debug)]
pub enum Ended {
    /// The classifier is trained and judged.
    Finished(Box<Report>),
    /// A signal of this number asked to stop; the run can be resumed.
    Interrupted(i32),
}

/// Trains a classifier, judges it on the test images of the set where it has them with labels, and writes report.json.
///
/// # Errors
/// With the field or file that cannot work, before the run's folder is touched; or why the training stopped.
pub fn train(config: &Config) -> Result<Ended> {
    let mut recipe = config.recipe.clone();
    let sets = Sets::open(&recipe)?;
    let channels = sets.unlabelled.channels();
    recipe.data.channels = Some(channels);
    recipe.data.samples = Some(sets.unlabelled.len());
    recipe.encoder = recipe.encoder.for_images(channels)?;
    recipe.labels.classes.clone_from(&sets.given.classes);
    let (view, unpack) = (views::plain(&recipe, channels)?, views::unpack(&recipe, channels)?);
    let mut stretches = Vec::new();
    for (end, size) in recipe.views.stretches(recipe.train.epochs)? {
        stretches.push((end, views::batches(&recipe, &sets, size)?));
    }

    let taught_by = recipe.method.teacher();
    let teacher = taught_by.map(|run| RunTeacher::load(run, &recipe, &sets, config.device)).transpose()?;
    let teacher = teacher.map(|teacher| SharedTeacher(Rc::new(teacher)));
    Key::new(recipe.train.seed).seed_torch();
    let store = nn::VarStore::new(config.device);
    let encoder = recipe.encoder.image_encoder(store.root() / "encoder")?;
    if let Some(from) = &recipe.from {
        start::load_encoder(from, &recipe, &store)?;
    }
    let classes = sets.given.classes.len() as i64;
    let site = recipe.encoder.site(&store, encoder.as_ref(), sets.unlabelled.len());
    let place =
        Place { site: &site, classes, samples: sets.unlabelled.len() as i64, teacher: teacher.clone() };
    let mut objective = recipe.method.build(&place).map_err(|e| crate::recipe::inside(e, "method"))?;
    drop(site);
    // A run that was stopped before its first checkpoint goes on from its first step.
    if config.existing != Existing::Resume || Checkpoints::new(&config.folder).find(Pointer::Last)?.is_none()
    {
        start::set_head(&recipe, &sets, encoder.as_ref(), &store, config.device)?;
    }

    let mut data = json!({
        "name": sets.name,
        "train": sets.unlabelled.len(),
        "labels": sets.given.labels.len(),
        "classes": classes,
        "channels": channels,
        "digest": digest::of_images(sets.unlabelled.as_ref())?,
        "labelled": sets.digest()?,
    });
    if let Some(teacher) = &teacher {
        data["teacher"] = teacher.0.digest().clone();
    }
    let names = |batch: &LabelledAndUnlabelled| {
        let labelled = called(&batch.labelled.indices, |i| sets.labelled.name(i));
        labelled.into_iter().chain(called(&batch.unlabelled.indices, |i| sets.unlabelled.name(i))).collect()
    };
    let truth = sets.truth.as_ref().map(|labels| Tensor::from_slice(labels)); // [samples]
    let device = config.device;
    let to = |batch: &LabelledAndUnlabelled| {
        let LabelledAndUnlabelled { labelled, weights, unlabelled } = batch.to_device(device);
        let (labelled, mut unlabelled) = (unpack.apply(labelled)?, unpack.apply(unlabelled)?);
        let indices = unlabelled.indices.to_device(Device::Cpu);
        unlabelled.labels = truth.as_ref().map(|labels| labels.index_select(0, &indices).to_device(device));
        Ok(LabelledAndUnlabelled { labelled, weights, unlabelled })
    };
    let batches = OnDevice { batches: Stretches { stretches }, to: &to, names: &names };
    // A view in training size, encoded as in evaluation, shows how the features spread.
    let look = |encoder: &(dyn ImageNetwork + 'static), batch: &LabelledAndUnlabelled| {
        let view = batch.unlabelled.views.first().map_or_else(|| batch.labelled.first("looking"), Ok)?;
        encoder.encode(&view.narrow(0, 0, view.size()[0].min(256)), Mode::Eval)
    };
    let training = Training {
        folder: &config.folder,
        device,
        existing: config.existing,
        train: &recipe.train,
        optimizer: &recipe.optimizer,
        schedule: &recipe.schedule,
        config: recipe.to_toml()?,
        fingerprint: recipe.fingerprint(&data)?,
        data: &data,
    };
    let learning: &mut dyn Objective<dyn ImageNetwork, Batch = LabelledAndUnlabelled> = objective.as_mut();
    let learner = Learner { store: &store, encoder: encoder.as_ref(), objective: learning };
    let keep_labels = |run: &Path| sets.write_labels(&run.join("labels.csv"));
    if let Outcome::Interrupted(signal) = training.run(learner, &batches, &look, &keep_labels)? {
        return Ok(Ended::Interrupted(signal));
    }
    let judged = score::on_test(objective.as_ref(), &sets, view, &recipe, device)?;
    let (scores, answers) = judged.unzip();
    let report = Report::new(&recipe, &sets, scores, &config.folder)?;
    Answers::remove(&config.folder)?;
    report.write(&config.folder)?;
    if let (Some(answers), Some(origin)) = (&answers, &report.origin) {
        answers.write(&config.folder, origin)?;
    }
    Ok(Ended::Finished(Box::new(report)))
}
