//! How sure a number is: intervals that cover the true value in a given share of repetitions.
//!
//! ```text
//! Student    m +- t s / sqrt(n)                        a mean over few repetitions: seeds, draws          (Student 1908)
//! Wilson     (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)      a share of right answers       (Wilson 1927)
//! bootstrap  quantiles of the mean over samples drawn with replacement      a mean over many samples       (Efron 1979)
//! jackknife  v +- z sqrt((n-1)/n sum_i (v_i - mean v)^2), v_i without sample i       a smooth function     (Tukey 1958)
//! groups     the same without each of some groups of samples, with Student's t        a function that is costly     (Kott 2001)
//! ```
//! The last four say how much a number would change with other test samples, not with another training.

use rand::RngExt;
use selfsup_core::{Error, Key, Result, Score};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// The level of all intervals that are not asked for at another: 95 %.
pub const LEVEL: f64 = 0.95;

/// Two bounds and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
    /// The share of repetitions in which such an interval covers the true value, as in 0.95.
    pub level: f64,
    /// How it was found.
    pub method: IntervalMethod,
}

/// How an interval is found; the formulas stand at the top of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// From the spread of repetitions.
    Student,
    /// From the number of right answers.
    Wilson,
    /// From samples drawn again.
    Bootstrap,
    /// From the influence of each sample.
    Jackknife,
    /// From the influence of each of some groups of samples.
    GroupJackknife,
}

impl Interval {
    /// The interval of the mean of repetitions; none of fewer than two.
    ///
    /// # Errors
    /// When the level is not between 0 and 1.
    pub fn student(values: &[f64], level: f64) -> Result<Option<Interval>> {
        Interval::student_of(&Score::of(values), level)
    }

    /// The same from what is kept of repetitions: their mean, standard deviation (by n - 1) and number.
    ///
    /// # Errors
    /// As [`student`](Interval::student).
    pub fn student_of(score: &Score, level: f64) -> Result<Option<Interval>> {
        check_level(level)?;
        let Score { mean, std, n } = *score;
        if n < 2 {
            return Ok(None);
        }
        let n = n as f64;
        let half = student_quantile(level, n - 1.0)? * std / n.sqrt();
        Ok(Some(Interval { low: mean - half, high: mean + half, level, method: IntervalMethod::Student }))
    }

    /// What of it lies between 0 and 1.
    #[must_use]
    pub fn of_share(self) -> Interval {
        Interval { low: self.low.clamp(0.0, 1.0), high: self.high.clamp(0.0, 1.0), ..self }
    }

    /// The interval of a share, of `right` among `n`; none of none.
    ///
    /// # Errors
    /// When the level is not between 0 and 1, or more are right than there are.
    pub fn wilson(right: u64, n: u64, level: f64) -> Result<Option<Interval>> {
        check_level(level)?;
        if right > n {
            return Err(Error::config("right", right, format!("at most {n}, the number of samples")));
        }
        if n == 0 {
            return Ok(None);
        }
        let (z, count) = (normal_quantile(level), n as f64);
        let share = right as f64 / count;
        let centre = share + z * z / (2.0 * count);
        let half = z * (share * (1.0 - share) / count + (z / (2.0 * count)).powi(2)).sqrt();
        let scale = 1.0 + z * z / count;
        // At the ends the bounds are 0 and 1 but for rounding.
        let low = if right == 0 { 0.0 } else { (centre - half) / scale };
        let high = if right == n { 1.0 } else { (centre + half) / scale };
        Ok(Some(Interval { low, high, level, method: IntervalMethod::Wilson }))
    }

    /// The percentile interval of the mean of values, from `resamples` draws at `key`; none of fewer than two.
    ///
    /// # Errors
    /// When the level is not between 0 and 1, or there are no resamples.
    pub fn bootstrap(values: &[f64], level: f64, resamples: usize, key: Key) -> Result<Option<Interval>> {
        check_level(level)?;
        if values.len() < 2 {
            return Ok(None);
        }
        let means = resampled_means(values, resamples, key)?;
        Ok(Some(percentiles(&means, level)))
    }

    /// The interval of a function of the samples, from its value and its values without each sample, given with the
    /// number of samples that leave that value when they are left out; none of fewer than two samples.
    ///
    /// # Errors
    /// When the level is not between 0 and 1.
    pub fn jackknife(value: f64, without: &[(f64, u64)], level: f64) -> Result<Option<Interval>> {
        check_level(level)?;
        let n = without.iter().map(|(_, count)| count).sum::<u64>() as f64;
        if n < 2.0 {
            return Ok(None);
        }
        let mean = without.iter().map(|(v, count)| v * *count as f64).sum::<f64>() / n;
        let squares: f64 = without.iter().map(|(v, count)| (v - mean).powi(2) * *count as f64).sum();
        let half = normal_quantile(level) * ((n - 1.0) / n * squares).sqrt();
        Ok(Some(Interval { low: value - half, high: value + half, level, method: IntervalMethod::Jackknife }))
    }

