//! Contract of every search engine, as checks that an implementation's tests call.

use rand::RngExt;
use zs_core::{
    DocumentQuality, Domain, EngineScope, Question, SearchEngine, SearchRequest, SearchResult,
    StreamKey,
};

/// Checks an engine against the contract of [`SearchEngine`]: one result a request in the order of
/// the requests, at most `k` documents with some text each, no panic on any query, no request that
/// spoils another, and, where the engine says that it is deterministic, the same result for the
/// same request whatever else is in the batch.
///
/// Failing a request is allowed; how is the engine's business.
///
/// ```
/// use zs_core::Document;
/// use zs_search::{FixedEngine, conformance::check_engine};
///
/// check_engine(&FixedEngine::new(vec![Document::new("Bamboo", "A grass.")]));
/// ```
///
/// # Panics
///
/// Panics, saying what is wrong, when the engine breaks the contract.
pub fn check_engine(engine: &dyn SearchEngine) {
    assert!(!engine.name().is_empty(), "an engine has a name");
    assert!(engine.search_batch(&[]).is_empty(), "no request, no result");
    let questions = questions();
    let queries = queries();
    for k in [1, 2, 3, 5, 20] {
        check_batch(engine, &requests(&questions, &queries, k));
    }
    for k in 1..=20 {
        check_batch(engine, &requests(&questions, &queries[..2], k));
    }
    check_duplicates(engine, &questions[0]);
    if engine.is_deterministic() && engine.scope() == EngineScope::Query {
        check_scope(engine, &questions);
    }
}

/// Checks that a query which fails, whatever the engine finds wrong with it, fails alone: other
/// requests of its batch are answered as without it.
///
/// ```
/// use zs_core::Document;
/// use zs_search::conformance::check_failure_is_contained;
/// use zs_search::{FaultyEngine, FixedEngine};
///
/// let engine = FixedEngine::new(vec![Document::new("Bamboo", "A grass.")]);
/// let engine = FaultyEngine::new(engine, |request| request.query == "bad");
/// check_failure_is_contained(&engine, "bad");
/// ```
///
/// # Panics
///
/// Panics, saying what is wrong, when the query does not fail or another one does.
pub fn check_failure_is_contained(engine: &dyn SearchEngine, failing: &str) {
    let name = engine.name();
    let questions = questions();
    for place in 0..7 {
        let queries: Vec<String> = (0..7)
            .map(|index| if index == place { failing.to_owned() } else { format!("film {index}") })
            .collect();
        let requests = requests(&questions, &queries, 3);
        let results = engine.search_batch(&requests);
        assert_eq!(results.len(), 7, "{name}: one result a request");
        for (index, result) in results.iter().enumerate() {
            assert_eq!(result.is_err(), index == place, "{name}: item {index} of 7: {result:?}");
        }
    }
}

/// Checks that a query never meets another question's answer: whatever requests are shuffled, left
/// out (episodes that do not search) or gone (episodes that are finished), no document of a request
/// holds the golden answer of another one.
///
/// ```
/// use zs_core::Document;
/// use zs_search::{FixedEngine, conformance::check_own_question};
///
/// check_own_question(&FixedEngine::new(vec![Document::new("Bamboo", "A grass.")]));
/// ```
///
/// # Panics
///
/// Panics, naming both, when a request got the documents of another.
pub fn check_own_question(engine: &dyn SearchEngine) {
    const COUNT: usize = 24;
    let name = engine.name();
    let marker = |index: usize| format!("zq{index}zq");
    let questions: Vec<Question> = (0..COUNT)
        .map(|it| Question::new(format!("q{it}"), format!("What is number {it}?"), [marker(it)]))
        .collect();
    let queries: Vec<String> = (0..COUNT).map(|it| format!("query {it}")).collect();
    for turn in 0..8 {
        let mut rng = StreamKey { turn, ..StreamKey::new(1) }.rng(Domain::Search);
        // Fewer and fewer episodes go on, and of those some do not search.
        let mut places: Vec<usize> = (0..COUNT)
            .filter(|_| rng.random_range(0..10) >= turn && rng.random_range(0..5) > 0)
            .collect();
        for index in (1..places.len()).rev() {
            places.swap(index, rng.random_range(0..=index));
        }
        let requests: Vec<SearchRequest<'_>> = places
            .iter()
            .map(|&place| SearchRequest {
                query: &queries[place],
                question: &questions[place],
                quality: [DocumentQuality::Useful, DocumentQuality::Noisy][place % 2],
                read: &[],
                k: 3,
                seed: u64::from(turn) * 100 + place as u64,
            })
            .collect();
        for (&place, result) in places.iter().zip(engine.search_batch(&requests)) {
            for document in result.iter().flatten() {
                let foreign = (0..COUNT)
                    .filter(|it| *it != place)
                    .find(|it| document.text.contains(&marker(*it)));
                assert!(foreign.is_none(), "{name}: query {place} got the answer of {foreign:?}");
            }
        }
    }
}

