//! Where a run computes.

use crate::{Device, Error, Result};

/// Finds the device of a name: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for the first that there is.
///
/// # Errors
/// When the name is unknown or the machine lacks the device.
pub fn parse_device(name: &str) -> Result<Device> {
    let device = match name {
        "auto" => Device::cuda_if_available(),
        "cpu" => Device::Cpu,
        "cuda" => Device::Cuda(0),
        "mps" => Device::Mps,
        _ => match name.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
            Some(n) => Device::Cuda(n),
            None => return Err(Error::config("device", name, "auto, cpu, cuda, cuda:N or mps")),
        },
    };
    match device {
        Device::Cuda(n) if n as i64 >= tch::Cuda::device_count() => Err(Error::config(
            "device",
            name,
            format!(
                "one of the {} CUDA devices that libtorch sees; use cpu or auto",
                tch::Cuda::device_count()
            ),
        )),
        Device::Mps if !tch::utils::has_mps() => {
            Err(Error::config("device", name, "a machine with Apple's MPS; use cpu or auto"))
        }
        _ => Ok(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_devices_that_exist() {
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        let error = parse_device("gpu").unwrap_err().to_string();
        assert_eq!(error, "device = gpu: auto, cpu, cuda, cuda:N or mps");
        let error = parse_device("cuda:99").unwrap_err().to_string();
        assert!(error.contains("use cpu or auto"), "{error}");
    }
}
