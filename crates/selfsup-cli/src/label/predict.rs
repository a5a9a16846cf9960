//! Classes of all samples from the given labels, and of each given one from the others.

use super::arguments::Method;
use super::folds::{Fold, folds};
use super::given::Given;
use super::predictor::{Head, Linear, NearestMeans, Predictor, at};
use super::samples::Samples;
use super::trust::{HeldOut, scaled_loss};
use crate::model::ImageModel;
use anyhow::Result;
use selfsup::core::{FeatureRows, Key, Kind, Logits, Probabilities, PseudoLabels, Reason, Tensor};
use selfsup::eval::Standardiser;
use selfsup::labels::{
    Agreement, Graph, Kernel, LabelPropagation, LabelPropagationConfig, LabelSpreading, LabelSpreadingConfig,
    ProbabilityStack,
};
use selfsup::numerics::{KnnGraphConfig, Metric};
use std::rc::Rc;

/// What was predicted.
pub struct Predicted {
    /// Class scores of all samples, `[N, C]`.
    pub logits: Tensor,
    /// Class scores of the given samples by models that had not seen their labels, `[M, C]`; none where a class has a single
    /// label.
    pub held_out: Option<Tensor>,
    /// The share of views for which the label is the most probable, `[N]`; none without views.
    pub agreement: Option<Tensor>,
    /// Whether a label reaches the sample along the graph; none without a graph.
    pub reached: Option<Vec<bool>>,
    /// How it was done, for the report.
    pub how: String,
}

/// The inverse regularisation strengths to choose from.
const STRENGTHS: [f64; 7] = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0];

/// Predicts the classes of all samples with features `x` `[N, D]`.
///
/// # Errors
/// Those of reading the views, and when a labeler refuses the features.
pub fn predict(
    method: Method,
    samples: &Samples,
    model: &ImageModel,
    x: &Tensor,
    given: &Given,
    views: usize,
    seed: u64,
) -> Result<Predicted> {
    let folds = folds(&given.labels, given.classes.len(), Key::new(seed));
    let from_features = |method| on_features(method, samples, model, x, given, &folds, views);
    match method {
        Method::Propagation | Method::Spreading => along_graph(method, x, given, &folds),
        Method::Mixed => {
            let along = along_graph(Method::Spreading, x, given, &folds)?;
            mixed(from_features(Method::Linear)?, along, given)
        }
        _ => from_features(method),
    }
}

/// By a classifier of features, averaged over the plain view and `views` others.
fn on_features(
    method: Method,
    samples: &Samples,
    model: &ImageModel,
    x: &Tensor,
    given: &Given,
    folds: &[Fold],
    views: usize,
) -> Result<Predicted> {
    let own = x.index_select(0, &given.rows()).unsqueeze(1); // [M, 1, D]
    let seen = if views == 0 {
        own
    } else {
        Tensor::cat(&[own, samples.view_features(model, &given.indices, views)?], 1)
    };
    let fitted = Fitted::new(method, x, &seen, given, folds)?;
    let (held_out, how) = (fitted.held_out, fitted.how);
    let (logits, agreement, how) = over_views(fitted.predictor.as_ref(), samples, model, x, views, how)?;
    Ok(Predicted { logits, held_out, agreement, reached: None, how })
}

/// By the classifier that a run has learned itself, averaged over the plain view and `views` others.
///
/// # Errors
/// Those of reading the views.
pub fn by_own_head(samples: &Samples, model: &ImageModel, x: &Tensor, views: usize) -> Result<Predicted> {
    let head = Head::of(model)?;
    let how = "the classifier of the run".to_owned();
    let (logits, agreement, how) = over_views(&head, samples, model, x, views, how)?;
    Ok(Predicted { logits, held_out: None, agreement, reached: None, how })
}

