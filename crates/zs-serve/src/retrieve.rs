//! `POST /retrieve` in the forms of Search-R1 and of ZeroSearch, distinguished by their keys.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zs_core::{Document, DocumentQuality, Domain, Question, SearchError, SearchResult, StreamKey};

use crate::api_error::ApiError;
use crate::app::{App, read_json};
use crate::search_worker::ServedQuery;

/// A request in either form; exactly one of `queries` and `query` is present.
#[derive(Debug, Deserialize)]
pub(crate) struct RetrieveRequest {
    queries: Option<Vec<QueryInput>>,
    topk: Option<usize>,
    #[serde(default)]
    return_scores: bool,
    query: Option<QueryInput>,
    top_k: Option<usize>,
}

/// A query, alone or with the inputs of a simulated engine.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum QueryInput {
    Text(String),
    Full(FullQuery),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullQuery {
    query: String,
    question: Option<String>,
    #[serde(default)]
    golden_answers: Vec<String>,
    quality: Option<DocumentQuality>,
    seed: Option<u64>,
}

/// Searches, and answers in the form of the request.
///
/// Search-R1: `{"queries", "topk", "return_scores"}` to `{"result": [[{"document": {"id",
/// "contents"}, "score"}]]}`, or without scores to `{"result": [[{"id", "contents"}]]}`. A failed query
/// has no documents, and then `errors` holds one entry per query.
///
/// `ZeroSearch`: `{"query", "top_k"}` to `[{"text", "id", "title", "score"}]`.
pub(crate) async fn retrieve(State(app): State<App>, body: Body) -> Result<Json<Value>, ApiError> {
    let request: RetrieveRequest = read_json(&app.config, body).await?;
    let Some(retriever) = &app.retriever else {
        return Err(ApiError::NotFound("this server has no search engine".to_owned()));
    };
    let (inputs, k, form) = match (request.queries, request.query) {
        (Some(queries), None) => {
            (queries, request.topk, Form::SearchR1 { scores: request.return_scores })
        }
        (None, Some(query)) => (vec![query], request.top_k, Form::ZeroSearch),
        _ => {
            let message = "send either `queries` (with `topk`) or `query` (with `top_k`)";
            return Err(ApiError::field("queries", message));
        }
    };
    let k = check_k(&app, k, form)?;
    let queries = check_queries(&app, inputs)?;
    let results = retriever.search(queries, k).await;
    let Some(results) = results else {
        return Err(ApiError::Upstream(
            "the search engine panicked; see the log of the server".to_owned(),
        ));
    };
    let first_error = results.iter().find_map(|it| it.as_ref().err());
    if let (Some(error), true) = (first_error, results.iter().all(Result::is_err)) {
        return Err(ApiError::Upstream(full_message(error)));
    }
    Ok(Json(form.render(&results)))
}

#[derive(Clone, Copy, Debug)]
enum Form {
    SearchR1 { scores: bool },
    ZeroSearch,
}

impl Form {
    fn render(self, results: &[SearchResult]) -> Value {
        let documents = |it: &SearchResult| match it {
            Ok(documents) => documents.iter().map(|it| self.document(it)).collect(),
            Err(_) => Vec::new(),
        };
        match self {
            Self::ZeroSearch => results.iter().flat_map(documents).collect(),
            Self::SearchR1 { .. } => {
                let mut response = json!({
                    "result": results.iter().map(documents).collect::<Vec<Vec<Value>>>(),
                });
                if results.iter().any(Result::is_err) {
                    let error = |it: &SearchResult| it.as_ref().err().map(full_message);
                    response["errors"] = results.iter().map(error).collect();
                }
                response
            }
        }
    }

    fn document(self, document: &Document) -> Value {
        let contents = contents(document);
        match self {
            Self::SearchR1 { scores: true } => json!({
                "document": { "id": document.id, "contents": contents },
                "score": document.score.unwrap_or(0.0),
            }),
            Self::SearchR1 { scores: false } => json!({ "id": document.id, "contents": contents }),
            Self::ZeroSearch => json!({
                "text": contents,
                "id": document.id,
                "title": document.title,
                "score": document.score,
            }),
        }
    }
}

/// Formats a document as Search-R1's corpora do: `"Title"`, a line break, the text.
fn contents(document: &Document) -> String {
    match document.title.is_empty() {
        true => document.text.clone(),
        false => format!("\"{}\"\n{}", document.title, document.text),
    }
}

