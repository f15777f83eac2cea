//! Requests for completions and their replies, in the forms of the programs that serve.

use serde::Deserialize;
use serde_json::{Value, json};
use zs_core::{Domain, StreamKey};
use zs_model::{SampledTokens, SamplingParams, TokenId};

use crate::config::ServerKind;

/// Request for the completion of one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompletionRequest<'a> {
    pub(super) model: &'a str,
    pub(super) tokens: &'a [TokenId],
    pub(super) key: StreamKey,
    /// Tokens that may be sampled: the limit of the turn, or what is left of the context.
    pub(super) max_tokens: usize,
    pub(super) params: &'a SamplingParams,
    pub(super) version: &'a str,
}

impl ServerKind {
    /// Path that completions are asked at.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Zs | Self::Vllm => "/inference/v1/generate",
            Self::Sglang => "/generate",
        }
    }

    /// Body of a request. Every parameter is sent, so that a server's defaults change nothing.
    pub(super) fn body(self, request: &CompletionRequest<'_>) -> Value {
        let CompletionRequest { model, tokens, key, max_tokens, params, version } = *request;
        // What signed integers of 64 bits hold.
        let seed = key.derive_seed(Domain::Sampling) >> 1;
        let SamplingParams { temperature, top_p, top_k, min_p, repetition_penalty, stop, .. } =
            params;
        let mut common = json!({
            "temperature": temperature,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "stop": stop,
        });
        let mut body = match self {
            Self::Zs => {
                let StreamKey { seed, step, group, sample, turn } = key;
                common["max_tokens"] = max_tokens.into();
                common["top_k"] = (*top_k).into();
                common["key"] = json!({
                    "seed": seed, "step": step, "group": group, "sample": sample, "turn": turn,
                });
                json!({ "token_ids": tokens, "sampling_params": common })
            }
            Self::Vllm => {
                common["max_tokens"] = max_tokens.into();
                common["top_k"] = (*top_k).into();
                common["seed"] = seed.into();
                common["logprobs"] = 0.into();
                common["include_stop_str_in_output"] = true.into();
                common["skip_special_tokens"] = false.into();
                common["presence_penalty"] = 0.0.into();
                common["frequency_penalty"] = 0.0.into();
                // A cache of keys and values belongs to the weights that computed them.
                json!({ "token_ids": tokens, "sampling_params": common, "cache_salt": version })
            }
            Self::Sglang => {
                common["max_new_tokens"] = max_tokens.into();
                // -1 is all tokens there.
                common["top_k"] = if *top_k == 0 { json!(-1) } else { json!(top_k) };
                common["sampling_seed"] = seed.into();
                common["no_stop_trim"] = true.into();
                common["skip_special_tokens"] = false.into();
                common["presence_penalty"] = 0.0.into();
                common["frequency_penalty"] = 0.0.into();
                json!({
                    "input_ids": tokens,
                    "sampling_params": common,
                    "return_logprob": true,
                    "logprob_start_len": -1,
                })
            }
        };
        if !model.is_empty() && self != Self::Sglang {
            body["model"] = model.into();
        }
        body
    }

    /// Tokens of a reply.
    ///
    /// # Errors
    ///
    /// Fails on a reply of another form, one that was aborted, and one of other weights than
    /// `version`.
    pub(super) fn read(
        self,
        text: &str,
        params: &SamplingParams,
        version: &str,
    ) -> Result<SampledTokens, String> {
        let sampled = match self {
            Self::Zs | Self::Vllm => read_generate(text, version)?,
            Self::Sglang => read_sglang(text, version)?,
        };
        let SampledTokens { tokens, log_probs, sampling_log_probs } = sampled;
        let sampling_log_probs = match (params.is_full_softmax(), sampling_log_probs) {
            (true, _) => None,
            (false, Some(given)) => Some(given),
            // The most likely token is drawn with certainty.
            (false, None) if params.temperature == 0.0 => Some(vec![0.0; tokens.len()]),
            (false, None) => {
                return Err(
                    "it has no log-probabilities of the distribution that was sampled from"
                        .to_owned(),
                );
            }
        };
        Ok(SampledTokens { tokens, log_probs, sampling_log_probs })
    }
}

