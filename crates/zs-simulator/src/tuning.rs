//! Search simulation tuning: what a simulation LLM is fine-tuned on, and how it is audited after.

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zs_core::{Document, DocumentQuality, Domain, StreamKey, normalize_answer};

use crate::pretraining::{ExampleError, case_example, render_reply};
use crate::simulated::{SimulationPrompt, SimulationTemplates, TemplateError};
use zs_data::{DataError, RowError, RowReader};
use zs_world::{
    Example, QueryMix, World, WorldPreset, WorldQuestion, pick, pick_weighted, simulation_case,
};

/// One search of a policy on a real engine: a row of the JSON Lines that tuning data is kept in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    /// The question that was being answered.
    pub question: String,
    /// Its accepted answers.
    pub golden_answers: Vec<String>,
    /// The query.
    pub query: String,
    /// Documents that the engine returned.
    pub documents: Vec<Document>,
    /// Index of the search in its interaction, from 1, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<u8>,
    /// True if the documents support an answer to the query, where that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported: Option<bool>,
    /// Labels of the documents, where each was judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub useful: Vec<bool>,
}

/// Reads recorded searches from a file in any format of [`RowReader`].
///
/// # Errors
///
/// Fails at the first row that is malformed or has no golden answer, and when there is none.
pub fn read_records(path: &Path) -> Result<Vec<SearchRecord>, DataError> {
    let rows = RowReader::new("recorded search").open(path)?;
    let checked = rows.try_map(|record: SearchRecord, _| {
        if record.golden_answers.is_empty() {
            let problem = "`golden_answers` is empty; give at least one answer";
            return Err(RowError::invalid(problem));
        }
        let (labels, documents) = (record.useful.len(), record.documents.len());
        if labels != 0 && labels != documents {
            return Err(RowError::invalid(format!(
                "`useful` has {labels} entries for {documents} documents; give one a document"
            )));
        }
        Ok(record)
    });
    checked.collect_all()
}

/// Label of a recorded search by its documents: useful or noisy.
///
/// [`SearchRecord::supported`] decides where it is set. Otherwise a search is useful if a golden
/// answer occurs in a document as whole words after [`normalize_answer`].
///
/// The paper asks a language model whether a document holds enough information to answer the query.
/// The rule is ours: it needs no model, but calls the right documents of an early hop noisy, since
/// they do not hold the final answer. Set [`SearchRecord::supported`] where that matters.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.3
///
/// ```
/// use zs_core::{Document, DocumentQuality};
/// use zs_simulator::tuning::{SearchRecord, judge};
///
/// let record = SearchRecord {
///     question: "Who wrote it?".into(),
///     golden_answers: vec!["Anna Bada".into()],
///     query: "author".into(),
///     documents: vec![Document::new("", "Its author was anna bada.")],
///     hop: None,
///     supported: None,
///     useful: vec![],
/// };
/// assert_eq!(judge(&record), DocumentQuality::Useful);
/// ```
#[must_use]
pub fn judge(record: &SearchRecord) -> DocumentQuality {
    let holds_answer = || {
        let contains = |it: &Document| contains_answer(&it.text, &record.golden_answers);
        record.documents.iter().any(contains)
    };
    match record.supported.unwrap_or_else(holds_answer) {
        true => DocumentQuality::Useful,
        false => DocumentQuality::Noisy,
    }
}

/// Returns true if a golden answer occurs in a text as whole words, both normalised.
#[must_use]
pub fn contains_answer(text: &str, golden_answers: &[String]) -> bool {
    let text = format!(" {} ", normalize_answer(text));
    let answers = golden_answers.iter().map(|it| normalize_answer(it));
    answers.into_iter().any(|it| !it.is_empty() && text.contains(&format!(" {it} ")))
}

/// Each record as up to two: one with its useful documents alone and one with its noisy ones, as
/// where every document was judged for itself.
///
/// A record without such labels stays as it is.
///
/// # References
///
/// - [ZeroSearch](https://arxiv.org/abs/2505.04588), section 3.3, judges document by document
#[must_use]
pub fn split_by_label(records: &[SearchRecord]) -> Vec<SearchRecord> {
    let mut split = Vec::with_capacity(records.len());
    for record in records {
        if record.useful.is_empty() {
            split.push(record.clone());
            continue;
        }
        for wanted in [true, false] {
            let labelled = record.documents.iter().zip(&record.useful);
            let documents: Vec<Document> = labelled
                .filter(|(_, is_useful)| **is_useful == wanted)
                .map(|(document, _)| document.clone())
                .collect();
            if !documents.is_empty() {
                let useful = vec![wanted; documents.len()];
                let supported = Some(wanted);
                split.push(SearchRecord { documents, useful, supported, ..record.clone() });
            }
        }
    }
    split
}

