//! From a row's fields to a question, whichever dataset's names they have.

mod answers;
pub(crate) mod values;

use serde_json::Value;
use zs_core::Question;

use self::answers::{answers_field, golden_answers, raw_answers};
use self::values::{element, is_damaged, is_missing_marker, leaves_nothing, list, scalar, text};
use super::Fields;
use crate::rows::literal::is_like_value;
use crate::{NoteKind, RowContext, RowError};

/// End of the instruction in the prompts of Search-R1 and ZeroSearch.
pub(crate) const EXAMPLE: &str = "For example, <answer> Beijing </answer>.";
/// Word before the question in these prompts.
pub(crate) const QUESTION: &str = "Question:";

/// Fields of questions other than `prompt`, in the order in which they are looked for.
const QUESTIONS: [&str; 4] = [
    "question",
    "extra_info.question",
    "extra_info.tools_kwargs.search.create_kwargs.question",
    "query",
];

/// The question of a row; `stem` and the index of the row make its id where it has none.
pub(super) fn question(
    row: &Fields,
    context: &mut RowContext<'_>,
    stem: &str,
) -> Result<Question, RowError> {
    let row = RowView(row);
    let gold_titles = gold_titles(row, context)?;
    let text = question_text(row, context)?;
    let golden_answers = golden_answers(row, context)?;
    if golden_answers.iter().any(|it| is_missing_marker(it)) || is_missing_marker(&text) {
        context.note(NoteKind::MissingMarker);
    }
    if golden_answers.iter().any(|it| is_damaged(it)) || is_damaged(&text) {
        context.note(NoteKind::DamagedText);
    }
    if golden_answers.iter().any(|it| leaves_nothing(it)) {
        context.note(NoteKind::NothingToMatch);
    }
    if text.parse::<f64>().is_ok() {
        context.note(NoteKind::NoLetters);
    }
    assembled(row, context, stem, text, golden_answers, gold_titles)
}

/// Converts a row that is to be scored and not asked: it may have no text, and its golden answers are
/// taken as they are, blank ones included, as scoring scripts take them. `stem` and the index of the
/// row make its id where it has none.
///
/// # Errors
///
/// Fails on a row without a field of answers, and on fields of the wrong type.
pub fn scored_question(
    row: &Fields,
    context: &mut RowContext<'_>,
    stem: &str,
) -> Result<Question, RowError> {
    let row = RowView(row);
    let gold_titles = gold_titles(row, context)?;
    let (field, value) = answers_field(row)?;
    let golden_answers = raw_answers(field, value, context)?;
    if golden_answers.iter().any(|it| leaves_nothing(it)) {
        context.note(NoteKind::NothingToMatch);
    }
    let text = row.get("question").and_then(Value::as_str).unwrap_or_default().to_owned();
    assembled(row, context, stem, text, golden_answers, gold_titles)
}

/// Notes what is odd about the text of a prediction: a missing value or a list as programs print them,
/// tags around the answer.
///
/// ```
/// use zs_data::{NoteKind, RowReader, note_prediction};
///
/// let reader = RowReader::new("prediction");
/// let rows = reader.json_lines::<String>("\"<answer> a </answer>\"".as_bytes(), "p.jsonl".as_ref())?;
/// let mut rows = rows.try_filter_map(|text, context| {
///     note_prediction(&text, context);
///     Ok(Some(text))
/// });
/// rows.next();
/// assert_eq!(rows.notes()[0].kind, NoteKind::TagsInPrediction);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn note_prediction(text: &str, context: &mut RowContext<'_>) {
    if text.contains("<answer>") {
        context.note(NoteKind::TagsInPrediction);
    }
    if is_missing_marker(text) {
        context.note(NoteKind::MissingMarker);
    }
    if is_like_value(text) {
        context.note(NoteKind::ListLikeText);
    }
}

/// Question of the parts that were read and the other fields of its row.
fn assembled(
    row: RowView<'_>,
    context: &mut RowContext<'_>,
    stem: &str,
    text: String,
    golden_answers: Vec<String>,
    gold_titles: Vec<String>,
) -> Result<Question, RowError> {
    Ok(Question {
        id: id(row, context)?.unwrap_or_else(|| format!("{stem}-{}", context.index)),
        text,
        golden_answers,
        hops: hops(row, gold_titles.len())?,
        gold_titles,
        data_source: label(row, &["data_source", "dataset"], context)?,
        question_type: label(row, &["type"], context)?,
    })
}

/// The question of a row and its answers that are not blank; none where it has no field of them.
pub(crate) fn question_and_answers(
    row: &Fields,
    context: &mut RowContext<'_>,
) -> Result<(String, Vec<String>), RowError> {
    let row = RowView(row);
    let question = question_text(row, context)?;
    let Ok((field, value)) = answers_field(row) else { return Ok((question, Vec::new())) };
    let answers = raw_answers(field, value, context)?;
    let answers = answers.iter().map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
    Ok((question, answers.collect()))
}

