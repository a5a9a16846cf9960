//! Which labels are taken where a set's own are drawn, for experiments. Every command draws here, so that a seed takes the same
//! samples of a set, whoever asks, and those of fewer labels are among those of more.

use anyhow::{Result, ensure};
use rand::seq::SliceRandom as _;
use selfsup::core::Key;

/// The samples of each class, in an order that the key decides.
pub fn by_class(labels: &[i64], classes: usize, key: Key) -> Vec<Vec<usize>> {
    let mut by_class = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        if let Some(members) = by_class.get_mut(label as usize) {
            members.push(i);
        }
    }
    for (class, members) in by_class.iter_mut().enumerate() {
        members.shuffle(&mut key.with(class as u64).rng());
    }
    by_class
}

/// The first `count` samples of each class by a seed, ascending within the class. `asked` is what messages name, as in
/// `labels.per_class = 4`.
///
/// # Errors
/// When `count` is 0, or a class has fewer samples.
pub fn of_each(
    labels: &[i64],
    classes: &[String],
    count: usize,
    seed: u64,
    asked: &str,
) -> Result<Vec<Vec<usize>>> {
    ensure!(count > 0, "{asked}: at least 1");
    let mut by_class = by_class(labels, classes.len(), Key::new(seed));
    for (members, name) in by_class.iter_mut().zip(classes) {
        ensure!(
            members.len() >= count,
            "{asked}: at most {}, the samples of the class {name}",
            members.len()
        );
        members.truncate(count);
        members.sort_unstable();
    }
    Ok(by_class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_labels_are_among_more_and_another_seed_takes_others() {
        let labels: Vec<i64> = (0..90).map(|i| i % 3).collect();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let draw = |count, seed| of_each(&labels, &classes, count, seed, "n").unwrap();
        let (few, more) = (draw(4, 0), draw(20, 0));
        for (class, (few, more)) in few.iter().zip(&more).enumerate() {
            assert_eq!((few.len(), more.len()), (4, 20));
            assert!(more.is_sorted() && more.iter().all(|&i| labels[i] == class as i64));
            assert!(few.iter().all(|i| more.contains(i)));
        }
        assert_ne!(few, draw(4, 1));
        assert_eq!(draw(30, 0), draw(30, 1));
    }

    #[test]
    fn says_how_many_there_can_be_of_which_class() {
        let classes = ["a", "b"].map(str::to_owned);
        let refusal =
            |count| of_each(&[0, 0, 1], &classes, count, 0, "labels.per_class = 2").unwrap_err().to_string();
        assert_eq!(refusal(2), "labels.per_class = 2: at most 1, the samples of the class b");
        assert_eq!(refusal(0), "labels.per_class = 2: at least 1");
    }
}