/// What a predictor says of the plain view and `views` others of each sample: logits `[N, C]`, and the share of views that
/// agree, where there are others.
fn over_views(
    predictor: &dyn Predictor,
    samples: &Samples,
    model: &ImageModel,
    x: &Tensor,
    views: usize,
    how: String,
) -> Result<(Tensor, Option<Tensor>, String)> {
    let plain = predictor.logits(x)?;
    if views == 0 {
        return Ok((plain, None, how));
    }
    let found = samples.over_views(model, views, |first, seen| {
        let mut members = vec![probabilities(&plain.narrow(0, first, seen.size()[0]))?];
        for view in seen.unbind(1) {
            members.push(probabilities(&predictor.logits(&view)?)?);
        }
        let found = Agreement::of(&ProbabilityStack::new(&members)?)?;
        Ok(Tensor::cat(&[found.mean.tensor(), &found.agreement.unsqueeze(1)], 1))
    })?; // [N, C + 1]
    let classes = plain.size()[1];
    let how = format!("{how}, averaged over {} views", views + 1);
    Ok((logs(&found.narrow(1, 0, classes)), Some(found.select(1, classes)), how))
}

/// The shares of the first of two predictions that are tried.
const SHARES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Calibrated probabilities of two predictions, in the shares with which held-out labels are predicted best: the graph is good
/// with few labels, the features with more.
fn mixed(features: Predicted, graph: Predicted, given: &Given) -> Result<Predicted> {
    let (share, held_out, temperatures) = match (&features.held_out, &graph.held_out) {
        (Some(a), Some(b)) => {
            let temperatures = [HeldOut::of(a, given)?.temperature(), HeldOut::of(b, given)?.temperature()];
            let mut best: Option<(f64, f64, Tensor)> = None;
            for share in SHARES {
                let held_out = mean([a, b], temperatures, share)?;
                let loss = scaled_loss(&held_out, given)?;
                if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
                    best = Some((loss, share, held_out));
                }
            }
            let (share, held_out) = best.map_or((0.5, None), |(_, share, held_out)| (share, Some(held_out)));
            (share, held_out, temperatures)
        }
        _ => (0.5, None, [1.0; 2]),
    };
    let logits = mean([&features.logits, &graph.logits], temperatures, share)?;
    // Views that agree say nothing for or against a label that the graph has brought.
    let same = features.logits.argmax(1, false).eq_tensor(&logits.argmax(1, false));
    let agreement = features.agreement.map(|agreement| agreement.masked_fill(&same.logical_not(), 1.0));
    Ok(Predicted {
        logits,
        held_out,
        agreement: agreement.filter(|_| share > 0.0),
        reached: graph.reached.filter(|_| share == 0.0),
        how: format!("{:.0} % {}, {:.0} % {}", 100.0 * share, features.how, 100.0 * (1.0 - share), graph.how),
    })
}

/// Scores whose softmax are the shares of two distributions.
fn mean(logits: [&Tensor; 2], temperatures: [f64; 2], share: f64) -> Result<Tensor> {
    let of = |i: usize| -> Result<Probabilities> { Ok(Logits::new(logits[i])?.softmax(temperatures[i])?) };
    Ok(logs(&(of(0)?.tensor() * share + of(1)?.tensor() * (1.0 - share))))
}

/// A predictor fitted to all given labels, and what others say of those that they had not seen.
struct Fitted {
    predictor: Box<dyn Predictor>,
    held_out: Option<Tensor>,
    how: String,
}

impl Fitted {
    /// Fits to `seen` `[M, 1 + K, D]`, the plain view first; `x` `[N, D]` are all samples.
    fn new(method: Method, x: &Tensor, seen: &Tensor, given: &Given, folds: &[Fold]) -> Result<Self> {
        let plain = seen.select(1, 0);
        let scale = Rc::new(Standardiser::of(x));
        let fit = |places: &[usize], c: f64| -> Result<Box<dyn Predictor>> {
            let (x, labels) = at(&plain, given, places);
            let classes = given.classes.len() as i64;
            Ok(match method {
                Method::NearestMean => Box::new(NearestMeans::fit(&x, &labels, classes)?),
                _ => Box::new(Linear::fit(&scale, &x, &labels, classes, c)?),
            })
        };
        let strengths: &[f64] = if method == Method::NearestMean { &[1.0] } else { &STRENGTHS };
        let mut best: Option<(f64, f64, Tensor)> = None;
        if !folds.is_empty() {
            for &c in strengths {
                let held_out = put_together(given, folds, |fold| {
                    let predictor = fit(&fold.0, c)?;
                    let (held, _) = at(seen, given, &fold.1); // [m, 1 + K, D]
                    let members: Result<Vec<_>> =
                        held.unbind(1).iter().map(|view| probabilities(&predictor.logits(view)?)).collect();
                    Ok(logs(ProbabilityStack::new(&members?)?.mean()?.tensor()))
                })?;
                let loss = scaled_loss(&held_out, given)?;
                if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
                    best = Some((loss, c, held_out));
                }
            }
        }
        // Without any label to hold out: what the few-label probe is best with on the shipped recipes.
        let (c, held_out) = best.map_or((3e-2, None), |(_, c, held_out)| (c, Some(held_out)));
        let how = match method {
            Method::NearestMean => "the nearest class mean".to_owned(),
            _ => format!("logistic regression, C = {c}"),
        };
        let all: Vec<usize> = (0..given.indices.len()).collect();
        Ok(Fitted { predictor: fit(&all, c)?, held_out, how })
    }
}

