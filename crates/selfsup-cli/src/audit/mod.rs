//! `selfsup audit`: which given labels are probably wrong.

mod examine;
mod page;
mod subject;

use crate::evaluate::last_checkpoint;
use crate::finetune::encoder_of;
use crate::judge::Bars;
use crate::label::of_people;
use crate::label_table;
use crate::places;
use crate::recipe::{Recipe, Whose};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum as _;
use examine::{Doubt, Examined, Planted, examine};
use selfsup::core::state::write_whole;
use selfsup::core::{Device, Features, Key, Tensor};
use selfsup::eval::CrossProbeConfig;
use selfsup::labels::PlantedNoise;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;
use subject::{Part, Subject};

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run whose encoder sees the samples.
    run: PathBuf,
    /// Whose encoder.
    #[arg(long, value_enum, default_value = "trained")]
    weights: Whose,
    /// A known set's name, or the path of a file or folder.
    #[arg(long, value_name = "NAME_OR_PATH")]
    data: String,
    /// The labels to check, in place of the set's own: a CSV file with the columns file and label.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Which part of the data.
    #[arg(long, value_enum, default_value = "train")]
    part: Part,
    /// The folder to write audit.csv, audit.json, audit.html and plots/ to; RUN/audit when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace an audit that is in the folder.
    #[arg(long)]
    overwrite: bool,
    /// Which labels are suspicious.
    #[arg(long, value_enum, default_value = "improbable")]
    doubt: Doubt,
    /// Parts that take turns in being judged by probes fitted to the others.
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// The most doubted labels that the page shows.
    #[arg(long, default_value_t = 64)]
    shown: usize,
    /// Check the audit itself: make this share of the labels wrong first, and count what is found of them.
    #[arg(long, value_name = "SHARE")]
    plant: Option<f64>,
    /// Decides the parts, and which labels are made wrong.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print audit.json instead of a few lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: crate::Machine,
}

/// Runs the command. Everything that can be refused is refused before anything is computed or written.
///
/// # Errors
/// When the folder holds no run or no checkpoint, the data or labels cannot be read or do not belong together, or an audit
/// is there already.
pub fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join("audit"));
    let [table, summary] = free(&out, arguments.overwrite)?;
    ensure!(arguments.folds >= 2, "--folds {}: at least 2", arguments.folds);
    let device = arguments.machine.choose()?;
    let mut recipe = encoder_of(&arguments.run)?;
    let weights = last_checkpoint(&arguments.run)?.weights;
    recipe.weights = recipe.weights.of(arguments.weights, &weights)?;
    let subject = Subject::open(&recipe, &arguments.data, arguments.part)?;
    let given = Given::read(&subject, arguments)?;
    let labels = arguments.plant.map(|share| given.plant(share, arguments.seed)).transpose()?;

    let x = given.features(&subject, &recipe, &arguments.run, &weights, device)?;
    let now = labels.as_ref().map_or_else(|| given.tensor(), |planted| planted.labels.shallow_clone());
    let features = Features::new(x, now, given.classes.len() as i64)?;
    let probe = CrossProbeConfig { folds: arguments.folds, seed: arguments.seed, ..recipe_probe(&recipe) };
    let mut bars = Bars::new("audit");
    let found = examine(&features, probe, arguments.doubt, &mut |stage| bars.show(stage))?;
    let counted =
        labels.as_ref().map(|planted| Planted::count(&found, &planted.planted, &given.labels)).transpose()?;

    let audited = Audited {
        arguments,
        labels: Vec::try_from(&features.labels)?,
        planted: labels.as_ref().map(|noise| noise.planted.as_slice()),
        counted,
        seconds: started.elapsed().as_secs_f64(),
        subject: &subject,
        given: &given,
        found: &found,
    };
    let page = page::data(&audited)?;
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    write_whole(&table, &audited.csv()?)?;
    let json = serde_json::to_string_pretty(&audited.json())?;
    write_whole(&summary, json.as_bytes())?;
    let path = crate::report::audit::write(&page, &out)?;
    if arguments.json {
        println!("{json}");
    } else {
        println!("{}", page.outcome);
        for number in &page.planted {
            println!("  {:<34} {:.4}", number.name, number.value);
        }
        println!("{}", path.display());
    }
    Ok(())
}

/// The table and the summary of an audit; neither they nor a file of the page is there unless it may be replaced.
fn free(out: &Path, overwrite: bool) -> Result<[PathBuf; 2]> {
    let own = ["audit.csv", "audit.json"];
    places::free_in(out, &[&own[..], &crate::report::audit::FILES[..]].concat(), overwrite)?;
    Ok(own.map(|name| out.join(name)))
}

/// The probe as the run's evaluation has it.
fn recipe_probe(recipe: &Recipe) -> CrossProbeConfig {
    let linear = &recipe.eval.linear;
    CrossProbeConfig {
        strengths: linear.strengths.clone(),
        logistic: linear.logistic,
        ..CrossProbeConfig::default()
    }
}

