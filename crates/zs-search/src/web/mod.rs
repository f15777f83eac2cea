//! Live web search, through the providers that people have keys for, or their own SearXNG.

mod brave;
mod google_cse;
mod searxng;
mod serpapi;
mod serper;

use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zs_core::{Document, EngineScope, SearchEngine, SearchRequest, SearchResult};

use crate::Ledger;
use crate::http::{ApiKey, HttpClient, HttpConfig, HttpError, HttpRequest, KeyPlace};
use crate::retriever::{shown, text};

/// Provider of web search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebProvider {
    /// [SerpAPI](https://serpapi.com/search-api): Google's results; key in `SERPAPI_API_KEY`.
    Serpapi,
    /// [Serper](https://serper.dev): Google's results; key in `SERPER_API_KEY`.
    Serper,
    /// [Brave Search](https://api-dashboard.search.brave.com); key in `BRAVE_API_KEY`.
    Brave,
    /// [Google's Programmable Search](https://developers.google.com/custom-search/v1/overview), ten
    /// results at most; key in `GOOGLE_API_KEY`, engine in `GOOGLE_CSE_ID`. Google takes no new
    /// customers for it and has announced its end for January 1, 2027.
    GoogleCse,
    /// [SearXNG](https://docs.searxng.org/dev/search_api.html) of one's own, with `json` among its
    /// `search.formats`; no key.
    Searxng,
}

/// Differences between providers.
struct Dialect {
    name: &'static str,
    /// Address of the provider; SearXNG is wherever its owner says.
    url: Option<&'static str>,
    key: Option<(&'static str, KeyPlace)>,
    request: fn(&Query<'_>) -> HttpRequest,
    /// The documents of a reply, or why it is none.
    read: fn(&Value) -> Result<Vec<Document>, String>,
}

/// Inputs of a request.
struct Query<'a> {
    text: &'a str,
    k: usize,
    /// Google's search engine; empty for others.
    engine_id: &'a str,
}

impl WebProvider {
    fn dialect(self) -> Dialect {
        match self {
            Self::Serpapi => serpapi::DIALECT,
            Self::Serper => serper::DIALECT,
            Self::Brave => brave::DIALECT,
            Self::GoogleCse => google_cse::DIALECT,
            Self::Searxng => searxng::DIALECT,
        }
    }

    /// Dollars that a thousand searches cost at the provider's published entry price, as of 2025;
    /// 0 for one's own.
    #[must_use]
    pub fn dollars_per_1000(self) -> f64 {
        match self {
            Self::Serpapi => 15.0,
            Self::Serper => 1.0,
            Self::Brave | Self::GoogleCse => 5.0,
            Self::Searxng => 0.0,
        }
    }

    /// All providers.
    pub const ALL: [Self; 5] =
        [Self::Serpapi, Self::Serper, Self::Brave, Self::GoogleCse, Self::Searxng];

    /// The environment variable of the provider's key; `None` for one's own.
    #[must_use]
    pub fn key_variable(self) -> Option<&'static str> {
        self.dialect().key.map(|(variable, _)| variable)
    }

    /// The provider's name in books and errors, e.g. `"serper"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.dialect().name
    }
}

/// Settings of a web provider. Keys are not part of it: they come from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct WebConfig {
    /// Provider.
    pub provider: WebProvider,
    /// Another address than the provider's own: a proxy's, or that of one's SearXNG.
    #[serde(default)]
    pub url: Option<String>,
    /// Another environment variable than the provider's own to read the key from.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// Deadlines, retries and limits.
    #[serde(default)]
    #[garde(dive)]
    pub http: HttpConfig,
}

impl WebConfig {
    /// A provider at its own address.
    #[must_use]
    pub fn new(provider: WebProvider) -> Self {
        Self { provider, url: None, key_variable: None, http: HttpConfig::default() }
    }
}

/// The environment variable that names Google's search engine.
const ENGINE_VARIABLE: &str = "GOOGLE_CSE_ID";

/// Live web search: each result's title and the snippet that the provider shows, with the link as
/// identifier. Blank queries find nothing and are not sent.
#[derive(Debug)]
pub struct WebEngine {
    provider: WebProvider,
    client: HttpClient,
    engine_id: String,
}

