//! Searches of a policy on a real engine, rolled batch by batch into a file that can be continued.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use zs_core::{Document, Question, SearchEngine, StreamKey};
use zs_model::Generator;
use zs_rl::{Episode, RolloutConfig, rollout};
use zs_simulator::collect::RawSearch;

use zs_trainer::Console;
use zs_trainer::files::JsonLines;

/// One episode: a row of `episodes.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct RolledEpisode {
    question: String,
    golden_answers: Vec<String>,
    turns: Vec<RolledTurn>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RolledTurn {
    query: String,
    docs: Vec<Document>,
}

/// How a policy is rolled.
#[derive(Debug)]
pub(super) struct Rolling<'a> {
    pub(super) policy: &'a dyn Generator,
    pub(super) engine: &'a dyn SearchEngine,
    pub(super) questions: &'a [Question],
    pub(super) config: &'a RolloutConfig,
    pub(super) batch_size: usize,
    pub(super) seed: u64,
}

impl Rolling<'_> {
    /// Plays every question once and appends its searches to `path`, where an earlier call stopped.
    ///
    /// Episode `i` is a function of the policy, the engine, question `i` and the seed, so where it
    /// was stopped does not show. Failed searches are left out.
    pub(super) fn run(&self, path: &Path, console: &dyn Console) -> Result<Vec<RawSearch>> {
        let text = match path.exists() {
            true => std::fs::read_to_string(path)?,
            false => String::new(),
        };
        // The last line may be torn where a run was killed.
        let done = text.lines().map_while(|it| serde_json::from_str::<RolledEpisode>(it).ok());
        let num_done = done.count();
        let mut file = match path.exists() {
            true => JsonLines::resume(path, num_done)?,
            false => JsonLines::create(path)?,
        };
        let progress = console.progress("searching", self.questions.len());
        progress.advance(num_done.min(self.questions.len()), "");
        let left = self.questions.get(num_done..).unwrap_or_default();
        for (batch, questions) in left.chunks(self.batch_size).enumerate() {
            let first = num_done + batch * self.batch_size;
            let episodes: Vec<Episode<'_>> = (first..)
                .zip(questions)
                .map(|(index, question)| {
                    let key = StreamKey { group: index as u32, ..StreamKey::new(self.seed) };
                    Episode { question, key }
                })
                .collect();
            let output =
                rollout(self.policy, self.engine, &episodes, 0.0, self.config, &mut |_| {})?;
            for (question, trajectory) in questions.iter().zip(&output.trajectories) {
                let turn = |it: &zs_rl::SearchRecord| RolledTurn {
                    query: it.query.clone(),
                    docs: it.documents.clone(),
                };
                let worked = trajectory.searches().filter(|it| it.error.is_none());
                file.push(&RolledEpisode {
                    question: question.text.clone(),
                    golden_answers: question.golden_answers.clone(),
                    turns: worked.map(turn).collect(),
                })?;
            }
            progress.advance(questions.len(), "");
        }
        progress.finish(&format!("{} questions", self.questions.len()));
        Ok(zs_simulator::collect::read_turns(path)?)
    }
}