fn along_graph(method: Method, x: &Tensor, given: &Given, folds: &[Fold]) -> Result<Predicted> {
    let features = FeatureRows::new(x)?;
    let (propagation, spreading) = (LabelPropagationConfig::default(), LabelSpreadingConfig::default());
    let spreads = method == Method::Spreading;
    // What self-supervised features say is in their direction; a small set has fewer neighbours.
    let neighbours = KnnGraphConfig::default().k.min(x.size()[0] - 1);
    let kernel = KnnGraphConfig { k: neighbours, metric: Metric::Cosine, ..Default::default() };
    let graph = Graph::new(&features, &Kernel::Knn(kernel))?;
    let hand_on = |places: &[usize]| -> Result<PseudoLabels> {
        let few = given.few(places)?;
        Ok(if spreads {
            LabelSpreading::new(spreading.clone(), few)?.label_along(&graph)?
        } else {
            LabelPropagation::new(propagation.clone(), few)?.label_along(&graph)?
        })
    };
    let distributions = |found: &PseudoLabels| -> Tensor {
        // Both labelers give one.
        found.soft.as_ref().map_or_else(|| Tensor::zeros([0, 0], (Kind::Float, x.device())), logs)
    };
    let held_out = if folds.is_empty() {
        None
    } else {
        Some(put_together(given, folds, |fold| {
            let found = hand_on(&fold.0)?;
            let rows: Vec<i64> = fold.1.iter().map(|&at| given.indices[at] as i64).collect();
            Ok(distributions(&found).index_select(0, &Tensor::from_slice(&rows)))
        })?)
    };
    let found = hand_on(&(0..given.indices.len()).collect::<Vec<_>>())?;
    let reached = found.reasons()?.iter().map(|reason| *reason != Reason::Unreached).collect();
    let how = if spreads { "label spreading along the graph" } else { "label propagation along the graph" };
    Ok(Predicted {
        logits: distributions(&found),
        held_out,
        agreement: None,
        reached: Some(reached),
        how: how.to_owned(),
    })
}

/// What the folds say of the labels that they hold out, in the order of the list, `[M, C]`.
fn put_together(given: &Given, folds: &[Fold], of: impl Fn(&Fold) -> Result<Tensor>) -> Result<Tensor> {
    let (mut rows, mut places) = (Vec::new(), Vec::new());
    for fold in folds.iter().filter(|fold| !fold.1.is_empty()) {
        rows.push(of(fold)?);
        places.extend(fold.1.iter().map(|&at| at as i64));
    }
    let rows = Tensor::cat(&rows, 0);
    let order = Tensor::from_slice(&places).argsort(0, false);
    debug_assert_eq!(rows.size()[0], given.indices.len() as i64);
    Ok(rows.index_select(0, &order))
}

fn probabilities(logits: &Tensor) -> Result<Probabilities> {
    Ok(Logits::new(logits)?.softmax(1.0)?)
}

