//! Tuning data from recorded turns to a tuned model, and audits, through the built binary.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::common::{tiny_model, zs, zs_ok};
use serde_json::{Value, json};
use zs_core::{Document, Question, SearchEngine, SearchRequest};
use zs_model::testing::ScriptedGenerator;
use zs_rl::RolloutConfig;
use zs_search::FixedEngine;
use zs_serve::{ServeConfig, ServedModel, Server, Services};
use zs_simulator::audit::QuestionAudit;
use zs_simulator::collect::{CollectConfig, CollectError, JudgeChoice, LlmJudgeConfig, Manifest};
use zs_simulator::tuning::read_records;
use zs_trainer::PolicySearches;
use zs_world::{Split, World};

/// Recorded turns about an embedded world: for each question what its engine finds for a good query
/// and for a bad one, and a malformed query.
fn world_turns(path: &Path, num_questions: usize) {
    let world = World::generate(1, Split::Train);
    let rows: Vec<String> = world
        .questions(0, 1, num_questions)
        .iter()
        .map(|asked| {
            let turn = |query: String| {
                let request = SearchRequest {
                    query: &query,
                    question: &asked.question,
                    quality: zs_core::DocumentQuality::Useful,
                    read: &[],
                    k: 3,
                    seed: 0,
                };
                let documents = world.engine().search(request).unwrap();
                json!({ "query": query, "docs": documents })
            };
            let (subject, keyword) =
                (world.name(asked.chain[0].subject), asked.chain[0].relation.keyword());
            let turns = [
                turn(format!("{subject} {keyword}")),
                turn(keyword.to_owned()),
                turn(format!("{subject} {keyword} </search")),
            ];
            json!({
                "question": asked.question.text,
                "golden_answers": asked.question.golden_answers,
                "turns": turns,
            })
            .to_string()
        })
        .collect();
    fs::write(path, rows.join("\n")).unwrap();
}

fn manifest(dir: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn recorded_turns_become_a_set_that_tunes_a_model() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    world_turns(&dir.join("turns.jsonl"), 60);
    let collect = |seed: &str| {
        zs(
            dir,
            &[
                "simulate",
                "collect",
                "--turns",
                "turns.jsonl",
                "--out",
                "set",
                "--seed",
                seed,
                "--validation-share",
                "0.2",
            ],
        )
    };
    let output = collect("1");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = manifest(&dir.join("set"));
    assert_eq!(made.num_searches, 180);
    assert_eq!(made.dropped.count("query_with_tags"), 60);
    let (train, validation) = (&made.parts["train.jsonl"], &made.parts["validation.jsonl"]);
    assert_eq!((train.useful, validation.useful), (train.noisy, validation.noisy));
    assert!(train.rows > 20 && validation.rows > 2, "{made:?}");
    assert_eq!(made.dropped.total() + train.rows + validation.rows, 180);
    let records = read_records(&dir.join("set/train.jsonl")).unwrap();
    assert_eq!(records.len(), train.rows);

    // Again: nothing changes. With another seed, or a changed file: nothing is overwritten.
    let before = fs::read(dir.join("set/train.jsonl")).unwrap();
    assert!(collect("1").status.success());
    assert_eq!(fs::read(dir.join("set/train.jsonl")).unwrap(), before);
    let refused = collect("2");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("other settings"));

    tiny_model(1).save(&dir.join("model")).unwrap();
    let run = r#"
seed = 1
out = "tuned"
base = "model"

[data]
kind = "searches"
path = "set/train.jsonl"
validation = "set/validation.jsonl"
examples = 12
validation_examples = 4
num_documents = 1
replies = "judged"

