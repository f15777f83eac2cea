//! Small corpora at full speed: what every word is worth in every document that has it, worked out
//! when a query first has the word, and added up from there on as far as it can matter.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;
use tantivy::postings::Postings;
use tantivy::query::Bm25Weight;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocId, DocSet, Searcher, TERMINATED, TantivyError, Term};

/// Documents of a corpus for which this is faster than skipping through posting lists: a query
/// touches every posting of its words, and a batch has an array of all documents for each core.
const MOST_DOCUMENTS: u64 = 1 << 18;

/// Postings that are kept at most, 8 bytes each; further words are worked out every time.
const MOST_POSTINGS: usize = 1 << 24;

/// Contribution of one word to the score of one document.
#[derive(Clone, Copy)]
struct Impact {
    document: DocId,
    score: f32,
}

/// Contributions of one word to the scores of all documents that have it, in their order.
struct WordImpacts {
    impacts: Box<[Impact]>,
    /// The most that it adds to any.
    bound: f32,
}

/// The impacts of words, by word.
pub(super) struct Impacts {
    field: Field,
    kept: RwLock<TermImpacts>,
}

#[derive(Default)]
struct TermImpacts {
    by_word: HashMap<String, WordImpacts>,
    num_postings: usize,
}

/// An array of all documents, all zero between queries.
#[derive(Default)]
pub(super) struct Scores {
    by_document: Vec<f32>,
    touched: Vec<DocId>,
}

/// A word of a query, and how often it stands there.
struct Weighted<'a> {
    word: &'a WordImpacts,
    count: f32,
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
        let not_kept = self.work_out(searcher, words)?;
        let kept = self.kept.read();
        let weighted = |(word, count): (&String, &u32)| {
            let word = kept.by_word.get(word).or_else(|| not_kept.get(word))?;
            Some(Weighted { word, count: *count as f32 })
        };
        let mut words: Vec<Weighted<'_>> = words.iter().filter_map(weighted).collect();
        let best = scores.best(&mut words, k);
        Ok(best.into_iter().map(|(score, it)| (score, DocAddress::new(0, it))).collect())
    }

    /// Works out the words that are not known yet; returns those that are not kept either.
    fn work_out(
        &self,
        searcher: &Searcher,
        words: &BTreeMap<String, u32>,
    ) -> Result<HashMap<String, WordImpacts>, TantivyError> {
        let missing: Vec<&String> = {
            let kept = self.kept.read();
            words.keys().filter(|it| !kept.by_word.contains_key(*it)).collect()
        };
        let mut not_kept = HashMap::new();
        for word in missing {
            let impacts = self.impacts(searcher, word)?;
            // Words that no document has are not kept: there is no end of them.
            if impacts.is_empty() {
                continue;
            }
            let bound = impacts.iter().map(|it| it.score).fold(0.0, f32::max);
            let mut kept = self.kept.write();
            let entry = WordImpacts { impacts, bound };
            match kept.num_postings + entry.impacts.len() <= MOST_POSTINGS {
                true => kept.insert(word, entry),
                false => drop(not_kept.insert(word.clone(), entry)),
            }
        }
        Ok(not_kept)
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
}

impl TermImpacts {
    /// Another thread may have been faster.
    fn insert(&mut self, word: &str, entry: WordImpacts) {
        if !self.by_word.contains_key(word) {
            self.num_postings += entry.impacts.len();
            self.by_word.insert(word.to_owned(), entry);
        }
    }
}

impl WordImpacts {
    /// Contribution to the score of one document.
    fn of(&self, document: DocId) -> f32 {
        let found = self.impacts.binary_search_by_key(&document, |it| it.document);
        found.map_or(0.0, |at| self.impacts[at].score)
    }
}

impl Weighted<'_> {
    fn bound(&self) -> f32 {
        self.count * self.word.bound
    }
}