/// `n` training examples from recorded searches, balanced by [`judge`]ment and hop.
///
/// The records are split into one stack for each quality and hop, each shuffled; examples are taken
/// from the stacks in turn, starting over with a stack that is used up, so a rare kind of search is
/// repeated and none is dropped. Searches without documents are skipped.
///
/// # Errors
///
/// Fails when a template does.
pub fn tuning_examples(
    records: &[SearchRecord],
    templates: &SimulationTemplates,
    k: usize,
    n: usize,
    key: StreamKey,
) -> Result<Vec<Example>, TemplateError> {
    let mut heaps: BTreeMap<(DocumentQuality, Option<u8>), Vec<&SearchRecord>> = BTreeMap::new();
    for record in records.iter().filter(|it| !it.documents.is_empty()) {
        heaps.entry((judge(record), record.hop)).or_default().push(record);
    }
    let mut rng = key.rng(Domain::Corpus);
    for heap in heaps.values_mut() {
        heap.shuffle(&mut rng);
    }
    let heaps: Vec<_> = heaps.into_iter().collect();
    if heaps.is_empty() {
        return Ok(Vec::new());
    }
    let take = |index: usize| {
        let ((quality, _), heap) = &heaps[index % heaps.len()];
        let record = heap[index / heaps.len() % heap.len()];
        let prompt = SimulationPrompt {
            question: &record.question,
            golden_answers: &record.golden_answers,
            query: &record.query,
            k,
        };
        let shown = &record.documents[..record.documents.len().min(k)];
        let mut example = Example::ending();
        example.show(templates.render(*quality, &prompt)?);
        example.learn(render_reply(shown));
        Ok(example)
    };
    (0..n).map(take).collect()
}

/// Relative frequency of each hop among the tuning examples of a world; weights need not sum to
/// one. In hard worlds `first` and `second` are about questions of two to four hops, and `second` is
/// any hop after the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopMix {
    /// The only hop of a one-hop question.
    pub only: f64,
    /// The first hop of a two-hop question.
    pub first: f64,
    /// The second hop of a two-hop question.
    pub second: f64,
}

impl Default for HopMix {
    fn default() -> Self {
        Self { only: 1.0, first: 1.0, second: 1.0 }
    }
}

/// `n` training examples from a competent collector on worlds' real engines: queries of every kind
/// for every hop, each with what its engine returns, and prompts that name the right quality.
///
/// One document of each reply carries loss, and the others with probability `distractor_loss`: the
/// lower it is, the more of the gradient is about copying subject and answer, or about withholding
/// it.
///
/// Example `i` is a function of the arguments and `i` alone.
///
/// # Errors
///
/// Fails when there is no world or a template fails.
pub fn world_tuning_examples(
    worlds: &[World],
    templates: &SimulationTemplates,
    hops: &HopMix,
    queries: &QueryMix,
    distractor_loss: f64,
    n: usize,
    key: StreamKey,
) -> Result<Vec<Example>, ExampleError> {
    if worlds.is_empty() {
        return Err(ExampleError::NoWorlds);
    }
    let draw = |index: usize| {
        let place = StreamKey { group: (index >> 32) as u32, sample: index as u32, ..key };
        let mut rng = place.rng(Domain::Corpus);
        let world = pick(worlds, &mut rng);
        let (question, hop) = draw_hop(world, hops, &mut rng);
        let queries = if hop == 0 { *queries } else { queries.of_later_hops() };
        let case = simulation_case(world, &question, hop, &queries, &mut rng);
        Ok(case_example(&question, &case, templates, distractor_loss, &mut rng)?)
    };
    (0..n).into_par_iter().map(draw).collect()
}