[tuning]
steps = 40
tokens_per_step = 100
micro_batch_tokens = 500
eval_every = 1
packing = true
early_stop = { patience = 2, min_delta = 0.2 }
optimizer = { learning_rate = 1e-3 }
"#;
    fs::write(dir.join("sft.toml"), run).unwrap();
    zs_ok(dir, &["sft", "sft.toml"]);
    let summary: Value =
        serde_json::from_slice(&fs::read(dir.join("tuned/summary.json")).unwrap()).unwrap();
    let metrics = fs::read_to_string(dir.join("tuned/metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap()["validation/loss"].as_f64().unwrap())
        .collect();
    // It stopped after two evaluations that were not 0.2 nats better than the best before.
    let (steps, best) =
        (summary["steps"].as_u64().unwrap(), summary["best_step"].as_u64().unwrap());
    assert_eq!(steps as usize, losses.len());
    assert_eq!(steps, best + 2, "{losses:?}");
    assert_eq!(summary["best_validation_loss"].as_f64(), Some(losses[best as usize - 1]));
    assert!(dir.join("tuned/checkpoints/best/model.safetensors").exists());
}

#[test]
fn all_recorded_turns_of_the_reference_data_become_a_clean_set() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/turns");
    let names = ["searchr1_recorded_turns.jsonl.gz", "r1searcher_recorded_turns.jsonl.gz"];
    if !shared.join(names[0]).exists() {
        eprintln!("skipped: there are no recorded turns at {}", shared.display());
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let paths = names.map(|it| shared.join(it).canonicalize().unwrap());
    let mut arguments = vec!["simulate", "collect", "--out", "set", "--turns"];
    arguments.extend(paths.iter().map(|it| it.to_str().unwrap()));
    zs_ok(scratch.path(), &arguments);
    let made = manifest(&scratch.path().join("set"));
    assert_eq!(made.num_searches, 9158);
    assert_eq!(made.dropped.count("query_with_tags"), 143);
    let rows: usize = made.parts.values().map(|it| it.rows).sum();
    assert_eq!(rows + made.dropped.total(), 9158);
    assert!(made.parts.values().all(|it| it.useful == it.noisy));
    for part in made.parts.keys() {
        for record in read_records(&scratch.path().join("set").join(part)).unwrap() {
            assert!(!record.query.contains("</"), "{}", record.query);
            for document in &record.documents {
                assert!(!document.title.contains("Title:"), "{document:?}");
                assert!(!document.text.contains("\"\""), "{document:?}");
            }
        }
    }
}

/// A policy that searches twice, first well and then badly.
fn policy() -> ScriptedGenerator {
    ScriptedGenerator::new(|text, _| match text.matches("</information>").count() {
        0 => "<search> good query </search>".to_owned(),
        1 => "<search> ... </search>".to_owned(),
        _ => "<answer> x </answer>".to_owned(),
    })
}

fn questions() -> Vec<Question> {
    let answer = |it: usize| if it.is_multiple_of(2) { "Anna" } else { "Boris" };
    (0..10).map(|it| Question::new(it.to_string(), format!("Who {it}?"), [answer(it)])).collect()
}

/// Rolls [`policy`] over a page about Anna.
fn roll(out: &Path, judge: JudgeChoice) -> Result<Manifest, CollectError> {
    let engine = FixedEngine::new(vec![Document::new("", "Anna did."), Document::new("", "So.")]);
    let rollout = RolloutConfig {
        max_searches: 3,
        num_documents: 2,
        prompt_template: "{{ question }}".to_owned(),
        ..RolloutConfig::default()
    };
    let searches = PolicySearches {
        policy: &policy(),
        engine: &engine,
        questions: &questions(),
        rollout: &rollout,
        batch_size: 3,
        inputs: Vec::new(),
    };
    let config =
        CollectConfig { out: out.to_owned(), judge, validation_share: 0.0, balance: true, seed: 1 };
    searches.collect_tuning_set(&config, &mut |_| {})
}

#[test]
fn an_interrupted_collection_is_continued() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("set");
    let made = roll(&out, JudgeChoice::Containment).unwrap();
    assert_eq!(made.num_searches, 20);
    assert_eq!(made.dropped.count("query_without_words"), 10);
    assert_eq!((made.parts["train.jsonl"].useful, made.parts["train.jsonl"].noisy), (5, 5));
    let whole = fs::read(out.join("train.jsonl")).unwrap();
    let episodes = fs::read_to_string(out.join("episodes.jsonl")).unwrap();

    // As if it had been killed while it wrote the fifth episode.
    let kept: String = episodes.split_inclusive('\n').take(4).collect();
    fs::write(out.join("episodes.jsonl"), format!("{kept}{{\"question\": \"Wh")).unwrap();
    fs::remove_file(out.join("manifest.json")).unwrap();
    assert_eq!(roll(&out, JudgeChoice::Containment).unwrap(), made);
    assert_eq!(fs::read(out.join("train.jsonl")).unwrap(), whole);
    assert_eq!(fs::read_to_string(out.join("episodes.jsonl")).unwrap(), episodes);

    // A file that was changed afterwards is noticed.
    fs::write(out.join("train.jsonl"), "{}\n").unwrap();
    let error = roll(&out, JudgeChoice::Containment).unwrap_err().to_string();
    assert!(error.contains("was changed"), "{error}");
}

