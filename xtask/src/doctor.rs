//! `cargo xtask doctor`: what is found on this machine, what is missing and what to do.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

use anyhow::{Result, bail};
use selfsup_fetch::python;
use serde_json::json;

use crate::libtorch::VERSION;
use crate::run::{output, root};
use crate::setup::{check_folder, has_gpu, link_path};

/// The oldest Rust that builds the workspace.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// A release and a debug build with libtorch, in bytes.
const SPACE: u64 = 8 << 30;

#[derive(clap::Args)]
pub struct Arguments {
    /// Prints the findings as JSON
    #[arg(long)]
    json: bool,
}

/// One finding. What is missing has advice.
struct Finding {
    what: &'static str,
    needed: bool,
    found: Result<String, &'static str>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let findings = findings();
    let missing = findings.iter().filter(|finding| finding.needed && finding.found.is_err()).count();
    let mut out = io::stdout().lock();
    if arguments.json {
        let list: Vec<_> = findings.iter().map(Finding::to_json).collect();
        writeln!(out, "{:#}", json!({ "ok": missing == 0, "findings": list }))?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
    }
    if missing > 0 {
        bail!("{missing} of the things needed are missing: what to do stands behind each");
    }
    Ok(())
}

fn findings() -> Vec<Finding> {
    let needed = |what, found| Finding { what, needed: true, found };
    let optional = |what, found| Finding { what, needed: false, found };
    let version = |program: &str, argument: &str| {
        output(program, &[argument]).and_then(|text| text.lines().next().map(str::to_string))
    };
    vec![
        needed("rust", rust()),
        needed("C++ compiler", compiler().ok_or("install g++ or clang++, or set CXX")),
        needed(
            "python3",
            version(python(), "--version").ok_or("install Python 3: libtorch comes by its pip"),
        ),
        needed(
            "pip",
            output(python(), &["-m", "pip", "--version"]).ok_or("install pip (on Debian: python3-pip)"),
        ),
        needed("libtorch", libtorch()),
        needed("libtorch loads", loads()),
        needed("disk space", disk_space()),
        optional("cache", cache()),
        optional("cores", thread::available_parallelism().map(|n| n.to_string()).map_err(|_| "not known")),
        optional("GPU", gpu()),
        optional(
            "npm",
            version("npm", "--version").ok_or("some data sets come by it; it comes with Node.js"),
        ),
        optional(
            "apt-get",
            version("apt-get", "--version").ok_or("some data sets come by it, others come from elsewhere"),
        ),
        optional(
            "cargo-deny",
            output("cargo", &["deny", "--version"])
                .ok_or("`cargo install cargo-deny` checks licences in lint"),
        ),
    ]
}

impl Finding {
    fn to_json(&self) -> serde_json::Value {
        let (found, detail) = match &self.found {
            Ok(detail) => (true, detail.as_str()),
            Err(advice) => (false, *advice),
        };
        json!({ "what": self.what, "needed": self.needed, "found": found, "detail": detail })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.found {
            Ok(detail) => write!(f, "found    {:<15} {detail}", self.what),
            Err(advice) if self.needed => write!(f, "MISSING  {:<15} {advice}", self.what),
            Err(advice) => write!(f, "-        {:<15} {advice}", self.what),
        }
    }
}

fn rust() -> Result<String, &'static str> {
    const ADVICE: &str = "`rustup update stable` brings a newer Rust";
    let text = output("rustc", &["--version"]).ok_or("install Rust with rustup")?;
    let number = |text: &str| -> Option<Vec<u32>> {
        text.split('-').next()?.split('.').map(|part| part.parse().ok()).collect()
    };
    let have = text.split_whitespace().nth(1).and_then(number).ok_or(ADVICE)?;
    if number(RUST).is_some_and(|need| have >= need) { Ok(text) } else { Err(ADVICE) }
}

fn compiler() -> Option<String> {
    let own = env::var("CXX").ok();
    own.iter().map(String::as_str).chain(["c++", "g++", "clang++"]).find_map(|program| {
        output(program, &["--version"]).and_then(|text| text.lines().next().map(str::to_string))
    })
}

fn libtorch() -> Result<String, &'static str> {
    const ADVICE: &str = "`cargo xtask setup` gets and links it";
    let folder = link_path().canonicalize().map_err(|_| ADVICE)?;
    check_folder(&folder).map_err(|_| ADVICE)?;
    Ok(format!("{VERSION} in {}", folder.display()))
}

/// Whether the dynamic linker takes it with all that it needs; Python asks it, so that nothing has to be
/// built first.
fn loads() -> Result<String, &'static str> {
    let library = if cfg!(target_os = "macos") { "libtorch_cpu.dylib" } else { "libtorch_cpu.so" };
    let program = "import ctypes, sys; ctypes.CDLL(sys.argv[1])";
    let path = link_path().join("lib").join(library);
    match output(python(), &["-c", program, &path.display().to_string()]) {
        Some(_) => Ok(library.to_string()),
        None => {
            Err("`ldd .libtorch/lib/libtorch_cpu.so` names what it lacks; `cargo xtask setup` gets it anew")
        }
    }
}

fn disk_space() -> Result<String, &'static str> {
    let free = fs4::available_space(root()).map_err(|_| "free space on this disk is not known")?;
    let gigabytes = free >> 30;
    if free >= SPACE {
        Ok(format!("{gigabytes} GiB free"))
    } else {
        Err("less than 8 GiB are free here, which libtorch and a build need: `cargo clean` frees some")
    }
}

fn cache() -> Result<String, &'static str> {
    let folder =
        selfsup_fetch::cache_dir().map_err(|_| "set SELFSUP_CACHE to a folder that can be written")?;
    let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    if fs::metadata(existing).is_ok_and(|folder| folder.permissions().readonly()) {
        return Err("it cannot be written: set SELFSUP_CACHE to a folder that can");
    }
    Ok(folder.display().to_string())
}

fn gpu() -> Result<String, &'static str> {
    if !has_gpu() {
        return Err("no NVIDIA GPU: the CPU is used");
    }
    if cfg!(target_os = "linux") && !link_path().join("lib/libtorch_cuda.so").exists() {
        return Err("there is one, but libtorch is for CPUs: `cargo xtask setup --device cuda`");
    }
    let list = output("nvidia-smi", &["-L"]).unwrap_or_default();
    Ok(list.lines().next().unwrap_or("NVIDIA").to_string())
}
