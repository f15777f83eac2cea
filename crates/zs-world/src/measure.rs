//! Bounds of what a policy can reach on a world: perfect searches and reading, and guesses.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use zs_core::{contains_words, exact_match};

use super::difficulty::max_searches;
use super::{DOCUMENTS_PER_SEARCH, EntityId, Fact, QuestionKind, Relation, World, WorldQuestion};

/// Bounds of the exact match on questions of a world's mix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Number of questions.
    pub questions: usize,
    /// Share that the oracle answers.
    pub oracle: f64,
    /// Share that the best guesses answer.
    pub guess: f64,
    /// Share of the questions of kinds without a [`QuestionKind::chance`] that they answer.
    pub open_guess: f64,
    /// The same by kind and hops.
    pub kinds: Vec<KindMeasure>,
}

/// Bounds for questions of one kind and number of hops.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindMeasure {
    /// Kind of the questions.
    #[serde(rename = "type")]
    pub kind: QuestionKind,
    /// Searches that they need.
    pub hops: usize,
    /// Number of questions.
    pub questions: usize,
    /// Share that the oracle answers.
    pub oracle: f64,
    /// Share that the best guesses answer.
    pub guess: f64,
    /// Share that a choice among the possible answers reaches.
    pub chance: Option<f64>,
}

/// Measures how far perfect searches and guesses get on `n` questions of a world's mix.
///
/// - The oracle makes one search for each part of a question ([`WorldQuestion::searches`]): the
///   mention of the part's subject, as the question or a document that it has retrieved writes it,
///   and the relation's keyword. Once it may look up whose second name a mention is and search with
///   the first, within [`SEARCH_BUDGETS`](crate::SEARCH_BUDGETS). A question counts where BM25
///   returns, among three documents each time, a passage that states what the part is about.
/// - A guess sees the question and no document. It gives the answer that other questions of the
///   kind about the same relation have most often, or of comparisons the first or the second choice,
///   whichever is best for the kind.
#[must_use]
pub fn measure(world: &World, seed: u64, n: usize) -> Measure {
    let questions = world.mixed_questions(seed, n);
    let guesses = Guesses::learn(world, &questions, seed.wrapping_add(1));
    let mut groups: BTreeMap<(QuestionKind, usize), [usize; 3]> = BTreeMap::new();
    for question in &questions {
        let hops = question.searches(world).len();
        let group = groups.entry((question.kind, hops)).or_default();
        group[0] += 1;
        group[1] += usize::from(oracle_answers(world, question));
        group[2] += usize::from(guesses.answer(question));
    }
    let share = |of: &dyn Fn(QuestionKind) -> bool, at: usize| {
        let sum =
            |at: usize| -> usize { groups.iter().filter(|it| of(it.0.0)).map(|it| it.1[at]).sum() };
        sum(at) as f64 / sum(0).max(1) as f64
    };
    Measure {
        questions: questions.len(),
        oracle: share(&|_| true, 1),
        guess: share(&|_| true, 2),
        open_guess: share(&|it| it.chance().is_none(), 2),
        kinds: groups
            .iter()
            .map(|(&(kind, hops), &[questions, oracle, guess])| KindMeasure {
                kind,
                hops,
                questions,
                oracle: oracle as f64 / questions as f64,
                guess: guess as f64 / questions as f64,
                chance: kind.chance(),
            })
            .collect(),
    }
}

/// Returns true if the oracle finds everything that the question needs within its budget.
fn oracle_answers(world: &World, question: &WorldQuestion) -> bool {
    let parts = question.searches(world);
    let mut known: BTreeMap<EntityId, String> = question.mentions.iter().cloned().collect();
    let mut spare = max_searches(parts.len()) - parts.len();
    parts.into_iter().all(|part| {
        let fact = part[0];
        let Some(mention) = known.get(&fact.subject) else { return false };
        let mut read = search(world, mention, part);
        // A second name may stand in more documents than the first has; it costs two searches.
        if read.is_none() && spare >= 2 {
            spare -= 2;
            read = full_name(world, mention, fact).and_then(|name| search(world, &name, part));
        }
        let is_found = read.is_some();
        known.extend(part.iter().map(|it| it.object).zip(read.into_iter().flatten()));
        is_found
    })
}

