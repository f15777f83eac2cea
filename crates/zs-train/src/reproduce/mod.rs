//! The main job from end to end: tune a simulation LLM, train on it, evaluate on a real engine.

mod html;
mod output;
mod plot;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use zs_core::{Question, SearchEngine, StreamKey};
use zs_eval::{EvalConfig, Evaluation, Metric, evaluate, paired_difference};
use zs_model::LanguageModel;
use zs_rl::{RolloutConfig, Trajectory};
use zs_simulator::SimulatedEngine;
use zs_simulator::audit::{AuditReport, audit, audit_queries};
use zs_simulator::world::{Split, World};

pub use self::report::{
    Calls, CurvePoint, Example, ExampleTurn, PolicyScores, RealEngine, Report, Seconds,
};

use self::output::Output;
use crate::cli::ReproduceArgs;
use crate::config::{Check, Curriculum, ReproduceConfig, TrainingConfig, load, parse};
use crate::console::{self, Console};
use crate::run::Metrics;
use crate::run::rl::{Aids, Trained, Training, Validation};
use crate::run::sft;
use crate::{device, source};

/// The settings that come with `zs`.
const QUICK: &str = include_str!("../../presets/reproduce_quick.toml");

/// `zs reproduce`.
///
/// # Errors
///
/// Fails on a missing base model, an output directory that is not ours, or any failing stage.
pub fn command(args: &ReproduceArgs, console: &Console) -> Result<()> {
    let mut config = match &args.config {
        Some(path) => load(path)?,
        None => preset()?,
    };
    config.seed = args.seed.unwrap_or(config.seed);
    config.base = args.base.clone().unwrap_or(config.base);
    config.out = args.out.clone().unwrap_or(config.out);
    let report = reproduce(&config, console)?;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["greedy, on the real engine", "questions", "exact match", "F1", "searches"]);
    table.add_rows(report.rows());
    let findings: String = report.findings().iter().map(|it| format!("- {it}\n")).collect();
    let page = config.out.join("report.html");
    console::print(&format!("{table}\n{findings}The report: {}\n", page.display()));
    Ok(())
}

/// The preset `quick`.
///
/// # Errors
///
/// Never: the preset is part of this crate and tested.
pub fn preset() -> Result<ReproduceConfig> {
    parse(QUICK, "runs/reproduce_quick.toml")
}

/// Runs the whole job and writes the report; an earlier report in the same place is replaced when
/// the new one is complete.
///
/// # Errors
///
/// As [`command`].
pub fn reproduce(config: &ReproduceConfig, console: &Console) -> Result<Report> {
    config.check()?;
    let start = Instant::now();
    let output = Output::begin(&config.out)?;
    output.write_text("config.toml", &toml::to_string_pretty(config)?)?;
    let base = source::load_model(&config.base, &device::select())?;

    let mut seconds = Seconds::default();
    console.note("[1/6] the world: training, validation and test splits");
    let job = Job::new(config, console);
    seconds.world = start.elapsed().as_secs_f64();

    console.note("[2/6] tuning the simulation LLM");
    let clock = Instant::now();
    let simulator = job.tune(&base, &output)?;
    seconds.tune = clock.elapsed().as_secs_f64();

    console.note("[3/6] auditing it");
    let clock = Instant::now();
    let engine = job.simulated(simulator)?;
    let audit_report = job.audit(&engine);
    output.write_json("audit.json", &audit_report)?;
    seconds.audit = clock.elapsed().as_secs_f64();

    console.note("[4/6] training on the simulated engine");
    let clock = Instant::now();
    let simulated = job.train(&base, &engine, &config.training, "simulated", &output)?;
    seconds.train = clock.elapsed().as_secs_f64();

    console.note("[5/6] training on the real engine, for comparison");
    let clock = Instant::now();
    let settings = TrainingConfig { curriculum: Curriculum::default(), ..config.training.clone() };
    let engine = job.train_world.engine().as_ref();
    let real = job.train(&base, engine, &settings, "real", &output)?;
    seconds.train_on_real = clock.elapsed().as_secs_f64();

    console.note("[6/6] evaluating on questions about entities that no model has seen");
    let clock = Instant::now();
    let base = job.evaluate("base", &base, &output)?;
    let trained = job.evaluate("trained", &simulated.best, &output)?;
    let trained_on_real = job.evaluate("trained_on_real", &real.best, &output)?;
    seconds.eval = clock.elapsed().as_secs_f64();
    seconds.total = start.elapsed().as_secs_f64();

    let searches = simulated.num_searches;
    let price = config.evaluation.dollars_per_1000_searches;
    let gain = paired_difference(&base.records, &trained.records, Metric::ExactMatch, config.seed)?;
    let exact_match = |it: &Evaluation| it.report.overall.exact_match.mean;
    let reference = exact_match(&trained_on_real);
    let report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        preset: config.preset.clone(),
        seed: config.seed,
        questions: job.test.len(),
        gain,
        share_of_trained_on_real: if reference > 0.0 {
            exact_match(&trained) / reference
        } else {
            0.0
        },
        examples: examples(&job.test, &base, &trained),
        real_engine: RealEngine {
            base: PolicyScores::from(base.report),
            trained: PolicyScores::from(trained.report),
            trained_on_real: PolicyScores::from(trained_on_real.report),
        },
        kept_steps: BTreeMap::from([
            ("trained".to_owned(), simulated.best_step),
            ("trained_on_real".to_owned(), real.best_step),
        ]),
        simulator: audit_report,
        calls: Calls {
            simulated: searches,
            dollars_per_1000: price,
            dollars_saved: searches as f64 / 1000.0 * price,
        },
        seconds,
        curve_simulated: curve(&simulated.metrics),
        curve_real: curve(&real.metrics),
    };
    output.write_json("report.json", &report)?;
    output.write_text("report.md", &report.to_markdown())?;
    output.write_text("report.html", &html::render(&report)?)?;
    output.finish()?;
    Ok(report)
}

