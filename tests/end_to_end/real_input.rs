//! Real data through the built binary: a trained Llama of 260 thousand parameters as policy and as
//! simulation LLM, HotpotQA and Natural Questions, and 4,830 Wikipedia passages.
//!
//! The model can answer nothing; ids, masks, truncation, ledger and checkpoints must be right.
#![expect(clippy::print_stderr, reason = "tests fail by panicking")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::common::{recorded_groups, zs_ok};
use burn::tensor::Device;
use zs_core::INVALID_ACTION_MESSAGE;
use zs_model::{Generator, LanguageModel};
use zs_rl::Trajectory;

/// The reference data beside the checkout; `None`, with a printed reason, where there is none.
fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    match shared.join("fixtures/stories260k").is_dir() {
        true => Some(shared.canonicalize().unwrap()),
        false => {
            eprintln!("skipped: there is no reference data at {}", shared.display());
            None
        }
    }
}

/// A working directory with the passages unpacked.
fn workplace(shared: &Path, questions: &str) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let packed = fs::File::open(shared.join("data/corpora/hotpotqa_dev_981.passages.jsonl.gz"));
    let mut corpus = String::new();
    flate2::read::GzDecoder::new(packed.unwrap()).read_to_string(&mut corpus).unwrap();
    let dir = scratch.path();
    fs::write(dir.join("corpus.jsonl"), corpus).unwrap();
    teach_to_search(shared, dir, questions);
    scratch
}

/// Fine-tunes the story teller until it opens with a search, so that there are documents to read.
fn teach_to_search(shared: &Path, dir: &Path, questions: &str) {
    let questions = zs_data::read_questions(&shared.join(questions)).unwrap();
    let rows: String = questions[..4]
        .iter()
        .map(|it| {
            let prompt = format!("Question: {}\n", it.text);
            let completion = "<search> name of the first </search>";
            format!("{}\n", serde_json::json!({ "prompt": prompt, "completion": completion }))
        })
        .collect();
    fs::write(dir.join("rows.jsonl"), rows).unwrap();
    let base = shared.join("fixtures/stories260k");
    let run = format!(
        r#"
seed = 1
out = "tuned"
base = "{}"
data = {{ kind = "file", train = "rows.jsonl" }}
tuning = {{ steps = 40, tokens_per_step = 200, micro_batch_tokens = 400, eval_every = 40, optimizer = {{ learning_rate = 3e-3 }} }}
"#,
        base.display()
    );
    fs::write(dir.join("sft.toml"), run).unwrap();
    zs_ok(dir, &["sft", "sft.toml"]);
}

fn run_file(shared: &Path, questions: &str, engine: &str) -> String {
    let questions = shared.join(questions);
    format!(
        r#"
seed = 5
out = "out"
policy = "tuned/checkpoints/final"
questions = {{ kind = "file", path = "{questions}", limit = 4 }}
engine = {engine}

[validation]
questions = {{ kind = "file", path = "{questions}", limit = 3 }}
engine = {{ kind = "bm25", corpus = "corpus.jsonl" }}

[training.schedule]
steps = 2
questions_per_step = 2
group_size = 2
eval_every = 2

[training.rollout]
max_searches = 2
num_documents = 3
max_new_tokens = 40
max_observation_tokens = 400
prompt_template = "Question: {{{{ question }}}}\n"

[training.optimizer]
learning_rate = 1e-4
"#,
        questions = questions.display(),
    )
}

