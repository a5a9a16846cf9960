//! What labels the unlabelled images of a training step, and how its memory gets into the checkpoint.

use selfsup_core::{Device, Error, Probabilities, PseudoLabeler, PseudoLabels, Result, Tensor, nn, tch};
use std::fmt::Debug;

/// Labels the unlabelled images of a step. Every [`PseudoLabeler`] of class probabilities is one; a labeler that wants to
/// know more (which samples they are, several views) is given it here.
pub trait StepLabeler: Debug {
    /// Labels images by what the model says of them.
    ///
    /// # Shapes
    /// `samples` `[N]` Int64, the positions in the unlabelled set; `views` `[N, C]` each, one for every view that is labelled.
    ///
    /// # Errors
    /// When the labeler takes another number of views, or classes or samples do not fit.
    fn label_step(&mut self, samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels>;

    /// A term of the loss that the labeler adds for the views that are learned from (FreeMatch's fairness).
    ///
    /// # Shapes
    /// `learned` logits `[N, C]` with gradient, of the samples of `found`.
    ///
    /// # Errors
    /// When the logits do not fit.
    fn fairness(&self, _learned: &Tensor, _found: &PseudoLabels) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// What it remembers between steps, by name. Names, shapes and kinds are the same at all times, as a checkpoint has a
    /// place for each; a labeler that breaks this ends the step with an error.
    fn memory(&self) -> Vec<(String, Tensor)>;

    /// Takes up what [`memory`](StepLabeler::memory) gave.
    ///
    /// # Errors
    /// When a name is missing, or has another shape.
    fn recall(&mut self, state: &[(String, Tensor)]) -> Result<()>;
}

/// The one view that a labeler takes.
///
/// # Errors
/// [`Error::Config`] when there are more or none.
pub fn one_view(views: &[Probabilities]) -> Result<&Probabilities> {
    match views {
        [one] => Ok(one),
        many => Err(Error::config("labelled views", many.len(), "1, which is what this labeler takes")),
    }
}

impl<L: PseudoLabeler<Scores = Probabilities> + Debug> StepLabeler for L {
    fn label_step(&mut self, _samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels> {
        PseudoLabeler::label(self, one_view(views)?)
    }

    fn memory(&self) -> Vec<(String, Tensor)> {
        PseudoLabeler::state(self)
    }

    fn recall(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        PseudoLabeler::restore(self, state)
    }
}

/// A labeler whose memory lies in the store: it is read from there before every step, so that a checkpoint, or a step
/// that is taken back, holds for it too.
#[derive(Debug)]
pub(crate) struct Remembered {
    labeler: Box<dyn StepLabeler>,
    memory: Vec<(String, Tensor)>,
}

impl Remembered {
    /// Gives the labeler's memory variables under `path`.
    pub(crate) fn new(path: &nn::Path, labeler: Box<dyn StepLabeler>) -> Self {
        let variable = |(name, value): (String, Tensor)| {
            let parts: Vec<&str> = name.split('.').collect();
            let (last, above) =
                parts.split_last().map_or(("", [].as_slice()), |(last, above)| (*last, above));
            let path = above.iter().fold(path.sub("labeler"), |path, part| path / *part);
            let variable = path.add(last, value.to_device(path.device()), false);
            (name, variable)
        };
        let memory = labeler.memory().into_iter().map(variable).collect();
        Remembered { labeler, memory }
    }

    pub(crate) fn label(&mut self, samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels> {
        let state: Vec<_> =
            self.memory.iter().map(|(name, x)| (name.clone(), x.to_device(Device::Cpu))).collect();
        self.labeler.recall(&state)?;
        let found = self.labeler.label_step(samples, views)?;
        let now = self.labeler.memory();
        for (name, _) in &now {
            if self.memory.iter().all(|(known, _)| known != name) {
                let expected = "nothing new: a labeler remembers the same at all times";
                return Err(Error::config("labeler.memory", name, expected));
            }
        }
        let mut moves = Vec::new();
        for (name, variable) in &self.memory {
            let place = format!("labeler.{name}");
            let Some((_, value)) = now.iter().find(|(found, _)| found == name) else {
                return Err(Error::config(place, "missing", "what was remembered before"));
            };
            let form = |x: &Tensor| format!("{:?} {:?}", x.size(), x.kind());
            if form(value) != form(variable) {
                return Err(Error::Shape { name: place, expected: form(variable), found: form(value) });
            }
            moves.push((variable, value));
        }
        tch::no_grad(|| {
            for (variable, value) in moves {
                variable.shallow_clone().copy_(value);
            }
        });
        Ok(found)
    }

    pub(crate) fn fairness(&self, learned: &Tensor, found: &PseudoLabels) -> Result<Option<Tensor>> {
        self.labeler.fairness(learned, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Kind, Reason};

    /// Remembers what its steps say, one after the other.
    #[derive(Debug)]
    struct Forgetful(Vec<Vec<(&'static str, Tensor)>>);

    impl StepLabeler for Forgetful {
        fn label_step(&mut self, _samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels> {
            self.0.remove(0);
            let labels = views[0].tensor().argmax(1, false);
            let weights = labels.to_kind(Kind::Float);
            Ok(PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure))
        }

        fn memory(&self) -> Vec<(String, Tensor)> {
            self.0[0].iter().map(|(name, x)| ((*name).to_owned(), x.copy())).collect()
        }

        fn recall(&mut self, _state: &[(String, Tensor)]) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_remembered_goes_by_name_and_another_shape_is_an_error() {
        let [one, two] = [1.0_f32, 2.0].map(|x| Tensor::from_slice(&[x]));
        let both = |a: &Tensor, b: &Tensor| vec![("a", a.copy()), ("b", b.copy())];
        let long = Tensor::from_slice(&[1.0_f32, 2.0]);
        let mut swapped = both(&two, &one);
        swapped.reverse();
        for (next, expected) in [
            (swapped, None),
            (both(&one, &long), Some("labeler.b: expected [1] Float, found [2] Float")),
            (
                both(&one, &Tensor::from_slice(&[1_i64])),
                Some("labeler.b: expected [1] Float, found [1] Int64"),
            ),
            (vec![("a", one.copy())], Some("labeler.b = missing: what was remembered before")),
            (
                both(&one, &two).into_iter().chain([("c", one.copy())]).collect(),
                Some("labeler.memory = c: nothing new: a labeler remembers the same at all times"),
            ),
        ] {
            let store = nn::VarStore::new(Device::Cpu);
            let labeler = Forgetful(vec![both(&one, &two), next]);
            let mut labeler = Remembered::new(&store.root(), Box::new(labeler));
            let views = [Probabilities::new(&Tensor::from_slice2(&[[0.2_f32, 0.8]])).unwrap()];
            let found = labeler.label(&Tensor::from_slice(&[0_i64]), &views);
            let value = |name: &str| store.variables()[name].double_value(&[0]);
            let kept = (value("labeler.a"), value("labeler.b"));
            match expected {
                None => assert!(found.is_ok() && kept == (2.0, 1.0), "{kept:?}"),
                Some(expected) => {
                    assert_eq!(found.unwrap_err().to_string(), expected);
                    assert_eq!(kept, (1.0, 2.0), "{expected}");
                }
            }
        }
    }
}