/// Searches for the facts of one part; the mentions of their objects where all are found.
fn search(world: &World, mention: &str, part: &[Fact]) -> Option<Vec<String>> {
    let query = format!("{mention} {}", part[0].relation.keyword());
    let found = world.search(&query, DOCUMENTS_PER_SEARCH);
    part.iter().map(|it| found.iter().find_map(|&at| world.read(at, *it))).collect()
}

/// The full name of a fact's subject, from a document that says of whom the mention is the second
/// name.
fn full_name(world: &World, mention: &str, fact: Fact) -> Option<String> {
    world.alias(fact.subject).filter(|it| *it == mention)?;
    let found = world.search(&format!("{mention} name known"), DOCUMENTS_PER_SEARCH);
    let says = found
        .into_iter()
        .map(|it| world.passage(it))
        .any(|it| it.title == world.title(fact.subject) && contains_words(&it.text, mention));
    says.then(|| world.mention(fact.subject))
}

/// The best guess by kind and last relation.
struct Guesses {
    commonest: BTreeMap<(QuestionKind, Relation), String>,
    /// The choice of comparisons that is right more often.
    choice: usize,
}

impl Guesses {
    /// Learns from other questions about the same world.
    fn learn(world: &World, questions: &[WorldQuestion], seed: u64) -> Self {
        let measured: BTreeSet<&str> = questions.iter().map(|it| &*it.question.id).collect();
        let others = world.mixed_questions(seed, questions.len());
        let mut counts: BTreeMap<_, BTreeMap<&str, usize>> = BTreeMap::new();
        for it in others.iter().filter(|it| !measured.contains(&*it.question.id)) {
            let answers = counts.entry(key(it)).or_default();
            *answers.entry(&it.question.golden_answers[0]).or_default() += 1;
        }
        let commonest = counts.into_iter().filter_map(|(key, answers)| {
            let answer = answers.into_iter().max_by_key(|it| it.1)?.0;
            Some((key, answer.to_owned()))
        });
        let right = |choice| others.iter().filter(|it| chooses(it, choice)).count();
        Self { commonest: commonest.collect(), choice: usize::from(right(1) > right(0)) }
    }

    fn answer(&self, question: &WorldQuestion) -> bool {
        let commonest = self.commonest.get(&key(question));
        chooses(question, self.choice)
            || commonest.is_some_and(|it| exact_match(it, &question.question.golden_answers))
    }
}

fn key(question: &WorldQuestion) -> (QuestionKind, Relation) {
    (question.kind, question.chain[question.chain.len() - 1].relation)
}

/// Returns true if the answer of a comparison is the choice at a place of the question.
fn chooses(question: &WorldQuestion, choice: usize) -> bool {
    question.kind == QuestionKind::Comparison
        && exact_match(&question.mentions[choice].1, &question.question.golden_answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Difficulty, Split};

    #[test]
    fn easy_worlds_are_fair() {
        let measure = measure(&World::generate(1, Split::Test), 0, 600);
        assert!(measure.oracle >= 0.97, "{measure:?}");
        assert!(measure.guess <= 0.05, "{measure:?}");
    }

    #[test]
    fn hard_worlds_are_fair() {
        let world = World::hard(1, Split::Test, &Difficulty::default()).unwrap();
        let measure = measure(&world, 0, 2_000);
        assert_eq!(measure.questions, 2_000);
        assert!(measure.oracle >= 0.97 && measure.open_guess <= 0.02, "{measure:#?}");
        for it in &measure.kinds {
            let chance = it.chance.unwrap_or(0.02);
            // Three standard errors.
            let error = 3.0 * (chance * (1.0 - chance) / it.questions as f64).sqrt();
            assert!(it.oracle >= 0.9 && it.guess <= chance + error, "{measure:#?}");
        }
    }
}
