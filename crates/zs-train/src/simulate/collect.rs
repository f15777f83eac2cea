//! `zs simulate collect`: a tuning set out of recorded turns, or of a policy's own searches.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zs_core::DocumentQuality;
use zs_simulator::collect::{
    ContainmentJudge, Dropped, Judge, JudgeCase, JudgeError, RawSearch, agreement, assemble,
    distinct, mend_documents, read_turns,
};
use zs_simulator::tuning::SearchRecord;

use super::llm_judge::{LlmJudge, LlmJudgeConfig};
use super::manifest::{Input, Judged, Manifest, Part, Settings};
use super::rolled::Rolling;
use zs_trainer::Console;
use zs_trainer::digest;
use zs_trainer::files::write_atomic;

/// The file that a finished set has.
const MANIFEST: &str = "manifest.json";

/// Where searches come from.
#[derive(Debug)]
pub enum SearchSource<'a> {
    /// Files of recorded turns, plain or compressed with gzip.
    Turns(&'a [PathBuf]),
    /// A policy that searches.
    Policy(PolicySource<'a>),
}

/// A policy that searches a real engine.
#[derive(Debug)]
pub struct PolicySource<'a> {
    /// The policy.
    pub policy: &'a dyn zs_model::Generator,
    /// The engine.
    pub engine: &'a dyn zs_core::SearchEngine,
    /// What it is asked.
    pub questions: &'a [zs_core::Question],
    /// How episodes are played.
    pub rollout: &'a zs_rl::RolloutConfig,
    /// Episodes played together.
    pub batch_size: usize,
    /// Where policy, questions and documents came from, for the manifest.
    pub inputs: Vec<PathBuf>,
}

/// Who labels documents.
#[derive(Clone, Debug, PartialEq)]
pub enum JudgeChoice {
    /// The rule.
    Containment,
    /// A model.
    Llm(LlmJudgeConfig),
    /// A model whose labels count, and the rule to compare it with.
    Both(LlmJudgeConfig),
}

/// What to make of the searches.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectConfig {
    /// The directory of the set.
    pub out: PathBuf,
    /// Who labels.
    pub judge: JudgeChoice,
    /// Share of questions for validation.
    pub validation_share: f64,
    /// Whether both qualities are made equally frequent.
    pub balance: bool,
    /// Seed of split, balance and sampling.
    pub seed: u64,
}

/// Makes a tuning set: `train.jsonl`, `validation.jsonl` and `manifest.json` in `out`.
///
/// A finished set of the same settings is left as it is; an interrupted one is continued: searches
/// that were made and verdicts that were given are not asked for again.
///
/// # Errors
///
/// Fails on unreadable input, on a set of other settings in the same place, and when nothing is
/// left.
pub fn collect(
    source: &SearchSource<'_>,
    config: &CollectConfig,
    console: &dyn Console,
) -> Result<Manifest> {
    let settings = settings(source, config)?;
    if let Some(finished) = finished(&config.out, &settings)? {
        console.note(&format!("{}: already collected, nothing to do", config.out.display()));
        return Ok(finished);
    }
    std::fs::create_dir_all(&config.out)
        .with_context(|| format!("{}: cannot create", config.out.display()))?;
    claim(&config.out, &settings)?;
    let raw = match source {
        SearchSource::Turns(paths) => read_files(paths)?,
        SearchSource::Policy(it) => Rolling {
            policy: it.policy,
            engine: it.engine,
            questions: it.questions,
            config: it.rollout,
            batch_size: it.batch_size,
            seed: config.seed,
        }
        .run(&config.out.join("episodes.jsonl"), console)?,
    };
    let num_searches = raw.len();
    let mut dropped = Dropped::default();
    let searches = distinct(raw, &mut dropped);
    let (labels, judged) = label(&searches, config, console)?;
    let CollectConfig { validation_share, balance, seed, .. } = *config;
    let splits = assemble(searches, &labels, validation_share, balance, seed, &mut dropped);
    if splits.train.is_empty() {
        let reasons: Vec<String> =
            dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        bail!("no search is left to train on; dropped: {}", reasons.join(", "));
    }
    let mut parts = std::collections::BTreeMap::new();
    for (name, rows) in [("train.jsonl", &splits.train), ("validation.jsonl", &splits.validation)] {
        let bytes = json_lines(rows)?;
        write_atomic(&config.out.join(name), &bytes)?;
        parts.insert(name.to_owned(), Part::of(rows, &bytes));
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { version, settings, num_searches, dropped, judged, parts };
    write_json(&config.out.join(MANIFEST), &manifest)?;
    Ok(manifest)
}

fn settings(source: &SearchSource<'_>, config: &CollectConfig) -> Result<Settings> {
    let (judge, model) = match &config.judge {
        JudgeChoice::Containment => ("containment", None),
        JudgeChoice::Llm(model) => ("llm", Some(model)),
        JudgeChoice::Both(model) => ("both", Some(model)),
    };
    let digest_of_model = |it: &LlmJudgeConfig| {
        digest::of_bytes(format!("{}\n{}\n{}", it.url, it.model, it.template).as_bytes())
    };
    let (paths, rolled) = match source {
        SearchSource::Turns(paths) => (paths.to_vec(), None),
        SearchSource::Policy(it) => {
            let questions = it.questions.iter().map(|it| it.text.as_str()).collect::<Vec<_>>();
            let rolled = serde_json::json!({
                "engine": it.engine.name(),
                "rollout": it.rollout,
                "questions": questions.len(),
                "questions_sha256": digest::of_bytes(questions.join("\n").as_bytes()),
            });
            (it.inputs.clone(), Some(rolled))
        }
    };
    let input = |path: PathBuf| Ok(Input { sha256: digest::of_file(&path)?, path });
    Ok(Settings {
        seed: config.seed,
        validation_share: config.validation_share,
        balance: config.balance,
        judge: judge.to_owned(),
        judge_sha256: model.map(digest_of_model),
        inputs: paths.into_iter().map(input).collect::<Result<_>>()?,
        rolled,
    })
}

/// The manifest of a finished set with these settings and unchanged files.
fn finished(out: &Path, settings: &Settings) -> Result<Option<Manifest>> {
    let path = out.join(MANIFEST);
    if !path.exists() {
        return Ok(None);
    }
    let place = || path.display().to_string();
    let manifest: Manifest =
        serde_json::from_slice(&std::fs::read(&path).with_context(place)?).with_context(place)?;
    if manifest.settings != *settings {
        bail!(
            "{}: holds a set that was collected from other inputs or with other settings; nothing \
             was overwritten: remove it or choose another `--out`",
            out.display()
        );
    }
    for (name, part) in &manifest.parts {
        let file = out.join(name);
        if digest::of_file(&file)? != part.sha256 {
            bail!(
                "{}: was changed after it was collected; remove {}",
                file.display(),
                out.display()
            );
        }
    }
    Ok(Some(manifest))
}

/// Writes the settings into the directory of an unfinished set, or checks that they are the same.
fn claim(out: &Path, settings: &Settings) -> Result<()> {
    let path = out.join("settings.json");
    let mut wanted = serde_json::to_vec_pretty(settings)?;
    wanted.push(b'\n');
    if !path.exists() {
        if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{}: holds other files; choose another `--out`", out.display());
        }
        return write_atomic(&path, &wanted);
    }
    if std::fs::read(&path).with_context(|| path.display().to_string())? != wanted {
        bail!(
            "{}: holds an interrupted collection with other settings; remove it or choose another \
             `--out`",
            out.display()
        );
    }
    Ok(())
}

