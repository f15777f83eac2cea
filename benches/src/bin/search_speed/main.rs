//! Speed of searching: BM25 beside another program at its own recall, the simulation LLM, and the
//! server beside plain calls.
#![expect(clippy::print_stdout, reason = "a command-line tool speaks on the console")]

mod peer;
mod rates;
mod retrieval;
mod server;
mod simulator;
mod synthetic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, json};
use zs_core::{Document, Question};
use zs_observe::write_json;
use zs_world::{Split, World};

/// As in the command `zs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Result whose error ends the bench with a message.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Times BM25, the simulation LLM and the server
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench search")]
struct Arguments {
    /// Write the numbers to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// A corpus to search; each needs its `--questions`
    #[arg(long)]
    corpus: Vec<PathBuf>,
    /// Questions about the corpus of the same place
    #[arg(long)]
    questions: Vec<PathBuf>,
    /// Synthetic passages to search besides; 0 leaves them out
    #[arg(long, default_value_t = 1_000_000)]
    passages: usize,
    /// A Python that has bm25s, PyStemmer and numba: what BM25 is compared with
    #[arg(long)]
    python: Option<PathBuf>,
    /// The simulation LLM
    #[arg(long, default_value = "assets/zs-tiny")]
    simulator: PathBuf,
    /// Documents a query
    #[arg(long, default_value_t = 5)]
    k: usize,
    /// Repetitions of each measurement; medians count
    #[arg(long, default_value_t = 5)]
    tries: usize,
}

/// A corpus and what is asked about it.
struct Workload {
    name: String,
    /// Path of the passages that both programs read.
    path: PathBuf,
    passages: Vec<Document>,
    questions: Vec<Question>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.corpus.len() != arguments.questions.len() {
        return Err("give as many `--questions` as `--corpus`".into());
    }
    let tries = arguments.tries.max(1);
    let folder = tempfile::tempdir()?;
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let mut json = Map::new();
    json.insert("cores".to_owned(), cores.into());
    json.insert("k".to_owned(), arguments.k.into());

    // What is timed first is timed with the least in memory.
    println!("server, beside plain calls:");
    let world = world(folder.path())?;
    json.insert("server".to_owned(), server::bench(&world, arguments.k)?);
    println!("simulation LLM, {}:", arguments.simulator.display());
    json.insert("simulator".to_owned(), simulator::bench(&arguments.simulator, tries)?);

    let mut corpora = Map::new();
    let mut bench = |workload: &Workload| -> Result<()> {
        let peer = arguments.python.as_deref();
        let measured = retrieval::bench(workload, peer, arguments.k, tries, folder.path())?;
        corpora.insert(workload.name.clone(), measured);
        Ok(())
    };
    bench(&world)?;
    for (corpus, questions) in arguments.corpus.iter().zip(&arguments.questions) {
        bench(&read(corpus, questions)?)?;
    }
    if arguments.passages > 0 {
        bench(&synthetic::workload(arguments.passages, folder.path())?)?;
    }
    json.insert("bm25".to_owned(), corpora.into());
    match &arguments.json {
        Some(path) => write_json(path, &json).map_err(|it| format!("{it:#}").into()),
        None => Ok(()),
    }
}

/// An embedded world, which needs no files.
fn world(folder: &Path) -> Result<Workload> {
    let world = World::generate(1, Split::Train);
    let passages = world.passages();
    let path = folder.join("world.jsonl");
    write_corpus(&path, &passages)?;
    let questions = world.questions(1, 1, 500).into_iter().map(|it| it.question).collect();
    Ok(Workload { name: "world".to_owned(), path, passages, questions })
}

fn read(corpus: &Path, questions: &Path) -> Result<Workload> {
    let name = corpus.file_name().unwrap_or_default().to_string_lossy();
    Ok(Workload {
        name: name.split('.').next().unwrap_or_default().to_owned(),
        path: corpus.to_owned(),
        passages: zs_data::read_documents(corpus)?,
        questions: zs_data::read_questions(questions)?,
    })
}

fn write_corpus(path: &Path, passages: &[Document]) -> Result<()> {
    use std::io::Write;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for it in passages {
        let row = json!({ "id": it.id, "title": it.title, "text": it.text });
        writeln!(file, "{row}")?;
    }
    Ok(file.flush()?)
}
