//! `zs simulate`: collect tuning data, audit a simulator.

mod audit_table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use zs_rl::RolloutConfig;
use zs_simulator::audit::{QuestionAuditConfig, audit_questions};
use zs_simulator::collect::{
    CollectConfig, CollectEvent, JUDGE_TEMPLATE, JudgeChoice, LlmJudgeConfig, Manifest,
    SearchSource, collect_tuning_set,
};
use zs_trainer::{Console, PolicySearches, Progress, engines, source};

use crate::command::{EngineArgs, SamplingArgs};
use crate::session::Session;

/// Subcommands of `zs simulate`.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// Make a tuning set for a simulation LLM from searches on a real engine.
    Collect(Box<CollectArgs>),
    /// Measure the quality of a simulation LLM before training on it.
    Audit(AuditArgs),
}

/// Arguments of `zs simulate collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Recorded turns (JSON Lines, `.gz` or plain).
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "policy")]
    pub turns: Vec<PathBuf>,
    /// Policy model that searches for the questions instead.
    #[arg(long, value_name = "DIR", required_unless_present = "turns", requires = "questions")]
    pub policy: Option<PathBuf>,
    /// Sampling of the policy.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Questions that the policy is asked (JSON Lines or Parquet).
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub questions: Option<PathBuf>,
    /// Maximum number of questions, from the start of the file.
    #[arg(long, requires = "questions")]
    pub limit: Option<usize>,
    /// The policy searches this corpus.
    #[arg(long, value_name = "FILE", group = "collect_engine", requires = "policy")]
    pub corpus: Option<PathBuf>,
    /// The policy searches this index.
    #[arg(long, value_name = "DIR", group = "collect_engine", requires = "policy")]
    pub index: Option<PathBuf>,
    /// The policy searches the engine that this file describes, as `engine = { … }` of a run file.
    #[arg(long, value_name = "FILE", group = "collect_engine", requires = "policy")]
    pub engine: Option<PathBuf>,
    /// Documents per search.
    #[arg(long, default_value_t = 5)]
    pub k: usize,
    /// Maximum number of searches per episode.
    #[arg(long, default_value_t = 4)]
    pub max_searches: u32,
    /// Softmax temperature of the policy.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f32,
    /// Episodes played together.
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Judge of the usefulness of a document.
    #[arg(long, value_enum, default_value_t = JudgeName::Containment)]
    pub judge: JudgeName,
    /// The judge's server, up to and with `/v1` (OpenAI-compatible).
    #[arg(long, value_name = "URL", required_if_eq_any = [("judge", "llm"), ("judge", "both")])]
    pub judge_url: Option<String>,
    /// Name of the judge's model on that server.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub judge_model: String,
    /// The environment variable that holds the server's key.
    #[arg(long, value_name = "VARIABLE")]
    pub judge_key_env: Option<String>,
    /// Template for the judge's prompt instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub judge_template: Option<PathBuf>,
    /// Maximum number of concurrent requests to the judge.
    #[arg(long, default_value_t = 8)]
    pub judge_concurrency: usize,
    /// Fraction of questions held out for the validation loss.
    #[arg(long, default_value_t = 0.05)]
    pub validation_share: f64,
    /// Keep all searches, instead of balancing useful and noisy ones.
    #[arg(long)]
    pub unbalanced: bool,
    /// Seed of split, balance and sampling.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The directory of the set.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Judge of the usefulness of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JudgeName {
    /// A golden answer occurs in it.
    Containment,
    /// A language model says so.
    Llm,
    /// A language model says so, and the rule is compared with it.
    Both,
}

