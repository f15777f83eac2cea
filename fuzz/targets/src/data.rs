//! Files of questions, documents and episodes. The first byte of an input chooses the extension.

use std::path::PathBuf;

use zs_data::passages::{PassageSettings, build_passages};
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

/// Extensions of files of text by the first byte of an input.
const TEXT_EXTENSIONS: [(u8, &str); 4] =
    [(b't', "txt"), (b'm', "md"), (b'h', "html"), (b'p', "pdf")];

pub(crate) fn text_files(scratch: &Scratch, bytes: &[u8]) {
    let first = bytes.first().copied().unwrap_or(b't');
    let listed = TEXT_EXTENSIONS.iter().find(|(it, _)| *it == first);
    let (_, extension) = listed.unwrap_or(&TEXT_EXTENSIONS[usize::from(first) % 4]);
    let file = scratch.file(&format!("text.{extension}"), bytes.get(1..).unwrap_or_default());
    let Ok(out) = tempfile::tempdir_in(scratch.folder()) else { return };
    let _ = build_passages(&[file], PassageSettings { max_words: 9 }, out.path(), &mut |_| {});
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
