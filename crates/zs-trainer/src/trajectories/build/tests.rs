//! Sets out of recorded searches, of questions and an engine, and of episodes that were played.

use std::fs;
use std::path::Path;

use zs_core::{Document, SearchRequest, SearchResult, parse_action};
use zs_rl::{DemonstratedTurn, Demonstration};

use super::*;
use crate::trajectories::{SourceEpisode, open_source_episodes};

fn settings(out: &Path) -> TrajectorySettings {
    TrajectorySettings {
        out: out.join("set"),
        exclude: Vec::new(),
        num_documents: 2,
        document_words: None,
        min_searches: 1,
        max_searches: 2,
        max_answer_words: 3,
        max_query_words: 6,
        min_f1: 0.6,
        per_question: 2,
        validation_share: 0.0,
        seed: 1,
    }
}

/// Finds documents whose title begins with a word of the query, or that hold its last word where that
/// is a name.
#[derive(Debug)]
struct Pages(Vec<Document>);

impl SearchEngine for Pages {
    fn name(&self) -> &str {
        "pages"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let find = |request: &SearchRequest<'_>| {
            let last = request.query.split(' ').next_back().unwrap();
            let is_name = last.starts_with(char::is_uppercase);
            let is_found = |it: &&Document| {
                request.query.contains(it.title.split(' ').next().unwrap())
                    || (is_name && it.text.contains(last))
            };
            Ok(self.0.iter().filter(is_found).take(request.k).cloned().collect())
        };
        requests.iter().map(find).collect()
    }
}

fn written(set: &Path) -> Vec<Demonstration> {
    let episodes = open_source_episodes(&set.join("train.jsonl")).unwrap();
    let written = |it: SourceEpisode| match it {
        SourceEpisode::Written(it) => it,
        other => panic!("{other:?}"),
    };
    episodes.flat_map(|it| it.unwrap()).map(written).collect()
}

/// Queries and answer of an episode.
fn actions(episode: &Demonstration) -> Vec<String> {
    let text = |it: &DemonstratedTurn| match parse_action(&it.text) {
        zs_core::Action::Search(text) | zs_core::Action::Answer(text) => text,
        zs_core::Action::Invalid => panic!("{it:?}"),
    };
    episode.turns.iter().map(text).collect()
}

fn counts(manifest: &TrajectoryManifest) -> Vec<(&str, usize)> {
    manifest.dropped.iter().collect()
}

