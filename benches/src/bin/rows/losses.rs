//! Losses, forward and backward; work is counted in iterations. And the matrix product that bounds them.

use crate::{Options, Rounds, repeated};
use anyhow::{Result, bail};
use selfsup::core::{Device, Key, SingleProcess, Tensor, nn};
use selfsup::numerics::{SinkhornConfig, sinkhorn};
use selfsup::objectives::{
    BarlowTwinsLoss, BarlowTwinsLossConfig, DinoLoss, DinoLossConfig, NtXent, NtXentConfig, VicRegLoss,
    VicRegLossConfig,
};
use selfsup_benches::normal;

/// A loss on fixed normal inputs, with lightly's settings.
///
/// # Errors
/// When there is no such row, and those of the loss.
pub fn loss(row: &str, options: &Options) -> Result<Rounds> {
    Key::new(0).seed_torch();
    let leaf = |x: Tensor| x.set_requires_grad(true);
    match row {
        "nt-xent-256" | "nt-xent-1024" => {
            let pairs = if row == "nt-xent-256" { 256 } else { 1024 };
            let loss = NtXent::new(NtXentConfig { temperature: 0.5 })?;
            let inputs = [leaf(normal(pairs, 128)), leaf(normal(pairs, 128))];
            rounds(inputs.into(), options, move |z| Ok(loss.forward(&z[0], &z[1], &SingleProcess)?))
        }
        "barlow" => {
            let loss = BarlowTwinsLoss::new(BarlowTwinsLossConfig::default())?;
            let inputs = [leaf(normal(256, 2048)), leaf(normal(256, 2048))];
            rounds(inputs.into(), options, move |z| Ok(loss.forward(&z[0], &z[1], &SingleProcess)?.loss))
        }
        "vicreg" => {
            let loss = VicRegLoss::new(VicRegLossConfig::default())?;
            let inputs = [leaf(normal(256, 2048)), leaf(normal(256, 2048))];
            rounds(inputs.into(), options, move |z| Ok(loss.forward(&z[0], &z[1], &SingleProcess)?.loss))
        }
        "swav-sinkhorn" => {
            let (scores, config) = (normal(256, 3000).tanh(), SinkhornConfig::default());
            repeated(0.5 * options.scale, 1.0, move || {
                let _ = sinkhorn(&scores, &config)?;
                Ok(())
            })
        }
        "dino" => {
            // Two global views for the teacher; these and six local ones for the student.
            let store = nn::VarStore::new(Device::Cpu);
            let loss = DinoLoss::new(store.root(), 4096, &DinoLossConfig::default())?;
            let teacher = normal(2 * 64, 4096).view([2, 64, 4096]);
            let student = leaf(normal(8 * 64, 4096).view([8, 64, 4096]));
            rounds(vec![student], options, move |z| {
                let _store = &store; // The centre lies in it.
                let value = loss.forward(&z[0], &teacher, 0, &SingleProcess)?;
                loss.update_centre(&teacher, &SingleProcess)?;
                Ok(value)
            })
        }
        other => bail!("--row {other}: no such loss"),
    }
}

/// Forward and backward over and over.
fn rounds(
    mut inputs: Vec<Tensor>,
    options: &Options,
    forward: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
) -> Result<Rounds> {
    repeated(0.5 * options.scale, 1.0, move || {
        inputs.iter_mut().for_each(Tensor::zero_grad);
        forward(&inputs)?.backward();
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
