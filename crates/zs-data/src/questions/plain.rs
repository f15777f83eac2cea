//! Fields of a row under their plain names, with the lists that are written inside texts.

use serde_json::Value;

use super::{COLUMNS, Fields};
use crate::rows::literal;
use crate::{NoteKind, RowContext};

/// Fields, at the top or inside of these, that hold lists or objects.
const STRUCTURED: [&str; 15] = [
    "golden_answers",
    "answer",
    "answers",
    "possible_answers",
    "answer_aliases",
    "prompt",
    "reward_model",
    "ground_truth",
    "target",
    "extra_info",
    "metadata",
    "gold_titles",
    "supporting_facts",
    "question_decomposition",
    "paragraphs",
];

/// Gives the fields that questions are made of their plain names, and replaces lists and objects that
/// are written inside texts by what they hold.
pub(super) fn plain_fields(row: Fields, context: &mut RowContext<'_>) -> Fields {
    let mut plain = Fields::with_capacity(row.len());
    let mut others = Vec::new();
    for (name, value) in row {
        match COLUMNS.contains(&name.as_str()) {
            true => _ = plain.insert(name, value),
            false => others.push((name, value)),
        }
    }
    for (name, value) in others {
        let lower = name.trim().to_ascii_lowercase();
        let known = plain.get(&lower).filter(|_| COLUMNS.contains(&lower.as_str()));
        if known.is_some_and(|it| !it.is_null() && !value.is_null() && *it != value) {
            context.note(NoteKind::FieldsDiffer);
        }
        let is_free = known.is_none() && COLUMNS.contains(&lower.as_str());
        plain.insert(if is_free { lower } else { name }, value);
    }
    plain.iter_mut().for_each(|(name, value)| unpack(name, value, context));
    plain
}

/// Replaces a text by the list or object that it holds.
fn unpack(name: &str, value: &mut Value, context: &mut RowContext<'_>) {
    if !STRUCTURED.contains(&name) {
        return;
    }
    if let Value::String(text) = value {
        match literal::parse(text).filter(|it| is_expected(name, it)) {
            Some(held) => {
                context.note(NoteKind::ListInText);
                *value = held;
            }
            None if literal::is_like_value(text) => {
                context.note(NoteKind::ListLikeText);
            }
            None => {}
        }
    }
    if let Value::Object(fields) = value {
        fields.iter_mut().for_each(|(name, value)| unpack(name, value, context));
    }
}

/// True where a field may hold a value of this form. A list of lists holds no answers.
fn is_expected(name: &str, value: &Value) -> bool {
    let all = |check: fn(&Value) -> bool| value.as_array().is_some_and(|it| it.iter().all(check));
    match name {
        "prompt" => all(Value::is_object),
        "golden_answers" | "answer" | "answers" | "possible_answers" | "answer_aliases"
        | "target" | "ground_truth" => {
            value.is_object() || all(|it| !it.is_array() && !it.is_object())
        }
        _ => true,
    }
}
