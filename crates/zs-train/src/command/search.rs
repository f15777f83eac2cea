//! `zs search`: what the policy's `<search>` would find.

use anyhow::{Result, bail};
use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest};
use zs_simulator::Bm25Engine;

use crate::cli::SearchArgs;
use crate::{console, source};

/// Prints the documents for a query.
pub(crate) fn search(args: &SearchArgs) -> Result<()> {
    let engine = match (&args.index, &args.corpus) {
        (Some(dir), _) => Bm25Engine::open(dir)?,
        (None, Some(path)) => source::corpus_engine(path)?,
        (None, None) => bail!("give `--index DIR` or `--corpus FILE`"),
    };
    let question = Question::new("", args.query.as_str(), Vec::<String>::new());
    let documents = engine.search(SearchRequest {
        query: &args.query,
        question: &question,
        quality: DocumentQuality::Useful,
        read: &[],
        k: args.k,
        seed: 0,
    })?;
    let mut out = String::new();
    for (index, document) in documents.iter().enumerate() {
        if args.json {
            out.push_str(&serde_json::to_string(document)?);
        } else {
            let score = document.score.unwrap_or_default();
            out.push_str(&format!("{}. {} ({score:.2})\n", index + 1, document.title));
            out.push_str(&format!("   {}", document.text.trim()));
        }
        out.push('\n');
    }
    console::print(&out);
    Ok(())
}