/// Reply of `/inference/v1/generate`.
#[derive(Debug, Deserialize)]
struct GenerateReply {
    choices: Vec<GenerateChoice>,
}

#[derive(Debug, Deserialize)]
struct GenerateChoice {
    token_ids: Vec<TokenId>,
    finish_reason: Option<String>,
    logprobs: Option<GenerateLogProbs>,
    weight_versions: Option<Vec<WeightVersion>>,
}

#[derive(Debug, Deserialize)]
struct GenerateLogProbs {
    content: Vec<GenerateScore>,
}

#[derive(Debug, Deserialize)]
struct GenerateScore {
    token_id: Option<TokenId>,
    logprob: f32,
    /// Of `zs serve` alone.
    sampling_logprob: Option<f32>,
}

#[derive(Debug, Deserialize)]
struct WeightVersion {
    version: String,
}

fn read_generate(text: &str, version: &str) -> Result<SampledTokens, String> {
    let reply: GenerateReply = parse(text)?;
    let [choice]: [GenerateChoice; 1] = reply
        .choices
        .try_into()
        .map_err(|it: Vec<_>| format!("it has {} choices instead of one", it.len()))?;
    let GenerateChoice { token_ids, finish_reason, logprobs, weight_versions } = choice;
    check_end(finish_reason.as_deref())?;
    let versions = weight_versions.unwrap_or_default();
    let versions: Vec<&str> = versions.iter().map(|it| it.version.as_str()).collect();
    check_version(&versions, version)?;
    let content = logprobs.ok_or("it has no log-probabilities")?.content;
    let named = content.iter().zip(&token_ids);
    let is_other =
        |(score, token): (&GenerateScore, &TokenId)| score.token_id.is_some_and(|it| it != *token);
    if content.len() != token_ids.len() || named.into_iter().any(is_other) {
        return Err("its log-probabilities are those of other tokens".to_owned());
    }
    let sampling_log_probs = content.iter().map(|it| it.sampling_logprob).collect();
    let log_probs = content.into_iter().map(|it| it.logprob).collect();
    Ok(SampledTokens { tokens: token_ids, log_probs, sampling_log_probs })
}

/// Reply of SGLang's `/generate`.
#[derive(Debug, Deserialize)]
struct SglangReply {
    output_ids: Vec<TokenId>,
    meta_info: SglangMeta,
}

