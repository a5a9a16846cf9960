//! How sure a function of many samples is that is no mean: it is asked again without each of some groups of the samples.
//!
//! ```text
//! v +- t sqrt((G-1)/G sum_g (v_g - mean v)^2)      v_g without group g, t Student's for G-1 degrees of freedom      (Kott 2001)
//! ```
//! Samples are dealt to G groups at random, as sets often lie sorted. Where a bootstrap draws rows twice, and so lowers every
//! rank, this only leaves some out; that a tenth fewer rows have a slightly lower rank moves all `v_g` alike, and does not widen it.

use crate::{Interval, LEVEL};
use rand::seq::SliceRandom;
use selfsup_core::{Key, Result, Tensor};

/// The groups that samples are dealt to.
const GROUPS: usize = 10;

/// Above this many dimensions (or samples, where these are fewer) a decomposition is not done again for every group.
pub(crate) const WIDEST: i64 = 1024;

/// The intervals of K functions of `n` samples, from their values of all; `of` gives them of some samples, `[m]` Int64. None of
/// fewer than two samples a group, and where a value does not exist without one of the groups.
pub(crate) fn intervals<const K: usize>(
    values: [Option<f64>; K],
    n: i64,
    of: impl Fn(&Tensor) -> Result<[Option<f64>; K]>,
) -> Result<[Option<Interval>; K]> {
    if n < 2 * GROUPS as i64 || values.iter().all(Option::is_none) {
        return Ok([None; K]);
    }
    let without: Vec<[Option<f64>; K]> = rests(n).iter().map(of).collect::<Result<_>>()?;
    let mut all = [None; K];
    for (i, interval) in all.iter_mut().enumerate() {
        let without: Option<Vec<f64>> = without.iter().map(|values| values[i]).collect();
        if let (Some(value), Some(without)) = (values[i], without) {
            *interval = Interval::jackknife_of_groups(value, &without, LEVEL)?;
        }
    }
    Ok(all)
}

/// The samples without each group, ascending.
fn rests(n: i64) -> Vec<Tensor> {
    let mut order: Vec<i64> = (0..n).collect();
    order.shuffle(&mut Key::new(0).rng());
    let rest = |group: usize| {
        let kept = order.iter().enumerate().filter(|(at, _)| at % GROUPS != group).map(|(_, i)| *i);
        let mut kept: Vec<i64> = kept.collect();
        kept.sort_unstable();
        Tensor::from_slice(&kept)
    };
    (0..GROUPS).map(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IntervalMethod;
    use crate::fixtures::formula;
    use selfsup_core::{Kind, TensorExt};

    fn mean(x: &Tensor) -> Result<f64> {
        x.mean(Kind::Double).scalar()
    }

    #[test]
    fn every_sample_is_left_out_once() {
        let rests = rests(43);
        let mut seen = vec![0; 43];
        for rest in &rests {
            Vec::<i64>::try_from(rest).unwrap().into_iter().for_each(|i| seen[i as usize] += 1);
        }
        assert!(seen.iter().all(|count| *count == GROUPS - 1), "{seen:?}");
        assert!(rests.iter().all(|rest| [38, 39].contains(&rest.size()[0])));
    }

    #[test]
    fn too_few_samples_or_a_value_that_vanishes_have_none() {
        let ask = |n: i64, value: Option<f64>| {
            intervals([Some(1.0), value], n, |rest| Ok([Some(1.0), value.filter(|_| rest.size()[0] > 40)]))
                .unwrap()
        };
        assert_eq!(ask(19, Some(1.0)), [None, None]);
        assert!(matches!(ask(30, Some(1.0)), [Some(_), None]));
        assert!(matches!(ask(60, Some(1.0)), [Some(_), Some(_)]));
        assert!(matches!(ask(60, None), [Some(_), None]));
    }

    #[test]
    fn it_covers_a_mean_about_as_often_as_it_says() {
        let (mut covered, mut widths) = (0, 0.0);
        let all = formula(40_000, 1);
        let truth = mean(&all).unwrap();
        for i in 0..200 {
            let x = all.narrow(0, i * 200, 200);
            let value = mean(&x).unwrap();
            let [found] =
                intervals([Some(value)], 200, |rest| Ok([Some(mean(&x.index_select(0, rest))?)])).unwrap();
            let found = found.unwrap();
            assert_eq!(found.method, IntervalMethod::GroupJackknife);
            covered += i32::from((found.low..=found.high).contains(&truth));
            widths += found.high - found.low;
        }
        // 95 % of 200 are 190, and their number has a standard deviation of 3.
        assert!((181..=199).contains(&covered), "{covered}, {widths}");
    }
}
