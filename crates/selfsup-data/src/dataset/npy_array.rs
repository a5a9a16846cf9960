//! NumPy's arrays: headers that are checked against the file, and whole arrays of plain numbers.

use npyz::{DType, Deserialize, NpyFile, NpyHeader, Order, TypeChar};
use selfsup_core::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;

/// A whole array in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// Its sides.
    pub shape: Vec<usize>,
    /// Its elements in C order.
    pub values: NpyValues,
}

/// The elements of an [`NpyArray`].
#[derive(Clone, Debug, PartialEq)]
pub enum NpyValues {
    /// From floats of 32 or 64 bits.
    Floats(Vec<f32>),
    /// From whole numbers of any size.
    Whole(Vec<i64>),
}

impl NpyArray {
    /// Reads an array of floats (`<f4`, `<f8`) or whole numbers (`i1` to `i8`, `u1` to `u8`) in C order.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such file; [`Error::Data`] when it is no array, is truncated, holds other elements,
    /// lies in Fortran's order, or holds a number above 2^63.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, header) = read_header(path)?;
        let refused = |problem: &str| {
            let found = format!("{} {:?}", header.dtype().descr(), header.shape());
            Error::data(path, format!("{problem}; this array is {found}"))
        };
        let wrong = || refused("an array of floats (<f4, <f8) or whole numbers is needed");
        let Some((kind, size)) = type_of(&header) else { return Err(wrong()) };
        let shape: Vec<usize> = header.shape().iter().map(|&side| side as usize).collect();
        // In one dimension both orders are the same, and NumPy may call it either.
        if header.order() != Order::C && shape.len() > 1 {
            return Err(refused("save it in C order, by np.ascontiguousarray(x)"));
        }
        let start = file.stream_position().map_err(Error::io(path))?;
        check_length(path, &file, start, &[shape.as_slice(), &[size as usize]].concat())?;
        let data = NpyFile::with_header(header.clone(), BufReader::new(file));
        let damaged = |e: std::io::Error| Error::data(path, format!("damaged: {e}"));
        let values = match (kind, size) {
            (TypeChar::Float, 4) => NpyValues::Floats(data.into_vec().map_err(damaged)?),
            (TypeChar::Float, 8) => NpyValues::Floats(
                data.into_vec::<f64>().map_err(damaged)?.into_iter().map(|x| x as f32).collect(),
            ),
            (TypeChar::Uint, 1) => NpyValues::Whole(widened::<u8>(data).map_err(damaged)?),
            (TypeChar::Uint, 2) => NpyValues::Whole(widened::<u16>(data).map_err(damaged)?),
            (TypeChar::Uint, 4) => NpyValues::Whole(widened::<u32>(data).map_err(damaged)?),
            (TypeChar::Uint, 8) => {
                let wide = data.into_vec::<u64>().map_err(damaged)?.into_iter().map(i64::try_from);
                let wide = wide.collect::<Result<_, _>>();
                NpyValues::Whole(wide.map_err(|_| refused("a number lies above 2^63"))?)
            }
            (TypeChar::Int, 1) => NpyValues::Whole(widened::<i8>(data).map_err(damaged)?),
            (TypeChar::Int, 2) => NpyValues::Whole(widened::<i16>(data).map_err(damaged)?),
            (TypeChar::Int, 4) => NpyValues::Whole(widened::<i32>(data).map_err(damaged)?),
            (TypeChar::Int, 8) => NpyValues::Whole(data.into_vec().map_err(damaged)?),
            _ => return Err(wrong()),
        };
        Ok(NpyArray { shape, values })
    }
}

fn widened<T: Deserialize + Into<i64>>(data: NpyFile<BufReader<File>>) -> std::io::Result<Vec<i64>> {
    Ok(data.into_vec::<T>()?.into_iter().map(Into::into).collect())
}

/// Opens a file and reads its header; the file then stands at the first element.
pub(super) fn read_header(path: &Path) -> Result<(File, NpyHeader)> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    // The header names its own length in its first bytes: a file that is shorter is refused by the reader.
    let header =
        NpyHeader::from_reader(&mut file).map_err(|e| Error::data(path, format!("no NumPy array: {e}")))?;
    Ok((file, header))
}

