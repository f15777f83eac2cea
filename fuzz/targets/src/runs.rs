//! Files of a run directory.

use std::fs;
use std::sync::Arc;

use zs_data::{RowReader, digest};
use zs_rl::read_records;
use zs_search::{Ledger, ReplayEngine};
use zs_trainer::config::{PretrainConfig, SftConfig, TrainConfig, parse};
use zs_trainer::testing::{check_checkpoint, read_audit_record};
use zs_trainer::{Components, Metrics, RecordedGroup, read_rollouts};

use crate::Scratch;

pub(crate) fn run_file(_: &Scratch, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let components = Components::built_in();
    let _ = parse::<TrainConfig>(&text, "run.toml", &components);
    let _ = parse::<SftConfig>(&text, "run.toml", &components);
    let _ = parse::<PretrainConfig>(&text, "run.toml", &components);
}

pub(crate) fn run_records(scratch: &Scratch, bytes: &[u8]) {
    read_records::<RecordedGroup>(bytes, zs_data::MAX_LINE_BYTES).for_each(drop);
    let path = scratch.file("run/rollouts/step-000001.jsonl.zst", bytes);
    let run = path.ancestors().nth(2).expect("a folder of a folder");
    if let Ok(groups) = read_rollouts(run, 1) {
        groups.for_each(drop);
    }
    let path = scratch.file("turns.jsonl", bytes);
    let _ = ReplayEngine::read(&path);
}

pub(crate) fn metrics(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.file("metrics.jsonl", bytes);
    let reader = RowReader::new("step").with_finished_lines();
    let _ = reader.open::<Metrics>(&path).map(|it| it.collect_valid());
    let _ = zs_data::count_whole_lines(&path);
    let _ = zs_data::read_whole_rows::<Metrics>(&path);
}

/// The record as it is, and with hashes that follow.
pub(crate) fn audit_record(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.file("audited/audit.jsonl", bytes);
    let run = path.parent().expect("a file lies in a folder");
    let _ = read_audit_record(run);
    let text = String::from_utf8_lossy(bytes);
    let (mut previous, mut sealed) = (String::new(), String::new());
    for line in text.lines() {
        let line = line.rsplit_once(",\"hash\":\"").map_or(line, |it| it.0);
        let hash = digest::of_bytes([&previous, line].concat().as_bytes());
        sealed.push_str(&format!("{line},\"hash\":\"{hash}\"}}\n"));
        previous = hash;
    }
    scratch.file("audited/audit.jsonl", sealed.as_bytes());
    let _ = read_audit_record(run);
    let summary = scratch.file("audited/summary.json", b"{}");
    let _ = read_audit_record(run);
    fs::remove_file(summary).expect("a file that was just written");
}

pub(crate) fn manifest(scratch: &Scratch, bytes: &[u8]) {
    scratch.file("saved/checkpoints/step-000003/state.json", b"{}");
    let path = scratch.file("saved/checkpoints/step-000003/manifest.json", bytes);
    let run = path.ancestors().nth(3).expect("a folder of folders");
    let _ = check_checkpoint(run, 3);
}

pub(crate) fn spending_journal(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.file("spent.jsonl", bytes);
    let ledger = Arc::new(Ledger::default());
    if ledger.keep_journal(&path).is_ok() {
        let _ = (ledger.dollars_paid(), ledger.totals());
    }
}
