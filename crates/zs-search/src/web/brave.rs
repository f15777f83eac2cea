//! Brave Search: `GET /res/v1/web/search`, the key in a header.

use serde_json::Value;
use zs_core::Document;

use super::{Dialect, Query, own_error, results};
use crate::http::{HttpRequest, KeyPlace};

/// Results of one request at most.
const MAX_COUNT: usize = 20;

pub(super) const DIALECT: Dialect = Dialect {
    name: "brave",
    url: Some("https://api.search.brave.com"),
    key: Some(("BRAVE_API_KEY", KeyPlace::Header { name: "X-Subscription-Token", prefix: "" })),
    request,
    read,
};

fn request(query: &Query<'_>) -> HttpRequest {
    HttpRequest {
        path: "/res/v1/web/search",
        parameters: vec![
            ("q", query.text.to_owned()),
            ("count", query.k.min(MAX_COUNT).to_string()),
            ("text_decorations", "false".to_owned()),
        ],
        ..HttpRequest::default()
    }
}

fn read(reply: &Value) -> Result<Vec<Document>, String> {
    if let Some(error) = own_error(reply) {
        return Err(error);
    }
    results(reply, &["web", "results"], "title", "url", "description")
}
