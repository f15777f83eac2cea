//! The command line as a value that components are added to.

use std::process::ExitCode;

use zs_core::registry::{RegistryError, Settings};
use zs_curriculum::Curriculum;
use zs_data::QuestionSource;
use zs_rl::program::ProgramFunction;
use zs_rl::{Algorithm, GroupReward, RetrievalReward, Reward};
use zs_search::EngineSettings;
use zs_trainer::{Components, TrackerSettings};

use crate::cli;

/// The command `zs` with the components of a program; see the [crate](crate) for an example.
///
/// A name that is taken is reported when the command [runs](Self::run).
#[derive(Debug)]
#[must_use = "nothing happens until it is run"]
pub struct Zs {
    components: Result<Components, RegistryError>,
}

impl Default for Zs {
    fn default() -> Self {
        Self::new()
    }
}

impl Zs {
    /// Creates the command with the built-in components.
    pub fn new() -> Self {
        Self { components: Ok(Components::built_in()) }
            .register(|it| zs_observe::register_trackers(&mut it.trackers))
    }

    /// Adds an algorithm.
    pub fn algorithm<A: Algorithm + Settings>(self) -> Self {
        self.register(Components::algorithm::<A>)
    }

    /// Adds a reward.
    pub fn reward<R: Reward + Settings>(self) -> Self {
        self.register(Components::reward::<R>)
    }

    /// Adds a reward that reads documents.
    pub fn retrieval_reward<R: RetrievalReward + Settings>(self) -> Self {
        self.register(Components::retrieval_reward::<R>)
    }

    /// Adds a reward that compares the episodes of a question.
    pub fn group_reward<R: GroupReward + Settings>(self) -> Self {
        self.register(Components::group_reward::<R>)
    }

    /// Adds a program function.
    pub fn program_function<F: ProgramFunction + Settings>(self) -> Self {
        self.register(Components::program_function::<F>)
    }

    /// Adds a curriculum.
    pub fn curriculum<C: Curriculum + Settings>(self) -> Self {
        self.register(Components::curriculum::<C>)
    }

    /// Adds a search engine by its settings.
    pub fn engine<E: EngineSettings>(self) -> Self {
        self.register(Components::engine::<E>)
    }

    /// Adds a source of questions.
    pub fn question_source<Q: QuestionSource + Settings>(self) -> Self {
        self.register(Components::question_source::<Q>)
    }

    /// Adds a tracker by its settings.
    pub fn tracker<T: TrackerSettings>(self) -> Self {
        self.register(Components::tracker::<T>)
    }

    /// Adds anything to the registries.
    pub fn register(
        mut self,
        register: impl FnOnce(&mut Components) -> Result<(), RegistryError>,
    ) -> Self {
        if let Ok(components) = &mut self.components
            && let Err(error) = register(components)
        {
            self.components = Err(error);
        }
        self
    }

    /// Returns the components, for programs that read run files themselves.
    ///
    /// # Errors
    ///
    /// Fails where a name was taken.
    pub fn components(self) -> Result<Components, RegistryError> {
        self.components
    }

    /// Reads the process's arguments, does what they ask for, and reports failure in one line.
    #[must_use]
    pub fn run(self) -> ExitCode {
        cli::main(self.components)
    }
}

#[cfg(test)]
mod tests {
    use zs_observe::TensorBoardSettings;
    use zs_trainer::config::{TrainConfig, parse};

    use super::*;

    #[test]
    fn run_files_may_ask_for_tensorboard() {
        let components = Zs::new().components().unwrap();
        let run = "seed = 1\nout = \"o\"\npolicy = \"p\"\nengine.kind = \"self_search\"\n\
                   questions = { kind = \"file\", path = \"q\" }\n";
        for logging in
            ["logging.tensorboard = true", "logging.trackers = [{ kind = \"tensorboard\" }]"]
        {
            parse::<TrainConfig>(&format!("{run}{logging}\n"), "run.toml", &components).unwrap();
        }
    }

    #[test]
    fn a_taken_name_is_reported() {
        let error = Zs::new().tracker::<TensorBoardSettings>().components().unwrap_err();
        assert!(error.to_string().contains("`tensorboard` is registered already"), "{error}");
    }
}
