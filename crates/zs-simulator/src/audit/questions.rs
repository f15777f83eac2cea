//! Audit of an engine with complete, truncated, vague and wrong queries about any questions.

use serde::{Deserialize, Serialize};
use zs_core::{Document, DocumentQuality, Domain, Question, SearchEngine, SearchError, StreamKey};

use super::{
    Probe, QueryForm, ReplyMeasures, content_overlap, derive_queries, hold_answer, search_all,
};

/// Settings of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionAuditConfig {
    /// Documents a query.
    pub k: usize,
    /// Seeds; every query is sent once with each.
    pub seeds: Vec<u64>,
}

/// Measures of the replies to the queries of one quality, form and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditCell {
    /// Requested quality.
    pub quality: DocumentQuality,
    /// Form of the queries.
    pub form: QueryForm,
    /// The seed.
    pub seed: u64,
    /// Number of queries.
    pub num_queries: usize,
    /// Share of replies with a golden answer; a failed search holds none.
    pub contains_answer: f64,
    /// Share of searches whose reply held no document.
    pub malformed: f64,
    /// Share of searches that failed for another reason.
    pub failed: f64,
    /// Measures of the replies' text.
    pub replies: ReplyMeasures,
    /// Mean [`content_overlap`] with the real engine's documents for the same queries, where there
    /// is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_overlap: Option<f64>,
}

/// An audit: one cell a quality, form and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionAudit {
    /// Its settings.
    pub config: QuestionAuditConfig,
    /// Name of the engine.
    pub engine: String,
    /// Measures of the audited engine.
    pub cells: Vec<AuditCell>,
    /// Measures of the real engine for the same queries, where there is one.
    pub real: Vec<AuditCell>,
}

impl QuestionAudit {
    /// Mean of a number over the seeds of one quality and form, and its standard deviation over
    /// them; `None` without a cell.
    #[must_use]
    pub fn over_seeds(
        &self,
        quality: DocumentQuality,
        form: QueryForm,
        number: impl Fn(&AuditCell) -> f64,
    ) -> Option<(f64, f64)> {
        let is_meant = |it: &&AuditCell| it.quality == quality && it.form == form;
        let numbers: Vec<f64> = self.cells.iter().filter(is_meant).map(number).collect();
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let squares: f64 = numbers.iter().map(|it| (it - mean).powi(2)).sum();
        (count > 0.0).then(|| (mean, (squares / (count - 1.0).max(1.0)).sqrt()))
    }

    /// Findings of the audit, in sentences.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let share = |quality, form| {
            self.over_seeds(quality, form, |it| it.contains_answer).map_or(0.0, |it| it.0)
        };
        let (useful, noisy) = (DocumentQuality::Useful, DocumentQuality::Noisy);
        let mut findings = vec![format!(
            "the answer occurs in {:.3} of useful and {:.3} of noisy replies to the question itself",
            share(useful, QueryForm::Oracle),
            share(noisy, QueryForm::Oracle),
        )];
        if let Some(faithfulness) = self.faithfulness() {
            findings.push(format!(
                "faithfulness {faithfulness:.3}: that share of useful replies ({:.3}) less that to a \
                 query about something else ({:.3}); near 0, documents do not depend on the query",
                share(useful, QueryForm::Oracle),
                share(useful, QueryForm::Wrong)
            ));
        }
        findings
    }

    /// Dependence of the chance of finding the answer on the query: the fraction of useful replies
    /// with the answer to oracle queries less that to wrong ones.
    ///
    /// Near 0, the engine answers the question whatever the query is, and a policy that trains on
    /// it learns nothing about queries.
    #[must_use]
    pub fn faithfulness(&self) -> Option<f64> {
        let share = |form| {
            self.over_seeds(DocumentQuality::Useful, form, |it| it.contains_answer).map(|it| it.0)
        };
        Some(share(QueryForm::Oracle)? - share(QueryForm::Wrong)?)
    }
}

