//! `zs eval`: exact match, F1 and searches of a model on a question file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use zs_core::registry::Spec;
use zs_core::{Question, SearchEngine};
use zs_eval::{
    EvalConfig, EvaluationReport, Evaluator, Method, PlayedBatch, Protocol, QuestionRecord, Quirk,
    select_questions,
};
use zs_model::{Generator, SamplingModel};
use zs_rl::program::Harness;
use zs_rl::{ReplacedDocuments, RolloutConfig};
use zs_search::FixedEngine;

use super::output::{EvalDir, Settings};
use crate::command::{EngineArgs, SamplingArgs};
use crate::eval::score::ProtocolArgs;
use crate::report_table::{self, Kind};
use crate::session::Session;
use zs_trainer::source;

/// Arguments of an evaluation.
#[derive(Debug, Args)]
pub struct EvalRunArgs {
    /// The policy model (Hugging Face layout).
    #[arg(long, value_name = "DIR", required = true)]
    pub model: Option<PathBuf>,
    /// Sampling of the model.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Search engine; not needed by methods that do not search.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Questions with golden answers (JSON Lines, JSON, CSV, TSV, Parquet; also gzipped).
    #[arg(long, value_name = "FILE", required = true)]
    pub questions: Option<PathBuf>,
    /// Method of prompting: direct, cot, rag, rag-agent, search-o1, r1 or trained.
    #[arg(long, default_value = "trained")]
    pub method: Method,
    /// Template that replaces the method's prompt.
    #[arg(long, value_name = "FILE")]
    pub prompt: Option<PathBuf>,
    /// Protocol of scoring.
    #[command(flatten)]
    pub protocol: ProtocolArgs,
    /// Documents per search.
    #[arg(long, default_value_t = 3)]
    pub k: usize,
    /// Maximum number of searches per episode.
    #[arg(long, default_value_t = 3)]
    pub max_searches: u32,
    /// Maximum number of tokens per turn.
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// Show documents with their titles.
    #[arg(long)]
    pub titles: bool,
    /// Episodes per question, for pass@k and the mean over k.
    #[arg(long, default_value_t = 1, value_name = "K")]
    pub samples: u32,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Nucleus probability mass (top-p).
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Maximum number of questions, from the start of the file.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Program function that may rewrite an action, e.g. `insufficient_exploration`; may be repeated.
    #[arg(long = "program", value_name = "NAME")]
    pub programs: Vec<String>,
    /// Also replace the documents of each search in turn, by none, useful or noisy ones, under the same
    /// draws, to see which searches mattered; may be repeated. Engines that retrieve return the same for
    /// useful and noisy.
    #[arg(long = "replace-documents", value_name = "WITH")]
    pub replace_documents: Vec<ReplacedDocuments>,
    /// Episodes sampled together; changes speed and memory, not results.
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Lanes (pipelined rollout batches) that a batch is split into: while one is sampled, the others
    /// search. Speeds up engines on other machines; changes no results where they are deterministic.
    #[arg(long, default_value_t = 1)]
    pub lanes: usize,
    /// Seed of the sampling, of the bootstrap and of the simulation LLM.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write settings, records, episodes and a summary to this directory; an interrupted evaluation
    /// resumes.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the summary as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl EvalRunArgs {
    /// The model's directory.
    pub(super) fn model(&self) -> &Path {
        self.model.as_deref().expect("clap requires it where no subcommand is given")
    }

    /// The question file.
    pub(super) fn questions(&self) -> &Path {
        self.questions.as_deref().expect("clap requires it where no subcommand is given")
    }
}

