//! Projectors and predictors. They are defined in `selfsup_core::heads` (objectives own them and know no encoders);
//! this is where somebody who looks among the networks finds them.

pub use selfsup_core::heads::{HeadNorm, MlpHead, MlpHeadConfig};
