//! Layer-wise decay of the learning rate, with which BEiT (Bao et al. 2022, appendix H) and MAE (He et al. 2022, appendix A.1)
//! fine-tune: what lies near the images changes least.
//!
//! ```text
//! rate of layer i = rate * decay^(L + 1 - i)       i = 0 what comes before the blocks, 1..=L the blocks, L + 1 all behind the encoder
//! ```
//! A block is what has a number in its name: `blocks.3` of a Vision Transformer, `layer2.0` of a ResNet. A last norm belongs to the last
//! block, everything else without a number to layer 0. These are timm's groups (`param_groups_layer_decay`).

use super::Parameter;
use selfsup_core::{Error, Result};
use std::collections::BTreeSet;

/// Names of what comes after the last block.
const LAST: [&str; 3] = ["norm.", "ln_f.", "fc_norm."];

/// Scales the learning rates of the parameters whose names begin with `encoder`, as in `encoder.`, by their layers.
///
/// # Errors
/// [`Error::Config`] when the decay is not above 0 and at most 1, or no parameter's name begins so.
pub fn decay_by_layer(parameters: &mut [Parameter], encoder: &str, decay: f64) -> Result<()> {
    if !(decay > 0.0 && decay <= 1.0) {
        return Err(Error::config("layer_decay", decay, "above 0, and at most 1, which changes nothing"));
    }
    let inside = |parameter: &Parameter| parameter.name.strip_prefix(encoder).map(str::to_owned);
    let names: Vec<String> = parameters.iter().filter_map(inside).collect();
    if names.is_empty() {
        let expected = format!("parameters whose names begin with {encoder:?}");
        return Err(Error::config("layer_decay", decay, expected));
    }
    let blocks: Vec<(String, u64)> =
        names.iter().filter_map(|name| block(name)).collect::<BTreeSet<_>>().into_iter().collect();
    for parameter in parameters {
        let Some(name) = inside(parameter) else { continue };
        let layer = match block(&name) {
            Some(block) => 1 + blocks.partition_point(|other| *other < block),
            None if LAST.iter().any(|last| name.starts_with(last)) => blocks.len(),
            None => 0,
        };
        parameter.scale *= decay.powi((blocks.len() + 1 - layer) as i32);
    }
    Ok(())
}

/// The block of a name: what stands before its first number, and the number.
fn block(name: &str) -> Option<(String, u64)> {
    let mut before = 0;
    for part in name.split('.') {
        if let Ok(number) = part.parse() {
            return Some((name[..before].to_owned(), number));
        }
        before += part.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{OptimizerConfig, Rate, SgdConfig, parameters};
    use super::*;
    use selfsup_core::{Device, Kind, Tensor, nn};

    fn scales(names: &[&str], decay: f64) -> Vec<f64> {
        let store = nn::VarStore::new(Device::Cpu);
        for name in names {
            let (path, last) = name.rsplit_once('.').unwrap();
            let path = path.split('.').fold(store.root(), |path, part| path / part);
            let _ = path.add(last, Tensor::ones([1, 1], (Kind::Float, Device::Cpu)), true);
        }
        let mut all = parameters(&store, &[]).unwrap();
        decay_by_layer(&mut all, "encoder.", decay).unwrap();
        let scale = |name: &&str| all.iter().find(|p| p.name == **name).unwrap().scale;
        names.iter().map(scale).collect()
    }

    // m = timm.create_model("vit_tiny_patch16_224", depth=3, num_classes=10)                       # timm 1.0
    // for g in timm.optim.param_groups_layer_decay(m, layer_decay=0.75): print(g["lr_scale"], names of g["params"])
    #[test]
    fn the_groups_of_a_vision_transformer_are_timms() {
        let found = scales(
            &[
                "encoder.cls_token.x",
                "encoder.patch_embed.proj.weight",
                "encoder.blocks.0.norm1.weight",
                "encoder.blocks.1.attn.qkv.weight",
                "encoder.blocks.2.mlp.fc1.bias",
                "encoder.norm.weight",
                "objective.head.weight",
            ],
            0.75,
        );
        assert_eq!(found, [0.31640625, 0.31640625, 0.421875, 0.5625, 0.75, 0.75, 1.0]);
    }

    // The same of timm.create_model("resnet18", num_classes=10).
    #[test]
    fn the_groups_of_a_resnet_are_timms() {
        let blocks: Vec<String> =
            (1..=4).flat_map(|s| (0..2).map(move |b| format!("encoder.layer{s}.{b}.bn1.bias"))).collect();
        let mut names =
            vec!["encoder.conv1.weight", "encoder.bn1.weight", "encoder.layer2.0.downsample.0.weight"];
        names.extend(blocks.iter().map(String::as_str));
        names.push("objective.head.bias");
        let expected = [
            0.07508468627929688,
            0.07508468627929688,
            0.177978515625,
            0.1001129150390625,
            0.13348388671875,
            0.177978515625,
            0.2373046875,
            0.31640625,
            0.421875,
            0.5625,
            0.75,
            1.0,
        ];
        assert_eq!(scales(&names, 0.75), expected);
    }

    #[test]
    fn blocks_are_in_the_order_of_their_numbers() {
        let names: Vec<String> = (0..12).map(|i| format!("encoder.blocks.{i}.weight")).collect();
        let found = scales(&names.iter().map(String::as_str).collect::<Vec<_>>(), 0.5);
        assert!(found.windows(2).all(|pair| pair[1] == 2.0 * pair[0]), "{found:?}");
        assert_eq!(found[11], 0.5);
    }

    #[test]
    fn a_step_is_as_long_as_the_layers_rate() {
        let store = nn::VarStore::new(Device::Cpu);
        let near = (store.root() / "encoder" / "blocks" / 0).zeros("w", &[1]);
        let far = (store.root() / "objective").zeros("w", &[1]);
        let mut all = parameters(&store, &[]).unwrap();
        decay_by_layer(&mut all, "encoder.", 0.25).unwrap();
        let mut sgd =
            OptimizerConfig::Sgd(SgdConfig { momentum: 0.0, ..Default::default() }).build(all).unwrap();
        (&near + &far).sum(None).backward();
        sgd.step(Rate { scheduled: 0.5, base: 1.0 }).unwrap();
        assert_eq!((near.double_value(&[0]), far.double_value(&[0])), (-0.125, -0.5));
    }

    #[test]
    fn rejects_a_decay_that_is_none() {
        let store = nn::VarStore::new(Device::Cpu);
        let _ = store.root().zeros("w", &[1]);
        let mut all = parameters(&store, &[]).unwrap();
        for decay in [0.0, 1.5, f64::NAN] {
            let error = decay_by_layer(&mut all, "", decay).unwrap_err().to_string();
            assert!(error.ends_with("above 0, and at most 1, which changes nothing"), "{error}");
        }
        let error = decay_by_layer(&mut all, "encoder.", 0.5).unwrap_err().to_string();
        assert_eq!(error, "layer_decay = 0.5: parameters whose names begin with \"encoder.\"");
    }
}
