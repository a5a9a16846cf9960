//! What tch's tensors lack: shape checks with names, a few operators, and bridges to native memory.

use crate::{Device, Error, Kind, Result, Tensor};
use tch::kind::Element;

/// Checks the shape of an argument and returns it; -1 stands for any size.
///
/// # Errors
/// [`Error::Shape`] with the argument's name, what is expected and what was found.
///
/// ```
/// use selfsup_core::{Kind, Device, Tensor, check_shape};
/// let z = Tensor::zeros([8, 128], (Kind::Float, Device::Cpu));
/// let [n, d] = check_shape("z0", &z, [-1, -1])?;
/// assert_eq!((n, d), (8, 128));
/// let error = check_shape("z1", &z, [n, 64]).unwrap_err();
/// assert_eq!(error.to_string(), "z1: expected [8, 64], found [8, 128]");
/// # Ok::<(), selfsup_core::Error>(())
/// ```
pub fn check_shape<const RANK: usize>(name: &str, x: &Tensor, expected: [i64; RANK]) -> Result<[i64; RANK]> {
    let found = x.size();
    let fits = found.len() == RANK && found.iter().zip(&expected).all(|(f, e)| *e == -1 || f == e);
    match <[i64; RANK]>::try_from(found) {
        Ok(shape) if fits => Ok(shape),
        _ => Err(Error::Shape {
            name: name.to_owned(),
            expected: format!("{expected:?}").replace("-1", "_"),
            found: format!("{:?}", x.size()),
        }),
    }
}

/// Checks the kind of an argument's elements.
///
/// # Errors
/// [`Error::Shape`] with the argument's name.
pub fn check_kind(name: &str, x: &Tensor, expected: Kind) -> Result<()> {
    if x.kind() == expected {
        return Ok(());
    }
    Err(Error::Shape {
        name: name.to_owned(),
        expected: format!("elements of kind {expected:?}"),
        found: format!("{:?}", x.kind()),
    })
}

/// Operators that the field uses everywhere.
pub trait TensorExt {
    /// Scales the vectors along the last dimension to length 1; a zero vector stays zero (PyTorch's
    /// `F.normalize`, eps 1e-12).
    fn l2_normalize(&self) -> Tensor;

    /// The entries off the diagonal of a square matrix, row by row.
    ///
    /// # Shapes
    /// `[N, N]` to `[N, N - 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the matrix is not square.
    fn off_diagonal(&self) -> Result<Tensor>;

    /// The value of a tensor with one element.
    ///
    /// # Errors
    /// When there is more or less than one.
    fn scalar(&self) -> Result<f64>;
}

impl TensorExt for Tensor {
    fn l2_normalize(&self) -> Tensor {
        self / self.norm_scalaropt_dim(2.0, [-1], true).clamp_min(1e-12)
    }

    fn off_diagonal(&self) -> Result<Tensor> {
        let [n, _] = check_shape("matrix", self, [-1, -1])?;
        check_shape("matrix", self, [n, n])?;
        if n == 0 {
            return Ok(self.shallow_clone());
        }
        // Without its first entry the row-major matrix is n - 1 rows of n + 1 entries that end on the diagonal.
        let without_first = self.reshape([-1]).slice(0, 1, None, 1); // [N * N - 1]
        Ok(without_first.reshape([n - 1, n + 1]).slice(1, 0, n, 1).reshape([n, n - 1]))
    }

    fn scalar(&self) -> Result<f64> {
        Ok(f64::try_from(self)?)
    }
}

/// Makes a CPU tensor of zeros and lets `fill` write its elements in row-major order: no copy is made afterwards.
///
/// # Errors
/// Those of `fill`, and libtorch's when the memory cannot be had.
pub fn tensor_from_fn<T: Element>(
    shape: &[i64],
    fill: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    filled(Tensor::f_zeros(shape, (T::KIND, Device::Cpu))?, fill)
}

/// As [`tensor_from_fn`], for a `fill` that writes every number: the memory is not made zero before. What `fill` leaves
/// out is not specified.
///
/// # Errors
/// Those of `fill`, and libtorch's when the memory cannot be had.
pub fn tensor_of_numbers(shape: &[i64], fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<Tensor> {
    filled(Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?, fill)
}

fn filled<T: Element>(tensor: Tensor, fill: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Tensor> {
    if tensor.numel() > 0 {
        // SAFETY: the tensor was made by the caller, is contiguous, of kind T, and nobody else holds it. Its memory came from
        // libtorch, set to zero, or with bits of which any are a number of T.
        fill(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) })?;
    }
    Ok(tensor)
}

