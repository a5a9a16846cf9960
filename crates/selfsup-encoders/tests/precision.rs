//! Encoders whose products are in bfloat16 while they are trained.

use selfsup_core::{Device, Encoder, Kind, Mode, Precision, Result, Tensor, TensorExt, nn, tch};
use selfsup_encoders::{ConvNet, ConvNetConfig, ResNet, ResNetConfig, Stem, Vit, VitConfig};

/// An encoder of this precision, and its store.
fn built(kind: &str, precision: Precision) -> Result<(nn::VarStore, Box<dyn Encoder>)> {
    let store = nn::VarStore::new(Device::Cpu);
    let encoder: Box<dyn Encoder> = match kind {
        "convnet" => {
            Box::new(ConvNet::new(store.root(), &ConvNetConfig { precision, ..Default::default() })?)
        }
        "resnet" => {
            let config = ResNetConfig { stem: Stem::Cifar, precision, ..Default::default() };
            Box::new(ResNet::new(store.root(), &config)?)
        }
        _ => Box::new(Vit::new(store.root(), &VitConfig { precision, depth: 2, ..VitConfig::tiny(16, 4) })?),
    };
    Ok((store, encoder))
}

fn copy(from: &nn::VarStore, to: &nn::VarStore) {
    let from = from.variables();
    tch::no_grad(|| {
        for (name, mut x) in to.variables() {
            x.copy_(&from[&name]);
        }
    });
}

#[test]
fn training_is_near_that_of_32_bits_and_evaluation_is_the_same() {
    let x =
        (Tensor::arange(8 * 3 * 16 * 16, (Kind::Float, Device::Cpu)) * 0.37).sin().reshape([8, 3, 16, 16]);
    for kind in ["convnet", "resnet", "vit"] {
        let (exact_store, exact) = built(kind, Precision::Float32).unwrap();
        let (store, lowered) = built(kind, Precision::Bfloat16).unwrap();
        copy(&exact_store, &store);
        let evaluated = lowered.encode(&x, Mode::Eval).unwrap();
        assert_eq!(evaluated, exact.encode(&x, Mode::Eval).unwrap(), "{kind}");

        let (a, b) = (exact.encode(&x, Mode::Train).unwrap(), lowered.encode(&x, Mode::Train).unwrap());
        assert_eq!(b.kind(), Kind::Float, "{kind}");
        let error = (&a - &b).norm().scalar().unwrap() / a.norm().scalar().unwrap();
        assert!(error > 0.0 && error < 0.05, "{kind}: {error}");

        let weights = (Tensor::arange(b.size()[1], (Kind::Float, Device::Cpu)) * 0.7).sin();
        (b * weights).sum(Kind::Float).backward();
        for (name, x) in store.variables().into_iter().filter(|(_, x)| x.requires_grad()) {
            let gradient = x.grad();
            assert!(gradient.defined() && gradient.kind() == Kind::Float, "{kind}: {name}");
            assert_eq!(gradient.isfinite().all().scalar().unwrap(), 1.0, "{kind}: {name}");
        }
    }
}
