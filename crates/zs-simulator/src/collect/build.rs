//! Builds the rows of a tuning set from judged searches.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use zs_core::{DocumentQuality, Domain, StreamKey, normalize_answer};

use super::{JudgeError, RawSearch, check_query};
use crate::tuning::SearchRecord;

/// Numbers of dropped searches, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dropped(BTreeMap<String, usize>);

impl Dropped {
    /// Counts `count` more.
    pub fn add(&mut self, reason: impl Into<String>, count: usize) {
        if count > 0 {
            *self.0.entry(reason.into()).or_default() += count;
        }
    }

    /// Number of searches dropped for a reason.
    #[must_use]
    pub fn count(&self, reason: &str) -> usize {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// Number of searches dropped for any reason.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Reasons and counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), *count))
    }
}

/// Searches with a valid query and with documents, each query of a question once.
///
/// Queries are equal if they are after [`normalize_answer`]; the first is kept. Documents of a
/// search with equal content are kept once too.
#[must_use]
pub fn distinct(searches: Vec<RawSearch>, dropped: &mut Dropped) -> Vec<RawSearch> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for search in searches {
        let query = match check_query(&search.query) {
            Ok(query) => query,
            Err(reason) => {
                dropped.add(reason.to_string(), 1);
                continue;
            }
        };
        let mut texts = BTreeSet::new();
        let mut documents = search.documents.clone();
        documents.retain(|it| {
            it.text.chars().any(char::is_alphanumeric) && texts.insert(normalize_answer(&it.text))
        });
        if documents.is_empty() {
            dropped.add("no_documents", 1);
        } else if !seen.insert((normalize_answer(&search.question), normalize_answer(&query))) {
            dropped.add("duplicate", 1);
        } else {
            kept.push(RawSearch { query, documents, ..search });
        }
    }
    kept
}

/// The two parts of a tuning set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    /// Searches for training.
    pub train: Vec<SearchRecord>,
    /// Searches for the evaluation loss; the two parts share no question.
    pub validation: Vec<SearchRecord>,
}

/// Labels searches, balances them and splits them by question.
///
/// - `labels` has one label a document of each search. A search is useful where one of its documents
///   is; one without a single label is dropped.
/// - A question belongs to validation with probability `validation_share`, drawn from the seed and
///   the question alone, so a question stays where it is when other data are added.
/// - Where `balance` is set, the more frequent quality of each part loses rows, drawn from the seed,
///   until both are equally frequent.
///
/// Rows keep the order of `searches`.
///
/// # Panics
///
/// When there is not one list of labels a search and one label a document.
#[must_use]
pub fn assemble(
    searches: Vec<RawSearch>,
    labels: &[Vec<Result<DocumentQuality, JudgeError>>],
    validation_share: f64,
    balance: bool,
    seed: u64,
    dropped: &mut Dropped,
) -> Splits {
    assert_eq!(searches.len(), labels.len(), "one list of labels a search");
    let mut splits = Splits::default();
    for (search, labels) in searches.into_iter().zip(labels) {
        assert_eq!(search.documents.len(), labels.len(), "one label a document");
        if labels.iter().all(Result::is_err) {
            let is_failure = labels.iter().any(|it| matches!(it, Err(JudgeError::Failed { .. })));
            dropped.add(if is_failure { "judge_failed" } else { "judge_undecided" }, 1);
            continue;
        }
        // A document without a label is no evidence that the search is useful.
        let useful: Vec<bool> =
            labels.iter().map(|it| *it == Ok(DocumentQuality::Useful)).collect();
        let split = match is_validation(&search.question, validation_share, seed) {
            true => &mut splits.validation,
            false => &mut splits.train,
        };
        split.push(SearchRecord {
            question: search.question,
            golden_answers: search.golden_answers,
            query: search.query,
            documents: search.documents,
            hop: Some(search.hop),
            supported: Some(useful.contains(&true)),
            useful,
        });
    }
    if balance {
        balance_rows(&mut splits.train, StreamKey::new(seed), dropped);
        balance_rows(
            &mut splits.validation,
            StreamKey { step: 1, ..StreamKey::new(seed) },
            dropped,
        );
    }
    splits
}

/// Returns true for a question that belongs to validation: with probability `share`, drawn from the
/// seed and the normalised question alone.
///
/// ```
/// use zs_simulator::collect::is_validation;
///
/// assert_eq!(is_validation("Who?", 0.5, 7), is_validation("who", 0.5, 7));
/// assert!(!is_validation("Who?", 0.0, 7));
/// ```
#[must_use]
pub fn is_validation(question: &str, share: f64, seed: u64) -> bool {
    split_draw(question, seed) < share
}

