//! The ways of using labels that are compared.

use super::labels::Choice;
use super::train::Start;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way of using labels. A new one is a variant and a row of the table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The network from scratch, on the labelled images alone.
    Supervised,
    /// A linear classifier on the features of the run.
    SslLinear,
    /// The same, with labels that were chosen.
    SslLinearChosen,
    /// The run's network, trained on the labelled images.
    SslFinetuned,
    /// The run's network, trained on labelled images and on what it says of the others.
    SslPseudoLabels,
    /// The same, with labels that were chosen.
    SslPseudoLabelsChosen,
}

/// How an arm learns from labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// A linear classifier on features.
    Linear,
    /// A network on the labelled images.
    OnLabelled(Start),
    /// A network on all images, with labels of its own for those that have none.
    OnPseudoLabels,
}

impl Arm {
    /// All, in the order of the ladder.
    pub const ALL: [Arm; 6] = [
        Arm::Supervised,
        Arm::SslLinear,
        Arm::SslLinearChosen,
        Arm::SslFinetuned,
        Arm::SslPseudoLabels,
        Arm::SslPseudoLabelsChosen,
    ];

    /// The row of the table: what it is called, how the samples to label come about, how it learns, and that in a sentence.
    fn row(self) -> (&'static str, Choice, Learning, &'static str) {
        match self {
            Arm::Supervised => (
                "supervised from scratch",
                Choice::Drawn,
                Learning::OnLabelled(Start::Scratch),
                "The same network, untrained, trained on the labelled images.",
            ),
            Arm::SslLinear => (
                "SSL + linear",
                Choice::Drawn,
                Learning::Linear,
                "Logistic regression on the frozen features of the run.",
            ),
            Arm::SslLinearChosen => (
                "SSL + linear + chosen samples",
                Choice::Proposed,
                Learning::Linear,
                "The same; the samples to label are proposed by the features, not drawn.",
            ),
            Arm::SslFinetuned => (
                "SSL + fine-tuning",
                Choice::Drawn,
                Learning::OnLabelled(Start::Pretrained),
                "The run's network, trained on the labelled images.",
            ),
            Arm::SslPseudoLabels => (
                "SSL + pseudo-labels",
                Choice::Drawn,
                Learning::OnPseudoLabels,
                "The run's network, trained on the labelled images and on what it is sure of among the others.",
            ),
            Arm::SslPseudoLabelsChosen => (
                "SSL + pseudo-labels + chosen samples",
                Choice::Proposed,
                Learning::OnPseudoLabels,
                "The same; the samples to label are proposed by the features, not drawn.",
            ),
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// How the samples to label come about.
    pub fn choice(self) -> Choice {
        self.row().1
    }

    /// How it learns.
    pub fn learning(self) -> Learning {
        self.row().2
    }

    /// What is done, in a sentence.
    pub fn about(self) -> &'static str {
        self.row().3
    }

    /// Its name on the command line and in files.
    pub fn key(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_stands_in_the_ladder_under_a_name_of_its_own() {
        assert_eq!(Arm::ALL.as_slice(), Arm::value_variants());
        let names: std::collections::HashSet<&str> = Arm::ALL.iter().map(|arm| arm.name()).collect();
        assert_eq!(names.len(), Arm::ALL.len());
        for arm in Arm::ALL {
            assert_eq!(serde_json::to_value(arm).unwrap(), arm.key());
            assert!(arm.about().ends_with('.'));
        }
    }
}
