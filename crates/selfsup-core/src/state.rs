//! Named tensors in safetensors files.
//!
//! Reading checks the header against the file's length and against the tensors to be filled before anything is
//! allocated or changed; writing makes the file beside its place, syncs it, and renames it, so that a file of that
//! name is always whole. No other format is read: a pickle can run code.

use crate::{Device, Error, Kind, Result, Tensor, nn};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A header larger than this is refused: a hundred thousand tensors need less.
const LARGEST_HEADER: u64 = 64 << 20;

/// The variables of `store` below `prefix`, named without it; with an empty prefix all of them.
pub fn named_variables(store: &nn::VarStore, prefix: &str) -> BTreeMap<String, Tensor> {
    let dotted = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
    let strip = |(name, x): (String, Tensor)| Some((name.strip_prefix(&dotted)?.to_owned(), x));
    store.variables().into_iter().filter_map(strip).collect()
}

/// What a file says of itself before its tensors are read.
#[derive(Debug)]
pub struct Header {
    /// Kind and shape of every tensor by name.
    pub tensors: BTreeMap<String, (Kind, Vec<i64>)>,
    metadata: Metadata,
    data_start: u64,
}

/// Reads and checks a file's header without reading its tensors.
///
/// # Errors
/// When the file is missing, is no safetensors file, is truncated or longer than its header says, or holds a kind of
/// numbers that libtorch lacks.
pub fn read_header(path: &Path) -> Result<Header> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut size = [0; 8];
    if length < 8 {
        return Err(Error::state(path, format!("{length} bytes are no safetensors file")));
    }
    file.read_exact(&mut size).map_err(Error::io(path))?;
    let header_length = u64::from_le_bytes(size);
    if header_length > LARGEST_HEADER || header_length > length - 8 {
        return Err(Error::state(
            path,
            format!("no safetensors file, or truncated: its header claims {header_length} of {length} bytes"),
        ));
    }
    let mut bytes = vec![0; header_length as usize];
    file.read_exact(&mut bytes).map_err(Error::io(path))?;
    let metadata: Metadata = serde_json::from_slice(&bytes)
        .map_err(|e| Error::state(path, format!("no safetensors file: {e}")))?;
    let data_start = 8 + header_length;
    let expected = data_start + metadata.data_len() as u64;
    if expected != length {
        return Err(Error::state(
            path,
            format!("truncated or damaged: {length} bytes where {expected} belong"),
        ));
    }
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let kind = kind_of(info.dtype)
            .ok_or_else(|| Error::state(path, format!("{name} has elements of type {:?}", info.dtype)))?;
        tensors.insert(name, (kind, info.shape.iter().map(|&n| n as i64).collect()));
    }
    Ok(Header { tensors, metadata, data_start })
}

/// What to do with a file's tensors that nothing asks for.
#[derive(Clone, Copy, Debug)]
pub enum Extra<'a> {
    /// Refuse the file.
    Refuse,
    /// Leave out those whose names begin with one of these, for instance a classifier's `fc.`; refuse any other.
    Skip(&'a [&'a str]),
}

/// Checks that [`load`] could fill `targets` from a file, by its header alone.
///
/// # Errors
/// When a tensor is missing, is extra, or has another shape or kind; the message names the first ones. See also
/// [`read_header`].
pub fn check(path: &Path, targets: &BTreeMap<String, Tensor>, extra: Extra) -> Result<Header> {
    let header = read_header(path)?;
    let mut problems = Vec::new();
    for (name, target) in targets {
        match header.tensors.get(name) {
            None => problems.push(format!("{name} is missing")),
            Some((kind, shape)) if *shape != target.size() || *kind != target.kind() => {
                let (wanted, size) = (target.kind(), target.size());
                problems.push(format!("{name} is {kind:?} {shape:?} where {wanted:?} {size:?} is expected"));
            }
            Some(_) => {}
        }
    }
    let skips: &[&str] = match extra {
        Extra::Refuse => &[],
        Extra::Skip(prefixes) => prefixes,
    };
    for name in header.tensors.keys() {
        if !targets.contains_key(name) && !skips.iter().any(|p| name.starts_with(p)) {
            problems.push(format!("{name} belongs to no part of this network"));
        }
    }
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(5);
        problems.truncate(5);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        return Err(Error::state(path, format!("does not fit: {}{more}", problems.join("; "))));
    }
    Ok(header)
}