/// Evaluates a model and prints a table.
pub(super) fn run(args: &EvalRunArgs, session: &Session) -> Result<()> {
    let protocol = args.protocol.protocol();
    let is_sampled = args.temperature > 0.0 || protocol.has(Quirk::Sampled);
    if args.samples > 1 && !is_sampled {
        bail!(
            "`--samples {}` would be equal with greedy decoding; set `--temperature` above 0",
            args.samples
        );
    }
    if let Some(out) = &args.out {
        EvalDir::check(out)?;
    }
    let functions = &session.components.program_functions;
    let programs = args.programs.iter().map(|it| functions.resolve(&Spec::named(it)));
    let programs: Vec<Spec> = programs.collect::<Result<_, _>>().context("`--program`")?;
    let harness = Harness::of(functions, &programs)?;
    let context = session.context()?;
    let policy = Arc::new(args.sampling.load(args.model(), &context)?);
    let mut questions = session.read_questions(args.questions())?;
    questions.truncate(args.limit.unwrap_or(usize::MAX));
    let questions = select_questions(&protocol, questions);
    if questions.is_empty() {
        bail!("{}: no question is left under protocol {protocol}", args.questions().display());
    }
    let engine: Arc<dyn SearchEngine> = match args.method.searches() {
        true => {
            let policy = Some(Arc::clone(&policy) as _);
            args.engine.open_in(args.out.as_deref(), policy, &context)?
        }
        false => Arc::new(FixedEngine::new(Vec::new())),
    };
    let config = EvalConfig {
        rollout: RolloutConfig { programs, ..rollout_config(args, &policy, &protocol)? },
        batch_size: args.batch_size,
        seed: args.seed,
        noise_probability: 0.0,
    };
    config.rollout.validate()?;
    let settings =
        Settings::new(args, policy.compute_dtype(), &protocol, &config, &session.components)?;
    let total = questions.len() * args.samples as usize;
    let open = |out: &PathBuf| EvalDir::open(out, &settings, total, args.batch_size);
    let mut dir = args.out.as_ref().map(open).transpose()?;
    let mut records = dir.as_ref().map(|it| it.records().to_vec()).unwrap_or_default();
    if !records.is_empty() {
        session.console.note(&format!("{} of {total} episodes are already done", records.len()));
    }
    play(
        args,
        &policy,
        engine.as_ref(),
        &questions,
        &config,
        &protocol,
        &harness,
        &mut records,
        dir.as_mut(),
        session,
    )?;
    let report = EvaluationReport::new(&records, args.seed)?;
    let summary = serde_json::json!({
        "kind": "eval",
        "protocol": protocol,
        "method": args.method,
        "engine": if args.method.searches() { engine.name() } else { "none" },
        "settings": settings,
        "config": config,
        "report": report,
    });
    if let Some(dir) = &dir {
        dir.finish(&summary)?;
    }
    if args.json {
        session.print(&format!("{summary:#}\n"));
        return Ok(());
    }
    let title = format!(
        "protocol {protocol}, method {}, {}, {}",
        args.method,
        args.model().display(),
        args.questions().display()
    );
    session.print(&report_table::render(&title, &report, Kind::Episodes));
    Ok(())
}

/// Plays the remaining episodes, with progress; every batch is on disk before the next starts.
#[expect(clippy::too_many_arguments, reason = "the parts of one evaluation, each used once")]
fn play(
    args: &EvalRunArgs,
    policy: &SamplingModel,
    engine: &dyn SearchEngine,
    questions: &[Question],
    config: &EvalConfig,
    protocol: &Protocol,
    harness: &Harness,
    records: &mut Vec<QuestionRecord>,
    mut dir: Option<&mut EvalDir>,
    session: &Session,
) -> Result<()> {
    let (method, samples) = (args.method, args.samples);
    let evaluator = Evaluator {
        method,
        samples,
        harness: Some(harness),
        replaced_documents: &args.replace_documents,
        ..Evaluator::new(policy, engine, config, protocol)
    };
    let num_done = records.len();
    let progress =
        session.console.progress("evaluating", questions.len() * samples as usize - num_done);
    let exact_match = |records: &[QuestionRecord]| {
        let exact = records.iter().filter(|it| it.exact_match).count();
        format!("exact match {:.3}", exact as f64 / records.len().max(1) as f64)
    };
    evaluator.run(questions, num_done, &mut |batch: PlayedBatch| {
        session.health.check()?;
        if let Some(dir) = dir.as_deref_mut() {
            dir.push(&batch)?;
        }
        let num_new = batch.records.len();
        records.extend(batch.records);
        progress.advance(num_new, &exact_match(records));
        anyhow::Ok(())
    })?;
    progress.finish(&exact_match(records));
    Ok(())
}

/// Builds the rollout config of these arguments.
fn rollout_config(
    args: &EvalRunArgs,
    policy: &SamplingModel,
    protocol: &Protocol,
) -> Result<RolloutConfig> {
    let base = source::default_rollout(policy.tokenizer());
    let mut config = RolloutConfig {
        temperature: args.temperature,
        top_p: args.top_p,
        max_searches: args.max_searches,
        num_documents: args.k,
        document_titles: args.titles,
        max_new_tokens: args.max_new_tokens.unwrap_or(base.max_new_tokens),
        ..base
    };
    let reference = RolloutConfig::default();
    if protocol.has(Quirk::ReferenceLimits) {
        config.max_searches = reference.max_searches;
        config.num_documents = reference.num_documents;
        config.max_new_tokens = reference.max_new_tokens;
        config.max_observation_tokens = reference.max_observation_tokens;
    }
    if protocol.has(Quirk::ReferencePrompt) {
        config.prompt_template = reference.prompt_template;
    }
    if protocol.has(Quirk::Sampled) {
        (config.temperature, config.top_p) = (1.0, 0.95);
    }
    config = args.method.rollout(config);
    config.lanes = args.lanes;
    if let Some(path) = &args.prompt {
        config.prompt_template = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot read the prompt template", path.display()))?;
    }
    // An observation leaves room for a whole turn, or for a quarter of a small context.
    let context = policy.context_length();
    config.min_turn_tokens = config.max_new_tokens.min(context / 4).max(1);
    Ok(config)
}
