//! From a row's fields to a question, whichever dataset's names they have.

use serde_json::Value;
use zs_core::Question;

use super::Fields;
use crate::RowError;

/// Separator of DeepResearcher between several golden answers in one text.
const ANSWER_SEPARATOR: &str = "<|answer_split|>";

/// The question of a row; `fallback_id` is used where the row has no id.
pub(super) fn question(row: &Fields, fallback_id: &str) -> Result<Question, RowError> {
    let row = RowView(row);
    let gold_titles = gold_titles(row)?;
    Ok(Question {
        id: id(row)?.unwrap_or_else(|| fallback_id.to_owned()),
        text: question_text(row)?,
        golden_answers: golden_answers(row)?,
        hops: hops(row, gold_titles.len())?,
        gold_titles,
        data_source: label(row, &["data_source", "dataset"])?,
        question_type: label(row, &["type"])?,
    })
}

/// Converts a row that is to be scored and not asked: it may have no text, and its golden answers are
/// taken as they are, blank ones included, as scoring scripts take them. `fallback_id` is used where
/// the row has no id.
///
/// # Errors
///
/// Fails on a row without a field of answers, and on fields of the wrong type.
pub fn scored_question(row: &Fields, fallback_id: &str) -> Result<Question, RowError> {
    let row = RowView(row);
    let gold_titles = gold_titles(row)?;
    let (field, value) = answers_field(row)?;
    let as_text = |value: &Value, field: &str| match value {
        Value::String(text) => Ok(text.clone()),
        other => text_or_number(other, field),
    };
    let golden_answers = match value {
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(index, part)| as_text(part, &element(field, index)))
            .collect::<Result<_, _>>()?,
        Value::String(joined) => joined.split(ANSWER_SEPARATOR).map(str::to_owned).collect(),
        other => vec![as_text(other, field)?],
    };
    Ok(Question {
        id: id(row)?.unwrap_or_else(|| fallback_id.to_owned()),
        text: row.get("question").and_then(Value::as_str).unwrap_or_default().to_owned(),
        golden_answers,
        hops: hops(row, gold_titles.len())?,
        gold_titles,
        data_source: label(row, &["data_source", "dataset"])?,
        question_type: label(row, &["type"])?,
    })
}

/// A row, looked into by dotted path.
#[derive(Clone, Copy)]
struct RowView<'a>(&'a Fields);

impl<'a> RowView<'a> {
    /// The value at a path such as `reward_model.ground_truth`; null counts as absent.
    fn get(self, path: &str) -> Option<&'a Value> {
        let mut keys = path.split('.');
        let mut value = self.0.get(keys.next()?)?;
        for key in keys {
            value = value.get(key)?;
        }
        (!value.is_null()).then_some(value)
    }

    /// The first path that has a value.
    fn first(self, paths: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        paths.iter().find_map(|path| self.get(path).map(|value| (*path, value)))
    }

    /// A label at the top, or in FlashRAG's `metadata`.
    fn label(self, name: &str) -> Option<&'a Value> {
        self.get(name).or_else(|| self.get("metadata")?.get(name).filter(|it| !it.is_null()))
    }
}

fn id(row: RowView<'_>) -> Result<Option<String>, RowError> {
    if let Some((field, value)) = row.first(&["id", "_id"]) {
        return text_or_number(value, field).map(Some);
    }
    let index = row.get("extra_info.index").and_then(Value::as_str).map(str::trim);
    Ok(index.filter(|it| !it.is_empty()).map(str::to_owned))
}

fn question_text(row: RowView<'_>) -> Result<String, RowError> {
    if let Some(value) = row.get("question") {
        return text(value, "question");
    }
    let Some(prompt) = row.get("prompt") else {
        return Err(RowError::Missing { field: "question", alternatives: "prompt" });
    };
    let messages = prompt.as_array().ok_or_else(|| wrong_type("prompt", "a list", prompt))?;
    let is_user = |message: &&Value| message.get("role").is_some_and(|role| role == "user");
    match messages.iter().rev().find(is_user).and_then(|message| message.get("content")) {
        Some(content) => text(content, "prompt.content"),
        None => Err(RowError::Empty { field: "prompt (no user message)".to_owned() }),
    }
}

/// The answers as the row has them, and where.
fn answers_field(row: RowView<'_>) -> Result<(&'static str, &Value), RowError> {
    row.first(&[
        "golden_answers",
        "answer",
        "answers",
        "possible_answers",
        "reward_model.ground_truth.target",
        "reward_model.ground_truth",
    ])
    .ok_or(RowError::Missing {
        field: "golden_answers",
        alternatives: "answer, answers, possible_answers, reward_model.ground_truth",
    })
}

fn golden_answers(row: RowView<'_>) -> Result<Vec<String>, RowError> {
    let (field, value) = answers_field(row)?;
    let mut answers = texts(value, field)?;
    if let Some(aliases) = row.label("answer_aliases").filter(|_| field == "answer") {
        answers.extend(texts(aliases, "answer_aliases")?);
    }
    if answers.is_empty() {
        return Err(RowError::Empty { field: field.to_owned() });
    }
    Ok(answers)
}