impl WebEngine {
    /// An engine with the key of the environment; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails, naming the variable, when the environment has no key, when the address cannot be
    /// used, and when there is none for SearXNG.
    pub fn new(config: &WebConfig, ledger: Arc<Ledger>) -> Result<Self, HttpError> {
        let dialect = config.provider.dialect();
        let key = match dialect.key {
            None => None,
            Some((variable, place)) => {
                let variable = config.key_variable.as_deref().unwrap_or(variable);
                Some((ApiKey::from_env(variable)?, place))
            }
        };
        let engine_id = match config.provider {
            WebProvider::GoogleCse => std::env::var(ENGINE_VARIABLE)
                .map_err(|_| HttpError::MissingKey { variable: ENGINE_VARIABLE.to_owned() })?,
            _ => String::new(),
        };
        Self::with_key(config, key, engine_id, ledger)
    }

    fn with_key(
        config: &WebConfig,
        key: Option<(ApiKey, KeyPlace)>,
        engine_id: String,
        ledger: Arc<Ledger>,
    ) -> Result<Self, HttpError> {
        let Dialect { name, url, .. } = config.provider.dialect();
        let url = config.url.clone().or(url.map(str::to_owned)).ok_or(HttpError::NoEndpoint)?;
        let client = HttpClient::new(name, &[url], key, config.http.clone(), ledger)?;
        Ok(Self { provider: config.provider, client, engine_id })
    }

    fn answer(&self, request: &SearchRequest<'_>) -> SearchResult {
        if request.k == 0 || request.query.trim().is_empty() {
            return Ok(Vec::new());
        }
        let dialect = self.provider.dialect();
        let query = Query { text: request.query.trim(), k: request.k, engine_id: &self.engine_id };
        let sent = HttpRequest { seed: request.seed, ..(dialect.request)(&query) };
        let read = |text: &str| match serde_json::from_str(text) {
            Ok(reply @ Value::Object(_)) => (dialect.read)(&reply),
            Ok(other) => Err(format!("it is no object: {}", shown(&other))),
            Err(error) => Err(format!("not JSON: {error}")),
        };
        let mut documents = self
            .client
            .send(&sent, read)
            .map_err(|error| error.for_search(dialect.name, request.query))?;
        documents.truncate(request.k);
        Ok(documents)
    }
}

impl SearchEngine for WebEngine {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        self.client.for_each(requests, |it| self.answer(it))
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

/// The results in the list under some keys, by the names that the provider has for title, link and
/// snippet; no list is no result.
fn results(
    reply: &Value,
    keys: &[&str],
    title: &str,
    link: &str,
    snippet: &str,
) -> Result<Vec<Document>, String> {
    let mut list = reply;
    for key in keys {
        list = match list {
            Value::Object(fields) => fields.get(*key).unwrap_or(&Value::Null),
            other => other,
        };
    }
    let rows = match list {
        Value::Null => return Ok(Vec::new()),
        Value::Array(rows) => rows,
        other => return Err(format!("its results are no list: {}", shown(other))),
    };
    let odd = rows.iter().find(|it| !it.is_object() && !it.is_null());
    match odd {
        Some(odd) => Err(format!("a result is no object: {}", shown(odd))),
        None => Ok(rows.iter().filter_map(|it| result(it, title, link, &[snippet])).collect()),
    }
}

/// One result; `None` where it has nothing to read. The first snippet that is there is taken.
fn result(row: &Value, title: &str, link: &str, snippets: &[&str]) -> Option<Document> {
    let text_of = |key: &str| row.get(key).and_then(text).map(|it| plain(&it)).unwrap_or_default();
    let title = text_of(title);
    let snippet = snippets.iter().map(|it| text_of(it)).find(|it| !it.is_empty());
    let text = snippet.unwrap_or_else(|| title.clone());
    (!text.is_empty()).then(|| Document { id: text_of(link), title, text, score: None })
}

/// Text without the mark-up that some providers put around matches, on one line.
fn plain(text: &str) -> String {
    let mut out = text.to_owned();
    for tag in ["<strong>", "</strong>", "<b>", "</b>", "<em>", "</em>", "<br>"] {
        out = out.replace(tag, "");
    }
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ] {
        out = out.replace(entity, character);
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A provider's own word for what went wrong, where a reply of status 200 holds one. A null is none.
fn own_error(reply: &Value) -> Option<String> {
    let error = reply.get("error").filter(|it| !it.is_null())?;
    let message = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    Some(message.unwrap_or("an error without a message").to_owned())
}

#[cfg(test)]
mod tests;
