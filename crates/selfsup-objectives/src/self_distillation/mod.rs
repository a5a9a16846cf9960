//! Methods in which a student predicts what a teacher, its own moving average, says of other views or of hidden patches.

pub mod block_masks;
pub mod dino;
pub mod dino_head;
pub mod dino_loss;
pub mod dinov2;
pub mod ibot;
pub mod ibot_patch_loss;
pub mod koleo_loss;
pub(crate) mod masked_distillation;
pub mod targets;

#[cfg(test)]
pub(crate) mod tiny;
