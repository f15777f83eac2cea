//! The words of passages.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_core::Document;

use super::Hard;
use super::passages::Statement;
use crate::relation::fill;
use crate::wording::{ALIAS_SENTENCES, DATED_SENTENCES};
use crate::{EntityId, EntityType, Relation, World, pick};

impl World {
    /// The words of passage `index`, and the facts that it states as current, each with the mention
    /// of its object.
    pub(crate) fn compose(&self, hard: &Hard, index: usize) -> (Document, Vec<(usize, String)>) {
        let plan = &hard.plans[index];
        let mut rng = self.passage_rng(index);
        let lookalike = plan.lookalike.map(|it| hard.lookalikes[it].as_str());
        let title = lookalike.map_or_else(|| self.title(plan.subject), str::to_owned);
        let full = lookalike.map_or_else(|| self.mention(plan.subject), str::to_owned);
        let short = self.short_mention(plan.subject, &full);
        let mut sentences: Vec<String> = Vec::with_capacity(plan.statements.len() + 1);
        if let Some(alias) = self.alias(plan.subject).filter(|_| lookalike.is_none()) {
            sentences.push(fill(pick::<&str>(&ALIAS_SENTENCES, &mut rng), &full, alias));
        }
        let mut mentions = Vec::new();
        for statement in &plan.statements {
            let is_short = !sentences.is_empty() && rng.random_bool(hard.difficulty.partial);
            let subject = if is_short { &short } else { &full };
            let (fact, mut objects, mut year) = match *statement {
                Statement::Current { first, len } => {
                    let objects = self.facts[first..first + len].iter().map(|it| it.object);
                    (first, objects.collect::<Vec<_>>(), hard.years[first])
                }
                Statement::Former(it) => {
                    let former = &hard.formers[it];
                    (former.fact, former.objects.clone(), former.year)
                }
            };
            let relation = self.facts[fact].relation;
            if lookalike.is_some() {
                let any = relation.grammar().object;
                objects.iter_mut().for_each(|it| *it = self.random_entity(any, &mut rng));
                year = if year == 0 { 0 } else { rng.random_range(1900..2000) };
            }
            let named: Vec<String> =
                objects.iter().map(|&it| self.any_mention(it, &mut rng)).collect();
            let object = join(&named);
            sentences.push(sentence(relation, subject, &object, year, &mut rng));
            if lookalike.is_none() && matches!(statement, Statement::Current { .. }) {
                mentions.extend((fact..).zip(named));
            }
        }
        let text = sentences.join(" ");
        (Document { id: format!("p{index}"), ..Document::new(title, text) }, mentions)
    }

    /// The second name, half of the time where there is one.
    pub(super) fn any_mention(&self, entity: EntityId, rng: &mut ChaCha8Rng) -> String {
        match self.alias(entity) {
            Some(alias) if rng.random_bool(0.5) => alias.to_owned(),
            _ => self.mention(entity),
        }
    }

    /// A surname, or what the entity is.
    fn short_mention(&self, entity: EntityId, full: &str) -> String {
        match self.entity_type(entity) {
            EntityType::Person => full.rsplit(' ').next().unwrap_or(full).to_owned(),
            other => format!("the {}", other.noun()),
        }
    }
}

/// A sentence that states a fact; with a year, a dated one.
fn sentence(
    relation: Relation,
    subject: &str,
    object: &str,
    year: u16,
    rng: &mut ChaCha8Rng,
) -> String {
    let grammar = relation.grammar();
    let text = if year > 0 {
        let verb = match relation {
            Relation::Headquarters => "were in",
            Relation::Films | Relation::Books => "were",
            _ => "was",
        };
        fill(pick::<&str>(&DATED_SENTENCES, rng), subject, object)
            .replace("{y}", &year.to_string())
            .replace("{k}", grammar.keyword)
            .replace("{v}", verb)
    } else {
        // Other sentences say what subject and object are, as a description does too.
        let is_described = subject.starts_with("the ") || object.starts_with("the ");
        let choices = if is_described { &grammar.sentences[..1] } else { grammar.sentences };
        fill(pick::<&str>(choices, rng), subject, object)
    };
    capitalise(&text)
}

/// `"A"`, `"A and B"`, `"A, B and C"`.
pub(super) fn join(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn capitalise(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |it| it.to_uppercase().chain(letters).collect())
}
