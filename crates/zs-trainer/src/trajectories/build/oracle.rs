//! Episodes out of questions and an engine: queries by one who knows answer and supporting titles,
//! and writes only what a reader could know by then.

use zs_core::{Document, Question, SearchEngine, SearchRequest, with_causes};
use zs_rl::DemonstratedTurn;

use super::set::Made;
use super::text::{
    as_written, bare_title, found_answer, is_in_question, is_title, is_verdict, names, num_words,
    shown,
};
use super::{DropReason, TrajectorySettings};

/// Documents that are looked through for the title that leads to the answer.
const NUM_CANDIDATES: usize = 10;

/// Maker of episodes.
pub(super) struct Oracle<'a> {
    pub(super) engine: &'a dyn SearchEngine,
    pub(super) settings: &'a TrajectorySettings,
}

impl Oracle<'_> {
    /// The episode of a question.
    ///
    /// Where the question has supporting titles, each is searched for until it was shown, those first
    /// that the question or a document read before names. The first query is the question itself
    /// where it names none. Without titles, the question is searched for; if the documents do not
    /// hold the answer, the title of one that does is searched for, where it is named by then.
    pub(super) fn episode(&self, question: &Question) -> Made {
        let drop = |reason| Err((reason, None));
        let Some(answer) = question.golden_answers.first() else {
            return drop(DropReason::NoAnswer);
        };
        let is_verdict = is_verdict(answer);
        let turns = match question.gold_titles.is_empty() {
            true if is_in_question(answer, &question.text) => {
                return drop(DropReason::AnswerInQuestion);
            }
            true => self.towards_answer(question)?,
            false => self.towards_titles(question)?,
        };
        let documents: Vec<Document> =
            turns.iter().rev().flat_map(|it| it.documents.iter().cloned()).collect();
        let answer = match found_answer(&documents, &question.golden_answers) {
            _ if is_verdict => answer.trim().to_lowercase(),
            Some(answer) => as_written(answer, &documents),
            None => return drop(DropReason::AnswerNotFound),
        };
        if num_words(&answer) > self.settings.max_answer_words {
            return drop(DropReason::LongAnswer);
        }
        Ok([turns, vec![DemonstratedTurn::answer(&answer)]].concat())
    }

    fn towards_titles(&self, question: &Question) -> Made {
        let mut left: Vec<&str> = question.gold_titles.iter().map(String::as_str).collect();
        let (mut known, mut turns) = (question.text.clone(), Vec::new());
        while !left.is_empty() {
            if turns.len() == self.settings.max_searches {
                return Err((DropReason::ManySearches, None));
            }
            let query = match left.iter().find(|it| names(&known, it)) {
                Some(title) => bare_title(title),
                None if turns.is_empty() => query_of(question),
                None => return Err((DropReason::TitleNotNamed, Some(left.join(", ")))),
            };
            let documents = self.search(question, query, self.settings.num_documents)?;
            let before = left.len();
            left.retain(|title| !documents.iter().any(|it| is_title(it, title)));
            if left.len() == before {
                return Err((DropReason::TitleNotFound, Some(left.join(", "))));
            }
            for document in &documents {
                known.push_str(&format!("\n{}\n{}", document.title, document.text));
            }
            turns.push(DemonstratedTurn::search(query, documents));
        }
        Ok(turns)
    }

    fn towards_answer(&self, question: &Question) -> Made {
        let answers = &question.golden_answers;
        let k = self.settings.num_documents;
        let first = self.search(question, query_of(question), k)?;
        let mut turns = vec![DemonstratedTurn::search(query_of(question), first)];
        if found_answer(&turns[0].documents, answers).is_some() || self.settings.max_searches < 2 {
            return Ok(turns);
        }
        let read: Vec<String> =
            turns[0].documents.iter().map(|it| format!("{}\n{}", it.title, it.text)).collect();
        let known = format!("{}\n{}", question.text, read.join("\n"));
        for answer in answers {
            let asked = format!("{} {answer}", query_of(question));
            for candidate in self.search(question, &asked, NUM_CANDIDATES)? {
                let title = candidate.title.as_str();
                let leads = found_answer(std::slice::from_ref(&candidate), answers).is_some();
                if !leads || title.is_empty() || !names(&known, title) {
                    continue;
                }
                let second = self.search(question, bare_title(title), k)?;
                if found_answer(&second, answers).is_some() {
                    turns.push(DemonstratedTurn::search(bare_title(title), second));
                    return Ok(turns);
                }
            }
        }
        Err((DropReason::AnswerNotFound, None))
    }

    fn search(
        &self,
        question: &Question,
        query: &str,
        k: usize,
    ) -> Result<Vec<Document>, (DropReason, Option<String>)> {
        let request = SearchRequest { query, ..SearchRequest::of(question, k, self.settings.seed) };
        let found = zs_core::guarded_search(self.engine, &[request]).pop();
        let documents = match found {
            Some(Ok(documents)) => documents,
            Some(Err(error)) => return Err((DropReason::SearchFailed, Some(with_causes(&error)))),
            None => return Err((DropReason::SearchFailed, None)),
        };
        let words = self.settings.document_words;
        Ok(documents.iter().take(k).map(|it| shown(it, words)).collect())
    }
}

/// The question as a query.
fn query_of(question: &Question) -> &str {
    question.text.trim().trim_end_matches('?').trim_end()
}
