//! Elasticsearch and OpenSearch: BM25 by `match` and `multi_match`, vectors by kNN.

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zs_core::registry::check;
use zs_core::{Embedder, EngineScope, SearchEngine, SearchRequest, SearchResult};

use super::{
    DocumentFields, Documents, ServerError, answer_all, dimension, found, listed, path_segment,
    vectors,
};
use crate::Ledger;
use crate::embed::{EmbeddingServer, EmbeddingServerConfig};
use crate::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest, KeyPlace};

const NAME: &str = "elasticsearch";

/// Types of fields that are searched by words.
const TEXT_TYPES: [&str; 4] = ["text", "match_only_text", "search_as_you_type", "annotated_text"];

/// One of the two servers; their vector queries differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElasticsearchDialect {
    /// Elasticsearch, 8.0 or later for vectors.
    #[default]
    Elasticsearch,
    /// OpenSearch.
    Opensearch,
}

/// Field of vectors, and who makes those of queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct VectorField {
    /// Field.
    pub field: String,
    /// Server of the embeddings of queries.
    #[garde(dive)]
    pub embedder: EmbeddingServerConfig,
    /// Candidates a shard, of which the nearest are taken; Elasticsearch alone.
    #[serde(default = "default_num_candidates")]
    #[garde(custom(check::at_least_one))]
    pub num_candidates: usize,
}

fn default_num_candidates() -> usize {
    100
}

/// Settings of a searched index. Keys are not part of it: they come from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct ElasticsearchConfig {
    /// Addresses of nodes of one cluster, e.g. `http://localhost:9200`.
    pub endpoints: Vec<String>,
    /// Index, alias or pattern.
    pub index: String,
    /// Elasticsearch or OpenSearch.
    #[serde(default)]
    pub dialect: ElasticsearchDialect,
    /// Field of titles; empty where the first line of the text is the title.
    #[serde(default = "default_title_field")]
    pub title_field: String,
    /// Field of texts.
    #[serde(default = "default_text_field")]
    pub text_field: String,
    /// Weight of matches in titles.
    #[serde(default = "default_title_boost")]
    #[garde(custom(check::positive))]
    pub title_boost: f64,
    /// Search by vectors instead of words.
    #[serde(default)]
    #[garde(dive)]
    pub vector: Option<VectorField>,
    /// Environment variable that holds the API key, e.g. `ELASTICSEARCH_API_KEY`; without one, no key
    /// is sent.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

pub(super) fn default_title_field() -> String {
    "title".to_owned()
}

pub(super) fn default_text_field() -> String {
    "text".to_owned()
}

fn default_title_boost() -> f64 {
    2.0
}

impl ElasticsearchConfig {
    /// An index of a node with default settings.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, index: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            index: index.into(),
            dialect: ElasticsearchDialect::default(),
            title_field: default_title_field(),
            text_field: default_text_field(),
            title_boost: default_title_boost(),
            vector: None,
            key_variable: None,
            http: HttpConfig::default(),
        }
    }
}

/// Search by an index of Elasticsearch or OpenSearch, one request a query.
///
/// Blank queries find nothing and are not sent. A reply from some of the shards is an error, not fewer
/// documents.
///
/// # References
///
/// - Elasticsearch: [search](https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-search),
///   [mapping](https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-get-mapping);
///   OpenSearch: [k-NN](https://docs.opensearch.org/latest/query-dsl/specialized/k-nn/index/)
#[derive(Debug)]
pub struct ElasticsearchEngine {
    client: HttpClient,
    embedder: Option<Arc<dyn Embedder>>,
    config: ElasticsearchConfig,
    place: String,
}

