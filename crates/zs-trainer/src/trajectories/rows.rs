//! Episodes as rows of fine-tuning: all tokens, and loss on those of the policy.

use std::path::{Path, PathBuf};

use zs_core::{Action, render_observation, with_causes};
use zs_data::{DataError, RowError};
use zs_model::{TokenRow, Tokenizer};
use zs_rl::{DemonstratedTurn, Demonstration, RolloutConfig, Trajectory, Turn};
use zs_simulator::tuning::contains_answer;

use super::holds_answer;
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
    /// Encodes the episodes of files for a model of this tokenizer and context.
    ///
    /// Episodes that are text are played through the loop of the rollout ([`Demonstration::play`]).
    /// Those that `zs` recorded in tokens are taken as they are, once their texts show that they are
    /// tokens of this tokenizer.
    ///
    /// # Errors
    ///
    /// Fails on a file that cannot be read to its end.
    pub fn read(
        paths: &[PathBuf],
        tokenizer: &Tokenizer,
        context_length: usize,
        rollout: &RolloutConfig,
    ) -> Result<Self, DataError> {
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
                    let place =
                        if is_one { String::new() } else { format!("episode {}: ", index + 1) };
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
                let num_cut =
                    num_cut_results(demonstration, &trajectory, self.rollout.document_titles);
                if num_cut > 0 && hides_answer(demonstration, &trajectory) {
                    return Err(
                        "the answer occurs in documents that are not shown in full; raise \
                                `num_documents` or `max_observation_tokens`"
                            .to_owned(),
                    );
                }
                self.read.num_cut_results += num_cut;
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
                    || self
                        .tokenizer
                        .encode(&turn.observation_text)
                        .is_ok_and(|it| it == *observed))
        });
        match is_same {
            true => Ok(()),
            false => {
                Err("its tokens are those of another tokenizer; write it as text with `zs data \
                          trajectories --from FILE`"
                    .to_owned())
            }
        }
    }
}

