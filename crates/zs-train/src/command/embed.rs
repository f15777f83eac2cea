//! `zs embed`: vectors of a corpus, in files of NumPy.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use zs_search::{EmbeddingBuild, EmbeddingProgress, EmbeddingSummary};
use zs_trainer::source::load_encoder;

use super::SamplingArgs;
use super::fraction::FractionProgress;
use crate::session::Session;

/// Arguments of `zs embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The corpus: JSON Lines, a JSON array, CSV, TSV (plain, gzip or zstd) or Parquet, with `title`
    /// and `text`, or with `contents`.
    #[arg(long, value_name = "FILE")]
    pub corpus: PathBuf,
    /// An encoder of the BERT family (E5, BGE, MiniLM): a model directory.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The directory of the vectors.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Documents per file: an interruption loses at most one file.
    #[arg(long, default_value_t = 1 << 14, value_parser = clap::value_parser!(u32).range(1..))]
    pub shard_size: u32,
    /// Data type of the model.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

pub(crate) fn embed(args: &EmbedArgs, session: &Session) -> Result<()> {
    let build = EmbeddingBuild::new(&args.corpus, &args.model, &args.out)
        .with_shard_size(args.shard_size as usize);
    let summary = run(&build, &args.model, args.sampling, session)?;
    session.note_reading(&args.corpus, &summary.notes);
    Ok(())
}

/// Embeds a corpus with a model, and shows the progress.
pub(super) fn run(
    build: &EmbeddingBuild,
    model: &Path,
    sampling: SamplingArgs,
    session: &Session,
) -> Result<EmbeddingSummary> {
    let context = session.context()?;
    let encoder = load_encoder(model, sampling.dtype(), context.devices.first())?;
    let mut progress = FractionProgress::new(session.console.as_ref(), "embedding");
    let summary = build.run(&encoder, &mut |it: EmbeddingProgress| {
        progress.advance(it.fraction, true, || format!("{} embedded", it.num_documents));
    })?;
    let EmbeddingSummary { num_vectors, num_resumed, dimension, .. } = summary;
    let mut message = format!("{num_vectors} vectors of {dimension} numbers");
    if num_resumed > 0 {
        message.push_str(&format!(", {num_resumed} of them from before"));
    }
    progress.finish(&message);
    Ok(summary)
}