impl ElasticsearchEngine {
    /// An engine over the index of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails when an address or a name cannot be used, and, naming the variable, when the environment
    /// has no key.
    pub fn new(config: ElasticsearchConfig, ledger: Arc<Ledger>) -> Result<Self, ServerError> {
        let index = path_segment(&config.index)?.to_owned();
        let place = format!("{NAME} index `{index}`");
        let failed = |error| ServerError::Http { place: place.clone(), source: Arc::new(error) };
        let prefix = "ApiKey ";
        let place_of_key = KeyPlace::Header { name: "Authorization", prefix };
        let key = ApiKey::placed(config.key_variable.as_deref(), place_of_key).map_err(failed)?;
        let urls: Vec<String> = config
            .endpoints
            .iter()
            .map(|it| format!("{}/{index}", it.trim_end_matches('/')))
            .collect();
        let client = HttpClient::new(NAME, &urls, key, config.http.clone(), Arc::clone(&ledger));
        let client = client.map_err(failed)?;
        let embedder = match &config.vector {
            None => None,
            Some(vector) => {
                let server =
                    EmbeddingServer::new(vector.embedder.clone(), ledger).map_err(failed)?;
                Some(Arc::new(server) as Arc<dyn Embedder>)
            }
        };
        Ok(Self { client, embedder, config, place })
    }

    /// The same with another embedder of queries.
    #[must_use]
    pub fn with_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    /// Asks the server for its mapping, and compares fields, types and the length of vectors.
    ///
    /// # Errors
    ///
    /// Fails when the server is out of reach, or the index is not there or is another one than the
    /// settings say.
    pub fn check(&self) -> Result<(), ServerError> {
        let sent = HttpRequest { path: "/_mapping", ..HttpRequest::default() };
        let failed = |error: HttpError| ServerError::Http {
            place: self.place.clone(),
            source: Arc::new(error),
        };
        let mappings = self.client.send(&sent, read_mappings).map_err(failed)?;
        // A name may stand for several indices; the embedder is asked once.
        let mut embedded = None;
        for fields in mappings {
            if let (Some(vector), Some(embedder)) = (&self.config.vector, &self.embedder) {
                let field = self.field(&fields, &vector.field, "vector.field")?;
                let (of_type, length) = match self.config.dialect {
                    ElasticsearchDialect::Elasticsearch => ("dense_vector", "dims"),
                    ElasticsearchDialect::Opensearch => ("knn_vector", "dimension"),
                };
                self.expect_type(field, &vector.field, "vector.field", &[of_type], of_type)?;
                let embedded = match embedded {
                    Some(known) => known,
                    None => *embedded.insert(dimension(embedder.as_ref(), &self.place)?),
                };
                match field.get(length).and_then(Value::as_u64) {
                    Some(index) if index != embedded as u64 => {
                        let place = self.place.clone();
                        return Err(ServerError::Dimension { place, index, embedder: embedded });
                    }
                    _ => {}
                }
                self.field(&fields, &self.config.text_field, "text_field")?;
                continue;
            }
            for (name, setting) in
                [(&self.config.title_field, "title_field"), (&self.config.text_field, "text_field")]
            {
                if !name.is_empty() {
                    let field = self.field(&fields, name, setting)?;
                    self.expect_type(field, name, setting, &TEXT_TYPES, "text")?;
                }
            }
        }
        Ok(())
    }

