//! Text completions: texts or tokens in, text out.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zs_model::{Completion, TextLimit, TokenId, Tokenizer};

use super::{ChoicePart, CompletionRequest};
use crate::api_error::ApiError;
use crate::json::whole;

/// Maximum number of prompts in a request.
const MAX_PROMPTS: usize = 256;

/// Keys of `/v1/completions` that `/v1/chat/completions` does not have or reads otherwise.
#[derive(Debug, Deserialize)]
pub(crate) struct TextRequest {
    prompt: Option<PromptInput>,
    #[serde(default, deserialize_with = "whole")]
    logprobs: Option<usize>,
    #[serde(default, deserialize_with = "whole")]
    prompt_logprobs: Option<usize>,
}

/// Prompts as texts or as tokens.
#[derive(Debug, PartialEq)]
enum PromptInput {
    Texts(Vec<String>),
    Tokens(Vec<TokenId>),
    TokenLists(Vec<Vec<TokenId>>),
}

impl CompletionRequest for TextRequest {
    const KEYS: &'static [&'static str] = &["prompt", "logprobs", "prompt_logprobs"];
    const ID_PREFIX: &'static str = "cmpl";
    const OBJECT: &'static str = "text_completion";
    const CHUNK_OBJECT: &'static str = "text_completion";

    fn wants_log_probs(&self) -> Result<bool, ApiError> {
        match self.logprobs {
            Some(2..) => Err(ApiError::field("logprobs", "`logprobs` must be at most 1")),
            other => Ok(other.is_some()),
        }
    }

    fn wants_prompt_log_probs(&self) -> Result<bool, ApiError> {
        match self.prompt_logprobs {
            Some(2..) => {
                Err(ApiError::field("prompt_logprobs", "`prompt_logprobs` must be at most 1"))
            }
            other => Ok(other.is_some()),
        }
    }

    fn num_prompts(&self) -> usize {
        match &self.prompt {
            None => 0,
            Some(PromptInput::Texts(texts)) => texts.len(),
            Some(PromptInput::Tokens(_)) => 1,
            Some(PromptInput::TokenLists(lists)) => lists.len(),
        }
    }

    fn encode(
        self,
        tokenizer: &Tokenizer,
        limit: &TextLimit,
    ) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let prompts = match self.prompt {
            None => return Err(ApiError::field("prompt", "`prompt` is missing")),
            Some(PromptInput::Texts(texts)) => {
                let invalid = |it: String| ApiError::field("prompt", it);
                texts
                    .iter()
                    .try_for_each(|it| limit.check(it))
                    .map_err(|it| invalid(it.to_string()))?;
                let tokens: Result<_, _> =
                    texts.iter().map(|it| tokenizer.encode_start(it)).collect();
                tokens.map_err(|it| invalid(it.to_string()))?
            }
            Some(PromptInput::Tokens(tokens)) => vec![tokens],
            Some(PromptInput::TokenLists(lists)) => lists,
        };
        if prompts.is_empty() {
            let message = format!("send between 1 and {MAX_PROMPTS} prompts, not 0");
            return Err(ApiError::field("prompt", message));
        }
        Ok(prompts)
    }

    fn message(text: String) -> (&'static str, Value) {
        ("text", text.into())
    }

    fn log_probs(completion: &Completion, tokenizer: &Tokenizer) -> Value {
        let texts: Vec<String> =
            completion.tokens.iter().map(|it| tokenizer.decode_with_special(&[*it])).collect();
        let mut offset = 0;
        let offsets: Vec<usize> = texts
            .iter()
            .map(|it| {
                let start = offset;
                offset += it.chars().count();
                start
            })
            .collect();
        json!({
            "tokens": texts,
            "token_logprobs": completion.log_probs,
            "top_logprobs": null,
            "text_offset": offsets,
        })
    }

    fn chunk_choice(index: usize, part: ChoicePart<'_>) -> Option<Value> {
        let (text, reason) = match part {
            ChoicePart::Start => return None,
            ChoicePart::Text(text) => (text, None),
            ChoicePart::End(reason) => ("", Some(reason)),
        };
        Some(json!({ "index": index, "text": text, "logprobs": null, "finish_reason": reason }))
    }
}

