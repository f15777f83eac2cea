//! The stages of the main job: worlds, tuning, audit, training, evaluation.

use std::sync::Arc;

use zs_core::{Question, SearchEngine, StreamKey};
use zs_eval::{EvalConfig, Evaluation, Evaluator, Protocol};
use zs_model::LanguageModel;
use zs_rl::RolloutConfig;
use zs_rl::program::Harness;
use zs_simulator::audit::{AuditReport, audit, audit_queries};
use zs_simulator::{SimulatedEngine, TemplateError};
use zs_world::{Split, World};

use zs_trainer::RunContext;
use zs_trainer::config::{TrainingConfig, ValidationMetric};
use zs_trainer::files::RunDir;
use zs_trainer::supervised::sft;
use zs_trainer::{TrainError, Trained, Trainer, Validation};

use crate::config::ReproduceConfig;
use crate::error::Result;
use zs_trainer::source;

/// State that the stages share.
pub(super) struct Job<'a> {
    pub(super) config: &'a ReproduceConfig,
    pub(super) context: &'a RunContext,
    /// The seed of all three worlds.
    pub(super) seed: u64,
    pub(super) train_world: World,
    pub(super) validation_world: World,
    pub(super) test_world: World,
    pub(super) train: Vec<Question>,
    pub(super) validation: Vec<Question>,
    pub(super) test: Vec<Question>,
}

impl<'a> Job<'a> {
    pub(super) fn new(config: &'a ReproduceConfig, context: &'a RunContext) -> Self {
        let (seed, world) = (config.worlds.first_seed + config.seed, config.worlds.world);
        let [train_world, validation_world, test_world] =
            [Split::Train, Split::Validation, Split::Test].map(|it| world.generate(seed, it));
        let questions = |world: &World, per_hop| source::world_questions(world, seed, per_hop);
        Self {
            train: questions(&train_world, config.worlds.train_per_hop),
            validation: questions(&validation_world, config.worlds.validation_per_hop),
            test: questions(&test_world, config.worlds.test_per_hop),
            config,
            context,
            seed,
            train_world,
            validation_world,
            test_world,
        }
    }

    pub(super) fn tune(
        &self,
        base: &LanguageModel,
        run: &RunDir,
    ) -> Result<LanguageModel, TrainError> {
        let ReproduceConfig { data, tuning, .. } = self.config;
        let rows = sft::world_rows(data, base, self.seed)?;
        sft::tune(base, &rows, tuning, self.config.seed, run, false, self.context)
    }

    pub(super) fn simulated(&self, model: LanguageModel) -> Result<SimulatedEngine, TemplateError> {
        let ReproduceConfig { data, simulator, .. } = self.config;
        source::simulated(Arc::new(model), &data.templates, simulator)
    }

    /// Puts queries of known quality to the simulator, about the validation world.
    pub(super) fn audit(&self, engine: &SimulatedEngine) -> AuditReport {
        let key = StreamKey::new(self.config.seed);
        let queries = audit_queries(&self.validation_world, self.config.audit.per_kind, key);
        let progress = self.context.progress("auditing", 1);
        let k = self.config.training.rollout.num_documents;
        let report = audit(engine, &queries, k, self.config.seed);
        progress.finish(&format!(
            "the answer occurs in {:.2} of useful and {:.2} of noisy replies",
            report.useful_contains_answer, report.noisy_contains_answer
        ));
        report
    }

    pub(super) fn train(
        &self,
        base: &LanguageModel,
        engines: TrainingEngines,
        settings: &TrainingConfig,
        run: &RunDir,
    ) -> Result<Trained, TrainError> {
        let TrainingEngines { engine, beside } = engines;
        let validation = Validation {
            questions: self.validation.clone().into(),
            engine: Arc::clone(self.validation_world.engine()) as _,
            training_engine: beside,
            choose_by: ValidationMetric::ExactMatch,
        };
        Trainer::builder(base.clone(), engine)
            .questions(self.train.clone())
            .validation(validation)
            .config(settings.clone())
            .seed(self.config.seed)
            .context(self.context.clone())
            .build()?
            .run_in(run)
    }

    /// Greedy answers to the test questions.
    pub(super) fn evaluate(
        &self,
        name: &str,
        policy: &LanguageModel,
        engine: &dyn SearchEngine,
    ) -> Result<Evaluation> {
        let config = EvalConfig {
            rollout: RolloutConfig { temperature: 0.0, ..self.config.training.rollout.clone() },
            batch_size: self.config.evaluation.batch_size,
            seed: self.config.seed,
            noise_probability: 0.0,
        };
        let functions = &self.context.components.program_functions;
        let harness = Harness::of(functions, &config.rollout.programs)?;
        let protocol = Protocol::strict();
        let evaluator = Evaluator {
            harness: Some(&harness),
            ..Evaluator::new(policy, engine, &config, &protocol)
        };
        let progress = self.context.progress(&format!("evaluating {name}"), self.test.len());
        let mut num_done = 0;
        let evaluation = evaluator.evaluate(&self.test, &mut |it| {
            progress.advance(it.num_done - num_done, "");
            num_done = it.num_done;
        })?;
        let exact_match = evaluation.report.overall.exact_match.mean;
        progress.finish(&format!("exact match {exact_match:.3}"));
        Ok(evaluation)
    }
}

/// Search engines in training.
#[derive(Clone)]
pub(super) struct TrainingEngines {
    /// Engine that the policy searches.
    pub(super) engine: Arc<dyn SearchEngine>,
    /// Engine of a second validation, beside that on the real engine.
    pub(super) beside: Option<Arc<dyn SearchEngine>>,
}

/// Writes an evaluation into its directory.
pub(super) fn write_evaluation(evaluation: &Evaluation, run: &RunDir) -> Result<()> {
    let mut lines = Vec::new();
    zs_rl::write_records(&mut lines, &evaluation.trajectories)?;
    run.json_lines("trajectories.jsonl")?.push_bytes(&lines)?;
    let mut records = run.json_lines("records.jsonl")?;
    evaluation.records.iter().try_for_each(|it| records.push(it))?;
    Ok(run.write_json("report.json", &evaluation.report)?)
}
