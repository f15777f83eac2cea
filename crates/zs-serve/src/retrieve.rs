//! `POST /retrieve` in the forms of Search-R1 and of ZeroSearch, distinguished by their keys.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use rand::RngExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zs_core::{Document, DocumentQuality, Domain, Question, SearchResult, StreamKey, with_causes};

use crate::api_error::ApiError;
use crate::app::App;
use crate::connection::Client;
use crate::json::{Capped, Keys, read_object, whole};
use crate::search_worker::{Retriever, ServedQuery};

/// Keys of a request. Those of both forms are read; a client may send the other's name for the number of
/// documents.
const KEYS: Keys = Keys {
    read: &["queries", "topk", "return_scores", "query", "top_k"],
    also_read: &[],
    ignored: &["user", "metadata", "request_id"],
    neutral: &[],
};

/// Keys of a query that is an object.
const QUERY_KEYS: Keys = Keys {
    read: &["query", "question", "golden_answers", "quality", "seed"],
    also_read: &[],
    ignored: &[],
    neutral: &[],
};

/// Maximum number of queries that are read before their number is checked.
const MAX_READ_QUERIES: usize = 1 << 20;

/// Maximum number of golden answers of a query.
const MAX_GOLDEN_ANSWERS: usize = 1024;

/// A request in either form; exactly one of `queries` and `query` is present.
#[derive(Debug, Deserialize)]
struct RetrieveRequest<'a> {
    #[serde(borrow)]
    queries: Option<Capped<&'a RawValue, MAX_READ_QUERIES>>,
    #[serde(default, deserialize_with = "whole")]
    topk: Option<usize>,
    return_scores: Option<bool>,
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "whole")]
    top_k: Option<usize>,
}

/// A query, alone or with the inputs of a simulated engine.
#[derive(Debug, Default, Deserialize)]
struct QueryInput {
    query: Option<String>,
    question: Option<String>,
    golden_answers: Option<Capped<String, MAX_GOLDEN_ANSWERS>>,
    quality: Option<DocumentQuality>,
    #[serde(default, deserialize_with = "whole")]
    seed: Option<u64>,
}

/// A request that was read and checked.
struct Checked {
    queries: Vec<ServedQuery>,
    k: usize,
    form: Form,
}

