//! Google's Programmable Search: `GET /customsearch/v1`, the key among the parameters.

use serde_json::Value;
use zs_core::Document;

use super::{Dialect, Query, own_error, results};
use crate::http::{HttpRequest, KeyPlace};

/// Results of one request at most.
const MAX_COUNT: usize = 10;

pub(super) const DIALECT: Dialect = Dialect {
    name: "google_cse",
    url: Some("https://www.googleapis.com"),
    key: Some(("GOOGLE_API_KEY", KeyPlace::Parameter("key"))),
    request,
    read,
};

fn request(query: &Query<'_>) -> HttpRequest {
    HttpRequest {
        path: "/customsearch/v1",
        parameters: vec![
            ("cx", query.engine_id.to_owned()),
            ("q", query.text.to_owned()),
            ("num", query.k.min(MAX_COUNT).to_string()),
        ],
        ..HttpRequest::default()
    }
}

fn read(reply: &Value) -> Result<Vec<Document>, String> {
    if let Some(error) = own_error(reply) {
        return Err(error);
    }
    results(reply, &["items"], "title", "link", "snippet")
}
