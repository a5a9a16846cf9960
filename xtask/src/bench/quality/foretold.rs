//! How well the numbers that need no labels foretell the probes: Spearman's rank correlation over methods.
//!
//! ```text
//! rho = the correlation of the ranks, equal values at the mean of theirs                                    (Spearman 1904)
//! interval: quantiles of rho over methods drawn with replacement                                            (Efron 1979)
//! ```
//! Methods are those that see no labels, on one kind of encoder, whose numbers mean the same; each counts once, by its mean over seeds.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::page::PROBES;

/// The kind of encoder whose methods are compared: that of most recipes.
const ENCODER: &str = "convnet";
/// Methods that see labels.
const WITH_LABELS: [&str; 2] = ["supervised", "supcon"];
/// Fewer methods than this say nothing.
const FEWEST: usize = 5;
/// Draws of a bootstrap, and the state that they begin from.
const RESAMPLES: usize = 5000;
const SEED: u64 = 0;
const LEVEL: f64 = 0.95;

/// A number of a report's health, and which of its values counts as better.
struct Number {
    key: &'static str,
    title: &'static str,
    better: Better,
}

enum Better {
    Higher,
    Lower,
    Nearer(f64),
}

impl Better {
    /// The higher, the better.
    fn score(&self, value: f64) -> f64 {
        match self {
            Better::Higher => value,
            Better::Lower => -value,
            Better::Nearer(to) => -(value - to).abs(),
        }
    }
}

const NUMBERS: [Number; 6] = [
    Number { key: "rank_me", title: "RankMe", better: Better::Higher },
    Number { key: "lidar", title: "LiDAR", better: Better::Higher },
    Number { key: "alpha_req", title: "alpha-ReQ, the nearer to 1 first", better: Better::Nearer(1.0) },
    Number { key: "std", title: "std", better: Better::Higher },
    Number { key: "uniformity", title: "uniformity, the lower first", better: Better::Lower },
    Number { key: "alignment", title: "alignment, the lower first", better: Better::Lower },
];

/// The names of the numbers in a report's health.
pub fn keys() -> impl Iterator<Item = &'static str> {
    NUMBERS.iter().map(|number| number.key)
}

/// The correlations of the rows of `docs/quality.json`, for that file; those that cannot be told are null.
pub fn of(rows: &[Value]) -> Value {
    let rows: Vec<&Value> = rows
        .iter()
        .filter(|row| row["encoder"] == ENCODER && !WITH_LABELS.iter().any(|name| row["method"] == *name))
        .collect();
    let mean = |value: &Value| value["mean"].as_f64();
    let one = |number: &Number| {
        let score = |row: &Value| Some(number.better.score(mean(&row[number.key])?));
        let mut found = json!({
            "number": number.key, "title": number.title,
            "methods": rows.iter().filter(|row| score(row).is_some()).count(),
        });
        for probe in PROBES {
            let pairs: Vec<(f64, f64)> = rows
                .iter()
                .filter_map(|row| Some((score(row)?, mean(&row["scores"]["trained"][probe])?)))
                .collect();
            let rho = if pairs.len() < FEWEST { None } else { spearman(&pairs) };
            found[probe] = match rho {
                None => Value::Null,
                Some(rho) => {
                    let [low, high] = interval(&pairs);
                    json!({ "rho": rho, "low": low, "high": high })
                }
            };
        }
        found
    };
    json!({ "encoder": ENCODER, "level": LEVEL, "numbers": NUMBERS.iter().map(one).collect::<Vec<_>>() })
}

/// The same as a table of the page; nothing where no number can be told.
pub fn markdown(found: &Value) -> String {
    let numbers = found["numbers"].as_array().map_or(&[][..], Vec::as_slice);
    let cell = |value: &Value| match [&value["rho"], &value["low"], &value["high"]].map(Value::as_f64) {
        [Some(rho), Some(low), Some(high)] => format!("{rho:.2} [{low:.2}, {high:.2}]"),
        _ => "–".to_owned(),
    };
    if numbers.iter().all(|number| PROBES.iter().all(|probe| number[*probe].is_null())) {
        return String::new();
    }
    let mut text = "\nHow well do the numbers that need no labels foretell the probes? Spearman's rank correlation over the self-supervised methods on a \
                    ConvNet, each by its mean over seeds; in brackets the 95 % interval of a bootstrap over methods. 1 is the same order, 0 none.\n\n\
                    | | methods | linear | ten labels a class | k-NN |\n|---|---|---|---|---|\n"
        .to_owned();
    for number in numbers {
        // A String takes every line.
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            number["title"].as_str().unwrap_or_default(),
            number["methods"],
            PROBES.map(|probe| cell(&number[probe])).join(" | ")
        );
    }
    text
}

/// Spearman's rank correlation; none where either side is the same throughout.
fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (a, b) = (ranks(&a), ranks(&b));
    // Ranks have the same mean on both sides, whatever is equal.
    let mean = 0.5 * (pairs.len() as f64 - 1.0);
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// The places of values in their order, from 0; equal values have the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for same in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = first as f64 + 0.5 * (same.len() as f64 - 1.0);
        for &i in same {
            ranks[i] = mean;
        }
        first += same.len();
    }
    ranks
}

