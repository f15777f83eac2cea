//! The main job from end to end: tune a simulation LLM, train on it, evaluate on a real engine.

mod html;
pub(crate) mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use zs_core::Question;
use zs_eval::{Evaluation, Metric, paired_difference};
use zs_model::LanguageModel;
use zs_rl::Trajectory;

pub use self::report::{
    Calls, CurvePoint, Example, ExampleTurn, PolicyScores, RealEngine, Report, Seconds,
};

use zs_trainer::config::{Check, TrainingConfig, load, no_noise, parse};
use zs_trainer::{Components, Metrics, RunContext, source};

use crate::arguments::ReproduceArgs;
use crate::config::ReproduceConfig;
use crate::job::{Job, TrainingEngines, write_evaluation};
use crate::output::Output;

/// The settings that come with `zs`.
const QUICK: &str = include_str!("../presets/reproduce_quick.toml");

/// Runs the main job once, and prints its table.
pub(crate) fn command(args: &ReproduceArgs, context: &RunContext) -> Result<()> {
    refuse_arguments(args)?;
    let mut config = match &args.config {
        Some(path) => load(path, &context.components)?,
        None => preset(&context.components)?,
    };
    config.seed = args.seed.unwrap_or(config.seed);
    config.base = args.base.clone().unwrap_or(config.base);
    config.out = args.out.clone().unwrap_or(config.out);
    let report = reproduce(&config, context)?;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["greedy, on the real engine", "questions", "exact match", "F1", "searches"]);
    table.add_rows(report.rows());
    let findings: String = report.findings().iter().map(|it| format!("- {it}\n")).collect();
    let page = config.out.join("report.html");
    context.print(&format!("{table}\n{findings}The report: {}\n", page.display()));
    Ok(())
}

/// Refuses what only other presets understand.
fn refuse_arguments(args: &ReproduceArgs) -> Result<()> {
    let given = [
        ("--seeds", args.seeds.is_some()),
        ("--only", !args.only.is_empty()),
        ("--jobs", args.jobs.is_some()),
        ("--report-only", args.report_only),
        ("--model", args.model.is_some()),
        ("--simulator", args.simulator.is_some()),
        ("--data", args.data.is_some()),
        ("--dry-run", args.dry_run),
    ];
    match given.into_iter().find(|it| it.1) {
        None => Ok(()),
        Some((name, _)) => bail!("`{name}` goes with `--preset claims` or `--preset paper`"),
    }
}

/// The preset `quick`.
///
/// # Errors
///
/// Never: the preset is part of this crate and tested.
pub fn preset(components: &Components) -> Result<ReproduceConfig> {
    parse(QUICK, "presets/reproduce_quick.toml", components)
}

/// Runs the whole job and writes the report; an earlier report in the same place is replaced when
/// the new one is complete.
///
/// # Errors
///
/// Fails on a missing base model, an output directory that is not ours, or any failing stage.
pub fn reproduce(config: &ReproduceConfig, context: &RunContext) -> Result<Report> {
    config.check(&context.components)?;
    let start = Instant::now();
    let output = Output::begin(&config.out)?;
    output.write_text("config.toml", &toml::to_string_pretty(config)?)?;
    let base = source::load_policy(&config.base, context)?;

    let mut seconds = Seconds::default();
    context.note("[1/6] the world: training, validation and test splits");
    let job = Job::new(config, context);
    seconds.world = start.elapsed().as_secs_f64();

    context.note("[2/6] tuning the simulation LLM");
    let clock = Instant::now();
    let simulator = job.tune(&base, &output.run("simulator")?)?;
    seconds.tune = clock.elapsed().as_secs_f64();

    context.note("[3/6] auditing it");
    let clock = Instant::now();
    let engine = Arc::new(job.simulated(simulator)?);
    let audit_report = job.audit(&engine);
    output.write_json("audit.json", &audit_report)?;
    seconds.audit = clock.elapsed().as_secs_f64();

    context.note("[4/6] training on the simulated engine");
    let clock = Instant::now();
    let engines = TrainingEngines { engine, beside: None };
    let simulated = job
        .train(&base, engines, &config.training, &output.run("simulated")?)
        .context("training, simulated engine")?;
    seconds.train = clock.elapsed().as_secs_f64();

    context.note("[5/6] training on the real engine, for comparison");
    let clock = Instant::now();
    let settings = TrainingConfig { curriculum: no_noise(), ..config.training.clone() };
    let engines =
        TrainingEngines { engine: Arc::clone(job.train_world.engine()) as _, beside: None };
    let real = job
        .train(&base, engines, &settings, &output.run("real")?)
        .context("training, real engine")?;
    seconds.train_on_real = clock.elapsed().as_secs_f64();

    context.note("[6/6] evaluating on questions about entities that no model has seen");
    let clock = Instant::now();
    let evaluate = |name: &str, policy: &LanguageModel| -> Result<Evaluation> {
        let evaluation = job.evaluate(name, policy, job.test_world.engine().as_ref())?;
        write_evaluation(&evaluation, &output.run(&format!("evaluation/{name}"))?)?;
        Ok(evaluation)
    };
    let base = evaluate("base", &base)?;
    let trained = evaluate("trained", &simulated.best)?;
    let trained_on_real = evaluate("trained_on_real", &real.best)?;
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
        alarms: BTreeMap::from([
            ("simulated".to_owned(), simulated.alarms),
            ("real".to_owned(), real.alarms),
        ]),
    };
    output.write_json("report.json", &report)?;
    output.write_text("report.md", &report.to_markdown())?;
    output.write_text("report.html", &html::render(&report)?)?;
    output.finish()?;
    Ok(report)
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
    let example = |at: usize| Example {
        question: questions[at].text.clone(),
        golden_answers: questions[at].golden_answers.clone(),
        before: example_turns(&before.trajectories[at]),
        after: example_turns(&after.trajectories[at]),
    };
    chosen.into_iter().map(example).collect()
}

/// An episode as text.
pub(crate) fn example_turns(trajectory: &Trajectory) -> Vec<ExampleTurn> {
    let turn = |it: &zs_rl::Turn| ExampleTurn {
        text: it.text.trim().to_owned(),
        observation: it.observation_text.trim().to_owned(),
    };
    trajectory.turns.iter().map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_is_valid_and_asks_enough() {
        let config = preset(&Components::built_in()).unwrap();
        assert!(2 * config.worlds.test_per_hop >= 500);
        assert_eq!(config.preset, "quick");
        assert_eq!(config.training.rollout.prompt_template, zs_world::PROMPT_TEMPLATE);
        // Worlds of the job are none of the worlds that models are tuned on.
        let tuning = config.data.first_seed..config.data.first_seed + config.data.worlds as u64;
        assert!(!tuning.contains(&config.worlds.first_seed));
        let written = toml::to_string_pretty(&config).unwrap();
        assert_eq!(
            parse::<ReproduceConfig>(&written, "written", &Components::built_in()).unwrap(),
            config
        );
    }
}
