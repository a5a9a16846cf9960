//! The typeface of the plots. A machine that trains has often none installed, so DejaVu Sans travels inside the
//! program (the `dejavu` crate is MIT or Apache-2.0; the typeface is free under the Bitstream Vera licence).

use anyhow::{Result, anyhow};
use plotters::style::{FontStyle, register_font};
use std::sync::OnceLock;

/// The name that the typeface goes by in the plots.
pub const FAMILY: &str = "DejaVu Sans";

/// Makes the typeface known to plotters, once.
///
/// # Errors
/// A typeface that cannot be read.
pub fn register() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let works =
        *REGISTERED.get_or_init(|| register_font(FAMILY, FontStyle::Normal, dejavu::sans::regular()).is_ok());
    works.then_some(()).ok_or_else(|| anyhow!("the typeface of the plots cannot be read"))
}
