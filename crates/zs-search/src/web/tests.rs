//! Every provider against replies of its documented form, from a real server on the loopback.

use zs_core::{DocumentQuality, Question, SearchError};

use super::*;
use crate::conformance::check_engine;
use crate::http::testing::{CannedResponse, Received, TestServer, config};

const KEY: &str = "k3y-0f-s0me0ne";

fn engine(server: &TestServer, provider: WebProvider) -> WebEngine {
    let config = WebConfig { url: Some(server.url()), http: config(), ..WebConfig::new(provider) };
    let place = provider.dialect().key.map(|(_, place)| (ApiKey::new(KEY), place));
    WebEngine::with_key(&config, place, "cse-1".to_owned(), Arc::default()).unwrap()
}

fn search(engine: &WebEngine, query: &str, k: usize) -> SearchResult {
    let question = Question::new("q", "?", ["a"]);
    let quality = DocumentQuality::Useful;
    engine.search(SearchRequest { query, question: &question, quality, read: &[], k, seed: 0 })
}

/// Checks the request for `bamboo & co`, and the reading of a reply.
#[track_caller]
fn check(
    provider: WebProvider,
    k: usize,
    sent: &[&str],
    reply: &'static str,
    expected: &[(&str, &str, &str)],
) {
    let sent: Vec<String> = sent.iter().map(|it| (*it).to_owned()).collect();
    let server = TestServer::start(move |_, received: &Received| {
        let all = format!("{}\n{}\n{}", received.target, received.headers, received.body);
        match sent.iter().find(|it| !all.contains(it.as_str())) {
            Some(missing) => CannedResponse::status(400, &format!("no {missing} in {all}")),
            None => CannedResponse::ok(reply),
        }
    });
    let found = search(&engine(&server, provider), " bamboo & co ", k).unwrap();
    let found: Vec<_> =
        found.iter().map(|it| (it.id.as_str(), it.title.as_str(), it.text.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn requests_and_replies_are_as_documented() {
    check(
        WebProvider::Serpapi,
        2,
        &["/search.json?engine=google&q=bamboo%20%26%20co&num=2&api_key=k3y-0f-s0me0ne"],
        r#"{"search_metadata": {"status": "Success"},
            "answer_box": {"title": "Bamboo", "answer": "A grass", "link": "https://a"},
            "organic_results": [
              {"position": 1, "title": "One", "link": "https://b", "snippet": "First."},
              {"position": 2, "title": "Two", "link": "https://c", "snippet": "Second."}]}"#,
        &[("https://a", "Bamboo", "A grass"), ("https://b", "One", "First.")],
    );
    check(
        WebProvider::Serpapi,
        2,
        &[],
        r#"{"error": "Google hasn't returned any results for this query."}"#,
        &[],
    );
    check(
        WebProvider::Serper,
        3,
        &["/search\n", "x-api-key: k3y-0f-s0me0ne", r#"{"q":"bamboo & co","num":3}"#],
        r#"{"searchParameters": {"q": "x"}, "organic": [
              {"title": "One", "link": "https://b", "snippet": "First.", "position": 1},
              {"title": "Bare", "link": "https://c", "position": 2},
              {"position": 3}]}"#,
        &[("https://b", "One", "First."), ("https://c", "Bare", "Bare")],
    );
    check(
        WebProvider::Brave,
        30,
        &["q=bamboo%20%26%20co&count=20", "x-subscription-token: k3y-0f-s0me0ne"],
        r#"{"type": "search", "web": {"results": [
              {"title": "One", "url": "https://b", "description": "A <strong>grass</strong> &amp; more"}]}}"#,
        &[("https://b", "One", "A grass & more")],
    );
    check(WebProvider::Brave, 3, &[], r#"{"type": "search"}"#, &[]);
    check(
        WebProvider::GoogleCse,
        12,
        &["/customsearch/v1?cx=cse-1&q=bamboo%20%26%20co&num=10&key=k3y-0f-s0me0ne"],
        r#"{"kind": "customsearch#search", "items": [
              {"title": "One", "link": "https://b", "snippet": "First\n line."}]}"#,
        &[("https://b", "One", "First line.")],
    );
    check(
        WebProvider::Searxng,
        1,
        &["/search?q=bamboo%20%26%20co&format=json"],
        r#"{"query": "x", "results": [
              {"title": "One", "url": "https://b", "content": "First.", "score": 1.0},
              {"title": "Two", "url": "https://c", "content": "Second."}]}"#,
        &[("https://b", "One", "First.")],
    );
}

