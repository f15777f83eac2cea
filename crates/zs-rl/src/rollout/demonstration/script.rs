//! The stand-ins for policy and engine that play a demonstration.

use zs_core::{Domain, SearchEngine, SearchRequest, SearchResult, StreamKey, with_causes};
use zs_model::{
    Completion, GenerateError, Generator, SamplingParams, SequenceRequest, Session, StopReason,
    TokenId, Tokenizer,
};

use super::DemonstratedTurn;
use super::tags::end_of_action;

/// Generator that writes the turns of one episode.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) turns: &'a [DemonstratedTurn],
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) context_length: usize,
}

impl Generator for Script<'_> {
    fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn session(&self, _: usize) -> Box<dyn Session + '_> {
        Box::new(ScriptSession { script: self, turn: 0, num_tokens: 0 })
    }
}

/// The one sequence of a script.
struct ScriptSession<'a> {
    script: &'a Script<'a>,
    turn: usize,
    num_tokens: usize,
}

impl ScriptSession<'_> {
    /// The next turn up to its closing tag; nothing where the script has ended.
    fn write(&mut self, prompt: &[TokenId]) -> Result<Vec<TokenId>, GenerateError> {
        let Script { turns, tokenizer, .. } = self.script;
        let text = turns.get(self.turn).map_or("", |it| it.text.as_str());
        let text = &text[..end_of_action(text).unwrap_or(text.len())];
        let tokens = match self.turn {
            0 => tokenizer.encode_reply(prompt, text),
            _ => tokenizer.encode(text),
        };
        self.turn += 1;
        tokens.map_err(|error| GenerateError::Other { message: with_causes(&error) })
    }
}

impl Session for ScriptSession<'_> {
    fn extend(
        &mut self,
        requests: &[SequenceRequest<'_>],
        params: &SamplingParams,
        on_token: &mut dyn FnMut(usize, TokenId),
    ) -> Result<Vec<Completion>, GenerateError> {
        let mut completions = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            self.num_tokens += request.append.len();
            let mut tokens = self.write(request.append)?;
            let room = self.script.context_length.saturating_sub(self.num_tokens);
            let limit = params.max_new_tokens.min(room);
            let stop_reason = match tokens.len() {
                0 => StopReason::EndOfSequence,
                count if count > limit => StopReason::Length,
                _ => StopReason::Stop,
            };
            tokens.truncate(limit);
            self.num_tokens += tokens.len();
            tokens.iter().for_each(|token| on_token(index, *token));
            let (log_probs, sampling_log_probs) = (vec![0.0; tokens.len()], None);
            completions.push(Completion { tokens, log_probs, sampling_log_probs, stop_reason });
        }
        Ok(completions)
    }

    fn sequence_len(&self, _: usize) -> usize {
        self.num_tokens
    }
}

/// Engine that returns what the searches of one episode have returned. Requests are told apart by
/// their seeds, which follow from the turn.
#[derive(Debug)]
pub(super) struct RecordedResults<'a> {
    pub(super) turns: &'a [DemonstratedTurn],
    pub(super) key: StreamKey,
}

impl SearchEngine for RecordedResults<'_> {
    fn name(&self) -> &str {
        "recorded results"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let seed = |turn: u32| StreamKey { turn, ..self.key }.derive_seed(Domain::Search);
        let found = |request: &SearchRequest<'_>| {
            let turn = (0..).zip(self.turns).find(|(turn, _)| seed(*turn) == request.seed);
            Ok(turn.map_or_else(Vec::new, |(_, it)| it.documents.clone()))
        };
        requests.iter().map(found).collect()
    }
}
