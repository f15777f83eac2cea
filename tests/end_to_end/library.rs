//! The trainer as a library: without a run file, with and without a run directory.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use zs_core::registry::BoxedError;
use zs_core::with_causes;
use zs_curriculum::ConstantCurriculum;
use zs_model::{DeviceHealth, LanguageModel};
use zs_rl::{Advantages, Algorithm, F1, Grpo, RewardFunction, RolloutBatch, UpdateError};
use zs_trainer::files::RunDir;
use zs_trainer::{
    Callback, CallbackError, Flow, RunContext, StepReport, TrainError, Trainer, TrainerBuilder,
};
use zs_world::{PROMPT_TEMPLATE, Split, World};

use crate::common::assert_same_files;

/// Everything that a program writes to train the shipped model.
fn builder() -> TrainerBuilder {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny");
    let policy = LanguageModel::load(&model, &Device::flex()).unwrap();
    let world = World::generate(1, Split::Train);
    let questions: Vec<_> = world.questions(1, 1, 8).into_iter().map(|it| it.question).collect();
    Trainer::builder(policy, Arc::clone(world.engine()) as _)
        .questions(questions)
        .algorithm(Grpo::default())
        .reward(RewardFunction::single(F1::default()))
        .curriculum(ConstantCurriculum { probability: 0.1 })
        .configure(|it| {
            it.schedule.steps = 3;
            it.schedule.questions_per_step = 2;
            it.schedule.group_size = 3;
            it.checkpoints.every = 1;
            it.rollout.prompt_template = PROMPT_TEMPLATE.to_owned();
            it.rollout.max_new_tokens = 32;
            it.optimizer.learning_rate = 1e-3;
        })
        .seed(7)
}

/// Remembers the steps that it has seen, and stops, fails or panics at one.
#[derive(Clone, Debug, Default)]
struct Watcher {
    seen: Arc<std::sync::Mutex<Vec<usize>>>,
    stops_at: Option<usize>,
    fails_at: Option<usize>,
    panics_at: Option<usize>,
}

impl Callback for Watcher {
    fn name(&self) -> &'static str {
        "watcher"
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow, BoxedError> {
        self.seen.lock().unwrap().push(report.step);
        assert_eq!(report.groups.is_empty(), report.step == 0);
        let is_now = |at: Option<usize>| at == Some(report.step);
        assert!(!is_now(self.panics_at), "out of ideas");
        if is_now(self.fails_at) {
            return Err("the tracker is gone".into());
        }
        Ok(if is_now(self.stops_at) { Flow::Stop } else { Flow::Continue })
    }
}

#[test]
fn the_same_run_with_and_without_a_directory_and_callbacks() {
    let scratch = tempfile::tempdir().unwrap();
    let alone = builder().build().unwrap().run().unwrap();
    assert_eq!(alone.metrics.len(), 4);
    assert!(alone.metrics[1].get("actor/grad_norm").unwrap() > 0.0);
    let watcher = Watcher::default();
    let run = RunDir::create(&scratch.path().join("run")).unwrap();
    let written = builder().callback(watcher.clone()).build().unwrap().run_in(&run).unwrap();
    assert_eq!(written.metrics, alone.metrics);
    assert_eq!(*watcher.seen.lock().unwrap(), [0, 1, 2, 3]);
    let comparison = builder().build().unwrap().replay(run.path(), 2).unwrap();
    assert_eq!((comparison.step, comparison.num_different), (2, 0));
}

#[test]
fn a_callback_may_stop_a_run() {
    let watcher = Watcher { stops_at: Some(2), ..Watcher::default() };
    let trained = builder().callback(watcher).build().unwrap().run().unwrap();
    assert_eq!(trained.metrics.len(), 3);
    assert!(!trained.interrupted, "a run that a callback stops is finished");
}

#[test]
fn a_run_survives_its_callbacks() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = RunDir::create(&scratch.path().join("whole")).unwrap();
    builder().build().unwrap().run_in(&whole).unwrap();
    for (name, watcher, expected) in [
        (
            "fails",
            Watcher { fails_at: Some(2), ..Watcher::default() },
            "callback `watcher` failed: the tracker is gone",
        ),
        (
            "panics",
            Watcher { panics_at: Some(2), ..Watcher::default() },
            "callback `watcher` panicked: out of ideas",
        ),
    ] {
        let run = RunDir::create(&scratch.path().join(name)).unwrap();
        let error = builder().callback(watcher).build().unwrap().run_in(&run).unwrap_err();
        let TrainError::Callback(
            CallbackError::Failed { name, .. } | CallbackError::Panicked { name, .. },
        ) = error.cause()
        else {
            panic!("{error:?}")
        };
        assert_eq!(*name, "watcher");
        let message = with_causes(&error);
        assert!(message.starts_with("step 2; ") && message.contains(expected), "{message}");
        builder().build().unwrap().resume(&run).unwrap();
        assert_same_files(whole.path(), run.path());
    }
}

