//! The methods that `selfsup finetune` knows by name.
//!
//! A new method is a row of the table below, and its recipe.

use super::teacher::SharedTeacher;
use crate::network::ImageNetwork;
use selfsup::core::{Error, Probabilities, PseudoLabeler, PseudoLabels, Result as CoreResult, Site, Tensor};
use selfsup::labels::{
    Aligned, DistributionAlignment, DistributionAlignmentConfig, FlexMatch, FlexMatchConfig, FreeMatch,
    FreeMatchConfig, IndexedProbabilities, MixMatch, MixMatchConfig, ProbabilityStack, SoftMatch,
    SoftMatchConfig, Threshold, ThresholdConfig,
};
use selfsup::objectives::{
    self, DistilledClassifier, DistilledClassifierConfig, LabelledOnlyConfig, MeanTeacherConfig,
    MixMatchTrainingConfig, PseudoLabelling, PseudoLabellingConfig, SemiSupervised, StepLabeler, one_view,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A method on images, with any network.
pub type SemiObjective = Box<dyn SemiSupervised<dyn ImageNetwork>>;

/// What a method is built from.
pub struct Place<'a, 'b> {
    /// The store and the encoder.
    pub site: &'a Site<'b, dyn ImageNetwork>,
    /// The classes of the labels.
    pub classes: i64,
    /// The unlabelled images.
    pub samples: i64,
    /// Who teaches, where the method has a teacher of its own.
    pub teacher: Option<SharedTeacher>,
}

/// What a reader is told of a method.
#[derive(Debug)]
pub struct Method {
    /// The `kind` in a recipe.
    pub kind: &'static str,
    /// Its name, as in `FixMatch`.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Authors, title and year of its paper.
    pub paper: &'static str,
}

impl Method {
    const fn new([kind, name, about, paper]: [&'static str; 4]) -> Self {
        Method { kind, name, about, paper }
    }

    /// What a list of methods tells a program.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "name": self.kind, "title": self.name, "about": self.about, "paper": self.paper })
    }
}

/// A config from which a method is built.
trait Build {
    fn build(&self, place: &Place) -> CoreResult<SemiObjective>;
}

/// Makes of a table of methods the config that a recipe holds and what a reader is told of each. In a row stand the variant
/// (in kebab case the `kind` of the recipe), the config, the kind, its name, what it does, and its paper.
macro_rules! methods {
    ($($variant:ident($config:ty), $($text:literal),+;)*) => {
        /// `[method]`: the field `kind` tells which, the others are the method's own.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum MethodConfig {
            $(#[allow(missing_docs)] $variant($config),)*
        }

        /// The methods, a row for each.
        pub const METHODS: &[Method] = &[$(Method::new([$($text),+]),)*];

        impl MethodConfig {
            /// Its row of [`METHODS`].
            pub fn method(&self) -> &'static Method {
                match self {
                    $(MethodConfig::$variant(_) => &const { Method::new([$($text),+]) },)*
                }
            }

            /// Makes the objective.
            ///
            /// # Errors
            /// With the field that cannot work.
            pub fn build(&self, place: &Place) -> CoreResult<SemiObjective> {
                match self {
                    $(MethodConfig::$variant(config) => config.build(place),)*
                }
            }
        }
    };
}