/// Fills `targets` from a file, all of them or, on any error, none.
///
/// # Errors
/// See [`check`].
pub fn load(path: &Path, targets: &BTreeMap<String, Tensor>, extra: Extra) -> Result<()> {
    let header = check(path, targets, extra)?;
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut loaded = Vec::with_capacity(targets.len());
    for (name, target) in targets {
        loaded.push((target, read_one(&mut file, path, &header, name)?));
    }
    tch::no_grad(|| {
        for (target, value) in loaded {
            target.shallow_clone().copy_(&value);
        }
    });
    Ok(())
}

/// Reads all tensors of a file, on the CPU.
///
/// # Errors
/// See [`read_header`].
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let header = read_header(path)?;
    let mut file = File::open(path).map_err(Error::io(path))?;
    header.tensors.keys().map(|name| Ok((name.clone(), read_one(&mut file, path, &header, name)?))).collect()
}

fn read_one(file: &mut File, path: &Path, header: &Header, name: &str) -> Result<Tensor> {
    let missing = || Error::state(path, format!("{name} is missing"));
    let (kind, shape) = header.tensors.get(name).ok_or_else(missing)?;
    let (start, end) = header.metadata.info(name).ok_or_else(missing)?.data_offsets;
    let mut bytes = vec![0; end - start];
    file.seek(SeekFrom::Start(header.data_start + start as u64)).map_err(Error::io(path))?;
    file.read_exact(&mut bytes).map_err(Error::io(path))?;
    Ok(Tensor::f_from_data_size(&bytes, shape, *kind)?)
}

/// Writes tensors to a file, whole or not at all.
///
/// # Errors
/// When the folder is not writable, the disk is full, or a tensor's kind has no place in the format; a file that was
/// there before is intact then.
pub fn save(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut order = tensors
        .iter()
        .map(|(name, x)| {
            let dtype = dtype_of(x.kind())
                .ok_or_else(|| Error::state(path, format!("{name}: {:?} cannot be stored", x.kind())))?;
            Ok((name, dtype, x))
        })
        .collect::<Result<Vec<_>>>()?;
    // Wide elements first, then by name, so that all are aligned, as the format's own writers have it.
    order.sort_by_key(|&(name, dtype, _)| (Reverse(dtype), name));
    let mut infos = Vec::with_capacity(order.len());
    let mut start = 0;
    for &(name, dtype, x) in &order {
        let end = start + bytes_of(x);
        let shape = x.size().iter().map(|&n| n as usize).collect();
        infos.push((name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) }));
        start = end;
    }
    let unwritable = |e: &dyn std::fmt::Display| Error::state(path, format!("cannot be written: {e}"));
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let metadata = Metadata::new(Some(format), infos).map_err(|e| unwritable(&e))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| unwritable(&e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_beside(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        // One tensor at a time is held twice.
        for (_, _, x) in order {
            let x = x.detach().to_device(Device::Cpu).contiguous();
            let mut bytes = vec![0; bytes_of(&x)];
            if !bytes.is_empty() {
                x.f_copy_data_u8(&mut bytes, x.numel()).map_err(io::Error::other)?;
            }
            file.write_all(&bytes)?;
        }
        Ok(())
    })
}

fn bytes_of(x: &Tensor) -> usize {
    x.numel() * x.kind().elt_size_in_bytes()
}

/// Makes renames inside a folder last through a power cut.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))?;
    }
    Ok(())
}

/// Writes bytes to a file, whole or not at all.
///
/// # Errors
/// When the folder is not writable or the disk is full; a file that was there before is intact then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_beside(path, |file| file.write_all(bytes))
}

/// How the names of files begin that are not whole yet; one that is found later belonged to a program that was killed.
pub const WRITING: &str = ".writing-";

