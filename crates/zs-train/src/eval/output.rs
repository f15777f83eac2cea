//! The directory of an evaluation: settings, one line per episode, and the state to resume from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use zs_eval::{EvalConfig, Method, PlayedBatch, Protocol, QuestionRecord};
use zs_model::ComputeDtype;
use zs_rl::{ReplacedDocuments, RolloutConfig, write_records};

use super::run::EvalRunArgs;
use zs_data::{JsonLinesWriter, digest, read_regular, read_regular_text, read_whole_rows};
use zs_trainer::RunDirError;
use zs_trainer::config::load_engine;
use zs_trainer::files::{RunDir, SUMMARY};

const SETTINGS: &str = "settings.json";
const RECORDS: &str = "records.jsonl";
const TRAJECTORIES: &str = "trajectories.jsonl";

/// Settings that an evaluation's numbers depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    model: String,
    /// The model's files and their sizes.
    model_files: Vec<(String, u64)>,
    engine: String,
    questions: String,
    questions_sha256: String,
    limit: Option<usize>,
    method: Method,
    protocol: Protocol,
    samples: u32,
    #[serde(default)]
    compute_dtype: ComputeDtype,
    rollout: RolloutConfig,
    seed: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced_documents: Vec<ReplacedDocuments>,
}

impl Settings {
    pub(super) fn new(
        args: &EvalRunArgs,
        compute_dtype: ComputeDtype,
        protocol: &Protocol,
        config: &EvalConfig,
        components: &zs_trainer::Components,
    ) -> Result<Self> {
        let questions = read_regular(args.questions())
            .with_context(|| format!("{}: cannot read", args.questions().display()))?;
        let mut model_files = Vec::new();
        for entry in fs::read_dir(args.model())
            .with_context(|| format!("{}: cannot list", args.model().display()))?
        {
            let entry = entry?;
            model_files.push((entry.file_name().to_string_lossy().into(), entry.metadata()?.len()));
        }
        model_files.sort();
        let engine = [
            ("corpus", &args.engine.corpus),
            ("index", &args.engine.index),
            ("simulator", &args.engine.simulator),
        ];
        let named = |(kind, path): (&str, &Option<PathBuf>)| {
            path.as_ref().map(|it| format!("{kind} {}", it.display()))
        };
        let engine = match &args.engine.engine {
            Some(path) => Some(serde_json::to_string(&load_engine(path, components)?)?),
            None => engine.into_iter().find_map(named),
        };
        Ok(Self {
            model: args.model().display().to_string(),
            model_files,
            engine: engine.filter(|_| args.method.searches()).unwrap_or_else(|| "none".to_owned()),
            questions: args.questions().display().to_string(),
            questions_sha256: digest::of_bytes(&questions),
            limit: args.limit,
            method: args.method,
            protocol: protocol.clone(),
            samples: args.samples,
            compute_dtype,
            // As the batch size, lanes are not what the numbers depend on.
            rollout: RolloutConfig { lanes: 1, ..config.rollout.clone() },
            seed: config.seed,
            replaced_documents: args.replace_documents.clone(),
        })
    }

    /// The first setting that two evaluations differ in.
    fn difference(&self, other: &Self) -> Result<Option<String>> {
        let [mine, others] = [self, other].map(serde_json::to_value);
        let (mine, others) = (mine?, others?);
        let keys = [&mine, &others].into_iter().filter_map(|it| it.as_object());
        let mut keys = keys.flat_map(serde_json::Map::keys);
        Ok(keys.find(|it| mine.get(it) != others.get(it)).cloned())
    }
}

/// An evaluation on disk, from its first batch to its summary.
#[derive(Debug)]
pub(super) struct EvalDir {
    run: RunDir,
    done: Vec<QuestionRecord>,
    records: JsonLinesWriter,
    trajectories: JsonLinesWriter,
}

impl EvalDir {
    /// Checks before expensive work that a directory is free or holds an evaluation.
    pub(super) fn check(path: &Path) -> Result<(), RunDirError> {
        if path.join(SETTINGS).is_file() { Ok(()) } else { RunDir::check_free(path) }
    }

    /// Starts an evaluation of `total` episodes, or continues one with the same settings.
    ///
    /// It resumes after the last complete batch, so that batches are made of the same episodes as
    /// without the interruption, and the episodes are bit-exact.
    pub(super) fn open(
        path: &Path,
        settings: &Settings,
        total: usize,
        batch_size: usize,
    ) -> Result<Self> {
        let settings_path = path.join(SETTINGS);
        if !settings_path.is_file() {
            let run = RunDir::create(path)?;
            run.write_json(SETTINGS, settings)?;
            let (records, trajectories) = (run.json_lines(RECORDS)?, run.json_lines(TRAJECTORIES)?);
            return Ok(Self { run, done: Vec::new(), records, trajectories });
        }
        let text = read_regular_text(&settings_path)
            .with_context(|| format!("{}: cannot read", settings_path.display()))?;
        let before: Settings = serde_json::from_str(&text).with_context(|| {
            format!("{}: no settings of an evaluation", settings_path.display())
        })?;
        if let Some(setting) = settings.difference(&before)? {
            bail!(
                "{}: holds an evaluation with another `{setting}`; repeat its settings to continue \
                 it, or choose another `--out`",
                path.display()
            );
        }
        let run = RunDir::open(path)?;
        let mut done: Vec<QuestionRecord> = read_whole_rows(&run.join(RECORDS))?;
        if done.len() != total {
            let batch_size = batch_size.max(1);
            done.truncate(done.len() / batch_size * batch_size);
        }
        // A file may be missing, or end in the middle of a line, where the evaluation was killed.
        let resume = |name: &str| JsonLinesWriter::resume(&run.join(name), done.len());
        let (records, trajectories) = (resume(RECORDS)?, resume(TRAJECTORIES)?);
        Ok(Self { run, done, records, trajectories })
    }

    /// Records of the episodes that are already played.
    pub(super) fn records(&self) -> &[QuestionRecord] {
        &self.done
    }

    /// Writes a batch and waits until it is on the disk. Records come last, so that a record always has
    /// its episode.
    pub(super) fn push(&mut self, batch: &PlayedBatch) -> Result<()> {
        let mut lines = Vec::new();
        write_records(&mut lines, &batch.trajectories)?;
        self.trajectories.push_bytes(&lines)?;
        self.trajectories.sync()?;
        batch.records.iter().try_for_each(|it| self.records.push(it))?;
        Ok(self.records.sync()?)
    }

    /// Writes the summary of a finished evaluation.
    pub(super) fn finish(&self, summary: &serde_json::Value) -> Result<()> {
        Ok(self.run.write_json(SUMMARY, summary)?)
    }
}