impl<'de> Deserialize<'de> for PromptInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

/// Visitor that reads prompts without storing anything besides them.
struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = PromptInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts, a list of tokens, or a list of lists of tokens")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PromptInput, E> {
        Ok(PromptInput::Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PromptInput, A::Error> {
        let mut prompt = match list.next_element::<PromptItem>()? {
            None => return Ok(PromptInput::Texts(Vec::new())),
            Some(PromptItem::Text(text)) => PromptInput::Texts(vec![text]),
            Some(PromptItem::Token(token)) => PromptInput::Tokens(vec![token]),
            Some(PromptItem::Tokens(tokens)) => PromptInput::TokenLists(vec![tokens]),
        };
        while let Some(item) = list.next_element::<PromptItem>()? {
            let num_prompts = match (&mut prompt, item) {
                (PromptInput::Tokens(tokens), PromptItem::Token(token)) => {
                    tokens.push(token);
                    1
                }
                (PromptInput::Texts(texts), PromptItem::Text(text)) => {
                    texts.push(text);
                    texts.len()
                }
                (PromptInput::TokenLists(lists), PromptItem::Tokens(tokens)) => {
                    lists.push(tokens);
                    lists.len()
                }
                _ => return Err(A::Error::custom("a list of prompts has items of two kinds")),
            };
            if num_prompts > MAX_PROMPTS {
                let message = format!("more than {MAX_PROMPTS} prompts");
                return Err(A::Error::custom(message));
            }
        }
        Ok(prompt)
    }
}

/// An item of a list of prompts.
enum PromptItem {
    Text(String),
    Token(TokenId),
    Tokens(Vec<TokenId>),
}

impl<'de> Deserialize<'de> for PromptItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = PromptItem;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a token, or a list of tokens")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PromptItem, E> {
        Ok(PromptItem::Text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, token: u64) -> Result<PromptItem, E> {
        let token = TokenId::try_from(token);
        token.map(PromptItem::Token).map_err(|_| E::custom("a token is larger than 32 bits"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PromptItem, A::Error> {
        let mut tokens = Vec::new();
        while let Some(token) = list.next_element()? {
            tokens.push(token);
        }
        Ok(PromptItem::Tokens(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<PromptInput, &str>) {
        let read = serde_json::from_str::<PromptInput>(json).map_err(|it| it.to_string());
        match (read, expected) {
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{json}: {error}"),
            (read, expected) => assert_eq!(read, expected.map_err(str::to_owned), "{json}"),
        }
    }

    #[test]
    fn prompts_are_texts_or_tokens() {
        let texts =
            |it: &[&str]| PromptInput::Texts(it.iter().map(|it| (*it).to_owned()).collect());
        check(r#""a""#, Ok(texts(&["a"])));
        check(r#"["a", "\u00e9"]"#, Ok(texts(&["a", "é"])));
        check("[]", Ok(texts(&[])));
        check("[1, 2]", Ok(PromptInput::Tokens(vec![1, 2])));
        check("[[1], []]", Ok(PromptInput::TokenLists(vec![vec![1], vec![]])));
        check(r#"["a", [1]]"#, Err("items of two kinds"));
        check(r#"[[1], "a"]"#, Err("items of two kinds"));
        check("[[[1]]]", Err("expected u32"));
        check("[-1]", Err("a text, a token, or a list of tokens"));
        check("[1.5]", Err("a text, a token, or a list of tokens"));
        check("[4294967296]", Err("larger than 32 bits"));
        check("{}", Err("a list of texts"));
        let many = format!("[{}]", vec!["[]"; MAX_PROMPTS + 1].join(","));
        check(&many, Err("more than 256 prompts"));
    }
}
