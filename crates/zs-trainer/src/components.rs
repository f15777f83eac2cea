//! Everything that run files choose by name: what is built in, and what a program adds.

use zs_core::registry::{BoxedError, Registry, RegistryError, Settings};
use zs_curriculum::{Curriculum, CurriculumRegistry};
use zs_data::QuestionSource;
use zs_rl::algorithm::AlgorithmRegistry;
use zs_rl::program::{ProgramFunction, ProgramFunctionRegistry};
use zs_rl::reward::RewardRegistry;
use zs_rl::{Algorithm, GroupReward, RetrievalReward, Reward};
use zs_search::{EngineRegistry, EngineSettings};

use crate::bm25::Bm25Settings;
use crate::callback::Callback;
use crate::files::RunDir;
use crate::questions::{QuestionRegistry, question_sources, register_question_source};
use crate::teacher::{TeacherRegistry, teachers};

/// Trackers by name; each is given the directory of its run.
pub type TrackerRegistry = Registry<Box<dyn Callback>, RunDir>;

/// Typed settings of a tracker.
pub trait TrackerSettings: Settings {
    /// Creates the tracker of a run, begun or resumed.
    ///
    /// # Errors
    ///
    /// Fails on what the run cannot be tracked with.
    fn track(self, run: &RunDir) -> Result<Box<dyn Callback>, BoxedError>;
}

/// Registries of a program.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zs_core::registry::{Settings, Spec};
/// use zs_curriculum::{Curriculum, Progress};
/// use zs_trainer::Components;
///
/// /// Noisy documents in the second half only.
/// #[derive(Debug, Serialize, Deserialize)]
/// struct SecondHalf {
///     probability: f64,
/// }
///
/// impl Settings for SecondHalf {
///     const KIND: &'static str = "second_half";
/// }
///
/// impl Curriculum for SecondHalf {
///     fn noise_probability(&self, progress: Progress<'_>) -> f64 {
///         if progress.fraction() < 0.5 { 0.0 } else { self.probability }
///     }
/// }
///
/// let mut components = Components::built_in();
/// components.curriculum::<SecondHalf>()?;
/// let spec = Spec::named("second_half").with("probability", 0.5);
/// let curriculum = components.curricula.build(&spec, &())?;
/// assert_eq!(curriculum.noise_probability(Progress::new(9, 10)), 0.5);
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
#[derive(Debug)]
pub struct Components {
    /// Credit assignment and losses.
    pub algorithms: AlgorithmRegistry,
    /// Rewards of episodes.
    pub rewards: RewardRegistry,
    /// Functions that watch the policy's actions.
    pub program_functions: ProgramFunctionRegistry,
    /// Schedules of noisy documents.
    pub curricula: CurriculumRegistry,
    /// Search engines.
    pub engines: EngineRegistry,
    /// Sources of questions.
    pub question_sources: QuestionRegistry,
    /// Teachers that a policy is distilled from.
    pub teachers: TeacherRegistry,
    /// Callbacks that run files name.
    pub trackers: TrackerRegistry,
}

impl Components {
    /// Creates registries of the built-in components.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            algorithms: zs_rl::algorithm::builtin(),
            rewards: zs_rl::reward::builtin(),
            program_functions: zs_rl::program::builtin(),
            curricula: zs_curriculum::builtin(),
            engines: engines(),
            question_sources: question_sources(),
            teachers: teachers(),
            trackers: Registry::new("tracker"),
        }
    }

    /// Registers an algorithm whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn algorithm<A: Algorithm + Settings>(&mut self) -> Result<(), RegistryError> {
        self.algorithms.register(|it: A, (): &(), _| Ok(Box::new(it) as _))
    }

    /// Registers a reward whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn reward<R: Reward + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::reward::register_reward::<R>(&mut self.rewards)
    }

    /// Registers a reward that reads documents, whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn retrieval_reward<R: RetrievalReward + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::reward::register_retrieval_reward::<R>(&mut self.rewards)
    }

    /// Registers a reward that compares the episodes of a question, whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn group_reward<R: GroupReward + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::reward::register_group_reward::<R>(&mut self.rewards)
    }

    /// Registers a program function whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn program_function<F: ProgramFunction + Settings>(&mut self) -> Result<(), RegistryError> {
        zs_rl::program::register_program_function::<F>(&mut self.program_functions)
    }

    /// Registers a curriculum whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn curriculum<C: Curriculum + Settings>(&mut self) -> Result<(), RegistryError> {
        self.curricula.register(|it: C, (): &(), _| Ok(Box::new(it) as _))
    }

    /// Registers a search engine by its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn engine<E: EngineSettings>(&mut self) -> Result<(), RegistryError> {
        zs_search::register_engine::<E>(&mut self.engines)
    }

    /// Registers a source of questions whose struct is its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn question_source<Q: QuestionSource + Settings>(&mut self) -> Result<(), RegistryError> {
        register_question_source::<Q>(&mut self.question_sources)
    }

    /// Registers a tracker by its settings.
    ///
    /// # Errors
    ///
    /// Fails where its name is taken.
    pub fn tracker<T: TrackerSettings>(&mut self) -> Result<(), RegistryError> {
        self.trackers.register(|it: T, run, _| it.track(run))
    }
}