/// Makes a file beside `path`, lets `write` fill it, syncs it, and gives it its name.
fn write_beside(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING);
    // Temporary files are for their maker alone; this one will be for whom the user's umask says.
    #[cfg(unix)]
    let readable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(readable);
    let temporary = builder.tempfile_in(folder).map_err(Error::io(folder))?;
    let mut file = BufWriter::new(temporary.as_file());
    write(&mut file).and_then(|()| file.flush()).map_err(Error::io(path))?;
    drop(file);
    temporary.as_file().sync_all().map_err(Error::io(path))?;
    temporary.persist(path).map_err(|e| Error::io(path)(e.error))?;
    sync_folder(folder)
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::BOOL => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        _ => return None,
    })
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Bool => Dtype::BOOL,
        Kind::Uint8 => Dtype::U8,
        Kind::Int8 => Dtype::I8,
        Kind::Int16 => Dtype::I16,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            ("a.weight".to_owned(), Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([2, 3])),
            ("a.count".to_owned(), Tensor::from(7_i64)),
            ("half".to_owned(), Tensor::from_slice(&[0.5_f32, -2.0]).to_kind(Kind::BFloat16)),
        ])
    }

    fn zeros() -> BTreeMap<String, Tensor> {
        tensors().into_iter().map(|(name, x)| (name, x.zeros_like())).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &tensors()).unwrap();
        let targets = zeros();
        load(&path, &targets, Extra::Refuse).unwrap();
        assert_eq!(targets, tensors());
        assert_eq!(read(&path).unwrap(), tensors());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_for_whom_the_umask_says() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        fs::write(folder.path().join("any"), "").unwrap();
        save(&folder.path().join("model.safetensors"), &tensors()).unwrap();
        assert_eq!(mode("model.safetensors"), mode("any"));
    }

    #[test]
    fn a_file_is_what_python_writes() {
        // import torch; from safetensors.torch import save; t = torch.tensor
        // x = {"w": t([1.5, -2.0]), "n": t(3), "h": t([0.5]).bfloat16()}
        // print(save(x, {"format": "pt"}))
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let half = Tensor::from_slice(&[0.5_f32]).to_kind(Kind::BFloat16);
        let (w, n) = (Tensor::from_slice(&[1.5_f32, -2.0]), Tensor::from(3_i64));
        let tensors = [("w", w), ("n", n), ("h", half)].map(|(name, x)| (name.to_owned(), x));
        save(&path, &tensors.into()).unwrap();
        assert_eq!(fs::read(path).unwrap(), PYTHON_FILE);
    }

    const PYTHON_FILE: &[u8] = b"\xc8\0\0\0\0\0\0\0\
        {\"__metadata__\":{\"format\":\"pt\"},\
        \"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\
        \"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},\
        \"h\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[16,18]}}\x20\x20\x20\x20\x20\x20\
        \x03\0\0\0\0\0\0\0\0\0\xc0\x3f\0\0\0\xc0\0\x3f";

    #[test]
    fn reads_what_python_wrote() {
        // import torch; from safetensors.torch import save
        // print(list(save({"w": torch.tensor([[1.5, -2.0]]), "n": torch.tensor(3)})))
        let mut bytes = PYTHON_HEADER.len().to_le_bytes().to_vec();
        bytes.extend(PYTHON_HEADER.as_bytes());
        bytes.extend(3_i64.to_le_bytes());
        bytes.extend(1.5_f32.to_le_bytes());
        bytes.extend((-2.0_f32).to_le_bytes());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python.safetensors");
        fs::write(&path, bytes).unwrap();
        let tensors = read(&path).unwrap();
        assert_eq!(tensors["w"], Tensor::from_slice2(&[[1.5_f32, -2.0]]));
        assert_eq!(tensors["n"], Tensor::from(3_i64));
    }

    const PYTHON_HEADER: &str = concat!(
        r#"{"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#,
        r#""w":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]}}"#
    );

    #[test]
    fn says_how_a_file_does_not_fit_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &tensors()).unwrap();
        let mut targets = zeros();
        targets.insert("a.weight".into(), Tensor::zeros([3, 3], (Kind::Float, Device::Cpu)));
        targets.insert("b.bias".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        targets.remove("half");
        let error = load(&path, &targets, Extra::Refuse).unwrap_err().to_string();
        for part in [
            "model.safetensors: does not fit",
            "a.weight is Float [2, 3] where Float [3, 3] is expected",
            "b.bias is missing",
            "half belongs to no part",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(targets["a.count"], Tensor::from(0_i64));
        targets = zeros();
        targets.remove("half");
        load(&path, &targets, Extra::Skip(&["half"])).unwrap();
        assert_eq!(targets["a.count"], Tensor::from(7_i64));
    }

    #[test]
    fn refuses_what_is_truncated_or_no_such_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &tensors()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 5, 8, 40, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = load(&path, &zeros(), Extra::Refuse).unwrap_err().to_string();
            assert!(error.contains("model.safetensors: "), "{error}");
        }
        fs::write(&path, b"PK\x03\x04 a pickle in a zip, which is never opened").unwrap();
        let error = load(&path, &zeros(), Extra::Refuse).unwrap_err().to_string();
        assert!(error.contains("no safetensors file"), "{error}");
        let error = read(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &tensors()).unwrap();
        let complex = Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu));
        let error = save(&path, &BTreeMap::from([("c".to_owned(), complex)])).unwrap_err().to_string();
        assert!(error.contains("ComplexFloat cannot be stored"), "{error}");
        assert_eq!(read(&path).unwrap(), tensors());
    }
}
