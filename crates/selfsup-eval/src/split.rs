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
}
