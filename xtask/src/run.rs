//! Runs programs so that the reader sees what is run, how long it took and what to do when it fails.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub fn root() -> PathBuf {
    // At run time first: programs of several clones may share one target folder.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// A cargo command in the workspace, in the environment that the user's own `cargo` would have.
///
/// `cargo run`, under which this program runs, adds variables on which build scripts depend; handed on, they
/// would make cargo rebuild half of the workspace each time the two alternate.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    for (name, _) in env::vars_os() {
        let of_this_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name.starts_with("CARGO_BIN_")
        });
        if of_this_package {
            command.env_remove(name);
        }
    }
    if user_libtorch().is_none() {
        command.env_remove("LIBTORCH");
    }
    find_libtorch(&mut command);
    command
}

/// A program of the workspace as a cargo profile's folder has it.
pub fn built(profile: &str, name: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target).join(profile).join(name)
}

/// A program that was built, to be run in the workspace.
pub fn program(profile: &str, name: &str) -> Command {
    let mut command = Command::new(built(profile, name));
    command.current_dir(root());
    find_libtorch(&mut command);
    command
}

/// Lets programs find libtorch when the user keeps the target folder elsewhere, where their relative rpath
/// leads nowhere.
pub fn find_libtorch(command: &mut Command) {
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        return;
    }
    let name = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };
    let before = env::var_os(name).unwrap_or_default();
    let paths = [root().join(".libtorch/lib")].into_iter().chain(env::split_paths(&before));
    // A path with a colon cannot be joined; then the rpath has to do.
    if let Ok(paths) = env::join_paths(paths.filter(|path| !path.as_os_str().is_empty())) {
        command.env(name, paths);
    }
}

/// `LIBTORCH` as the user set it, rather than `.cargo/config.toml`.
pub fn user_libtorch() -> Option<PathBuf> {
    let set = env::var_os("LIBTORCH").filter(|value| !value.is_empty()).map(PathBuf::from)?;
    (set != root().join(".libtorch")).then_some(set)
}

/// Runs one stage of a command with its output shown.
///
/// # Errors
/// When the program cannot be started or fails; the message ends with `advice`.
pub fn stage(what: &str, command: &mut Command, advice: &str) -> Result<()> {
    eprintln!("==> {what}\n    {}", shown(command));
    let began = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {}: {advice}", shown(command)))?;
    let seconds = began.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{what} failed after {seconds:.1} s ({status}): {advice}");
    }
    eprintln!("    {what}: done in {seconds:.1} s");
    Ok(())
}

/// What a program prints on standard output, when it runs and succeeds.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let words = command.get_args().map(|word| word.to_string_lossy());
    [program].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}
