//! Carrying out one piece of work: tuning a simulation LLM, or training and evaluating a policy.

use std::sync::Arc;
use std::time::Instant;

use zs_core::{Question, SearchEngine};
use zs_eval::Evaluation;
use zs_model::LanguageModel;
use zs_search::MispairedEngine;
use zs_simulator::SimulatedEngine;

use super::measure::{self, Measures};
use super::plan::{ArmWork, Store, Work};
use super::result::{CurvePoint, EpisodeText, ExampleTurn, SeedResult, SimulatorResult, Slot};
use crate::config::{ArmEngine, ClaimMetric, ReproduceConfig};
use crate::error::{ReproduceError, Result};
use crate::job;
use crate::job::{Job, TrainingEngines};
use zs_trainer::EpochOrder;
use zs_trainer::RunContext;
use zs_trainer::files::RunDir;
use zs_trainer::source;

/// Episodes that are kept as text, and that are sampled again without stop texts.
const NUM_EPISODES: usize = 40;

/// Result of a piece of work.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Simulator(Box<SimulatorResult>),
    Arm(Box<SeedResult>),
}

impl Outcome {
    /// In a few words.
    pub(super) fn headline(&self) -> String {
        match self {
            Self::Simulator(it) => format!(
                "the answer occurs in {:.0} % of useful and {:.0} % of noisy replies",
                100.0 * it.audit.useful_contains_answer,
                100.0 * it.audit.noisy_contains_answer
            ),
            Self::Arm(it) => {
                let exact_match = it.metrics.get(&ClaimMetric::ExactMatch).copied();
                format!("exact match {:.3}", exact_match.unwrap_or_default())
            }
        }
    }
}

impl Work {
    /// The result that was kept of it, if it is finished.
    pub(super) fn finished(&self, store: &Store) -> Option<Outcome> {
        let dir = self.dir(store);
        match self {
            _ if !store.resumes => None,
            Self::Tune(settings) => {
                let result = Slot::new(dir, settings.as_ref()).finished();
                result.map(|it| Outcome::Simulator(Box::new(it)))
            }
            Self::Arm(arm) => {
                let result = Slot::new(dir, arm.as_ref()).finished();
                result.map(|it| Outcome::Arm(Box::new(it)))
            }
        }
    }

    /// Does it, from the start.
    pub(super) fn carry_out(
        &self,
        base: &LanguageModel,
        store: &Store,
        context: &RunContext,
    ) -> Result<Outcome> {
        let dir = self.dir(store);
        match self {
            Self::Tune(settings) => {
                let slot = Slot::new(dir, settings.as_ref());
                let tune = |run: &RunDir| tune(settings, base, run, context);
                Ok(Outcome::Simulator(Box::new(slot.fill(store.resumes, tune)?)))
            }
            Self::Arm(work) => {
                let slot = Slot::new(dir, work.as_ref());
                let train = |run: &RunDir| arm(work, base, store, run, context);
                Ok(Outcome::Arm(Box::new(slot.fill(store.resumes, train)?)))
            }
        }
    }
}

fn tune(
    settings: &ReproduceConfig,
    base: &LanguageModel,
    run: &RunDir,
    context: &RunContext,
) -> Result<SimulatorResult> {
    let job = Job::new(settings, context);
    let clock = Instant::now();
    let simulator = job.tune(base, run)?;
    let seconds = clock.elapsed().as_secs_f64();
    let audit = job.audit(&job.simulated(simulator)?);
    let (steps, seed) = (settings.tuning.steps, settings.seed);
    Ok(SimulatorResult { steps, seed, seconds, audit })
}

