//! Which samples are labelled in a draw.
//!
//! A draw takes as many of each class, and the same for every arm that does not choose. Who chooses begins without labels, with
//! typical samples (TypiClust), up to so many a class; from there on each round labels as many again: the samples of
//! clusters without labels that a linear classifier on the labels so far is least sure of. A person who is asked goes on
//! until every class was seen: what that takes counts.

use crate::drawn;
use anyhow::{Result, ensure};
use rand::seq::SliceRandom as _;
use selfsup::core::{FeatureRows, Features, Key, Probabilities};
use selfsup::eval::{FewLabelConfig, FewLabelProbe};
use selfsup::labels::{
    ClusterUncertainty, ClusterUncertaintyConfig, Pool, PredictedPool, Selector as _, TypiClust,
    TypiClustConfig,
};

/// How samples to label come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At random, of each class as many.
    Drawn,
    /// By what their features tell.
    Proposed,
}

/// Labels a class up to which typical samples are proposed: with few labels a classifier's doubts say little.
const TYPICAL: usize = 10;

/// `count` samples, ascending: of each class as many, and of some, drawn too, one more where they do not divide evenly. A
/// class without so many gives what it has, and the others the rest.
///
/// # Errors
/// When there are fewer samples, or fewer labels than classes.
pub fn drawn(labels: &[i64], classes: usize, count: usize, key: Key) -> Result<Vec<i64>> {
    check(labels.len(), classes, count)?;
    let by_class = drawn::by_class(labels, classes, key);
    let mut order: Vec<usize> = (0..classes).collect();
    order.shuffle(&mut key.with(classes as u64).rng());
    let mut chosen = Vec::with_capacity(count);
    // Sample by sample from class to class, so that fewer labels of a draw are among its more.
    for round in 0.. {
        let left = count - chosen.len();
        let of_round = order.iter().filter_map(|&class| by_class[class].get(round).map(|&i| i as i64));
        chosen.extend(of_round.take(left));
        if chosen.len() == count {
            break;
        }
    }
    chosen.sort_unstable();
    Ok(chosen)
}

/// `count` samples or, where these show not every class, as many more as it takes; `draw` decides the first centres.
///
/// # Errors
/// As [`drawn`].
pub fn proposed(pool: &Features, count: usize, draw: u64) -> Result<Vec<i64>> {
    let classes = pool.classes as usize;
    check(pool.len() as usize, classes, count)?;
    let labels = Vec::<i64>::try_from(&pool.labels)?;
    let rows = FeatureRows::new(&pool.x)?;
    let clusters = TypiClustConfig { seed: draw, ..TypiClustConfig::default() };
    let typical = TypiClust::new(clusters.clone())?;
    let mut chosen = typical.select_next(count.min(TYPICAL * classes), &Pool::new(&rows, &[])?)?;
    let unseen = |chosen: &[i64]| {
        (0..pool.classes)
            .any(|class| labels.contains(&class) && !chosen.iter().any(|&i| labels[i as usize] == class))
    };
    while unseen(&chosen) {
        chosen.extend(typical.select_next(1, &Pool::new(&rows, &chosen)?)?);
    }
    let probe = FewLabelProbe::new(FewLabelConfig::default())?;
    let doubtful = ClusterUncertainty::new(ClusterUncertaintyConfig { clusters, ..Default::default() })?;
    while chosen.len() < count {
        let more = (count - chosen.len()).min(chosen.len());
        let p = probe.fit(pool, &chosen)?.probabilities(&pool.x)?;
        let seen = PredictedPool::new(Pool::new(&rows, &chosen)?, Probabilities::new(&p)?)?;
        chosen.extend(doubtful.select_next(more, &seen)?);
    }
    chosen.sort_unstable();
    Ok(chosen)
}

fn check(samples: usize, classes: usize, count: usize) -> Result<()> {
    ensure!(count <= samples, "--labels {count}: at most {samples}, the samples there are");
    ensure!(count >= classes, "--labels {count}: at least {classes}, one of each class");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::{Device, Kind, Tensor};

    fn counts(labels: &[i64], chosen: &[i64], classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &i in chosen {
            counts[labels[i as usize] as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_draw_takes_as_many_of_each_class_and_larger_ones_hold_smaller() {
        let labels: Vec<i64> = (0..300).map(|i| i % 3).collect();
        let draw = |count, seed| drawn(&labels, 3, count, Key::new(seed)).unwrap();
        assert_eq!(counts(&labels, &draw(30, 0), 3), [10; 3]);
        let mut uneven = counts(&labels, &draw(31, 0), 3);
        uneven.sort_unstable();
        assert_eq!(uneven, [10, 10, 11]);
        let more = draw(120, 0);
        assert!(draw(30, 0).iter().all(|i| more.contains(i)) && more.is_sorted());
        assert_ne!(draw(30, 0), draw(30, 1));
        assert_eq!(draw(300, 0), (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_class_gives_what_it_has() {
        let labels: Vec<i64> = (0..100).map(|i| i64::from(i < 95)).collect();
        assert_eq!(counts(&labels, &drawn(&labels, 2, 40, Key::new(0)).unwrap(), 2), [5, 35]);
    }

    /// Clouds of 200, 80 and 3 samples.
    fn clouds() -> Features {
        let labels: Vec<i64> = (0..283).map(|i| if i < 200 { 0 } else { i64::from(i >= 280) + 1 }).collect();
        let i = Tensor::arange(283 * 4, (Kind::Double, Device::Cpu));
        let noise = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([283, 4]).to_kind(Kind::Float);
        let labels = Tensor::from_slice(&labels);
        let x = Tensor::cat(
            &[
                labels.one_hot(3).to_kind(Kind::Float) * 5,
                Tensor::zeros([283, 1], (Kind::Float, Device::Cpu)),
            ],
            1,
        );
        Features::new(x + noise, labels, 3).unwrap()
    }

    #[test]
    fn proposals_show_every_class_and_no_sample_twice() {
        let pool = clouds();
        let labels = Vec::<i64>::try_from(&pool.labels).unwrap();
        for count in [3, 12, 60] {
            let chosen = proposed(&pool, count, 0).unwrap();
            assert!(chosen.len() >= count && chosen.windows(2).all(|pair| pair[0] < pair[1]), "{count}");
            assert!(counts(&labels, &chosen, 3).iter().all(|&n| n > 0), "{count}");
        }
        assert_eq!(proposed(&pool, 40, 1).unwrap(), proposed(&pool, 40, 1).unwrap());
    }

    #[test]
    fn says_how_many_labels_there_can_be() {
        let labels: Vec<i64> = (0..30).map(|i| i % 3).collect();
        let refusal = |count| drawn(&labels, 3, count, Key::new(0)).unwrap_err().to_string();
        assert_eq!(refusal(31), "--labels 31: at most 30, the samples there are");
        assert_eq!(refusal(2), "--labels 2: at least 3, one of each class");
        assert!(proposed(&clouds(), 284, 0).is_err());
    }
}
