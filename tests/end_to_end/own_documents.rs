//! Users' documents: from a folder to passages, questions and episodes.

use std::fs;
use std::path::Path;

use zs_search::http::testing::{CannedResponse, Received, TestServer};

use crate::common::{assert_same_files, zs, zs_ok};

const NAMES: [&str; 6] = ["Anna", "Bo", "Carl", "Dora", "Emil", "Fred"];

fn write_notes(dir: &Path) {
    fs::create_dir_all(dir.join("notes/towns")).unwrap();
    for name in NAMES {
        let text = format!("# {name}\n\n{name} was born in the town of Bada{name}, long ago.\n");
        fs::write(dir.join(format!("notes/towns/{name}.md")), text).unwrap();
    }
    fs::write(dir.join("notes/page.html"), "<title>Oaks</title><p>An oak is a tree.</p>").unwrap();
    fs::write(dir.join("notes/empty.txt"), "").unwrap();
    fs::write(dir.join("notes/program.rs"), "fn main() {}").unwrap();
}

#[test]
fn a_folder_becomes_a_corpus_that_is_searched() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    write_notes(dir);
    for out in ["a", "b"] {
        let built = zs_ok(dir, &["corpus", "build", "notes", "--out", out]);
        assert!(built.contains("7 passages of 65 words from 7 files"), "{built}");
        assert!(built.contains("skipped, unknown_format: 1"), "{built}");
        // An index names its corpus and draws the names of its files.
        fs::rename(dir.join(out).join("index"), dir.join(format!("index-{out}"))).unwrap();
    }
    assert_same_files(&dir.join("a"), &dir.join("b"));
    let search = ["search", "--index", "index-a", "--query", "where was Dora born", "--json"];
    let found = zs_ok(dir, &search);
    assert!(found.contains("BadaDora"), "{found}");

    let refuse = |arguments: &[&str], expected: &str| {
        let output = zs(dir, arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(expected), "{message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    };
    refuse(&["corpus", "build", "notes", "--out", "a"], "a: already exists");
    refuse(&["corpus", "build", "nowhere", "--out", "c"], "nowhere: cannot be read");
    refuse(
        &["corpus", "build", "notes/program.rs", "--out", "d"],
        "nothing readable in notes/program.rs",
    );
    refuse(&["corpus", "build", "notes/empty.txt", "--out", "d"], "1 empty");
}

/// A model that asks where somebody was born, knows of Anna, and reads.
fn quiz(_: usize, received: &Received) -> CannedResponse {
    let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
    let prompt = body["messages"][0]["content"].as_str().unwrap();
    let name = NAMES.into_iter().find(|it| prompt.contains(*it));
    let said = match name {
        Some(name) if prompt.contains("quiz question") => {
            format!("Question: In which town was {name} born?\nAnswer: Bada{name}")
        }
        Some(name) if name == "Anna" || prompt.contains("Passage:") => format!("Bada{name}"),
        _ => "unknown".to_owned(),
    };
    let reply = serde_json::json!({ "choices": [{ "message": { "content": said } }] });
    CannedResponse::ok(&reply.to_string())
}

#[test]
fn passages_become_questions_and_episodes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    write_notes(dir);
    zs_ok(dir, &["corpus", "build", "notes", "--out", "corpus"]);
    let server = TestServer::start(quiz);
    let file = format!(
        "engine = {{ kind = \"remote\", servers = {{ endpoints = [\"{}/v1\"] }} }}\n",
        server.url()
    );
    fs::write(dir.join("server.toml"), file).unwrap();
    let questions = [
        "data",
        "questions",
        "--corpus",
        "corpus",
        "--server",
        "server.toml",
        "--min-passage-words",
        "8",
        "--validation-share",
        "0",
        "--test-share",
        "0",
        "--out",
        "set",
    ];
    let made = zs_ok(dir, &questions);
    assert!(made.contains("dropped, right_without_passage: 1"), "{made}");
    assert!(made.contains("dropped, short_passage: 1"), "{made}");
    assert!(made.contains("train.jsonl: 5 questions on 5 passages"), "{made}");
    let asked = server.num_requests();
    assert_eq!((zs_ok(dir, &questions), server.num_requests()), (made, asked));

    let episodes = [
        "data",
        "trajectories",
        "--questions",
        "set/train.jsonl",
        "--index",
        "corpus/index",
        "--k",
        "1",
        "--validation-share",
        "0",
        "--out",
        "episodes",
    ];
    let built = zs_ok(dir, &episodes);
    assert!(built.contains("train.jsonl: 5 episodes of 5 questions"), "{built}");
    let text = fs::read_to_string(dir.join("episodes/train.jsonl")).unwrap();
    assert!(text.contains("<answer> BadaBo </answer>"), "{text}");

    fs::write(dir.join("server.toml"), "engine = { kind = \"bm25\", corpus = \"c\" }").unwrap();
    let message = String::from_utf8(zs(dir, &questions).stderr).unwrap();
    assert!(message.contains("server.toml: `kind` must be `remote`"), "{message}");
}