/// Creates a registry of the built-in engines.
fn engines() -> EngineRegistry {
    let mut registry = Registry::new("search engine");
    let registered = zs_search::register_others(&mut registry)
        .and_then(|()| zs_simulator::register_engines(&mut registry))
        .and_then(|()| zs_search::register_engine::<Bm25Settings>(&mut registry));
    debug_assert!(registered.is_ok(), "the names are distinct");
    registry
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::{Deserialize, Serialize};
    use zs_core::registry::Spec;
    use zs_core::{Action, Document, Question, SearchEngine};
    use zs_data::QuestionSet;
    use zs_rl::program::{Harness, Intervention, ProgramContext, ProgramError};
    use zs_search::{EngineContext, FixedEngine};

    use super::*;
    use crate::RunContext;
    use crate::config::{TrainConfig, parse};
    use crate::engines::Engines;
    use crate::source;

    /// Settings of an engine, a source of questions, a program function and a tracker at once.
    #[derive(Debug, Serialize, Deserialize)]
    struct Echo {
        word: String,
    }

    impl Settings for Echo {
        const KIND: &'static str = "echo";
    }

    impl EngineSettings for Echo {
        fn open(self, _: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
            Ok(Arc::new(FixedEngine::new(vec![Document::new("", self.word)])))
        }
    }

    impl QuestionSource for Echo {
        fn read(&self, _: bool) -> Result<QuestionSet, BoxedError> {
            let questions = vec![Question::new("q", &self.word, [&self.word])];
            Ok(QuestionSet { questions, ..QuestionSet::default() })
        }
    }

    impl ProgramFunction for Echo {
        fn id(&self) -> &str {
            &self.word
        }

        fn should_activate(
            &self,
            _: &ProgramContext<'_>,
            _: &Action,
        ) -> Result<bool, ProgramError> {
            Ok(false)
        }

        fn intervene(
            &self,
            _: &ProgramContext<'_>,
            _: &Action,
        ) -> Result<Intervention, ProgramError> {
            Ok(Intervention::Noop)
        }
    }

    impl Callback for Echo {
        fn name(&self) -> &'static str {
            "echo"
        }
    }

    impl TrackerSettings for Echo {
        fn track(self, _: &RunDir) -> Result<Box<dyn Callback>, BoxedError> {
            Ok(Box::new(self))
        }
    }

    #[test]
    fn run_files_choose_components_of_a_program() {
        let mut components = Components::built_in();
        components.engine::<Echo>().unwrap();
        components.question_source::<Echo>().unwrap();
        components.program_function::<Echo>().unwrap();
        components.tracker::<Echo>().unwrap();
        assert!(components.engine::<Echo>().is_err());
        let text = "seed = 1\nout = \"o\"\npolicy = \"p\"\n\
            questions = { kind = \"echo\", word = \"x\" }\n\
            [engine]\nkind = \"retried\"\nengine = { kind = \"echo\", word = \"x\" }\n\
            [training.rollout]\nprograms = [\"hallucination\", { kind = \"echo\", word = \"x\" }]\n\
            [[logging.trackers]]\nkind = \"echo\"\nword = \"x\"\n";
        let config: TrainConfig = parse(text, "run.toml", &components).unwrap();
        let context = RunContext { components: Arc::new(components), ..RunContext::default() };
        let engine = Engines::new(&context, Default::default()).open(&config.engine).unwrap();
        assert_eq!(engine.name(), "fixed");
        assert_eq!(source::questions(&config.questions, true, &context).unwrap()[0].text, "x");
        let (functions, programs) =
            (&context.components.program_functions, &config.training.rollout.programs);
        assert_eq!(
            *programs,
            [Spec::named("hallucination"), Spec::named("echo").with("word", "x")]
        );
        assert_eq!(Harness::of(functions, programs).unwrap().len(), 2);
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run")).unwrap();
        let trackers = config.logging.trackers();
        assert_eq!(trackers, [Spec::named("echo").with("word", "x")]);
        let tracker = context.components.trackers.build(&trackers[0], &run).unwrap();
        assert_eq!(tracker.name(), "echo");
    }

    #[test]
    fn unknown_program_functions_are_refused() {
        let check = |programs: &str, expected: &str| {
            let text = format!(
                "seed = 1\nout = \"o\"\npolicy = \"p\"\nengine.kind = \"self_search\"\n\
                 questions = {{ kind = \"file\", path = \"q\" }}\n\
                 [training.rollout]\nprograms = [{programs}]\n"
            );
            let error = parse::<TrainConfig>(&text, "run.toml", &Components::built_in());
            let message = zs_core::with_causes(&error.unwrap_err());
            let expected = format!("run.toml: line 7: training.rollout.programs.{expected}");
            assert!(message.starts_with(&expected), "{message}");
        };
        check(
            "\"hallucination\", \"retrieval_failur\"",
            "1: unknown program function `retrieval_failur` (did you mean `retrieval_failure`?)",
        );
        check(
            "{ kind = \"hallucination\", minimum = 3 }",
            "0: unknown setting `minimum` of program function `hallucination`",
        );
    }
}