/// What the stages share.
struct Job<'a> {
    config: &'a ReproduceConfig,
    console: &'a Console,
    /// The seed of all three worlds.
    seed: u64,
    train_world: World,
    validation_world: World,
    test_world: World,
    train: Vec<Question>,
    validation: Vec<Question>,
    test: Vec<Question>,
}

impl<'a> Job<'a> {
    fn new(config: &'a ReproduceConfig, console: &'a Console) -> Self {
        let seed = config.worlds.first_seed + config.seed;
        let [train_world, validation_world, test_world] =
            [Split::Train, Split::Validation, Split::Test].map(|it| World::generate(seed, it));
        let questions = |world: &World, per_hop| source::world_questions(world, seed, per_hop);
        Self {
            train: questions(&train_world, config.worlds.train_per_hop),
            validation: questions(&validation_world, config.worlds.validation_per_hop),
            test: questions(&test_world, config.worlds.test_per_hop),
            config,
            console,
            seed,
            train_world,
            validation_world,
            test_world,
        }
    }

    fn tune(&self, base: &LanguageModel, output: &Output) -> Result<LanguageModel> {
        let ReproduceConfig { data, tuning, .. } = self.config;
        let rows = sft::world_rows(data, base, self.seed)?;
        let run = output.run("simulator")?;
        sft::tune(base, &rows, tuning, self.config.seed, &run, false, self.console)
    }

    fn simulated(&self, model: LanguageModel) -> Result<SimulatedEngine> {
        let ReproduceConfig { data, simulator, .. } = self.config;
        source::simulated(Arc::new(model), &data.templates, simulator)
    }

    /// Puts queries of known quality to the simulator, about the validation world.
    fn audit(&self, engine: &SimulatedEngine) -> AuditReport {
        let key = StreamKey::new(self.config.seed);
        let queries = audit_queries(&self.validation_world, self.config.audit.per_kind, key);
        let progress = self.console.progress("auditing", 1);
        let k = self.config.training.rollout.num_documents;
        let report = audit(engine, &queries, k, self.config.seed);
        progress.finish(&format!(
            "the answer stands in {:.2} of useful and {:.2} of noisy replies",
            report.useful_contains_answer, report.noisy_contains_answer
        ));
        report
    }

