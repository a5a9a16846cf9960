//! What all moving averages ask of their momentum.

use selfsup_core::{Error, Result};

/// Refuses a momentum that is no share.
pub(crate) fn check_momentum(momentum: f64) -> Result<()> {
    if (0.0..=1.0).contains(&momentum) {
        return Ok(());
    }
    Err(Error::config("momentum", momentum, "from 0 to 1"))
}