/// One answer or several.
fn texts(value: &Value, field: &str) -> Result<Vec<String>, RowError> {
    Ok(match value {
        Value::String(joined) => joined
            .split(ANSWER_SEPARATOR)
            .enumerate()
            .map(|(index, part)| not_blank(part, || element(field, index)))
            .collect::<Result<Vec<_>, _>>()?,
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(index, part)| text_or_number(part, &element(field, index)))
            .collect::<Result<Vec<_>, _>>()?,
        Value::Number(_) => vec![text_or_number(value, field)?],
        other => return Err(wrong_type(field, "a text or a list of texts", other)),
    })
}

/// Titles of supporting documents, each once, in order.
fn gold_titles(row: RowView<'_>) -> Result<Vec<String>, RowError> {
    let (field, titles): (_, Vec<&Value>) =
        match (row.label("gold_titles"), row.label("supporting_facts")) {
            (Some(value), _) => ("gold_titles", list(value, "gold_titles")?.iter().collect()),
            (None, Some(Value::Object(facts))) => match facts.get("title") {
                Some(value) => (
                    "supporting_facts.title",
                    list(value, "supporting_facts.title")?.iter().collect(),
                ),
                None => return Ok(Vec::new()),
            },
            (None, Some(facts)) => {
                let pairs = list(facts, "supporting_facts")?;
                ("supporting_facts", pairs.iter().map(|pair| pair.get(0).unwrap_or(pair)).collect())
            }
            (None, None) => ("paragraphs.title", supporting_paragraphs(row)?),
        };
    let mut distinct: Vec<String> = Vec::new();
    for (index, title) in titles.into_iter().enumerate() {
        let title = text(title, &element(field, index))?;
        if !distinct.contains(&title) {
            distinct.push(title);
        }
    }
    Ok(distinct)
}

/// Titles of the paragraphs that `MuSiQue` marks as supporting.
fn supporting_paragraphs(row: RowView<'_>) -> Result<Vec<&Value>, RowError> {
    let Some(paragraphs) = row.label("paragraphs") else { return Ok(Vec::new()) };
    let supporting = list(paragraphs, "paragraphs")?
        .iter()
        .filter(|it| it.get("is_supporting").and_then(Value::as_bool).unwrap_or(false));
    Ok(supporting.filter_map(|it| it.get("title")).collect())
}

/// A label that results are broken down by.
fn label(row: RowView<'_>, names: &[&'static str]) -> Result<Option<String>, RowError> {
    for name in names {
        if let Some(value) = row.label(name) {
            return match value {
                Value::String(text) if text.trim().is_empty() => Ok(None),
                value => text_or_number(value, name).map(Some),
            };
        }
    }
    Ok(None)
}

fn hops(row: RowView<'_>, num_titles: usize) -> Result<Option<u8>, RowError> {
    let Some(value) = row.label("hops") else {
        let steps = row.label("question_decomposition").and_then(Value::as_array).map(Vec::len);
        return Ok(u8::try_from(steps.unwrap_or(num_titles)).ok().filter(|&it| it > 0));
    };
    let hops = value.as_u64().and_then(|it| u8::try_from(it).ok()).filter(|&it| it > 0);
    hops.map(Some).ok_or_else(|| wrong_type("hops", "a whole number from 1 to 255", value))
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], RowError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type(field, "a list", value))
}

fn text(value: &Value, field: &str) -> Result<String, RowError> {
    let text = value.as_str().ok_or_else(|| wrong_type(field, "a text", value))?;
    not_blank(text, || field.to_owned())
}

fn text_or_number(value: &Value, field: &str) -> Result<String, RowError> {
    match value {
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        Value::String(text) => not_blank(text, || field.to_owned()),
        other => Err(wrong_type(field, "a text or a whole number", other)),
    }
}

/// The trimmed text, if anything is left of it.
fn not_blank(text: &str, field: impl FnOnce() -> String) -> Result<String, RowError> {
    let text = text.trim();
    if text.is_empty() { Err(RowError::Empty { field: field() }) } else { Ok(text.to_owned()) }
}

/// The name of an element of a list, counted from 0 as in JSON paths.
fn element(field: &str, index: usize) -> String {
    format!("{field}[{index}]")
}

