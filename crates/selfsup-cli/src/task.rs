//! What the objective says of a whole set: its numbers averaged, its answers and its prototypes counted.
//!
//! Methods are known here by nothing but their [`Judgement`].

use crate::model::ImageModel;
use anyhow::Result;
use selfsup::core::{
    Answers, Batches, Device, ImageViews, Judgement, Key, Kind, LabelSpace, Number, Prototypes, Tensor,
    TensorExt, tch,
};
use serde::{Deserialize, Serialize};

/// More classes than this have no confusion matrix.
const CLASSES: usize = 30;
/// The prototypes of a set whose nearest images are found.
const SHOWN: usize = 6;
/// The nearest images of each.
const NEAREST: i64 = 8;
/// Tells the draws of the pretext task in evaluation from other draws of the same seed.
const DRAWS: u64 = 0x7461_736b;

/// What an objective says of a set.
#[derive(Debug, Default)]
pub struct Said {
    /// Numbers by name, each with how to read it.
    pub numbers: Vec<(String, f64, &'static str)>,
    /// What was answered to which questions.
    pub answers: Vec<AnswersFound>,
    /// Sets of prototypes, and how the images are spread over them.
    pub prototypes: Vec<PrototypesFound>,
}

/// The answers to questions of one kind, as report.json holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswersFound {
    /// As in `answers`, or `rotation.answers` in a combination.
    pub name: String,
    /// What is asked.
    pub question: String,
    /// The questions.
    pub asked: u64,
    /// Those that were answered rightly.
    pub right: u64,
    /// How often a class (row) was taken for another (column); none where there are many classes.
    pub confusion: Option<ClassCounts>,
}

/// Counts by class and class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCounts {
    /// The classes in words.
    pub classes: Vec<String>,
    /// `counts[true class][answered class]`
    pub counts: Vec<Vec<u64>>,
}

/// A set of prototypes, as report.json holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrototypesFound {
    /// As in `prototypes`, or `head 1`.
    pub name: String,
    /// The images.
    pub images: u64,
    /// The prototypes.
    pub prototypes: usize,
    /// Those that an image at least is nearest to.
    pub used: usize,
    /// As many prototypes would be used alike if the images were spread over them as evenly: the exponential of the
    /// entropy of the shares.
    pub effective: f64,
    /// The most used prototypes.
    pub most_used: Vec<PrototypeFound>,
}

/// A prototype and the images near it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrototypeFound {
    /// Its number, from 0.
    pub prototype: usize,
    /// The images that are nearer to it than to any other.
    pub assigned: u64,
    /// The images nearest to it, the nearest first, whichever prototype they are assigned to.
    pub nearest: Vec<NearFound>,
}

/// An image near a prototype.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearFound {
    /// Its position in the set.
    pub image: usize,
    /// How near it is, as the method says it; none where that is no number.
    pub score: Option<f64>,
}

/// What the objective says of all batches.
///
/// # Errors
/// When the batches cannot be read, or do not fit.
pub fn of_images(
    model: &ImageModel,
    batches: &dyn Batches<Batch = ImageViews>,
    seed: u64,
    device: Device,
) -> Result<Said> {
    seed_draws(seed);
    let mut tally = Tally::default();
    for batch in batches.epoch(0, 0)? {
        let batch = batch?.to_device(device);
        let judged = judge(model, &batch)?;
        if judged.numbers.is_empty() && judged.answers.is_empty() && judged.prototypes.is_empty() {
            break; // and so it will be for every batch
        }
        tally.add(&judged, &batch.indices)?;
    }
    tally.finish()
}

/// What the objective says of a batch.
///
/// # Errors
/// When the batch does not fit.
pub fn judge(model: &ImageModel, batch: &ImageViews) -> Result<Judgement> {
    Ok(tch::no_grad(|| model.objective.judge(model.encoder.as_ref(), batch))?)
}

/// Draws questions the same way every time.
pub fn seed_draws(seed: u64) {
    Key::new(seed).with(DRAWS).seed_torch();
}

