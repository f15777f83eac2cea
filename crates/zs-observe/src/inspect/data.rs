//! The episodes of a run as compact as a browser can read them: every text once, numbers as integers.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use zs_model::{TextStream, TokenId, Tokenizer};
use zs_rl::{
    Counterfactual, Provenance, RewardedTrajectory, SearchValue, Trajectory, search_values,
};

use super::InspectError;
use zs_trainer::RecordedGroup;

/// Factor of the page's numbers, before they are rounded.
const SCALE: f32 = 1000.0;

/// The episodes of the page. Keys are short since there are many of them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Episodes {
    /// Every text of a token, once.
    pieces: Vec<String>,
    questions: Vec<QuestionData>,
    /// Names of the components of the reward.
    components: Vec<String>,
    episodes: Vec<EpisodeData>,
    /// Pieces are single tokens; else a piece is all that an author wrote in a row.
    by_token: bool,
    #[serde(skip)]
    piece_ids: HashMap<String, u32>,
    #[serde(skip)]
    question_ids: HashMap<String, u32>,
    #[serde(skip)]
    memo: HashMap<(Option<TokenId>, TokenId), Option<String>>,
}

#[derive(Debug, Serialize)]
struct QuestionData {
    id: String,
    text: String,
    answers: Vec<String>,
}

/// Episode.
#[derive(Debug, Serialize)]
struct EpisodeData {
    /// Step.
    s: usize,
    /// Question.
    q: u32,
    /// Index among the group's samples, from 0.
    i: usize,
    /// Noise probability.
    n: i32,
    /// Reward, and its components.
    r: i32,
    c: Vec<i32>,
    /// The answer, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<String>,
    /// End of the episode other than an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<&'static str>,
    /// The sample that it continues, and the first turn of its own, where it is a continuation.
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<[usize; 2]>,
    /// True for a group that was replaced, so that nothing was learned from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    d: bool,
    /// Text of the episode, by author.
    g: Vec<SegmentData>,
}

/// Text that one author wrote in a row.
#[derive(Debug, Serialize)]
struct SegmentData {
    /// Author: `prompt`, `policy`, `observation`, or an agent's name.
    p: &'static str,
    /// Pieces.
    t: Vec<u32>,
    /// Log-probabilities, one a piece.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    l: Vec<i32>,
    /// Advantages: one a piece, or a single one where they are equal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    a: Vec<i32>,
    /// The search that was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<SearchData>,
}

#[derive(Debug, Serialize)]
struct SearchData {
    query: String,
    /// The quality that was drawn.
    quality: &'static str,
    documents: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Ends with the documents replaced, where they were played.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    v: Vec<ValueData>,
}

/// End of an episode with the documents of a search replaced.
#[derive(Debug, Serialize)]
struct ValueData {
    documents: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// Value of the search: how much more the episode's answer scores.
    value: i32,
}

/// Consecutive tokens of one author, before they become pieces.
struct Part<'a> {
    author: &'static str,
    tokens: &'a [TokenId],
    text: Option<&'a str>,
    log_probs: &'a [f32],
    search: Option<SearchData>,
}

impl<'a> Part<'a> {
    fn new(
        author: &'static str,
        tokens: &'a [TokenId],
        text: Option<&'a str>,
        log_probs: &'a [f32],
    ) -> Self {
        Self { author, tokens, text, log_probs, search: None }
    }
}

