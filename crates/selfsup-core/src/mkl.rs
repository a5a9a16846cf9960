//! Which matrix kernels libtorch takes on x86-64.
//!
//! libtorch multiplies matrices on the CPU by Intel's MKL, which gives its AVX-512 kernels to Intel's processors alone: on
//! others it asks `mkl_serv_intel_cpu_true`, hears 0, and takes kernels for AVX2, at half the speed where the processor
//! computes on 512 bits at a time. This module defines the function once more, under the name by which libtorch looks for
//! it; a program's own definition comes first. It answers for what the processor can do.
//!
//! The kernels are those that MKL has for Intel's processors with the same instructions, each of which the processor was
//! asked for. Sums are taken in another order than by the AVX2 kernels, so that results differ in the last bits between
//! machines, as they do between any two of MKL's kernels.

use std::ffi::{CStr, c_char, c_int, c_void};

/// The name of MKL's question.
const NAME: &CStr = c"mkl_serv_intel_cpu_true";

/// MKL's question whether the processor is to get what Intel's get.
#[unsafe(export_name = "mkl_serv_intel_cpu_true")]
extern "C" fn takes_intels_kernels() -> c_int {
    c_int::from(is_intels() || has_avx512())
}

/// Whether the processor says that it is Intel's.
fn is_intels() -> bool {
    let answer = std::arch::x86_64::__cpuid(0);
    let name = [answer.ebx, answer.edx, answer.ecx].map(u32::to_le_bytes).concat();
    name == b"GenuineIntel"
}

/// All that MKL's AVX-512 kernels are made of.
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Whether libtorch hears this program's answer: false where the linker did not export it.
pub fn is_asked() -> bool {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: a null handle stands for the order in which libraries look for symbols; the name ends with 0.
    let found = unsafe { dlsym(std::ptr::null_mut(), NAME.as_ptr()) };
    found == takes_intels_kernels as *mut c_void
}

/// Whether libtorch takes MKL's kernels for AVX-512.
pub fn uses_avx512() -> bool {
    has_avx512() && (is_asked() || is_intels())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Kind, Tensor};

    #[test]
    fn libtorch_hears_what_this_program_says() {
        assert!(is_asked());
        assert_eq!(takes_intels_kernels() != 0, is_intels() || has_avx512());
    }

    #[test]
    fn products_are_those_of_a_loop() {
        for (n, k, m) in [(1, 1, 1), (7, 33, 5), (64, 128, 96), (130, 257, 65)] {
            let wave = |rows: i64, columns: i64| {
                let x = Tensor::arange(rows * columns, (Kind::Double, Device::Cpu)) * 0.7;
                x.sin().reshape([rows, columns])
            };
            let (a, b) = (wave(n, k), wave(k, m));
            let found = a.to_kind(Kind::Float).matmul(&b.to_kind(Kind::Float));
            let (a, b): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (a.try_into().unwrap(), b.try_into().unwrap());
            for (i, row) in Vec::<Vec<f64>>::try_from(found).unwrap().iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let expected: f64 = (0..k as usize).map(|t| a[i][t] * b[t][j]).sum();
                    assert!((value - expected).abs() < 1e-4, "{n} x {k} x {m}: {value} {expected}");
                }
            }
        }
    }
}