    fn train(
        &self,
        base: &LanguageModel,
        engine: &dyn SearchEngine,
        settings: &TrainingConfig,
        name: &str,
        output: &Output,
    ) -> Result<Trained> {
        let training = Training {
            title: "training",
            policy: base.clone(),
            questions: &self.train,
            engine,
            engines: None,
            validation: Some(Validation {
                questions: &self.validation,
                engine: self.validation_world.engine().as_ref(),
            }),
            values: None,
            texts: &[],
            aids: Aids::default(),
            config: settings,
            seed: self.config.seed,
        };
        let run = output.run(name)?;
        training.run(&run, self.console).with_context(|| format!("training, {name} engine"))
    }

    fn evaluate(&self, name: &str, policy: &LanguageModel, output: &Output) -> Result<Evaluation> {
        let config = EvalConfig {
            rollout: RolloutConfig { temperature: 0.0, ..self.config.training.rollout.clone() },
            batch_size: self.config.evaluation.batch_size,
            seed: self.config.seed,
            noise_probability: 0.0,
        };
        let progress = self.console.progress(&format!("evaluating {name}"), self.test.len());
        let mut num_done = 0;
        let engine = self.test_world.engine().as_ref();
        let evaluation = evaluate(policy, engine, &self.test, &config, &mut |it| {
            progress.advance(it.num_done - num_done, "");
            num_done = it.num_done;
        })?;
        let exact_match = evaluation.report.overall.exact_match.mean;
        progress.finish(&format!("exact match {exact_match:.3}"));
        let run = output.run(&format!("evaluation/{name}"))?;
        let mut lines = Vec::new();
        zs_rl::write_records(&mut lines, &evaluation.trajectories)?;
        run.json_lines("trajectories.jsonl")?.push_bytes(&lines)?;
        let mut records = run.json_lines("records.jsonl")?;
        evaluation.records.iter().try_for_each(|it| records.push(it))?;
        run.write_json("report.json", &evaluation.report)?;
        Ok(evaluation)
    }
}

fn curve(metrics: &[Metrics]) -> Vec<CurvePoint> {
    let point = |(step, it): (usize, &Metrics)| CurvePoint {
        step,
        reward: it.get("reward/mean"),
        noise_probability: it.get("curriculum/noise_probability"),
        validation_exact_match: it.get("validation/exact_match"),
    };
    metrics.iter().enumerate().map(point).collect()
}

/// Three questions that training changed: where possible two 2-hop questions and a 1-hop question
/// that the base gets wrong and the trained policy right.
fn examples(questions: &[Question], before: &Evaluation, after: &Evaluation) -> Vec<Example> {
    let solved = |at: &usize| !before.records[*at].exact_match && after.records[*at].exact_match;
    let hops = |at: &usize| questions[*at].hops;
    let all = || 0..questions.len();
    let mut chosen: Vec<usize> =
        all().filter(|it| solved(it) && hops(it) == Some(2)).take(2).collect();
    chosen.extend(all().filter(|it| solved(it) && hops(it) == Some(1)).take(1));
    let others: Vec<usize> = all().filter(|it| !chosen.contains(it)).take(3).collect();
    chosen.extend(others);
    chosen.truncate(3);
    let turns = |it: &Trajectory| -> Vec<ExampleTurn> {
        let turn = |it: &zs_rl::Turn| ExampleTurn {
            text: it.text.trim().to_owned(),
            observation: it.observation_text.trim().to_owned(),
        };
        it.turns.iter().map(turn).collect()
    };
    let example = |at: usize| Example {
        question: questions[at].text.clone(),
        golden_answers: questions[at].golden_answers.clone(),
        before: turns(&before.trajectories[at]),
        after: turns(&after.trajectories[at]),
    };
    chosen.into_iter().map(example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_is_valid_and_asks_enough() {
        let config = preset().unwrap();
        assert!(2 * config.worlds.test_per_hop >= 500);
        assert_eq!(config.preset, "quick");
        assert_eq!(config.training.rollout.prompt_template, zs_simulator::world::PROMPT_TEMPLATE);
        // Worlds of the job are none of the worlds that models are tuned on.
        let tuning = config.data.first_seed..config.data.first_seed + config.data.worlds as u64;
        assert!(!tuning.contains(&config.worlds.first_seed));
        let written = toml::to_string_pretty(&config).unwrap();
        assert_eq!(parse::<ReproduceConfig>(&written, "written").unwrap(), config);
    }
}
