//! Files from an address, resumed where an earlier attempt stopped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;

use crate::error::{Error, Result};
use crate::progress::{Progress, say};

/// Downloads `address` to the file `to`, continuing `to` with `.part` behind its name where that exists.
///
/// # Errors
/// [`Error::Web`] when the server does not give the file, [`Error::Refused`] when it is larger than `limit` bytes.
pub(crate) fn download(address: &str, to: &Path, limit: u64) -> Result<()> {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let agent: Agent = Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(Duration::from_secs(900)))
        .http_status_as_error(false)
        .build()
        .into();
    loop {
        let before = length(part);
        match transfer(&agent, address, part, limit) {
            Ok(()) => return fs::rename(part, to).map_err(Error::io("move into place", to)),
            // A connection that brought something may bring the rest.
            Err(Error::Web { reason, .. }) if length(part) > before => {
                say(&format!("{address}: {reason}: continuing"));
            }
            Err(error) => return Err(error),
        }
    }
}

fn transfer(agent: &Agent, address: &str, part: &Path, limit: u64) -> Result<()> {
    let web = |reason: String| Error::Web { address: address.to_string(), reason };
    let have = length(part);
    // A compressed transfer would count other bytes than the file's.
    let mut request = agent.get(address).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|error| web(error.to_string()))?;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let start = match response.status().as_u16() {
        206 if header("Content-Range").is_some_and(|range| range.starts_with(&format!("bytes {have}-"))) => {
            have
        }
        200 => 0,
        // The part is not a beginning of what the server has now.
        206 | 416 if have > 0 => {
            fs::remove_file(part).map_err(Error::io("remove", part))?;
            return transfer(agent, address, part, limit);
        }
        status => return Err(web(format!("the server answered {status}"))),
    };
    let rest = header("Content-Length").and_then(|length| length.parse::<u64>().ok());
    let total = rest.map(|rest| start.saturating_add(rest));
    let too_large =
        || Error::refused(address, format!("it is larger than the {limit} bytes that are allowed"));
    if total.is_some_and(|total| total > limit) {
        return Err(too_large());
    }
    let mut options = File::options();
    let mut file =
        if start > 0 { options.append(true) } else { options.create(true).write(true).truncate(true) }
            .open(part)
            .map_err(Error::io("open", part))?;
    let name = address.rsplit('/').next().unwrap_or(address);
    let mut progress = Progress::new(name, start, total);
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut written = start;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(web(error.to_string())),
        };
        written += count as u64;
        if written > limit {
            drop(file);
            fs::remove_file(part).map_err(Error::io("remove", part))?;
            return Err(too_large());
        }
        file.write_all(&buffer[..count]).map_err(Error::io("write", part))?;
        progress.add(count as u64);
    }
    progress.finish();
    match total {
        Some(total) if written < total => Err(web(format!("it ended after {written} of {total} bytes"))),
        _ => file.sync_all().map_err(Error::io("write", part)),
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}
