//! `zs doctor`: what of this machine, and of a run file, is usable, and what to do about the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use zs_core::registry::{Settings, Spec};
use zs_core::{Question, SearchEngine, SearchRequest};
use zs_model::{ComputeDtype, DirectoryState, Generator, Tokenizer, WeightCheck, vector_units};
use zs_search::{WebConfig, WebProvider};

use crate::cuda::Survey;
use zs_trainer::config::{TrainConfig, futile_settings_of, load};
use zs_trainer::engines::Engines;
use zs_trainer::plan::{Plan, gib, memory_of_machine};
use zs_trainer::{host_threads, source, versions};

use crate::session::Session;

/// Arguments of `zs doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Run file of `zs train`, whose models, questions and engines are checked too. Engines that cost
    /// nothing are tested with one search.
    pub run: Option<PathBuf>,
    /// Model directory to check: configuration, headers of the weights, tokenizer, chat template.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Also write the findings to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Prints the findings; fails where a run file was given that cannot be run, or a model that does not
/// load.
pub(crate) fn doctor(args: &DoctorArgs, session: &Session) -> Result<()> {
    let mut findings = Findings::default();
    machine(&mut findings, session);
    cuda(&mut findings, session);
    keys(&mut findings);
    if let Some(dir) = &args.model {
        model("", dir, &mut findings);
    }
    if let Some(path) = &args.run {
        run_file(path, &mut findings, session);
    }
    session.print(&format!("{}\n", findings.table()));
    if let Some(path) = &args.json {
        zs_observe::write_json(path, &findings.json())?;
    }
    match (findings.num_problems, args.run.as_ref().or(args.model.as_ref())) {
        (0, _) | (_, None) => Ok(()),
        (1, Some(path)) => bail!("{}: 1 problem, see above", path.display()),
        (problems, Some(path)) => bail!("{}: {problems} problems, see above", path.display()),
    }
}

/// Findings so far.
#[derive(Default)]
struct Findings {
    rows: Vec<[String; 4]>,
    num_problems: usize,
}

impl Findings {
    fn good(&mut self, what: &str, found: impl Into<String>) {
        self.rows.push([what.to_owned(), "ok".to_owned(), found.into(), String::new()]);
    }

    /// Something that is not there, and need not be.
    fn absent(&mut self, what: &str, found: impl Into<String>, advice: &str) {
        self.rows.push([what.to_owned(), "–".to_owned(), found.into(), advice.to_owned()]);
    }

    /// Something that works, and that its user should know.
    fn notice(&mut self, what: &str, found: impl Into<String>) {
        self.rows.push([what.to_owned(), "note".to_owned(), found.into(), String::new()]);
    }

    fn bad(&mut self, what: &str, found: impl Into<String>, advice: &str) {
        self.rows.push([what.to_owned(), "PROBLEM".to_owned(), found.into(), advice.to_owned()]);
        self.num_problems += 1;
    }

    fn of<T, E: Into<anyhow::Error>>(
        &mut self,
        what: &str,
        found: Result<T, E>,
        good: impl Fn(&T) -> String,
        advice: &str,
    ) {
        match found.map_err(Into::into) {
            Ok(found) => self.good(what, good(&found)),
            Err(error) => self.bad(what, zs_observe::one_line(&*error), advice),
        }
    }

    fn json(&self) -> serde_json::Value {
        let row = |[what, state, found, advice]: &[String; 4]| {
            serde_json::json!({
                "what": what,
                "state": match state.as_str() {
                    "ok" => "ok",
                    "PROBLEM" => "problem",
                    "note" => "notice",
                    _ => "absent",
                },
                "found": found,
                "advice": advice,
            })
        };
        self.rows.iter().map(row).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_header(["what", "", "found", "what to do"]);
        table.add_rows(&self.rows);
        table
    }
}

