//! Files of questions, documents and episodes. The first byte of an input chooses the extension.

use std::path::PathBuf;

use zs_data::{RowContext, open_documents, open_episode_rows, open_questions, recorded_transcript};

use crate::Scratch;

/// Extensions by the first byte of an input.
const EXTENSIONS: [(u8, &str); 7] = [
    (b'l', "jsonl"),
    (b'a', "json"),
    (b'c', "csv"),
    (b't', "tsv"),
    (b'p', "parquet"),
    (b'g', "jsonl.gz"),
    (b'z', "jsonl.zst"),
];

fn file(scratch: &Scratch, bytes: &[u8]) -> PathBuf {
    let first = bytes.first().copied().unwrap_or(b'l');
    let listed = EXTENSIONS.iter().find(|(it, _)| *it == first);
    let (_, extension) = listed.unwrap_or(&EXTENSIONS[usize::from(first) % EXTENSIONS.len()]);
    scratch.file(&format!("rows.{extension}"), bytes.get(1..).unwrap_or_default())
}

pub(crate) fn questions(scratch: &Scratch, bytes: &[u8]) {
    let Ok(rows) = open_questions(&file(scratch, bytes)) else { return };
    let _ = rows.collect_valid();
}

pub(crate) fn documents(scratch: &Scratch, bytes: &[u8]) {
    let Ok(rows) = open_documents(&file(scratch, bytes)) else { return };
    let _ = rows.collect_valid();
}

pub(crate) fn episodes(scratch: &Scratch, bytes: &[u8]) {
    let path = file(scratch, bytes);
    if let Ok((stem, rows)) = open_episode_rows(&path) {
        let read = move |row, context: &mut RowContext<'_>| {
            recorded_transcript(row, context, &stem).map(Some)
        };
        let _ = rows.try_filter_map(read).collect_valid();
    }
    let _ = zs_trainer::trajectories::open_source_episodes(&path).map(|it| it.collect_valid());
    let _ = zs_data::open_episodes(&path).map(|it| it.collect_valid());
    let _ = zs_data::read_queries(&path);
    let _ = zs_simulator::collect::read_turns(&path);
}
