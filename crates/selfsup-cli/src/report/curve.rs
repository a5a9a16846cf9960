//! What a training logged, as curves.

/// A measure over training steps.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// What is measured.
    pub name: String,
    /// Steps and values, by step; values that are not finite interrupt the line.
    pub points: Vec<[f64; 2]>,
    /// A value to compare with, drawn as a dashed line, and what it is.
    pub reference: Option<(String, f64)>,
    /// One sentence on how to read it.
    pub reading: String,
}

impl Curve {
    /// The loss by step.
    pub fn loss(points: Vec<[f64; 2]>) -> Self {
        Curve {
            name: "Loss".into(),
            points,
            reference: None,
            reading: "It should fall and then flatten; a sudden jump or a gap means that training became \
                      unstable. Values of different methods cannot be compared."
                .into(),
        }
    }

    /// The learning rate by step.
    pub fn learning_rate(points: Vec<[f64; 2]>) -> Self {
        Curve {
            name: "Learning rate".into(),
            points,
            reference: None,
            reading:
                "The schedule as it was applied: a rise while the optimiser warms up, then a decay towards \
                      zero."
                    .into(),
        }
    }

    /// The standard deviation of the normalised features' components by step.
    pub fn feature_std(points: Vec<[f64; 2]>, dimension: usize) -> Self {
        Curve {
            name: "Spread of the features".into(),
            points,
            reference: Some(("1/√d, evenly spread".into(), 1.0 / (dimension.max(1) as f64).sqrt())),
            reading:
                "The standard deviation of the normalised features. Near the dashed line they spread over \
                      all directions; near zero they have collapsed to one point."
                    .into(),
        }
    }

    /// The effective rank of the features by step.
    pub fn rank_me(points: Vec<[f64; 2]>) -> Self {
        Curve {
            name: "RankMe".into(),
            points,
            reference: None,
            reading:
                "The number of directions that the features effectively use. Higher is richer; a fall to a \
                      few means that the features collapse to a small subspace."
                    .into(),
        }
    }
}
