//! Methods that tell views of one sample from views of others.

pub mod dcl;
pub mod densecl;
pub mod distillation;
pub mod info_nce;
pub mod memory_nce;
pub mod moco_v2;
pub mod moco_v3;
pub mod nnclr;
pub mod nt_xent;
pub mod pirl;
#[cfg(test)]
pub(crate) mod pixels;
pub mod queue;
pub(crate) mod shuffled_groups;
pub mod simclr;
pub mod simclr_v2;
pub mod supcon;
