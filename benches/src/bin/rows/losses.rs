//! Losses, forward and backward; work is counted in iterations. And the matrix product that bounds them.

use crate::{Options, Rounds, repeated};
use anyhow::Result;
use selfsup::core::{Key, SingleProcess};
use selfsup::objectives::{NtXent, NtXentConfig};
use selfsup_benches::normal;

/// NT-Xent of `pairs` pairs of 128 numbers at temperature 0.5.
///
/// # Errors
/// Those of the loss.
pub fn nt_xent(pairs: i64, options: &Options) -> Result<Rounds> {
    Key::new(0).seed_torch();
    let loss = NtXent::new(NtXentConfig { temperature: 0.5 })?;
    let [mut z0, mut z1] = [normal(pairs, 128), normal(pairs, 128)].map(|z| z.set_requires_grad(true));
    repeated(0.5 * options.scale, 1.0, move || {
        z0.zero_grad();
        z1.zero_grad();
        loss.forward(&z0, &z1, &SingleProcess)?.backward();
        Ok(())
    })
}

/// A large matrix product; work is counted in floating-point operations.
///
/// # Errors
/// None.
pub fn matmul(options: &Options) -> Result<Rounds> {
    const SIDE: i64 = 1536;
    Key::new(0).seed_torch();
    let (a, b) = (normal(SIDE, SIDE), normal(SIDE, SIDE));
    repeated(0.5 * options.scale, 2.0 * (SIDE as f64).powi(3), move || {
        drop(a.matmul(&b));
        Ok(())
    })
}
