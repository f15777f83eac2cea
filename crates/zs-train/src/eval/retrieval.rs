//! `zs eval retrieval`: what a search with the question itself finds, with one engine or several.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use serde_json::{Value, json};
use zs_core::{Document, Question, SearchEngine, SearchRequest};
use zs_eval::{PairedTest, RetrievalMetric, RetrievalReport, retrieval_test};
use zs_search::{Latency, Ledger, MeteredEngine};

use crate::command::EngineArgs;
use crate::report_table::{interval, table};
use crate::session::Session;

/// Arguments of `zs eval retrieval`.
#[derive(Debug, Args)]
pub struct RetrievalArgs {
    /// BM25 over this corpus; like the other engines, may be repeated. All engines are compared with the
    /// first one in the order of corpora, indexes, simulators and files.
    #[arg(long, value_name = "FILE")]
    pub corpus: Vec<PathBuf>,
    /// BM25 over an index built by `zs index build`.
    #[arg(long, value_name = "DIR")]
    pub index: Vec<PathBuf>,
    /// A simulation LLM that writes the documents.
    #[arg(long, value_name = "DIR")]
    pub simulator: Vec<PathBuf>,
    /// The engine that this file describes, as `engine = { … }` of a run file.
    #[arg(long, value_name = "FILE")]
    pub engine: Vec<PathBuf>,
    /// Questions with golden titles (supporting facts) or answers.
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Documents per search.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Number of searches per batch; 1 measures the latency of single searches.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Maximum number of questions, from the start of the file.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Seed of bootstrap and permutations.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl RetrievalArgs {
    /// Every engine with the name of its corpus, index, model or file.
    fn engines(&self) -> impl Iterator<Item = (&PathBuf, EngineArgs)> {
        let Self { corpus, index, simulator, engine, .. } = self;
        let none = EngineArgs::default;
        let corpora =
            corpus.iter().map(move |it| (it, EngineArgs { corpus: Some(it.clone()), ..none() }));
        let indexes =
            index.iter().map(move |it| (it, EngineArgs { index: Some(it.clone()), ..none() }));
        let simulators = simulator
            .iter()
            .map(move |it| (it, EngineArgs { simulator: Some(it.clone()), ..none() }));
        let files =
            engine.iter().map(move |it| (it, EngineArgs { engine: Some(it.clone()), ..none() }));
        corpora.chain(indexes).chain(simulators).chain(files)
    }
}

/// Documents that one engine found, and its speed.
struct Searched {
    source: String,
    engine: String,
    found: Vec<Vec<Document>>,
    report: RetrievalReport,
    time: Time,
}

/// Speed of an engine; a search waits for its whole batch.
#[derive(Serialize)]
struct Time {
    batch: u32,
    searches_per_s: f64,
    #[serde(flatten)]
    latency: Latency,
}

/// Searches with every question and prints the metrics.
pub(super) fn retrieval(args: &RetrievalArgs, session: &Session) -> Result<()> {
    let mut questions = session.read_questions(&args.questions)?;
    questions.truncate(args.limit.unwrap_or(usize::MAX));
    let mut searched = Vec::new();
    for (source, engine) in args.engines() {
        let engine = engine.open(None, &session.context()?)?;
        searched.push(search(source, engine, &questions, args, session)?);
    }
    let [first, others @ ..] = &searched[..] else {
        bail!(
            "name a search engine: `--corpus FILE`, `--index DIR`, `--simulator DIR` or `--engine FILE`"
        )
    };
    let tests: Vec<(&Searched, RetrievalMetric, PairedTest)> = others
        .iter()
        .flat_map(|other| RetrievalMetric::ALL.map(|metric| (other, metric)))
        .filter_map(|(other, metric)| {
            let test = retrieval_test(&questions, &first.found, &other.found, metric, args.seed)?;
            Some((other, metric, test))
        })
        .collect();
    if args.json {
        let json = match others.is_empty() {
            true => as_json(first)?,
            false => {
                let engines = searched.iter().map(as_json).collect::<Result<Vec<_>>>()?;
                let pair = |(other, metric, test): &(&Searched, RetrievalMetric, PairedTest)| {
                    let (before, after) = (&first.source, &other.source);
                    json!({ "before": before, "after": after, "metric": metric, "test": test })
                };
                let paired: Vec<Value> = tests.iter().map(pair).collect();
                json!({ "engines": engines, "paired": paired })
            }
        };
        session.print(&format!("{json:#}\n"));
        return Ok(());
    }
    session.print(&format!("{}\n{}\n", args.questions.display(), metrics(&searched, args)));
    if !tests.is_empty() {
        let title = format!("change from {}", first.source);
        let mut rows = table([&title, "n", "metric", "difference", "permutation p", "McNemar p"]);
        for (other, metric, test) in tests {
            rows.add_row([
                other.source.clone(),
                test.n.to_string(),
                name(metric, args.k),
                interval(test.difference),
                format!("{:.4}", test.permutation_p),
                test.mcnemar.map_or_else(|| "–".to_owned(), |it| format!("{:.4}", it.p)),
            ]);
        }
        session.print(&format!("{rows}\n"));
    }
    session.print("intervals: 95 %, bootstrap over questions\n");
    Ok(())
}

fn search(
    source: &Path,
    engine: Arc<dyn SearchEngine>,
    questions: &[Question],
    args: &RetrievalArgs,
    session: &Session,
) -> Result<Searched> {
    let source = source.display().to_string();
    let ledger = Arc::new(Ledger::default());
    let engine = MeteredEngine::new(engine, Arc::clone(&ledger));
    let progress = session.console.progress(&format!("searching {source}"), questions.len());
    let mut found = Vec::with_capacity(questions.len());
    let start = Instant::now();
    for batch in questions.chunks(args.batch as usize) {
        let requests: Vec<SearchRequest<'_>> =
            batch.iter().map(|it| SearchRequest::of(it, args.k as usize, args.seed)).collect();
        for result in engine.search_batch(&requests) {
            found.push(result?);
        }
        progress.advance(batch.len(), "");
    }
    let searches_per_s = questions.len() as f64 / start.elapsed().as_secs_f64();
    progress.finish("done");
    let latency = ledger.totals().first().map_or_else(Latency::default, |it| it.search_latency);
    let report = RetrievalReport::new(questions, &found, args.k as usize, args.seed);
    let time = Time { batch: args.batch, searches_per_s, latency };
    Ok(Searched { source, engine: engine.name().to_owned(), found, report, time })
}

/// Metrics in rows, engines in columns.
fn metrics(searched: &[Searched], args: &RetrievalArgs) -> Table {
    let mut rows = table([]);
    let header = |it: &Searched| format!("{} {}", it.engine, it.source);
    let names = ["metric", "n"].map(str::to_owned).into_iter();
    rows.set_header(names.chain(searched.iter().map(header)));
    for metric in RetrievalMetric::ALL {
        let estimate = |it: &RetrievalReport| match metric {
            RetrievalMetric::TitleRecall => it.title_recall,
            RetrievalMetric::AnyTitle => it.any_title,
            RetrievalMetric::AllTitles => it.all_titles,
            RetrievalMetric::ReciprocalRank => it.reciprocal_rank,
            RetrievalMetric::Ndcg => it.ndcg,
            RetrievalMetric::Answer => Some(it.answer),
        };
        let report = &searched[0].report;
        let n = if metric == RetrievalMetric::Answer { report.n } else { report.num_with_titles };
        let values: Option<Vec<String>> =
            searched.iter().map(|it| estimate(&it.report).map(interval)).collect();
        if let Some(values) = values {
            rows.add_row([name(metric, args.k), n.to_string()].into_iter().chain(values));
        }
    }
    let n = searched[0].report.n.to_string();
    let time = |name: String, of: fn(&Time) -> String| {
        let values = searched.iter().map(|it| of(&it.time));
        [name, n.clone()].into_iter().chain(values).collect::<Vec<_>>()
    };
    rows.add_row(time("searches a second".to_owned(), |it| format!("{:.1}", it.searches_per_s)));
    let latency = format!("p50 / p99 ms, batches of {}", args.batch);
    rows.add_row(time(latency, |it| {
        format!("{:.1} / {:.1}", it.latency.p50_ms, it.latency.p99_ms)
    }));
    rows
}

fn name(metric: RetrievalMetric, k: u32) -> String {
    match metric {
        RetrievalMetric::TitleRecall => format!("golden titles found @{k}"),
        RetrievalMetric::AnyTitle => format!("any golden title found @{k}"),
        RetrievalMetric::AllTitles => format!("all golden titles found @{k}"),
        RetrievalMetric::ReciprocalRank => format!("MRR @{k}"),
        RetrievalMetric::Ndcg => format!("nDCG @{}", k.min(10)),
        RetrievalMetric::Answer => format!("a document contains an answer @{k}"),
    }
}

fn as_json(searched: &Searched) -> Result<Value> {
    let Searched { source, engine, report, time, .. } = searched;
    let mut json = serde_json::to_value(report)?;
    json["engine"] = engine.as_str().into();
    json["source"] = source.as_str().into();
    json["time"] = serde_json::to_value(time)?;
    // One number to look at: recall of titles where there are some, else of answers.
    let key = if report.title_recall.is_some() { "title_recall" } else { "answer" };
    json["recall_of"] = key.into();
    json["recall"] = json[key]["mean"].clone();
    Ok(json)
}