methods! {
    Supervised(LabelledOnlyConfig),
        "supervised", "supervised", "the labelled images alone: what the others are measured against",
        "Szegedy et al., \"Rethinking the Inception architecture for computer vision\", 2016";
    PseudoLabel(ByLabeler<AlignedThreshold>),
        "pseudo-label", "pseudo-label", "learn what the model is sure of, from the view that it labelled",
        "Lee, \"Pseudo-label: the simple and efficient semi-supervised learning method for deep neural networks\", 2013";
    MeanTeacher(MeanTeacherConfig),
        "mean-teacher", "mean teacher", "say of a view what the averaged weights say of another",
        "Tarvainen and Valpola, \"Mean teachers are better role models\", 2017";
    Mixmatch(ByMixing),
        "mixmatch", "MixMatch", "mix labelled images and images with guessed labels",
        "Berthelot et al., \"MixMatch: a holistic approach to semi-supervised learning\", 2019";
    Fixmatch(ByLabeler<AlignedThreshold>),
        "fixmatch", "FixMatch", "a strong view is to get the label that a weak one is surely of",
        "Sohn et al., \"FixMatch: simplifying semi-supervised learning with consistency and confidence\", 2020";
    Flexmatch(ByLabeler<FlexMatchConfig>),
        "flexmatch", "FlexMatch", "FixMatch with a lower threshold for classes that are learned less",
        "Zhang et al., \"FlexMatch: boosting semi-supervised learning with curriculum pseudo labeling\", 2021";
    Freematch(ByLabeler<FreeMatchConfig>),
        "freematch", "FreeMatch", "FixMatch with thresholds that follow the model, and all classes kept in use",
        "Wang et al., \"FreeMatch: self-adaptive thresholding for semi-supervised learning\", 2023";
    Softmatch(ByLabeler<SoftMatchConfig>),
        "softmatch", "SoftMatch", "FixMatch with all labels kept, each weighted by how sure the model is",
        "Chen et al., \"SoftMatch: addressing the quantity-quality tradeoff in semi-supervised learning\", 2023";
    Distillation(ByTeacher),
        "distillation", "distillation", "a student, large or small, learns what a fine-tuned run says of images without labels",
        "Chen et al., \"Big self-supervised models are strong semi-supervised learners\", 2020";
}

impl MethodConfig {
    /// The run that teaches, where the method has a teacher of its own.
    pub fn teacher(&self) -> Option<&Path> {
        match self {
            MethodConfig::Distillation(config) => config.teacher.as_deref(),
            _ => None,
        }
    }
}

/// Settings of a method that learns what a labeler says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, bound(deserialize = "L: Default + Deserialize<'de>"))]
pub struct ByLabeler<L> {
    /// How labels are learned.
    pub learning: PseudoLabellingConfig,
    /// How they are given.
    pub labeler: L,
}

impl<L: Default> Default for ByLabeler<L> {
    fn default() -> Self {
        ByLabeler { learning: PseudoLabellingConfig::default(), labeler: L::default() }
    }
}

/// Settings of MixMatch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ByMixing {
    /// How labels are learned.
    pub learning: MixMatchTrainingConfig,
    /// How they are guessed.
    pub labeler: MixMatchConfig,
}

/// Settings of distillation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ByTeacher {
    /// The run of selfsup finetune whose classifier teaches; that of `from` where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// How is learned from it.
    pub learning: DistilledClassifierConfig,
}

/// A threshold, of predictions as they are or aligned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlignedThreshold {
    /// The least probability that is trusted. FixMatch: 0.95.
    pub tau: f64,
    /// How predictions are aligned with the shares of the classes before; absent, not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<DistributionAlignmentConfig>,
}

impl Default for AlignedThreshold {
    fn default() -> Self {
        AlignedThreshold { tau: ThresholdConfig::default().tau, alignment: None }
    }
}

/// The settings of a labeler.
trait LabelerConfig {
    fn labeler(&self, classes: i64, samples: i64) -> CoreResult<Box<dyn StepLabeler>>;
}

impl LabelerConfig for AlignedThreshold {
    fn labeler(&self, classes: i64, _samples: i64) -> CoreResult<Box<dyn StepLabeler>> {
        let labeler = Threshold::new(ThresholdConfig { tau: self.tau })?;
        Ok(match &self.alignment {
            None => Box::new(labeler),
            Some(config) => {
                let alignment = DistributionAlignment::new(classes, config.clone())?;
                Box::new(Aligned { alignment, labeler })
            }
        })
    }
}

impl LabelerConfig for SoftMatchConfig {
    fn labeler(&self, classes: i64, _samples: i64) -> CoreResult<Box<dyn StepLabeler>> {
        Ok(Box::new(SoftMatch::new(classes, self.clone())?))
    }
}

impl LabelerConfig for FlexMatchConfig {
    fn labeler(&self, classes: i64, samples: i64) -> CoreResult<Box<dyn StepLabeler>> {
        Ok(Box::new(OfKnownSamples(FlexMatch::new(classes, samples, self.clone())?)))
    }
}

impl LabelerConfig for FreeMatchConfig {
    fn labeler(&self, classes: i64, _samples: i64) -> CoreResult<Box<dyn StepLabeler>> {
        Ok(Box::new(WithFairness(FreeMatch::new(classes, self.clone())?)))
    }
}