/// True where the answer occurs in what the searches return, and not in what the episode shows of it:
/// whoever learns from it learns to guess.
fn hides_answer(demonstration: &Demonstration, played: &Trajectory) -> bool {
    let answers = match played.turns.last().map(|it| &it.action) {
        Some(Action::Answer(answer)) => [answer.clone()],
        _ => return false,
    };
    let mut returned = demonstration.turns.iter().flat_map(|it| &it.documents);
    let is_shown = |it: &Turn| contains_answer(&it.observation_text, &answers);
    returned.any(|it| holds_answer(it, &answers)) && !played.turns.iter().any(is_shown)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use zs_core::{Question, StreamKey};
    use zs_model::testing::byte_tokenizer;
    use zs_model::{Generator, LanguageModel, TokenId};
    use zs_rl::{Episode, Provenance, write_records};
    use zs_world::{Split, World};

    use super::*;
    use crate::{RunContext, source};

    fn shipped_model() -> LanguageModel {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/zs-tiny");
        source::load_model(&dir, RunContext::default().devices.first()).unwrap()
    }

    /// Episodes of the shipped model in an embedded world, and their questions.
    fn played(model: &LanguageModel, config: &RolloutConfig) -> (Vec<Trajectory>, Vec<Question>) {
        let world = World::generate(3, Split::Validation);
        let questions: Vec<Question> =
            (1..3).flat_map(|hops| world.questions(1, hops, 8)).map(|it| it.question).collect();
        let key = |group| StreamKey { group, ..StreamKey::new(5) };
        let episodes: Vec<Episode<'_>> = (0..)
            .zip(&questions)
            .map(|(it, question)| Episode { question, key: key(it) })
            .collect();
        let engine = world.engine().as_ref();
        let played = zs_rl::rollout(model, engine, &episodes, 0.0, config, &mut |_| {}).unwrap();
        (played.trajectories, questions)
    }

    fn read(lines: &[u8], model: &LanguageModel, rollout: &RolloutConfig) -> EpisodeTokens {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.jsonl");
        fs::write(&path, lines).unwrap();
        let context = model.config().max_position_embeddings;
        EpisodeTokens::read(&[path], model.tokenizer(), context, rollout).unwrap()
    }

    #[test]
    fn recorded_episodes_keep_the_tokens_and_authors_of_the_rollout() {
        let model = shipped_model();
        let config = source::default_rollout(model.tokenizer());
        let (trajectories, _) = played(&model, &config);
        let mut lines = Vec::new();
        write_records(&mut lines, &trajectories).unwrap();
        let read = read(&lines, &model, &RolloutConfig::default());
        assert_eq!((read.left_out.len(), read.rows.len()), (0, 16));
        assert!(trajectories.iter().any(|it| it.searches().count() > 0));
        for (row, trajectory) in read.rows.iter().zip(&trajectories) {
            assert_eq!(row.tokens, trajectory.tokens());
            let own: Vec<bool> =
                trajectory.provenance().iter().map(|it| *it == Provenance::Policy).collect();
            assert_eq!(row.loss_mask, own);
        }
    }

    #[test]
    fn the_text_of_an_episode_gives_the_tokens_that_the_rollout_has_shown() {
        let model = shipped_model();
        let greedy = RolloutConfig {
            temperature: 0.0,
            max_observation_tokens: 60,
            ..source::default_rollout(model.tokenizer())
        };
        let (trajectories, questions) = played(&model, &greedy);
        let episodes = trajectories.iter().zip(questions);
        let written: Vec<(Demonstration, &Trajectory)> = episodes
            .map(|(it, question)| (Demonstration::of(it, question), it))
            .filter(|(it, _)| it.check(greedy.max_searches as usize).is_ok())
            .collect();
        assert!(written.len() > 8, "{}", written.len());
        let lines: Vec<String> =
            written.iter().map(|(it, _)| serde_json::to_string(it).unwrap()).collect();
        let read = read(lines.join("\n").as_bytes(), &model, &greedy);
        assert_eq!(read.left_out, [""; 0]);
        let recorded: Vec<TokenRow> = written.iter().map(|(_, it)| it.token_row()).collect();
        assert_eq!(read.rows, recorded);
    }

    #[test]
    fn answers_that_are_cut_off_are_not_learned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.jsonl");
        let read = |documents: &str, num_documents: usize| {
            let row = format!(
                r#"{{"question":"who?","text":"<search> q </search><information>{documents}</information><answer> Ann </answer>"}}"#
            );
            fs::write(&path, row).unwrap();
            let config = RolloutConfig { num_documents, ..RolloutConfig::default() };
            EpisodeTokens::read(std::slice::from_ref(&path), &byte_tokenizer(), 9999, &config)
                .unwrap()
        };
        let check = |documents: &str, num_documents: usize, rows: usize, cut: usize| {
            let read = read(documents, num_documents);
            assert_eq!((read.rows.len(), read.num_cut_results), (rows, cut), "{documents}");
            read
        };
        check("Doc 1: it was\\nDoc 2: Ann", 2, 1, 0);
        check("Doc 1: Ann\\nDoc 2: it was", 1, 1, 1);
        // An answer that no document holds is the author's own.
        check("Doc 1: it was\\nDoc 2: not Bo", 1, 1, 1);
        let read = check("Doc 1: it was\\nDoc 2: Ann", 1, 0, 0);
        assert!(read.left_out[0].contains("row 1: the answer occurs in documents"));
    }

    #[test]
    fn what_cannot_be_learned_is_named_and_the_rest_is_kept() {
        let record = |prompt: &[TokenId], turn: &str| {
            format!(
                r#"{{"version":2,"record":{{"question_id":"q","prompt":{prompt:?},"turns":[{turn}],"truncated":false}}}}"#
            )
        };
        let turn = |text: &str| {
            format!(
                r#"{{"completion":{{"tokens":[97,98],"log_probs":[0,0],"stop_reason":"stop"}},"text":"{text}","action":{{"kind":"invalid"}},"observation":[],"observation_text":""}}"#
            )
        };
        let chat = |role: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"who?"}},{{"role":"{role}","content":"<answer> x </answer>"}}]}}"#
            )
        };
        let text = |text: &str| format!(r#"{{"question":"who?","text":"{text}"}}"#);
        let rows = [
            record(&[1], &turn("ab")),
            record(&[1], &turn("other")),
            record(&[1], ""),
            record(&[7; 99], &turn("ab")),
            chat("assistant"),
            chat("critic"),
            text("<search> a <information>b</information><answer> x </answer>"),
            text("<information>b</information><answer> x </answer>"),
            text("<search> a </search><information>b</information><answer> x"),
            text(
                "<search> a </search><information>a long document</information><answer> x </answer>",
            ),
            "{".to_owned(),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.jsonl");
        fs::write(&path, rows.join("\n")).unwrap();
        let config =
            RolloutConfig { prompt_template: "{{ question }}".into(), ..RolloutConfig::default() };
        let read = EpisodeTokens::read(std::slice::from_ref(&path), &byte_tokenizer(), 80, &config)
            .unwrap();
        assert_eq!(read.rows.len(), 2);
        let expected = [
            (2, "its tokens are those of another tokenizer"),
            (3, "the episode has no tokens of the policy"),
            (4, "101 tokens exceed the model's context of 80"),
            (6, "has the role `critic`"),
            (7, "turn 1: `<search>` is never closed"),
            (8, "the result of a search follows text that does not search"),
            (9, "turn 2: `<answer>` is unmatched"),
            (10, "the model's context of 80 tokens is full after turn"),
            (11, "not a"),
        ];
        assert_eq!(read.left_out.len(), expected.len(), "{:#?}", read.left_out);
        for (line, (row, problem)) in read.left_out.iter().zip(expected) {
            assert!(line.starts_with(&format!("{}, row {row}: ", path.display())), "{line}");
            assert!(line.contains(problem) && !line.contains('\n'), "{line}");
        }
    }
}
