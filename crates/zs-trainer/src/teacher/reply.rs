//! Replies of servers to a prompt of tokens: the log-probability of each.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zs_model::{TokenId, Tokenizer};

/// Form of requests and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherApi {
    /// vLLM's `/completions` with `prompt_logprobs`.
    #[default]
    PromptLogprobs,
    /// OpenAI's `/completions` with `echo` and `logprobs`. Replies hold the texts of tokens, so another
    /// vocabulary is told by them.
    Echo,
    /// SGLang's `/generate` with `return_logprob`.
    Generate,
}

/// Score of one token of the prompt, as a server gives it.
struct Scored<'a> {
    log_prob: &'a Value,
    /// The token, where the server names it.
    token: Option<u64>,
    /// Its text, where the server gives it.
    text: Option<&'a str>,
}

/// Log-probabilities of a prompt, and the number of tokens that the server counted.
///
/// The first has no predecessor and is 0.
///
/// # Errors
///
/// Fails on a reply of another form, with another number of tokens, with other tokens, or with a number
/// that is missing or not finite.
pub(super) fn read(
    text: &str,
    api: TeacherApi,
    prompt: &[TokenId],
    tokenizer: &Tokenizer,
) -> Result<(Vec<f32>, u64), String> {
    let reply: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let scored = match api {
        TeacherApi::PromptLogprobs => of_prompt_logprobs(&reply, prompt),
        TeacherApi::Echo => of_echo(&reply, prompt),
        TeacherApi::Generate => of_generate(&reply),
    }?;
    if scored.len() != prompt.len() {
        let (found, expected) = (scored.len(), prompt.len());
        return Err(format!("it has {found} log-probabilities for a prompt of {expected} tokens"));
    }
    let mut log_probs = vec![0.0];
    for (at, (scored, &token)) in scored.iter().zip(prompt).enumerate() {
        check_token(at, scored, token, tokenizer)?;
        if at > 0 {
            let found = scored.log_prob.as_f64().map(|it| it as f32).filter(|it| it.is_finite());
            let missing = || {
                format!("the log-probability of token {at} of the prompt is {}", scored.log_prob)
            };
            log_probs.push(found.ok_or_else(missing)?);
        }
    }
    let counted = reply.pointer("/usage/prompt_tokens");
    let counted = counted.or_else(|| reply.pointer("/meta_info/prompt_tokens"));
    Ok((log_probs, counted.and_then(Value::as_u64).unwrap_or(prompt.len() as u64)))
}

fn list<'a>(reply: &'a Value, pointer: &str, advice: &str) -> Result<&'a [Value], String> {
    let found = reply.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).ok_or_else(|| format!("it has no list `{pointer}`; {advice}"))
}

/// vLLM: `{"choices": [{"prompt_logprobs": [null, {"17": {"logprob": -0.5, "decoded_token": "a"}}]}]}`.
fn of_prompt_logprobs<'a>(reply: &'a Value, prompt: &[TokenId]) -> Result<Vec<Scored<'a>>, String> {
    let advice = "set `api` of the teacher to what this server speaks";
    let entries = list(reply, "/choices/0/prompt_logprobs", advice)?;
    let scored = |(at, entry): (usize, &'a Value)| {
        let Some(&token) = prompt.get(at) else {
            return Ok(Scored { log_prob: &Value::Null, token: None, text: None });
        };
        match entry.get(token.to_string()) {
            Some(it) => Ok(Scored {
                log_prob: &it["logprob"],
                token: Some(token.into()),
                text: it["decoded_token"].as_str(),
            }),
            // Nothing predicts the first.
            None if at == 0 => Ok(Scored { log_prob: &Value::Null, token: None, text: None }),
            None if entry.is_null() => {
                Err(format!("the log-probability of token {at} of the prompt is null"))
            }
            None => Err(format!("it has nothing about token {at} of the prompt, which is {token}")),
        }
    };
    entries.iter().enumerate().map(scored).collect()
}

/// OpenAI's completions with `echo`: texts and numbers of the prompt, then those of what was written.
fn of_echo<'a>(reply: &'a Value, prompt: &[TokenId]) -> Result<Vec<Scored<'a>>, String> {
    let advice = "the server does not echo log-probabilities of prompts";
    let numbers = list(reply, "/choices/0/logprobs/token_logprobs", advice)?;
    let texts = list(reply, "/choices/0/logprobs/tokens", advice)?;
    if texts.len() != numbers.len() {
        let (texts, numbers) = (texts.len(), numbers.len());
        return Err(format!("it has {texts} tokens and {numbers} log-probabilities"));
    }
    // One token is written, since some servers refuse to write none.
    let is_written = usize::from(numbers.len() == prompt.len() + 1);
    let of_prompt = numbers.iter().zip(texts).take(numbers.len() - is_written);
    let scored = |(log_prob, text): (&'a Value, &'a Value)| {
        let text = text.as_str();
        // vLLM's form with `return_tokens_as_token_ids`.
        let token = text.and_then(|it| it.strip_prefix("token_id:")?.parse().ok());
        Scored { log_prob, token, text: text.filter(|_| token.is_none()) }
    };
    Ok(of_prompt.map(scored).collect())
}

/// SGLang: `{"meta_info": {"input_token_logprobs": [[null, 17, "a"], [-0.5, 4, "b"]]}}`.
fn of_generate<'a>(reply: &'a Value) -> Result<Vec<Scored<'a>>, String> {
    let advice = "set `api` of the teacher to what this server speaks";
    let entries = list(reply, "/meta_info/input_token_logprobs", advice)?;
    let scored = |entry: &'a Value| {
        let [log_prob, token, text] = [0, 1, 2].map(|it: usize| &entry[it]);
        Scored { log_prob, token: token.as_u64(), text: text.as_str() }
    };
    Ok(entries.iter().map(scored).collect())
}

/// Refuses a token that is another one in the teacher's vocabulary.
fn check_token(
    at: usize,
    scored: &Scored<'_>,
    token: TokenId,
    tokenizer: &Tokenizer,
) -> Result<(), String> {
    if let Some(found) = scored.token.filter(|it| *it != u64::from(token)) {
        return Err(format!("token {at} of the prompt is {token}, and {found} in the reply"));
    }
    let ours = [Some(tokenizer.decode_with_special(&[token])), tokenizer.token_text(token)];
    let is_same = |theirs: &str| {
        let theirs = plain(theirs);
        theirs.is_none()
            || ours.iter().flatten().any(|it| plain(it).is_none_or(|it| Some(it) == theirs))
    };
    match scored.text.filter(|it| !is_same(it)) {
        None => Ok(()),
        Some(theirs) => Err(format!(
            "the server has another tokenizer than the policy: token {token} is {theirs:?} there and {:?} \
             here; choose a model with the policy's tokenizer",
            ours[0].as_deref().unwrap_or_default()
        )),
    }
}

/// A token's text without the marks that libraries write differently; `None` where it is a part of a
/// character, which each shows in its own way.
fn plain(text: &str) -> Option<String> {
    let is_partial = text.contains('\u{fffd}')
        || text.starts_with("bytes:")
        || (text.starts_with("<0x") && text.len() == 6);
    let spaces = text.replace(['\u{2581}', '\u{120}'], " ").replace('\u{10a}', "\n");
    (!is_partial).then(|| spaces.trim().to_owned())
}
