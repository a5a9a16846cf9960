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

    /// What it remembers between steps, by name.
    fn memory(&self) -> Vec<(String, Tensor)>;

    /// Takes up what [`memory`](StepLabeler::memory) gave.
    ///
    /// # Errors
    /// When a name is missing, or has another shape.
    fn recall(&mut self, state: &[(String, Tensor)]) -> Result<()>;
}

impl<L: PseudoLabeler<Scores = Probabilities> + Debug> StepLabeler for L {
    fn label_step(&mut self, _samples: &Tensor, views: &[Probabilities]) -> Result<PseudoLabels> {
        match views {
            [one] => PseudoLabeler::label(self, one),
            many => Err(Error::config("labelled views", many.len(), "1, which is what this labeler takes")),
        }
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
        tch::no_grad(|| {
            for ((_, variable), (_, value)) in self.memory.iter().zip(self.labeler.memory()) {
                variable.shallow_clone().copy_(&value);
            }
        });
        Ok(found)
    }

    pub(crate) fn fairness(&self, learned: &Tensor, found: &PseudoLabels) -> Result<Option<Tensor>> {
        self.labeler.fairness(learned, found)
    }
}