/// Returns advantages that nobody can learn from.
#[derive(Debug)]
struct Broken(fn(Vec<Vec<f32>>) -> Vec<Vec<f32>>);

impl Algorithm for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn advantages(&self, batch: &RolloutBatch<'_>) -> Advantages {
        let tokens = batch.broadcast(&vec![1.0; batch.returns.len()]);
        (self.0)(tokens).into()
    }
}

#[test]
fn a_broken_algorithm_is_named() {
    type IsExpected = fn(&UpdateError) -> bool;
    let cases: [(Broken, IsExpected); 3] = [
        (Broken(|mut it| it.split_off(1)), |it| matches!(it, UpdateError::NumRows { .. })),
        (Broken(|it| it.into_iter().map(|mut row| row.split_off(1)).collect()), |it| {
            matches!(it, UpdateError::RowLength { .. })
        }),
        (Broken(|it| it.into_iter().map(|row| vec![f32::NAN; row.len()]).collect()), |it| {
            matches!(it, UpdateError::NotFinite { .. })
        }),
    ];
    for (algorithm, is_expected) in cases {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        let error = builder().algorithm(algorithm).build().unwrap().run_in(&run).unwrap_err();
        let message = with_causes(&error);
        assert!(matches!(error.cause(), TrainError::Update(it) if is_expected(it)), "{message}");
        assert!(message.starts_with("step 1; ") && message.contains("`broken`"), "{message}");
        // Nothing of the failed step is in the run, which resumes with another algorithm.
        builder().build().unwrap().resume(&run).unwrap();
        let whole = RunDir::create(&scratch.path().join("whole")).unwrap();
        builder().build().unwrap().run_in(&whole).unwrap();
        assert_same_files(whole.path(), run.path());
    }
}

/// Panics when it is asked for the advantages of a step.
#[derive(Debug)]
struct Panicking;

impl Algorithm for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn advantages(&self, _: &RolloutBatch<'_>) -> Advantages {
        panic!("an index out of bounds")
    }
}

#[test]
fn a_panic_inside_a_step_is_an_error_of_that_step() {
    let scratch = tempfile::tempdir().unwrap();
    let run = RunDir::create(&scratch.path().join("run")).unwrap();
    let error = builder().algorithm(Panicking).build().unwrap().run_in(&run).unwrap_err();
    let message = with_causes(&error);
    assert!(message.starts_with("step 1; `zs train --resume"), "{message}");
    assert!(message.ends_with("panicked: an index out of bounds"), "{message}");
    builder().build().unwrap().resume(&run).unwrap();
    let whole = RunDir::create(&scratch.path().join("whole")).unwrap();
    builder().build().unwrap().run_in(&whole).unwrap();
    assert_same_files(whole.path(), run.path());
}

/// Stands in for a thread of the device that panics while a step is computed.
#[derive(Debug)]
struct FailingDevice(DeviceHealth);

impl Callback for FailingDevice {
    fn name(&self) -> &'static str {
        "failing_device"
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow, BoxedError> {
        if report.step == 2 {
            self.0.report("Should run when selected by autotune.");
        }
        Ok(Flow::Continue)
    }
}

#[test]
fn a_failed_device_ends_the_run_without_a_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let run = RunDir::create(&scratch.path().join("run")).unwrap();
    let context = RunContext::default();
    let callback = FailingDevice(context.health.clone());
    let trainer = builder().context(context).callback(callback).build();
    let message = with_causes(&trainer.unwrap().run_in(&run).unwrap_err());
    assert!(message.contains("a thread of the model or its device failed"), "{message}");
    assert!(message.contains("Should run when selected by autotune."), "{message}");
    assert!(run.join("checkpoints/step-000001").exists());
    assert!(!run.join("checkpoints/step-000002").exists());
    builder().build().unwrap().resume(&run).unwrap();
    let whole = RunDir::create(&scratch.path().join("whole")).unwrap();
    builder().build().unwrap().run_in(&whole).unwrap();
    assert_same_files(whole.path(), run.path());
}

#[test]
fn missing_questions_are_named() {
    let error = builder().questions(Vec::new()).build().unwrap_err();
    assert_eq!(error.to_string(), "a trainer needs questions; give some with `questions`");
    let error = builder().configure(|it| it.schedule.steps = 0).build().unwrap_err();
    assert_eq!(error.to_string(), "`training.schedule.steps` must be at least 1, is 0");
}