fn check_k(app: &App, k: Option<usize>, form: Form) -> Result<usize, ApiError> {
    let field = match form {
        Form::SearchR1 { .. } => "topk",
        Form::ZeroSearch => "top_k",
    };
    let k = k.unwrap_or(app.config.default_k);
    match (1..=app.config.max_k).contains(&k) {
        true => Ok(k),
        false => {
            let most = app.config.max_k;
            Err(ApiError::field(field, format!("`{field}` must be between 1 and {most}, is {k}")))
        }
    }
}

fn check_queries(app: &App, inputs: Vec<QueryInput>) -> Result<Vec<ServedQuery>, ApiError> {
    let invalid = |message: String| Err(ApiError::field("queries", message));
    let most = app.config.max_queries;
    if inputs.len() > most {
        return invalid(format!("the request has {} queries; send at most {most}", inputs.len()));
    }
    let longest = app.config.max_query_bytes;
    let mut queries = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let input = match input {
            QueryInput::Text(query) => FullQuery { query, ..FullQuery::default() },
            QueryInput::Full(full) => full,
        };
        if input.query.len() > longest {
            let len = input.query.len();
            return invalid(format!("query {index} has {len} bytes; send at most {longest}"));
        }
        queries.push(input.served(app.config.seed, app.config.noise_probability));
    }
    Ok(queries)
}

impl FullQuery {
    /// Fills in the defaults of a query. Seed and quality are functions of the server's seed, the
    /// question and the query, so that the same query always finds the same documents.
    fn served(self, seed: u64, noise_probability: f64) -> ServedQuery {
        let text = self.question.unwrap_or_else(|| self.query.clone());
        let key = StreamKey { step: digest(&[&text, &self.query]), ..StreamKey::new(seed) };
        let quality = self.quality.unwrap_or_else(|| {
            let draw: f64 = key.rng(Domain::Quality).random();
            match draw < noise_probability {
                true => DocumentQuality::Noisy,
                false => DocumentQuality::Useful,
            }
        });
        ServedQuery {
            seed: self.seed.unwrap_or_else(|| key.derive_seed(Domain::Search)),
            question: Question::new("", text, self.golden_answers),
            query: self.query,
            quality,
        }
    }
}

/// Returns a 64-bit digest of texts, the same on every machine.
fn digest(texts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let bytes: [u8; 32] = hasher.finalize().into();
    bytes[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Formats an error and its causes in one line.
fn full_message(error: &SearchError) -> String {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<SearchResult> {
        let mut document = Document::new("Bamboo", "A grass.");
        document.id = "7".to_owned();
        document.score = Some(1.5);
        let malformed = SearchError::Malformed { query: "q".into(), reply: "r".into() };
        vec![Ok(vec![document, Document::new("", "Plain.")]), Err(malformed)]
    }

    #[track_caller]
    fn check(form: Form, results: &[SearchResult], expected: &str) {
        assert_eq!(form.render(results).to_string(), expected);
    }

    #[test]
    fn each_form_has_its_own_response() {
        check(
            Form::SearchR1 { scores: true },
            &results()[..1],
            r#"{"result":[[{"document":{"id":"7","contents":"\"Bamboo\"\nA grass."},"score":1.5},{"document":{"id":"","contents":"Plain."},"score":0.0}]]}"#,
        );
        check(
            Form::SearchR1 { scores: false },
            &results(),
            r#"{"result":[[{"id":"7","contents":"\"Bamboo\"\nA grass."},{"id":"","contents":"Plain."}],[]],"errors":[null,"no document found in the reply to query `q`: `r`"]}"#,
        );
        check(
            Form::ZeroSearch,
            &results()[..1],
            r#"[{"text":"\"Bamboo\"\nA grass.","id":"7","title":"Bamboo","score":1.5},{"text":"Plain.","id":"","title":"","score":null}]"#,
        );
    }

    #[test]
    fn defaults_are_functions_of_the_query() {
        let plain = || FullQuery { query: "q".into(), ..FullQuery::default() };
        let (a, b) = (plain().served(1, 0.5), plain().served(1, 0.5));
        assert_eq!((a.seed, a.quality, &a.question.text), (b.seed, b.quality, &"q".to_owned()));
        assert_ne!(a.seed, plain().served(2, 0.5).seed);
        let noisy = (0..1000)
            .map(|it| FullQuery { query: it.to_string(), ..FullQuery::default() }.served(0, 0.25))
            .filter(|it| it.quality == DocumentQuality::Noisy)
            .count();
        // 1000 draws at 0.25: standard deviation 13.7.
        assert!((195..=305).contains(&noisy), "{noisy}");
        let given = FullQuery { seed: Some(3), quality: Some(DocumentQuality::Noisy), ..plain() };
        let given = given.served(1, 0.0);
        assert_eq!((given.seed, given.quality), (3, DocumentQuality::Noisy));
    }
}