/// An engine that says it reads nothing but the query must not.
fn check_scope(engine: &dyn SearchEngine, questions: &[Question]) {
    let quality = DocumentQuality::Useful;
    let query = "film director";
    let read = [zs_core::Document::new("read", "before")];
    let plain = SearchRequest { query, question: &questions[0], quality, read: &[], k: 3, seed: 1 };
    let other = SearchRequest {
        question: &questions[1],
        quality: DocumentQuality::Noisy,
        read: &read,
        seed: 2,
        ..plain
    };
    let results = engine.search_batch(&[plain, other]);
    assert_same(&results[0], &results[1], "the same query for another question");
}

/// Queries that have broken engines: empty, blank, very long, of other scripts, of operators.
#[must_use]
pub fn queries() -> Vec<String> {
    let long = "what is the capital of the country ".repeat(200);
    let fixed = [
        "who directed the film",
        "",
        "   \n\t",
        "?",
        "the of and",
        "état d'Ohio — 東京 🎬 ß İ",
        "title:foo AND (bar OR \"baz\") -qux^2 [a TO b] *:* \\ / ~",
        "<search> </search> <|im_end|> {{ query }}",
        "a\u{0}b\u{feff}\u{202e}",
        "born in 1987",
    ];
    fixed.into_iter().map(str::to_owned).chain([long, "x".repeat(70_000)]).collect()
}

fn questions() -> Vec<Question> {
    let question = |id: &str, answers: &[&str]| {
        Question::new(id, format!("Who is {id}?"), answers.iter().copied())
    };
    vec![question("a", &["Anna"]), question("b", &["Boris", "B."]), question("none", &[])]
}

fn requests<'a>(
    questions: &'a [Question],
    queries: &'a [String],
    k: usize,
) -> Vec<SearchRequest<'a>> {
    let qualities = [DocumentQuality::Useful, DocumentQuality::Noisy];
    let numbered = queries.iter().enumerate();
    numbered
        .map(|(index, query)| SearchRequest {
            query,
            question: &questions[index % questions.len()],
            quality: qualities[index % 2],
            read: &[],
            k,
            seed: index as u64,
        })
        .collect()
}

fn check_batch(engine: &dyn SearchEngine, requests: &[SearchRequest<'_>]) {
    let name = engine.name();
    let results = engine.search_batch(requests);
    assert_eq!(results.len(), requests.len(), "{name}: one result a request");
    for (request, result) in requests.iter().zip(&results) {
        let query = shorten(request.query);
        let Ok(documents) = result else { continue };
        assert!(documents.len() <= request.k, "{name}: more than k documents for `{query}`");
        for it in documents {
            assert!(!it.text.trim().is_empty(), "{name}: a document without text for `{query}`");
        }
    }
    if !engine.is_deterministic() {
        return;
    }
    let again = engine.search_batch(requests);
    let backwards: Vec<SearchRequest<'_>> = requests.iter().rev().copied().collect();
    let mut backwards = engine.search_batch(&backwards);
    backwards.reverse();
    for (index, request) in requests.iter().enumerate() {
        let query = shorten(request.query);
        let alone = engine.search_batch(&[*request]);
        assert_eq!(alone.len(), 1, "{name}: one result for one request");
        for (other, what) in [
            (&again[index], "again"),
            (&backwards[index], "in another order"),
            (&alone[0], "alone"),
        ] {
            assert_same(&results[index], other, &format!("{name}: `{query}` {what}"));
        }
    }
}

fn check_duplicates(engine: &dyn SearchEngine, question: &Question) {
    let quality = DocumentQuality::Useful;
    let request =
        SearchRequest { query: "film director", question, quality, read: &[], k: 3, seed: 7 };
    let results = engine.search_batch(&[request; 5]);
    assert_eq!(results.len(), 5, "{}: one result a request, repeated or not", engine.name());
    if engine.is_deterministic() {
        for result in &results {
            assert_same(&results[0], result, "the same request five times");
        }
    }
}

fn assert_same(a: &SearchResult, b: &SearchResult, what: &str) {
    match (a, b) {
        (Ok(a), Ok(b)) => assert_eq!(a, b, "{what} gives other documents"),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string(), "{what} gives another error"),
        _ => panic!("{what} fails once and works once: {a:?}, {b:?}"),
    }
}

fn shorten(query: &str) -> String {
    query.chars().take(40).collect()
}