#[derive(Debug, Deserialize)]
struct SglangMeta {
    /// Log-probability, token and text.
    output_token_logprobs: Vec<(f32, TokenId, Value)>,
    finish_reason: Option<SglangEnd>,
    weight_version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SglangEnd {
    #[serde(rename = "type")]
    kind: String,
}

fn read_sglang(text: &str, version: &str) -> Result<SampledTokens, String> {
    let SglangReply { output_ids, meta_info } = parse(text)?;
    check_end(meta_info.finish_reason.as_ref().map(|it| it.kind.as_str()))?;
    check_version(meta_info.weight_version.as_slice(), version)?;
    let scores = meta_info.output_token_logprobs;
    if !scores.iter().map(|it| it.1).eq(output_ids.iter().copied()) {
        return Err("its log-probabilities are those of other tokens".to_owned());
    }
    let log_probs = scores.into_iter().map(|it| it.0).collect();
    Ok(SampledTokens { tokens: output_ids, log_probs, sampling_log_probs: None })
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not what was asked for: {error}"))
}

fn check_end(reason: Option<&str>) -> Result<(), String> {
    match reason {
        Some("stop" | "length") => Ok(()),
        other => Err(format!("it ended with `{}`", other.unwrap_or("nothing"))),
    }
}

fn check_version(found: &[impl AsRef<str>], expected: &str) -> Result<(), String> {
    match found {
        [] => Err("it does not say which weights it was sampled with".to_owned()),
        [only] if only.as_ref() == expected => Ok(()),
        found => {
            let found: Vec<&str> = found.iter().map(AsRef::as_ref).collect();
            let found = found.join("`, `");
            Err(format!("it was sampled with weights `{found}` instead of `{expected}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Replies as the servers document them, at full softmax.
    #[track_caller]
    fn check(kind: ServerKind, reply: &str, expected: Result<(&[TokenId], &[f32]), &str>) {
        let read = kind.read(reply, &SamplingParams::default(), "step-3");
        match (read, expected) {
            (Ok(read), Ok((tokens, log_probs))) => {
                assert_eq!((&read.tokens[..], &read.log_probs[..]), (tokens, log_probs), "{reply}");
                assert_eq!(read.sampling_log_probs, None);
            }
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{reply}: {error}"),
            (read, _) => panic!("{reply}: {read:?}"),
        }
    }

    /// The form of vLLM 0.32.0, with the fields that a trial on a CPU has shown, and what may go wrong.
    #[test]
    fn replies_of_vllm_are_read() {
        let reply = |end: &str, versions: &str| {
            format!(
                r#"{{"request_id": "generate-tokens-1", "choices": [{{"index": 0, "logprobs":
                {{"content": [{{"token": "token_id:17", "logprob": -0.7315993309020996, "bytes":
                [97], "top_logprobs": [], "token_id": 17, "rank": 1}}, {{"token": "token_id:2",
                "logprob": -1.25, "bytes": null, "top_logprobs": [], "token_id": 2, "rank": 4}}]}},
                "finish_reason": {end}, "token_ids": [17, 2], "stop_reason": 2,
                "weight_versions": {versions}}}], "prompt_logprobs": null}}"#
            )
        };
        let one = r#"[{"version": "step-3", "start": 0, "end": 2}]"#;
        let both = [-0.731_599_33, -1.25];
        check(ServerKind::Vllm, &reply("\"stop\"", one), Ok((&[17, 2], &both)));
        check(ServerKind::Zs, &reply("\"length\"", one), Ok((&[17, 2], &both)));
        for (end, expected) in [
            ("\"abort\"", "ended with `abort`"),
            ("\"error\"", "ended with `error`"),
            ("null", "ended with `nothing`"),
        ] {
            check(ServerKind::Vllm, &reply(end, one), Err(expected));
        }
        let mixed = r#"[{"version": "step-2", "start": 0, "end": 1},
                        {"version": "step-3", "start": 1, "end": 2}]"#;
        for (versions, expected) in [
            (mixed, "with weights `step-2`, `step-3` instead of `step-3`"),
            (r#"[{"version": "0"}]"#, "with weights `0` instead of `step-3`"),
            ("null", "does not say which weights"),
        ] {
            check(ServerKind::Vllm, &reply("\"stop\"", versions), Err(expected));
        }
        let other = reply("\"stop\"", one).replace("\"token_id\": 2", "\"token_id\": 3");
        check(ServerKind::Vllm, &other, Err("those of other tokens"));
        check(ServerKind::Vllm, "{}", Err("missing field `choices`"));
        check(ServerKind::Vllm, "<html>", Err("it is not what was asked for"));
    }

