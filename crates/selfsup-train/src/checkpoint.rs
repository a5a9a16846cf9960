//! Checkpoints that are whole or absent.
//!
//! ```text
//! checkpoints/step-N/{model.safetensors, optimizer.safetensors, state.json}     last, best: files that hold "step-N"
//! ```
//!
//! A checkpoint is made in a folder beside its place; its files are synced, the folder is renamed, and only then do the
//! pointers move. `state.json` holds the length and the CRC-32C of the other files, which are checked before a byte of
//! them is used.

use selfsup_core::state::{self, Extra, sync_folder, write_whole};
use selfsup_core::{Error, Result, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The version of the layout; a newer one is refused.
const FORMAT: u32 = 1;

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// The layout's version.
    pub format: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Steps left out because something was not finite.
    pub skipped: u64,
    /// What the run was started with; a run goes on only with the same.
    pub fingerprint: Value,
    /// The unfinished sums of the log: name, and the bits of an f64, since decimal numbers might lose the last one.
    pub log_sums: Vec<(String, u64)>,
    /// The steps in those sums.
    pub log_steps: u64,
    /// The smallest logged loss so far.
    pub best_loss: Option<f64>,
    /// Length and CRC-32C of every file.
    pub files: BTreeMap<String, (u64, u32)>,
}

impl TrainState {
    /// The state of a run that has not begun.
    pub fn new(fingerprint: Value) -> Self {
        TrainState {
            format: FORMAT,
            step: 0,
            skipped: 0,
            fingerprint,
            log_sums: Vec::new(),
            log_steps: 0,
            best_loss: None,
            files: BTreeMap::new(),
        }
    }
}

/// The pointers of a run's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// The newest checkpoint.
    Last,
    /// That with the smallest logged loss.
    Best,
}

impl Pointer {
    fn file(self) -> &'static str {
        match self {
            Pointer::Last => "last",
            Pointer::Best => "best",
        }
    }
}

/// The folder `checkpoints` of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// The checkpoints of the run in `run`; nothing is read or made.
    pub fn new(run: &Path) -> Self {
        Checkpoints { folder: run.join("checkpoints") }
    }

    /// Writes a checkpoint and lets `pointers` name it.
    ///
    /// # Errors
    /// When the disk refuses; older checkpoints and pointers are intact then.
    pub fn save(
        &self,
        model: &BTreeMap<String, Tensor>,
        optimizer: &BTreeMap<String, Tensor>,
        state: &TrainState,
        pointers: &[Pointer],
    ) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let name = format!("step-{}", state.step);
        let place = write_folder(&self.folder, &name, model, optimizer, state)?;
        for pointer in pointers {
            write_whole(&self.folder.join(pointer.file()), name.as_bytes())?;
        }
        Ok(place)
    }

    /// The folder of the checkpoint that `pointer` names; none when the run has no such checkpoint yet.
    ///
    /// # Errors
    /// When the pointer cannot be read or names nothing.
    pub fn find(&self, pointer: Pointer) -> Result<Option<PathBuf>> {
        let file = self.folder.join(pointer.file());
        let name = match fs::read_to_string(&file) {
            Ok(name) => name,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(file)(e)),
        };
        let folder = self.folder.join(name.trim());
        if step_of(name.trim()).is_none() || !folder.is_dir() {
            return Err(Error::state(file, format!("names the checkpoint {name:?}, which is not there")));
        }
        Ok(Some(folder))
    }

    /// Removes all but the newest `keep` checkpoints and those that the pointers name, and what a crash left behind.
    ///
    /// # Errors
    /// When a folder cannot be removed.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(step) = step_of(&name) {
                steps.push((step, path));
            } else if name.starts_with(".checkpoint-") {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        let named = [self.find(Pointer::Last)?, self.find(Pointer::Best)?];
        steps.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
        for (_, path) in steps.into_iter().skip(keep) {
            if !named.iter().flatten().any(|n| *n == path) {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// Writes a checkpoint's files to `parent/name`, replacing what is there.
pub(crate) fn write_folder(
    parent: &Path,
    name: &str,
    model: &BTreeMap<String, Tensor>,
    optimizer: &BTreeMap<String, Tensor>,
    state: &TrainState,
) -> Result<PathBuf> {
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".checkpoint-");
    // Temporary folders are for their maker alone; this one will be for whom the user's umask says.
    #[cfg(unix)]
    let readable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    #[cfg(unix)]
    builder.permissions(readable);
    let temporary = builder.tempdir_in(parent).map_err(Error::io(parent))?;
    let mut state = state.clone();
    for (file, tensors) in [("model.safetensors", model), ("optimizer.safetensors", optimizer)] {
        let path = temporary.path().join(file);
        state::save(&path, tensors)?;
        state.files.insert(file.to_owned(), digest(&path)?);
    }
    let json = serde_json::to_vec_pretty(&state).map_err(|e| Error::Other(format!("state.json: {e}")))?;
    write_whole(&temporary.path().join("state.json"), &json)?;
    let place = parent.join(name);
    if place.exists() {
        fs::remove_dir_all(&place).map_err(Error::io(&place))?;
    }
    // The temporary folder becomes the checkpoint: it must no longer be removed.
    let temporary = temporary.keep();
    fs::rename(&temporary, &place).map_err(Error::io(&place))?;
    sync_folder(parent)?;
    Ok(place)
}

fn digest(path: &Path) -> Result<(u64, u32)> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    Ok((bytes.len() as u64, crc32c::crc32c(&bytes)))
}

/// Reads `state.json` of a checkpoint and checks the other files against it.
///
/// # Errors
/// When a file is missing, truncated or changed, or the layout is newer than this program.
pub fn verify(folder: &Path) -> Result<TrainState> {
    let path = folder.join("state.json");
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|e| Error::state(&path, format!("damaged: {e}")))?;
    let format = value.get("format").and_then(Value::as_u64).unwrap_or(0);
    if format != u64::from(FORMAT) {
        let problem = format!("layout {format} of a checkpoint, where this program knows {FORMAT}");
        return Err(Error::state(path, problem));
    }
    let state: TrainState =
        serde_json::from_value(value).map_err(|e| Error::state(&path, format!("damaged: {e}")))?;
    for (name, &(length, crc)) in &state.files {
        let file = folder.join(name);
        let (found, found_crc) = digest(&file)?;
        if found != length {
            return Err(Error::state(file, format!("truncated: {found} bytes where {length} were written")));
        }
        if found_crc != crc {
            return Err(Error::state(file, "damaged: its bytes are not those that were written"));
        }
    }
    Ok(state)
}

