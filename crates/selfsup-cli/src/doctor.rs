//! `selfsup doctor`: what this machine offers, and what to do about what is missing.

use crate::allocator;
use anyhow::{Context, Result};
use selfsup::core::{Device, Kind, Tensor, tch};
use selfsup::fetch;
use serde::Serialize;
use std::io::{self, Write};

/// What was found.
#[derive(Debug, Serialize)]
struct Findings {
    selfsup: &'static str,
    libtorch: String,
    cpu_threads: i32,
    openmp: bool,
    mkldnn: bool,
    cuda_devices: i64,
    mps: bool,
    /// Whether libtorch multiplies matrices by AVX-512; none where there is no such choice.
    avx512_in_use: Option<bool>,
    /// Whether libtorch's memory comes from the program's allocator.
    allocator_in_use: bool,
    cache: Option<String>,
    /// The known data sets that are at hand.
    data: Vec<&'static str>,
}

impl Findings {
    fn collect() -> Self {
        let probe = Tensor::zeros([1 << 20], (Kind::Float, Device::Cpu));
        let at_hand =
            fetch::sets().iter().filter(|set| fetch::cached(set).is_ok_and(|folder| folder.is_some()));
        Findings {
            selfsup: env!("CARGO_PKG_VERSION"),
            libtorch: LIBTORCH.to_owned(),
            cpu_threads: tch::get_num_threads(),
            openmp: tch::utils::has_openmp(),
            mkldnn: tch::utils::has_mkldnn(),
            cuda_devices: tch::Cuda::device_count(),
            mps: tch::utils::has_mps(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            avx512_in_use: Some(selfsup::core::mkl::uses_avx512()),
            #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
            avx512_in_use: None,
            allocator_in_use: allocator::owns(probe.data_ptr()),
            cache: fetch::cache_dir().ok().map(|path| path.display().to_string()),
            data: at_hand.map(|set| set.name).collect(),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "selfsup    {}", self.selfsup)?;
        writeln!(out, "libtorch   {}, {} threads", self.libtorch, self.cpu_threads)?;
        match (self.cuda_devices, self.mps) {
            (0, false) => writeln!(out, "device     cpu (no GPU that this libtorch can use)"),
            (0, true) => writeln!(out, "device     cpu, mps"),
            (n, _) => writeln!(out, "device     cpu, {n} CUDA"),
        }?;
        if let Some(avx512) = self.avx512_in_use {
            writeln!(out, "products   by {}", if avx512 { "AVX-512" } else { "AVX2" })?;
        }
        if self.allocator_in_use {
            writeln!(out, "allocator  jemalloc, for libtorch too")?;
        } else {
            writeln!(
                out,
                "allocator  the system's: training on the CPU takes up to twice the time it could"
            )?;
        }
        match &self.cache {
            Some(cache) => writeln!(out, "cache      {cache}"),
            None => {
                writeln!(out, "cache      none: set SELFSUP_CACHE (or HOME) to a folder that can be written")
            }
        }?;
        match self.data.as_slice() {
            [] => writeln!(out, "data       none fetched yet; see selfsup list data, then selfsup data NAME"),
            names => writeln!(out, "data       {}", names.join(", ")),
        }
    }
}

/// The version that tch 0.24 is built for; the linker has seen to it that it is this one.
pub const LIBTORCH: &str = "2.11.0";

/// Runs the command.
///
/// # Errors
/// When the findings cannot be printed.
pub fn run(json: bool) -> Result<()> {
    let findings = Findings::collect();
    let mut out = io::stdout().lock();
    let printed = if json {
        let text = serde_json::to_string_pretty(&findings)?;
        writeln!(out, "{text}")
    } else {
        findings.print(&mut out)
    };
    printed.context("the standard output")
}