#[test]
fn nulls_are_keys_left_out() {
    let one = &[("", "One", "One")];
    let row =
        r#"[null, {"title": "One", "link": null, "url": null, "snippet": null, "content": null}]"#;
    for (provider, list) in [
        (WebProvider::Serpapi, "organic_results"),
        (WebProvider::Serper, "organic"),
        (WebProvider::GoogleCse, "items"),
        (WebProvider::Searxng, "results"),
    ] {
        let reply = format!(
            "{{\"error\": null, \"answer_box\": null, \"answerBox\": null, \"{list}\": {row}}}"
        );
        check(provider, 3, &[], Box::leak(reply.into_boxed_str()), one);
    }
    let reply = r#"{"error": null, "web": {"results": [{"title": "One", "description": null}]}}"#;
    check(WebProvider::Brave, 3, &[], reply, one);
    check(WebProvider::Brave, 3, &[], r#"{"web": null}"#, &[]);
    check(WebProvider::Serper, 3, &[], r#"{"organic": null}"#, &[]);
}

#[test]
fn every_provider_keeps_the_contract() {
    for provider in ALL {
        let server = TestServer::start(|number, _| {
            let row = r#"{"title": "T", "link": "l", "url": "l", "snippet": "x", "content": "x"}"#;
            match number % 4 {
                3 => CannedResponse::status(500, "broken"),
                _ => CannedResponse::ok(&format!(
                    r#"{{"organic_results": [{row}], "organic": [{row}], "items": [{row}],
                         "results": [{row}], "web": {{"results": [{row}]}}}}"#
                )),
            }
        });
        check_engine(&engine(&server, provider));
    }
}

const ALL: [WebProvider; 5] = [
    WebProvider::Serpapi,
    WebProvider::Serper,
    WebProvider::Brave,
    WebProvider::GoogleCse,
    WebProvider::Searxng,
];

/// Not in errors with all their causes, in debug output, in documents, or in the books, also where
/// a server repeats what it was sent.
#[test]
fn keys_are_never_shown() {
    for provider in ALL.into_iter().filter(|it| it.dialect().key.is_some()) {
        let echo = |received: &Received| {
            format!("{} {}", received.target, received.headers).replace(['"', '\n'], " ")
        };
        let refusing =
            TestServer::start(move |_, received| CannedResponse::status(403, &echo(received)));
        let first = engine(&refusing, provider);
        let error = search(&first, "x", 1).unwrap_err();
        assert!(matches!(error, SearchError::Engine { .. }));
        let mut said = format!("{first:?} {error:?} {error}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(it) = cause {
            said.push_str(&it.to_string());
            cause = it.source();
        }
        assert!(said.contains("403") && said.contains("[redacted]"), "{said}");

        let erring = TestServer::start(move |_, received| {
            CannedResponse::ok(&format!("{{\"error\": \"{}\"}}", echo(received)))
        });
        said.push_str(&format!("{:?}", search(&engine(&erring, provider), "x", 1)));
        let garbling = TestServer::start(move |_, received| CannedResponse::ok(&echo(received)));
        said.push_str(&format!("{:?}", search(&engine(&garbling, provider), "x", 1)));
        let gone = engine(&TestServer::start(|_, _| CannedResponse::ok("")), provider);
        said.push_str(&format!("{:?}", search(&gone, "x", 1)));

        let showing = TestServer::start(move |_, received| {
            let row = format!(
                "{{\"title\": \"t\", \"snippet\": \"{0}\", \"description\": \"{0}\"}}",
                echo(received)
            );
            CannedResponse::ok(&format!(
                "{{\"organic_results\": [{row}], \"organic\": [{row}], \"items\": [{row}], \
                   \"web\": {{\"results\": [{row}]}}}}"
            ))
        });
        let second = engine(&showing, provider);
        let documents = search(&second, "x", 1).unwrap();
        assert!(documents[0].text.contains("[redacted]"), "{documents:?}");
        said.push_str(&format!("{documents:?} {:?}", second.client.ledger().totals()));
        assert!(!said.contains(KEY), "{said}");
    }
    let config = WebConfig { key_variable: Some("ZS_NO_SUCH".into()), ..WebConfig::new(ALL[1]) };
    let error = WebEngine::new(&config, Arc::default()).unwrap_err().to_string();
    assert!(error.contains("ZS_NO_SUCH"), "{error}");
}