/// What the elements are, and the bytes of one; nothing for records.
pub(super) fn type_of(header: &NpyHeader) -> Option<(TypeChar, u64)> {
    match header.dtype() {
        DType::Plain(kind) => Some((kind.type_char(), kind.size_field())),
        _ => None,
    }
}

/// Whether the elements that a header promises are in the file.
pub(super) fn check_length(path: &Path, file: &File, start: u64, factors: &[usize]) -> Result<()> {
    let expected =
        factors.iter().try_fold(1_u64, |n, &f| n.checked_mul(f as u64)).and_then(|n| n.checked_add(start));
    let found = file.metadata().map_err(Error::io(path))?.len();
    match expected {
        Some(expected) if expected <= found => Ok(()),
        _ => {
            let promised = expected.map_or("more than a file can hold".to_owned(), |n| format!("{n} bytes"));
            Err(Error::data(path, format!("truncated: its header promises {promised}, it has {found}")))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use npyz::{AutoSerialize, WriterBuilder as _};
    use std::path::PathBuf;

    /// Writes an array.
    pub fn put<T: AutoSerialize + Copy>(folder: &Path, name: &str, shape: &[u64], values: &[T]) -> PathBuf {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A file whose header claims another shape.
    pub fn lie(file: &[u8], shape: &str) -> Vec<u8> {
        let at = file.windows(7).position(|window| window == b"'shape'").unwrap();
        let end = file.iter().position(|&byte| byte == b'\n').unwrap();
        let mut claim = format!("'shape': {shape}, }}").into_bytes();
        claim.resize(end - at, b' ');
        [&file[..at], &claim, &file[end..]].concat()
    }

    #[test]
    fn reads_floats_and_whole_numbers_of_every_size() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| NpyArray::read(path).unwrap();
        let at = folder.path();
        let floats = NpyValues::Floats(vec![0.5, -1.5, 2.0, 3.0, 4.0, 5.0]);
        let single = read(&put(at, "x.npy", &[2, 3], &[0.5_f32, -1.5, 2.0, 3.0, 4.0, 5.0]));
        assert_eq!(single, NpyArray { shape: vec![2, 3], values: floats.clone() });
        let double = read(&put(at, "x.npy", &[2, 3], &[0.5_f64, -1.5, 2.0, 3.0, 4.0, 5.0]));
        assert_eq!(double, single);
        let whole =
            |shape: &[usize]| NpyArray { shape: shape.to_vec(), values: NpyValues::Whole(vec![2, 0, 7]) };
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_u8, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_u16, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_u32, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_u64, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_i8, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_i16, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[3], &[2_i32, 0, 7])), whole(&[3]));
        assert_eq!(read(&put(at, "y.npy", &[1, 3], &[2_i64, 0, 7])), whole(&[1, 3]));
    }

    #[test]
    fn refuses_what_it_would_misread() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let message = |path: &Path| NpyArray::read(path).unwrap_err().to_string();
        assert!(message(&at.join("none.npy")).contains("none.npy"));
        let large = message(&put(at, "y.npy", &[1], &[u64::MAX]));
        assert!(large.ends_with("y.npy: a number lies above 2^63; this array is '<u8' [1]"), "{large}");
        let other = message(&put(at, "b.npy", &[2], &[true, false]));
        assert!(
            other.contains("b.npy: an array of floats (<f4, <f8) or whole numbers is needed; this"),
            "{other}"
        );

        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[2, 2]).order(Order::Fortran);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        writer.extend([1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        writer.finish().unwrap();
        let path = at.join("t.npy");
        std::fs::write(&path, &bytes).unwrap();
        assert!(
            message(&path).contains("t.npy: save it in C order, by np.ascontiguousarray(x)"),
            "{}",
            message(&path)
        );

        let path = put(at, "x.npy", &[2, 3], &[0_f32; 6]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(message(&path).contains("x.npy: truncated: its header promises"), "{}", message(&path));
        std::fs::write(&path, lie(&bytes, "(9999999999, 999)")).unwrap();
        assert!(message(&path).contains("truncated"), "{}", message(&path));
    }
}
