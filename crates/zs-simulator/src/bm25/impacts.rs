//! Small corpora at full speed: what every word is worth in every document that has it, worked out
//! when a query first has the word, and added up from there on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use tantivy::postings::Postings;
use tantivy::query::Bm25Weight;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocId, DocSet, Searcher, TERMINATED, TantivyError, Term};

/// Documents of a corpus for which this is faster than skipping through posting lists: a query
/// touches every posting of its words, and a batch has an array of all documents for each core.
const MOST_DOCUMENTS: u64 = 1 << 18;

/// Postings that are kept at most, 8 bytes each; further words are worked out every time.
const MOST_POSTINGS: usize = 1 << 24;

/// What one word adds to the score of one document.
#[derive(Clone, Copy)]
struct Impact {
    document: DocId,
    score: f32,
}

/// The impacts of words, by word.
pub(super) struct Impacts {
    field: Field,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    by_word: HashMap<String, Box<[Impact]>>,
    num_postings: usize,
}

/// An array of all documents, all zero between queries.
#[derive(Default)]
pub(super) struct Scores {
    by_document: Vec<f32>,
    touched: Vec<DocId>,
}

impl Impacts {
    /// `None` where the index has several fields or segments, or too many documents.
    pub(super) fn of(searcher: &Searcher, searched: &[Field]) -> Option<Self> {
        let [field] = *searched else { return None };
        let is_small = searcher.num_docs() <= MOST_DOCUMENTS;
        let is_whole = searcher.segment_readers().len() == 1;
        (is_small && is_whole).then(|| Self { field, kept: RwLock::default() })
    }

    /// The best documents, the earlier one first where scores are equal.
    pub(super) fn top(
        &self,
        searcher: &Searcher,
        scores: &mut Scores,
        words: &BTreeMap<String, u32>,
        k: usize,
    ) -> Result<Vec<(f32, DocAddress)>, TantivyError> {
        scores.by_document.resize(searcher.segment_reader(0).max_doc() as usize, 0.0);
        let mut missing: Vec<(&str, u32)> = Vec::new();
        {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            for (word, count) in words {
                match kept.by_word.get(word) {
                    Some(impacts) => scores.add(impacts, *count),
                    None => missing.push((word.as_str(), *count)),
                }
            }
        }
        for (word, count) in missing {
            let impacts = self.impacts(searcher, word)?;
            scores.add(&impacts, count);
            self.keep(word, impacts);
        }
        let best = scores.take_best(k);
        Ok(best.into_iter().map(|(score, it)| (score, DocAddress::new(0, it))).collect())
    }

    fn impacts(&self, searcher: &Searcher, word: &str) -> Result<Box<[Impact]>, TantivyError> {
        let term = Term::from_field_text(self.field, word);
        let segment = searcher.segment_reader(0);
        let postings = segment
            .inverted_index(self.field)?
            .read_postings(&term, IndexRecordOption::WithFreqs)?;
        let Some(mut postings) = postings else { return Ok(Box::default()) };
        let weight = Bm25Weight::for_terms(searcher, &[term])?;
        let lengths = segment.get_fieldnorms_reader(self.field)?;
        let mut impacts = Vec::with_capacity(postings.size_hint() as usize);
        let mut document = postings.doc();
        while document != TERMINATED {
            let score = weight.score(lengths.fieldnorm_id(document), postings.term_freq());
            impacts.push(Impact { document, score });
            document = postings.advance();
        }
        Ok(impacts.into())
    }

    /// Words that no document has are not kept: there is no end of them.
    fn keep(&self, word: &str, impacts: Box<[Impact]>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let fits = kept.num_postings + impacts.len() <= MOST_POSTINGS;
        if !impacts.is_empty() && fits && !kept.by_word.contains_key(word) {
            kept.num_postings += impacts.len();
            kept.by_word.insert(word.to_owned(), impacts);
        }
    }
}

impl Scores {
    fn add(&mut self, impacts: &[Impact], count: u32) {
        let count = count as f32;
        for Impact { document, score } in impacts {
            let sum = &mut self.by_document[*document as usize];
            if *sum == 0.0 {
                self.touched.push(*document);
            }
            *sum += count * score;
        }
    }

    /// The best documents, and zeros for the next query.
    fn take_best(&mut self, k: usize) -> Vec<(f32, DocId)> {
        let mut best: Vec<(f32, DocId)> = Vec::with_capacity(k + 1);
        for document in self.touched.drain(..) {
            let score = std::mem::take(&mut self.by_document[document as usize]);
            let is_better = |it: &(f32, DocId)| it.0 > score || (it.0 == score && it.1 < document);
            if best.len() == k && best.last().is_none_or(is_better) {
                continue;
            }
            best.insert(best.partition_point(is_better), (score, document));
            best.truncate(k);
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_add_up_and_leave_nothing_behind() {
        let impact = |document, score| Impact { document, score };
        let mut scores = Scores { by_document: vec![0.0; 5], touched: Vec::new() };
        for _ in 0..2 {
            scores.add(&[impact(1, 1.0), impact(3, 2.0), impact(4, 0.5)], 1);
            scores.add(&[impact(0, 0.25), impact(1, 0.5)], 2);
            assert_eq!(scores.take_best(3), [(2.0, 1), (2.0, 3), (0.5, 0)]);
            assert!(scores.by_document.iter().all(|it| *it == 0.0) && scores.touched.is_empty());
        }
        scores.add(&[impact(2, 1.0)], 1);
        assert_eq!(scores.take_best(0), []);
        assert_eq!(scores.take_best(3), []);
    }
}