/// Loads a verified checkpoint into `model` and `optimizer`.
///
/// # Errors
/// See [`verify`] and [`state::check`]; nothing has changed then.
pub fn load(
    folder: &Path,
    model: &BTreeMap<String, Tensor>,
    optimizer: &BTreeMap<String, Tensor>,
) -> Result<TrainState> {
    let state = verify(folder)?;
    let files = [("model.safetensors", model), ("optimizer.safetensors", optimizer)];
    for (file, tensors) in files {
        state::check(&folder.join(file), tensors, Extra::Refuse)?;
    }
    for (file, tensors) in files {
        state::load(&folder.join(file), tensors, Extra::Refuse)?;
    }
    Ok(state)
}

/// Refuses to go on with settings other than those a checkpoint was made with.
///
/// # Errors
/// [`Error::Config`] with the first fields that differ, old and new value; [`Error::Other`] where these are checksums.
pub fn check_fingerprint(old: &Value, new: &Value) -> Result<()> {
    let (old, new) = (flatten(old), flatten(new));
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let show = |value: Option<&String>| value.cloned().unwrap_or_else(|| "absent".to_owned());
    let differing: Vec<_> = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).collect();
    let Some(first) = differing.first() else { return Ok(()) };
    let others = match differing.len() {
        1 => String::new(),
        n => format!(" ({} more differ: {})", n - 1, join(&differing[1..])),
    };
    // Checksums tell nobody anything: what they are of does.
    let checksum = |value: Option<&String>| {
        let text = value.and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        text.is_some_and(|text| text.len() == 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    if checksum(old.get(*first)) && checksum(new.get(*first)) {
        let problem =
            format!("others than those of the run that is to go on{others}; start a new run with these");
        return Err(Error::Other(format!("{first} (by their checksums): {problem}")));
    }
    Err(Error::config(
        first.as_str(),
        show(new.get(*first)),
        format!(
            "{} as in the run that is to go on{others}; start a new run for other settings",
            show(old.get(*first))
        ),
    ))
}

fn join(names: &[&String]) -> String {
    let shown: Vec<_> = names.iter().take(4).map(|name| name.as_str()).collect();
    if names.len() > 4 { format!("{}, ...", shown.join(", ")) } else { shown.join(", ") }
}

/// The leaves of a JSON value by their dotted paths.
fn flatten(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => map.iter().for_each(|(k, v)| walk(below(k), v, leaves)),
            Value::Array(list) if !list.is_empty() => {
                list.iter().enumerate().for_each(|(i, v)| walk(below(&i.to_string()), v, leaves));
            }
            leaf => {
                leaves.insert(path, leaf.to_string());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk(String::new(), value, &mut leaves);
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tensors(value: f32) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[value, 2.0]))])
    }

    fn state(step: u64) -> TrainState {
        TrainState { step, ..TrainState::new(json!({"seed": 1})) }
    }

    #[test]
    fn the_last_checkpoint_is_found_and_loaded() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(run.path());
        assert_eq!(checkpoints.find(Pointer::Last).unwrap(), None);
        for step in [3, 10] {
            checkpoints.save(&tensors(step as f32), &tensors(0.5), &state(step), &[Pointer::Last]).unwrap();
        }
        let folder = checkpoints.find(Pointer::Last).unwrap().unwrap();
        let (model, optimizer) = (tensors(0.0), tensors(0.0));
        assert_eq!(load(&folder, &model, &optimizer).unwrap().step, 10);
        assert_eq!(model, tensors(10.0));
        assert_eq!(optimizer, tensors(0.5));
        assert_eq!(checkpoints.find(Pointer::Best).unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_checkpoint_is_for_whom_the_umask_says() {
        use std::os::unix::fs::PermissionsExt as _;
        let run = tempfile::tempdir().unwrap();
        let folder = Checkpoints::new(run.path()).save(&tensors(1.0), &tensors(0.0), &state(1), &[]).unwrap();
        fs::create_dir(run.path().join("any")).unwrap();
        fs::write(run.path().join("any/file"), "").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(folder.clone()), mode(run.path().join("any")));
        for file in ["model.safetensors", "optimizer.safetensors", "state.json"] {
            assert_eq!(mode(folder.join(file)), mode(run.path().join("any/file")), "{file}");
        }
    }

    #[test]
    fn pruning_keeps_the_newest_and_the_named() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(run.path());
        checkpoints.save(&tensors(0.0), &tensors(0.0), &state(1), &[Pointer::Best]).unwrap();
        for step in [2, 3, 10] {
            checkpoints.save(&tensors(0.0), &tensors(0.0), &state(step), &[Pointer::Last]).unwrap();
        }
        fs::create_dir(run.path().join("checkpoints/.checkpoint-left")).unwrap();
        checkpoints.prune(2).unwrap();
        let mut left: Vec<_> = fs::read_dir(run.path().join("checkpoints"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["best", "last", "step-1", "step-10", "step-3"]);
    }

    #[test]
    fn damage_is_found_and_named() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(run.path());
        let folder = checkpoints.save(&tensors(1.0), &tensors(0.0), &state(1), &[Pointer::Last]).unwrap();
        let file = folder.join("model.safetensors");
        let whole = fs::read(&file).unwrap();
        let refusal = || verify(&folder).unwrap_err().to_string();
        fs::write(&file, &whole[..whole.len() - 3]).unwrap();
        assert!(refusal().contains("model.safetensors: truncated"), "{}", refusal());
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&file, changed).unwrap();
        assert!(refusal().contains("model.safetensors: damaged"), "{}", refusal());
        fs::write(&file, whole).unwrap();
        verify(&folder).unwrap();
        let text = fs::read_to_string(folder.join("state.json")).unwrap();
        fs::write(folder.join("state.json"), text.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert!(refusal().contains("layout 2"), "{}", refusal());
        fs::write(folder.join("state.json"), "{").unwrap();
        assert!(refusal().contains("state.json: damaged"), "{}", refusal());
    }

    #[test]
    fn a_checkpoint_of_another_network_changes_nothing() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(run.path());
        let folder = checkpoints.save(&tensors(1.0), &tensors(3.0), &state(1), &[Pointer::Last]).unwrap();
        let other = BTreeMap::from([("v".to_owned(), Tensor::from(0.0_f32))]);
        let error = load(&folder, &other, &other).unwrap_err().to_string();
        assert!(error.contains("v is missing") && error.contains("w belongs to no part"), "{error}");
        assert_eq!(other["v"], Tensor::from(0.0_f32));
        // Where only one of the two files fits, that one is not taken either.
        let fitting = tensors(0.0);
        assert!(load(&folder, &fitting, &other).is_err() && load(&folder, &other, &fitting).is_err());
        assert_eq!(fitting, tensors(0.0));
    }

    #[test]
    fn other_settings_are_named() {
        let old = json!({"train": {"lr": 0.1, "seed": 1}, "data": ["a", "b"]});
        check_fingerprint(&old, &old.clone()).unwrap();
        let new = json!({"train": {"lr": 0.2, "seed": 1}, "data": ["a"]});
        let error = check_fingerprint(&old, &new).unwrap_err().to_string();
        assert_eq!(
            error,
            "data.1 = absent: \"b\" as in the run that is to go on (1 more differ: train.lr); start a new run for other settings"
        );
        let samples = |names: &str, seed: u64| json!({"samples": {"digest": {"names": names}}, "seed": seed});
        let error = |new| check_fingerprint(&samples("0badcafe", 20_240_101), &new).unwrap_err().to_string();
        assert_eq!(
            error(samples("deadbeef", 20_240_101)),
            "samples.digest.names (by their checksums): others than those of the run that is to go on; start a new run with these"
        );
        assert_eq!(
            error(samples("0badcafe", 20_250_101)),
            "seed = 20250101: 20240101 as in the run that is to go on; start a new run for other settings"
        );
    }
}
