//! `selfsup report`: gathers what a run's report shows.

use anyhow::Result;
use selfsup::core::Device;
use std::path::Path;

/// Runs the command.
///
/// # Errors
/// x
pub fn run(_run: &Path, _device: Device) -> Result<()> {
    Ok(())
}
