use std::fs;

use zs_core::{EmbedResult, Question, with_causes};

use super::files::MANIFEST;
use super::*;
use crate::conformance::{check_engine, check_failure_is_contained};
use crate::{EmbedderLoader, EngineContext, EngineRegistry, IndexBuild, register_engines};

/// Counts of letters, as a vector of length 1.
#[derive(Debug)]
struct Letters {
    identity: &'static str,
    /// Dimensions, of which the last ones are zero.
    dimension: usize,
}

const LETTERS: Letters = Letters { identity: "letters", dimension: 26 };

impl Embedder for Letters {
    fn embed(&self, texts: &[&str], _: TextRole, _: u64) -> Vec<EmbedResult> {
        let vector = |text: &&str| {
            if text.contains("refused") {
                return Err(failed(text, "it is refused"));
            }
            let mut vector = vec![0.0_f32; self.dimension];
            for letter in text.to_lowercase().bytes().filter(u8::is_ascii_lowercase) {
                vector[usize::from(letter - b'a')] += 1.0;
            }
            if text.contains("endless") {
                vector[0] = f32::INFINITY;
            }
            if text.contains("longer") {
                vector.push(0.0);
            }
            let length = vector.iter().map(|it| it * it).sum::<f32>().sqrt().max(1e-9);
            Ok(vector.into_iter().map(|it| it / length).collect())
        };
        texts.iter().map(vector).collect()
    }

    fn identity(&self) -> String {
        self.identity.to_owned()
    }
}