fn machine(findings: &mut Findings, session: &Session) {
    let crates: Vec<String> =
        versions::crates().iter().map(|(name, version)| format!("{name} {version}")).collect();
    let version = env!("CARGO_PKG_VERSION");
    findings
        .good("zs", format!("{version}, commit {}, {}", versions::git_commit(), crates.join(", ")));
    let names: Vec<String> = session.device.names().iter().map(ToString::to_string).collect();
    findings.of(
        "device",
        session.devices(),
        |_| format!("{}; {} threads of the CPU", names.join(", "), host_threads()),
        "see the rows below, or `--device cpu`",
    );
    canaries(findings, session);
    let is_gpu = session.devices().is_ok_and(|it| !it.is_cpu());
    let chosen = match ComputeDtype::Auto.resolved(is_gpu) {
        ComputeDtype::Bf16 => "bf16",
        _ => "f32",
    };
    let units = vector_units().join(", ");
    findings
        .good("matrix products", format!("`auto` is {chosen}; vector units of the CPU: {units}"));
    if let Some(name) = session.devices().ok().and_then(|it| it.own_simulator_name()) {
        findings.good("device of the simulation LLM", name.to_string());
    }
    let (total, free) = memory_of_machine();
    match free >= 1 << 30 {
        true => findings.good("memory", format!("{} of {} is free", gib(free), gib(total))),
        false => findings.bad(
            "memory",
            format!("{} of {} is free", gib(free), gib(total)),
            "end other programs: the shipped preset takes half a gibibyte",
        ),
    }
}

/// Computes something on each device whose result is known.
fn canaries(findings: &mut Findings, session: &Session) {
    let Ok(devices) = session.device.open() else { return };
    for (name, device) in devices.named() {
        findings.of(
            &format!("canary of {name}"),
            session.canary(name, device),
            |()| "products and norms are what they should be".to_owned(),
            "compute on another device",
        );
    }
}

/// Checks the requirements of GPUs.
fn cuda(findings: &mut Findings, session: &Session) {
    if cfg!(not(feature = "cuda")) {
        return findings.absent(
            "CUDA",
            "this zs was built for CPUs only",
            "to use a GPU, build with `--features cuda`: docs/gpu.md",
        );
    }
    let survey = Survey::once();
    for it in &survey.findings {
        match (it.is_good, it.is_needed) {
            (true, _) => findings.good(it.what, &it.found),
            (false, true) => findings.bad(it.what, &it.found, &it.advice),
            (false, false) => findings.absent(it.what, &it.found, &it.advice),
        }
    }
    findings.good("kernel cache", kernel_cache(&session.device.kernel_cache()));
}

/// The folder of kernels, and what is in it.
fn kernel_cache(folder: &Path) -> String {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    let sizes = files.filter_map(|it| it.metadata().ok()).filter(|it| it.is_file());
    let (count, bytes) = sizes.fold((0, 0), |(count, sum), it| (count + 1, sum + it.len()));
    let holds = match count {
        0 => "empty; `zs warm-up` fills it".to_owned(),
        _ => format!("{count} files, {:.1} MB", bytes as f64 / 1e6),
    };
    format!("{} ({holds})", folder.display())
}

/// Keys of web search.
fn keys(findings: &mut Findings) {
    for provider in WebProvider::ALL {
        let Some(variable) = provider.key_variable() else { continue };
        let what = format!("web search, {}", provider.name());
        match std::env::var_os(variable).is_some_and(|it| !it.is_empty()) {
            true => findings.good(&what, format!("{variable} is set")),
            false => findings.absent(
                &what,
                format!("{variable} is not set"),
                "set it to search with this provider",
            ),
        }
    }
}

