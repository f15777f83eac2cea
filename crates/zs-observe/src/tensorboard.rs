//! Event files that `TensorBoard` reads: scalars in protocol buffers, framed as TFRecord.
//!
//! A frame is the length of the record, the checksum of the length, the record and its checksum,
//! numbers in little-endian order. Checksums are CRC-32C, masked:
//!
//! ```text
//! masked(crc) = rotate_right(crc, 15) + 0xa282ead8
//! ```
//!
//! # References
//!
//! - `TensorFlow`, `core/lib/io/record_writer.h`, `core/util/event.proto`, `core/framework/summary.proto`

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use prost::Message;
use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, RegistryError, Settings};
use zs_data::FileError;
use zs_trainer::files::RunDir;
use zs_trainer::{Callback, Flow, Metrics, StepReport, TrackerRegistry, TrackerSettings};

/// The folder of a run that `tensorboard --logdir` is given.
const FOLDER: &str = "tensorboard";

/// Tracker that writes event files into the run directory.
#[derive(Debug)]
pub struct TensorBoard {
    run: RunDir,
    events: Option<EventWriter>,
}

impl TensorBoard {
    /// Creates the tracker of a run.
    #[must_use]
    pub fn new(run: &RunDir) -> Self {
        Self { run: run.clone(), events: None }
    }
}

/// Settings of `tensorboard`, which has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorBoardSettings {}

impl Settings for TensorBoardSettings {
    const KIND: &'static str = "tensorboard";
}

impl TrackerSettings for TensorBoardSettings {
    fn track(self, run: &RunDir) -> Result<Box<dyn Callback>, BoxedError> {
        Ok(Box::new(TensorBoard::new(run)))
    }
}

/// Registers the trackers of this crate: `tensorboard`.
///
/// ```
/// let mut components = zs_trainer::Components::built_in();
/// zs_observe::register_trackers(&mut components.trackers)?;
/// assert!(components.trackers.kinds().eq(["tensorboard"]));
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_trackers(registry: &mut TrackerRegistry) -> Result<(), RegistryError> {
    registry.register(|it: TensorBoardSettings, run, _| it.track(run))
}

impl Callback for TensorBoard {
    fn name(&self) -> &'static str {
        "tensorboard"
    }

    fn begin(&mut self, history: &[Metrics]) -> Result<(), BoxedError> {
        let last = history.iter().filter_map(Metrics::step).max().unwrap_or(0);
        self.events = Some(EventWriter::begin(&self.run, last)?);
        Ok(())
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow, BoxedError> {
        if let Some(events) = &mut self.events {
            events.step(report.step, report.metrics)?;
        }
        Ok(Flow::Continue)
    }
}

/// Event file, which grows by one event per step.
#[derive(Debug)]
struct EventWriter {
    path: PathBuf,
    file: BufWriter<fs::File>,
}

impl EventWriter {
    /// Begins a file in `tensorboard/`, whose events follow the first `done` steps; what earlier
    /// files hold beyond those is no longer shown.
    fn begin(run: &RunDir, done: usize) -> Result<Self, FileError> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder).map_err(FileError::io(&folder, "create the directory"))?;
        let (seconds, process) = (now() as u64, std::process::id());
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.zs.{process}"));
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(FileError::io(&path, "create"))?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.push(0, What::FileVersion("brain.Event:2".to_owned()))?;
        let session = SessionLog { status: SESSION_START };
        writer.push(done as i64 + 1, What::SessionLog(session))?;
        Ok(writer)
    }

    /// Writes the numbers of a step.
    fn step(&mut self, step: usize, metrics: &Metrics) -> Result<(), FileError> {
        let value =
            |(tag, value): (&str, f64)| Value { tag: tag.to_owned(), simple_value: value as f32 };
        let numbers = metrics.numbers().filter(|(key, _)| *key != "step");
        let summary = Summary { value: numbers.map(value).collect() };
        self.push(step as i64, What::Summary(summary))
    }

    fn push(&mut self, step: i64, what: What) -> Result<(), FileError> {
        let event = Event { wall_time: now(), step, what: Some(what) };
        self.file
            .write_all(&frame(&event.encode_to_vec()))
            .and_then(|()| self.file.flush())
            .map_err(FileError::io(&self.path, "write"))
    }
}

/// A record as it stands in the file.
fn frame(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), record, &checksum(record)].concat()
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

const SESSION_START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
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
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file, their checksums checked.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (length_crc, rest) = rest.split_at(4);
            let (record, rest) =
                rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (record_crc, rest) = rest.split_at(4);
            for (bytes, crc) in [(length, length_crc), (record, record_crc)] {
                let masked = u32::from_le_bytes(crc.try_into().unwrap());
                assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), crc32c::crc32c(bytes));
            }
            records.push(record.to_vec());
            bytes = rest;
        }
        records
    }

    #[test]
    fn frames_are_those_of_tensorflow() {
        // As `tensorboard.summary.writer.record_writer` of TensorBoard 2.21 writes it.
        let version = b"\x1a\x0dbrain.Event:2";
        let framed = frame(version);
        let expected: [&[u8]; 4] =
            [&15_u64.to_le_bytes(), &[0x6d, 0x53, 0x2b, 0x09], version, &[0xfc, 0x98, 0x51, 0x29]];
        assert_eq!(framed, expected.concat());
        assert_eq!(records(&framed), [version]);
        // RFC 3720, B.4: the checksum of 32 zero bytes is 0x8a9136aa.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(0x8a91_36aa), 0x6d55_1522_u32.wrapping_add(0xa282_ead8));
    }

    #[test]
    fn the_numbers_of_each_step_are_written() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        let mut writer = EventWriter::begin(&run, 4).unwrap();
        let mut metrics = Metrics::of_step(5);
        metrics.set("reward/mean", 0.25);
        metrics.set_word("phase", "no number");
        writer.step(5, &metrics).unwrap();
        let bytes = fs::read(&writer.path).unwrap();
        let events: Vec<Event> =
            records(&bytes).iter().map(|it| Event::decode(&it[..]).unwrap()).collect();
        let what: Vec<_> = events.iter().map(|it| (it.step, it.what.clone().unwrap())).collect();
        let value = Value { tag: "reward/mean".to_owned(), simple_value: 0.25 };
        assert_eq!(
            what,
            [
                (0, What::FileVersion("brain.Event:2".to_owned())),
                (5, What::SessionLog(SessionLog { status: SESSION_START })),
                (5, What::Summary(Summary { value: vec![value] })),
            ]
        );
        assert!(events.iter().all(|it| it.wall_time > 1.7e9));
    }
}
