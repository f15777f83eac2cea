//! `zs data questions`: questions and answers that a model writes from passages.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use zs_core::registry::Settings;
use zs_model::SamplingParams;
use zs_simulator::question_generation::{
    LocalReplies, QuestionManifest, QuestionSettings, QuestionSource, QuestionTemplates,
    ReplyModel, ServerReplies, generate_questions,
};
use zs_simulator::{RemoteConfig, RemoteSettings};
use zs_trainer::config::load_engine;

use crate::command::SamplingArgs;
use crate::session::Session;
use crate::simulate::shown;

/// Arguments of `zs data questions`.
#[derive(Debug, Args)]
pub struct QuestionsArgs {
    /// Directory of `zs corpus build`, or a corpus file.
    #[arg(long, value_name = "DIR|FILE")]
    pub corpus: PathBuf,
    /// Model that writes the questions (Hugging Face layout).
    #[arg(long, value_name = "DIR", required_unless_present = "server", conflicts_with = "server")]
    pub model: Option<PathBuf>,
    /// Servers of that model instead: a file with `engine = { kind = "remote", servers = … }`, as in a
    /// run file.
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
    /// Another model that answers the questions, to check them.
    #[arg(long, value_name = "DIR", conflicts_with = "check_server")]
    pub check_model: Option<PathBuf>,
    /// Servers of another model that answers the questions, to check them.
    #[arg(long, value_name = "FILE")]
    pub check_server: Option<PathBuf>,
    /// Sampling of models in this process.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Output directory of the set.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Questions asked for per passage.
    #[arg(long, default_value_t = 1)]
    pub per_passage: usize,
    /// Maximum number of passages, drawn by the seed.
    #[arg(long, value_name = "N")]
    pub passages: Option<usize>,
    /// Minimum number of words of a passage.
    #[arg(long, value_name = "WORDS", default_value_t = 20)]
    pub min_passage_words: usize,
    /// Maximum number of words of an answer.
    #[arg(long, value_name = "WORDS", default_value_t = 8)]
    pub max_answer_words: usize,
    /// Keep questions that the model answers wrongly when it is shown the passage.
    #[arg(long)]
    pub keep_unanswered: bool,
    /// Keep questions that the model answers rightly when it is not shown the passage.
    #[arg(long)]
    pub keep_known: bool,
    /// Minimum F1 of a right answer in these checks.
    #[arg(long, default_value_t = 0.5)]
    pub min_f1: f64,
    /// Template of the prompt for a question instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Template of the prompt for an answer instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub answer_template: Option<PathBuf>,
    /// Softmax temperature of the questions; answers are greedy.
    #[arg(long, default_value_t = 0.8)]
    pub temperature: f32,
    /// Maximum number of tokens of a reply.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub max_new_tokens: usize,
    /// Prompts given to a model at once.
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Fraction of passages whose questions are for validation.
    #[arg(long, default_value_t = 0.1)]
    pub validation_share: f64,
    /// Fraction of passages whose questions are for the test set.
    #[arg(long, default_value_t = 0.1)]
    pub test_share: f64,
    /// Seed of passages, samples and splits.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Makes a set of questions and prints what is in it.
///
/// # Errors
///
/// Fails on arguments out of range, a model that cannot be used, and as [`generate_questions`].
pub(crate) fn data_questions(args: &QuestionsArgs, session: &Session) -> Result<()> {
    args.check()?;
    let passages = match args.corpus.is_dir() {
        true => args.corpus.join("passages.jsonl"),
        false => args.corpus.clone(),
    };
    let mut inputs = Vec::new();
    let mut models = Models { args, session, loaded: None, inputs: &mut inputs };
    let (dir, server) = (args.model.as_deref(), args.server.as_deref());
    let (writer, written_by) = models.open(dir, server, args.temperature)?;
    let (check_dir, check_server) = match (&args.check_model, &args.check_server) {
        (None, None) => (dir, server),
        (dir, server) => (dir.as_deref(), server.as_deref()),
    };
    let (checker, checked_by) = models.open(check_dir, check_server, 0.0)?;
    let settings = args.settings(written_by, checked_by)?;
    let source = QuestionSource {
        passages: &passages,
        writer: writer.as_ref(),
        checker: checker.as_ref(),
        batch_size: args.batch_size,
        inputs,
    };
    let mut progress = shown(&args.out, session.console.as_ref());
    let manifest = generate_questions(&source, &settings, &args.out, &mut progress)?;
    session.print(&format!("{}\n", summary(&manifest)));
    Ok(())
}

/// Models of the arguments; one that is named twice is loaded once.
struct Models<'a> {
    args: &'a QuestionsArgs,
    session: &'a Session,
    loaded: Option<(PathBuf, Arc<zs_model::SamplingModel>)>,
    /// Files of models, for the manifest.
    inputs: &'a mut Vec<PathBuf>,
}