/// A question and the place in its chain that a search is for.
fn draw_hop(world: &World, hops: &HopMix, rng: &mut ChaCha8Rng) -> (WorldQuestion, usize) {
    let (num_hops, hop) =
        [(1, 0), (2, 0), (2, 1)][pick_weighted(&[hops.only, hops.first, hops.second], rng)];
    if world.preset() == WorldPreset::Easy || num_hops == 1 {
        return (world.random_question(num_hops, rng), hop);
    }
    let question = loop {
        let question = world.draw_question(rng);
        if question.searches(world).len() > 1 {
            break question;
        }
    };
    let later = rng.random_range(1..question.chain.len());
    (question, if hop == 0 { 0 } else { later })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zs_world::{Difficulty, Split};

    fn record(query: &str, document: &str, hop: u8) -> SearchRecord {
        SearchRecord {
            question: "Who?".into(),
            golden_answers: vec!["The Anna".into(), "Bo".into()],
            query: query.into(),
            documents: vec![Document::new("", document)],
            hop: Some(hop),
            supported: None,
            useful: vec![],
        }
    }

    #[track_caller]
    fn check(document: &str, expected: DocumentQuality) {
        assert_eq!(judge(&record("q", document, 1)), expected, "{document}");
    }

    #[test]
    fn judges_by_whole_normalised_words() {
        check("It was ANNA, they say.", DocumentQuality::Useful);
        check("the Bo!", DocumentQuality::Useful);
        check("Annabel and Bob", DocumentQuality::Noisy);
        check("", DocumentQuality::Noisy);
        let known = SearchRecord { supported: Some(true), ..record("q", "x", 1) };
        assert_eq!(judge(&known), DocumentQuality::Useful);
        assert!(!contains_answer("the", &["the".to_owned()]));
    }

    #[test]
    fn recorded_searches_are_balanced() {
        let mut records: Vec<SearchRecord> =
            (0..9).map(|it| record(&format!("q{it}"), "Anna", 1)).collect();
        records.push(record("rare", "Anna", 2));
        records.push(record("bad", "nobody", 1));
        records.push(SearchRecord { documents: vec![], ..record("empty", "", 3) });
        let templates = SimulationTemplates::tiny();
        let examples = tuning_examples(&records, &templates, 3, 30, StreamKey::new(1)).unwrap();
        let count = |text: &str| examples.iter().filter(|it| it.text().contains(text)).count();
        assert_eq!((count("Query: rare"), count("Query: bad"), count("Query: q")), (10, 10, 10));
        assert_eq!(count("noisy documents."), 10);
        assert!((0..9).all(|it| count(&format!("Query: q{it}")) >= 1));
        assert!(examples.iter().all(|it| it.ends && it.segments[1].text.starts_with("Doc 1: ")));
        assert!(tuning_examples(&[], &templates, 3, 5, StreamKey::new(1)).unwrap().is_empty());
    }

    #[test]
    fn titles_are_learned() {
        let mut titled = record("q", "Anna\nwrote it", 1);
        titled.documents[0].title = "Dune (novel)".into();
        titled.documents.push(Document::new("", "plain"));
        let templates = SimulationTemplates::tiny();
        let examples = tuning_examples(&[titled], &templates, 3, 1, StreamKey::new(1)).unwrap();
        let learned = &examples[0].segments[1].text;
        assert_eq!(learned, "Doc 1(Title: \"Dune (novel)\") Anna wrote it\nDoc 2: plain\n");
    }

    #[test]
    fn records_are_read_with_their_rows_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let good = serde_json::to_string(&record("q", "Anna", 2)).unwrap();
        std::fs::write(&path, format!("{good}\n\n{good}\n")).unwrap();
        assert_eq!(read_records(&path).unwrap(), vec![record("q", "Anna", 2); 2]);
        for (row, expected) in [
            ("{\"question\":\"q\"}", "golden_answers"),
            (&good.replace("[\"The Anna\",\"Bo\"]", "[]"), "`golden_answers` is empty"),
            (&good.replace("\"query\"", "\"qery\""), "qery"),
        ] {
            std::fs::write(&path, format!("{good}\n{row}\n")).unwrap();
            let message = read_records(&path).unwrap_err().to_string();
            assert!(message.contains("records.jsonl, row 2"), "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn judged_documents_are_told_apart() {
        let mut mixed = record("q", "Anna", 1);
        mixed.documents.push(Document::new("", "nobody"));
        mixed.useful = vec![true, false];
        let plain = record("p", "x", 1);
        let split = split_by_label(&[mixed.clone(), plain.clone()]);
        let texts: Vec<_> =
            split.iter().map(|it| (it.documents[0].text.as_str(), it.supported)).collect();
        assert_eq!(texts, [("Anna", Some(true)), ("nobody", Some(false)), ("x", None)]);
        assert_eq!(split[2], plain);
        mixed.useful = vec![true, true];
        assert_eq!(split_by_label(&[mixed]).len(), 1);
    }

    #[test]
    fn searches_in_hard_worlds_are_for_any_hop() {
        let difficulty = Difficulty { passages: 2_000, ..Difficulty::default() };
        let world = World::hard(0, Split::Train, &difficulty).unwrap();
        let mut rng = StreamKey::new(0).rng(Domain::Corpus);
        let mut draw = |only, first, second| {
            let draws =
                (0..60).map(|_| draw_hop(&world, &HopMix { only, first, second }, &mut rng));
            draws.map(|(question, hop)| (question.searches(&world).len(), hop)).collect::<Vec<_>>()
        };
        assert!(draw(1.0, 0.0, 0.0).iter().all(|it| *it == (1, 0)));
        assert!(draw(0.0, 1.0, 0.0).iter().all(|it| it.0 > 1 && it.1 == 0));
        let later = draw(0.0, 0.0, 1.0);
        assert!(later.iter().all(|it| it.0 > 1 && it.1 > 0));
        assert!([2, 3, 4].iter().all(|hops| later.iter().any(|it| it.0 == *hops)));
    }

    #[test]
    fn worlds_give_deterministic_examples_of_both_qualities() {
        let worlds = [World::generate(0, Split::Train)];
        let templates = SimulationTemplates::tiny();
        let (hops, queries) = (HopMix::default(), QueryMix::default());
        let draw = |n| {
            let key = StreamKey::new(3);
            world_tuning_examples(&worlds, &templates, &hops, &queries, 1.0, n, key).unwrap()
        };
        let examples = draw(120);
        assert_eq!(examples[..20], draw(20));
        let noisy = examples.iter().filter(|it| it.text().starts_with("noisy")).count();
        assert!((40..80).contains(&noisy), "{noisy}");
        let none =
            world_tuning_examples(&[], &templates, &hops, &queries, 1.0, 1, StreamKey::new(0));
        assert!(matches!(none, Err(ExampleError::NoWorlds)));
    }
}
