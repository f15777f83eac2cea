//! Golden answers in the forms that datasets give them.

use serde_json::Value;

use super::RowView;
use super::values::{element, not_blank, number, scalar};
use crate::{NoteKind, RowContext, RowError};

/// Separator of DeepResearcher between several golden answers in one text.
const ANSWER_SEPARATOR: &str = "<|answer_split|>";

/// Fields of answers, in the order in which they are looked for.
const ANSWERS: [&str; 6] = [
    "golden_answers",
    "answer",
    "answers",
    "possible_answers",
    "reward_model.ground_truth.target",
    "reward_model.ground_truth",
];

/// Golden answers of a row.
pub(super) fn golden_answers(
    row: RowView<'_>,
    context: &mut RowContext<'_>,
) -> Result<Vec<String>, RowError> {
    let (field, value) = answers_field(row)?;
    let mut answers = texts(value, field, context)?;
    if let Some(aliases) = row.label("answer_aliases").filter(|_| field == "answer") {
        answers.extend(texts(aliases, "answer_aliases", context)?);
    }
    if answers.is_empty() {
        return Err(RowError::Empty { field: field.to_owned() });
    }
    let is_other = |it: &Value| {
        let known = |text: &str| answers.iter().any(|a| a.eq_ignore_ascii_case(text.trim()));
        it.as_str().is_some_and(|it| !it.trim().is_empty() && !known(it))
    };
    // The answers of another field that the first one lacks are lost.
    let others = ANSWERS.iter().filter(|it| **it != field).filter_map(|it| row.get(it));
    let is_lost = others.map(answer_values).any(|it| match it {
        Answers::Joined(joined) => joined.split(ANSWER_SEPARATOR).any(|it| is_other(&it.into())),
        Answers::Values(values) => values.into_iter().any(is_other),
    });
    if is_lost {
        context.note(NoteKind::FieldsDiffer);
    }
    Ok(answers)
}

/// Answers as they are, blank ones included.
pub(super) fn raw_answers(
    field: &str,
    value: &Value,
    context: &mut RowContext<'_>,
) -> Result<Vec<String>, RowError> {
    let values = match answer_values(value) {
        Answers::Joined(joined) => {
            return Ok(joined.split(ANSWER_SEPARATOR).map(str::to_owned).collect());
        }
        Answers::Values(values) => values.into_iter().enumerate(),
    };
    let texts = values.filter_map(|(index, value)| match value {
        Value::String(text) => Some(Ok(text.clone())),
        other => number(other, || element(field, index), context).transpose(),
    });
    texts.collect()
}

/// The answers as the row has them, and where.
pub(super) fn answers_field(row: RowView<'_>) -> Result<(&'static str, &Value), RowError> {
    row.first(&ANSWERS).ok_or(RowError::Missing {
        field: "golden_answers",
        alternatives: "answer, answers, possible_answers, reward_model.ground_truth",
    })
}

/// Answers as a row has them.
enum Answers<'a> {
    /// One text, which may hold several.
    Joined(&'a str),
    Values(Vec<&'a Value>),
}

/// A text, a list, one value, SQuAD's `{"text": [..]}`, TriviaQA's `{"value", "aliases"}` or verl's
/// `{"target"}`.
fn answer_values(value: &Value) -> Answers<'_> {
    match value {
        Value::String(joined) => Answers::Joined(joined),
        Value::Array(values) => Answers::Values(values.iter().collect()),
        Value::Object(fields) => {
            if let Some(values) = fields.get("target").or_else(|| fields.get("text")) {
                return answer_values(values);
            }
            match (fields.get("value"), fields.get("aliases").and_then(Value::as_array)) {
                (Some(value), aliases) => Answers::Values(
                    std::iter::once(value).chain(aliases.into_iter().flatten()).collect(),
                ),
                _ => Answers::Values(vec![value]),
            }
        }
        other => Answers::Values(vec![other]),
    }
}

/// One answer or several.
fn texts(
    value: &Value,
    field: &str,
    context: &mut RowContext<'_>,
) -> Result<Vec<String>, RowError> {
    match answer_values(value) {
        Answers::Joined(joined) => {
            let parts = joined.split(ANSWER_SEPARATOR).enumerate();
            parts.map(|(index, part)| not_blank(part, || element(field, index))).collect()
        }
        Answers::Values(values) => {
            let mut texts = Vec::with_capacity(values.len());
            for (index, part) in values.into_iter().enumerate() {
                let name = || match value.is_array() {
                    true => element(field, index),
                    false => field.to_owned(),
                };
                texts.extend(scalar(part, name, context)?);
            }
            Ok(texts)
        }
    }
}