    /// The interval of a function of the samples, from its value and its values without each of some groups of about as many
    /// samples, dealt at random; none of fewer than two groups.
    ///
    /// # Errors
    /// When the level is not between 0 and 1.
    pub fn jackknife_of_groups(value: f64, without: &[f64], level: f64) -> Result<Option<Interval>> {
        check_level(level)?;
        if without.len() < 2 {
            return Ok(None);
        }
        let groups = without.len() as f64;
        let mean = mean(without)?;
        let squares: f64 = without.iter().map(|v| (v - mean).powi(2)).sum();
        let half = student_quantile(level, groups - 1.0)? * ((groups - 1.0) / groups * squares).sqrt();
        let method = IntervalMethod::GroupJackknife;
        Ok(Some(Interval { low: value - half, high: value + half, level, method }))
    }
}

/// A mean over samples or repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// How sure it is; none where there is one value.
    pub interval: Option<Interval>,
    /// The number of values.
    pub n: usize,
}

impl Mean {
    /// The mean over many samples with the interval of a bootstrap.
    ///
    /// # Errors
    /// When there are no values, or no resamples.
    pub fn over_samples(values: &[f64], resamples: usize, key: Key) -> Result<Mean> {
        let interval = Interval::bootstrap(values, LEVEL, resamples, key)?;
        Ok(Mean { value: mean(values)?, interval, n: values.len() })
    }

    /// The mean over repetitions, as seeds or draws of labels, with Student's interval.
    ///
    /// # Errors
    /// When there are no values.
    pub fn over_repetitions(values: &[f64]) -> Result<Mean> {
        let interval = Interval::student(values, LEVEL)?;
        Ok(Mean { value: mean(values)?, interval, n: values.len() })
    }

    /// The same of shares, as accuracies are: the interval keeps to 0 to 1.
    ///
    /// # Errors
    /// When there are no values.
    pub fn over_shares(values: &[f64]) -> Result<Mean> {
        let Mean { value, interval, n } = Mean::over_repetitions(values)?;
        Ok(Mean { value, interval: interval.map(Interval::of_share), n })
    }
}

fn mean(values: &[f64]) -> Result<f64> {
    if values.is_empty() {
        return Err(Error::config("values", "none", "at least one"));
    }
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// The means of `resamples` draws with replacement.
pub(crate) fn resampled_means(values: &[f64], resamples: usize, key: Key) -> Result<Vec<f64>> {
    if resamples == 0 {
        return Err(Error::config("resamples", 0, "at least 1"));
    }
    let n = values.len();
    let one = |resample: usize| {
        let mut rng = key.with(resample as u64).rng();
        (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64
    };
    Ok((0..resamples).map(one).collect())
}

/// The middle `level` of resampled values.
pub(crate) fn percentiles(resampled: &[f64], level: f64) -> Interval {
    let mut sorted = resampled.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - level);
    let (low, high) = (quantile(&sorted, tail), quantile(&sorted, 1.0 - tail));
    Interval { low, high, level, method: IntervalMethod::Bootstrap }
}

/// NumPy's quantile of ascending values: linear between the two nearest.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

pub(crate) fn check_level(level: f64) -> Result<()> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::config("level", level, "between 0 and 1"));
    }
    Ok(())
}

/// How many standard deviations around the mean hold `level` of a normal distribution.
fn normal_quantile(level: f64) -> f64 {
    Normal::standard().inverse_cdf(0.5 * (1.0 + level))
}

/// The same for Student's distribution.
fn student_quantile(level: f64, freedom: f64) -> Result<f64> {
    Ok(student(freedom)?.inverse_cdf(0.5 * (1.0 + level)))
}