impl Models<'_> {
    /// Opens the model of a directory or of servers, and describes it for the manifest.
    fn open(
        &mut self,
        dir: Option<&Path>,
        server: Option<&Path>,
        temperature: f32,
    ) -> Result<(Box<dyn ReplyModel>, Value)> {
        let max_new_tokens = self.args.max_new_tokens;
        if let Some(dir) = dir {
            let params =
                SamplingParams { temperature, max_new_tokens, ..SamplingParams::default() };
            let compute_dtype = self.args.sampling.dtype();
            let name = json!({ "model": dir, "sampling": params, "compute_dtype": compute_dtype });
            return Ok((Box::new(LocalReplies::new(self.load(dir)?, params)), name));
        }
        let path = server.context("give the model with --model DIR or --server FILE")?;
        let spec = load_engine(path, &self.session.components)?;
        if spec.kind != RemoteSettings::KIND {
            let (path, kind) = (path.display(), &spec.kind);
            bail!("{path}: `kind` must be `remote` for a server of a model, is `{kind}`");
        }
        let RemoteSettings { servers, .. } = spec.parse()?;
        let servers = RemoteConfig { temperature, max_tokens: max_new_tokens, ..servers };
        // Addresses and limits of requests change no reply.
        let RemoteConfig { api, model, system, top_p, .. } = &servers;
        let name = json!({
            "server_of": model, "api": api, "system": system, "temperature": temperature,
            "top_p": top_p, "max_tokens": max_new_tokens,
        });
        Ok((Box::new(ServerReplies::new(servers)?), name))
    }

    fn load(&mut self, dir: &Path) -> Result<Arc<zs_model::SamplingModel>> {
        if let Some((loaded, model)) = &self.loaded
            && loaded == dir
        {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(self.args.sampling.load(dir, &self.session.context()?)?);
        let files = ["config.json", "model.safetensors"].map(|it| dir.join(it));
        self.inputs.extend(files.into_iter().filter(|it| it.exists()));
        self.loaded = Some((dir.to_owned(), Arc::clone(&model)));
        Ok(model)
    }
}

impl QuestionsArgs {
    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("per-passage", self.per_passage),
            ("passages", self.passages.unwrap_or(1)),
            ("max-answer-words", self.max_answer_words),
            ("max-new-tokens", self.max_new_tokens),
            ("batch-size", self.batch_size),
        ] {
            if value == 0 {
                bail!("--{name} must be at least 1");
            }
        }
        let (validation, test) = (self.validation_share, self.test_share);
        let is_share = |it| (0.0..1.0).contains(&it);
        if !is_share(validation) || !is_share(test) || !is_share(validation + test) {
            bail!(
                "--validation-share and --test-share must be in [0, 1), and so must their sum; are \
                 {validation} and {test}"
            );
        }
        if !(0.0..=1.0).contains(&self.min_f1) || self.min_f1 == 0.0 {
            bail!("--min-f1 must be in (0, 1], is {}", self.min_f1);
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            bail!("--temperature must be at least 0, is {}", self.temperature);
        }
        Ok(())
    }

    fn settings(&self, writer: Value, checker: Value) -> Result<QuestionSettings> {
        let read = |path: &Option<PathBuf>, default: String| match path {
            None => Ok(default),
            Some(path) => zs_data::read_regular_text(path)
                .with_context(|| format!("{}: cannot be read", path.display())),
        };
        let QuestionTemplates { write, answer } = QuestionTemplates::default();
        let templates = QuestionTemplates {
            write: read(&self.template, write)?,
            answer: read(&self.answer_template, answer)?,
        };
        Ok(QuestionSettings {
            max_passages: self.passages,
            min_passage_words: self.min_passage_words,
            per_passage: self.per_passage,
            max_answer_words: self.max_answer_words,
            check_with_passage: !self.keep_unanswered,
            check_without_passage: !self.keep_known,
            min_f1: self.min_f1,
            validation_share: self.validation_share,
            test_share: self.test_share,
            seed: self.seed,
            templates,
            writer,
            checker,
        })
    }
}

fn summary(manifest: &QuestionManifest) -> String {
    let QuestionManifest { num_pairs, num_passages, .. } = manifest;
    let mut lines = vec![format!("asked for: {num_pairs} questions on {num_passages} passages")];
    for (reason, count) in manifest.dropped.iter() {
        lines.push(format!("  dropped, {reason}: {count}"));
    }
    for (name, part) in &manifest.parts {
        let (questions, passages) = (part.questions, part.passages);
        lines.push(format!("{name}: {questions} questions on {passages} passages"));
    }
    lines.join("\n")
}
