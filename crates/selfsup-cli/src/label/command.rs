//! From files to files.

use super::arguments::{Arguments, REPORT_JSON, REVIEW};
use super::given::{Given, Purpose, truth};
use super::judged::judge;
use super::next::{self, Opinion};
use super::predict::{by_own_head, predict};
use super::review::{self, Classes, Doubt};
use super::samples::Samples;
use super::show::{Known, Origin};
use super::trust::{self, Labels, Rule};
use super::{arguments::Method, clusters};
use crate::label_table;
use crate::report;
use anyhow::{Context, Result, ensure};
use selfsup::core::state::write_whole;
use selfsup::core::{Kind, Tensor};
use selfsup::data::{LabelFile, LabelRow};
use std::path::Path;

/// What draws depend on: the same files give the same labels.
const SEED: u64 = 0;

/// What is to be known of the labels that a fine-tuned run gives.
const UNCALIBRATED: &str = "the probabilities are the run's own and are not calibrated: it has learned from the labels that would tell how true they are";
const NOTHING_UNLIKE: &str = "no sample is rejected as unlike the labelled ones: of those that the run was trained with there are \
                              not two of every class among these";

/// Runs the command. Everything that can be refused is refused before a sample is encoded, and nothing is written before all
/// is known.
///
/// # Errors
/// With the argument, file or line that cannot work.
pub fn run(arguments: &Arguments) -> Result<()> {
    arguments.check()?;
    let device = arguments.machine.choose()?;
    let samples = Samples::open(&arguments.run, arguments.weights, &arguments.data, device)?;
    match arguments.next {
        Some(n) => propose(arguments, &samples, n),
        None => label(arguments, &samples),
    }
}

fn label(arguments: &Arguments, samples: &Samples) -> Result<()> {
    let run = samples.own_classes().filter(|_| arguments.leaves_it_to_the_run());
    let given = match run {
        Some(classes) => Some(Given::beside_run(arguments, samples, classes)?),
        None => Given::open(arguments, samples, Purpose::Label)?,
    };
    let method = arguments.method();
    ensure!(
        arguments.views == 0 || run.is_some() || method.asks_views(),
        "--views {}: --method {} looks at no views; leave it out, or choose mixed, linear or nearest-mean",
        arguments.views,
        method.name()
    );
    let model = samples.model()?;
    let x = samples.features(&model)?;
    let rule = Rule {
        min_probability: arguments.min_probability,
        reject_unlike: !arguments.keep_unlike,
        seed: SEED,
    };
    let mut remarks = Vec::new();
    let (labels, counts) = if let Some((given, classes)) = given.as_ref().zip(run) {
        let predicted = by_own_head(samples, &model, &x, arguments.views)?;
        let known_to_run = given.among(classes);
        let mut labels = trust::label(&predicted, &x, &known_to_run, rule)?.among(Some(&given.classes));
        labels.put(given);
        remarks.push(UNCALIBRATED);
        if rule.reject_unlike && !trust::tells_unlike(&known_to_run, rule) {
            remarks.push(NOTHING_UNLIKE);
        }
        (labels, None)
    } else if let Some(given) = &given {
        let predicted = predict(method, samples, &model, &x, given, arguments.views, SEED)?;
        (trust::label(&predicted, &x, given, rule)?, None)
    } else {
        let counts = if arguments.clusters.is_none() { Some(clusters::suggest(&x, SEED)?) } else { None };
        let clusters = arguments.clusters.or(counts.as_ref().map(|counts| counts.suggested)).unwrap_or(1);
        (clusters::label(method, &x, clusters, SEED)?, counts)
    };
    if let Some(counts) = &counts {
        println!("{counts}");
    }
    let true_classes = samples.set.classes();
    let comparable = labels.probabilities.is_none() || labels.classes == true_classes;
    let true_labels = truth(arguments, samples).filter(|_| comparable);
    let seen = given.as_ref().map(Given::seen).unwrap_or_default();
    let judged = match &true_labels {
        Some(truth) => judge(&labels, truth, &true_classes, &seen)?,
        None => None,
    };
    let known = Known {
        labels: &labels,
        given: given.as_ref(),
        origin: match (run, &given) {
            (Some(_), _) => Origin::Run,
            (None, Some(_)) => Origin::Given,
            (None, None) => Origin::Clusters,
        },
        remarks,
        judged: judged.as_ref(),
        counts: counts.as_ref(),
        truth: true_labels.as_deref().map(|truth| (truth, true_classes.as_slice())),
    };
    let file = rows(&labels, samples, &arguments.out)?;
    // What needs pictures is made before anything is written: one of them may be damaged.
    let page = match &arguments.review {
        Some(_) => {
            let doubts = review::doubts(&labels, &seen, arguments.review_samples);
            // What a fine-tuned run tells apart is settled; of clusters a person may say what they are.
            let fixed = run.is_some() || true_labels.is_some() && given.is_some();
            let names = if fixed { Classes::Fixed(&labels.classes) } else { Classes::Open(&labels.classes) };
            Some(review::page(&samples.name, &doubts, names, samples)?)
        }
        None => None,
    };
    let shown = arguments.report.as_ref().map(|_| known.report(samples)).transpose()?;
    label_table::write(&file, &arguments.out, arguments.existing())?;
    tell(&known.outcome(), &arguments.out);
    for remark in known.remarks() {
        eprintln!("{remark}");
    }
    for (reason, count) in labels.by_reason() {
        eprintln!("{count:>9}  {reason}");
    }
    if let (Some(folder), Some(page)) = (&arguments.review, page) {
        write_page(folder, &page)?;
    }
    if let (Some(folder), Some(shown)) = (&arguments.report, shown) {
        make(folder)?;
        let json = serde_json::to_string_pretty(&known.json(&samples.name))?;
        write_whole(&folder.join(REPORT_JSON), json.as_bytes())?;
        println!("{}", report::write_labels(&shown, folder)?.display());
    }
    Ok(())
}