fn wrong_type(field: &str, expected: &'static str, value: &Value) -> RowError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    RowError::WrongType { field: field.to_owned(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(row: &str) -> Result<Question, RowError> {
        question(&serde_json::from_str(row).unwrap(), "file-7")
    }

    #[track_caller]
    fn check(row: &str, id: &str, text: &str, answers: &[&str], hops: Option<u8>, titles: &[&str]) {
        let expected = Question {
            hops,
            gold_titles: titles.iter().map(|&it| it.to_owned()).collect(),
            ..Question::new(id, text, answers.to_vec())
        };
        assert_eq!(read(row).unwrap(), expected);
    }

    #[test]
    fn reads_every_form() {
        check(
            r#"{"id":"t0","question":" who? ","golden_answers":["a","b"]}"#,
            "t0",
            "who?",
            &["a", "b"],
            None,
            &[],
        );
        check(r#"{"question":"who?","answer":["a"]}"#, "file-7", "who?", &["a"], None, &[]);
        check(r#"{"id":3,"question":"when?","answer":1999}"#, "3", "when?", &["1999"], None, &[]);
        check(
            r#"{"id":null,"_id":"h","question":"q","answer":"yes",
                "supporting_facts":{"title":["A","B","A"],"sent_id":[0,1,2]}}"#,
            "h",
            "q",
            &["yes"],
            Some(2),
            &["A", "B"],
        );
        check(
            r#"{"question":"q","answer":"x","supporting_facts":[["A",0],["B",1]],"hops":3}"#,
            "file-7",
            "q",
            &["x"],
            Some(3),
            &["A", "B"],
        );
        check(
            r#"{"question":"q","reward_model":{"ground_truth":{"target":["x","y"]}},
                "extra_info":{"index":4}}"#,
            "file-7",
            "q",
            &["x", "y"],
            None,
            &[],
        );
        check(
            r#"{"prompt":[{"role":"system","content":"s"},{"role":"user","content":"q"}],
                "reward_model":{"ground_truth":"x<|answer_split|>y"},
                "extra_info":{"index":"nq_4"}}"#,
            "nq_4",
            "q",
            &["x", "y"],
            None,
            &[],
        );
    }

    #[test]
    fn reads_what_results_are_broken_down_by() {
        let flashrag = r#"{"id":"d0","question":"q","golden_answers":["x"],"metadata":{"type":"bridge",
            "level":"hard","supporting_facts":{"title":["A","B"],"sent_id":[0,1]}}}"#;
        let question = read(flashrag).unwrap();
        assert_eq!(question.question_type.as_deref(), Some("bridge"));
        assert_eq!((question.hops, question.gold_titles), (Some(2), vec!["A".into(), "B".into()]));
        let musique = r#"{"id":"3hop1__1_2_3","question":"q","answer":"x","answer_aliases":["y"],
            "question_decomposition":[{"id":1},{"id":2},{"id":3}],"paragraphs":[
            {"title":"A","is_supporting":true},{"title":"B","is_supporting":false}]}"#;
        let question = read(musique).unwrap();
        assert_eq!(question.golden_answers, ["x", "y"]);
        assert_eq!((question.hops, question.gold_titles), (Some(3), vec!["A".into()]));
        let parquet = r#"{"data_source":"nq","question":"q","answer":"x"}"#;
        assert_eq!(read(parquet).unwrap().data_source.as_deref(), Some("nq"));
    }

    #[test]
    fn scored_rows_keep_their_answers_as_they_are() {
        let row = serde_json::from_str(r#"{"id":1,"golden_answers":[" a ","",2]}"#).unwrap();
        let question = scored_question(&row, "f-1").unwrap();
        assert_eq!((&question.id[..], &question.text[..]), ("1", ""));
        assert_eq!(question.golden_answers, [" a ", "", "2"]);
        let row = serde_json::from_str(r#"{"golden_answers":[]}"#).unwrap();
        assert!(scored_question(&row, "f-1").unwrap().golden_answers.is_empty());
    }

    #[track_caller]
    fn check_refuses(row: &str, expected: &str) {
        let message = read(row).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        check_refuses(r#"{"answer":"a"}"#, "field `question` is missing");
        check_refuses(r#"{"question":null,"answer":"a"}"#, "field `question` is missing");
        check_refuses(r#"{"question":"  ","answer":"a"}"#, "field `question` is empty");
        check_refuses(r#"{"question":7,"answer":"a"}"#, "`question` is a number");
        check_refuses(r#"{"question":"q"}"#, "field `golden_answers` is missing");
        check_refuses(r#"{"question":"q","golden_answers":[]}"#, "`golden_answers` is empty");
        check_refuses(r#"{"question":"q","answer":["a"," "]}"#, "field `answer[1]` is empty");
        check_refuses(r#"{"question":"q","answer":["a",[1]]}"#, "`answer[1]` is a list");
        check_refuses(r#"{"question":"q","answer":[1.5]}"#, "`answer[0]` is a fraction");
        check_refuses(r#"{"question":"q","answer":{"x":1}}"#, "`answer` is an object");
        check_refuses(r#"{"question":"q","answer":"a","hops":0}"#, "`hops` is a number");
        check_refuses(r#"{"question":"q","answer":"a","id":true}"#, "`id` is a truth value");
        check_refuses(r#"{"prompt":[{"role":"system"}],"answer":"a"}"#, "no user message");
        check_refuses(
            r#"{"question":"q","answer":"a","supporting_facts":{"title":"T"}}"#,
            "`supporting_facts.title` is a text",
        );
    }
}