impl Episodes {
    /// Adds the episodes of a group; without a tokenizer, a segment is one piece.
    pub(super) fn add(
        &mut self,
        run: &Path,
        recorded: &RecordedGroup,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<(), InspectError> {
        self.by_token = tokenizer.is_some();
        let RecordedGroup { step, noise_probability, group, .. } = recorded;
        let question = match self.question_ids.get(&group.question.id) {
            Some(id) => *id,
            None => {
                let id = self.questions.len() as u32;
                self.question_ids.insert(group.question.id.clone(), id);
                self.questions.push(QuestionData {
                    id: group.question.id.clone(),
                    text: group.question.text.clone(),
                    answers: group.question.golden_answers.clone(),
                });
                id
            }
        };
        for (sample, rewarded) in group.trajectories.iter().enumerate() {
            let RewardedTrajectory { trajectory, reward } = rewarded;
            if self.components.is_empty() {
                self.components = reward.components.iter().map(|it| it.name.to_string()).collect();
            }
            let advantages = advantages(recorded, sample);
            let tokens = trajectory.num_tokens();
            if let Some(it) = advantages.filter(|it| it.len() != tokens) {
                let (run, question) = (run.to_owned(), trajectory.question_id.clone());
                let advantages = it.len();
                return Err(InspectError::Advantages {
                    run,
                    step: *step,
                    question,
                    tokens,
                    advantages,
                });
            }
            let transcript = trajectory.transcript();
            let golden_answers = &group.question.golden_answers;
            let episode = EpisodeData {
                s: *step,
                q: question,
                i: sample,
                n: scaled(*noise_probability as f32),
                r: scaled(reward.total),
                c: reward.components.iter().map(|it| scaled(it.score)).collect(),
                f: transcript.answer().map(str::to_owned),
                e: ending(trajectory),
                b: trajectory.branch.map(|it| [it.parent, it.turn]),
                d: recorded.dropped,
                g: self.segments(trajectory, golden_answers, advantages, tokenizer),
            };
            self.episodes.push(episode);
        }
        Ok(())
    }

    /// Episodes that were added.
    pub(super) fn len(&self) -> usize {
        self.episodes.len()
    }

    fn segments(
        &mut self,
        trajectory: &Trajectory,
        golden_answers: &[String],
        advantages: Option<&[f32]>,
        tokenizer: Option<&Tokenizer>,
    ) -> Vec<SegmentData> {
        let mut start = 0;
        let mut segments = Vec::new();
        for part in parts(trajectory, golden_answers) {
            let range = start..start + part.tokens.len();
            start = range.end;
            if part.tokens.is_empty() && part.search.is_none() {
                continue;
            }
            let is_learned = part.author != "prompt" && part.author != "observation";
            let (pieces, log_probs) = match tokenizer {
                Some(tokenizer) => (self.pieces(part.tokens, tokenizer), part.log_probs.to_vec()),
                None => {
                    let text = part
                        .text
                        .map_or_else(|| format!("[{} tokens]", part.tokens.len()), str::to_owned);
                    let mean = mean(part.log_probs);
                    (vec![text], mean.into_iter().collect())
                }
            };
            let t = pieces.into_iter().map(|it| self.intern(it)).collect();
            let advantages = advantages.filter(|_| is_learned).map(|it| &it[range]);
            let a = advantages.map_or_else(Vec::new, |it| compact(it, tokenizer.is_some()));
            let l = log_probs.into_iter().map(scaled).collect();
            segments.push(SegmentData { p: part.author, t, l, a, h: part.search });
        }
        segments
    }

    fn intern(&mut self, piece: String) -> u32 {
        let next = self.pieces.len() as u32;
        *self.piece_ids.entry(piece).or_insert_with_key(|it| {
            self.pieces.push(it.clone());
            next
        })
    }

    /// Splits a text into the parts that its tokens add. A token's text depends at most on the
    /// token before it, unless a character is made of several tokens.
    fn pieces(&mut self, tokens: &[TokenId], tokenizer: &Tokenizer) -> Vec<String> {
        let mut pieces = Vec::with_capacity(tokens.len());
        let mut before = None;
        for &token in tokens {
            let piece = self.memo.entry((before, token)).or_insert_with(|| {
                let left = before.map_or_else(String::new, |it| tokenizer.decode(&[it]));
                let pair: Vec<TokenId> = before.into_iter().chain([token]).collect();
                let both = tokenizer.decode(&pair);
                let added = both.strip_prefix(&left)?;
                (!added.contains('\u{fffd}')).then(|| added.to_owned())
            });
            let Some(piece) = piece else { return streamed(tokens, tokenizer) };
            pieces.push(piece.clone());
            before = Some(token);
        }
        pieces
    }
}

/// Splits a text whose characters are made of several tokens: the last of them carries the character.
fn streamed(tokens: &[TokenId], tokenizer: &Tokenizer) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer);
    let mut pieces: Vec<String> = tokens.iter().map(|it| stream.push(*it)).collect();
    if let Some(last) = pieces.last_mut() {
        last.push_str(&stream.finish());
    }
    pieces
}

/// Prompt, then of each turn what the policy and its agents wrote, and the observation: the order of
/// [`Trajectory::tokens`].
fn parts<'a>(trajectory: &'a Trajectory, golden_answers: &[String]) -> Vec<Part<'a>> {
    let mut parts = vec![Part::new("prompt", &trajectory.prompt, None, &[])];
    for (index, turn) in trajectory.turns.iter().enumerate() {
        // What a continuation shares is its prompt.
        let policy = if index < trajectory.num_shared_turns() { "prompt" } else { "policy" };
        for consult in trajectory.consults.iter().filter(|it| it.turn == index) {
            let written = &consult.completion;
            let author = match consult.reply_provenance() {
                Provenance::Agent(kind) => kind.tag(),
                _ => "observation",
            };
            let (text, reply) = (Some(&consult.text[..]), Some(&consult.reply_text[..]));
            parts.push(Part::new(policy, &written.tokens, text, &written.log_probs));
            parts.push(Part::new(author, &consult.reply, reply, &consult.reply_log_probs));
        }
        let (written, text) = (&turn.completion, Some(&turn.text[..]));
        parts.push(Part::new(policy, &written.tokens, text, &written.log_probs));
        let search = turn.search.as_ref().map(|it| SearchData {
            query: it.query.clone(),
            quality: it.quality.word(),
            documents: it.documents.len(),
            error: it.error.clone(),
            v: values(trajectory, index, golden_answers),
        });
        let text = Some(&turn.observation_text[..]);
        parts.push(Part { search, ..Part::new("observation", &turn.observation, text, &[]) });
    }
    parts
}

