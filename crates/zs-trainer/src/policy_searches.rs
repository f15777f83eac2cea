//! Searches of a policy on a real engine, as tuning data for a simulation LLM.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use zs_core::{Question, SearchEngine, StreamKey};
use zs_model::Generator;
use zs_rl::{Episode, RolloutConfig, SearchRecord, rollout};
use zs_simulator::collect::{
    CollectConfig, CollectError, CollectEvent, EpisodeSource, Manifest, PlayedSearch, SearchSource,
    collect_tuning_set,
};

/// A policy that searches a real engine.
#[derive(Debug)]
pub struct PolicySearches<'a> {
    /// The policy.
    pub policy: &'a dyn Generator,
    /// The engine.
    pub engine: &'a dyn SearchEngine,
    /// Questions to play.
    pub questions: &'a [Question],
    /// Settings of rollouts.
    pub rollout: &'a RolloutConfig,
    /// Episodes played together.
    pub batch_size: usize,
    /// Paths of policy, questions and documents, for the manifest.
    pub inputs: Vec<PathBuf>,
}

impl PolicySearches<'_> {
    /// Plays every question once and makes a tuning set of the searches that did not fail, as
    /// [`collect_tuning_set`] does.
    ///
    /// Episode `i` is a function of the policy, the engine, question `i` and the seed, so where a
    /// collection was interrupted does not show.
    ///
    /// # Errors
    ///
    /// As [`collect_tuning_set`], and where episodes cannot be played.
    pub fn collect_tuning_set(
        &self,
        config: &CollectConfig,
        progress: &mut dyn FnMut(CollectEvent),
    ) -> Result<Manifest, CollectError> {
        let play = |first: usize, questions: &[Question]| {
            let key = |index| StreamKey { group: index as u32, ..StreamKey::new(config.seed) };
            let episodes: Vec<Episode<'_>> = (first..)
                .zip(questions)
                .map(|(index, question)| Episode { question, key: key(index) })
                .collect();
            let played =
                rollout(self.policy, self.engine, &episodes, 0.0, self.rollout, &mut |_| {})?;
            let search = |it: &SearchRecord| PlayedSearch {
                query: it.query.clone(),
                documents: it.documents.clone(),
            };
            let searches = played
                .trajectories
                .iter()
                .map(|it| it.searches().filter(|it| it.error.is_none()).map(search).collect());
            Ok(searches.collect())
        };
        let settings = Map::from_iter([
            ("engine".to_owned(), Value::from(self.engine.name())),
            ("rollout".to_owned(), json!(self.rollout)),
        ]);
        let source = EpisodeSource {
            questions: self.questions,
            batch_size: self.batch_size,
            play: &play,
            inputs: self.inputs.clone(),
            settings,
        };
        collect_tuning_set(&SearchSource::Episodes(source), config, progress)
    }
}
