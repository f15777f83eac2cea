//! `zs search`: what the policy's `<search>` would find, for one query or a file of them.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use zs_core::{Document, Question, SearchEngine, SearchRequest, SearchResult, with_causes};
use zs_search::{Bm25Engine, Bm25Language, ScriptCounts};

use crate::session::Session;

/// Arguments of `zs search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Index built by `zs index build`.
    #[arg(long, value_name = "DIR", required_unless_present = "corpus", conflicts_with = "corpus")]
    pub index: Option<PathBuf>,
    /// Corpus to index in memory.
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Language of the corpus, e.g. `french` or `chinese` [default: by its scripts].
    #[arg(long)]
    pub language: Option<Bm25Language>,
    /// Query.
    #[arg(long, required_unless_present = "queries", conflicts_with = "queries")]
    pub query: Option<String>,
    /// File of queries (JSON Lines, JSON, CSV, TSV or Parquet) with `query`, `question` or `text`.
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Maximum number of documents per query.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// Show only the part of each passage, of this many characters, that has the most query words.
    #[arg(long, value_name = "CHARS")]
    pub snippets: Option<usize>,
    /// Print one JSON object per query instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Queries that are searched together.
const BATCH: usize = 4096;

/// One line of output.
#[derive(Serialize)]
struct Found<'a> {
    query: &'a str,
    documents: &'a [Document],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Prints the documents for every query.
pub(crate) fn search(args: &SearchArgs, session: &Session) -> Result<()> {
    let queries = match (&args.query, &args.queries) {
        (Some(query), _) => vec![query.clone()],
        (None, Some(path)) => {
            let (queries, read) = zs_data::read_queries(path)?;
            session.note_reading(path, &read.notes);
            queries
        }
        (None, None) => bail!("give `--query TEXT` or `--queries FILE`"),
    };
    let mut engine = match (&args.index, &args.corpus) {
        (Some(dir), _) => Bm25Engine::open(dir)?.in_language(args.language)?,
        (None, Some(path)) => {
            Bm25Engine::from_corpus(path, args.language, |line| session.console.note(&line))?
        }
        (None, None) => bail!("give `--index DIR` or `--corpus FILE`"),
    };
    let mut scripts = ScriptCounts::default();
    queries.iter().zip(1..).for_each(|(query, row)| scripts.add(query, row));
    if let Some(warning) = scripts.warning("queries", engine.language()) {
        session.console.note(&warning);
    }
    if let Some(chars) = args.snippets {
        engine = engine.with_snippets(chars);
    }
    let mut num_failed = 0;
    for batch in queries.chunks(BATCH) {
        let mut out = String::new();
        for (query, result) in batch.iter().zip(search_all(&engine, batch, args.k)) {
            num_failed += usize::from(result.is_err());
            write(&mut out, query, result, args.json)?;
        }
        session.print(&out);
    }
    if num_failed > 0 {
        bail!("{num_failed} of {} queries failed", queries.len());
    }
    Ok(())
}

fn search_all(engine: &Bm25Engine, queries: &[String], k: usize) -> Vec<SearchResult> {
    let question = Question::new("", "", Vec::<String>::new());
    let requests: Vec<SearchRequest<'_>> = queries
        .iter()
        .map(|query| SearchRequest { query, ..SearchRequest::of(&question, k, 0) })
        .collect();
    engine.search_batch(&requests)
}

fn write(out: &mut String, query: &str, result: SearchResult, json: bool) -> Result<()> {
    let (documents, error) = match result {
        Ok(documents) => (documents, None),
        Err(error) => (Vec::new(), Some(with_causes(&error))),
    };
    if json {
        out.push_str(&serde_json::to_string(&Found { query, documents: &documents, error })?);
        out.push('\n');
        return Ok(());
    }
    if let Some(error) = error {
        out.push_str(&format!("{error}\n"));
    }
    for (index, document) in documents.iter().enumerate() {
        let score = document.score.unwrap_or_default();
        out.push_str(&format!("{}. {} ({score:.2})\n", index + 1, document.title));
        out.push_str(&format!("   {}\n", document.text.trim()));
    }
    Ok(())
}
