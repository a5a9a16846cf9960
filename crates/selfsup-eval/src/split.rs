//! Stratified choices of samples: every class gives its share, and a key decides which.

use rand::seq::SliceRandom;
use selfsup_core::{Features, Key, Result, Tensor};

/// The samples of every class, in an order drawn at `key`.
pub(crate) fn shuffled_by_class(features: &Features, key: Key) -> Result<Vec<Vec<i64>>> {
    let labels = Vec::<i64>::try_from(&features.labels)?;
    let mut by_class = vec![Vec::new(); features.classes as usize];
    for (i, &label) in labels.iter().enumerate() {
        by_class[label as usize].push(i as i64);
    }
    for (class, samples) in by_class.iter_mut().enumerate() {
        samples.shuffle(&mut key.with(class as u64).rng());
    }
    Ok(by_class)
}

/// At most `most` samples, ascending: of every class its share, but [`LEAST`] where it has so many and `most` allows it. Only when
/// there are more classes than `most` are there more samples: one of each.
pub(crate) fn drawn_by_class(features: &Features, most: usize, key: Key) -> Result<Tensor> {
    /// Samples that a class keeps.
    const LEAST: usize = 20;
    let by_class = shuffled_by_class(features, key)?;
    let all: usize = by_class.iter().map(Vec::len).sum();
    let present = by_class.iter().filter(|samples| !samples.is_empty()).count();
    let least = LEAST.min(most / present.max(1)).max(1);
    let share = (most as f64 / all.max(1) as f64).min(1.0);
    let wanted = |samples: &Vec<i64>| samples.len() as f64 * share;
    let mut counts: Vec<usize> =
        by_class.iter().map(|samples| (wanted(samples) as usize).max(least).min(samples.len())).collect();
    // What rounding and the smallest classes took is made up for where most, or least, is had beyond the share.
    let excess = |counts: &[usize], class: usize| counts[class] as f64 - wanted(&by_class[class]);
    while counts.iter().sum::<usize>() < most.min(all) {
        let open = (0..counts.len()).filter(|&class| counts[class] < by_class[class].len());
        let Some(class) = open.min_by(|&a, &b| excess(&counts, a).total_cmp(&excess(&counts, b))) else {
            break;
        };
        counts[class] += 1;
    }
    while counts.iter().sum::<usize>() > most {
        let open = (0..counts.len()).filter(|&class| counts[class] > least);
        let Some(class) = open.max_by_key(|&class| counts[class]) else { break };
        counts[class] -= 1;
    }
    let mut drawn: Vec<i64> =
        by_class.iter().zip(&counts).flat_map(|(samples, &count)| &samples[..count]).copied().collect();
    drawn.sort_unstable();
    Ok(Tensor::from_slice(&drawn))
}

/// Splits off `share` of every class, rounded, but leaves at least one sample of each: (rest, split off). Both are in
/// ascending order, so that they are read from memory as they lie.
pub(crate) fn hold_out(features: &Features, share: f64, key: Key) -> Result<(Tensor, Tensor)> {
    let (mut rest, mut held) = (Vec::<i64>::new(), Vec::<i64>::new());
    for samples in shuffled_by_class(features, key)? {
        let count = ((samples.len() as f64 * share).round() as usize).min(samples.len().saturating_sub(1));
        held.extend(&samples[..count]);
        rest.extend(&samples[count..]);
    }
    rest.sort_unstable();
    held.sort_unstable();
    Ok((Tensor::from_slice(&rest), Tensor::from_slice(&held)))
}

/// Parts of about equal size, each with its share of every class; in ascending order. A class with two samples at least
/// stands in two parts at least.
pub(crate) fn folds(features: &Features, count: usize, key: Key) -> Result<Vec<Vec<i64>>> {
    let mut parts = vec![Vec::new(); count];
    for (i, sample) in shuffled_by_class(features, key)?.into_iter().flatten().enumerate() {
        parts[i % count].push(sample);
    }
    for part in &mut parts {
        part.sort_unstable();
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind};

    #[test]
    fn holds_out_a_share_of_every_class_and_loses_none() {
        let labels: Vec<i64> = (0..100)
            .map(|i| {
                if i < 70 {
                    0
                } else if i < 99 {
                    1
                } else {
                    2
                }
            })
            .collect();
        let x = Tensor::zeros([100, 2], (Kind::Float, Device::Cpu));
        let features = Features::new(x, Tensor::from_slice(&labels), 4).unwrap();
        let (rest, held) = hold_out(&features, 0.2, Key::new(1)).unwrap();
        let counts =
            |i: &Tensor| Vec::<i64>::try_from(features.select(i).labels.bincount(None::<Tensor>, 4)).unwrap();
        assert_eq!(counts(&rest), [56, 23, 1, 0]);
        assert_eq!(counts(&held), [14, 6, 0, 0]);
        let mut all = Vec::<i64>::try_from(Tensor::cat(&[rest, held], 0)).unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let again = hold_out(&features, 0.2, Key::new(1)).unwrap().1;
        assert_eq!(again, hold_out(&features, 0.2, Key::new(1)).unwrap().1);
        assert_ne!(again, hold_out(&features, 0.2, Key::new(2)).unwrap().1);
    }

    #[test]
    fn a_draw_has_the_share_of_every_class_and_leaves_none_out() {
        let labels: Vec<i64> = (0..1000).map(|i| if i < 3 { 2 } else { i64::from(i < 53) }).collect();
        let x = Tensor::zeros([1000, 2], (Kind::Float, Device::Cpu));
        let features = Features::new(x, Tensor::from_slice(&labels), 4).unwrap();
        let counts = |most: usize| {
            let drawn = drawn_by_class(&features, most, Key::new(1)).unwrap();
            assert!(Vec::<i64>::try_from(&drawn).unwrap().is_sorted());
            Vec::<i64>::try_from(features.select(&drawn).labels.bincount(None::<Tensor>, 4)).unwrap()
        };
        assert_eq!(counts(5000), [947, 50, 3, 0]);
        assert_eq!(counts(500), [472, 25, 3, 0]);
        assert_eq!(counts(100), [77, 20, 3, 0]);
        assert_eq!(counts(9), [3, 3, 3, 0]);
        assert_eq!(counts(2), [1, 1, 1, 0]);
        let draw = |seed| drawn_by_class(&features, 100, Key::new(seed)).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn folds_share_every_class_and_hold_every_sample_once() {
        let labels: Vec<i64> = (0..103).map(|i| if i < 2 { 2 } else { i % 2 }).collect();
        let x = Tensor::zeros([103, 2], (Kind::Float, Device::Cpu));
        let features = Features::new(x, Tensor::from_slice(&labels), 3).unwrap();
        let parts = folds(&features, 5, Key::new(1)).unwrap();
        let of = |part: &[i64], class| part.iter().filter(|&&i| labels[i as usize] == class).count();
        for part in &parts {
            assert!((20..=21).contains(&part.len()) && part.is_sorted());
            assert!((10..=11).contains(&of(part, 0)) && (10..=11).contains(&of(part, 1)));
            assert!(of(part, 2) <= 1);
        }
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_ne!(parts, folds(&features, 5, Key::new(2)).unwrap());
    }
}