/// The labels that are checked.
pub struct Given {
    /// The samples they are of.
    samples: Vec<usize>,
    /// The class of each, an index into `classes`.
    labels: Vec<i64>,
    /// The classes that occur.
    classes: Vec<String>,
}

impl Given {
    fn read(subject: &Subject, arguments: &Arguments) -> Result<Self> {
        let known = Some(subject.classes()).filter(|classes| !classes.is_empty());
        if let Some(file) = &arguments.labels {
            let path = file.display().to_string();
            let people = of_people(&label_table::read(file)?)?;
            let all = people.find_in(subject.len(), |i| subject.name(i), known.as_deref())?;
            let given = all.counting();
            ensure!(
                !given.labels.is_empty(),
                "{path}: weight: all {} are 0, so that no label counts",
                all.labels.len()
            );
            return Self::new(&path, given.indices, &given.labels, &given.classes);
        }
        let labels = subject
            .labels()
            .with_context(|| format!("{} has no labels to check; name some with --labels", arguments.data))?;
        Self::new(&arguments.data, (0..labels.len()).collect(), &labels, &subject.classes())
    }

    /// Keeps the classes that occur. `source` is what messages name.
    fn new(source: &str, samples: Vec<usize>, labels: &[i64], names: &[String]) -> Result<Self> {
        let mut counts = vec![0_usize; names.len()];
        for &label in labels {
            counts[label as usize] += 1;
        }
        if let Some(class) = counts.iter().position(|&count| count == 1) {
            bail!(
                "{source}: the class {} has a single label: at least 2, or none could judge the other",
                names[class]
            );
        }
        let occurring: Vec<usize> = (0..names.len()).filter(|&class| counts[class] > 0).collect();
        ensure!(
            occurring.len() > 1,
            "{source}: the labels name {} only: at least 2 classes",
            occurring.first().map_or("no class", |&class| names[class].as_str())
        );
        for (class, _) in counts.iter().enumerate().filter(|(_, count)| **count == 0) {
            eprintln!("note: {source}: no label of the class {}; it is left out", names[class]);
        }
        let code = |label: i64| occurring.partition_point(|&class| class < label as usize) as i64;
        Ok(Given {
            samples,
            labels: labels.iter().map(|&label| code(label)).collect(),
            classes: occurring.into_iter().map(|class| names[class].clone()).collect(),
        })
    }

    fn tensor(&self) -> Tensor {
        Tensor::from_slice(&self.labels)
    }

    fn plant(&self, share: f64, seed: u64) -> Result<PlantedNoise> {
        let classes = self.classes.len() as i64;
        let noise = PlantedNoise::plant(&self.tensor(), classes, share, Key::new(seed))
            .with_context(|| format!("--plant {share}"))?;
        let counts = Vec::<i64>::try_from(noise.labels.bincount(None::<Tensor>, classes))?;
        let few = counts.iter().position(|&count| count < 2);
        if let Some(class) = few {
            bail!("--plant {share} leaves fewer than 2 labels of the class {}", self.classes[class]);
        }
        Ok(noise)
    }

    fn features(
        &self,
        subject: &Subject,
        recipe: &Recipe,
        run: &Path,
        weights: &Path,
        device: Device,
    ) -> Result<Tensor> {
        let all = subject.encode(recipe, run, weights, device)?;
        let samples: Vec<i64> = self.samples.iter().map(|&i| i as i64).collect();
        Ok(all.index_select(0, &Tensor::from_slice(&samples)))
    }
}

/// An audit that is done, to be told.
pub struct Audited<'a> {
    arguments: &'a Arguments,
    subject: &'a Subject,
    given: &'a Given,
    /// The labels that were checked: the given ones, or those with the planted among them.
    labels: Vec<i64>,
    planted: Option<&'a [i64]>,
    counted: Option<Planted>,
    found: &'a Examined,
    seconds: f64,
}