/// The percentile interval over pairs drawn with replacement; draws in which one side is the same throughout have no correlation and are
/// left out.
fn interval(pairs: &[(f64, f64)]) -> [Option<f64>; 2] {
    let mut state = SEED;
    let mut below = |n: usize| ((u128::from(split_mix(&mut state)) * n as u128) >> 64) as usize;
    let mut found: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let drawn: Vec<(f64, f64)> = pairs.iter().map(|_| pairs[below(pairs.len())]).collect();
            spearman(&drawn)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - LEVEL);
    [tail, 1.0 - tail].map(|q| quantile(&found, q))
}

/// NumPy's quantile of ascending values: linear between the two nearest.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q * sorted.len().checked_sub(1)? as f64;
    let below = *sorted.get(place.floor() as usize)?;
    let above = *sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    // a = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]; b = [2, 7, 1, 8, 2, 8, 1, 8, 2, 8]
    // c = [0.1, -0.4, 0.3, -0.2, 0.9, 0.7, 0.2, 0.8, 0.5, 0.6]
    // scipy.stats.spearmanr(a, b).statistic, the same of (a, c) and (b, c)                                     # SciPy 1.17.1
    #[test]
    fn spearman_agrees_with_scipy_also_with_equal_values() {
        let a = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0];
        let b = [2.0, 7.0, 1.0, 8.0, 2.0, 8.0, 1.0, 8.0, 2.0, 8.0];
        let c = [0.1, -0.4, 0.3, -0.2, 0.9, 0.7, 0.2, 0.8, 0.5, 0.6];
        for (a, b, expected) in
            [(a, b, 0.13471506281091267), (a, c, 0.856305150653836), (b, c, 0.17797968332584388)]
        {
            let pairs: Vec<(f64, f64)> = a.into_iter().zip(b).collect();
            assert!((spearman(&pairs).unwrap() - expected).abs() < 1e-12, "{expected}");
        }
        assert_eq!(spearman(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(spearman(&[]), None);
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
    }

    // i = np.arange(24.); a = np.sin(i ** 1.5 * 0.37); b = a + np.sin(2.1 * i); f = lambda x, y: scipy.stats.spearmanr(x, y).statistic
    // scipy.stats.bootstrap((a, b), f, paired=True, vectorized=False, method="percentile", n_resamples=20000, rng=0)
    #[test]
    fn the_interval_agrees_with_scipys_up_to_its_draws() {
        let a = |i: f64| (i.powf(1.5) * 0.37).sin();
        let pairs: Vec<(f64, f64)> = (0..24).map(f64::from).map(|i| (a(i), a(i) + (2.1 * i).sin())).collect();
        let [low, high] = interval(&pairs).map(Option::unwrap);
        assert!((low - SCIPY[0]).abs() < 0.02 && (high - SCIPY[1]).abs() < 0.02, "{low} {high}");
        assert!((spearman(&pairs).unwrap() - SCIPY[2]).abs() < 1e-12);
        assert_eq!(interval(&pairs).map(Option::unwrap), [low, high]);
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.1), Some(1.3));
    }

    const SCIPY: [f64; 3] = [0.047533122725810076, 0.6575741888086108, 0.4060869565217391];

    fn row(method: &str, encoder: &str, i: f64) -> Value {
        let mean = |x: f64| json!({ "mean": x, "std": 0.0, "n": 3 });
        json!({
            "method": method, "encoder": encoder, "rank_me": mean(i), "lidar": null, "alpha_req": mean(1.0 + 0.1 * i),
            "std": mean(0.5), "uniformity": mean(-i), "alignment": mean(i),
            "scores": { "trained": { "linear": mean(i), "few10": mean(-i), "knn": mean(i * i) } },
        })
    }

    #[test]
    fn methods_without_labels_on_one_encoder_are_ranked_by_what_counts_as_better() {
        let mut rows: Vec<Value> = (1..=6).map(|i| row(&format!("m{i}"), ENCODER, f64::from(i))).collect();
        // Those that do not count would turn every order.
        rows.extend([
            row("supervised", ENCODER, -9.0),
            row("mae", "vit", -9.0),
            row("lightly-byol", "", -9.0),
        ]);
        let found = of(&rows);
        let rho = |key: &str, probe: &str| {
            let numbers = found["numbers"].as_array().unwrap();
            numbers.iter().find(|n| n["number"] == key).unwrap()[probe]["rho"].as_f64()
        };
        for (key, sign) in [("rank_me", 1.0), ("alpha_req", -1.0), ("uniformity", 1.0), ("alignment", -1.0)] {
            assert_eq!(rho(key, "linear"), Some(sign), "{key}");
            assert_eq!(rho(key, "few10"), Some(-sign), "{key}");
        }
        assert_eq!((rho("std", "linear"), rho("lidar", "linear")), (None, None));
        let table = markdown(&found);
        assert!(
            table.contains("| RankMe | 6 | 1.00 [1.00, 1.00] | -1.00 [-1.00, -1.00] | 1.00 [1.00, 1.00] |"),
            "{table}"
        );
        assert!(table.contains("| LiDAR | 0 | – | – | – |"), "{table}");
        assert_eq!(markdown(&of(&rows[..4])), "", "four methods say nothing");
        assert_eq!(markdown(&of(&[])), "");
    }
}
