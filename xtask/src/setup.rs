//! `cargo xtask setup`: libtorch, linked to `.libtorch`, where `.cargo/config.toml` and every program look
//! for it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::libtorch::{Libtorch, VERSION, choices};
use crate::run::{output, root, user_libtorch};

#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Which libtorch: auto takes CUDA where there is an NVIDIA GPU
    #[arg(long, value_enum, default_value_t)]
    device: Device,
}

#[derive(clap::ValueEnum, Clone, Copy, Default, PartialEq)]
enum Device {
    #[default]
    Auto,
    Cpu,
    Cuda,
}

/// Sets libtorch up and returns its folder.
pub fn run(arguments: &Arguments) -> Result<PathBuf> {
    eprintln!("==> setting up libtorch {VERSION}");
    let began = Instant::now();
    let folder = place(arguments.device)?;
    check_folder(&folder)?;
    link(&folder)?;
    eprintln!("    libtorch: {} ({:.1} s)", folder.display(), began.elapsed().as_secs_f64());
    Ok(folder)
}

/// The user's own libtorch, one linked before, or the one from the cache, which is filled when it has to be.
fn place(device: Device) -> Result<PathBuf> {
    if let Some(folder) = from_environment()? {
        return Ok(folder);
    }
    if device == Device::Auto {
        // What was chosen once stays, also where it is not what would be chosen now.
        if let Some(choice) = linked_choice() {
            return Ok(inside(choice, selfsup_fetch::fetch(choice.set)?));
        }
        if let Some(folder) = linked_by_user() {
            return Ok(folder);
        }
    }
    let gpu = match device {
        Device::Auto => has_gpu(),
        Device::Cpu => false,
        Device::Cuda => true,
    };
    let mut errors = Vec::new();
    for choice in choices(gpu) {
        match selfsup_fetch::fetch(choice.set) {
            Ok(folder) => return Ok(inside(choice, folder)),
            Err(error) => {
                eprintln!("    {error}");
                errors.push(error.to_string());
            }
        }
    }
    let what_to_do = "set LIBTORCH to a folder with libtorch, or LIBTORCH_USE_PYTORCH=1 to use the PyTorch of python3, \
                      and run this again";
    if errors.is_empty() {
        bail!("no libtorch {VERSION} is known for this platform: {what_to_do}");
    }
    bail!("{}\nlibtorch {VERSION} could not be had: {what_to_do}", errors.join("\n"));
}

/// What `LIBTORCH` or `LIBTORCH_USE_PYTORCH` names.
fn from_environment() -> Result<Option<PathBuf>> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
        let program = "import os, torch; print(torch.__version__); print(os.path.dirname(torch.__file__))";
        let answer = output(python, &["-c", program])
            .ok_or_else(|| anyhow!("LIBTORCH_USE_PYTORCH is set, but `{python} -c 'import torch'` fails"))?;
        let (version, folder) = answer.split_once('\n').context("python's answer has one line")?;
        check_version(version, "the PyTorch that LIBTORCH_USE_PYTORCH names")?;
        eprintln!("    using the PyTorch of {python}, as LIBTORCH_USE_PYTORCH asks");
        return Ok(Some(folder.into()));
    }
    let Some(folder) = user_libtorch() else { return Ok(None) };
    eprintln!("    using LIBTORCH={}", folder.display());
    Ok(Some(root().join(folder)))
}

/// The one of ours to which `.libtorch` leads.
fn linked_choice() -> Option<&'static Libtorch> {
    let target = link_path().canonicalize().ok()?;
    let cache = selfsup_fetch::cache_dir().ok()?;
    let leads_to = |choice: &Libtorch| inside(choice, cache.join(choice.set.folder)).canonicalize().ok();
    choices(false).iter().chain(choices(true)).find(|choice| leads_to(choice).as_ref() == Some(&target))
}

/// Where `.libtorch` leads, when it is usable and not ours to replace.
fn linked_by_user() -> Option<PathBuf> {
    let target = link_path().canonicalize().ok()?;
    let cache = selfsup_fetch::cache_dir().ok()?;
    let ours = cache.canonicalize().is_ok_and(|cache| target.starts_with(cache));
    (!ours && check_folder(&target).is_ok()).then_some(target)
}

/// Where the link stands.
pub fn link_path() -> PathBuf {
    root().join(".libtorch")
}

/// Whether there is an NVIDIA GPU with a driver.
pub fn has_gpu() -> bool {
    Path::new("/proc/driver/nvidia/version").exists()
        || output("nvidia-smi", &["-L"]).is_some_and(|list| list.contains("GPU"))
}

/// Checks that a folder holds a libtorch that can be built against.
pub fn check_folder(folder: &Path) -> Result<()> {
    for needed in ["include/torch/csrc/api/include/torch/torch.h", "lib"] {
        if !folder.join(needed).exists() {
            bail!("{} is not a libtorch: it has no {needed}", folder.display());
        }
    }
    match fs::read_to_string(folder.join("build-version")) {
        Ok(version) => check_version(version.trim(), &folder.display().to_string()),
        // A PyTorch installed by pip has none; its version was asked of it.
        Err(_) => Ok(()),
    }
}

fn check_version(version: &str, what: &str) -> Result<()> {
    let plain = version.split('+').next().unwrap_or(version);
    if plain != VERSION && env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_none() {
        bail!(
            "{what} is version {version}, and tch needs {VERSION}: install that one, or unset the variable"
        );
    }
    Ok(())
}

fn inside(choice: &Libtorch, folder: PathBuf) -> PathBuf {
    if choice.inside.is_empty() { folder } else { folder.join(choice.inside) }
}

/// Points `.libtorch` to a folder, in one step: whatever builds at this moment finds the old or the new one.
fn link(folder: &Path) -> Result<()> {
    let path = link_path();
    let folder = folder.canonicalize().with_context(|| format!("{} does not exist", folder.display()))?;
    if path.canonicalize().is_ok_and(|target| target == folder) {
        return Ok(());
    }
    if path.exists() && !path.is_symlink() {
        bail!("{} is in the way: it is not a link; move it elsewhere and run this again", path.display());
    }
    let new = root().join(format!(".libtorch-{}", std::process::id()));
    symlink(&folder, &new)?;
    fs::rename(&new, &path).with_context(|| format!("cannot create the link {}", path.display()))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link)
        .with_context(|| format!("cannot create the link {}", link.display()))
}

#[cfg(not(unix))]
fn symlink(target: &Path, _link: &Path) -> Result<()> {
    bail!(
        "links are not made on this system: set LIBTORCH={} and build without this program",
        target.display()
    );
}