/// Asserts the invariants of an episode, for any text of the model.
#[track_caller]
fn check_trajectory(trajectory: &Trajectory, model: &LanguageModel, max_turns: usize) {
    let tokens = trajectory.tokens();
    let vocab = model.config().vocab_size as u32;
    assert!(tokens.iter().all(|it| *it < vocab));
    assert!(tokens.len() <= 512, "{} tokens", tokens.len());
    assert!(!trajectory.turns.is_empty() && trajectory.turns.len() <= max_turns);
    let mask = trajectory.loss_mask();
    let num_sampled: usize = trajectory.turns.iter().map(|it| it.completion.tokens.len()).sum();
    assert_eq!(mask.iter().filter(|it| **it).count(), num_sampled);
    assert!(mask[..trajectory.prompt.len()].iter().all(|it| !it), "the prompt carries no loss");
    let old = trajectory.old_log_probs();
    assert_eq!(old.len(), tokens.len());
    assert!(old.iter().all(|it| it.is_finite() && *it <= 0.0));
    for (turn, is_last) in
        trajectory.turns.iter().enumerate().map(|(at, it)| (it, at + 1 == trajectory.turns.len()))
    {
        assert_eq!(model.tokenizer().decode(&turn.completion.tokens), turn.text);
        assert!(turn.completion.tokens.len() <= 40);
        assert_eq!(turn.observation.is_empty(), turn.observation_text.is_empty());
        if !is_last {
            assert!(!turn.observation.is_empty(), "an episode goes on after an observation only");
        }
    }
    if trajectory.truncated {
        let message = model.tokenizer().encode(INVALID_ACTION_MESSAGE).unwrap();
        assert!(tokens.len() + message.len() >= 512, "truncated at {} tokens", tokens.len());
    }
}

fn check_run(dir: &Path) {
    let policy = dir.join("tuned/checkpoints/final");
    let model = LanguageModel::load(&policy, &Device::flex()).unwrap();
    let groups = recorded_groups(&dir.join("out"));
    assert_eq!(groups.len(), 4);
    let mut num_searches = 0;
    for group in &groups {
        for rewarded in &group.group.trajectories {
            assert_eq!(rewarded.trajectory.question_id, group.group.question.id);
            check_trajectory(&rewarded.trajectory, &model, 3);
            num_searches += rewarded.trajectory.searches().count() as u64;
        }
    }
    let summary = fs::read_to_string(dir.join("out/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert!(num_searches > 0, "the policy was taught to search");
    assert_eq!(summary["searches"], num_searches, "the ledger counts what was searched");
    assert_eq!(summary["episodes"], 8);

    let saved = LanguageModel::load(&dir.join("out/checkpoints/final"), &model.device()).unwrap();
    assert_eq!(saved.config(), model.config());
    let text = "Once upon a time";
    assert_eq!(
        saved.tokenizer().encode_start(text).unwrap(),
        model.tokenizer().encode_start(text).unwrap()
    );
}

#[test]
fn hotpotqa_with_a_bm25_engine() {
    let Some(shared) = shared() else { return };
    let questions = "data/corpora/hotpotqa_dev_981.questions.jsonl";
    let scratch = workplace(&shared, questions);
    let dir = scratch.path();
    let engine = r#"{ kind = "bm25", corpus = "corpus.jsonl" }"#;
    fs::write(dir.join("run.toml"), run_file(&shared, questions, engine)).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    check_run(dir);

    let questions = shared.join(questions);
    let questions = questions.to_str().unwrap();
    let eval = ["eval", "--model", "out/checkpoints/final", "--corpus", "corpus.jsonl"];
    let rest = ["--questions", questions, "--limit", "3", "--k", "5", "--out", "evaluated"];
    let table = zs_ok(dir, &[&eval[..], &rest[..]].concat());
    assert!(table.contains("2-hop"), "{table}");
}

#[test]
fn natural_questions_with_a_simulated_engine() {
    let Some(shared) = shared() else { return };
    let questions = "data/train/nq_5000_searchr1.parquet";
    let scratch = workplace(&shared, questions);
    let dir = scratch.path();
    let model = shared.join("fixtures/stories260k");
    let engine = format!(
        r#"{{ kind = "simulated", model = "{}", sampling = {{ max_new_tokens = 30 }}, templates = {{ custom = {{ useful = "{{{{ query }}}} {{{{ golden_answer }}}}", noisy = "{{{{ query }}}}" }} }} }}"#,
        model.display()
    );
    fs::write(dir.join("run.toml"), run_file(&shared, questions, &engine)).unwrap();
    zs_ok(dir, &["train", "run.toml"]);
    check_run(dir);
}

#[test]
fn the_author_s_text_is_reproduced() {
    let Some(shared) = shared() else { return };
    let model = shared.join("fixtures/stories260k");
    let golden = model.join("golden.json");
    let [model, golden] = [&model, &golden].map(|it| it.to_str().unwrap());
    let table = zs_ok(&shared, &["verify", "--model", model, "--golden", golden]);
    assert!(table.contains("greedy tokens"), "{table}");
    assert!(!table.contains("FAILED"), "{table}");
}
