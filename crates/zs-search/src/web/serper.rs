//! Serper: `POST /search`, the key in a header.

use serde_json::{Value, json};
use zs_core::Document;

use super::{Dialect, Query, own_error, result, results};
use crate::http::{HttpRequest, KeyPlace};

pub(super) const DIALECT: Dialect = Dialect {
    name: "serper",
    url: Some("https://google.serper.dev"),
    key: Some(("SERPER_API_KEY", KeyPlace::Header { name: "X-API-KEY", prefix: "" })),
    request,
    read,
};

fn request(query: &Query<'_>) -> HttpRequest {
    HttpRequest {
        path: "/search",
        body: Some(json!({ "q": query.text, "num": query.k }).to_string()),
        ..HttpRequest::default()
    }
}

/// The answer box, where there is one, and then the organic results.
fn read(reply: &Value) -> Result<Vec<Document>, String> {
    if let Some(error) = own_error(reply) {
        return Err(error);
    }
    let answer = reply.get("answerBox");
    let answer = answer.and_then(|it| result(it, "title", "link", &["answer", "snippet"]));
    let organic = results(reply, &["organic"], "title", "link", "snippet")?;
    Ok(answer.into_iter().chain(organic).collect())
}
