//! Search servers that people have, as clients: Elasticsearch, OpenSearch, Qdrant and PostgreSQL.

mod elasticsearch;
#[cfg(feature = "postgres")]
mod postgres;
mod qdrant;

use std::sync::Arc;

use serde_json::Value;
use zs_core::{
    Document, EmbedResult, Embedder, SearchError, SearchRequest, SearchResult, TextRole,
};

pub use self::elasticsearch::{
    ElasticsearchConfig, ElasticsearchDialect, ElasticsearchEngine, VectorField,
};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresConfig, PostgresEngine};
pub use self::qdrant::{QdrantConfig, QdrantEngine};
use crate::http::HttpError;
use crate::retriever::served;

/// Server, index and settings that do not fit together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The server is out of reach, has no such index, or refuses.
    #[error("{place}: {source}")]
    Http {
        /// Server and index.
        place: String,
        /// The client's own error, part of the message.
        source: Arc<HttpError>,
    },
    /// A name that cannot stand in an address.
    #[error(
        "`{name}` cannot be the name of an index or a collection; give one name, as the server lists it"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A field that the index does not have.
    #[error("{place}: has no field `{field}`; set `{setting}` to one of {known}")]
    NoField {
        /// Server and index.
        place: String,
        /// Field.
        field: String,
        /// Setting that names the field.
        setting: &'static str,
        /// Fields of the index.
        known: String,
    },
    /// A field of another type.
    #[error("{place}: field `{field}` is of type {found}; set `{setting}` to one of type {wanted}")]
    FieldType {
        /// Server and index.
        place: String,
        /// Field.
        field: String,
        /// Setting that names the field.
        setting: &'static str,
        /// Type of the field.
        found: String,
        /// Types that can be searched.
        wanted: &'static str,
    },
    /// Vectors of another length than the embedder's.
    #[error(
        "{place}: vectors have {index} dimensions, those of the embedder {embedder}; use the model \
         that the vectors were made with"
    )]
    Dimension {
        /// Server and index.
        place: String,
        /// Length of the vectors of the index.
        index: u64,
        /// Length of the vectors of the embedder.
        embedder: usize,
    },
    /// An index without documents.
    #[error("{place}: contains no documents")]
    Empty {
        /// Server and index.
        place: String,
    },
    /// A database that cannot be reached, or refuses.
    #[error("{place}: {message}")]
    Database {
        /// Host, database and table.
        place: String,
        /// Message of the database.
        message: String,
    },
    /// A password would be sent unencrypted.
    #[error(
        "{host}: a password is not sent to it unencrypted; use a database of this machine or a private \
         network, or a tunnel to it"
    )]
    PlainPassword {
        /// Host.
        host: String,
    },
    /// A search that fails whatever is asked for.
    #[error("{place}: a test search failed: {message}")]
    FirstSearch {
        /// Server and index.
        place: String,
        /// Message of the search.
        message: String,
    },
}

/// Name of an index in an address, if it can stand there.
fn path_segment(name: &str) -> Result<&str, ServerError> {
    let is_plain = |it: char| it.is_alphanumeric() || "-_.*,".contains(it);
    match !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain) {
        true => Ok(name),
        false => Err(ServerError::Name { name: name.to_owned() }),
    }
}

/// Names of fields, for an error.
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|it| format!("`{it}`")).collect();
    match names.is_empty() {
        true => "none, since it has no fields".to_owned(),
        false => names.join(", "),
    }
}

/// Names of the fields that documents are made of.
struct DocumentFields<'a> {
    /// Empty where the first line of the text is the title.
    title: &'a str,
    text: &'a str,
}

impl DocumentFields<'_> {
    /// A document of the fields of a hit.
    fn document(&self, id: &Value, fields: &Value, score: Option<f64>) -> Result<Document, String> {
        let id = match id {
            Value::String(id) => id.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let text = |name: &str| at(fields, name).and_then(Value::as_str);
        let Some(found) = text(self.text) else {
            let known = fields.as_object().map(|it| listed(it.keys())).unwrap_or_default();
            let name = self.text;
            return Err(format!(
                "the document `{id}` has no text in `{name}`; set `text_field` to one of {known}"
            ));
        };
        let (title, found) = match self.title {
            "" => Document::split_contents(found),
            title => (text(title).unwrap_or_default(), found),
        };
        served(id, title, found, score.map(|it| it as f32))
    }
}

/// Documents of a reply, or what is wrong with one of them.
type Documents = Result<Vec<Document>, String>;

/// Result of a search: what is wrong with a document is not worth another attempt.
fn found(
    name: &str,
    request: &SearchRequest<'_>,
    reply: Result<Documents, HttpError>,
) -> SearchResult {
    let documents = reply.map_err(|error| error.for_search(name, request.query))?;
    let mut documents = documents.map_err(|problem| SearchError::Engine {
        engine: name.to_owned(),
        query: request.query.to_owned(),
        source: problem.into(),
    })?;
    documents.truncate(request.k);
    Ok(documents)
}

/// A field by its path, names joined by dots.
fn at<'a>(fields: &'a Value, path: &str) -> Option<&'a Value> {
    let whole = fields.get(path);
    whole.or_else(|| path.split('.').try_fold(fields, |it, name| it.get(name)))
}

/// Requests that are worth sending: with a query, and for documents.
fn asks(request: &SearchRequest<'_>) -> bool {
    request.k > 0 && !request.query.trim().is_empty()
}

/// Answers requests that ask for something with the results of `answer`, and others with nothing.
fn answer_all(
    requests: &[SearchRequest<'_>],
    answer: impl FnOnce(&[&SearchRequest<'_>]) -> Vec<SearchResult>,
) -> Vec<SearchResult> {
    let asking: Vec<&SearchRequest<'_>> = requests.iter().filter(|it| asks(it)).collect();
    let mut results = if asking.is_empty() { Vec::new() } else { answer(&asking) }.into_iter();
    let next = |it: &SearchRequest<'_>| match asks(it) {
        true => results.next().unwrap_or_else(|| Ok(Vec::new())),
        false => Ok(Vec::new()),
    };
    requests.iter().map(next).collect()
}

/// Vectors of the queries of requests.
fn vectors(embedder: &dyn Embedder, requests: &[&SearchRequest<'_>]) -> Vec<EmbedResult> {
    let queries: Vec<&str> = requests.iter().map(|it| it.query).collect();
    embedder.embed(&queries, TextRole::Query, requests.first().map_or(0, |it| it.seed))
}

/// Length of the vectors of an embedder.
fn dimension(embedder: &dyn Embedder, place: &str) -> Result<usize, ServerError> {
    let first = embedder.embed(&["dimension"], TextRole::Query, 0).into_iter().next();
    first.unwrap_or_else(|| Ok(Vec::new())).map(|it| it.len()).map_err(|error: SearchError| {
        let message = zs_core::with_causes(&error);
        ServerError::FirstSearch { place: place.to_owned(), message }
    })
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Embeds every query as the same two numbers.
    #[derive(Debug)]
    pub(super) struct Two;

    impl Embedder for Two {
        fn embed(&self, texts: &[&str], _: TextRole, _: u64) -> Vec<EmbedResult> {
            texts.iter().map(|_| Ok(vec![0.5, -1.0])).collect()
        }

        fn identity(&self) -> String {
            "two".to_owned()
        }
    }
}
