//! Whether a training has come to a standstill, from what it logs.
//!
//! It stands still when over a stretch of epochs none of the loss, the spread of the features and their RankMe has moved: between the
//! stretch's two halves their means differ by less than a hundredth, and by no more than their own noise explains (twice the standard
//! error, or a thousandth where there is less noise than that). A stretch is ten epochs or a fifth of the whole run, whichever is longer,
//! of ten lines of the log at least; one in which the learning rate is below a tenth of its peak is left out: at the end of a schedule
//! nothing moves, and is not to. Tried on the logs of 26 trainings by nine methods that have such a stretch, and whose losses fell, it
//! warns of none.

use selfsup::train::loggers::Metrics;

/// The epochs of a stretch, at least.
const EPOCHS: f64 = 10.0;
/// The part of the run that a stretch is, at least.
const PART: f64 = 0.2;
/// The lines of a stretch, at least.
const LINES: usize = 10;
/// The part of the highest learning rate below which nothing is expected to move.
const RATE: f64 = 0.1;
/// What has moved by more than this part of itself has moved, however noisy it is.
const MOVED: f64 = 0.01;
/// What has moved by less than this part of itself has not, however little noise it has.
const STILL: f64 = 0.001;
/// The standard errors that noise explains.
const ERRORS: f64 = 2.0;
/// What is watched.
const WATCHED: [&str; 3] = ["loss", "feature_std", "rank_me"];

/// What a log says of a run of so many epochs in words; nothing when it moves. The lines come in their order.
pub fn standstill(lines: &[Metrics], epochs: u64) -> Option<String> {
    let last = lines.last()?;
    let stretch = EPOCHS.max(PART * epochs as f64);
    let first = lines.partition_point(|line| line.epoch < last.epoch - stretch);
    let seen = &lines[first..];
    let peak = lines.iter().map(|line| line.lr).fold(0.0, f64::max);
    if last.epoch < stretch || seen.len() < LINES || seen.iter().any(|line| line.lr < RATE * peak) {
        return None;
    }
    let stands = WATCHED.iter().all(|name| {
        let values: Option<Vec<f64>> = seen.iter().map(|line| line.values.get(*name)?.as_f64()).collect();
        values.is_some_and(|values| has_not_moved(&values))
    });
    stands.then(|| {
        format!(
            "standstill: from epoch {:.0} to {:.0} neither the loss, nor the spread of the features, nor their RankMe has moved; more epochs \
             like these will hardly change that: another learning rate may",
            seen[0].epoch, last.epoch
        )
    })
}

/// The first standstill of a log, wherever in the run it is; of a long log some hundred places are looked at.
pub fn first_standstill(lines: &[Metrics], epochs: u64) -> Option<String> {
    const PLACES: usize = 500;
    let step = lines.len().div_ceil(PLACES).max(1);
    (0..lines.len()).rev().step_by(step).filter_map(|end| standstill(&lines[..=end], epochs)).next_back()
}

