//! Methods that tell views of one sample from views of others.

pub mod dcl;
pub mod info_nce;
pub mod moco_v2;
pub mod moco_v3;
pub mod nnclr;
pub mod nt_xent;
#[cfg(test)]
mod pixels;
pub mod queue;
pub mod simclr;
pub mod supcon;
pub(crate) mod views;
