//! A pipeline of one's own: the data are sine waves, the encoder is a small perceptron, and the objective is a denoising
//! autoencoder: reconstruct a wave from a corrupted one. In the end the features tell the wave's frequency.

use selfsup::core::layers::{Bias, Linear};
use selfsup::core::{Batches, Dataset, Encoder, Features, Key, Loss, Mode, Objective, Result, Step, Tensor};
use selfsup::core::{Device, check_shape, nn};
use selfsup::data::sampler::Shuffled;
use selfsup::data::{Collate, Loader, LoaderConfig};
use selfsup::eval::{LinearProbe, LinearProbeConfig};
use selfsup::train::optimizer::{AdamW, AdamWConfig, Optimizer, Rate, parameters};

/// Waves of 64 points in eight frequencies, each with a phase of its own.
struct Waves(usize);
impl Dataset for Waves {
    type Item = Vec<f32>;
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, index: usize) -> Result<Vec<f32>> {
        let phase = (Key::new(1).with(index as u64).seed() % 500) as f32 / 1000.0;
        Ok((0..64).map(|t| ((index % 8 + 2) as f32 * (t as f32 / 10.0 + phase)).sin()).collect())
    }
}
impl Collate for Waves {
    type Batch = Tensor;
    fn collate(&self, indices: &[usize], _epoch: Key) -> Result<Tensor> {
        let rows = indices.iter().map(|&i| self.get(i)).collect::<Result<Vec<_>>>()?.concat();
        Ok(Tensor::from_slice(&rows).view([-1, 64]))
    }
}

#[derive(Debug)]
struct Mlp(Linear, Linear);
impl Encoder for Mlp {
    fn dim(&self) -> i64 {
        32
    }
    fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
        check_shape("waves", x, [-1, 64])?;
        Ok(self.1.forward(&self.0.forward(x).relu()).relu())
    }
}

/// Reconstructs the clean wave from one with noise.
struct Denoising(Linear);
impl<E: Encoder> Objective<E> for Denoising {
    type Batch = Tensor;
    fn loss(&mut self, encoder: &E, clean: &Tensor, _step: &Step) -> Result<Loss> {
        let noisy = clean + clean.randn_like() * 0.5;
        Ok(Loss::new((self.0.forward(&encoder.encode(&noisy, Mode::Train)?) - clean).square().mean(None)))
    }
}

fn main() -> Result<()> {
    Key::new(0).seed_torch();
    let store = nn::VarStore::new(Device::Cpu);
    let linear = |name: &str, inputs, outputs| Linear::new(store.root() / name, inputs, outputs, Bias::Yes);
    let encoder = Mlp(linear("first", 64, 128), linear("second", 128, 32));
    let mut objective = Denoising(linear("decoder", 32, 64));
    let loader = Loader::new(Waves(2048), Shuffled { len: 2048 }, LoaderConfig::default(), 0)?;
    let mut optimizer = AdamW::new(parameters(&store, &[])?, &AdamWConfig::default())?;
    for epoch in 0..40 {
        for batch in loader.epoch(epoch, 0)? {
            optimizer.zero_grad();
            objective.loss(&encoder, &batch?, &Step::single(0, 0, epoch, 0))?.total.backward();
            optimizer.step(Rate { scheduled: 2e-3, base: 2e-3 })?;
        }
    }
    let features = |samples: std::ops::Range<usize>| {
        let indices = samples.collect::<Vec<_>>();
        let classes: Vec<i64> = indices.iter().map(|i| (i % 8) as i64).collect();
        let x = encoder.encode(&Waves(4096).collate(&indices, Key::new(0))?, Mode::Eval)?.detach();
        Features::new(x, Tensor::from_slice(&classes), 8)
    };
    let outcome =
        LinearProbe::new(LinearProbeConfig::default())?.run(&features(0..2048)?, &features(2048..4096)?)?;
    println!("a linear probe tells the frequency of {:.1} % of new waves", 100.0 * outcome.accuracy);
    Ok(())
}
