//! Qdrant: nearest vectors of a collection.

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zs_core::{Embedder, EngineScope, Question, SearchEngine, SearchRequest, SearchResult};

use super::elasticsearch::{default_text_field, default_title_field};
use super::{
    DocumentFields, Documents, ServerError, answer_all, dimension, found, listed, path_segment,
    vectors,
};
use crate::Ledger;
use crate::embed::{EmbeddingServer, EmbeddingServerConfig};
use crate::http::{ApiKey, HttpClient, HttpConfig, HttpRequest, KeyPlace};

const NAME: &str = "qdrant";

/// Settings of a searched collection. Keys are not part of it: they come from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct QdrantConfig {
    /// Addresses of nodes of one cluster, e.g. `http://localhost:6333`.
    pub endpoints: Vec<String>,
    /// Collection.
    pub collection: String,
    /// Vectors of the collection that are searched, where it has several, by their name.
    #[serde(default)]
    pub vector: Option<String>,
    /// Server of the embeddings of queries.
    #[garde(dive)]
    pub embedder: EmbeddingServerConfig,
    /// Payload of titles; empty where the first line of the text is the title.
    #[serde(default = "default_title_field")]
    pub title_field: String,
    /// Payload of texts.
    #[serde(default = "default_text_field")]
    pub text_field: String,
    /// Environment variable that holds the API key, e.g. `QDRANT_API_KEY`; without one, no key is sent.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

impl QdrantConfig {
    /// A collection of a node with default settings.
    #[must_use]
    pub fn new(
        endpoint: impl Into<String>,
        collection: impl Into<String>,
        embedder: EmbeddingServerConfig,
    ) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            collection: collection.into(),
            vector: None,
            embedder,
            title_field: default_title_field(),
            text_field: default_text_field(),
            key_variable: None,
            http: HttpConfig::default(),
        }
    }
}

/// Search by the vectors of a Qdrant collection, one request a query.
///
/// Blank queries find nothing and are not sent.
///
/// # References
///
/// - [Query points](https://api.qdrant.tech/api-reference/search/query-points),
///   [collection info](https://api.qdrant.tech/api-reference/collections/get-collection)
#[derive(Debug)]
pub struct QdrantEngine {
    client: HttpClient,
    embedder: Arc<dyn Embedder>,
    config: QdrantConfig,
    place: String,
}

impl QdrantEngine {
    /// An engine over the collection of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address or a name cannot be used, and, naming the variable, when the environment
    /// has no key.
    pub fn new(config: QdrantConfig, ledger: Arc<Ledger>) -> Result<Self, ServerError> {
        let collection = path_segment(&config.collection)?.to_owned();
        let place = format!("{NAME} collection `{collection}`");
        let failed = |error| ServerError::Http { place: place.clone(), source: Arc::new(error) };
        let place_of_key = KeyPlace::Header { name: "api-key", prefix: "" };
        let key = ApiKey::placed(config.key_variable.as_deref(), place_of_key).map_err(failed)?;
        let url = |it: &String| format!("{}/collections/{collection}", it.trim_end_matches('/'));
        let urls: Vec<String> = config.endpoints.iter().map(url).collect();
        let client = HttpClient::new(NAME, &urls, key, config.http.clone(), Arc::clone(&ledger));
        let client = client.map_err(failed)?;
        let embedder = EmbeddingServer::new(config.embedder.clone(), ledger).map_err(failed)?;
        Ok(Self { client, embedder: Arc::new(embedder), config, place })
    }

    /// The same with another embedder of queries.
    #[must_use]
    pub fn with_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = embedder;
        self
    }

    /// Asks the server about the collection, compares the length of its vectors, and searches once.
    ///
    /// # Errors
    ///
    /// Fails when the server is out of reach, or the collection is not there or is another one than the
    /// settings say.
    pub fn check(&self) -> Result<(), ServerError> {
        let place = || self.place.clone();
        let info = self.client.send(&HttpRequest::default(), |text| {
            let reply: Value =
                serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
            reply.get("result").cloned().ok_or_else(|| "not {\"result\": {..}}".to_owned())
        });
        let info = info.map_err(|it| ServerError::Http { place: place(), source: Arc::new(it) })?;
        let vectors = info.pointer("/config/params/vectors").unwrap_or(&Value::Null);
        let vector = match &self.config.vector {
            Some(name) => vectors.get(name),
            None => Some(vectors).filter(|it| it.get("size").is_some()),
        };
        let Some(vector) = vector else {
            let known = vectors.as_object().map(|it| listed(it.keys())).unwrap_or_default();
            let field = self.config.vector.clone().unwrap_or_else(|| "(without a name)".to_owned());
            return Err(ServerError::NoField { place: place(), field, setting: "vector", known });
        };
        let embedder = dimension(self.embedder.as_ref(), &self.place)?;
        match vector.get("size").and_then(Value::as_u64) {
            Some(index) if index != embedder as u64 => {
                return Err(ServerError::Dimension { place: place(), index, embedder });
            }
            _ => {}
        }
        // Payloads have no schema, so a document tells whether its fields are there.
        let question = Question::new("", "dimension", Vec::<String>::new());
        match self.search(SearchRequest::of(&question, 1, 0)) {
            Ok(found) if found.is_empty() => Err(ServerError::Empty { place: place() }),
            Ok(_) => Ok(()),
            Err(error) => {
                let message = zs_core::with_causes(&error);
                Err(ServerError::FirstSearch { place: place(), message })
            }
        }
    }

    fn send(&self, vector: &[f32], request: &SearchRequest<'_>) -> SearchResult {
        let mut body = json!({ "query": vector, "limit": request.k, "with_payload": true });
        if let Some(name) = &self.config.vector {
            body["using"] = name.as_str().into();
        }
        let (body, seed) = (Some(body.to_string()), request.seed);
        let sent = HttpRequest { path: "/points/query", body, seed, ..HttpRequest::default() };
        let QdrantConfig { title_field, text_field, .. } = &self.config;
        let fields = DocumentFields { title: title_field, text: text_field };
        found(NAME, request, self.client.send(&sent, |text| read_points(text, &fields)))
    }
}

impl SearchEngine for QdrantEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        answer_all(requests, |requests| {
            let vectors = vectors(self.embedder.as_ref(), requests).into_iter();
            let embedded: Vec<_> = vectors.zip(requests).collect();
            self.client.for_each(&embedded, |(vector, request)| match vector {
                Ok(vector) => self.send(vector, request),
                Err(error) => Err(error.repeated()),
            })
        })
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

fn read_points(text: &str, fields: &DocumentFields<'_>) -> Result<Documents, String> {
    let reply: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let points = reply.pointer("/result/points").and_then(Value::as_array);
    let points = points.ok_or("not {\"result\": {\"points\": [..]}}")?;
    let document = |point: &Value| {
        let score = point.get("score").and_then(Value::as_f64);
        let payload = point.get("payload").unwrap_or(&Value::Null);
        fields.document(point.get("id").unwrap_or(&Value::Null), payload, score)
    };
    Ok(points.iter().map(document).collect())
}

#[cfg(test)]
mod tests;