/// Number in [0, 1) that decides the part of a text, drawn from the seed and the normalised text alone.
#[must_use]
pub(crate) fn split_draw(text: &str, seed: u64) -> f64 {
    let key = StreamKey { step: text_hash(text), ..StreamKey::new(seed) };
    rand::RngExt::random(&mut key.rng(Domain::Questions))
}

/// Stable 64-bit hash (FNV-1a) of a normalised text, so that what is drawn for it does not depend on its
/// place.
pub(crate) fn text_hash(text: &str) -> u64 {
    let text = normalize_answer(text);
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Drops rows of the more frequent quality until both are equally frequent.
fn balance_rows(rows: &mut Vec<SearchRecord>, key: StreamKey, dropped: &mut Dropped) {
    let of = |rows: &[SearchRecord], supported: bool| -> Vec<usize> {
        (0..rows.len()).filter(|&it| rows[it].supported == Some(supported)).collect()
    };
    let (useful, noisy) = (of(rows, true), of(rows, false));
    let excess = useful.len().abs_diff(noisy.len());
    let mut frequent = if useful.len() > noisy.len() { useful } else { noisy };
    frequent.shuffle(&mut key.rng(Domain::Corpus));
    let surplus: BTreeSet<usize> = frequent.into_iter().take(excess).collect();
    let mut index = 0;
    rows.retain(|_| {
        index += 1;
        !surplus.contains(&(index - 1))
    });
    dropped.add("balance", excess);
}

#[cfg(test)]
mod tests {
    use zs_core::Document;

    use super::*;

    fn search(question: &str, query: &str, texts: &[&str]) -> RawSearch {
        RawSearch {
            question: question.into(),
            golden_answers: vec!["a".into()],
            query: query.into(),
            documents: texts.iter().map(|it| Document::new("t", *it)).collect(),
            hop: 1,
        }
    }

    #[test]
    fn everything_dropped_is_counted() {
        let searches = vec![
            search("Q", "who", &["x", "X!", "y"]),
            search("q?", "The Who", &["x"]),
            search("other", "who", &["x"]),
            search("Q", "</search>", &["x"]),
            search("Q", "?", &["x"]),
            search("Q", "nothing", &[]),
        ];
        let mut dropped = Dropped::default();
        let kept = distinct(searches, &mut dropped);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].documents.len(), 2, "the same text twice counts once");
        let counts: Vec<_> = dropped.iter().collect();
        let expected = [
            ("duplicate", 1),
            ("no_documents", 1),
            ("query_with_tags", 1),
            ("query_without_words", 1),
        ];
        assert_eq!(counts, expected);
        assert_eq!(dropped.total(), 4);
    }

    #[test]
    fn parts_are_balanced_and_share_no_question() {
        use DocumentQuality::{Noisy, Useful};
        let failed = || Err(JudgeError::Failed { message: "m".into() });
        let undecided = || Err(JudgeError::Undecidable { question: "q".into() });
        let searches: Vec<RawSearch> = (0..400)
            .map(|it| search(&format!("question {}", it / 2), &format!("query {it}"), &["x", "y"]))
            .collect();
        let labels: Vec<Vec<_>> = (0..400)
            .map(|it| match it {
                0 => vec![failed(), undecided()],
                1 => vec![undecided(), undecided()],
                2 => vec![failed(), Ok(Noisy)],
                _ if it % 4 == 0 => vec![Ok(Noisy), Ok(Useful)],
                _ => vec![Ok(Noisy), Ok(Noisy)],
            })
            .collect();
        let mut dropped = Dropped::default();
        let splits = assemble(searches.clone(), &labels, 0.25, true, 3, &mut dropped);
        assert_eq!((dropped.count("judge_failed"), dropped.count("judge_undecided")), (1, 1));
        let questions = |rows: &[SearchRecord]| -> BTreeSet<String> {
            rows.iter().map(|it| it.question.clone()).collect()
        };
        let (train, validation) = (questions(&splits.train), questions(&splits.validation));
        assert!(train.is_disjoint(&validation));
        for rows in [&splits.train, &splits.validation] {
            let useful = rows.iter().filter(|it| it.supported == Some(true)).count();
            assert_eq!(2 * useful, rows.len());
            assert!(rows.iter().all(|it| it.supported == Some(it.useful.contains(&true))));
        }
        assert_eq!(splits.train.len() + splits.validation.len() + dropped.total(), 400);
        assert!(splits.validation.len() > 20);
        let again = assemble(searches, &labels, 0.25, true, 3, &mut Dropped::default());
        assert_eq!(again, splits);
    }
}
