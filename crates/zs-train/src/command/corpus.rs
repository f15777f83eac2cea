//! `zs corpus`: users' documents as passages with an index.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use zs_data::passages::{
    PassageEvent, PassageManifest, PassageSettings, SkipReason, build_passages,
};
use zs_search::{Bm25Config, Bm25Language, IndexBuild};
use zs_trainer::files::RunDir;

use super::index::build_index;
use crate::session::Session;

/// Lines about files of one reason that are shown; `skipped.jsonl` has all.
const MAX_LINES: usize = 10;

/// Subcommands of `zs corpus`.
#[derive(Debug, Subcommand)]
pub enum CorpusCommand {
    /// Cut text, Markdown, HTML, PDF files and corpora into passages, and index them.
    Build(CorpusBuildArgs),
}

/// Arguments of `zs corpus build`.
#[derive(Debug, Args)]
pub struct CorpusBuildArgs {
    /// Folders and files, merged in this order: .txt, .md, .html, .pdf, and corpora as
    /// `zs index build` takes them.
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Directory to create, with `passages.jsonl`, `skipped.jsonl`, `index` and `manifest.json`.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Maximum number of words of a passage.
    #[arg(long, value_name = "WORDS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_words: u32,
    /// Language of the index, e.g. `french` or `chinese` [default: by the scripts of the passages].
    #[arg(long)]
    pub language: Option<Bm25Language>,
}

/// `manifest.json`, written last.
#[derive(Serialize)]
struct CorpusManifest<'a> {
    #[serde(flatten)]
    passages: &'a PassageManifest,
    language: Bm25Language,
}

/// Builds passages and their index, and prints what is in them.
///
/// # Errors
///
/// Fails where the directory exists, as [`build_passages`] and as [`IndexBuild::run`].
pub(crate) fn corpus(command: &CorpusCommand, session: &Session) -> Result<()> {
    let CorpusCommand::Build(args) = command;
    let dir = RunDir::create(&args.out)?;
    let settings = PassageSettings { max_words: args.max_words as usize };
    let mut progress = None;
    let mut shown: BTreeMap<SkipReason, usize> = BTreeMap::new();
    let passages = build_passages(&args.inputs, settings, &args.out, &mut |event| match event {
        PassageEvent::Listed { files } => {
            progress = Some(session.console.progress("reading", files));
        }
        PassageEvent::Skipped { reason, message } => {
            let count = shown.entry(reason).or_default();
            *count += 1;
            // Duplicates are no fault of a file.
            if *count <= MAX_LINES && reason != SkipReason::Duplicate {
                session.console.note(message);
            }
        }
        PassageEvent::Noted { path, notes } => session.note_reading(path, notes),
        PassageEvent::Read => {
            if let Some(progress) = &progress {
                progress.advance(1, "");
            }
        }
    })?;
    if let Some(progress) = progress {
        progress.finish(&format!("{} passages", passages.passages));
    }
    let corpus = dir.join("passages.jsonl");
    let build = IndexBuild::new(&corpus, &dir.join("index"))
        .with_config(Bm25Config { language: args.language, ..Bm25Config::default() });
    let language = build_index(&build, &corpus, &dir.join("index"), session)?.language;
    dir.write_text(
        "manifest.json",
        &format!("{:#}\n", serde_json::json!(CorpusManifest { passages: &passages, language })),
    )?;
    session.print(&format!("{}\n", summary(&passages)));
    Ok(())
}

fn summary(passages: &PassageManifest) -> String {
    let PassageManifest { files, passages: num_passages, words, .. } = passages;
    let mut lines =
        vec![format!("{num_passages} passages of {words} words from {} files", files.len())];
    for it in passages.inputs.iter().filter(|it| it.passages == 0) {
        lines.push(format!("{}: nothing in it was kept", it.path.display()));
    }
    for (reason, count) in &passages.skipped {
        lines.push(format!("  skipped, {reason}: {count}"));
    }
    lines.join("\n")
}
