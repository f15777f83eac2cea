//! Embedding and dense search through the built `zs`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{zs, zs_ok};

const CORPUS: &str = "\
{\"title\": \"Bamboo\", \"text\": \"Bamboo is a grass whose stems are hollow.\"}
{\"title\": \"Oak\", \"text\": \"Oaks are trees.\"}
{\"title\": \"Tokyo\", \"text\": \"Tokyo is the capital of Japan.\"}
";

const QUESTION: &str = r#"{"question": "What is bamboo?", "golden_answers": ["grass"]}"#;

/// An encoder with random weights.
fn encoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/zs-model/tests/encoders/bert")
}

/// A copy of it that reads shorter texts.
fn other_encoder(dir: &Path) {
    fs::create_dir_all(dir.join("other/1_Pooling")).unwrap();
    for name in ["1_Pooling/config.json", "modules.json", "config.json", "model.safetensors"] {
        fs::copy(encoder().join(name), dir.join("other").join(name)).unwrap();
    }
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(encoder().join(name), dir.join("other").join(name)).unwrap();
    }
    fs::write(dir.join("other/sentence_bert_config.json"), "{\"max_seq_length\": 20}").unwrap();
}

#[test]
fn an_index_is_searched_by_words_and_by_vectors() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    fs::write(dir.join("corpus.jsonl"), CORPUS).unwrap();
    fs::write(dir.join("questions.jsonl"), QUESTION).unwrap();
    let model = encoder().display().to_string();
    let embed = ["embed", "--corpus", "corpus.jsonl", "--model", &model, "--out", "vectors"];
    zs_ok(dir, &embed);
    let manifest = fs::read_to_string(dir.join("vectors/vectors.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((&manifest["num_vectors"], &manifest["dimension"]), (&3.into(), &24.into()));
    // A header of 128 bytes, and three rows of 24 numbers.
    assert_eq!(fs::read(dir.join("vectors/vectors-00000.npy")).unwrap().len(), 128 + 3 * 24 * 4);

    let build = ["index", "build", "--corpus", "corpus.jsonl", "--out", "index"];
    zs_ok(dir, &build);
    let error = |model: &str| {
        let engine = format!("[engine]\nkind = \"dense\"\nindex = \"index\"\n{model}");
        fs::write(dir.join("dense.toml"), engine).unwrap();
        let args =
            ["eval", "retrieval", "--questions", "questions.jsonl", "--engine", "dense.toml"];
        String::from_utf8(zs(dir, &args).stderr).unwrap()
    };
    assert!(error("").contains("`zs index build --dense MODEL`"));
    // The index gets vectors, those of `zs embed`.
    zs_ok(dir, &[&build[..], &["--dense", &model]].concat());
    let vectors = |folder: &str| fs::read(dir.join(folder).join("vectors-00000.npy")).unwrap();
    assert!(vectors("vectors") == vectors("index/dense"));
    zs_ok(dir, &[&build[..], &["--dense", &model]].concat());

    other_encoder(dir);
    assert!(error("model = \"other\"").contains("embedded with another model"));
    assert!(error("model = \"none\"").contains("none: no such model directory"));
    assert_eq!(error(""), "");
    let hybrid = "[engine]\nkind = \"fused\"\nengines = [{ kind = \"bm25\", index = \"index\" }, \
                  { kind = \"dense\", index = \"index\" }]\n";
    fs::write(dir.join("hybrid.toml"), hybrid).unwrap();
    let compared = zs_ok(
        dir,
        &[
            "eval",
            "retrieval",
            "--questions",
            "questions.jsonl",
            "--index",
            "index",
            "--engine",
            "dense.toml",
            "--engine",
            "hybrid.toml",
            "--k",
            "3",
            "--json",
        ],
    );
    let compared: Value = serde_json::from_str(&compared).unwrap();
    let names: Vec<&str> = compared["engines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["engine"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["bm25", "dense", "fused"]);
    // All three documents are found, so one of them has the answer.
    assert_eq!(compared["engines"][1]["recall"], 1.0);
}