fn rows(labels: &Labels, samples: &Samples, path: &Path) -> Result<LabelFile> {
    let row = |index: usize| LabelRow {
        file: samples.name_of(index),
        label: labels.class(index).to_owned(),
        probability: labels.probability[index].map(rounded),
        weight: Some(rounded(labels.weights[index])),
        reason: Some(labels.reasons[index].to_owned()),
    };
    Ok(LabelFile::new(path, (0..labels.labels.len()).map(row).collect())?)
}

/// In six digits: what a file says.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

fn propose(arguments: &Arguments, samples: &Samples, n: usize) -> Result<()> {
    let run = samples.own_classes().filter(|_| arguments.leaves_it_to_the_run());
    let given = match run {
        Some(classes) => Some(Given::beside_run(arguments, samples, classes)?),
        None => Given::open(arguments, samples, Purpose::Collect)?,
    };
    let of_two = given.as_ref().and_then(Given::of_present_classes);
    let strategy = next::strategy(arguments, run.is_some() || of_two.is_some())?;
    let model = samples.model()?;
    let x = samples.features(&model)?;
    let opinion = match (run, &of_two) {
        _ if !strategy.asks_a_model() => None,
        // A run that was fine-tuned is a model already.
        (Some(classes), _) => {
            let predicted = by_own_head(samples, &model, &x, arguments.views)?;
            let probabilities = predicted.logits.softmax(1, Kind::Float);
            Some(Opinion { classes: classes.to_vec(), probabilities })
        }
        (None, Some(given)) => {
            let predicted = predict(Method::Mixed, samples, &model, &x, given, arguments.views, SEED)?;
            let rule = Rule { min_probability: 0.0, reject_unlike: false, seed: SEED };
            let labels = trust::label(&predicted, &x, given, rule)?;
            labels.probabilities.map(|probabilities| Opinion { classes: labels.classes, probabilities })
        }
        (None, None) => None,
    };
    let proposals = next::propose(n, strategy, &x, given.as_ref(), opinion.as_ref(), SEED)?;
    let page = match &arguments.review {
        Some(_) => Some(proposal_page(arguments, samples, given.as_ref(), opinion.as_ref(), &proposals)?),
        None => None,
    };
    next::write(&proposals, |index| samples.name_of(index), &arguments.out)?;
    tell(
        &format!("{} of {} samples to be labelled next.", proposals.len(), samples.set.len()),
        &arguments.out,
    );
    if let (Some(folder), Some(page)) = (&arguments.review, page) {
        write_page(folder, &page)?;
    }
    Ok(())
}

/// A page on which the proposed samples get their labels.
fn proposal_page(
    arguments: &Arguments,
    samples: &Samples,
    given: Option<&Given>,
    opinion: Option<&Opinion>,
    proposals: &[next::Proposal],
) -> Result<String> {
    let guesses: Option<Vec<i64>> =
        opinion.map(|o| Vec::try_from(&o.probabilities.argmax(1, false) as &Tensor)).transpose()?;
    let doubt = |proposal: &next::Proposal| {
        let guess = opinion
            .zip(guesses.as_ref())
            .map(|(o, guesses)| o.classes[guesses[proposal.index] as usize].clone());
        Doubt { index: proposal.index, label: guess, remark: proposal.reason.clone() }
    };
    let doubts: Vec<Doubt> = proposals.iter().map(doubt).collect();
    let fixed = truth(arguments, samples).map(|_| samples.set.classes());
    let open = given.map(|given| given.classes.clone()).unwrap_or_default();
    let classes = fixed.as_deref().map_or(Classes::Open(&open), Classes::Fixed);
    review::page(&samples.name, &doubts, classes, samples)
}

fn tell(outcome: &str, out: &Path) {
    eprintln!("{outcome}");
    println!("{}", out.display());
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn write_page(folder: &Path, page: &str) -> Result<()> {
    make(folder)?;
    let path = folder.join(REVIEW);
    write_whole(&path, page.as_bytes())?;
    println!("{}", path.display());
    Ok(())
}
