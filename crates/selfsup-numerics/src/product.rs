//! The product of two small blocks on the thread that asks for it.
//!
//! libtorch's products use all cores, and its threads spin for a while after each: beside rayon's that costs a third of the
//! time. Where a product is looked at as soon as it is there, one thread makes it and looks at it in its own cache: by MKL,
//! which libtorch brings on Linux and which is told to stay on that thread, or by the crate `gemm`.

use gemm::{Parallelism, gemm};

/// All inner products of the rows of `a` with the rows of `b`.
///
/// # Shapes
/// Row-major `a` `[M, d]` and `b` `[N, d]` to `out` `[M, N]`.
///
/// # Panics
/// When a slice has another length.
pub(crate) fn products(a: &[f32], b: &[f32], d: usize, out: &mut [f32]) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if selfsup_core::mkl::OwnThread::find().is_some_and(|mkl| mkl.products(a, b, d, out)) {
        return;
    }
    portable(a, b, d, out);
}

/// As [`products`], on any machine.
fn portable(a: &[f32], b: &[f32], d: usize, out: &mut [f32]) {
    let (m, n) = (a.len() / d, b.len() / d);
    assert!(a.len() == m * d && b.len() == n * d && out.len() == m * n, "blocks of rows of {d} numbers");
    let (row, to) = (d as isize, n as isize);
    // SAFETY: with these strides the lengths checked above hold [M, d], the transpose of [N, d], and [M, N]; `out` is
    // borrowed alone.
    unsafe {
        gemm(
            m,
            n,
            d,
            out.as_mut_ptr(),
            1,
            to,
            false,
            a.as_ptr(),
            1,
            row,
            b.as_ptr(),
            row,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_loop() {
        for (m, n, d) in [(1, 1, 1), (3, 5, 7), (17, 33, 128), (128, 100, 3)] {
            let a: Vec<f32> = (0..m * d).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..n * d).map(|i| (i as f32 * 0.73).cos()).collect();
            for products in [products, portable] {
                let mut out = vec![f32::NAN; m * n];
                products(&a, &b, d, &mut out);
                for (i, x) in a.chunks_exact(d).enumerate() {
                    for (j, y) in b.chunks_exact(d).enumerate() {
                        let expected: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                        assert!((f64::from(out[i * n + j]) - expected).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
