//! Methods in which a student predicts what a teacher, its own moving average, says of other views or of hidden patches.

pub mod dino;
pub mod dino_head;
pub mod dino_loss;
pub mod targets;

#[cfg(test)]
pub(crate) mod tiny;
