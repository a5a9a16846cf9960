//! Methods that make views of one sample agree without views of others to tell apart, each with its own guard against
//! constant features: a teacher and a predictor, or a term on the statistics of the batch.

pub mod barlow_twins;
pub mod byol;
#[cfg(test)]
mod fixture;
pub mod lejepa;
pub mod sig_reg;
pub mod simsiam;
pub mod tico;
pub mod vicreg;
pub mod w_mse;
