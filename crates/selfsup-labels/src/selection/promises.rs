//! What [`Selector`] promises, tried on every one of them.

use super::cluster_uncertainty::{ClusterUncertainty, ClusterUncertaintyConfig};
use super::core_set::CoreSet;
use super::pool::{Pool, PredictedPool, Selector};
use super::typiclust::{TypiClust, TypiClustConfig};
use super::uncertainty::Uncertainty;
use super::weighted_ranks::{WeightedRanks, WeightedRanksConfig};
use selfsup_core::{Device, FeatureRows, Kind, Logits, Result, Tensor};
use std::collections::HashSet;

type Select = Box<dyn Fn(usize, &Tensor, &[i64]) -> Result<Vec<i64>>>;

fn on_features(selector: impl Selector<Pool = Pool> + 'static) -> Select {
    Box::new(move |n, x, labelled| selector.select_next(n, &Pool::new(&FeatureRows::new(x)?, labelled)?))
}

fn on_predictions(selector: impl Selector<Pool = PredictedPool> + 'static) -> Select {
    Box::new(move |n, x, labelled| {
        let probabilities = Logits::new(&(x * 3.0))?.softmax(1.0)?;
        let pool = PredictedPool::new(Pool::new(&FeatureRows::new(x)?, labelled)?, probabilities)?;
        selector.select_next(n, &pool)
    })
}

fn all() -> Vec<(&'static str, Select)> {
    let few = TypiClustConfig { max_clusters: 4, ..Default::default() };
    vec![
        ("least confident", on_predictions(Uncertainty::LeastConfident)),
        ("margin", on_predictions(Uncertainty::Margin)),
        ("entropy", on_predictions(Uncertainty::Entropy)),
        ("core-set", on_features(CoreSet {})),
        ("typiclust", on_features(TypiClust::new(TypiClustConfig::default()).unwrap())),
        ("typiclust with few clusters", on_features(TypiClust::new(few).unwrap())),
        (
            "cluster uncertainty",
            on_predictions(ClusterUncertainty::new(ClusterUncertaintyConfig::default()).unwrap()),
        ),
        ("weighted ranks", on_predictions(WeightedRanks::new(WeightedRanksConfig::default()).unwrap())),
    ]
}

/// 30 samples of which 20 differ: the last ten are copies of the first ten.
fn with_copies() -> Tensor {
    let i = Tensor::arange(80, (Kind::Double, Device::Cpu));
    let x = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([20, 4]).to_kind(Kind::Float);
    Tensor::cat(&[&x, &x.narrow(0, 0, 10)], 0)
}

/// Labelled: 3, 15 and 22, the copy of 2.
const LABELLED: [i64; 3] = [3, 15, 22];

#[test]
fn proposes_no_labelled_sample_and_none_twice() {
    for (name, select) in all() {
        for n in [0, 1, 5, 17, 27] {
            let found = select(n, &with_copies(), &LABELLED).unwrap();
            assert_eq!(found.len(), n, "{name}");
            let distinct: HashSet<_> = found.iter().collect();
            assert_eq!(distinct.len(), n, "{name}: {found:?}");
            assert!(found.iter().all(|i| (0..30).contains(i) && !LABELLED.contains(i)), "{name}: {found:?}");
        }
    }
}

#[test]
fn proposes_copies_only_when_nothing_else_is_left() {
    // 20 different samples, of which 2, 3 and 15 are labelled: 17 others.
    for (name, select) in all() {
        let found = select(27, &with_copies(), &LABELLED).unwrap();
        let original = |i: i64| if i >= 20 { i - 20 } else { i };
        let first: HashSet<i64> = found[..17].iter().map(|&i| original(i)).collect();
        assert_eq!(first.len(), 17, "{name}: {found:?}");
        assert!(![2, 3, 15].iter().any(|i| first.contains(i)), "{name}: {found:?}");
    }
}

#[test]
fn equal_samples_are_taken_in_order() {
    let same = Tensor::ones([6, 3], (Kind::Float, Device::Cpu));
    for (name, select) in all() {
        assert_eq!(select(4, &same, &[1]).unwrap(), [0, 2, 3, 4], "{name}");
        assert_eq!(select(3, &same, &[]).unwrap(), [0, 1, 2], "{name}");
    }
}

#[test]
fn is_the_same_on_every_call() {
    for (name, select) in all() {
        let again = || select(12, &with_copies(), &LABELLED).unwrap();
        assert_eq!(again(), again(), "{name}");
    }
}

#[test]
fn asks_for_no_more_than_there_is() {
    for (name, select) in all() {
        let error = select(28, &with_copies(), &LABELLED).unwrap_err().to_string();
        assert_eq!(error, "n = 28: at most 27, the number of samples without a label", "{name}");
        let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        assert_eq!(select(0, &none, &[]).unwrap(), [0_i64; 0], "{name}");
        let error = select(1, &none, &[]).unwrap_err().to_string();
        assert_eq!(error, "n = 1: at most 0, the number of samples without a label", "{name}");
        let all: Vec<i64> = (0..30).collect();
        assert_eq!(select(0, &with_copies(), &all).unwrap(), [0_i64; 0], "{name}");
    }
}

#[test]
fn refuses_features_that_are_not_finite() {
    for (name, select) in all() {
        assert!(select(1, &(with_copies() / 0.0), &LABELLED).is_err(), "{name}");
    }
}

#[test]
fn one_sample_is_proposed_by_all() {
    let one = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
    for (name, select) in all() {
        assert_eq!(select(1, &one, &[]).unwrap(), [0], "{name}");
    }
}
