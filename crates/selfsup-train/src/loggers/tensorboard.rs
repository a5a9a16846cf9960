//! TensorBoard's event files: protocol buffers in records with a checksum before and after.
//!
//! The messages are the few fields of `tensorflow/core/util/event.proto` and `summary.proto` that scalars need. A record
//! is its length (u64), the masked CRC-32C of that, the message, and the masked CRC-32C of the message, all little-endian.

use prost::Message;
use selfsup_core::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// With the status START (1) TensorBoard forgets what earlier files hold from the event's step on.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The checksum that a record holds: rotated and offset, so that a checksum of checksums is none of its own.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(&message);
    bytes.extend(masked_crc(&message).to_le_bytes());
    bytes
}

/// An event file that is being written. A run that goes on starts a new one, which TensorBoard joins to the others.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Makes a file in `run`, `events.out.tfevents.SECONDS.HOST.PROCESS`, of a run of which `done` steps are done: what
    /// earlier files hold of later steps is shown no more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(run: &Path, done: u64) -> Result<Self> {
        let now = now();
        // TensorBoard reads files in the order of their names, so a new one must come last.
        let seconds = latest(run)?.map_or(now as u64, |latest| (now as u64).max(latest + 1));
        let path = run.join(format!("{PREFIX}{seconds:010}.selfsup.{}", std::process::id()));
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        let version =
            Event { wall_time: now, file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
        let start = Event {
            wall_time: now,
            step: done as i64 + 1,
            session_log: Some(SessionLog { status: 1 }),
            ..Event::default()
        };
        file.write_all(&[record(&version), record(&start)].concat()).map_err(Error::io(&path))?;
        Ok(EventFile { path, file })
    }

    /// Writes scalars of a step.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        let value =
            |(tag, value): &(String, f64)| Value { tag: tag.clone(), simple_value: Some(*value as f32) };
        let summary = Summary { value: scalars.iter().map(value).collect() };
        let event = Event { wall_time: now(), step: step as i64, summary: Some(summary), ..Event::default() };
        self.file.write_all(&record(&event)).map_err(Error::io(&self.path))
    }
}

/// How the names of event files begin.
pub(crate) const PREFIX: &str = "events.out.tfevents.";

/// The seconds in the name of the last event file of a run.
fn latest(run: &Path) -> Result<Option<u64>> {
    let mut latest = None;
    for entry in fs::read_dir(run).map_err(Error::io(run))? {
        let name = entry.map_err(Error::io(run))?.file_name();
        let seconds =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        latest = latest.max(seconds);
    }
    Ok(latest)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_tensorboard_writes() {
        // from tensorboard.compat.proto.event_pb2 import Event; from tensorboard.compat.proto.summary_pb2 import Summary
        // from tensorboard.summary.writer.record_writer import RecordWriter; import io
        // e = Event(wall_time=1.5, step=7, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.25)]))
        // f = io.BytesIO(); RecordWriter(f).write(e.SerializeToString()); print(f.getvalue().hex())
        let value = Value { tag: "loss".to_owned(), simple_value: Some(0.25) };
        let summary = Some(Summary { value: vec![value] });
        let event = Event { wall_time: 1.5, step: 7, summary, ..Event::default() };
        let byte = |i| u8::from_str_radix(&REFERENCE[i..i + 2], 16).unwrap();
        let expected: Vec<u8> = (0..REFERENCE.len()).step_by(2).map(byte).collect();
        assert_eq!(record(&event), expected);
    }

    const REFERENCE: &str =
        "1a00000000000000129bd82d09000000000000f83f10072a0d0a0b0a046c6f7373150000803ec9d07b8d";

    #[test]
    fn a_file_starts_with_its_version() {
        let run = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(run.path(), 2).unwrap();
        file.write(3, &[("loss".to_owned(), 1.0), ("lr".to_owned(), 0.1)]).unwrap();
        let bytes = fs::read(&file.path).unwrap();
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let message = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(message).to_le_bytes());
            events.push(Event::decode(message).unwrap());
            rest = &rest[16 + length..];
        }
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].session_log.clone()), (3, Some(SessionLog { status: 1 })));
        assert_eq!(events[2].step, 3);
        assert_eq!(events[2].summary.as_ref().unwrap().value[1].tag, "lr");
    }

    #[test]
    fn a_start_is_what_tensorboard_writes() {
        // e = Event(wall_time=1.5, step=7, session_log=SessionLog(status=SessionLog.START)), as above
        let session_log = Some(SessionLog { status: 1 });
        let event = Event { wall_time: 1.5, step: 7, session_log, ..Event::default() };
        let message = [9, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 7, 0x3a, 2, 8, 1];
        assert_eq!(event.encode_to_vec(), message);
    }

    #[test]
    fn a_file_made_in_the_same_second_is_read_later() {
        let run = tempfile::tempdir().unwrap();
        let first = EventFile::create(run.path(), 0).unwrap();
        let second = EventFile::create(run.path(), 0).unwrap();
        assert!(second.path > first.path);
    }
}
