//! BM25: building an index on disk, one query after the other, batches; in turn with the other program.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use zs_core::{Document, DocumentQuality, SearchEngine, SearchRequest, SearchResult};
use zs_eval::RetrievalReport;
use zs_search::{Bm25Engine, IndexBuild};

use crate::peer::Peer;
use crate::rates::Rates;
use crate::{Result, Workload};

/// Queries that are asked one after the other.
const SINGLE: usize = 300;

/// Queries that are asked in batches of all questions, at least.
const BATCH: usize = 20_000;

/// Searches of one program.
#[derive(Default)]
struct Speed {
    single: Rates,
    batch: Rates,
}

pub(crate) fn bench(
    workload: &Workload,
    python: Option<&Path>,
    k: usize,
    tries: usize,
    folder: &Path,
) -> Result<Value> {
    let Workload { name, passages, questions, .. } = workload;
    println!("{name}: {} passages, {} queries", passages.len(), questions.len());
    let index = folder.join(format!("{name}.index"));
    let start = Instant::now();
    IndexBuild::new(&workload.path, &index).run(&mut |_| {})?;
    let built = passages.len() as f64 / start.elapsed().as_secs_f64();
    let engine = Bm25Engine::open(&index)?;
    let requests = requests(workload, k);
    // Nothing is known yet about any word.
    let start = Instant::now();
    let found = documents(engine.search_batch(&requests))?;
    let first = questions.len() as f64 / start.elapsed().as_secs_f64();

    let mut peer = python.map(|it| Peer::start(it, workload, k, folder)).transpose()?;
    // Its first search compiles.
    let peer_found = peer.as_mut().map(|(peer, _)| peer.found()).transpose()?;
    let repeat = BATCH.div_ceil(requests.len());
    let num_batched = repeat * requests.len();
    let (mut ours, mut theirs) = (Speed::default(), Speed::default());
    let num_single = SINGLE.min(requests.len());
    for _ in 0..tries {
        let start = Instant::now();
        for _ in 0..repeat {
            documents(engine.search_batch(&requests))?;
        }
        ours.batch.push(num_batched, start.elapsed().as_secs_f64());
        if let Some((peer, _)) = &mut peer {
            theirs.batch.push(num_batched, peer.batch(repeat)?);
        }
        let start = Instant::now();
        for request in &requests[..num_single] {
            engine.search(*request)?;
        }
        ours.single.push(num_single, start.elapsed().as_secs_f64());
        if let Some((peer, _)) = &mut peer {
            theirs.single.push(num_single, peer.single(num_single)?);
        }
    }

    let recall = |found: &[Vec<Document>]| {
        let report = RetrievalReport::new(questions, found, k, 0);
        report.title_recall.unwrap_or(report.answer).mean
    };
    let mut json = json!({
        "passages": passages.len(),
        "queries": questions.len(),
        "zs": json_of(built, &ours, recall(&found)),
    });
    json["zs"]["first_batch_queries_per_s"] = first.into();
    report("zs", built, &ours, recall(&found));
    println!("  zs, first batch after opening: {first:.0} queries/s");
    if let (Some((_, seconds)), Some(places)) = (&peer, peer_found) {
        let peer_built = passages.len() as f64 / seconds;
        let at = |it: Vec<usize>| it.into_iter().map(|it| passages[it].clone()).collect();
        let found: Vec<Vec<Document>> = places.into_iter().map(at).collect();
        report("bm25s", peer_built, &theirs, recall(&found));
        let batch = ours.batch.over(&theirs.batch);
        let single = ours.single.over(&theirs.single);
        let build = built / peer_built;
        println!("  zs / bm25s: build {build:.2}, batch {batch}, single {single}");
        json["bm25s"] = json_of(peer_built, &theirs, recall(&found));
        json["ratio"] = json!({ "build": build, "batch": batch.json(), "single": single.json() });
    }
    Ok(json)
}

fn requests(workload: &Workload, k: usize) -> Vec<SearchRequest<'_>> {
    let quality = DocumentQuality::Useful;
    let asked = workload.questions.iter().map(|question| (question.text.as_str(), question));
    asked
        .map(|(query, question)| SearchRequest { query, question, quality, read: &[], k, seed: 0 })
        .collect()
}

fn documents(results: Vec<SearchResult>) -> Result<Vec<Vec<Document>>> {
    Ok(results.into_iter().collect::<std::result::Result<_, _>>()?)
}

fn report(program: &str, built: f64, speed: &Speed, recall: f64) {
    let Speed { single, batch } = speed;
    println!("  {program}: build {built:.0} passages/s, recall {recall:.3}");
    println!("  {program}: batch {batch} queries/s, one after the other {single} queries/s");
}

fn json_of(built: f64, speed: &Speed, recall: f64) -> Value {
    json!({
        "build_passages_per_s": built,
        "batch_queries_per_s": speed.batch.json(),
        "single_queries_per_s": speed.single.json(),
        "recall": recall,
    })
}
