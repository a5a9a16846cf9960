//! Methods that tell views of one sample from views of others.

pub mod nt_xent;
pub mod simclr;
pub mod supcon;
