//! Which given labels are held out when: each once, so that all of them can be used to judge by.

use rand::seq::SliceRandom;
use selfsup::core::Key;

/// The most folds.
const FOLDS: usize = 5;

/// Places of the list that are fitted to, and those that are held out.
pub type Fold = (Vec<usize>, Vec<usize>);

/// Splits labels so that each is held out once, and each class keeps a label in every part that is fitted to: as many folds as
/// the smallest class has labels, at most five. None where a class has a single label.
pub fn folds(labels: &[i64], classes: usize, key: Key) -> Vec<Fold> {
    let mut by_class = vec![Vec::new(); classes];
    for (place, &label) in labels.iter().enumerate() {
        by_class[label as usize].push(place);
    }
    let count = by_class.iter().map(Vec::len).min().unwrap_or(0).min(FOLDS);
    if count < 2 {
        return Vec::new();
    }
    let mut fold_of = vec![0; labels.len()];
    let mut next = 0;
    for (class, places) in by_class.iter_mut().enumerate() {
        places.shuffle(&mut key.with(class as u64).rng());
        for &place in places.iter() {
            // One class goes on where the other ended, so that the folds are of a size.
            fold_of[place] = next % count;
            next += 1;
        }
    }
    let part = |fold: usize| (0..labels.len()).partition(|&place| fold_of[place] != fold);
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_held_out_once_and_every_class_is_always_fitted_to() {
        for counts in [[2, 2, 2], [2, 9, 30], [5, 7, 6], [40, 41, 42]] {
            let labels: Vec<i64> =
                counts.iter().zip(0..).flat_map(|(&n, class)| std::iter::repeat_n(class, n)).collect();
            let folds = folds(&labels, 3, Key::new(1));
            assert_eq!(folds.len(), counts.iter().copied().min().unwrap().min(5));
            let mut held: Vec<usize> = folds.iter().flat_map(|fold| fold.1.clone()).collect();
            held.sort_unstable();
            assert_eq!(held, (0..labels.len()).collect::<Vec<_>>());
            for (fitted, held) in &folds {
                assert_eq!(fitted.len() + held.len(), labels.len());
                assert!(fitted.iter().all(|place| !held.contains(place)));
                assert!((0..3).all(|class| fitted.iter().any(|&place| labels[place] == class)), "{counts:?}");
            }
            let sizes: Vec<usize> = folds.iter().map(|fold| fold.1.len()).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn a_class_with_a_single_label_cannot_be_held_out() {
        assert!(folds(&[0, 0, 1], 2, Key::new(0)).is_empty());
        assert!(folds(&[0, 0, 0], 2, Key::new(0)).is_empty());
    }
}
