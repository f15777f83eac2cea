//! Arms times seeds and what follows from them: the main job with one seed, or every claim of the
//! paper at the embedded scale, each piece of work kept, with a verdict on every claim.

mod arms;
mod charts;
mod measure;
mod page;
mod plan;
mod preset;
mod report;
mod result;
mod schedule;
mod stats;
mod verdict;
mod work;

use std::time::Instant;

pub use self::arms::{ArmReport, BandPoint, Scores, SimulatorReport};
pub use self::preset::{ClaimsPreset, preset, quick, quick_config};
pub use self::report::{ClaimReport, ClaimsReport, ComparisonReport, Example};
pub use self::result::{CurvePoint, EpisodeText, ExampleTurn, SeedResult, SimulatorResult};
pub use self::stats::{CONFIDENCE, SeedMean, seed_mean};
pub use self::verdict::Verdict;

use self::plan::{Store, Work, plan, select};
use self::schedule::carry_out;
use crate::arguments::{Preset, ReproduceArgs};
use crate::error::{ReproduceError, Result};
use crate::output::{Output, claim_directory};
use zs_core::with_causes;
use zs_trainer::config::load;
use zs_trainer::files::RunDir;
use zs_trainer::source;
use zs_trainer::{Components, RunContext};

/// Part of the claims to run or to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Seeds, from the first of the base file on.
    pub num_seeds: usize,
    /// Claims by their names; all where empty.
    pub only: Vec<String>,
    /// Number of parallel jobs.
    pub jobs: usize,
    /// Reports finished work and runs nothing.
    pub report_only: bool,
}

/// `zs reproduce` with the presets `quick` and `claims`.
///
/// # Errors
///
/// Fails on an unknown claim, a missing base model, an output directory that is not ours, and, after
/// everything else was done and reported, on any work that failed.
pub fn command(args: &ReproduceArgs, context: &RunContext) -> Result<()> {
    let mut preset = chosen(args, &context.components)?;
    preset.base.seed = args.seed.unwrap_or(preset.base.seed);
    preset.base.base = args.base.clone().unwrap_or(preset.base.base);
    preset.base.out = args.out.clone().unwrap_or(preset.base.out);
    let request = Request {
        num_seeds: args.seeds.unwrap_or(preset.num_seeds),
        only: args.only.clone(),
        jobs: args
            .jobs
            .unwrap_or_else(|| if preset.resumes { crate::environment::jobs() } else { 1 }),
        report_only: args.report_only,
    };
    if request.num_seeds == 0 {
        return Err(ReproduceError::arguments("`--seeds` must be at least 1"));
    }
    if args.dry_run {
        context.print(&describe(&preset, &request)?);
        return Ok(());
    }
    let (report, failures) = run(&preset, &request, context)?;
    let page = preset.base.out.join("report.html");
    context.print(&format!("{}\nThe report: {}\n", report.summary()?, page.display()));
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(ReproduceError::Failed { count: failures.len(), first: first.clone() }),
    }
}

/// The preset that the arguments name.
fn chosen(args: &ReproduceArgs, components: &Components) -> Result<ClaimsPreset> {
    if args.preset == Preset::Claims {
        return preset(args.world, components);
    }
    let base = match &args.config {
        Some(path) => load(path, components)?,
        None => quick_config(args.world, components)?,
    };
    Ok(quick(base, components)?)
}