/// Searches, and answers in the form of the request.
///
/// Search-R1: `{"queries", "topk", "return_scores"}` to `{"result": [[{"document": {"id",
/// "contents"}, "score"}]]}`, or without scores to `{"result": [[{"id", "contents"}]]}`. A failed query
/// has no documents, and then `errors` holds one entry per query.
///
/// `ZeroSearch`: `{"query", "top_k"}` to `[{"text", "id", "title", "score"}]`.
pub(crate) async fn retrieve(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let body = app.bodies.read(&app.config, body).await?;
    let Some(retriever) = &app.retriever else {
        return Err(ApiError::NotFound("this server has no search engine".to_owned()));
    };
    let checking = {
        let app = app.clone();
        move |body: &[u8]| check(&app, body)
    };
    let (Checked { queries, k, form }, _share) = app.texts.read(body, checking).await?;
    let num_queries = queries.len();
    let _permit = app.admit_queries(num_queries)?;
    let may_leave = Retriever::is_long(num_queries);
    let results = tokio::select! {
        results = retriever.search(queries, k) => results,
        // A few queries are answered even to a client that has closed its side of the connection.
        () = client.left(), if may_leave => return Err(ApiError::ClientLeft),
    };
    let Some(results) = results else {
        return Err(ApiError::Upstream(
            "the search engine panicked; see the log of the server".to_owned(),
        ));
    };
    let first_error = results.iter().find_map(|it| it.as_ref().err());
    if let (Some(error), true) = (first_error, results.iter().all(Result::is_err)) {
        return Err(ApiError::Upstream(with_causes(error)));
    }
    let render = move || Ok(form.render(&results).to_string());
    let text = app.texts.run(num_queries * k, render).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Reads a request and checks it.
fn check(app: &App, body: &[u8]) -> Result<Checked, ApiError> {
    let request: RetrieveRequest<'_> = read_object(body, KEYS, "")?;
    if let (Some(topk), Some(top_k)) = (request.topk, request.top_k)
        && topk != top_k
    {
        let message = format!("`topk` is {topk} and `top_k` is {top_k}; send one of them");
        return Err(ApiError::field("top_k", message));
    }
    let (inputs, k, form) = match (request.queries, request.query) {
        (Some(queries), None) => {
            let scores = request.return_scores.unwrap_or(false);
            (queries.0, request.topk.or(request.top_k), Form::SearchR1 { scores })
        }
        (None, Some(query)) => (vec![query], request.top_k.or(request.topk), Form::ZeroSearch),
        _ => {
            let message = "send either `queries` (with `topk`) or `query` (with `top_k`)";
            return Err(ApiError::field("queries", message));
        }
    };
    let k = check_k(app, k, form)?;
    Ok(Checked { queries: check_queries(app, &inputs)?, k, form })
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
                    let error = |it: &SearchResult| it.as_ref().err().map(|it| with_causes(it));
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

fn check_queries(app: &App, inputs: &[&RawValue]) -> Result<Vec<ServedQuery>, ApiError> {
    let invalid = |message: String| Err(ApiError::field("queries", message));
    let most = app.config.max_queries;
    if inputs.len() > most {
        return invalid(format!("the request has {} queries; send at most {most}", inputs.len()));
    }
    let longest = app.config.max_query_bytes;
    let mut queries = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let (input, query) = read_query(input, index)?;
        if query.len() > longest {
            let len = query.len();
            return invalid(format!("query {index} has {len} bytes; send at most {longest}"));
        }
        queries.push(input.served(query, app.config.seed, app.config.noise_probability));
    }
    Ok(queries)
}

/// Reads a query that is a text or an object, and returns its text apart.
fn read_query(input: &RawValue, index: usize) -> Result<(QueryInput, String), ApiError> {
    let place = format!("query {index}: ");
    if input.get().starts_with('{') {
        let mut input: QueryInput = read_object(input.get().as_bytes(), QUERY_KEYS, &place)?;
        let missing = || ApiError::body(format!("{place}`query` is missing"));
        let query = input.query.take().ok_or_else(missing)?;
        return Ok((input, query));
    }
    let query = serde_json::from_str(input.get());
    let query =
        query.map_err(|_| ApiError::body(format!("{place}it is neither a text nor an object")))?;
    Ok((QueryInput::default(), query))
}

impl QueryInput {
    /// Fills in the defaults of a query. Seed and quality are functions of the server's seed, the
    /// question and the query, so that the same query always finds the same documents.
    fn served(self, query: String, seed: u64, noise_probability: f64) -> ServedQuery {
        let text = self.question.unwrap_or_else(|| query.clone());
        let golden_answers = self.golden_answers.map_or_else(Vec::new, |it| it.0);
        let key = StreamKey { step: digest(&[&text, &query]), ..StreamKey::new(seed) };
        let quality = self.quality.unwrap_or_else(|| {
            let draw: f64 = key.rng(Domain::Quality).random();
            match draw < noise_probability {
                true => DocumentQuality::Noisy,
                false => DocumentQuality::Useful,
            }
        });
        ServedQuery {
            seed: self.seed.unwrap_or_else(|| key.derive_seed(Domain::Search)),
            question: Question::new("", text, golden_answers),
            query,
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

#[cfg(test)]
mod tests {
    use zs_core::SearchError;

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
        let plain = |seed| QueryInput::default().served("q".to_owned(), seed, 0.5);
        let (a, b) = (plain(1), plain(1));
        assert_eq!((a.seed, a.quality, &a.question.text), (b.seed, b.quality, &"q".to_owned()));
        assert_ne!(a.seed, plain(2).seed);
        let noisy = (0..1000)
            .map(|it| QueryInput::default().served(it.to_string(), 0, 0.25))
            .filter(|it| it.quality == DocumentQuality::Noisy)
            .count();
        // 1000 draws at 0.25: standard deviation 13.7.
        assert!((195..=305).contains(&noisy), "{noisy}");
        let quality = Some(DocumentQuality::Noisy);
        let given = QueryInput { seed: Some(3), quality, ..QueryInput::default() };
        let given = given.served("q".to_owned(), 1, 0.0);
        assert_eq!((given.seed, given.quality), (3, DocumentQuality::Noisy));
    }
}