/// Lets `read` see the elements of a contiguous CPU tensor in row-major order, without a copy. `read` must not write
/// to the tensor through another handle.
///
/// # Errors
/// [`Error::Shape`] when the tensor lies elsewhere, in another order, or is of another kind.
pub fn with_slice<T: Element, R>(x: &Tensor, read: impl FnOnce(&[T]) -> R) -> Result<R> {
    check_kind("tensor", x, T::KIND)?;
    if x.device() != Device::Cpu || !x.is_contiguous() {
        return Err(Error::Shape {
            name: "tensor".to_owned(),
            expected: "contiguous memory on the CPU".to_owned(),
            found: format!("{:?}, strides {:?}", x.device(), x.stride()),
        });
    }
    if x.numel() == 0 {
        return Ok(read(&[]));
    }
    // SAFETY: contiguous, on the CPU and of kind T was checked; `x` is borrowed for as long as the slice lives.
    Ok(read(unsafe { std::slice::from_raw_parts(x.data_ptr().cast(), x.numel()) }))
}

/// Copies a matrix into native memory.
///
/// # Shapes
/// `[N, D]` of any kind and device to `N x D` of `f32`.
///
/// # Errors
/// [`Error::Shape`] when `x` is no matrix.
pub fn to_array2(x: &Tensor) -> Result<ndarray::Array2<f32>> {
    let [n, d] = check_shape("matrix", x, [-1, -1])?;
    let x = x.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let values = with_slice(&x, <[f32]>::to_vec)?;
    ndarray::Array2::from_shape_vec((n as usize, d as usize), values).map_err(|e| Error::Other(e.to_string()))
}

/// Copies a matrix from native memory; one copy, row by row, whatever its layout.
///
/// # Errors
/// libtorch's when the memory cannot be had.
pub fn from_array2(x: &ndarray::ArrayView2<f32>) -> Result<Tensor> {
    tensor_from_fn(&[x.nrows() as i64, x.ncols() as i64], |out| {
        for (o, v) in out.iter_mut().zip(x.iter()) {
            *o = *v;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_rows_and_leaves_zero_alone() {
        let x = Tensor::from_slice2(&[[3.0_f32, 4.0], [0.0, 0.0]]).l2_normalize();
        assert_eq!(to_array2(&x).unwrap().into_raw_vec_and_offset().0, [0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn off_diagonal_equals_a_loop() {
        let x = Tensor::arange(16, (Kind::Float, Device::Cpu)).reshape([4, 4]);
        let mut expected = Vec::new();
        for i in 0..4 {
            for j in 0..4 {
                if i != j {
                    expected.push(x.double_value(&[i, j]) as f32);
                }
            }
        }
        assert_eq!(with_slice(&x.off_diagonal().unwrap(), <[f32]>::to_vec).unwrap(), expected);
        let error = x.narrow(0, 0, 3).off_diagonal().unwrap_err();
        assert_eq!(error.to_string(), "matrix: expected [3, 3], found [3, 4]");
    }

    #[test]
    fn writes_and_reads_in_place() {
        let x = tensor_from_fn(&[2, 3], |out| {
            for (i, o) in out.iter_mut().enumerate() {
                *o = i as f32;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(x.double_value(&[1, 2]), 5.0);
        assert_eq!(with_slice(&x, |s: &[f32]| s.iter().sum::<f32>()).unwrap(), 15.0);
        let error = with_slice(&x.transpose(0, 1), |s: &[f32]| s.len()).unwrap_err();
        assert!(error.to_string().contains("strides [1, 3]"), "{error}");
        assert!(with_slice(&x, |s: &[i64]| s.len()).is_err());
    }

    #[test]
    fn arrays_go_there_and_back() {
        let a = ndarray::array![[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let x = from_array2(&a.t()).unwrap();
        assert_eq!(x.size(), [3, 2]);
        assert_eq!(to_array2(&x).unwrap(), a.t());
    }
}
