//! Methods that assign images to prototypes and predict the assignments of other views.

pub(crate) mod crops;
pub mod deepcluster_v2;
pub mod msn;
pub mod msn_loss;
pub mod swav;
pub mod swav_loss;

#[cfg(test)]
pub(crate) mod tiny;
