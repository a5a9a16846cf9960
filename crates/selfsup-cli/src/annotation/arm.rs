//! The ways of using labels that are compared.

use super::labels::Choice;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way of using labels. A new one is a variant and a row of each match below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// A linear classifier on the features of the run.
    SslLinear,
    /// The same, with labels that were chosen.
    SslLinearChosen,
}

impl Arm {
    /// All, in the order of the ladder.
    pub const ALL: [Arm; 2] = [Arm::SslLinear, Arm::SslLinearChosen];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Arm::SslLinear => "SSL + linear",
            Arm::SslLinearChosen => "SSL + linear + chosen samples",
        }
    }

    /// What is done, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Arm::SslLinear => "Logistic regression on the frozen features of the run.",
            Arm::SslLinearChosen => "The same; the samples to label are proposed by the features, not drawn.",
        }
    }

    /// How the samples to label come about.
    pub fn choice(self) -> Choice {
        match self {
            Arm::SslLinear => Choice::Drawn,
            Arm::SslLinearChosen => Choice::Proposed,
        }
    }

    /// How it learns.
    pub fn learning(self) -> Learning {
        match self {
            Arm::SslLinear | Arm::SslLinearChosen => Learning::Linear,
        }
    }

    /// Its name on the command line and in files.
    pub fn key(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// How an arm learns from labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// A linear classifier on features.
    Linear,
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
