//! Mixed precision: weights in 32 bits, products in bfloat16 (Micikevicius et al. 2018, *Mixed precision training*, with
//! the exponent of 32 bits, so that no loss scaling is needed; Kalamkar et al. 2019, *A study of BFLOAT16 for deep
//! learning training*).
//!
//! It is libtorch's autocast: convolutions, products and attention take rounded inputs, the rest computes on what it gets.
//! tch has no call for it on the CPU, so that its functions are declared here by the names under which libtorch's library
//! has them; the linker refuses another libtorch.

use crate::{Device, Mode};
use serde::{Deserialize, Serialize};

/// In what an encoder computes while it is trained. Evaluation is always in 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Float32,
    /// Products in bfloat16: two to four times as fast on a GPU from Ampere on, and on processors with AVX512-BF16 or
    /// AMX; slow elsewhere.
    Bfloat16,
}

impl Precision {
    /// Lowers the precision of what this thread computes on a device until the returned value is dropped. In
    /// [`Mode::Eval`], and on a device that is neither CPU nor CUDA, nothing changes.
    #[must_use = "the precision is lowered until it is dropped"]
    pub fn lower(self, device: Device, mode: Mode) -> Lowered {
        let kind = match (self, mode, device) {
            (Precision::Bfloat16, Mode::Train, Device::Cpu) => Some(CPU),
            (Precision::Bfloat16, Mode::Train, Device::Cuda(_)) => Some(CUDA),
            _ => None,
        };
        Lowered(kind.map(autocast::enter))
    }

    /// Whether a device computes in this precision by itself, and does not emulate it.
    pub fn is_native(self, device: Device) -> bool {
        match (self, device) {
            (Precision::Float32, _) | (_, Device::Cuda(_)) => true,
            #[cfg(target_arch = "x86_64")]
            (Precision::Bfloat16, Device::Cpu) => is_x86_feature_detected!("avx512bf16"),
            _ => false,
        }
    }
}

/// Restores the precision when it is dropped.
#[derive(Debug)]
pub struct Lowered(Option<autocast::Before>);

impl Drop for Lowered {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            autocast::leave(&before);
        }
    }
}

/// libtorch's numbers of devices.
const CPU: i8 = 0;
const CUDA: i8 = 1;

#[cfg(not(windows))]
mod autocast {
    /// What was set.
    #[derive(Debug)]
    pub(super) struct Before {
        device: i8,
        enabled: bool,
        kind: i8,
    }

    /// libtorch's number of bfloat16.
    const BFLOAT16: i8 = 15;

    // `at::autocast`, ATen/autocast_mode.h: free functions of enums with one byte, numbers and truth values.
    unsafe extern "C-unwind" {
        #[link_name = "_ZN2at8autocast19is_autocast_enabledEN3c1010DeviceTypeE"]
        fn is_autocast_enabled(device: i8) -> bool;
        #[link_name = "_ZN2at8autocast20set_autocast_enabledEN3c1010DeviceTypeEb"]
        fn set_autocast_enabled(device: i8, enabled: bool);
        #[link_name = "_ZN2at8autocast18get_autocast_dtypeEN3c1010DeviceTypeE"]
        fn get_autocast_dtype(device: i8) -> i8;
        #[link_name = "_ZN2at8autocast18set_autocast_dtypeEN3c1010DeviceTypeENS1_10ScalarTypeE"]
        fn set_autocast_dtype(device: i8, kind: i8);
        #[link_name = "_ZN2at8autocast17increment_nestingEv"]
        fn increment_nesting() -> i32;
        #[link_name = "_ZN2at8autocast17decrement_nestingEv"]
        fn decrement_nesting() -> i32;
        #[link_name = "_ZN2at8autocast11clear_cacheEv"]
        fn clear_cache();
    }

    pub(super) fn enter(device: i8) -> Before {
        // SAFETY: the state of this thread alone is read and set; the device is one that libtorch knows.
        unsafe {
            let before =
                Before { device, enabled: is_autocast_enabled(device), kind: get_autocast_dtype(device) };
            set_autocast_enabled(device, true);
            set_autocast_dtype(device, BFLOAT16);
            increment_nesting();
            before
        }
    }

    pub(super) fn leave(before: &Before) {
        // SAFETY: as above. The cache holds rounded weights, which the next step changes.
        unsafe {
            if decrement_nesting() == 0 {
                clear_cache();
            }
            set_autocast_enabled(before.device, before.enabled);
            set_autocast_dtype(before.device, before.kind);
        }
    }
}

#[cfg(windows)]
mod autocast {
    /// Nothing is set: the names of libtorch's functions are others there.
    #[derive(Debug)]
    pub(super) struct Before;

    pub(super) fn enter(_device: i8) -> Before {
        Before
    }

    pub(super) fn leave(_before: &Before) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Tensor};

    fn product() -> Tensor {
        // 1 + 2^-10 is a number of 32 bits, and 1 in bfloat16.
        let x = Tensor::full([2, 2], 1.0 + 2.0_f64.powi(-10), (Kind::Float, Device::Cpu));
        x.matmul(&Tensor::eye(2, (Kind::Float, Device::Cpu)))
    }

    #[test]
    fn products_are_rounded_while_it_is_lowered_and_not_after() {
        let before = product();
        {
            let _lowered = Precision::Bfloat16.lower(Device::Cpu, Mode::Train);
            let found = product();
            assert_eq!((found.kind(), found.double_value(&[0, 0])), (Kind::BFloat16, 1.0));
            {
                let _again = Precision::Bfloat16.lower(Device::Cpu, Mode::Train);
                assert_eq!(product().kind(), Kind::BFloat16);
            }
            assert_eq!(product().kind(), Kind::BFloat16);
        }
        let after = product();
        assert_eq!((after.kind(), &after), (Kind::Float, &before));
        assert!(after.double_value(&[0, 0]) > 1.0);
    }

    #[test]
    fn evaluation_and_32_bits_change_nothing() {
        for (precision, mode) in [(Precision::Bfloat16, Mode::Eval), (Precision::Float32, Mode::Train)] {
            let _lowered = precision.lower(Device::Cpu, mode);
            assert_eq!(product().kind(), Kind::Float);
        }
    }

    #[test]
    fn a_panic_inside_restores_the_precision() {
        let result = std::panic::catch_unwind(|| {
            let _lowered = Precision::Bfloat16.lower(Device::Cpu, Mode::Train);
            panic!("inside");
        });
        assert!(result.is_err());
        assert_eq!(product().kind(), Kind::Float);
    }

    #[test]
    fn weights_keep_32_bits_and_get_their_gradients_in_them() {
        let weight = Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let x = Tensor::full([1, 2], 3.0, (Kind::Float, Device::Cpu));
        let y = {
            let _lowered = Precision::Bfloat16.lower(Device::Cpu, Mode::Train);
            x.matmul(&weight).to_kind(Kind::Float)
        };
        y.sum(Kind::Float).backward();
        assert_eq!((weight.kind(), weight.grad().kind()), (Kind::Float, Kind::Float));
        assert_eq!(Vec::<Vec<f64>>::try_from(weight.grad()).unwrap(), [[3.0, 3.0], [3.0, 3.0]]);
    }

    #[test]
    fn recipes_name_it() {
        assert_eq!(serde_json::to_string(&Precision::Bfloat16).unwrap(), "\"bfloat16\"");
        assert_eq!(serde_json::from_str::<Precision>("\"float32\"").unwrap(), Precision::Float32);
    }
}