impl Scores {
    /// The best documents, and zeros for the next query.
    ///
    /// Words that can add much are added up first. Once the others together cannot lift a document
    /// that has none of the first ones among the best, only documents that have some are looked at:
    /// MaxScore, word by word. A score is the same sum in the same order, however early that is.
    ///
    /// # References
    ///
    /// - Turtle and Flood (1995), *Query Evaluation: Strategies and Optimizations*
    fn best(&mut self, words: &mut [Weighted<'_>], k: usize) -> Vec<(f32, DocId)> {
        words.sort_by(|a, b| b.bound().total_cmp(&a.bound()));
        // What the words from each on can add to a document, rounding included.
        let mut rest: Vec<f32> = vec![0.0; words.len() + 1];
        for index in (0..words.len()).rev() {
            rest[index] = (rest[index + 1] + words[index].bound()) * (1.0 + 1e-5);
        }
        for (index, word) in words.iter().enumerate() {
            // Looking for the bar costs a pass over what was touched, so only long lists are worth it.
            if self.touched.len() >= k && word.word.impacts.len() >= self.touched.len() {
                let bar = self.take(k).last().map_or(0.0, |it| it.0);
                if bar > rest[index] {
                    return self.finish(&words[index..], &rest[index..], k, bar);
                }
            }
            self.add(word);
        }
        let best = self.take(k);
        self.clear();
        best
    }

    /// The best documents among those that were touched, after the last words.
    fn finish(
        &mut self,
        words: &[Weighted<'_>],
        rest: &[f32],
        k: usize,
        mut bar: f32,
    ) -> Vec<(f32, DocId)> {
        let all = self.touched.iter().map(|it| (self.by_document[*it as usize], *it));
        let mut candidates: Vec<(f32, DocId)> =
            all.filter(|it| can_reach(bar, it.0, rest[0])).collect();
        for (word, rest) in words.iter().zip(&rest[1..]) {
            for (score, document) in &mut candidates {
                *score += word.count * word.word.of(*document);
            }
            let best = top(candidates.iter().copied(), k);
            bar = best.last().map_or(bar, |it| it.0.max(bar));
            candidates.retain(|it| can_reach(bar, it.0, *rest));
        }
        self.clear();
        top(candidates.into_iter(), k)
    }

    /// Adds a word to the scores. Whether a document is new is as good as random, so nothing
    /// branches on it: every document is noted, and the next one takes the place of one that is not.
    fn add(&mut self, word: &Weighted<'_>) {
        let mut num_touched = self.touched.len();
        self.touched.resize(num_touched + word.word.impacts.len(), 0);
        for Impact { document, score } in &word.word.impacts {
            let sum = &mut self.by_document[*document as usize];
            self.touched[num_touched] = *document;
            num_touched += usize::from(*sum == 0.0);
            *sum += word.count * score;
        }
        self.touched.truncate(num_touched);
    }

    fn take(&self, k: usize) -> Vec<(f32, DocId)> {
        top(self.touched.iter().map(|it| (self.by_document[*it as usize], *it)), k)
    }

    fn clear(&mut self) {
        for document in self.touched.drain(..) {
            self.by_document[document as usize] = 0.0;
        }
    }
}

/// Returns true if a sum may still come up to the bar, rounding included.
fn can_reach(bar: f32, sum: f32, rest: f32) -> bool {
    (sum + rest) * (1.0 + 1e-5) >= bar
}

/// The `k` best, the earlier document first where scores are equal.
fn top(scored: impl Iterator<Item = (f32, DocId)>, k: usize) -> Vec<(f32, DocId)> {
    let mut best: Vec<(f32, DocId)> = Vec::with_capacity(k + 1);
    for (score, document) in scored {
        let is_better = |it: &(f32, DocId)| it.0 > score || (it.0 == score && it.1 < document);
        if best.len() == k && best.last().is_none_or(is_better) {
            continue;
        }
        best.insert(best.partition_point(is_better), (score, document));
        best.truncate(k);
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(impacts: &[(DocId, f32)]) -> WordImpacts {
        let impacts: Vec<Impact> = impacts
            .iter()
            .map(|(document, score)| Impact { document: *document, score: *score })
            .collect();
        let bound = impacts.iter().map(|it| it.score).fold(0.0, f32::max);
        WordImpacts { impacts: impacts.into(), bound }
    }

    fn weighted(words: &[(WordImpacts, u32)]) -> Vec<Weighted<'_>> {
        words.iter().map(|(word, count)| Weighted { word, count: *count as f32 }).collect()
    }

    #[test]
    fn scores_add_up_and_leave_nothing_behind() {
        let mut scores = Scores { by_document: vec![0.0; 5], touched: Vec::new() };
        let words = [(word(&[(1, 1.0), (3, 2.0), (4, 0.5)]), 1), (word(&[(0, 0.25), (1, 0.5)]), 2)];
        for _ in 0..2 {
            assert_eq!(scores.best(&mut weighted(&words), 3), [(2.0, 1), (2.0, 3), (0.5, 0)]);
            assert!(scores.by_document.iter().all(|it| *it == 0.0) && scores.touched.is_empty());
        }
        let words = [(word(&[(2, 1.0)]), 1)];
        assert_eq!(scores.best(&mut weighted(&words), 0), []);
        assert_eq!(scores.best(&mut weighted(&words), 3), [(1.0, 2)]);
        assert_eq!(scores.best(&mut [], 3), []);
    }

    proptest! {
        /// What is passed over would not have been among the best.
        #[test]
        fn nothing_is_missed(
            lists in proptest::collection::vec(
                (proptest::collection::btree_map(0_u32..60, 1_u8..40, 1..50), 1_u32..3, 1_u8..9), 0..6),
            k in 0_usize..8,
        ) {
            let words: Vec<(WordImpacts, u32)> = lists
                .iter()
                .map(|(list, count, scale)| {
                    let scale = 0.05 * f32::from(*scale).powi(3);
                    let score = |(at, it): (&u32, &u8)| (*at, scale * f32::from(*it));
                    (word(&list.iter().map(score).collect::<Vec<_>>()), *count)
                })
                .collect();
            let mut scores = Scores { by_document: vec![0.0; 60], touched: Vec::new() };
            let found = scores.best(&mut weighted(&words), k);
            let mut sorted = weighted(&words);
            sorted.sort_by(|a, b| b.bound().total_cmp(&a.bound()));
            let sum = |document| sorted.iter().fold(0.0, |sum, it| sum + it.count * it.word.of(document));
            let all = (0..60).map(|it| (sum(it), it)).filter(|it| it.0 > 0.0);
            prop_assert_eq!(found, top(all, k));
            prop_assert!(scores.touched.is_empty() && scores.by_document.iter().all(|it| *it == 0.0));
        }
    }
}