fn read_files(paths: &[PathBuf]) -> Result<Vec<RawSearch>> {
    let mut searches = Vec::new();
    for path in paths {
        let recorded = read_turns(path)?.into_iter();
        searches.extend(recorded.map(|it| {
            let documents = mend_documents(&it.documents);
            RawSearch { documents, ..it }
        }));
    }
    Ok(searches)
}

type Labels = Vec<Vec<Result<DocumentQuality, JudgeError>>>;

fn label(
    searches: &[RawSearch],
    config: &CollectConfig,
    console: &dyn Console,
) -> Result<(Labels, Judged)> {
    let cases: Vec<JudgeCase<'_>> = searches
        .iter()
        .flat_map(|search| {
            search.documents.iter().map(|document| JudgeCase {
                question: &search.question,
                golden_answers: &search.golden_answers,
                query: &search.query,
                document,
            })
        })
        .collect();
    let verdicts = config.out.join("verdicts.jsonl");
    let ask_model = |model: &LlmJudgeConfig| -> Result<Vec<Result<DocumentQuality, JudgeError>>> {
        let judge = LlmJudge::open(model.clone(), &verdicts)?;
        let progress = console.progress("judging", cases.len());
        let mut labels = Vec::with_capacity(cases.len());
        for chunk in cases.chunks(256) {
            labels.extend(judge.judge(chunk));
            progress.advance(chunk.len(), "");
        }
        progress.finish(&format!("{} documents", cases.len()));
        Ok(labels)
    };
    let (flat, compared) = match &config.judge {
        JudgeChoice::Containment => (ContainmentJudge.judge(&cases), None),
        JudgeChoice::Llm(model) => (ask_model(model)?, None),
        JudgeChoice::Both(model) => {
            let (rule, model) = (ContainmentJudge.judge(&cases), ask_model(model)?);
            let both = rule.iter().zip(&model);
            let pairs: Vec<_> = both
                .filter_map(|it| match it {
                    (Ok(rule), Ok(model)) => Some((*rule, *model)),
                    _ => None,
                })
                .collect();
            (model, Some(agreement(&pairs)))
        }
    };
    let count = |quality| flat.iter().filter(|it| **it == Ok(quality)).count();
    let judged = Judged {
        documents: flat.len(),
        useful: count(DocumentQuality::Useful),
        noisy: count(DocumentQuality::Noisy),
        unlabelled: flat.iter().filter(|it| it.is_err()).count(),
        agreement: compared,
    };
    let mut flat = flat.into_iter();
    let labels =
        searches.iter().map(|it| flat.by_ref().take(it.documents.len()).collect()).collect();
    Ok((labels, judged))
}

fn json_lines(rows: &[SearchRecord]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}