/// Value of the search of a turn against each replacement.
fn values(trajectory: &Trajectory, turn: usize, golden_answers: &[String]) -> Vec<ValueData> {
    if trajectory.counterfactuals.is_empty() {
        return Vec::new();
    }
    let transcript = trajectory.transcript();
    let ends = &trajectory.counterfactuals;
    let values = search_values(transcript.answer(), ends, golden_answers);
    let of_turn = ends.iter().zip(values).filter(|(it, _)| it.turn == turn);
    let value = |(end, value): (&Counterfactual, SearchValue)| ValueData {
        documents: end.documents.word(),
        answer: end.answer.clone(),
        value: scaled(value.value),
    };
    of_turn.map(value).collect()
}

fn advantages(recorded: &RecordedGroup, sample: usize) -> Option<&[f32]> {
    recorded.advantages.get(sample).map(Vec::as_slice)
}

fn ending(trajectory: &Trajectory) -> Option<&'static str> {
    match trajectory {
        Trajectory { truncated: true, .. } => Some("context full"),
        Trajectory { over_budget: true, .. } => Some("token budget spent"),
        _ => None,
    }
}

fn compact(advantages: &[f32], by_token: bool) -> Vec<i32> {
    let is_equal = advantages.windows(2).all(|it| it[0] == it[1]);
    match (by_token, is_equal) {
        (false, _) => mean(advantages).into_iter().map(scaled).collect(),
        (true, true) => advantages.iter().take(1).copied().map(scaled).collect(),
        (true, false) => advantages.iter().copied().map(scaled).collect(),
    }
}

fn mean(values: &[f32]) -> Option<f32> {
    (!values.is_empty()).then(|| values.iter().sum::<f32>() / values.len() as f32)
}

fn scaled(value: f32) -> i32 {
    (value * SCALE).round() as i32
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zs_core::{Action, Document, DocumentQuality, Question};
    use zs_model::{Completion, StopReason};
    use zs_rl::{
        BranchOrigin, F1, ReplacedDocuments, RewardFunction, SearchRecord, TrajectoryGroup, Turn,
    };

    use super::*;

    fn turn(action: Action, search: Option<SearchRecord>) -> Turn {
        Turn {
            completion: Completion {
                tokens: vec![5, 6],
                log_probs: vec![-1.0; 2],
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: "text".to_owned(),
            action,
            observation: vec![7; usize::from(search.is_some())],
            observation_text: "read".to_owned(),
            search,
        }
    }

    #[test]
    fn continuations_and_values_of_searches_are_shown() {
        let search = SearchRecord {
            query: "x".to_owned(),
            quality: DocumentQuality::Useful,
            documents: vec![Document::new("", "a")],
            error: None,
        };
        let mut trajectory = Trajectory::new("q", vec![1]);
        trajectory.turns = vec![
            turn(Action::Search("x".to_owned()), Some(search)),
            turn(Action::Answer("Paris".to_owned()), None),
        ];
        trajectory.branch = Some(BranchOrigin { parent: 0, turn: 1 });
        let documents = ReplacedDocuments::None;
        trajectory.counterfactuals =
            vec![Counterfactual { turn: 0, documents, answer: None, tokens_sampled: 2 }];
        let question = Question::new("q", "?", ["Paris"]);
        let reward = RewardFunction::single(F1::default());
        let recorded = RecordedGroup {
            step: 1,
            noise_probability: 0.0,
            dropped: false,
            group: TrajectoryGroup::score(question, vec![trajectory], &reward),
            advantages: vec![vec![0.0, 0.0, 0.0, 0.0, 0.5, 0.5]],
            teacher_log_probs: Vec::new(),
        };
        let mut episodes = Episodes::default();
        episodes.add(Path::new("run"), &recorded, None).unwrap();
        let episode = serde_json::to_value(&episodes).unwrap()["episodes"][0].clone();
        assert_eq!(episode["b"], json!([0, 1]));
        let authors: Vec<&str> =
            episode["g"].as_array().unwrap().iter().map(|it| it["p"].as_str().unwrap()).collect();
        assert_eq!(authors, ["prompt", "prompt", "observation", "policy"]);
        assert_eq!(episode["g"][2]["h"]["v"], json!([{ "documents": "none", "value": 1000 }]));
        assert_eq!(episode["g"][3]["a"], json!([500]));
    }
}
