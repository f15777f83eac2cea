//! Chats: messages of a user, an assistant and a tool, in the forms of OpenAI and ShareGPT.

use serde_json::Value;
use zs_core::{Action, Transcript, TranscriptTurn, parse_action};

use super::{Dump, text_of, trimmed, without_end_marks};
use crate::RowError;
use crate::questions::fields::values::wrong_type;

/// Author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
    /// Assistant that calls a tool, with the call as its text.
    Call,
    Tool,
}

/// Names of roles, of both forms.
const ROLES: [(&str, Role); 16] = [
    ("system", Role::System),
    ("developer", Role::System),
    ("user", Role::User),
    ("human", Role::User),
    ("assistant", Role::Assistant),
    ("gpt", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("model", Role::Assistant),
    ("function_call", Role::Call),
    ("tool_call", Role::Call),
    ("tool", Role::Tool),
    ("function", Role::Tool),
    ("observation", Role::Tool),
    ("tool_response", Role::Tool),
    ("function_response", Role::Tool),
    ("ipython", Role::Tool),
];

/// Reads a chat: the text of its first user message, and what follows.
pub(super) fn read(
    messages: &[Value],
    field: &str,
) -> Result<(Option<String>, Transcript), RowError> {
    let mut chat = Chat::default();
    for (index, message) in messages.iter().enumerate() {
        chat.read(message, &format!("{field}[{index}]"))?;
    }
    chat.answer_without_tags();
    Ok((chat.asked, trimmed(Transcript { turns: chat.turns })))
}

#[derive(Default)]
struct Chat {
    asked: Option<String>,
    turns: Vec<TranscriptTurn>,
    has_calls: bool,
}

impl Chat {
    fn read(&mut self, message: &Value, place: &str) -> Result<(), RowError> {
        let role = role(message, place)?;
        let text = content(message, place)?;
        match role {
            Role::System => Ok(()),
            Role::User if self.asked.is_none() && self.turns.is_empty() => {
                let asked = text.trim();
                let asked = match asked.lines().count() {
                    1 => asked.strip_prefix("Question:").unwrap_or(asked),
                    _ => asked,
                };
                self.asked = Some(asked.trim().to_owned());
                Ok(())
            }
            Role::User if !is_result(&text) => Err(invalid(
                place,
                "is a second question; an episode has one, and results between <information> and \
                 </information>",
            )),
            Role::User | Role::Tool => self.result(&text, place),
            Role::Call => self.call(&text, place),
            Role::Assistant => self.assistant(message, &text, place),
        }
    }

    fn assistant(&mut self, message: &Value, text: &str, place: &str) -> Result<(), RowError> {
        let reasoning = ["reasoning_content", "reasoning"]
            .iter()
            .find_map(|it| message.get(*it)?.as_str())
            .map(str::trim)
            .filter(|it| !it.is_empty());
        let text = without_end_marks(text);
        let text = match reasoning {
            Some(thoughts) => format!("<think>\n{thoughts}\n</think>\n\n{text}"),
            None => text.to_owned(),
        };
        let calls = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], |it| it);
        match (calls, text.split_once("<tool_call>")) {
            ([], None) => {
                let dump = Dump::parse(&text, None, "");
                self.turns.extend(dump.transcript.turns);
                Ok(())
            }
            ([], Some((before, call))) => {
                let Some((call, "")) =
                    call.split_once("</tool_call>").map(|it| (it.0, it.1.trim()))
                else {
                    let problem = "must end with one <tool_call> … </tool_call>";
                    return Err(invalid(place, problem));
                };
                self.push(before, &query_of_text(call, place)?);
                Ok(())
            }
            ([call], _) => {
                let function = call.get("function").unwrap_or(call);
                self.push(&text, &query(function, place)?);
                Ok(())
            }
            (calls, _) => Err(invalid(
                place,
                &format!("has {} calls; an episode searches once per turn", calls.len()),
            )),
        }
    }

    fn call(&mut self, text: &str, place: &str) -> Result<(), RowError> {
        let text = text.trim();
        let inner = text.strip_prefix("<tool_call>").and_then(|it| it.strip_suffix("</tool_call>"));
        let query = query_of_text(inner.unwrap_or(text), place)?;
        // Thoughts before the call may be a message of their own.
        let before = match self.turns.last() {
            Some(last) if last.action == Action::Invalid && last.observation.is_empty() => {
                self.turns.pop().map(|it| it.text).unwrap_or_default()
            }
            _ => String::new(),
        };
        self.push(&before, &query);
        Ok(())
    }

    fn push(&mut self, before: &str, query: &str) {
        let text = format!("{}\n<search> {} </search>", before.trim(), query.trim());
        let text = text.trim_start().to_owned();
        self.turns.push(TranscriptTurn {
            action: parse_action(&text),
            text,
            observation: String::new(),
        });
        self.has_calls = true;
    }

    fn result(&mut self, text: &str, place: &str) -> Result<(), RowError> {
        let awaits = |it: &&mut TranscriptTurn| {
            matches!(it.action, Action::Search(_)) && it.observation.is_empty()
        };
        let Some(turn) = self.turns.last_mut().filter(awaits) else {
            return Err(invalid(place, "is the result of a tool, and no search comes before it"));
        };
        turn.observation = format!("<information>{}</information>", body(text));
        Ok(())
    }

    /// Puts the last message between tags where the chat searches by calls.
    fn answer_without_tags(&mut self) {
        let Some(last) = self.turns.last_mut().filter(|_| self.has_calls) else { return };
        if last.action == Action::Invalid
            && last.observation.is_empty()
            && !last.text.contains("<answer>")
        {
            let (thoughts, answer) = match last.text.rsplit_once("</think>") {
                Some((thoughts, answer)) => (format!("{thoughts}</think>\n\n"), answer),
                None => (String::new(), last.text.as_str()),
            };
            last.text = format!("{thoughts}<answer> {} </answer>", answer.trim());
            last.action = parse_action(&last.text);
        }
    }
}

