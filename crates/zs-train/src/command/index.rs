//! `zs index`: an index on disk, of a corpus of any size.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use zs_search::{
    Bm25Config, Bm25Fields, Bm25Language, BuildProgress, EmbeddingBuild, IndexBuild, IndexSummary,
    VECTORS_DIR,
};

use super::fraction::FractionProgress;
use super::{SamplingArgs, embed};
use crate::session::Session;

/// Subcommands of `zs index`.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Build a BM25 index, with vectors if a model is named; after an interruption, run it again to
    /// resume.
    Build(IndexBuildArgs),
}

/// Arguments of `zs index build`.
#[derive(Debug, Args)]
pub struct IndexBuildArgs {
    /// The corpus: JSON Lines, a JSON array, CSV, TSV (plain, gzip or zstd) or Parquet, with `title`
    /// and `text`, or with `contents`.
    #[arg(long, value_name = "FILE")]
    pub corpus: PathBuf,
    /// The directory of the index.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Weight of the words of a title, relative to those of its text.
    #[arg(long, default_value_t = 2)]
    pub title_weight: u8,
    /// Index titles and texts as separate fields instead.
    #[arg(long, conflicts_with = "title_weight")]
    pub separate_fields: bool,
    /// Language of the corpus, e.g. `french` or `chinese` [default: by the scripts of its first
    /// documents, `english` or `multilingual`].
    #[arg(long)]
    pub language: Option<Bm25Language>,
    /// Documents per shard: an interruption loses at most one shard per core, and each core holds
    /// one in memory.
    #[arg(long, default_value_t = 1 << 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub shard_size: u32,
    /// Add vectors of the documents, for the engine `dense`: a model directory as of `zs embed`. An
    /// index that is there already only gets the vectors.
    #[arg(long, value_name = "DIR")]
    pub dense: Option<PathBuf>,
    /// Data type of the model of `--dense`.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

pub(crate) fn index(command: &IndexCommand, session: &Session) -> Result<()> {
    let IndexCommand::Build(args) = command;
    let fields = match args.separate_fields {
        true => Bm25Fields::Separate,
        false => Bm25Fields::Together { title_weight: args.title_weight },
    };
    let build = IndexBuild::new(&args.corpus, &args.out)
        .with_config(Bm25Config { fields, language: args.language })
        .with_shard_size(args.shard_size as usize);
    build_index(&build, &args.corpus, &args.out, session)?;
    if let Some(model) = &args.dense {
        let build = EmbeddingBuild::new(&args.corpus, model, &args.out.join(VECTORS_DIR));
        embed::run(&build, model, args.sampling, session)?;
    }
    Ok(())
}

/// Builds an index, and says what is in it.
///
/// # Errors
///
/// As [`IndexBuild::run`].
pub(super) fn build_index(
    build: &IndexBuild,
    corpus: &Path,
    out: &Path,
    session: &Session,
) -> Result<IndexSummary> {
    let mut progress = FractionProgress::new(session.console.as_ref(), "indexing");
    let summary = build.run(&mut |it: BuildProgress| {
        let what = if it.is_merging { "merging" } else { "read" };
        let text = || format!("{} {what}", it.num_documents);
        progress.advance(it.fraction, it.is_merging, text);
    })?;
    let (num_documents, language) = (summary.num_documents, summary.language);
    let out = out.display();
    let mut message = format!("{num_documents} documents in {out}, analysed as {language}");
    if summary.num_resumed > 0 {
        message.push_str(&format!(", {} of them from before", summary.num_resumed));
    }
    progress.finish(&message);
    session.note_reading(corpus, &summary.notes);
    if let Some(warning) = summary.scripts.warning("documents", language) {
        session.console.note(&warning);
    }
    Ok(summary)
}