/// Scores whose softmax are the distributions again; what has no share has a very small one.
fn logs(distributions: &Tensor) -> Tensor {
    distributions.clamp_min(1e-6).log()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty samples in two directions, of which eight are labelled, one of them wrongly.
    fn planted() -> (Tensor, Given) {
        let rows: Vec<[f32; 3]> = (0..40_i16)
            .map(|i| {
                let (near, far) = (1.0 + f32::from(i % 5) * 0.1, f32::from(i % 7) * 0.05);
                if i % 2 == 0 { [near, far, 0.1] } else { [far, near, 0.1] }
            })
            .collect();
        let classes = ["even", "odd"].map(str::to_owned).to_vec();
        let given = Given {
            classes,
            indices: vec![0, 1, 2, 3, 10, 11, 20, 21],
            labels: vec![0, 1, 0, 1, 0, 1, 1, 1],
            ..Given::default()
        };
        (Tensor::from_slice2(&rows), given)
    }

    #[test]
    fn a_held_out_label_has_no_say_in_its_own_prediction() {
        let (x, given) = planted();
        let folds = folds(&given.labels, 2, Key::new(0));
        let seen = x.index_select(0, &given.rows()).unsqueeze(1);
        let linear = Fitted::new(Method::Linear, &x, &seen, &given, &folds).unwrap();
        let means = Fitted::new(Method::NearestMean, &x, &seen, &given, &folds).unwrap();
        let graph = |method| along_graph(method, &x, &given, &folds).unwrap().held_out;
        for held_out in
            [linear.held_out, means.held_out, graph(Method::Propagation), graph(Method::Spreading)]
        {
            let found = Vec::<i64>::try_from(held_out.unwrap().argmax(1, false)).unwrap();
            assert_eq!(found, [0, 1, 0, 1, 0, 1, 0, 1], "the wrong label is not learned by heart");
        }
    }

    #[test]
    fn what_predicts_held_out_labels_gets_the_larger_share() {
        let (x, given) = planted();
        let folds = folds(&given.labels, 2, Key::new(0));
        let good = along_graph(Method::Spreading, &x, &given, &folds).unwrap();
        let noise = |n: i64| {
            let wave = Tensor::arange(n * 2, (Kind::Double, x.device())).pow_tensor_scalar(1.5) * 0.37;
            wave.sin().reshape([n, 2]).to_kind(Kind::Float) * 3.0
        };
        let bad = || Predicted {
            logits: noise(40),
            held_out: Some(noise(8)),
            agreement: Some(Tensor::full([40], 0.25, (Kind::Float, x.device()))),
            reached: None,
            how: "noise".to_owned(),
        };
        let expected = good.logits.argmax(1, false);
        let found = mixed(bad(), good, &given).unwrap();
        assert_eq!(found.logits.argmax(1, false), expected);
        assert!(!found.how.starts_with("100 %") && !found.how.starts_with("75 %"), "{}", found.how);
        let nothing = Predicted { held_out: None, ..bad() };
        let even = mixed(bad(), nothing, &given).unwrap();
        assert!(even.held_out.is_none() && even.how.starts_with("50 % noise"), "{}", even.how);
        // Both are the same noise, so that the label is the features' own and its views are asked.
        assert!(even.agreement.unwrap().eq(0.25).all().int64_value(&[]) == 1);
    }

    #[test]
    fn held_out_rows_come_back_in_the_order_of_the_list() {
        let (_, given) = planted();
        let folds = folds(&given.labels, 2, Key::new(3));
        let found = put_together(&given, &folds, |fold| {
            let places: Vec<f32> = fold.1.iter().map(|&place| place as f32).collect();
            Ok(Tensor::from_slice(&places).unsqueeze(1))
        });
        assert_eq!(
            Vec::<f64>::try_from(found.unwrap().squeeze()).unwrap(),
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        );
    }

    #[test]
    fn without_labels_to_hold_out_there_is_still_a_prediction() {
        let (x, given) = planted();
        let few = Given { indices: vec![0, 1], labels: vec![0, 1], ..given };
        let seen = x.index_select(0, &few.rows()).unsqueeze(1);
        let fitted = Fitted::new(Method::Linear, &x, &seen, &few, &[]).unwrap();
        assert!(fitted.held_out.is_none());
        let found = Vec::<i64>::try_from(fitted.predictor.logits(&x).unwrap().argmax(1, false)).unwrap();
        assert!(found.iter().enumerate().all(|(i, &label)| label == i as i64 % 2));
    }
}
