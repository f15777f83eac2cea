//! SearXNG: `GET /search` with `format=json`, no key.

use serde_json::Value;
use zs_core::Document;

use super::{Dialect, Query, own_error, results};
use crate::http::HttpRequest;

pub(super) const DIALECT: Dialect =
    Dialect { name: "searxng", url: None, key: None, request, read };

/// It has no parameter for how many; what is too many is cut.
fn request(query: &Query<'_>) -> HttpRequest {
    HttpRequest {
        path: "/search",
        parameters: vec![("q", query.text.to_owned()), ("format", "json".to_owned())],
        ..HttpRequest::default()
    }
}

fn read(reply: &Value) -> Result<Vec<Document>, String> {
    if let Some(error) = own_error(reply) {
        return Err(error);
    }
    if reply.get("results").is_none_or(Value::is_null) {
        return Err("it has no `results`".to_owned());
    }
    results(reply, &["results"], "title", "url", "content")
}