    /// A field of a mapping, by its path.
    fn field<'a>(
        &self,
        fields: &'a Map<String, Value>,
        path: &str,
        setting: &'static str,
    ) -> Result<&'a Value, ServerError> {
        let mut names = path.split('.');
        let first = names.next().and_then(|it| fields.get(it));
        let inner = |field: &'a Value, name: &str| {
            ["properties", "fields"].iter().find_map(|it| field.get(it)?.get(name))
        };
        first.and_then(|it| names.try_fold(it, inner)).ok_or_else(|| ServerError::NoField {
            place: self.place.clone(),
            field: path.to_owned(),
            setting,
            known: listed(fields.keys()),
        })
    }

    fn expect_type(
        &self,
        field: &Value,
        path: &str,
        setting: &'static str,
        types: &[&str],
        wanted: &'static str,
    ) -> Result<(), ServerError> {
        let found = field.get("type").and_then(Value::as_str).unwrap_or("object");
        match types.contains(&found) {
            true => Ok(()),
            false => Err(ServerError::FieldType {
                place: self.place.clone(),
                field: path.to_owned(),
                setting,
                found: found.to_owned(),
                wanted,
            }),
        }
    }

    fn fields(&self) -> DocumentFields<'_> {
        DocumentFields { title: &self.config.title_field, text: &self.config.text_field }
    }

    /// The query by words.
    fn words(&self, request: &SearchRequest<'_>) -> Value {
        let ElasticsearchConfig { title_field, text_field, title_boost, .. } = &self.config;
        let query = request.query;
        let query = match title_field.as_str() {
            "" => json!({ "match": { text_field: { "query": query } } }),
            title => {
                let fields = [format!("{title}^{title_boost}"), text_field.clone()];
                json!({ "multi_match": { "query": query, "fields": fields } })
            }
        };
        json!({ "query": query })
    }

    /// The query by a vector.
    fn nearest(&self, vector: &[f32], field: &VectorField, k: usize) -> Value {
        let VectorField { field, num_candidates, .. } = field;
        match self.config.dialect {
            ElasticsearchDialect::Elasticsearch => json!({ "knn": {
                "field": field, "query_vector": vector, "k": k,
                "num_candidates": k.max(*num_candidates),
            } }),
            ElasticsearchDialect::Opensearch => {
                json!({ "query": { "knn": { field: { "vector": vector, "k": k } } } })
            }
        }
    }

    fn send(&self, mut body: Value, request: &SearchRequest<'_>) -> SearchResult {
        body["size"] = request.k.into();
        let fields = [&self.config.title_field, &self.config.text_field];
        body["_source"] = fields.into_iter().filter(|it| !it.is_empty()).cloned().collect();
        let (body, seed) = (Some(body.to_string()), request.seed);
        let sent = HttpRequest { path: "/_search", body, seed, ..HttpRequest::default() };
        let read = |text: &str| read_hits(text, &self.fields());
        found(NAME, request, self.client.send(&sent, read))
    }

    fn answer(&self, requests: &[&SearchRequest<'_>]) -> Vec<SearchResult> {
        let (Some(field), Some(embedder)) = (&self.config.vector, &self.embedder) else {
            return self.client.for_each(requests, |it| self.send(self.words(it), it));
        };
        let vectors = vectors(embedder.as_ref(), requests).into_iter();
        let embedded: Vec<_> = vectors.zip(requests).collect();
        self.client.for_each(&embedded, |(vector, request)| match vector {
            Ok(vector) => self.send(self.nearest(vector, field, request.k), request),
            Err(error) => Err(error.repeated()),
        })
    }
}

impl SearchEngine for ElasticsearchEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        answer_all(requests, |it| self.answer(it))
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

/// Fields of every index that a name stands for.
fn read_mappings(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let reply: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a mapping: {error}"))?;
    let fields = |it: &Value| {
        let fields = it.pointer("/mappings/properties").and_then(Value::as_object);
        fields.cloned().unwrap_or_default()
    };
    Ok(reply.values().map(fields).collect())
}

/// Documents of the hits of a whole reply.
fn read_hits(text: &str, fields: &DocumentFields<'_>) -> Result<Documents, String> {
    let reply: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if reply.get("timed_out").and_then(Value::as_bool) == Some(true) {
        return Err("the search timed out on the server".to_owned());
    }
    let of_shards = |it: &str| reply.pointer(&format!("/_shards/{it}")).and_then(Value::as_u64);
    if let Some(failed @ 1..) = of_shards("failed") {
        let reason = reply.pointer("/_shards/failures/0/reason/reason").and_then(Value::as_str);
        let (total, reason) =
            (of_shards("total").unwrap_or_default(), reason.unwrap_or("no reason"));
        return Err(format!("{failed} of {total} shards failed: {reason}"));
    }
    let hits = reply.pointer("/hits/hits").and_then(Value::as_array);
    let hits = hits.ok_or("not {\"hits\": {\"hits\": [..]}}")?;
    let document = |hit: &Value| {
        let score = hit.get("_score").and_then(Value::as_f64);
        let source = hit.get("_source").unwrap_or(&Value::Null);
        fields.document(hit.get("_id").unwrap_or(&Value::Null), source, score)
    };
    Ok(hits.iter().map(document).collect())
}

#[cfg(test)]
mod tests;