impl LabelerConfig for MixMatchConfig {
    fn labeler(&self, _classes: i64, _samples: i64) -> CoreResult<Box<dyn StepLabeler>> {
        Ok(Box::new(OfViews(MixMatch::new(self.clone())?)))
    }
}

impl<L: LabelerConfig> Build for ByLabeler<L> {
    fn build(&self, place: &Place) -> CoreResult<SemiObjective> {
        let inside = |e| crate::recipe::inside(e, "labeler");
        let labeler = self.labeler.labeler(place.classes, place.samples).map_err(inside)?;
        let built = PseudoLabelling::new(place.site, place.classes, labeler, &self.learning);
        Ok(Box::new(built.map_err(|e| crate::recipe::inside(e, "learning"))?))
    }
}

impl Build for ByMixing {
    fn build(&self, place: &Place) -> CoreResult<SemiObjective> {
        let inside = |e| crate::recipe::inside(e, "labeler");
        let labeler = self.labeler.labeler(place.classes, place.samples).map_err(inside)?;
        let built = objectives::MixMatch::new(place.site, place.classes, labeler, &self.learning);
        Ok(Box::new(built.map_err(|e| crate::recipe::inside(e, "learning"))?))
    }
}

impl Build for MeanTeacherConfig {
    fn build(&self, place: &Place) -> CoreResult<SemiObjective> {
        Ok(Box::new(objectives::MeanTeacher::new(place.site, place.classes, self)?))
    }
}

impl Build for ByTeacher {
    fn build(&self, place: &Place) -> CoreResult<SemiObjective> {
        let Some(teacher) = &place.teacher else {
            return Err(Error::config("teacher", "none", "a run of selfsup finetune, as with --teacher RUN"));
        };
        let teacher = Box::new(teacher.clone());
        let built = DistilledClassifier::new(place.site, place.classes, teacher, &self.learning);
        Ok(Box::new(built.map_err(|e| crate::recipe::inside(e, "learning"))?))
    }
}

impl Build for LabelledOnlyConfig {
    fn build(&self, place: &Place) -> CoreResult<SemiObjective> {
        Ok(Box::new(objectives::LabelledOnly::new(place.site, place.classes, self)?))
    }
}

/// A copy: probabilities are checked when they are made.
fn copy(probabilities: &Probabilities) -> CoreResult<Probabilities> {
    Probabilities::new(probabilities.tensor())
}

/// A labeler that remembers something of every sample.
#[derive(Debug)]
struct OfKnownSamples(FlexMatch);

/// A labeler that adds a term to the loss.
#[derive(Debug)]
struct WithFairness(FreeMatch);

/// A labeler that takes all views.
#[derive(Debug)]
struct OfViews(MixMatch);

macro_rules! remembers {
    () => {
        fn memory(&self) -> Vec<(String, Tensor)> {
            self.0.state()
        }

        fn recall(&mut self, state: &[(String, Tensor)]) -> CoreResult<()> {
            self.0.restore(state)
        }
    };
}

impl StepLabeler for OfKnownSamples {
    fn label_step(&mut self, samples: &Tensor, views: &[Probabilities]) -> CoreResult<PseudoLabels> {
        let samples = samples.to_device(selfsup::core::Device::Cpu);
        self.0.label(&IndexedProbabilities::new(&samples, copy(one_view(views)?)?)?)
    }

    remembers!();
}

impl StepLabeler for WithFairness {
    fn label_step(&mut self, _samples: &Tensor, views: &[Probabilities]) -> CoreResult<PseudoLabels> {
        self.0.label(one_view(views)?)
    }

    fn fairness(&self, learned: &Tensor, found: &PseudoLabels) -> CoreResult<Option<Tensor>> {
        self.0.fairness(learned, found).map(Some)
    }

    remembers!();
}

impl StepLabeler for OfViews {
    fn label_step(&mut self, _samples: &Tensor, views: &[Probabilities]) -> CoreResult<PseudoLabels> {
        let views = views.iter().map(copy).collect::<CoreResult<Vec<_>>>()?;
        self.0.label(&ProbabilityStack::new(&views)?)
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_the_method_that_it_names() {
        for method in METHODS {
            let config: MethodConfig = toml::from_str(&format!("kind = \"{}\"", method.kind)).unwrap();
            assert_eq!(config.method().kind, method.kind);
        }
    }
}
