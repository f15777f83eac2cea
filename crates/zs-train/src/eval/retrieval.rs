//! `zs eval retrieval`: what a search with the question itself finds.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use zs_core::SearchRequest;
use zs_eval::RetrievalReport;

use crate::command::EngineArgs;
use crate::report_table::{interval, table};
use crate::session::Session;

/// Searches that go to the engine together.
const BATCH: usize = 256;

/// Arguments of `zs eval retrieval`.
#[derive(Debug, Args)]
pub struct RetrievalArgs {
    /// The engine.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Questions with golden titles (supporting facts) or answers.
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Documents per search.
    #[arg(long, default_value_t = 5)]
    pub k: usize,
    /// Maximum number of questions, from the start of the file.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Searches with every question and prints the recall.
pub(super) fn retrieval(args: &RetrievalArgs, session: &Session) -> Result<()> {
    if args.k == 0 {
        bail!("`--k 0` finds nothing");
    }
    let mut questions = session.read_questions(&args.questions)?;
    questions.truncate(args.limit.unwrap_or(usize::MAX));
    let engine = args.engine.open(None, &session.context()?)?;
    let progress = session.console.progress("searching", questions.len());
    let mut found = Vec::with_capacity(questions.len());
    for batch in questions.chunks(BATCH) {
        let requests: Vec<SearchRequest<'_>> =
            batch.iter().map(|it| SearchRequest::of(it, args.k, args.seed)).collect();
        for result in engine.search_batch(&requests) {
            found.push(result?);
        }
        progress.advance(batch.len(), "");
    }
    progress.finish("done");
    let report = RetrievalReport::new(&questions, &found, args.k, args.seed);
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["engine"] = engine.name().into();
        // One number to look at: recall of titles where there are some, else of answers.
        let key = if report.title_recall.is_some() { "title_recall" } else { "answer" };
        json["recall_of"] = key.into();
        json["recall"] = json[key]["mean"].clone();
        session.print(&format!("{json:#}\n"));
        return Ok(());
    }
    let mut rows = table(["recall", "n", &format!("@{}", args.k)]);
    let estimates = [
        ("golden titles found", report.num_with_titles, report.title_recall),
        ("any golden title found", report.num_with_titles, report.any_title),
        ("all golden titles found", report.num_with_titles, report.all_titles),
        ("an answer stands in a document", report.n, Some(report.answer)),
    ];
    for (name, n, estimate) in estimates {
        if let Some(estimate) = estimate {
            rows.add_row([name.to_owned(), n.to_string(), interval(estimate)]);
        }
    }
    let title = format!("engine {}, {}", engine.name(), args.questions.display());
    session.print(&format!("{title}\n{rows}\nintervals: 95 %, bootstrap over questions\n"));
    Ok(())
}