/// Does what is not yet done and reports on everything that is: the report, and the failures.
///
/// # Errors
///
/// As [`command`], but for failing work of a preset that resumes.
pub fn run(
    preset: &ClaimsPreset,
    request: &Request,
    context: &RunContext,
) -> Result<(ClaimsReport, Vec<String>)> {
    let clock = Instant::now();
    let wanted = select(&preset.claims, &request.only)?;
    let seeds = seeds(preset, request);
    let mut store = store(preset);
    let output = match preset.resumes {
        true => claim_directory(&store.out).map(|()| None)?,
        false => Some(Output::begin(&store.out)?),
    };
    if let Some(output) = &output {
        output.run().path().clone_into(&mut store.out);
    }
    let (mut finished, mut open, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for work in plan(&preset.base, &seeds, &preset.claims, &wanted) {
        match work.finished(&store) {
            Some(outcome) => finished.push(outcome),
            None => open.push(work),
        }
    }
    let num_planned = finished.len() + open.len();
    if !request.report_only {
        let base = source::load_policy(&preset.base.base, context)?;
        let done = finished.len();
        let (num_open, jobs) = (open.len(), request.jobs);
        context.note(&format!("{num_open} jobs to run, {jobs} in parallel; {done} already done"));
        // Several at a time would talk all at once.
        let inner = if jobs > 1 { context.silenced() } else { context.clone() };
        let run = |it: &Work| {
            context.note(&format!("started: {}", it.label()));
            it.carry_out(&base, &store, &inner)
        };
        let total: f64 = open.iter().map(Work::size).sum();
        let (mut num_over, mut size_done) = (0, 0.0);
        let num_simulators = open.iter().filter(|it| matches!(it, Work::Tune(_))).count();
        let (simulators, policies) = open.split_at(num_simulators);
        for phase in [simulators, policies] {
            carry_out(phase, jobs, run, |work, result| {
                num_over += 1;
                size_done += work.size();
                let minutes = clock.elapsed().as_secs_f64() / 60.0;
                let left = minutes / size_done * (total - size_done);
                let label = work.label();
                let line = match &result {
                    Ok(outcome) => outcome.headline(),
                    Err(error) => format!("FAILED: {}", with_causes(error)),
                };
                context.note(&format!(
                    "[{num_over}/{num_open}] {label}: {line}; {minutes:.0} min, about {left:.0} min left"
                ));
                match result {
                    Ok(outcome) => finished.push(outcome),
                    Err(error) => failures.push(format!("{label}: {}", with_causes(&error))),
                }
            });
        }
    }
    let mut report = ClaimsReport::new(preset, &wanted, &seeds, num_planned, finished);
    report.seconds = clock.elapsed().as_secs_f64();
    let dir = match &output {
        Some(it) => it.run().clone(),
        None => RunDir::open(&store.out)?,
    };
    write(&report, &dir).map_err(ReproduceError::at(store.out.display().to_string()))?;
    if let Some(output) = output {
        if let Some(first) = failures.first() {
            return Err(ReproduceError::FailedWork { work: first.clone() });
        }
        output.finish()?;
    }
    Ok((report, failures))
}

fn store(preset: &ClaimsPreset) -> Store {
    Store { out: preset.base.out.clone(), resumes: preset.resumes }
}

fn seeds(preset: &ClaimsPreset, request: &Request) -> Vec<u64> {
    (preset.base.seed..).take(request.num_seeds).collect()
}

/// The plan, without doing it.
fn describe(preset: &ClaimsPreset, request: &Request) -> Result<String> {
    use std::fmt::Write;
    let wanted = select(&preset.claims, &request.only)?;
    let seeds = seeds(preset, request);
    let tasks = plan(&preset.base, &seeds, &preset.claims, &wanted);
    let store = store(preset);
    let mut text = String::new();
    for claim in &wanted {
        let _ = writeln!(text, "{:>2} {}: {}", claim.number, claim.id, claim.claim);
        let _ = writeln!(text, "   arms: {}", claim.arm_names().join(", "));
    }
    let mut num_done = 0;
    let mut left = 0.0;
    for task in &tasks {
        let is_done = task.finished(&store).is_some();
        num_done += usize::from(is_done);
        left += if is_done { 0.0 } else { task.size() };
    }
    let _ = writeln!(
        text,
        "{} jobs for seeds {seeds:?}, {num_done} of them done; {} in parallel; about {:.0} \
         minutes on two idle cores.",
        tasks.len(),
        request.jobs,
        left * SECONDS_A_STEP / 60.0
    );
    Ok(text)
}

/// Seconds of a training step of the preset on two idle cores, for estimates.
const SECONDS_A_STEP: f64 = 0.7;

fn write(report: &ClaimsReport, out: &RunDir) -> Result<()> {
    out.write_text("config.toml", &toml::to_string_pretty(&report.settings)?)?;
    out.write_json("report.json", report)?;
    let (page, markdown) = page::render(report)?;
    out.write_text("report.md", &markdown)?;
    Ok(out.write_text("report.html", &page)?)
}