fn run_file(path: &Path, findings: &mut Findings, session: &Session) {
    let config: TrainConfig = match load(path, &session.components) {
        Ok(config) => config,
        Err(error) => {
            return findings.bad("run file", zs_observe::one_line(&error), "correct the run file");
        }
    };
    findings.good("run file", path.display().to_string());
    let out = zs_trainer::files::RunDir::check_free(&config.out);
    findings.of("out", out, |()| config.out.display().to_string(), "set another `out`");
    model("policy, ", &config.policy, findings);
    let tokenizer = Tokenizer::from_dir(&config.policy).ok();
    match futile_settings_of(&config.training, tokenizer.as_ref(), &session.components) {
        Ok(warnings) => {
            warnings.iter().for_each(|it| findings.notice("training", it.as_str()));
        }
        Err(error) => findings.bad("training", zs_core::with_causes(&error), "correct `training`"),
    }
    let memory = || -> Result<String> {
        let context = session.context()?;
        let plan = Plan::new(&config, &context)?;
        plan.check()?;
        Ok(plan.summary())
    };
    findings.of("memory of the run", memory(), String::clone, "see `zs train --dry-run`");
    let mut questions = vec![("questions", &config.questions)];
    questions.extend(config.validation.iter().map(|it| ("validation.questions", &it.questions)));
    for (key, source) in questions {
        let read = session
            .context()
            .map_err(anyhow::Error::from)
            .and_then(|context| Ok(source::questions(source, config.skip_bad_rows, &context)?));
        findings.of(key, read, |it| format!("{} questions", it.len()), "see `zs data check`");
    }
    if let Some(teacher) = &config.teacher {
        let advice = "start it, or choose another: docs/algorithms/distillation.md";
        findings.of("teacher", check_teacher(teacher, &config, session), String::clone, advice);
    }
    let mut engines = vec![("engine", &config.engine)];
    let validation = config.validation.as_ref().and_then(|it| it.engine.as_ref());
    engines.extend(validation.map(|it| ("validation.engine", it)));
    for (key, engine) in engines {
        let found = ask(engine, &config, session);
        findings.of(key, found, String::clone, "start it, or correct its description");
    }
}

/// Checks a model directory, without reading the values of the weights.
fn model(prefix: &str, dir: &Path, findings: &mut Findings) {
    for it in zs_model::verify_directory(dir, WeightCheck::Headers) {
        let what = format!("{prefix}{}", it.name);
        match it.state {
            DirectoryState::Good => findings.good(&what, it.found),
            DirectoryState::Notice => findings.notice(&what, it.found),
            DirectoryState::Problem => {
                findings.bad(
                    &what,
                    it.found,
                    "correct the files, or fetch a model: docs/models.md",
                );
            }
        }
    }
}

/// Opens a teacher, and compares its tokens with the policy's.
fn check_teacher(teacher: &Spec, config: &TrainConfig, session: &Session) -> Result<String> {
    let context = session.context()?;
    let policy = source::load_policy(&config.policy, &context)?;
    source::teacher(teacher, &context, &Arc::default())?.check(&policy)?;
    Ok(format!("{}, with the policy's tokens", teacher.kind))
}

/// Opens an engine, and asks it one question where that costs nothing.
fn ask(engine: &Spec, config: &TrainConfig, session: &Session) -> Result<String> {
    let context = session.context()?;
    let compute_dtype = config.training.memory.compute_dtype;
    let on = context.devices.all();
    let policy: Arc<dyn Generator> =
        Arc::new(source::load_for_sampling(&config.policy, &on, compute_dtype)?);
    let engines = Engines::new(&context, config.prices.clone()).with_policy(policy);
    let opened = engines.open(engine)?;
    let mut bills = false;
    session.components.engines.visit(engine, &mut |it| bills |= it.kind == WebConfig::KIND)?;
    if bills {
        return Ok(format!(
            "{} opens; not tested with a search, since that costs money",
            opened.name()
        ));
    }
    let question = Question::new("doctor", "What is the capital of France?", ["Paris"]);
    let request =
        SearchRequest { query: "capital of France", ..SearchRequest::of(&question, 1, 0) };
    let documents = opened.search(request).with_context(|| opened.name().to_owned())?;
    let count = documents.len();
    let noun = if count == 1 { "document" } else { "documents" };
    Ok(format!("{} answers with {count} {noun}", opened.name()))
}