/// Student's distribution.
pub(crate) fn student(freedom: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, freedom)
        .map_err(|error| Error::config("degrees of freedom", freedom, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<Interval>, low: f64, high: f64, tolerance: f64) {
        let found = found.unwrap();
        assert!((found.low - low).abs() < tolerance && (found.high - high).abs() < tolerance, "{found:?}");
    }

    // v = [0.81, 0.84, 0.79, 0.83, 0.80]
    // scipy.stats.t.interval(0.95, 4, np.mean(v), scipy.stats.sem(v)), the same of v[:2] at 0.9          # SciPy 1.17.1
    #[test]
    fn students_interval_agrees_with_scipy() {
        let v = [0.81, 0.84, 0.79, 0.83, 0.80];
        close(Interval::student(&v, 0.95).unwrap(), STUDENT[0], STUDENT[1], 1e-9);
        close(Interval::student(&v[..2], 0.9).unwrap(), STUDENT[2], STUDENT[3], 1e-9);
        assert_eq!(Interval::student(&v[..1], 0.95).unwrap(), None);
    }

    // r = lambda k, n: scipy.stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    // r(7, 10), r(0, 10), r(10, 10), r(812, 1000)
    #[test]
    fn wilsons_interval_agrees_with_scipy() {
        for ((k, n), (low, high)) in [(7, 10), (0, 10), (10, 10), (812, 1000)].into_iter().zip(WILSON) {
            close(Interval::wilson(k, n, 0.95).unwrap(), low, high, 1e-9);
        }
        assert_eq!(Interval::wilson(0, 0, 0.95).unwrap(), None);
    }

    // x = np.sin(np.arange(200) ** 1.5 * 0.37)
    // scipy.stats.bootstrap((x,), np.mean, method="percentile", n_resamples=200_000, rng=0).confidence_interval
    #[test]
    fn the_bootstrap_agrees_with_scipys_up_to_its_draws() {
        let x: Vec<f64> = (0..200).map(|i| (f64::from(i).powf(1.5) * 0.37).sin()).collect();
        let found = Interval::bootstrap(&x, 0.95, 20_000, Key::new(3)).unwrap();
        close(found, BOOTSTRAP[0], BOOTSTRAP[1], 3e-3);
        assert_eq!(found, Interval::bootstrap(&x, 0.95, 20_000, Key::new(3)).unwrap());
        assert_ne!(found, Interval::bootstrap(&x, 0.95, 20_000, Key::new(4)).unwrap());
    }

    const STUDENT: [f64; 4] =
        [0.7882523073207093, 0.8397476926792908, 0.7302937272798745, 0.9197062727201253];
    const WILSON: [(f64, f64); 4] = [
        (0.39677814746114526, 0.892208732593699),
        (0.0, 0.27753279986288926),
        (0.7224672001371109, 1.0),
        (0.7866068125887821, 0.8350052901162314),
    ];
    const BOOTSTRAP: [f64; 2] = [-0.04409226656042847, 0.15708043173250788];

    #[test]
    fn the_jackknife_of_groups_is_students_interval_of_their_means() {
        let v = [0.81, 0.84, 0.79, 0.83, 0.80];
        let total: f64 = v.iter().sum();
        let without: Vec<f64> = v.iter().map(|v| (total - v) / 4.0).collect();
        close(
            Interval::jackknife_of_groups(total / 5.0, &without, 0.95).unwrap(),
            STUDENT[0],
            STUDENT[1],
            1e-9,
        );
        assert_eq!(Interval::jackknife_of_groups(0.5, &[0.5], 0.95).unwrap(), None);
        assert!(Interval::jackknife_of_groups(0.5, &without, 1.0).is_err());
    }

    #[test]
    fn the_jackknife_of_a_mean_is_the_normal_interval() {
        let v = [0.1, 0.4, 0.4, 0.9, 0.3, 0.4];
        let total: f64 = v.iter().sum();
        let without: Vec<(f64, u64)> = [0.1, 0.9, 0.3]
            .iter()
            .map(|v| ((total - v) / 5.0, 1))
            .chain([((total - 0.4) / 5.0, 3)])
            .collect();
        let found = Interval::jackknife(total / 6.0, &without, 0.95).unwrap();
        let variance = v.iter().map(|v| (v - total / 6.0).powi(2)).sum::<f64>() / 5.0;
        let half = 1.959963984540054 * (variance / 6.0).sqrt();
        close(found, total / 6.0 - half, total / 6.0 + half, 1e-9);
    }

    #[test]
    fn equal_values_have_no_width_and_quantiles_are_numpys() {
        close(Interval::bootstrap(&[0.5; 9], 0.95, 50, Key::new(0)).unwrap(), 0.5, 0.5, 1e-12);
        close(Interval::student(&[0.5; 9], 0.95).unwrap(), 0.5, 0.5, 1e-12);
        // np.quantile([1, 2, 4, 8], [0.1, 0.5, 0.9]) = 1.3, 3.0, 6.8
        for (q, expected) in [(0.1, 1.3), (0.5, 3.0), (0.9, 6.8), (0.0, 1.0), (1.0, 8.0)] {
            assert!((quantile(&[1.0, 2.0, 4.0, 8.0], q) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn rejects_levels_and_counts_that_cannot_be() {
        let error = Interval::student(&[1.0, 2.0], 1.0).unwrap_err().to_string();
        assert_eq!(error, "level = 1: between 0 and 1");
        let error = Interval::wilson(4, 3, 0.9).unwrap_err().to_string();
        assert_eq!(error, "right = 4: at most 3, the number of samples");
        let error = Interval::bootstrap(&[1.0, 2.0], 0.9, 0, Key::new(0)).unwrap_err().to_string();
        assert_eq!(error, "resamples = 0: at least 1");
        let shares = Mean::over_shares(&[0.9, 1.0]).unwrap();
        let wide = Mean::over_repetitions(&[0.9, 1.0]).unwrap().interval.unwrap();
        assert!(wide.high > 1.0 && shares.interval == Some(Interval { high: 1.0, ..wide }));
        assert_eq!(Mean::over_repetitions(&[]).unwrap_err().to_string(), "values = none: at least one");
    }
}