#[derive(Default)]
struct Tally {
    samples: f64,
    numbers: Vec<(String, f64, &'static str)>,
    answers: Vec<AnswersFound>,
    prototypes: Vec<(String, PrototypeTally)>,
}

impl Tally {
    fn add(&mut self, judged: &Judgement, indices: &Tensor) -> Result<()> {
        let n = indices.size()[0] as f64;
        self.samples += n;
        for Number { name, value, reading } in &judged.numbers {
            let new = || (name.to_string(), 0.0, *reading);
            known(&mut self.numbers, |number| number.0 == *name, new).1 += value.scalar()? * n;
        }
        for answers in &judged.answers {
            let new = || AnswersFound::of(answers);
            known(&mut self.answers, |found| found.name == answers.name, new).add(answers)?;
        }
        for prototypes in &judged.prototypes {
            let new = || (prototypes.name.to_string(), PrototypeTally::new(prototypes.scores.size()[1]));
            let (_, tally) = known(&mut self.prototypes, |(name, _)| *name == prototypes.name, new);
            tally.add(prototypes, indices)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Said> {
        let mean = |(name, sum, reading): (String, f64, _)| (name, sum / self.samples, reading);
        let prototypes = self.prototypes.into_iter().map(|(name, tally)| tally.finish(name));
        Ok(Said {
            numbers: self.numbers.into_iter().map(mean).collect(),
            answers: self.answers,
            prototypes: prototypes.collect::<Result<_>>()?,
        })
    }
}

/// The entry that is meant, or a new one after all others.
fn known<T>(all: &mut Vec<T>, is_meant: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = all.iter().position(is_meant).unwrap_or(all.len());
    if place == all.len() {
        all.push(new());
    }
    &mut all[place]
}

impl AnswersFound {
    fn of(answers: &Answers) -> Self {
        let LabelSpace { question, classes, .. } = answers.space.clone();
        let n = classes.len();
        let confusion = (n <= CLASSES).then(|| ClassCounts { classes, counts: vec![vec![0; n]; n] });
        let name = answers.name.to_string();
        AnswersFound { name, question: question.to_owned(), asked: 0, right: 0, confusion }
    }

    fn add(&mut self, answers: &Answers) -> Result<()> {
        let (truth, given) = (Vec::<i64>::try_from(&answers.truth)?, Vec::<i64>::try_from(&answers.given)?);
        self.asked += truth.len() as u64;
        for (&truth, &given) in truth.iter().zip(&given) {
            self.right += u64::from(truth == given);
            let counts = self.confusion.as_mut().map(|found| &mut found.counts);
            if let Some(cell) = counts.and_then(|c| c.get_mut(truth as usize)?.get_mut(given as usize)) {
                *cell += 1;
            }
        }
        Ok(())
    }
}

struct PrototypeTally {
    /// `[K]` Int64
    assigned: Tensor,
    /// The highest scores so far, `[B, K]`, the highest first, and whose they are.
    scores: Tensor,
    images: Tensor,
}

impl PrototypeTally {
    fn new(k: i64) -> Self {
        PrototypeTally {
            assigned: Tensor::zeros([k], (Kind::Int64, Device::Cpu)),
            scores: Tensor::zeros([0, k], (Kind::Float, Device::Cpu)),
            images: Tensor::zeros([0, k], (Kind::Int64, Device::Cpu)),
        }
    }

    fn add(&mut self, prototypes: &Prototypes, indices: &Tensor) -> Result<()> {
        let scores = prototypes.scores.to_device(Device::Cpu).to_kind(Kind::Float);
        let [n, k] =
            selfsup::core::check_shape("scores", &scores, [indices.size()[0], self.assigned.size()[0]])?;
        self.assigned += scores.argmax(1, false).bincount(None::<Tensor>, k);
        let images = indices.to_device(Device::Cpu).unsqueeze(1).expand([n, k], false);
        let all = Tensor::cat(&[&self.scores, &scores], 0);
        let (scores, which) = all.topk(NEAREST.min(all.size()[0]), 0, true, true);
        self.images = Tensor::cat(&[&self.images, &images], 0).gather(0, &which, false);
        self.scores = scores;
        Ok(())
    }

    fn finish(self, name: String) -> Result<PrototypesFound> {
        let assigned: Vec<u64> =
            Vec::<i64>::try_from(&self.assigned)?.into_iter().map(|n| n as u64).collect();
        let images: u64 = assigned.iter().sum();
        let shares = assigned.iter().filter(|&&n| n > 0).map(|&n| n as f64 / images as f64);
        let entropy: f64 = shares.map(|p| -p * p.ln()).sum();
        let mut order: Vec<usize> = (0..assigned.len()).filter(|&k| assigned[k] > 0).collect();
        order.sort_by_key(|&k| std::cmp::Reverse(assigned[k]));
        let (used, most) = (order.len(), order.into_iter().take(SHOWN));
        let near = |k: usize| -> Result<Vec<NearFound>> {
            let scores = Vec::<f64>::try_from(self.scores.select(1, k as i64))?;
            let images = Vec::<i64>::try_from(self.images.select(1, k as i64))?;
            let near = scores.into_iter().zip(images);
            Ok(near
                .map(|(score, image)| NearFound {
                    image: image as usize,
                    score: Some(score).filter(|x| x.is_finite()),
                })
                .collect())
        };
        let most_used = most
            .map(|k| Ok(PrototypeFound { prototype: k, assigned: assigned[k], nearest: near(k)? }))
            .collect::<Result<_>>()?;
        Ok(PrototypesFound {
            name,
            images,
            prototypes: assigned.len(),
            used,
            effective: entropy.exp(),
            most_used,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(classes: usize) -> LabelSpace {
        LabelSpace {
            question: "Which?",
            tiles: 1,
            classes: (0..classes).map(|c| format!("class {c}")).collect(),
        }
    }

    fn answered(classes: usize, truth: &[i64], given: &[i64]) -> Judgement {
        let answers = Answers {
            name: "answers".into(),
            space: space(classes),
            tiles: Tensor::zeros([truth.len() as i64, 1, 1, 2, 2], (Kind::Float, Device::Cpu)),
            truth: Tensor::from_slice(truth),
            given: Tensor::from_slice(given),
        };
        Judgement { answers: vec![answers], ..Judgement::default() }
    }

    #[test]
    fn numbers_are_averaged_by_sample() {
        let number = |x: f32| {
            let value = Tensor::from(x);
            Judgement {
                numbers: vec![Number { name: "share".into(), value, reading: "A share." }],
                ..Judgement::default()
            }
        };
        let mut tally = Tally::default();
        tally.add(&number(1.0), &Tensor::from_slice(&[0_i64, 1, 2])).unwrap();
        tally.add(&number(0.0), &Tensor::from_slice(&[3_i64])).unwrap();
        assert_eq!(tally.finish().unwrap().numbers, [("share".to_owned(), 0.75, "A share.")]);
    }

    #[test]
    fn answers_are_counted_over_batches_and_many_classes_have_no_matrix() {
        let mut tally = Tally::default();
        tally.add(&answered(3, &[0, 1, 2, 2], &[0, 2, 2, 1]), &Tensor::from_slice(&[0_i64, 1])).unwrap();
        tally.add(&answered(3, &[0, 1], &[0, 1]), &Tensor::from_slice(&[2_i64])).unwrap();
        let found = tally.finish().unwrap().answers.remove(0);
        assert_eq!((found.asked, found.right, found.question.as_str()), (6, 4, "Which?"));
        let confusion = found.confusion.unwrap();
        assert_eq!(confusion.counts, [[2, 0, 0], [0, 1, 1], [0, 1, 1]]);
        assert_eq!(confusion.classes[2], "class 2");
        let mut tally = Tally::default();
        tally.add(&answered(31, &[30, 1], &[30, 2]), &Tensor::from_slice(&[0_i64, 1])).unwrap();
        let found = tally.finish().unwrap().answers.remove(0);
        assert_eq!((found.asked, found.right, found.confusion), (2, 1, None));
    }

    #[test]
    fn prototypes_have_their_nearest_images_and_the_most_used_come_first() {
        // Twelve images on a circle, of which ten lie near the second of three directions and two near the first.
        let angles: Vec<f32> = (0..10).map(|i| 1.5 + 0.01 * i as f32).chain([0.02, 0.01]).collect();
        let angles = Tensor::from_slice(&angles);
        let x = Tensor::stack(&[angles.cos(), angles.sin()], 1); // [12, 2]
        let directions = Tensor::from_slice2(&[[1.0_f32, 0.0], [1.5_f32.cos(), 1.5_f32.sin()], [-1.0, 0.0]]);
        let scores = x.matmul(&directions.tr());
        let mut tally = Tally::default();
        // In batches, and under other positions: image i is at 100 + i.
        for (first, n) in [(0, 5), (5, 7)] {
            let indices = Tensor::arange_start(100 + first, 100 + first + n, (Kind::Int64, Device::Cpu));
            tally.add(&Judgement::of_prototypes(&scores.narrow(0, first, n)), &indices).unwrap();
        }
        let found = tally.finish().unwrap().prototypes.remove(0);
        assert_eq!((found.images, found.prototypes, found.used), (12, 3, 2));
        let entropy = -(10.0 / 12.0_f64 * (10.0 / 12.0_f64).ln() + 2.0 / 12.0 * (2.0 / 12.0_f64).ln());
        assert!((found.effective - entropy.exp()).abs() < 1e-12);
        let most: Vec<_> = found.most_used.iter().map(|p| (p.prototype, p.assigned)).collect();
        assert_eq!(most, [(1, 10), (0, 2)]);
        let nearest = |i: usize| found.most_used[i].nearest.iter().map(|near| near.image).collect::<Vec<_>>();
        assert_eq!(nearest(0), [100, 101, 102, 103, 104, 105, 106, 107]);
        assert_eq!(nearest(1)[..3], [111, 110, 100]);
        let highest = found.most_used[1].nearest[0].score.unwrap();
        assert!((highest - 0.01_f64.cos()).abs() < 1e-6);
    }
}
