//! Stands alone in its process because libtorch's generator, which it seeds, is shared by all threads.

use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{Device, Tensor, TensorExt, nn, tch};

/// import torch; torch.manual_seed(3); l = torch.nn.Linear(4, 2); print(l.weight.flatten().tolist(), l.bias.tolist())
#[test]
fn a_linear_layer_draws_what_pytorch_draws() {
    let weight = [
        -0.495_736_5_f32,
        -0.394_430_6,
        -0.214_157_5,
        -0.473_045_2,
        -0.028_385_6,
        -0.439_883_7,
        0.271_865_8,
        0.243_699_4,
    ];
    let bias = [0.094_421_2_f32, 0.387_856_7];
    let store = nn::VarStore::new(Device::Cpu);
    tch::manual_seed(3);
    let linear = Linear::new(store.root() / "layer", 4, 2, Bias::Yes);
    let difference =
        |a: &Tensor, b: &[f32]| (a.reshape([-1]) - Tensor::from_slice(b)).abs().max().scalar().unwrap();
    assert!(difference(&linear.weight, &weight) < 1e-6);
    assert!(difference(linear.bias.as_ref().unwrap(), &bias) < 1e-6);
}