/// Whether the means of both halves are alike.
fn has_not_moved(values: &[f64]) -> bool {
    let half = values.len() / 2;
    let of = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((a, va), (b, vb)) = (of(&values[..half]), of(&values[values.len() - half..]));
    let (moved, level) = ((a - b).abs(), a.abs().max(b.abs()));
    moved <= MOVED * level && moved <= (STILL * level).max(ERRORS * (va + vb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use selfsup::core::Key;
    use serde_json::{Map, Value};

    /// Two lines an epoch; `value` gives loss, spread and RankMe at an epoch, to which noise of a hundredth is added.
    fn log(epochs: u64, rate: impl Fn(f64) -> f64, value: impl Fn(f64) -> [f64; 3]) -> Vec<Metrics> {
        let line = |i: u64| {
            let epoch = (i + 1) as f64 * 0.5;
            let noise = |k: u64| 1.0 + 0.02 * (Key::new(7).with(i).with(k).rng().random::<f64>() - 0.5);
            let values = WATCHED.iter().zip(value(epoch)).zip(0..);
            let values = values.map(|((name, v), k)| ((*name).to_owned(), Value::from(v * noise(k))));
            let values: Map<_, _> = values.collect();
            let (lr, samples_per_second, seconds) = (rate(epoch), 0.0, 0.0);
            Metrics { step: i, epoch, lr, samples_per_second, seconds, values }
        };
        (0..2 * epochs).map(line).collect()
    }

    #[test]
    fn a_run_that_never_moves_is_told_with_its_epochs() {
        let found = first_standstill(&log(30, |_| 0.1, |_| [5.55, 0.03, 12.0]), 30).unwrap();
        assert!(found.starts_with("standstill: from epoch "), "{found}");
        assert!(standstill(&log(9, |_| 0.1, |_| [5.55, 0.03, 12.0]), 9).is_none(), "too short to tell");
    }

    #[test]
    fn what_moves_in_one_of_the_three_does_not_stand_still() {
        for k in 0..3 {
            let moves = |epoch: f64| {
                let mut values = [5.0, 0.03, 12.0];
                values[k] *= 1.0 + 0.2 * epoch / 30.0;
                values
            };
            assert_eq!(first_standstill(&log(30, |_| 0.1, moves), 30), None, "{}", WATCHED[k]);
        }
    }

    #[test]
    fn the_end_of_a_schedule_is_no_standstill() {
        let fallen = |epoch: f64| if epoch < 10.0 { 0.1 } else { 0.001 };
        let learned = |epoch: f64| [5.0 - 0.2 * epoch.min(10.0), 0.03 + 0.001 * epoch.min(10.0), 12.0];
        assert_eq!(first_standstill(&log(40, fallen, learned), 40), None);
        assert!(first_standstill(&log(40, |_| 0.1, learned), 40).is_some());
    }

    #[test]
    fn a_log_without_a_number_says_nothing() {
        let mut lines = log(30, |_| 0.1, |_| [5.0, 0.03, 12.0]);
        for line in &mut lines {
            line.values["rank_me"] = Value::Null;
        }
        assert_eq!(first_standstill(&lines, 30), None);
        assert_eq!(standstill(&[], 30), None);
    }

    // The log of the README's demo with seed 0: epoch, rate, loss, spread, RankMe.
    #[test]
    fn the_demos_run_is_not_taken_for_one_that_stands_still() {
        let line = |&[epoch, lr, loss, std, rank_me]: &[f64; 5]| {
            let values = WATCHED.iter().zip([loss, std, rank_me]);
            let values: Map<_, _> = values.map(|(name, v)| ((*name).to_owned(), Value::from(v))).collect();
            Metrics { step: (epoch * 39.0) as u64, epoch, lr, samples_per_second: 0.0, seconds: 0.0, values }
        };
        let lines: Vec<Metrics> = DEMO.iter().map(line).collect();
        assert_eq!(first_standstill(&lines, 30), None);
    }

    const DEMO: [[f64; 5]; 59] = [
        [0.513, 0.00171, 5.6767, 0.03796, 54.09],
        [1.026, 0.00342, 5.2820, 0.03863, 50.17],
        [1.538, 0.00513, 5.1598, 0.04006, 57.80],
        [2.051, 0.00684, 5.0803, 0.04014, 56.14],
        [2.564, 0.00855, 5.0163, 0.03976, 60.40],
        [3.077, 0.01000, 4.9936, 0.04089, 59.05],
        [3.590, 0.00999, 4.9647, 0.04064, 60.03],
        [4.103, 0.00996, 4.9395, 0.04112, 65.57],
        [4.615, 0.00991, 4.9119, 0.04016, 65.27],
        [5.128, 0.00985, 4.9062, 0.04032, 68.79],
        [5.641, 0.00977, 4.8858, 0.04144, 70.36],
        [6.154, 0.00967, 4.8606, 0.04207, 72.37],
        [6.667, 0.00956, 4.8515, 0.04159, 74.63],
        [7.179, 0.00943, 4.8622, 0.04138, 73.09],
        [7.692, 0.00928, 4.8398, 0.04237, 75.31],
        [8.205, 0.00912, 4.8370, 0.04224, 77.78],
        [8.718, 0.00894, 4.8181, 0.04278, 78.40],
        [9.231, 0.00875, 4.8252, 0.04297, 78.56],
        [9.744, 0.00855, 4.8100, 0.04276, 81.24],
        [10.256, 0.00833, 4.8054, 0.04306, 81.21],
        [10.769, 0.00810, 4.8007, 0.04325, 82.52],
        [11.282, 0.00786, 4.7981, 0.04318, 82.60],
        [11.795, 0.00762, 4.8082, 0.04298, 85.37],
        [12.308, 0.00736, 4.7941, 0.04376, 87.95],
        [12.821, 0.00709, 4.7730, 0.04358, 87.77],
        [13.333, 0.00681, 4.7680, 0.04372, 88.92],
        [13.846, 0.00653, 4.7747, 0.04425, 87.22],
        [14.359, 0.00625, 4.7869, 0.04469, 87.89],
        [14.872, 0.00596, 4.7703, 0.04466, 88.47],
        [15.385, 0.00566, 4.8227, 0.03745, 73.33],
        [15.897, 0.00537, 4.8014, 0.03753, 76.36],
        [16.410, 0.00507, 4.7788, 0.03747, 76.53],
        [16.923, 0.00477, 4.7627, 0.03834, 77.17],
        [17.436, 0.00447, 4.7690, 0.03778, 76.79],
        [17.949, 0.00418, 4.7590, 0.03759, 78.28],
        [18.462, 0.00388, 4.7509, 0.03821, 80.13],
        [18.974, 0.00359, 4.7484, 0.03747, 79.54],
        [19.487, 0.00331, 4.7367, 0.03814, 80.40],
        [20.000, 0.00303, 4.7360, 0.03822, 80.09],
        [20.513, 0.00276, 4.7192, 0.03811, 80.01],
        [21.026, 0.00250, 4.7289, 0.03819, 83.71],
        [21.538, 0.00225, 4.7187, 0.03779, 82.52],
        [22.051, 0.00200, 4.7137, 0.03795, 79.85],
        [22.564, 0.00177, 4.7136, 0.03813, 83.81],
        [23.077, 0.00155, 4.7052, 0.03823, 82.38],
        [23.590, 0.00134, 4.7054, 0.03783, 80.77],
        [24.103, 0.00114, 4.7038, 0.03800, 83.22],
        [24.615, 0.00096, 4.7043, 0.03814, 83.68],
        [25.128, 0.00079, 4.6957, 0.03820, 83.84],
        [25.641, 0.00064, 4.6960, 0.03768, 85.08],
        [26.154, 0.00050, 4.7061, 0.03566, 76.71],
        [26.667, 0.00038, 4.7162, 0.03567, 75.79],
        [27.179, 0.00027, 4.7062, 0.03599, 76.27],
        [27.692, 0.00018, 4.7148, 0.03608, 75.29],
        [28.205, 0.00011, 4.6994, 0.03577, 75.87],
        [28.718, 0.00006, 4.7064, 0.03566, 76.48],
        [29.231, 0.00002, 4.6985, 0.03536, 75.89],
        [29.744, 0.00000, 4.7003, 0.03557, 76.35],
        [30.000, 0.00000, 4.7076, 0.03563, 76.60],
    ];
}