impl Audited<'_> {
    fn class(&self, code: i64) -> &str {
        self.given.classes.get(code as usize).map_or("", String::as_str)
    }

    /// Labels and doubts by class.
    fn by_class(&self) -> Vec<(usize, usize)> {
        let mut counts = vec![(0, 0); self.given.classes.len()];
        self.labels.iter().for_each(|&label| counts[label as usize].0 += 1);
        self.found.audit.doubted.iter().for_each(|&i| counts[self.labels[i as usize] as usize].1 += 1);
        counts
    }

    /// The labels, the worst first.
    fn order(&self) -> Vec<usize> {
        let quality = &self.found.quality;
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        order.sort_by(|&a, &b| quality[a].total_cmp(&quality[b]));
        order
    }

    /// A row for every label, the worst first.
    fn csv(&self) -> Result<Vec<u8>> {
        let Examined { audit, quality, .. } = self.found;
        let mut doubted = vec![false; self.labels.len()];
        audit.doubted.iter().for_each(|&i| doubted[i as usize] = true);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let columns = ["file", "label", "suggested", "probability", "quality", "suspicious"];
        writer.write_record(columns.into_iter().chain(self.planted.map(|_| "planted")))?;
        for i in self.order() {
            let cells = [
                self.subject.name(self.given.samples[i]),
                self.class(self.labels[i]).to_owned(),
                self.class(self.found.suggested[i]).to_owned(),
                format!("{:.6}", self.found.probability[i]),
                format!("{:.6}", quality[i]),
                doubted[i].to_string(),
            ];
            let planted = self.planted.map(|planted| planted.binary_search(&(i as i64)).is_ok().to_string());
            writer.write_record(cells.into_iter().chain(planted))?;
        }
        Ok(writer.into_inner()?)
    }

    fn json(&self) -> Value {
        let Examined { audit, prediction, before, after, scalings, .. } = self.found;
        let classes = self.given.classes.iter().zip(self.by_class()).zip(audit.joint.noise_rates());
        let classes: Vec<Value> = classes
            .map(|((name, (labels, doubted)), estimated)| {
                json!({ "name": name, "labels": labels, "suspicious": doubted, "estimated_wrong": estimated })
            })
            .collect();
        let mut report = Map::new();
        let mut insert = |key: &str, value: Value| report.insert(key.to_owned(), value);
        insert("command", json!(self.command()));
        insert("labels", json!(self.labels.len()));
        insert("suspicious", json!(audit.doubted.len()));
        insert("estimated_wrong", json!(self.estimated_wrong()));
        insert("noise", json!(self.noise()));
        if let Some(counted) = &self.counted {
            insert("planted", json!(counted));
        }
        insert("calibration", json!({ "before": before, "after": after, "scalings": scalings }));
        insert(
            "probe",
            json!({ "accuracy": prediction.accuracy, "c": prediction.c, "path": prediction.path }),
        );
        insert("classes", json!(classes));
        insert("confident_joint", json!(audit.joint));
        insert("seed", json!(self.arguments.seed));
        insert("seconds", json!(self.seconds));
        Value::Object(report)
    }

    /// The share of labels that the confident joint holds wrong.
    fn estimated_wrong(&self) -> f64 {
        let joint = &self.found.audit.joint.calibrated;
        let (all, right): (i64, i64) = joint
            .iter()
            .enumerate()
            .fold((0, 0), |(all, right), (k, row)| (all + row.iter().sum::<i64>(), right + row[k]));
        (all - right) as f64 / (all as f64).max(1.0)
    }

    /// The share of labels that was drawn by chance, as the scaling estimates it.
    fn noise(&self) -> f64 {
        let scalings = &self.found.scalings;
        scalings.iter().map(|scaling| scaling.noise).sum::<f64>() / scalings.len().max(1) as f64
    }

    fn command(&self) -> String {
        let Arguments { run, weights, data, labels, part, doubt, folds, plant, seed, .. } = self.arguments;
        let doubt = doubt.to_possible_value().filter(|_| *doubt != Doubt::default());
        let mut words = vec![format!("selfsup audit {} --data {data} --out NEW_FOLDER", run.display())];
        words.extend((*weights == Whose::Teacher).then(|| "--weights teacher".to_owned()));
        words.extend(labels.as_ref().map(|labels| format!("--labels {}", labels.display())));
        words.extend((*part == Part::Test).then(|| "--part test".to_owned()));
        words.extend(doubt.map(|doubt| format!("--doubt {}", doubt.get_name())));
        words.extend(plant.map(|plant| format!("--plant {plant}")));
        words.push(format!("--folds {folds} --seed {seed}"));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["ant", "bee", "cow", "doe"].map(str::to_owned).into()
    }

    #[test]
    fn classes_without_a_label_are_left_out() {
        let given = Given::new("few.csv", vec![4, 5, 6, 7], &[3, 1, 1, 3], &names()).unwrap();
        assert_eq!(
            (given.labels, given.classes),
            (vec![1, 0, 0, 1], vec!["bee".to_owned(), "doe".to_owned()])
        );
    }

    #[test]
    fn a_single_label_and_a_single_class_are_refused_by_name() {
        let refusal = |labels: &[i64]| {
            Given::new("few.csv", (0..labels.len()).collect(), labels, &names()).err().unwrap().to_string()
        };
        assert_eq!(
            refusal(&[0, 0, 2]),
            "few.csv: the class cow has a single label: at least 2, or none could judge the other"
        );
        assert_eq!(refusal(&[1, 1, 1]), "few.csv: the labels name bee only: at least 2 classes");
        assert_eq!(refusal(&[]), "few.csv: the labels name no class only: at least 2 classes");
    }

    #[test]
    fn a_planting_that_empties_a_class_is_refused() {
        let given = Given::new("few.csv", (0..4).collect(), &[0, 0, 1, 1], &names()).unwrap();
        let refusals: Vec<String> =
            (0..40).filter_map(|seed| given.plant(0.5, seed).err()).map(|error| error.to_string()).collect();
        for class in ["ant", "bee"] {
            let expected = format!("--plant 0.5 leaves fewer than 2 labels of the class {class}");
            assert!(refusals.contains(&expected), "{refusals:?}");
        }
        assert!(refusals.len() < 40, "one of each class leaves two of each");
    }
}