/// The question of a recorded episode, which may have no answers. `stem` and the index of the row
/// make its id where it has none.
pub(crate) fn recorded_question(
    row: &Fields,
    context: &mut RowContext<'_>,
    stem: &str,
) -> Result<Question, RowError> {
    let (text, golden_answers) = question_and_answers(row, context)?;
    let row = RowView(row);
    let gold_titles = gold_titles(row, context)?;
    assembled(row, context, stem, text, golden_answers, gold_titles)
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

fn id(row: RowView<'_>, context: &mut RowContext<'_>) -> Result<Option<String>, RowError> {
    match row.first(&["id", "_id"]) {
        Some((_, Value::Number(number))) if !number.is_f64() => {
            return Ok(Some(number.to_string()));
        }
        Some((field, value)) => return scalar(value, || field.to_owned(), context),
        None => {}
    }
    let index = row.get("extra_info.index").and_then(Value::as_str).map(str::trim);
    Ok(index.filter(|it| !it.is_empty()).map(str::to_owned))
}

fn question_text(row: RowView<'_>, context: &mut RowContext<'_>) -> Result<String, RowError> {
    if let Some((field, value)) = row.first(&QUESTIONS) {
        if let Some(other) = row.get("extra_info.question").filter(|_| field == "question") {
            note_difference(value.as_str(), other.as_str(), context);
        }
        return text(value, || field.to_owned(), context);
    }
    let Some(prompt) = row.get("prompt") else {
        let alternatives = "extra_info.question, query, prompt";
        return Err(RowError::Missing { field: "question", alternatives });
    };
    let asked = match prompt {
        Value::Array(messages) => {
            let is_user = |message: &&Value| message.get("role").is_some_and(|role| role == "user");
            let mut asked = messages.iter().rev().filter(is_user);
            let last = asked.next().and_then(|message| message.get("content"));
            if asked.next().is_some() {
                context.note(NoteKind::LastMessage);
            }
            last.ok_or_else(|| RowError::Empty { field: "prompt (no user message)".to_owned() })?
        }
        other => other,
    };
    let asked = match joined_parts(asked) {
        Some(joined) => text(&joined.into(), || "prompt.content".to_owned(), context)?,
        None => text(asked, || "prompt.content".to_owned(), context)?,
    };
    let behind = asked.find(EXAMPLE).and_then(|at| {
        let (_, rest) = asked[at..].split_once(QUESTION)?;
        rest.trim_start().lines().next().map(str::trim).filter(|it| !it.is_empty())
    });
    if let Some(question) = behind {
        context.note(NoteKind::InstructionRemoved);
        return Ok(question.to_owned());
    }
    if asked.contains('\n') || asked.contains("</") || says_question(&asked) {
        context.note(NoteKind::WholePrompt);
    }
    Ok(asked)
}

/// Text of a message that is a list of parts, all of them texts.
fn joined_parts(content: &Value) -> Option<String> {
    let text = |part: &Value| match part.get("type")?.as_str()? {
        "text" => part.get("text")?.as_str().map(str::to_owned),
        _ => None,
    };
    content.as_array()?.iter().map(text).collect()
}

/// True for a prompt that announces its question, as instructions do.
fn says_question(prompt: &str) -> bool {
    let prompt = prompt.to_lowercase();
    let words =
        ["question:", "question is", "question below", "given question", "following question"];
    words.iter().any(|it| prompt.contains(it))
}

/// Notes two texts that differ in more than case and punctuation at their ends.
fn note_difference(first: Option<&str>, second: Option<&str>, context: &mut RowContext<'_>) {
    let plain = |it: &str| it.trim_matches(|it: char| !it.is_alphanumeric()).to_lowercase();
    if let (Some(first), Some(second)) = (first, second)
        && plain(first) != plain(second)
    {
        context.note(NoteKind::FieldsDiffer);
    }
}

/// Titles of supporting documents, each once, in order.
fn gold_titles(row: RowView<'_>, context: &mut RowContext<'_>) -> Result<Vec<String>, RowError> {
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
        let Some(title) = scalar(title, || element(field, index), context)? else { continue };
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
fn label(
    row: RowView<'_>,
    names: &[&'static str],
    context: &mut RowContext<'_>,
) -> Result<Option<String>, RowError> {
    for name in names {
        if let Some(value) = row.label(name) {
            return match value {
                Value::String(text) if text.trim().is_empty() => Ok(None),
                value => scalar(value, || (*name).to_owned(), context),
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
    let hops = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64().and_then(|it| u8::try_from(it).ok()),
    };
    let hops = hops.filter(|&it: &u8| it > 0);
    hops.map(Some).ok_or_else(|| values::wrong_type("hops", "a whole number from 1 to 255", value))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::questions::plain::plain_fields;
    use crate::rows::notes::Notes;

    fn read(row: &str) -> Result<Question, RowError> {
        read_noted(row, question).0
    }

    /// Reads the seventh row of a file, with what was noted.
    fn read_noted(
        row: &str,
        convert: impl Fn(&Fields, &mut RowContext<'_>, &str) -> Result<Question, RowError>,
    ) -> (Result<Question, RowError>, Vec<NoteKind>) {
        let mut notes = Notes::default();
        let mut context = RowContext::new(7, 7, &mut notes);
        let row = plain_fields(serde_json::from_str(row).unwrap(), &mut context);
        let question = convert(&row, &mut context, "file");
        (question, notes.report().into_iter().map(|it| it.kind).collect())
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
        let row = r#"{"id":1,"golden_answers":[" a ","",2]}"#;
        let question = read_noted(row, scored_question).0.unwrap();
        assert_eq!((&question.id[..], &question.text[..]), ("1", ""));
        assert_eq!(question.golden_answers, [" a ", "", "2"]);
        let row = r#"{"golden_answers":[]}"#;
        let question = read_noted(row, scored_question).0.unwrap();
        assert!(question.golden_answers.is_empty());
    }

    #[track_caller]
    fn check_notes(row: &str, text: &str, answers: &[&str], expected: &[NoteKind]) {
        let (question, notes) = read_noted(row, question);
        let question = question.unwrap();
        assert_eq!((question.text.as_str(), &notes[..]), (text, expected), "{row}");
        assert_eq!(question.golden_answers, answers, "{row}");
    }

    #[test]
    fn decisions_are_noted() {
        use NoteKind::*;
        let instruction =
            "Answer the given question. Think. For example, <answer> Beijing </answer>.";
        let chat = |text: &str| serde_json::json!({"prompt": [{"role": "user", "content": text}], "answer": "a"});
        check_notes(r#"{"question":"q","answer":"['a' 'b']"}"#, "q", &["a", "b"], &[ListInText]);
        check_notes(r#"{"question":"q","answer":"[sic]"}"#, "q", &["[sic]"], &[ListLikeText]);
        check_notes(r#"{"question":"q","answer":"(sic)"}"#, "q", &["(sic)"], &[]);
        check_notes(r#"{"question":"q","answer":["['a']"]}"#, "q", &["['a']"], &[]);
        check_notes(
            r#"{"question":7,"answer":1.5}"#,
            "7",
            &["1.5"],
            &[NumberAsText, FractionAsText, NoLetters],
        );
        check_notes(r#"{"question":"q","answer":[null,"a"]}"#, "q", &["a"], &[NullInList]);
        check_notes(r#"{"Question ":"q","ANSWER":"nan"}"#, "q", &["nan"], &[MissingMarker]);
        check_notes(
            r#"{"question":"q","answers":{"text":["a"],"answer_start":[3]}}"#,
            "q",
            &["a"],
            &[],
        );
        check_notes(
            r#"{"question":"q","answer":{"value":"a","aliases":["b"]}}"#,
            "q",
            &["a", "b"],
            &[],
        );
        let known = chat(&format!("{instruction} Question: who wrote it?\n"));
        check_notes(&known.to_string(), "who wrote it?", &["a"], &[InstructionRemoved]);
        let unknown = "Think first. The question is: who?";
        check_notes(&chat(unknown).to_string(), unknown, &["a"], &[WholePrompt]);
        check_notes(&chat("who?").to_string(), "who?", &["a"], &[]);
        check_notes(r#"{"prompt":"who?","answer":"a"}"#, "who?", &["a"], &[]);
        let verl = r#"{"prompt":"Think. Question: q","extra_info":"{'question': 'q', 'index': 1}",
            "reward_model":"{'ground_truth': {'target': array(['a', 'b'], dtype=object)}}"}"#;
        check_notes(verl, "q", &["a", "b"], &[ListInText]);
        let two = r#"{"question":"q","extra_info":{"question":"other"},"golden_answers":["a"],
            "reward_model":{"ground_truth":{"target":["a"]}}}"#;
        check_notes(two, "q", &["a"], &[FieldsDiffer]);
        let same = r#"{"question":"q?","extra_info":{"question":"Q"},"answer":"a"}"#;
        check_notes(same, "q?", &["a"], &[]);
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
        check_refuses(r#"{"question":["q"],"answer":"a"}"#, "`question` is a list");
        check_refuses(r#"{"question":"q"}"#, "field `golden_answers` is missing");
        check_refuses(r#"{"question":"q","golden_answers":[]}"#, "`golden_answers` is empty");
        check_refuses(r#"{"question":"q","answer":["a"," "]}"#, "field `answer[1]` is empty");
        check_refuses(r#"{"question":"q","answer":["a",[1]]}"#, "`answer[1]` is a list");
        check_refuses(r#"{"question":"q","answer":[1e300]}"#, "`answer[0]` is a fraction");
        check_refuses(r#"{"question":"q","answer":{"x":1}}"#, "`answer` is an object");
        check_refuses(r#"{"question":"q","answer":[null]}"#, "`answer` is empty");
        check_refuses(r#"{"question":"q","answer":"a","hops":0}"#, "`hops` is a number");
        check_refuses(r#"{"question":"q","answer":"a","id":true}"#, "`id` is a truth value");
        check_refuses(r#"{"prompt":[{"role":"system"}],"answer":"a"}"#, "no user message");
        check_refuses(
            r#"{"question":"q","answer":"a","supporting_facts":{"title":"T"}}"#,
            "`supporting_facts.title` is a text",
        );
    }
}