/// Arguments of `zs simulate audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The simulation LLM (Hugging Face layout).
    #[arg(long, value_name = "DIR", required_unless_present = "engine", conflicts_with = "engine")]
    pub simulator: Option<PathBuf>,
    /// The engine that this file describes, as `engine = { … }` of a run file.
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// Questions with golden answers (JSON Lines or Parquet).
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Maximum number of questions, from the start of the file.
    #[arg(long, default_value_t = 200)]
    pub limit: usize,
    /// Compare with BM25 over this corpus.
    #[arg(long, value_name = "FILE", group = "audit_real")]
    pub corpus: Option<PathBuf>,
    /// Compare with BM25 over this index.
    #[arg(long, value_name = "DIR", group = "audit_real")]
    pub index: Option<PathBuf>,
    /// Documents per query.
    #[arg(long, default_value_t = 5)]
    pub k: usize,
    /// Seeds; every query is searched once with each.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub seeds: Vec<u64>,
    /// Write all numbers to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs a subcommand.
pub(crate) fn simulate(command: &SimulateCommand, session: &Session) -> Result<()> {
    match command {
        SimulateCommand::Collect(args) => collect(args, session),
        SimulateCommand::Audit(args) => audit(args, session),
    }
}

fn collect(args: &CollectArgs, session: &Session) -> Result<()> {
    let config = args.config()?;
    let manifest = match (&args.policy, &args.questions) {
        (Some(policy), Some(questions)) => args.roll(policy, questions, &config, session)?,
        _ => {
            let source = SearchSource::Turns(&args.turns);
            collect_tuning_set(&source, &config, &mut shown(&config.out, session.console.as_ref()))?
        }
    };
    session.print(&format!("{}\n", summary(&manifest)));
    Ok(())
}

/// Shows the making of a set on the console.
pub(crate) fn shown(out: &Path, console: &dyn Console) -> impl FnMut(CollectEvent) {
    let mut current: Option<Box<dyn Progress>> = None;
    move |event| match event {
        CollectEvent::Found => {
            console.note(&format!("{}: already made, nothing to do", out.display()));
        }
        CollectEvent::Begins { what, total } => current = Some(console.progress(what, total)),
        CollectEvent::Advances(steps) => {
            if let Some(progress) = &current {
                progress.advance(steps, "");
            }
        }
        CollectEvent::Ends(message) => {
            if let Some(progress) = current.take() {
                progress.finish(&message);
            }
        }
    }
}

fn summary(manifest: &Manifest) -> String {
    let mut lines = vec![format!("searches read: {}", manifest.num_searches)];
    for (reason, count) in manifest.dropped.iter() {
        lines.push(format!("  dropped, {reason}: {count}"));
    }
    let judged = &manifest.judged;
    lines.push(format!(
        "documents judged: {} ({} useful, {} noisy, {} without a label)",
        judged.documents, judged.useful, judged.noisy, judged.unlabelled
    ));
    if let Some(it) = &judged.agreement {
        lines.push(format!(
            "rule and model agree on {:.3} of {} documents, kappa {:.3}",
            it.observed, it.num_compared, it.kappa
        ));
    }
    for (name, part) in &manifest.parts {
        lines.push(format!(
            "{name}: {} searches for {} questions ({} useful, {} noisy)",
            part.rows, part.questions, part.useful, part.noisy
        ));
    }
    lines.join("\n")
}

impl CollectArgs {
    fn config(&self) -> Result<CollectConfig> {
        let share = self.validation_share;
        if !(0.0..1.0).contains(&share) {
            bail!("--validation-share must be in [0, 1), is {share}");
        }
        for (name, value) in [
            ("k", self.k),
            ("batch-size", self.batch_size),
            ("judge-concurrency", self.judge_concurrency),
        ] {
            if value == 0 {
                bail!("--{name} must be at least 1");
            }
        }
        let judge = match self.judge {
            JudgeName::Containment => JudgeChoice::Containment,
            JudgeName::Llm => JudgeChoice::Llm(self.llm_judge()?),
            JudgeName::Both => JudgeChoice::Both(self.llm_judge()?),
        };
        Ok(CollectConfig {
            out: self.out.clone(),
            judge,
            validation_share: share,
            balance: !self.unbalanced,
            seed: self.seed,
        })
    }