    /// The documented form of SGLang 0.5.23; no server was at hand.
    #[test]
    fn replies_of_sglang_are_read() {
        let reply = |end: &str, version: &str| {
            format!(
                r#"{{"text": "a", "output_ids": [17, 2], "meta_info": {{"id": "x",
                "finish_reason": {end}, "prompt_tokens": 4, "cached_tokens": 0, "weight_version":
                {version}, "output_token_logprobs": [[-0.5, 17, "a"], [-1.25, 2, null]]}}}}"#
            )
        };
        let stop = r#"{"type": "stop", "matched": 2}"#;
        check(ServerKind::Sglang, &reply(stop, "\"step-3\""), Ok((&[17, 2], &[-0.5, -1.25])));
        let length = r#"{"type": "length", "length": 2}"#;
        check(ServerKind::Sglang, &reply(length, "\"step-3\""), Ok((&[17, 2], &[-0.5, -1.25])));
        let abort = r#"{"type": "abort", "message": "x"}"#;
        check(ServerKind::Sglang, &reply(abort, "\"step-3\""), Err("ended with `abort`"));
        check(ServerKind::Sglang, &reply(stop, "\"default\""), Err("with weights `default`"));
        check(ServerKind::Sglang, &reply(stop, "null"), Err("does not say which weights"));
    }

    proptest! {
        /// Replies that are cut, garbled or about something else are refused.
        #[test]
        fn a_strange_reply_is_read_or_refused(
            cut in 0..400_usize,
            at in 0..400_usize,
            with in "[\\[\\]{}\",:0-9a-z.-]{0,3}",
            kind in 0..2_usize,
        ) {
            let reply = r#"{"choices": [{"token_ids": [17, 2], "finish_reason": "stop", "logprobs":
                {"content": [{"token_id": 17, "logprob": -0.5}, {"logprob": -1e30}]},
                "weight_versions": [{"version": "step-3"}]}], "output_ids": [17], "meta_info":
                {"finish_reason": {"type": "stop"}, "weight_version": "step-3",
                "output_token_logprobs": [[-0.5, 17, null]]}}"#;
            let mut text = reply.to_owned();
            text.truncate(text.len() - cut.min(text.len()) / 8);
            text.insert_str(at.min(text.len()), &with);
            let kind = [ServerKind::Vllm, ServerKind::Sglang][kind];
            let read = kind.read(&text, &SamplingParams::default(), "step-3");
            if let Ok(read) = read {
                prop_assert_eq!(read.tokens.len(), read.log_probs.len());
            }
        }
    }

    #[test]
    fn other_distributions_need_their_own_log_probabilities() {
        let reply = |more: &str| {
            format!(
                r#"{{"choices": [{{"token_ids": [17], "finish_reason": "length", "logprobs":
                {{"content": [{{"token_id": 17, "logprob": -0.5{more}}}]}},
                "weight_versions": [{{"version": "step-3"}}]}}]}}"#
            )
        };
        let read = |temperature: f32, more: &str| {
            let params = SamplingParams { temperature, ..SamplingParams::default() };
            let read = ServerKind::Zs.read(&reply(more), &params, "step-3");
            read.map(|it| it.sampling_log_probs)
        };
        let more = r#", "sampling_logprob": -0.25"#;
        assert_eq!(read(0.5, more), Ok(Some(vec![-0.25])));
        assert_eq!(read(1.0, more), Ok(None));
        assert_eq!(read(0.0, ""), Ok(Some(vec![0.0])));
        assert!(read(0.5, "").unwrap_err().contains("the distribution that was sampled from"));
    }

    #[test]
    fn every_parameter_is_sent() {
        let params = SamplingParams { stop: vec!["</a>".to_owned()], ..SamplingParams::default() };
        let key = StreamKey { seed: u64::MAX, step: 3, group: 2, sample: 1, turn: 4 };
        let request = CompletionRequest {
            model: "m",
            tokens: &[1, 2],
            key,
            max_tokens: 9,
            params: &params,
            version: "step-3",
        };
        let zs = ServerKind::Zs.body(&request);
        assert_eq!(
            zs["sampling_params"]["key"],
            json!({ "seed": u64::MAX, "step": 3, "group": 2, "sample": 1, "turn": 4 })
        );
        let vllm = ServerKind::Vllm.body(&request);
        assert_eq!(vllm["cache_salt"], "step-3");
        assert!(vllm["sampling_params"]["seed"].as_i64().is_some());
        let sglang = ServerKind::Sglang.body(&request);
        assert_eq!(sglang["sampling_params"]["top_k"], -1);
        for body in [&zs, &vllm, &sglang] {
            let sent = &body["sampling_params"];
            assert_eq!(sent["stop"], json!(["</a>"]));
            for key in ["temperature", "top_p", "top_k", "min_p", "repetition_penalty"] {
                assert!(sent[key].is_number(), "{key}: {body}");
            }
        }
        let again = CompletionRequest { key: StreamKey { turn: 5, ..key }, ..request };
        assert_ne!(ServerKind::Vllm.body(&again), vllm);
    }
}