const CORPUS: &str = "\
{\"id\": \"1\", \"title\": \"Bamboo\", \"text\": \"A grass.\"}
{\"id\": \"2\", \"title\": \"Oak\", \"text\": \"A tree.\"}
{\"id\": \"3\", \"title\": \"\", \"text\": \"zzz\"}
{\"id\": \"4\", \"title\": \"Elm\", \"text\": \"Another tree.\"}
{\"id\": \"5\", \"title\": \"\", \"text\": \"zzz\"}
";

/// A folder with a corpus, and the place of its index.
fn corpus(text: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    fs::write(&corpus, text).unwrap();
    let index = folder.path().join("index");
    (folder, corpus, index)
}

fn embedding(corpus: &Path, index: &Path) -> EmbeddingBuild {
    EmbeddingBuild::new(corpus, Path::new("letters"), &index.join(VECTORS_DIR)).with_shard_size(2)
}

fn build(corpus: &Path, index: &Path) -> EmbeddingSummary {
    IndexBuild::new(corpus, index).run(&mut |_| {}).unwrap();
    embedding(corpus, index).run(&LETTERS, &mut |_| {}).unwrap()
}

fn open(index: &Path) -> Result<DenseEngine, DenseError> {
    DenseEngine::open(index, Arc::new(LETTERS))
}

fn ids(engine: &dyn SearchEngine, query: &str, k: usize) -> Vec<String> {
    let question = Question::new("q", "?", ["a"]);
    let request = SearchRequest { query, ..SearchRequest::of(&question, k, 0) };
    engine.search(request).unwrap().into_iter().map(|it| it.id).collect()
}

/// Bytes of every file of a folder, by name.
fn bytes(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<(String, Vec<u8>)> = names
        .map(|it| (it.file_name().unwrap().to_string_lossy().into_owned(), fs::read(it).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn finds_the_nearest_passages() {
    let (_folder, corpus, index) = corpus(CORPUS);
    let summary = build(&corpus, &index);
    assert_eq!((summary.num_vectors, summary.num_resumed, summary.dimension), (5, 0, 26));
    let engine = open(&index).unwrap();
    // Equal vectors keep the order of the corpus.
    assert_eq!(ids(&engine, "z", 3), ["3", "5", "1"]);
    assert_eq!(ids(&engine, "oak tree a", 1), ["2"]);
    assert_eq!(ids(&engine, "oak tree a", 9).len(), 5);
    assert!(ids(&engine, " ", 3).is_empty() && ids(&engine, "z", 0).is_empty());
    check_engine(&engine);
    check_failure_is_contained(&engine, "refused");
}

#[test]
fn an_interrupted_build_resumes_to_the_same_bytes() {
    let (folder, corpus, index) = corpus(CORPUS);
    build(&corpus, &index);
    let expected = bytes(&index.join(VECTORS_DIR));
    let names: Vec<&str> = expected.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["vectors-00000.npy", "vectors-00001.npy", "vectors-00002.npy", MANIFEST]);

    // A build that stops at the fourth document keeps its first file.
    let other = folder.path().join("other");
    let mut stop = |it: EmbeddingProgress| assert!(it.num_documents < 3, "stopped");
    let build = embedding(&corpus, &other);
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        build.run(&LETTERS, &mut stop).map(drop)
    }));
    assert!(stopped.is_err());
    let summary = build.run(&LETTERS, &mut |_| {}).unwrap();
    assert_eq!((summary.num_vectors, summary.num_resumed), (5, 2));
    assert_eq!(bytes(&other.join(VECTORS_DIR)), expected);

    // What is finished is left as it is.
    let summary = build.run(&LETTERS, &mut |_| {}).unwrap();
    assert_eq!((summary.num_vectors, summary.num_resumed), (5, 5));
    assert_eq!(bytes(&other.join(VECTORS_DIR)), expected);
}

#[test]
fn a_build_that_cannot_go_on_says_why_and_overwrites_nothing() {
    let check = |rows: &str, embedder: Letters, prepare: &dyn Fn(&Path), expected: &str| {
        let (_folder, corpus, index) = corpus(&format!("{CORPUS}{rows}"));
        let out = index.join(VECTORS_DIR);
        prepare(&out);
        let before = if out.exists() { bytes(&out) } else { Vec::new() };
        let error = embedding(&corpus, &index).run(&embedder, &mut |_| {}).unwrap_err();
        let message = with_causes(&error);
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        assert_eq!(if out.exists() { bytes(&out) } else { Vec::new() }, before);
    };
    let nothing = |_: &Path| {};
    let row = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
    check(&row("refused"), LETTERS, &nothing, "document 6 cannot be embedded");
    check(&row("endless"), LETTERS, &nothing, "document 6 is not finite");
    check(&row("longer"), LETTERS, &nothing, "document 6 has 27 dimensions, not 26");
    check("{\"text\": 1.5e}\n", LETTERS, &nothing, "row 6");
    let file = |name: &'static str, text: &'static str| {
        move |out: &Path| {
            fs::create_dir_all(out.join(name).parent().unwrap()).unwrap();
            fs::write(out.join(name), text).unwrap();
        }
    };
    check("", LETTERS, &file("notes.txt", "mine"), "name a new folder, or remove it");
    check("", LETTERS, &file(MANIFEST, "{}"), "name a new folder, or remove it");
    check("", LETTERS, &file("../dense.partial/plan.json", "{}"), "remove it to start again");
}

#[test]
fn an_empty_corpus_is_named() {
    let (_folder, corpus, index) = corpus("");
    let error = embedding(&corpus, &index).run(&LETTERS, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("no document"), "{error}");
    assert!(!index.join(VECTORS_DIR).exists());
}

#[test]
fn an_index_that_cannot_be_searched_says_why() {
    let check = |damage: &dyn Fn(&Path), embedder: Letters, expected: &str| {
        let (_folder, corpus, index) = corpus(CORPUS);
        build(&corpus, &index);
        damage(&index);
        let error = DenseEngine::open(&index, Arc::new(embedder)).unwrap_err();
        let message = with_causes(&error);
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
    };
    let nothing = |_: &Path| {};
    let other = Letters { identity: "other", dimension: 26 };
    check(
        &nothing,
        other,
        "embedded with another model (letters) than the one that embeds queries",
    );
    let vectors = |index: &Path| index.join(VECTORS_DIR);
    check(
        &|it| fs::remove_dir_all(vectors(it)).unwrap(),
        LETTERS,
        "`zs index build --dense MODEL`",
    );
    let shard = |index: &Path| vectors(index).join("vectors-00001.npy");
    check(&|it| fs::remove_file(shard(it)).unwrap(), LETTERS, "vectors-00001.npy");
    let truncate = |it: &Path| {
        let bytes = fs::read(shard(it)).unwrap();
        fs::write(shard(it), &bytes[..bytes.len() - 4]).unwrap();
    };
    check(&truncate, LETTERS, "vectors-00001.npy: damaged or cut short");
    let flip = |it: &Path| {
        let mut bytes = fs::read(shard(it)).unwrap();
        bytes[200] ^= 1;
        fs::write(shard(it), bytes).unwrap();
    };
    check(&flip, LETTERS, "vectors-00001.npy: damaged or cut short");
    let manifest = |from: &'static str, to: &'static str| {
        move |it: &Path| {
            let path = vectors(it).join(MANIFEST);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(path, text.replace(from, to)).unwrap();
        }
    };
    check(&manifest("{", "["), LETTERS, "no vectors of `zs`");
    check(&manifest("\"version\": 1", "\"version\": 9"), LETTERS, "written by another version");
    check(&manifest("vectors-00001", "../vectors"), LETTERS, "other names");
    check(
        &manifest("\"num_vectors\": 5", "\"num_vectors\": 4"),
        LETTERS,
        "4 vectors for 5 documents",
    );
    check(&manifest("\"dimension\": 26", "\"dimension\": 13"), LETTERS, "damaged or cut short");
    let huge = manifest("\"rows\": 1", "\"rows\": 18446744073709551615");
    check(&huge, LETTERS, "damaged or cut short");
}

#[test]
fn queries_of_another_length_fail() {
    let (_folder, corpus, index) = corpus(CORPUS);
    build(&corpus, &index);
    let wider = Arc::new(Letters { identity: "letters", dimension: 30 });
    let engine = DenseEngine::open(&index, wider).unwrap();
    let question = Question::new("q", "oak", ["a"]);
    let error = engine.search(SearchRequest::of(&question, 3, 0)).unwrap_err();
    let message = with_causes(&error);
    assert!(message.contains("26 dimensions, those of the model of queries 30"), "{message}");
}

#[test]
fn the_engine_is_opened_by_name() {
    let (_folder, corpus, index) = corpus(CORPUS);
    build(&corpus, &index);
    let mut registry = EngineRegistry::new("search engine");
    register_engines(&mut registry).unwrap();
    let dense = serde_json::json!({ "kind": "dense", "index": index });
    let bm25 = serde_json::json!({ "kind": "bm25", "index": index });
    let hybrid = serde_json::json!({ "kind": "fused", "engines": [bm25, dense] });
    let spec = |it: &serde_json::Value| serde_json::from_value(it.clone()).unwrap();
    let error = registry.build(&spec(&dense), &EngineContext::default()).unwrap_err();
    assert!(with_causes(&error).contains("`EmbedderLoader`"), "{error}");
    let context = EngineContext::default().with_service(EmbedderLoader::new(|model| {
        assert!(model.ends_with("letters"), "{model:?}");
        Ok(Arc::new(LETTERS))
    }));
    let engine = registry.build(&spec(&hybrid), &context).unwrap();
    assert_eq!(ids(engine.as_ref(), "zzz", 1), ["3"]);
}