    fn llm_judge(&self) -> Result<LlmJudgeConfig> {
        let template = match &self.judge_template {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("{}: cannot be read", path.display()))?,
            None => JUDGE_TEMPLATE.to_owned(),
        };
        Ok(LlmJudgeConfig {
            url: self.judge_url.clone().context("give the judge's server with --judge-url")?,
            model: self.judge_model.clone(),
            key_env: self.judge_key_env.clone(),
            template,
            concurrency: self.judge_concurrency,
            attempts: 3,
            max_tokens: 512,
        })
    }

    fn roll(
        &self,
        policy: &Path,
        questions: &Path,
        config: &CollectConfig,
        session: &Session,
    ) -> Result<Manifest> {
        let context = session.context()?;
        let named = EngineArgs {
            corpus: self.corpus.clone(),
            index: self.index.clone(),
            engine: self.engine.clone(),
            simulator: None,
        };
        let Some(engine) = named.spec(&session.components)? else {
            bail!("give the policy an engine: --corpus, --index or --engine");
        };
        let engine = engines::open_alone(&engine, &context)?;
        let model = self.sampling.load(policy, &context)?;
        let mut asked = session.read_questions(questions)?;
        asked.truncate(self.limit.unwrap_or(usize::MAX));
        let rollout = RolloutConfig {
            temperature: self.temperature,
            max_searches: self.max_searches,
            num_documents: self.k,
            ..source::default_rollout(zs_model::Generator::tokenizer(&model))
        };
        let mut inputs = vec![questions.to_owned(), policy.join("config.json")];
        inputs.extend(self.corpus.iter().chain(&self.engine).cloned());
        let weights = policy.join("model.safetensors");
        inputs.extend(weights.exists().then_some(weights));
        let searches = PolicySearches {
            policy: &model,
            engine: engine.as_ref(),
            questions: &asked,
            rollout: &rollout,
            batch_size: self.batch_size,
            inputs,
        };
        let mut shown = shown(&config.out, session.console.as_ref());
        Ok(searches.collect_tuning_set(config, &mut shown)?)
    }
}

fn audit(args: &AuditArgs, session: &Session) -> Result<()> {
    if args.k == 0 || args.seeds.is_empty() || args.limit == 0 {
        bail!("--k, --limit and the number of --seeds must be at least 1");
    }
    let context = session.context()?;
    let AuditArgs { corpus, index, simulator, engine, .. } = args;
    let [corpus, index, simulator, engine] = [corpus, index, simulator, engine].map(Clone::clone);
    let audited = EngineArgs { simulator, engine, ..EngineArgs::default() };
    let Some(engine) = audited.spec(&session.components)? else {
        bail!("give --simulator or --engine")
    };
    let engine = engines::open_alone(&engine, &context)?;
    let real = EngineArgs { corpus, index, ..EngineArgs::default() }.spec(&session.components)?;
    let real = real.map(|it| engines::open_alone(&it, &context)).transpose()?;
    let mut questions = session.read_questions(&args.questions)?;
    questions.truncate(args.limit);
    let config = QuestionAuditConfig { k: args.k, seeds: args.seeds.clone() };
    let num_cells = 2 * zs_simulator::audit::QueryForm::ALL.len() * args.seeds.len();
    let progress = session.console.progress("auditing", num_cells);
    let audited =
        audit_questions(engine.as_ref(), real.as_deref(), &questions, &config, &mut |_| {
            progress.advance(1, "");
        });
    progress.finish(&format!("{} questions", questions.len()));
    if let Some(path) = &args.out {
        zs_observe::write_json(path, &audited)?;
    }
    if args.json {
        session.print(&format!("{}\n", serde_json::to_string_pretty(&audited)?));
        return Ok(());
    }
    let findings: String = audited.findings().iter().map(|it| format!("- {it}\n")).collect();
    session.print(&format!("{}\n{findings}", audit_table::table(&audited)));
    Ok(())
}
