//! How sure the numbers of report.json are: each again under `measurements`, by the place where it stands, with its split, its
//! seed and, where there are samples or repetitions to tell it from, its interval.
//!
//! ```text
//! accuracies of all test samples    Wilson, as selfsup compare has it
//! accuracies over draws of labels   Student, over the draws
//! health                            jackknife over groups of samples (`eval::SetHealth`)
//! attention                         bootstrap over the images
//! ```

use crate::attention::AttentionFound;
use crate::judge::Verdict;
use crate::recipe::EvalConfig;
use crate::task::Said;
use anyhow::Result;
use selfsup::core::Score;
use selfsup::eval::{Interval, LEVEL, Mean, Measurement};
use serde_json::{Map, Value, json};

/// What the key `measurements` of report.json is.
pub const DEFINITION: &str = "the numbers of scores, health, task, answers and attention by their JSON pointer (RFC 6901), each with its split, seed and \
                              95 % interval: Wilson's for shares of right answers among all test samples, Student's over draws of labels, a jackknife's over groups of \
                              samples for health (none of fewer than 20 samples, for RankMe and alpha-ReQ of more than 1,024 features and samples, and for LiDAR of more than 1,024 features), a bootstrap's over images for attention. They \
                              tell what other test samples would change, not another training";

/// A number of report.json by its pointer; what it is stands among the definitions.
pub type Known = (String, Measurement);

fn known(pointer: String, name: &str, mean: Mean, seed: Option<u64>) -> Known {
    let Mean { value, interval, n } = mean;
    let (name, split, definition) = (name.to_owned(), "test".to_owned(), String::new());
    (pointer, Measurement { name, value, interval, n, split, seed, definition })
}

/// The scores and the health of an encoder.
///
/// # Errors
/// Those of the intervals.
pub fn of_encoder(encoder: &str, verdict: &Verdict, eval: &EvalConfig) -> Result<Vec<Known>> {
    let mut all = Vec::new();
    for (name, score) in &verdict.scores {
        let right = verdict.answers.as_ref().and_then(|answers| answers.right(name));
        let mean = match right {
            Some(right) => share(right.iter().filter(|right| **right).count() as u64, right.len() as u64)?,
            None => over_draws(score)?,
        };
        let seed = match name.as_str() {
            "linear" => Some(eval.linear.seed),
            "knn" => None,
            _ => Some(eval.few_label.seed),
        };
        all.push(known(format!("/scores/{encoder}/{name}"), name, mean, seed));
    }
    let health = verdict.health.measurements("test").into_iter();
    all.extend(health.map(|m| (format!("/health/{encoder}/{}", m.name), m)));
    Ok(all)
}

/// What an objective says of its own task, from so many images.
///
/// # Errors
/// None: shares are of what was asked.
pub fn of_task(said: &Said, images: usize, seed: u64) -> Result<Vec<Known>> {
    let mut all = Vec::new();
    for (name, value, _) in &said.numbers {
        // A number that is the share of right answers is as sure as that; what guessing would have is a constant.
        let is_it = |right: u64, asked: u64| {
            asked > 0 && !name.ends_with("_chance") && (right as f64 / asked as f64 - value).abs() < 1e-6
        };
        let answers = said.answers.iter().find(|answers| is_it(answers.right, answers.asked));
        let mean = match answers.map(|answers| share(answers.right, answers.asked)).transpose()? {
            Some(found) => Mean { value: *value, ..found },
            None => Mean { value: *value, interval: None, n: images },
        };
        all.push(known(format!("/task/{name}"), name, mean, Some(seed)));
    }
    for (i, answers) in said.answers.iter().enumerate() {
        all.push(known(
            format!("/answers/{i}/right"),
            "answers",
            share(answers.right, answers.asked)?,
            Some(seed),
        ));
    }
    Ok(all)
}

/// How widely the heads look.
pub fn of_attention(found: &AttentionFound) -> Vec<Known> {
    let places = ["/attention/mean".to_owned()]
        .into_iter()
        .chain((0..found.heads.len()).map(|head| format!("/attention/heads/{head}")));
    let values = [found.mean].into_iter().chain(found.heads.iter().copied());
    let intervals = found.intervals.iter().copied().map(Some).chain(std::iter::repeat(None));
    let all = places.zip(values).zip(intervals);
    all.map(|((place, value), interval)| {
        known(place, "attention", Mean { value, interval, n: found.images }, None)
    })
    .collect()
}

/// The value of the key `measurements`, each with what `definitions` says of it.
pub fn json(all: &[Known], definitions: &Value) -> Value {
    let one = |(pointer, found): &Known| {
        let definition = definitions[&found.name].as_str().unwrap_or(&found.definition).to_owned();
        (pointer.clone(), json!(Measurement { definition, ..found.clone() }))
    };
    Value::Object(all.iter().map(one).collect::<Map<_, _>>())
}

