//! SerpAPI: `GET /search.json`, the key among the parameters.

use serde_json::Value;
use zs_core::Document;

use super::{Dialect, Query, own_error, result, results};
use crate::http::{HttpRequest, KeyPlace};

pub(super) const DIALECT: Dialect = Dialect {
    name: "serpapi",
    url: Some("https://serpapi.com"),
    key: Some(("SERPAPI_API_KEY", KeyPlace::Parameter("api_key"))),
    request,
    read,
};

fn request(query: &Query<'_>) -> HttpRequest {
    HttpRequest {
        path: "/search.json",
        parameters: vec![
            ("engine", "google".to_owned()),
            ("q", query.text.to_owned()),
            ("num", query.k.to_string()),
        ],
        ..HttpRequest::default()
    }
}

/// The answer box, where there is one, and then the organic results.
fn read(reply: &Value) -> Result<Vec<Document>, String> {
    if let Some(error) = own_error(reply) {
        // This is how it says that it found nothing.
        return if error.contains("hasn't returned any results") {
            Ok(Vec::new())
        } else {
            Err(error)
        };
    }
    let answer = reply.get("answer_box");
    let answer = answer.and_then(|it| result(it, "title", "link", &["answer", "snippet"]));
    let organic = results(reply, &["organic_results"], "title", "link", "snippet")?;
    Ok(answer.into_iter().chain(organic).collect())
}
