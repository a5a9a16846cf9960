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
use std::sync::OnceLock;

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

/// What a name stands for in the order in which libraries look for it; null where nothing has it.
fn named(name: &CStr) -> *mut c_void {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: a null handle stands for the default order; the name ends with 0.
    unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) }
}

/// Whether libtorch hears this program's answer: false where the linker did not export it.
pub fn is_asked() -> bool {
    named(NAME) == takes_intels_kernels as *mut c_void
}

/// Whether libtorch takes MKL's kernels for AVX-512.
pub fn uses_avx512() -> bool {
    has_avx512() && (is_asked() || is_intels())
}

/// BLAS's product in single precision: matrices column by column, every argument by reference.
type Sgemm = unsafe extern "C" fn(
    transpose_a: *const c_char,
    transpose_b: *const c_char,
    m: *const c_int,
    n: *const c_int,
    k: *const c_int,
    alpha: *const f32,
    a: *const f32,
    lda: *const c_int,
    b: *const f32,
    ldb: *const c_int,
    beta: *const f32,
    c: *mut f32,
    ldc: *const c_int,
);

/// Sets the threads of MKL that the calling thread uses; returns how many it was before, 0 for as many as all others.
type SetThreads = unsafe extern "C" fn(c_int) -> c_int;

/// MKL's product of matrices, made by the calling thread alone: for code that has threads of its own.
#[derive(Clone, Copy, Debug)]
pub struct OwnThread {
    sgemm: Sgemm,
    set_threads: SetThreads,
}

impl OwnThread {
    /// The product, where libtorch brings MKL; another libtorch has another library, or none that is visible.
    pub fn find() -> Option<OwnThread> {
        static FOUND: OnceLock<Option<OwnThread>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let (sgemm, set_threads) = (named(c"sgemm_"), named(c"MKL_Set_Num_Threads_Local"));
            if sgemm.is_null() || set_threads.is_null() {
                return None;
            }
            // SAFETY: a library with the second name is MKL, whose manual gives both functions these signatures; the names
            // with 32-bit integers are those without the suffix _64.
            unsafe {
                Some(OwnThread {
                    sgemm: std::mem::transmute::<*mut c_void, Sgemm>(sgemm),
                    set_threads: std::mem::transmute::<*mut c_void, SetThreads>(set_threads),
                })
            }
        })
    }

    /// All inner products of the rows of `a` with the rows of `b`.
    ///
    /// # Shapes
    /// Row-major `a` `[M, d]` and `b` `[N, d]` to `out` `[M, N]`.
    ///
    /// Returns false, and does nothing, when a side is above 2^31 - 1, which MKL cannot count.
    ///
    /// # Panics
    /// When a slice has another length.
    #[must_use]
    pub fn products(self, a: &[f32], b: &[f32], d: usize, out: &mut [f32]) -> bool {
        let (m, n) = (a.len() / d, b.len() / d);
        assert!(a.len() == m * d && b.len() == n * d && out.len() == m * n, "blocks of rows of {d} numbers");
        if out.is_empty() {
            return true;
        }
        let side = |side: usize| c_int::try_from(side);
        let (Ok(rows), Ok(columns), Ok(width)) = (side(m), side(n), side(d)) else { return false };
        let (transposed, plain) = (b'T' as c_char, b'N' as c_char);
        // SAFETY: column by column, `b` is [d, N], `a` is [d, M] and `out` is [N, M], each as long as was checked; `out` is
        // borrowed alone. The number of threads is this thread's own, and put back.
        unsafe {
            let before = (self.set_threads)(1);
            (self.sgemm)(
                &raw const transposed,
                &raw const plain,
                &raw const columns,
                &raw const rows,
                &raw const width,
                &1.0,
                b.as_ptr(),
                &raw const width,
                a.as_ptr(),
                &raw const width,
                &0.0,
                out.as_mut_ptr(),
                &raw const columns,
            );
            (self.set_threads)(before);
        }
        true
    }
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