#[test]
fn recorded_searches_are_cut_where_the_answer_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let turn = |query: &str, text: &str| {
        format!(
            r#"{{"query":"{query}","docs":[{{"title":"T","text":"{text}"}},{{"title":"U","text":"u"}},{{"title":"V","text":"Ann"}}]}}"#
        )
    };
    let row = |question: &str, answers: &str, turns: &[String]| {
        format!(
            r#"{{"question":"{question}","golden_answers":{answers},"turns":[{}]}}"#,
            turns.join(",")
        )
    };
    let found = [
        turn("a", "x"),
        turn("</search> b", "Bo"),
        turn("A", "Bo"),
        turn("c", "It was BO."),
        turn("d", "Bo"),
    ];
    let rows = [
        row("who?", r#"["Ann","bo"]"#, &found),
        row("Who", r#"["Ann","bo"]"#, &found),
        row("who?", r#"["bo"]"#, &found[3..]),
        row("who?", r#"["bo"]"#, &found[4..]),
        row("held out", r#"["bo"]"#, &found),
        row("verdict", r#"["yes"]"#, &found[3..4]),
        row("Al or Bo?", r#"["Bo"]"#, &found),
        row("long", r#"["it was bo he said"]"#, &[turn("a", "It was Bo, he said")]),
        row("third", r#"["Ann"]"#, &[turn("a", "x")]),
        row("none", r#"["Ann"]"#, &[turn("one two three four five six seven", "Ann")]),
        row("no answer", "[]", &found),
        "{".to_owned(),
    ];
    fs::write(dir.join("turns.jsonl"), rows.join("\n")).unwrap();
    fs::write(dir.join("test.jsonl"), r#"{"question":"Held out?","answer":"x"}"#).unwrap();
    let settings = TrajectorySettings { exclude: vec![dir.join("test.jsonl")], ..settings(dir) };
    let files = [dir.join("turns.jsonl")];
    let source = TrajectorySource::Turns(&files);
    let manifest = build_trajectories(&source, &settings, &mut |_| {}).unwrap();
    let read = written(&settings.out);
    assert_eq!(
        read.iter().map(actions).collect::<Vec<_>>(),
        [vec!["a", "c", "BO"], vec!["c", "BO"], vec!["a", "c", "Bo"]]
    );
    assert_eq!(read[0].turns[1].documents[0], Document::new("T", "It was BO."));
    assert_eq!(read[0].turns[1].documents.len(), 2);
    assert_eq!((read[0].question.id.as_str(), read[0].question.text.as_str()), ("turns-1", "who?"));
    let expected = [
        ("answer_in_question", 1),
        ("answer_not_found", 1),
        ("duplicate", 1),
        ("enough_of_question", 1),
        ("excluded_question", 1),
        ("long_answer", 1),
        ("no_answer", 1),
        ("no_usable_search", 1),
        ("unreadable_row", 1),
    ];
    assert_eq!(counts(&manifest), expected);
    assert_eq!(manifest.num_read, rows.len());
    assert_eq!(manifest.num_read, read.len() + manifest.dropped.total(), "nothing is lost");
    assert_eq!((manifest.excluded[0].questions, manifest.excluded[0].dropped), (1, 1));
    assert_eq!(manifest.parts["train.jsonl"].by_searches, [(1, 1), (2, 2)].into());
    let dropped = fs::read_to_string(settings.out.join("dropped.jsonl")).unwrap();
    assert_eq!(dropped.lines().count(), manifest.dropped.total());
    assert!(
        dropped.contains(r#"{"question":"verdict","reason":"answer_in_question"}"#),
        "{dropped}"
    );
    assert!(dropped.contains("turns.jsonl, row 12"), "{dropped}");
    let kept: TrajectoryManifest = zs_data::read_json(&settings.out.join("manifest.json")).unwrap();
    assert_eq!(kept, manifest);
    let again = build_trajectories(&source, &settings, &mut |_| {}).unwrap_err().to_string();
    assert!(again.contains("set") && again.contains("other files"), "{again}");
}

#[test]
fn documents_are_cut_before_the_answer_is_looked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let row = r#"{"question":"who?","answer":"Ann","turns":[{"query":"a","docs":[{"text":"It was Ann"}]}]}"#;
    let files = [scratch.path().join("turns.jsonl")];
    fs::write(&files[0], row).unwrap();
    let source = TrajectorySource::Turns(&files);
    let settings = TrajectorySettings { document_words: Some(2), ..settings(scratch.path()) };
    let message = build_trajectories(&source, &settings, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(message, "no episode is left to train on; dropped: answer_not_found 1");
    let settings = TrajectorySettings { document_words: Some(3), ..settings };
    build_trajectories(&source, &settings, &mut |_| {}).unwrap();
}

fn question(text: &str, answer: &str, titles: &[&str]) -> Question {
    let gold_titles = titles.iter().map(|it| (*it).to_owned()).collect();
    Question { gold_titles, ..Question::new(text, text, [answer]) }
}

fn pages() -> Pages {
    let page = |title: &str, text: &str| Document::new(title, text);
    Pages(vec![
        page("Dune (novel)", "Dune was written by Frank Herbert."),
        page("Frank Herbert", "He was born in Tacoma."),
        page("Emma", "Emma was written by Jane Austen."),
        page("Tacoma", "A city."),
    ])
}

#[test]
fn questions_are_answered_by_one_who_knows_the_titles() {
    let check = |question: Question, expected: Result<&[&str], DropReason>| {
        let scratch = tempfile::tempdir().unwrap();
        let settings = settings(scratch.path());
        let engine = pages();
        let oracle = Oracle { engine: &engine, settings: &settings };
        let made = oracle.episode(&question);
        match (made, expected) {
            (Ok(turns), Ok(expected)) => {
                let episode = Demonstration { question, turns };
                assert_eq!(actions(&episode), expected);
                episode.check(settings.max_searches).unwrap();
            }
            (Err((reason, _)), Err(expected)) => assert_eq!(reason, expected, "{question:?}"),
            (made, expected) => panic!("{question:?}: {made:?} is not {expected:?}"),
        }
    };
    let titles = &["Frank Herbert", "Dune (novel)"];
    // The document of the first search names the second title, whatever the order of the titles.
    check(
        question("Where was the author of Dune born?", "tacoma", titles),
        Ok(&["Dune", "Frank Herbert", "Tacoma"]),
    );
    check(
        question("Do Dune and Emma have one author?", "No", &["Dune (novel)", "Emma"]),
        Ok(&["Dune", "Emma", "no"]),
    );
    // A question that names no title is the first query.
    check(
        question("By whom is the Emma novel written?", "Jane Austen", &["Emma"]),
        Ok(&["Emma", "Jane Austen"]),
    );
    check(question("Who wrote it?", "x", &["Emma"]), Err(DropReason::TitleNotFound));
    check(
        question("Dune or what?", "x", &["Dune (novel)", "Emma"]),
        Err(DropReason::TitleNotNamed),
    );
    check(question("Who wrote Emma?", "Ann", &["Emma"]), Err(DropReason::AnswerNotFound));
    check(
        question("Dune Emma Tacoma?", "x", &["Dune (novel)", "Emma", "Tacoma"]),
        Err(DropReason::ManySearches),
    );
    // Without titles.
    check(question("Who wrote Emma?", "Jane Austen", &[]), Ok(&["Who wrote Emma", "Jane Austen"]));
    let hop = "Where was the author of Dune born?";
    check(
        question(hop, "Tacoma", &[]),
        Ok(&["Where was the author of Dune born", "Frank Herbert", "Tacoma"]),
    );
    check(question("Did Emma win?", "yes", &[]), Err(DropReason::AnswerInQuestion));
    check(question("Who wrote Emma?", "Bo", &[]), Err(DropReason::AnswerNotFound));
}

#[test]
fn sets_of_questions_count_what_fails() {
    #[derive(Debug)]
    struct Broken;
    impl SearchEngine for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        fn search_batch(&self, _: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            panic!("out of order")
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let settings = settings(scratch.path());
    let questions = [question("Who wrote Emma?", "Jane Austen", &[]), question("Emma?", "", &[])];
    let source =
        |engine| TrajectorySource::Questions { questions: &questions, engine, inputs: vec![] };
    let message = build_trajectories(&source(&Broken), &settings, &mut |_| {}).unwrap_err();
    assert!(message.to_string().contains("search_failed 2"), "{message}");
    let mut done = 0;
    let engine = pages();
    let manifest = build_trajectories(&source(&engine), &settings, &mut |it| done += it).unwrap();
    assert_eq!((done, manifest.parts["train.jsonl"].episodes), (2, 1));
}

#[test]
fn good_episodes_are_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let episode = |question: &str, text: &str| {
        format!(r#"{{"question":"{question}","answer":"Ann Lee","text":"{text}"}}"#)
    };
    let search = "<search> a </search><information>Doc 1: Ann</information>";
    let rows = [
        episode("who?", &format!("{search}<answer> Ann </answer>")),
        episode("who?", &format!("{search}<answer> Ann Lee </answer>")),
        episode("other", "<answer> Ann </answer>"),
        episode("other", &format!("{search}{search}{search}<answer> Ann </answer>")),
        episode("other", &format!("{search}<answer> Bo </answer>")),
        episode("other", &format!("{search}{search}")),
        r#"{"question":"other","text":"<search> a </search><information>b</information><answer> Ann </answer>"}"#.to_owned(),
        r#"{"version":2,"record":{"question_id":"q9","prompt":[1],"turns":[],"truncated":false}}"#.to_owned(),
        r#"{"text":5}"#.to_owned(),
    ];
    let files = [dir.join("played.jsonl")];
    fs::write(&files[0], rows.join("\n")).unwrap();
    let settings = settings(dir);
    let source = TrajectorySource::Played { files: &files, questions: &[] };
    let manifest = build_trajectories(&source, &settings, &mut |_| {}).unwrap();
    let read = written(&settings.out);
    assert_eq!(read.iter().map(actions).collect::<Vec<_>>(), [["a", "Ann"]]);
    let expected = [
        ("duplicate", 1),
        ("few_searches", 1),
        ("format", 1),
        ("low_f1", 1),
        ("many_searches", 1),
        ("no_answer", 1),
        ("unknown_question", 1),
        ("unreadable_row", 1),
    ];
    assert_eq!(counts(&manifest), expected);
    assert_eq!(manifest.num_read, rows.len());
}
