//! Measures of replies that do not depend on the answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zs_core::{Document, normalize_answer};

/// Words of a copied piece.
const COPIED_WORDS: usize = 4;

/// Words of the pieces that documents of one reply are compared by.
const SHINGLE_WORDS: usize = 3;

/// Means over the replies of some queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplyMeasures {
    /// Documents a reply.
    pub documents: f64,
    /// Words a document.
    pub words: f64,
    /// Share of documents that occur word for word in the reply to another query.
    pub repeated: f64,
    /// Overlap among the documents of a reply: mean Jaccard similarity of the sets of word
    /// trigrams, over pairs.
    pub self_overlap: f64,
    /// Share of a document's word 4-grams that stand in the question or the query.
    pub copied: f64,
}

impl ReplyMeasures {
    /// The means over replies, each with what it was prompted by (question and query).
    #[must_use]
    pub fn of(replies: &[(Vec<Document>, String)]) -> Self {
        let num_documents: usize = replies.iter().map(|(documents, _)| documents.len()).sum();
        let all = || {
            replies
                .iter()
                .flat_map(|(documents, prompt)| documents.iter().map(move |it| (it, prompt)))
        };
        let per_document = |sum: f64| sum / num_documents.max(1) as f64;
        let words = all().map(|(it, _)| it.text.split_whitespace().count() as f64).sum();
        let mut found_in: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (index, (documents, _)) in replies.iter().enumerate() {
            for document in documents {
                found_in.entry(normalize_answer(&document.text)).or_default().insert(index);
            }
        }
        let is_repeated = |it: &Document| found_in[&normalize_answer(&it.text)].len() > 1;
        let repeated = all().filter(|(it, _)| is_repeated(it)).count() as f64;
        let copied = all().map(|(it, prompt)| copied_share(&it.text, prompt)).sum();
        let overlaps: Vec<f64> =
            replies.iter().filter_map(|(documents, _)| self_overlap(documents)).collect();
        Self {
            documents: num_documents as f64 / replies.len().max(1) as f64,
            words: per_document(words),
            repeated: per_document(repeated),
            self_overlap: overlaps.iter().sum::<f64>() / overlaps.len().max(1) as f64,
            copied: per_document(copied),
        }
    }
}

/// Overlap in content of two lists of documents: the F1 of their sets of words.
///
/// ```text
/// 2 |A ∩ B| / (|A| + |B|)
/// ```
///
/// - `A`, `B`: the words of each list after [`normalize_answer`]; two empty lists agree
///
/// ```
/// use zs_core::Document;
/// use zs_simulator::audit::content_overlap;
///
/// let one = [Document::new("", "Dune is a novel")];
/// let other = [Document::new("", "The novel Dune")];
/// // {dune, is, novel} and {dune, novel}: 2 * 2 / (3 + 2)
/// assert!((content_overlap(&one, &other) - 0.8).abs() < 1e-12);
/// ```
#[must_use]
pub fn content_overlap(a: &[Document], b: &[Document]) -> f64 {
    let words = |documents: &[Document]| -> BTreeSet<String> {
        let text: Vec<String> = documents.iter().map(|it| normalize_answer(&it.text)).collect();
        text.join(" ").split_whitespace().map(str::to_owned).collect()
    };
    let (a, b) = (words(a), words(b));
    match a.len() + b.len() {
        0 => 1.0,
        total => 2.0 * a.intersection(&b).count() as f64 / total as f64,
    }
}

/// Word n-grams of a text, normalised.
fn ngrams(text: &str, n: usize) -> Vec<Vec<String>> {
    let words: Vec<String> = normalize_answer(text).split_whitespace().map(str::to_owned).collect();
    words.windows(n).map(<[String]>::to_vec).collect()
}

fn copied_share(text: &str, prompt: &str) -> f64 {
    let known: BTreeSet<Vec<String>> = ngrams(prompt, COPIED_WORDS).into_iter().collect();
    let written = ngrams(text, COPIED_WORDS);
    let copied = written.iter().filter(|it| known.contains(*it)).count();
    copied as f64 / written.len().max(1) as f64
}

/// `None` for fewer than two documents.
fn self_overlap(documents: &[Document]) -> Option<f64> {
    let sets: Vec<BTreeSet<Vec<String>>> =
        documents.iter().map(|it| ngrams(&it.text, SHINGLE_WORDS).into_iter().collect()).collect();
    let mut similarities = Vec::new();
    for (index, a) in sets.iter().enumerate() {
        for b in &sets[index + 1..] {
            let union = a.union(b).count();
            similarities.push(a.intersection(b).count() as f64 / union.max(1) as f64);
        }
    }
    let count = similarities.len();
    (count > 0).then(|| similarities.iter().sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(texts: &[&str], prompt: &str) -> (Vec<Document>, String) {
        (texts.iter().map(|it| Document::new("", *it)).collect(), prompt.to_owned())
    }

    #[test]
    fn measures_are_means_over_replies() {
        let replies = [
            // 2 of 3 four-grams stand in the prompt; the two documents share 3 of 5 trigrams.
            reply(
                &["who wrote Dune first edition now", "who wrote Dune first edition then"],
                "who wrote Dune first edition",
            ),
            reply(&["Nobody knows."], "q"),
            reply(&["nobody knows", "Something else"], "q"),
            reply(&[], "q"),
        ];
        let measures = ReplyMeasures::of(&replies);
        assert_eq!(measures.documents, 1.25);
        assert!((measures.words - 18.0 / 5.0).abs() < 1e-12);
        assert!((measures.repeated - 0.4).abs() < 1e-12);
        assert!((measures.copied - (4.0 / 3.0) / 5.0).abs() < 1e-12, "{measures:?}");
        // Trigrams: 4 each, 3 shared: 3/5. The pair without trigrams counts as 0.
        assert!((measures.self_overlap - 0.3).abs() < 1e-12, "{measures:?}");
        assert_eq!(ReplyMeasures::of(&[]), ReplyMeasures::default());
    }
}
