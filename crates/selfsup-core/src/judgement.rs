//! What a method says of samples that it did not learn from: numbers, answers, prototypes, and pictures.
//!
//! An objective gives what it has of these for a batch ([`Objective::judge`](crate::Objective::judge),
//! [`Objective::pictures`](crate::Objective::pictures)); who asks counts over the batches of a whole set and shows what
//! comes out. Neither knows the other's names.

use crate::{LabelSpace, Tensor};
use std::borrow::Cow;

/// What of a batch that was not learned from can be counted. A method has what it has: most of it is empty.
#[derive(Debug, Default)]
pub struct Judgement {
    /// How well the task itself is solved; over several batches these are averaged by sample.
    pub numbers: Vec<Number>,
    /// Questions whose answer is known, and what was answered.
    pub answers: Vec<Answers>,
    /// How near the samples are to prototypes, a set of them for each head.
    pub prototypes: Vec<Prototypes>,
}

impl Judgement {
    /// The judgement of a method that has but one set of prototypes, with scores `[N, K]`.
    pub fn of_prototypes(scores: &Tensor) -> Self {
        let prototypes = vec![Prototypes { name: "prototypes".into(), scores: scores.detach() }];
        Judgement { prototypes, ..Judgement::default() }
    }

    /// The same under the name of a part, as in `rotation.pretext_accuracy`.
    #[must_use]
    pub fn of_part(mut self, part: &str) -> Self {
        let join = |name: &mut Cow<'static, str>| *name = format!("{part}.{name}").into();
        self.numbers.iter_mut().for_each(|number| join(&mut number.name));
        self.answers.iter_mut().for_each(|answers| join(&mut answers.name));
        self.prototypes.iter_mut().for_each(|prototypes| join(&mut prototypes.name));
        self
    }

    /// This and then another.
    pub fn extend(&mut self, other: Judgement) {
        self.numbers.extend(other.numbers);
        self.answers.extend(other.answers);
        self.prototypes.extend(other.prototypes);
    }
}

/// A number and what it means.
#[derive(Debug)]
pub struct Number {
    /// What it is called, as in `pretext_accuracy`.
    pub name: Cow<'static, str>,
    /// A scalar.
    pub value: Tensor,
    /// One sentence on how to read it.
    pub reading: &'static str,
}

/// What was answered to questions with one right answer among some classes.
#[derive(Debug)]
pub struct Answers {
    /// What the answers are called where there are several, as in `answers`.
    pub name: Cow<'static, str>,
    /// What is asked, and what can be answered.
    pub space: LabelSpace,
    /// What the questions show: `K` tiles each, `[M, K, C, h, w]` Float on the scale of the views.
    pub tiles: Tensor,
    /// The right answers, `[M]` Int64.
    pub truth: Tensor,
    /// What was answered, `[M]` Int64.
    pub given: Tensor,
}

/// How near samples are to prototypes or cluster centres. A sample is assigned to the prototype that it is nearest to.
#[derive(Debug)]
pub struct Prototypes {
    /// What the prototypes are called where there are several sets, as in `head 1`.
    pub name: Cow<'static, str>,
    /// For the samples of the batch, `[N, K]` Float: the higher, the nearer. Cosines, where a method has directions.
    pub scores: Tensor,
}

/// What a method paints: one set of images, or one for each part of a combination that paints.
#[derive(Debug, Default)]
pub struct Pictures {
    /// The sets, in the order of the parts.
    pub sets: Vec<PictureSet>,
}

impl Pictures {
    /// The same under the name of a part, as in `mae` or `combined.mae`.
    #[must_use]
    pub fn of_part(mut self, part: &str) -> Self {
        for PictureSet { name, .. } in &mut self.sets {
            *name = if name.is_empty() { part.to_owned() } else { format!("{part}.{name}") }.into();
        }
        self
    }

    /// These and then others.
    pub fn extend(&mut self, other: Pictures) {
        self.sets.extend(other.sets);
    }
}

impl From<PictureSet> for Pictures {
    fn from(set: PictureSet) -> Self {
        Pictures { sets: vec![set] }
    }
}

/// Images side by side: columns with a caption each, whose rows belong to the same sample.
#[derive(Debug)]
pub struct PictureSet {
    /// Which part of a combination painted them; empty of a method that stands alone.
    pub name: Cow<'static, str>,
    /// What the numbers are.
    pub scale: PictureScale,
    /// Captions and images, `[N, C, H, W]` each; the first are the samples themselves.
    pub columns: Vec<(&'static str, Tensor)>,
}

/// What the numbers of pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureScale {
    /// Pixels from 0 to 1.
    Pixels,
    /// Those of the views: what is left of pixels after a mean is subtracted and a deviation divided out.
    Views,
}
