//! Episodes as rows of fine-tuning: all tokens, and loss on those of the policy.

use std::path::{Path, PathBuf};

use zs_core::{render_observation, with_causes};
use zs_data::{DataError, RowError};
use zs_model::{Generator, LanguageModel, TokenRow, Tokenizer};
use zs_rl::{DemonstratedTurn, Demonstration, RolloutConfig, Trajectory, Turn};

use super::source::{SourceEpisode, open_source_episodes};

/// Rows of episodes, and what is wrong with the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpisodeTokens {
    /// One row an episode.
    pub rows: Vec<TokenRow>,
    /// One line for each episode that cannot be used.
    pub left_out: Vec<String>,
    /// Searches of whose documents some are not shown, or not in full.
    pub num_cut_results: usize,
}

impl EpisodeTokens {
    /// Encodes the episodes of files for a model.
    ///
    /// Episodes that are text are played through the loop of the rollout ([`Demonstration::play`]).
    /// Those that `zs` recorded in tokens are taken as they are, once their texts show that they are
    /// tokens of this model's tokenizer.
    ///
    /// # Errors
    ///
    /// Fails on a file that cannot be read to its end.
    pub fn read(
        paths: &[PathBuf],
        model: &LanguageModel,
        rollout: &RolloutConfig,
    ) -> Result<Self, DataError> {
        let (tokenizer, context_length) = (model.tokenizer(), model.config().max_position_embeddings);
        let mut encoder = Encoder { tokenizer, context_length, rollout, read: Self::default() };
        paths.iter().try_for_each(|path| encoder.read_file(path))?;
        Ok(encoder.read)
    }
}

struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    context_length: usize,
    rollout: &'a RolloutConfig,
    read: EpisodeTokens,
}

impl Encoder<'_> {
    fn read_file(&mut self, path: &Path) -> Result<(), DataError> {
        let mut rows = open_source_episodes(path)?;
        while let Some(row) = rows.next() {
            let episodes = match row {
                Ok(episodes) => episodes,
                Err(error @ DataError::Row { .. }) => {
                    self.read.left_out.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_one = episodes.len() == 1;
            for (index, episode) in episodes.iter().enumerate() {
                if let Err(problem) = self.encode(episode) {
                    let place = if is_one { String::new() } else { format!("episode {}: ", index + 1) };
                    let error = RowError::invalid(format!("{place}{problem}"));
                    let error = DataError::Row { path: path.to_owned(), row: rows.row(), error };
                    self.read.left_out.push(error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Adds the row of an episode, or says why there is none.
    fn encode(&mut self, episode: &SourceEpisode) -> Result<(), String> {
        match episode {
            SourceEpisode::Played { trajectory, .. } => {
                self.check_recorded(trajectory)?;
                self.read.rows.push(trajectory.token_row());
            }
            SourceEpisode::Written(demonstration) => {
                let trajectory = demonstration
                    .play(self.tokenizer, self.context_length, self.rollout)
                    .map_err(|error| with_causes(&error))?;
                self.read.num_cut_results +=
                    num_cut_results(demonstration, &trajectory, self.rollout.document_titles);
                self.read.rows.push(trajectory.token_row());
            }
        }
        Ok(())
    }

    fn check_recorded(&self, trajectory: &Trajectory) -> Result<(), String> {
        let (tokens, context) = (trajectory.num_tokens(), self.context_length);
        if tokens > context {
            return Err(format!("{tokens} tokens exceed the model's context of {context}"));
        }
        if trajectory.num_policy_tokens() == 0 {
            return Err("the episode has no tokens of the policy".to_owned());
        }
        let is_same = trajectory.turns.iter().all(|turn| {
            let observed = &turn.observation;
            self.tokenizer.decode(&turn.completion.tokens) == turn.text
                && (self.tokenizer.decode(observed) == turn.observation_text
                    || self.tokenizer.encode(&turn.observation_text).is_ok_and(|it| it == *observed))
        });
        match is_same {
            true => Ok(()),
            false => Err("its tokens are those of another tokenizer; write it as text with `zs data \
                          trajectories --from FILE`"
                .to_owned()),
        }
    }
}

/// Searches whose documents the episode does not show in full.
fn num_cut_results(demonstration: &Demonstration, played: &Trajectory, titles: bool) -> usize {
    let is_cut = |written: &DemonstratedTurn, shown: &Turn| {
        let whole = render_observation(&written.documents, titles);
        shown.search.is_some() && !shown.observation_text.starts_with(&whole)
    };
    let turns = demonstration.turns.iter().zip(&played.turns);
    turns.filter(|(written, shown)| is_cut(written, shown)).count()
}