/// Sends every form of query about every question to an engine, for useful and for noisy documents.
///
/// `progress` is called after each cell with how many there are in all.
///
/// ```
/// use zs_core::{Document, DocumentQuality, Question};
/// use zs_search::FixedEngine;
/// use zs_simulator::audit::{QueryForm, QuestionAuditConfig, audit_questions};
///
/// // An engine that always gives the answer is not faithful to queries.
/// let engine = FixedEngine::new(vec![Document::new("Dune", "By Frank Herbert.")]);
/// let questions = [
///     Question::new("1", "who wrote Dune", ["Frank Herbert"]),
///     Question::new("2", "who wrote Emma", ["Jane Austen"]),
/// ];
/// let config = QuestionAuditConfig { k: 3, seeds: vec![1, 2] };
/// let audit = audit_questions(&engine, None, &questions, &config, &mut |_| {});
/// assert_eq!(audit.faithfulness(), Some(0.0));
/// let share = |it: &zs_simulator::audit::AuditCell| it.contains_answer;
/// let useful = DocumentQuality::Useful;
/// assert_eq!(audit.over_seeds(useful, QueryForm::Oracle, share), Some((0.5, 0.0)));
/// ```
pub fn audit_questions(
    engine: &dyn SearchEngine,
    real: Option<&dyn SearchEngine>,
    questions: &[Question],
    config: &QuestionAuditConfig,
    progress: &mut dyn FnMut(usize),
) -> QuestionAudit {
    let num_cells = 2 * QueryForm::ALL.len() * config.seeds.len();
    let (mut cells, mut real_cells) = (Vec::new(), Vec::new());
    for &seed in &config.seeds {
        for (number, form) in (0..).zip(QueryForm::ALL) {
            let queries = derive_queries(questions, form, seed);
            let ask = |engine: &dyn SearchEngine, quality: DocumentQuality| {
                let numbered = (0..).zip(questions.iter().zip(&queries));
                let probes: Vec<Probe<'_>> = numbered
                    .map(|(sample, (question, query))| {
                        let (group, turn) = (number, quality as u32);
                        let key = StreamKey { group, sample, turn, ..StreamKey::new(seed) };
                        Probe { question, query, quality, seed: key.derive_seed(Domain::Search) }
                    })
                    .collect();
                Replies::of(search_all(engine, &probes, config.k), questions, &queries)
            };
            let found = real.map(|it| ask(it, DocumentQuality::Useful));
            for quality in [DocumentQuality::Useful, DocumentQuality::Noisy] {
                let replies = ask(engine, quality);
                let overlap = found.as_ref().map(|it| it.overlap(&replies));
                cells.push(replies.cell(quality, form, seed, overlap));
                progress(num_cells);
            }
            real_cells.extend(found.map(|it| it.cell(DocumentQuality::Useful, form, seed, None)));
        }
    }
    QuestionAudit {
        config: config.clone(),
        engine: engine.name().to_owned(),
        cells,
        real: real_cells,
    }
}

/// The replies of one cell.
struct Replies {
    /// Documents (none where the search failed) with question and query.
    replies: Vec<(Vec<Document>, String)>,
    num_with_answer: usize,
    num_malformed: usize,
    num_failed: usize,
}

impl Replies {
    fn of(results: Vec<zs_core::SearchResult>, questions: &[Question], queries: &[String]) -> Self {
        let (mut num_malformed, mut num_failed, mut num_with_answer) = (0, 0, 0);
        let mut replies = Vec::with_capacity(results.len());
        for ((result, question), query) in results.into_iter().zip(questions).zip(queries) {
            match &result {
                Err(SearchError::Malformed { .. }) => num_malformed += 1,
                Err(_) => num_failed += 1,
                Ok(documents) => num_with_answer += usize::from(hold_answer(documents, question)),
            }
            replies.push((result.unwrap_or_default(), format!("{}\n{query}", question.text)));
        }
        Self { replies, num_with_answer, num_malformed, num_failed }
    }

    fn overlap(&self, other: &Self) -> f64 {
        let pairs = self.replies.iter().zip(&other.replies);
        let sum: f64 = pairs.map(|((a, _), (b, _))| content_overlap(a, b)).sum();
        sum / self.replies.len().max(1) as f64
    }

    fn cell(
        &self,
        quality: DocumentQuality,
        form: QueryForm,
        seed: u64,
        real_overlap: Option<f64>,
    ) -> AuditCell {
        let share = |count: usize| count as f64 / self.replies.len().max(1) as f64;
        AuditCell {
            quality,
            form,
            seed,
            num_queries: self.replies.len(),
            contains_answer: share(self.num_with_answer),
            malformed: share(self.num_malformed),
            failed: share(self.num_failed),
            replies: ReplyMeasures::of(&self.replies),
            real_overlap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zs_search::{FaultyEngine, FixedEngine};
    use zs_world::{Split, World};

    #[test]
    fn a_real_engine_is_faithful_to_queries() {
        let world = World::generate(3, Split::Validation);
        let questions: Vec<Question> =
            world.questions(0, 1, 60).into_iter().map(|it| it.question).collect();
        let config = QuestionAuditConfig { k: 3, seeds: vec![1, 2] };
        let real = world.engine().as_ref();
        let audit = audit_questions(real, Some(real), &questions, &config, &mut |_| {});
        assert_eq!(audit.cells.len(), 16);
        assert_eq!(audit.real.len(), 8);
        assert!(audit.faithfulness().unwrap() > 0.5, "{:?}", audit.faithfulness());
        assert!(audit.cells.iter().all(|it| it.real_overlap == Some(1.0)));
        assert_eq!(audit, audit_questions(real, Some(real), &questions, &config, &mut |_| {}));
    }

    #[test]
    fn failures_hold_no_answer_and_are_counted() {
        let page = FixedEngine::new(vec![Document::new("", "Anna")]);
        let engine = FaultyEngine::new(page, |it| it.quality == DocumentQuality::Noisy);
        let questions = [Question::new("1", "who", ["Anna"])];
        let config = QuestionAuditConfig { k: 1, seeds: vec![0] };
        let audit = audit_questions(&engine, None, &questions, &config, &mut |_| {});
        let noisy = |number: fn(&AuditCell) -> f64| {
            audit.over_seeds(DocumentQuality::Noisy, QueryForm::Oracle, number)
        };
        assert_eq!(noisy(|it| it.contains_answer), Some((0.0, 0.0)));
        assert_eq!(noisy(|it| it.failed + it.malformed), Some((1.0, 0.0)));
    }
}