fn share(right: u64, asked: u64) -> Result<Mean> {
    let value = right as f64 / asked as f64;
    Ok(Mean { value, interval: Interval::wilson(right, asked, LEVEL)?, n: asked as usize })
}

/// The mean over draws.
fn over_draws(score: &Score) -> Result<Mean> {
    Ok(Mean {
        value: score.mean,
        interval: Interval::student_of(score, LEVEL)?.map(Interval::of_share),
        n: score.n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::full::SuiteChoice;
    use crate::judge::{Labels, Seen, judge};
    use selfsup::core::{Device, Kind, Tensor};
    use selfsup::eval::IntervalMethod;

    fn x(n: i64, d: i64) -> Tensor {
        (Tensor::arange(n * d, (Kind::Float, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin().view([n, d])
    }

    #[test]
    fn draws_have_the_interval_that_their_own_values_have() {
        let values = [0.81, 0.84, 0.79, 0.83, 0.80];
        let found = over_draws(&Score::of(&values)).unwrap();
        let expected = Mean::over_repetitions(&values).unwrap();
        let (a, b) = (found.interval.unwrap(), expected.interval.unwrap());
        assert!((a.low - b.low).abs() < 1e-12 && (a.high - b.high).abs() < 1e-12, "{a:?} {b:?}");
        let once = over_draws(&Score::of(&[0.5])).unwrap();
        assert_eq!((once.value, once.interval, once.n), (0.5, None, 1));
    }

    #[test]
    fn every_number_of_an_encoder_has_its_split_and_what_can_be_told_of_it() {
        let labels: Vec<i64> = (0..40).map(|i| i % 2).collect();
        let names = vec!["a".to_owned(), "b".to_owned()];
        let labels = Labels::new(names, Some(labels.clone()), Some(labels)).unwrap();
        let seen = Seen {
            train: x(40, 6),
            test: x(40, 6),
            views: Some([x(9, 6), x(9, 6) + 0.1]),
            layers: Vec::new(),
        };
        let eval = EvalConfig::default();
        let verdict = judge(&seen, Some(&labels), &eval, SuiteChoice::Probes, &mut |_| ()).unwrap();
        let found = of_encoder("trained", &verdict, &eval).unwrap();
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        let scores = ["linear", "few10", "knn"].map(|name| format!("/scores/trained/{name}"));
        let health = ["std", "rank_me", "uniformity", "alignment", "lidar"]
            .map(|name| format!("/health/trained/{name}"));
        assert_eq!(pointers, scores.iter().chain(&health).map(String::as_str).collect::<Vec<_>>());
        let definitions = json!({"linear": "what it is"});
        let all = json(&found, &definitions);
        for (pointer, method) in [
            ("/scores/trained/linear", Some(IntervalMethod::Wilson)),
            ("/scores/trained/few10", Some(IntervalMethod::Student)),
            ("/health/trained/std", Some(IntervalMethod::GroupJackknife)),
            ("/health/trained/rank_me", Some(IntervalMethod::GroupJackknife)),
            ("/health/trained/alignment", None),
        ] {
            let one: Measurement = serde_json::from_value(all[pointer].clone()).unwrap();
            assert_eq!(one.interval.map(|i| i.method), method, "{pointer}");
            assert!(one.interval.is_none_or(|i| i.low <= one.value && one.value <= i.high), "{one:?}");
            assert_eq!(one.split, "test");
        }
        assert_eq!(all["/scores/trained/linear"]["definition"], "what it is");
        assert_eq!(all["/scores/trained/linear"]["value"], verdict.scores[0].1.mean);
        assert_eq!(all["/health/trained/alignment"]["n"], 9);
    }

    #[test]
    fn a_task_that_asks_questions_is_as_sure_as_its_answers() {
        let answers = crate::task::AnswersFound {
            name: "answers".into(),
            question: "Which?".into(),
            asked: 40,
            right: 30,
            confusion: None,
        };
        let numbers = vec![("accuracy".to_owned(), 0.75, "A share."), ("error".to_owned(), 1.5, "A loss.")];
        let said = Said { numbers, answers: vec![answers], prototypes: Vec::new() };
        let found = of_task(&said, 10, 3).unwrap();
        let intervals: Vec<bool> = found.iter().map(|(_, m)| m.interval.is_some()).collect();
        assert_eq!(intervals, [true, false, true]);
        assert_eq!(found.iter().map(|(_, m)| m.n).collect::<Vec<_>>(), [40, 10, 40]);
        assert_eq!(found[2].0, "/answers/0/right");
    }
}
