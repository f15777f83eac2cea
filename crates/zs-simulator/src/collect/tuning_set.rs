//! A tuning set out of recorded turns, or of searches that are played for it.

use std::path::PathBuf;

use zs_core::DocumentQuality;
use zs_data::{FileError, digest, write_atomic, write_json};

use super::llm_judge::{LlmJudge, LlmJudgeConfig};
use super::manifest::{Input, Judged, Manifest, Part, Settings};
use super::played::{CollectEvent, EpisodeSource};
use super::{
    CollectError, ContainmentJudge, Dropped, Judge, JudgeCase, JudgeError, RawSearch, agreement,
    assemble, distinct, mend_documents, read_turns,
};
use crate::resumable_set::{MANIFEST, SetManifest, claim, finished, json_lines};

/// Source of the searches of a tuning set.
#[derive(Debug)]
pub enum SearchSource<'a> {
    /// Files of recorded turns, plain or compressed with gzip.
    Turns(&'a [PathBuf]),
    /// Episodes that are played.
    Episodes(EpisodeSource<'a>),
}

/// Judge that labels the documents.
#[derive(Clone, Debug, PartialEq)]
pub enum JudgeChoice {
    /// The rule.
    Containment,
    /// A model.
    Llm(LlmJudgeConfig),
    /// A model whose labels count, and the rule to compare it with.
    Both(LlmJudgeConfig),
}

/// Settings of a tuning set.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectConfig {
    /// The directory of the set.
    pub out: PathBuf,
    /// Judge that labels the documents.
    pub judge: JudgeChoice,
    /// Share of questions for validation.
    pub validation_share: f64,
    /// If true, both qualities are made equally frequent.
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
pub fn collect_tuning_set(
    source: &SearchSource<'_>,
    config: &CollectConfig,
    progress: &mut dyn FnMut(CollectEvent),
) -> Result<Manifest, CollectError> {
    let settings = settings(source, config)?;
    if let Some(finished) = finished::<Manifest>(&config.out, &settings)? {
        progress(CollectEvent::Found);
        return Ok(finished);
    }
    claim(&config.out, &settings)?;
    let raw = match source {
        SearchSource::Turns(paths) => read_files(paths)?,
        SearchSource::Episodes(it) => it.searches(&config.out.join("episodes.jsonl"), progress)?,
    };
    let num_searches = raw.len();
    let mut dropped = Dropped::default();
    let searches = distinct(raw, &mut dropped);
    let (labels, judged) = label(&searches, config, progress)?;
    let CollectConfig { validation_share, balance, seed, .. } = *config;
    let splits = assemble(searches, &labels, validation_share, balance, seed, &mut dropped);
    if splits.train.is_empty() {
        let reasons: Vec<String> =
            dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        return Err(CollectError::Nothing { dropped: reasons.join(", ") });
    }
    let mut parts = std::collections::BTreeMap::new();
    for (name, rows) in [("train.jsonl", &splits.train), ("validation.jsonl", &splits.validation)] {
        let path = config.out.join(name);
        let bytes = json_lines(&path, rows)?;
        write_atomic(&path, &bytes)?;
        parts.insert(name.to_owned(), Part::of(rows, &bytes));
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { version, settings, num_searches, dropped, judged, parts };
    let path = config.out.join(MANIFEST);
    write_json(&path, &manifest)?;
    Ok(manifest)
}

fn settings(source: &SearchSource<'_>, config: &CollectConfig) -> Result<Settings, FileError> {
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
        SearchSource::Episodes(it) => {
            let questions = it.questions.iter().map(|it| it.text.as_str()).collect::<Vec<_>>();
            let mut settings = it.settings.clone();
            let sha256 = digest::of_bytes(questions.join("\n").as_bytes());
            settings.insert("questions".to_owned(), questions.len().into());
            settings.insert("questions_sha256".to_owned(), sha256.into());
            (it.inputs.clone(), Some(settings.into()))
        }
    };
    let input = |path: PathBuf| Ok(Input { sha256: digest::of_file(&path)?, path });
    Ok(Settings {
        seed: config.seed,
        validation_share: config.validation_share,
        balance: config.balance,
        judge: judge.to_owned(),
        judge_sha256: model.map(digest_of_model),
        inputs: paths.into_iter().map(input).collect::<Result<_, FileError>>()?,
        rolled,
    })
}

impl SetManifest for Manifest {
    type Settings = Settings;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn digests(&self) -> Vec<(&str, &str)> {
        self.parts.iter().map(|(name, it)| (name.as_str(), it.sha256.as_str())).collect()
    }
}

fn read_files(paths: &[PathBuf]) -> Result<Vec<RawSearch>, CollectError> {
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
    progress: &mut dyn FnMut(CollectEvent),
) -> Result<(Labels, Judged), CollectError> {
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
    let mut ask_model = |model: &LlmJudgeConfig| -> Result<Vec<_>, CollectError> {
        let judge = LlmJudge::open(model.clone(), &verdicts)?;
        progress(CollectEvent::Begins { what: "judging", total: cases.len() });
        let mut labels = Vec::with_capacity(cases.len());
        for chunk in cases.chunks(256) {
            labels.extend(judge.judge(chunk));
            progress(CollectEvent::Advances(chunk.len()));
        }
        progress(CollectEvent::Ends(format!("{} documents", cases.len())));
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