fn invalid(place: &str, problem: &str) -> RowError {
    RowError::invalid(format!("`{place}` {problem}"))
}

fn role(message: &Value, place: &str) -> Result<Role, RowError> {
    if !message.is_object() {
        return Err(wrong_type(place, "an object with `role` and `content`", message));
    }
    let Some(name) = message.get("role").or_else(|| message.get("from")) else {
        return Err(invalid(place, "has neither `role` nor `from`"));
    };
    let name = text_of(name, || format!("{place}.role"))?;
    let known = ROLES.iter().find(|(it, _)| name.trim().eq_ignore_ascii_case(it));
    known.map(|it| it.1).ok_or_else(|| {
        invalid(
            place,
            &format!("has the role `{name}`; known are system, user, assistant and tool"),
        )
    })
}

/// Text of a message: a text, or the texts of its parts; empty where there is none.
fn content(message: &Value, place: &str) -> Result<String, RowError> {
    let value = ["content", "value"].iter().find_map(|it| message.get(*it));
    match value.unwrap_or(&Value::Null) {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
            match parts.iter().map(text).collect::<Option<Vec<_>>>() {
                Some(texts) => Ok(texts.concat()),
                // Documents as a list.
                None => Ok(Value::Array(parts.clone()).to_string()),
            }
        }
        other => Err(wrong_type(&format!("{place}.content"), "a text", other)),
    }
}

/// True for a message of the user that holds the result of a search.
fn is_result(text: &str) -> bool {
    let text = text.trim();
    ["<information>", "<tool_response>"].iter().any(|it| text.starts_with(it))
}

/// The result without tags around it.
fn body(text: &str) -> &str {
    let mut text = text.trim();
    for (opening, closing) in
        [("<tool_response>", "</tool_response>"), ("<information>", "</information>")]
    {
        let inner = text.strip_prefix(opening).and_then(|it| it.strip_suffix(closing));
        text = inner.map_or(text, str::trim);
    }
    text
}

/// The query of a call that is written as text.
fn query_of_text(text: &str, place: &str) -> Result<String, RowError> {
    let call: Value = serde_json::from_str(text.trim())
        .map_err(|error| invalid(place, &format!("is a call that is not JSON: {error}")))?;
    query(&call, place)
}

/// The query among the arguments of a call, which may be JSON inside a text.
fn query(function: &Value, place: &str) -> Result<String, RowError> {
    let given = function.get("arguments").or_else(|| function.get("parameters"));
    let parsed = given.and_then(Value::as_str).and_then(|it| serde_json::from_str(it).ok());
    let arguments: &Value = parsed.as_ref().or(given).unwrap_or(&Value::Null);
    let named = ["query", "q", "search_query", "queries", "query_list"];
    let found = named.iter().find_map(|it| arguments.get(*it));
    let found = match found {
        Some(Value::Array(queries)) if queries.len() == 1 => queries.first(),
        found => found,
    };
    let query = found.and_then(Value::as_str).map(str::trim).filter(|it| !it.is_empty());
    query.map(str::to_owned).ok_or_else(|| {
        let name = function.get("name").and_then(Value::as_str).unwrap_or("a tool");
        invalid(place, &format!("calls `{name}` without one `query`; a rollout only searches"))
    })
}