/// Trains and evaluates one policy.
fn arm(
    work: &ArmWork,
    base: &LanguageModel,
    store: &Store,
    run: &RunDir,
    context: &RunContext,
) -> Result<SeedResult> {
    let ArmWork { name, engine, asks_simulator, settings } = work;
    let job = Job::new(settings, context);
    let clock = Instant::now();
    let simulated = |job: &Job<'_>| -> Result<SimulatedEngine> {
        let model = match settings.tuning.steps {
            0 => base.clone(),
            _ => {
                let tuned = store.simulator(settings).join("checkpoints/final");
                source::load_model(&tuned, &base.device())
                    .map_err(ReproduceError::at("what it needs failed"))?
            }
        };
        Ok(job.simulated(model)?)
    };
    let train = |engine: Arc<dyn SearchEngine>, beside: Option<Arc<dyn SearchEngine>>| {
        let run = RunDir::create(&store.training(work))?;
        let trained = job.train(base, TrainingEngines { engine, beside }, &settings.training, &run);
        trained.map_err(ReproduceError::at(format!("training {name}")))
    };
    let mut metrics = Measures::new();
    let (trained, simulator) = match engine {
        ArmEngine::Untrained {} => (None, None),
        ArmEngine::Real {} => {
            let trained = train(Arc::clone(job.train_world.engine()) as _, None)?;
            metrics.extend(searches(settings, trained.num_searches, 0));
            (Some(trained), None)
        }
        ArmEngine::Simulated { mispaired, .. } => {
            let simulator = Arc::new(simulated(&job)?);
            let beside = asks_simulator.then(|| Arc::clone(&simulator) as Arc<dyn SearchEngine>);
            let trained = match mispaired {
                false => train(Arc::clone(&simulator) as _, beside)?,
                true => {
                    let rows = batches(settings, &job.train);
                    let engine = MispairedEngine::new(Arc::clone(&simulator), rows);
                    train(Arc::new(engine), beside)?
                }
            };
            metrics.extend(searches(settings, 0, trained.num_searches));
            (Some(trained), Some(simulator))
        }
    };
    let train_seconds = clock.elapsed().as_secs_f64();
    let curve = trained.as_ref().map_or_else(Vec::new, |it| CurvePoint::curve(&it.metrics));
    let policy = trained.as_ref().map_or(base, |it| &it.best);
    let clock = Instant::now();
    let evaluation = job.evaluate(name, policy, job.test_world.engine().as_ref())?;
    let eval_seconds = clock.elapsed().as_secs_f64();
    match store.resumes {
        true => job::write_evaluation(&evaluation, &RunDir::create(&run.join("evaluation"))?)?,
        false => job::write_evaluation(&evaluation, run)?,
    }
    metrics.extend(measure::of_evaluation(&job.test, &evaluation));
    metrics.extend(measure::of_curve(&curve));
    if let Some(simulator) = simulator.filter(|_| settings.evaluation.on_simulator) {
        let evaluation = job.evaluate(name, policy, simulator.as_ref())?;
        let simulated = evaluation.report.overall.exact_match.mean;
        metrics.insert(ClaimMetric::SimulatedExactMatch, simulated);
        metrics.insert(ClaimMetric::SimToReal, simulated - metrics[&ClaimMetric::ExactMatch]);
    }
    let first = &evaluation.trajectories[..NUM_EPISODES.min(evaluation.trajectories.len())];
    metrics.extend(measure::without_stops(policy, first, &settings.training.rollout)?);
    Ok(SeedResult {
        arm: name.clone(),
        seed: settings.seed,
        commit: Some(zs_trainer::versions::git_commit()),
        best_step: trained.as_ref().map_or(0, |it| it.best_step),
        train_seconds,
        eval_seconds,
        curve,
        alarms: trained.map_or_else(Vec::new, |it| it.alarms),
        episodes: episodes(&job.test, &evaluation),
        metrics,
        records: if store.resumes { Vec::new() } else { evaluation.records },
        evaluation: evaluation.report,
    })
}

/// Searches in training and their price.
fn searches(settings: &ReproduceConfig, real: u64, simulated: u64) -> [(ClaimMetric, f64); 3] {
    let price = settings.evaluation.dollars_per_1000_searches;
    [
        (ClaimMetric::ProviderCalls, real as f64),
        (ClaimMetric::ProviderDollars, real as f64 / 1000.0 * price),
        (ClaimMetric::SimulatedCalls, simulated as f64),
    ]
}

/// The question of each row of each step, in the order in which training plays them.
fn batches(settings: &ReproduceConfig, questions: &[Question]) -> Vec<Vec<Question>> {
    let schedule = &settings.training.schedule;
    let order = EpochOrder::new(settings.seed, questions.len());
    let rows = |step: usize| -> Vec<Question> {
        let chosen = order.step(step, schedule.questions_per_step);
        let rows = chosen
            .into_iter()
            .flat_map(|at| std::iter::repeat_n(&questions[at], schedule.group_size));
        rows.cloned().collect()
    };
    (0..schedule.steps).map(rows).collect()
}

fn episodes(questions: &[Question], evaluation: &Evaluation) -> Vec<EpisodeText> {
    let played = questions.iter().zip(&evaluation.records).zip(&evaluation.trajectories);
    let text = |((question, record), trajectory): ((&Question, _), _)| {
        let record: &zs_eval::QuestionRecord = record;
        EpisodeText {
            question: question.text.clone(),
            golden_answers: question.golden_answers.clone(),
            hops: question.hops,
            exact_match: record.exact_match,
            turns: ExampleTurn::all(trajectory),
        }
    };
    played.take(NUM_EPISODES).map(text).collect()
}
