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
/// [`Error::Web`] when the server does not give the file, [`Error::Refused`] when it is larger than `limit`
/// bytes.
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    /// What a server answers to a request, given where its Range header begins.
    pub(crate) type Answer = Box<dyn Fn(Option<u64>) -> Vec<u8> + Send>;

    /// A server on the loopback that gives one answer to each request, in turn.
    pub(crate) fn serve(answers: Vec<Answer>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file.bin", listener.local_addr().unwrap());
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut from = None;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap().to_ascii_lowercase();
                    if let Some(range) = line.strip_prefix("range: bytes=") {
                        from = range.trim_end_matches('-').parse().ok();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                stream.write_all(&answer(from)).unwrap();
            }
        });
        address
    }

    fn content() -> Vec<u8> {
        (0..100_000u32).map(|i| (i % 251) as u8).collect()
    }

    pub(crate) fn whole(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn rest(body: &[u8], from: u64) -> Vec<u8> {
        let part = &body[from as usize..];
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\
             Connection: close\r\n\r\n",
            part.len(),
            body.len() - 1,
            body.len()
        );
        [head.as_bytes(), part].concat()
    }

    #[test]
    fn a_transfer_that_breaks_off_is_continued_where_it_stopped() {
        let address = serve(vec![
            Box::new(|from| {
                assert_eq!(from, None);
                let mut answer = whole(&content());
                answer.truncate(answer.len() - 40_000);
                answer
            }),
            Box::new(|from| rest(&content(), from.expect("the second request asks for the rest"))),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file.bin");
        download(&address, &to, 1 << 20).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content());
        assert!(!folder.path().join("file.bin.part").exists());
    }

    #[test]
    fn a_server_that_knows_no_ranges_is_read_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file.bin");
        fs::write(folder.path().join("file.bin.part"), b"old bytes").unwrap();
        download(&serve(vec![Box::new(|_| whole(&content()))]), &to, 1 << 20).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content());
    }

    #[test]
    fn a_part_longer_than_the_file_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file.bin");
        fs::write(folder.path().join("file.bin.part"), vec![0; 200_000]).unwrap();
        let refusal = b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let address = serve(vec![Box::new(|_| refusal.to_vec()), Box::new(|_| whole(&content()))]);
        download(&address, &to, 1 << 20).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_whether_it_says_its_size_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file.bin");
        let unsaid = || [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", content().as_slice()].concat();
        for answer in [whole(&content()), unsaid()] {
            let address = serve(vec![Box::new(move |_| answer.clone())]);
            let error = download(&address, &to, 5_000).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(error.to_string().contains("5000 bytes"), "{error}");
            assert!(!to.exists() && length(&folder.path().join("file.bin.part")) <= 5_000);
        }
    }

    #[test]
    fn a_missing_file_names_its_address() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let address = serve(vec![Box::new(|_| answer.to_vec())]);
        let folder = tempfile::tempdir().unwrap();
        let error = download(&address, &folder.path().join("x"), 10).unwrap_err();
        assert_eq!(error.to_string(), format!("{address}: the server answered 404"));
    }
}