#[test]
fn a_model_behind_a_server_can_judge() {
    // A judge that finds `So.` useless, cannot decide about Boris, and Anna useful.
    let judge = ScriptedGenerator::new(|prompt, _| {
        let said = match (prompt.contains("Document text: So."), prompt.contains("answers: Boris"))
        {
            (true, _) => "It says nothing.\nVerdict: noisy",
            (false, true) => "useful or noisy, who knows",
            (false, false) => "useful",
        };
        said.to_owned()
    });
    let model = ServedModel { name: "judge".to_owned(), generator: Arc::new(judge) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ServeConfig { address, ..ServeConfig::default() };
    let server =
        Server::start(config, Services { model: Some(model), ..Services::default() }).unwrap();
    let judge = LlmJudgeConfig {
        url: format!("http://{}/v1", server.address()),
        model: "judge".to_owned(),
        key_env: None,
        template: zs_simulator::collect::JUDGE_TEMPLATE.to_owned(),
        concurrency: 4,
        attempts: 1,
        max_tokens: 100,
    };
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("set");
    let made = roll(&out, JudgeChoice::Both(judge.clone())).unwrap();
    assert_eq!((made.judged.useful, made.judged.noisy, made.judged.unlabelled), (5, 10, 5));
    let agreement = made.judged.agreement.unwrap();
    assert_eq!((agreement.num_compared, agreement.observed, agreement.kappa), (15, 1.0, 1.0));

    // Its verdicts are remembered: the set is made again with the server gone. The documents without
    // one cannot be asked about and stay without.
    server.stop().unwrap();
    fs::remove_file(out.join("manifest.json")).unwrap();
    assert_eq!(roll(&out, JudgeChoice::Both(judge)).unwrap(), made);
}

#[test]
fn an_audit_tells_a_faithful_engine_from_one_that_answers_anything() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    zs_ok(dir, &["data", "world", "--seed", "5", "--questions", "40", "--out", "w"]);
    let text = fs::read_to_string(dir.join("w/questions.jsonl")).unwrap();
    let first: Question = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let page = format!(
        "engine = {{ kind = \"fixed\", documents = [{{ text = {:?} }}] }}\n",
        first.golden_answers[0]
    );
    fs::write(dir.join("fixed.toml"), page).unwrap();
    fs::write(dir.join("bm25.toml"), "engine = { kind = \"bm25\", corpus = \"w/corpus.jsonl\" }\n")
        .unwrap();
    let audit = |engine: &str| -> QuestionAudit {
        let arguments = [
            "simulate",
            "audit",
            "--engine",
            engine,
            "--questions",
            "w/questions.jsonl",
            "--corpus",
            "w/corpus.jsonl",
            "--k",
            "3",
            "--seeds",
            "1,2",
            "--json",
        ];
        serde_json::from_str(&zs_ok(dir, &arguments)).unwrap()
    };
    let (real, fixed) = (audit("bm25.toml"), audit("fixed.toml"));
    assert!(real.faithfulness().unwrap() > 0.2, "{:?}", real.faithfulness());
    assert_eq!(fixed.faithfulness(), Some(0.0));
    assert!(real.cells.iter().all(|it| it.real_overlap == Some(1.0)));
    assert!(fixed.cells.iter().all(|it| it.replies.repeated == 1.0));

    let arguments =
        ["simulate", "audit", "--engine", "bm25.toml", "--questions", "w/questions.jsonl"];
    let table = zs_ok(dir, &[&arguments[..], &["--out", "audit.json"]].concat());
    assert!(table.contains("truncated") && table.contains("faithfulness"), "{table}");
    assert!(dir.join("audit.json").exists());
}
