//! How far predictions and labels can be trusted.

pub mod agreement;
pub mod calibration;
pub mod confident_joint;
pub mod consistency;
pub mod coverage;
pub mod label_audit;
pub mod noisy_scaling;
pub mod out_of_distribution;
pub mod planted_noise;
pub mod temperature_scaling;
pub mod temporal_ensemble;
