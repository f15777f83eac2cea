//! A seeded synthetic encyclopedia: entities with invented names, facts about them, passages that
//! state the facts, and questions that the passages answer.
//!
//! An easy world ([`World::generate`]) has one passage per fact and questions of one and two hops; a
//! hard one ([`World::hard`]) has a [`Difficulty`]. [`measure`] computes the scores that a perfect
//! searcher and guesses reach.
//!
//! A world takes the place of Wikipedia, so that nothing has to be downloaded: the real engine of a run
//! searches [`World::passages`], while training text ([`transcript`] and the drills) comes from other
//! worlds.
//!
//! **Invariant:** a world is a function of seed, split and difficulty, and this crate does not depend
//! on a tensor framework, even indirectly.
//!
//! ```
//! use zs_core::{DocumentQuality, SearchEngine, SearchRequest};
//! use zs_world::{Split, World};
//!
//! let world = World::generate(1, Split::Train);
//! let asked = world.questions(0, 1, 1).remove(0);
//! let subject = world.name(asked.chain[0].subject);
//! let query = format!("{subject} {}", asked.chain[0].relation.keyword());
//!
//! let quality = DocumentQuality::Useful;
//! let request =
//!     SearchRequest { query: &query, question: &asked.question, quality, read: &[], k: 3, seed: 0 };
//! let documents = world.engine().search(request)?;
//! let answer = &asked.question.golden_answers[0];
//! assert!(documents.iter().any(|it| it.text.contains(answer)));
//! # Ok::<(), zs_core::SearchError>(())
//! ```

mod difficulty;
mod drill;
mod entity_type;
mod example;
mod export;
mod hard;
mod measure;
mod name;
mod query;
mod question;
mod relation;
mod simulation;
mod tokenizer;
mod transcript;
mod wording;

use std::sync::{Arc, OnceLock};

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use zs_core::{Document, Domain, StreamKey};
use zs_search::{Bm25Config, Bm25Engine, Bm25Fields};

use hard::Hard;
use relation::fill;

pub use difficulty::{Difficulty, DifficultyError, KindMix, SEARCH_BUDGETS, WorldPreset};
pub use drill::{induction_drill, page_example, reading_drill};
pub use entity_type::{EntityType, JOBS};
pub use example::{Example, Segment};
pub use export::{ExportError, write_chains, write_corpus, write_questions};
pub use measure::{KindMeasure, Measure, measure};
pub use name::{GIVEN_NAMES, Split};
pub use query::{QueryKind, QueryMix};
pub use question::{QuestionKind, WorldQuestion};
pub use relation::{Grammar, QUERIES, RELATIONS, Relation};
pub use simulation::{CaseDocument, SimulationCase, simulation_case};
pub use tokenizer::{
    BOS_TOKEN, EOS_TOKEN, FIRST_ORDINARY_TOKEN, PAD_TOKEN, TINY_NOISY, TINY_USEFUL, tokenizer_json,
};
pub use transcript::{Behaviour, BehaviourMix, PROMPT_TEMPLATE, transcript};

/// Number of documents that a search of training text shows.
pub const DOCUMENTS_PER_SEARCH: usize = 3;

/// An entity, as an index into its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId(u32);

/// An entity's name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// The name, unique in its world, e.g. `"David Tolarek"`.
    pub name: String,
    /// Type of the entity.
    pub entity_type: EntityType,
}

/// One fact, e.g. that the director of one film is one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fact {
    /// Subject of the fact.
    pub subject: EntityId,
    /// The relation.
    pub relation: Relation,
    /// Object of the fact.
    pub object: EntityId,
}

/// A seeded synthetic encyclopedia.
///
/// A pure function of seed and split. Names are unique in a world, and no name occurs in worlds of
/// two splits, whatever their seeds.
///
/// ```
/// use zs_world::{Split, World};
///
/// let world = World::generate(7, Split::Train);
/// let question = &world.questions(0, 2, 1)[0];
/// assert_eq!(question.chain.len(), 2);
/// let answer = world.name(question.chain[1].object);
/// assert_eq!(question.question.golden_answers, [answer]);
/// ```
#[derive(Clone, Debug)]
pub struct World {
    seed: u64,
    split: Split,
    entities: Vec<Entity>,
    /// Index of the first entity of each type, in the order of [`EntityType::ALL`].
    type_starts: Vec<usize>,
    /// Sorted by subject, then relation.
    facts: Vec<Fact>,
    /// The sentence of the fact at the same index; empty in a hard world.
    sentences: Vec<String>,
    hard: Option<Box<Hard>>,
    engine: OnceLock<Arc<Bm25Engine>>,
}

impl World {
    /// The easy world of this seed and split.
    #[must_use]
    pub fn generate(seed: u64, split: Split) -> Self {
        let key = StreamKey { group: split as u32, ..StreamKey::new(seed) };
        let mut rng = key.rng(Domain::World);
        let mut world = Self::empty(seed, split);
        world.draw_entities(&mut rng);
        world.draw_facts(&mut rng);
        world.sentences = world.facts.iter().map(|it| world.draw_sentence(*it, &mut rng)).collect();
        world
    }

    fn empty(seed: u64, split: Split) -> Self {
        Self {
            seed,
            split,
            entities: Vec::new(),
            type_starts: Vec::new(),
            facts: Vec::new(),
            sentences: Vec::new(),
            hard: None,
            engine: OnceLock::new(),
        }
    }

    /// The preset whose relations and words the world has.
    #[must_use]
    pub fn preset(&self) -> WorldPreset {
        if self.hard.is_some() { WorldPreset::Hard } else { WorldPreset::Easy }
    }

    /// The seed that it was generated from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The split that it belongs to.
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// Every entity, literals included.
    #[must_use]
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// Every fact; in an easy world, passage `i` states fact `i`.
    #[must_use]
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// The sentence of the encyclopedia that states fact `index`.
    ///
    /// # Panics
    ///
    /// When there is no such fact.
    #[must_use]
    pub fn sentence(&self, index: usize) -> &str {
        &self.sentences[index]
    }

    /// An entity's name.
    ///
    /// # Panics
    ///
    /// When the entity belongs to a larger world.
    #[must_use]
    pub fn name(&self, entity: EntityId) -> &str {
        &self.entities[entity.0 as usize].name
    }

    /// An entity's type.
    ///
    /// # Panics
    ///
    /// When the entity belongs to a larger world.
    #[must_use]
    pub fn entity_type(&self, entity: EntityId) -> EntityType {
        self.entities[entity.0 as usize].entity_type
    }

    /// Range in [`facts`](Self::facts) of the facts with this subject, by relation.
    pub(crate) fn facts_about(&self, subject: EntityId) -> std::ops::Range<usize> {
        let start = self.facts.partition_point(|it| it.subject < subject);
        let len = self.facts[start..].partition_point(|it| it.subject == subject);
        start..start + len
    }

    /// The index of the fact that says what `relation` of `subject` is.
    pub(crate) fn fact_index(&self, subject: EntityId, relation: Relation) -> Option<usize> {
        self.facts_about(subject).find(|&it| self.facts[it].relation == relation)
    }

    /// Number of passages.
    #[must_use]
    pub fn num_passages(&self) -> usize {
        self.hard.as_ref().map_or(self.facts.len(), |it| it.num_passages())
    }

    /// The corpus.
    #[must_use]
    pub fn passages(&self) -> Vec<Document> {
        (0..self.num_passages()).map(|it| self.passage(it)).collect()
    }

    /// Passage `index`, titled with its subject.
    ///
    /// # Panics
    ///
    /// Panics if there is no such passage.
    #[must_use]
    pub fn passage(&self, index: usize) -> Document {
        self.passage_with_mentions(index).0
    }

    /// Passage `index`, and the facts that it states as they are now, each with its mention of the
    /// object.
    pub(crate) fn passage_with_mentions(&self, index: usize) -> (Document, Vec<(usize, String)>) {
        if let Some(hard) = &self.hard {
            return self.compose(hard, index);
        }
        let fact = self.facts[index];
        let text = self.sentence(index);
        let document = Document::new(self.name(fact.subject), text);
        let mentions = vec![(index, self.name(fact.object).to_owned())];
        (Document { id: format!("p{index}"), ..document }, mentions)
    }

    /// The facts that passage `index` states as they are now.
    pub(crate) fn current_facts(&self, index: usize) -> Vec<usize> {
        self.hard.as_ref().map_or_else(|| vec![index], |it| it.current_facts(index))
    }

    /// The real engine of this world: BM25 over [`passages`](Self::passages), built when first
    /// asked for.
    #[must_use]
    pub fn engine(&self) -> &Arc<Bm25Engine> {
        self.engine.get_or_init(|| {
            let fields = match self.preset() {
                // Each field on its own: published runs were ranked so.
                WorldPreset::Easy => Bm25Fields::Separate,
                WorldPreset::Hard => Bm25Fields::default(),
            };
            let config = Bm25Config { fields, ..Bm25Config::default() };
            let engine = Bm25Engine::with_config(self.passages(), config);
            Arc::new(engine.expect("a world has passages, and its index needs no file"))
        })
    }

    /// The passages that the real engine returns, best first.
    pub(crate) fn search(&self, query: &str, k: usize) -> Vec<usize> {
        let found = self.engine().search_indices(query, k);
        let found = found.expect("an index in memory has no file that could be unreadable");
        found.into_iter().map(|(index, _)| index).collect()
    }

    /// The entities of a type.
    pub(crate) fn entities_of(&self, entity_type: EntityType) -> std::ops::Range<usize> {
        let at = entity_type as usize;
        let end = self.type_starts.get(at + 1).copied().unwrap_or(self.entities.len());
        self.type_starts[at]..end
    }

    /// Any entity of a type.
    pub(crate) fn random_entity(&self, entity_type: EntityType, rng: &mut ChaCha8Rng) -> EntityId {
        EntityId(rng.random_range(self.entities_of(entity_type)) as u32)
    }

    /// A sentence that states the fact, in any of its phrasings.
    pub(crate) fn draw_sentence(&self, fact: Fact, rng: &mut ChaCha8Rng) -> String {
        let sentence = pick(fact.relation.grammar().sentences, rng);
        fill(sentence, self.name(fact.subject), self.name(fact.object))
    }

    fn draw_entities(&mut self, rng: &mut ChaCha8Rng) {
        let reserved = tokenizer::capitalised_words(WorldPreset::Easy);
        let mut used = std::collections::BTreeSet::new();
        for entity_type in EntityType::ALL {
            self.type_starts.push(self.entities.len());
            let mut fresh = || loop {
                let name = name::draw_name(rng, self.split, reserved);
                if used.insert(name.clone()) {
                    return name;
                }
            };
            let count = entity_type.count();
            let mut names: Vec<String> = match entity_type {
                EntityType::Job => JOBS.map(str::to_owned).to_vec(),
                EntityType::Year => (1900..2000).map(|year| year.to_string()).collect(),
                _ => (0..count).map(|_| fresh()).collect(),
            };
            if entity_type == EntityType::Person {
                for name in &mut names {
                    *name = format!("{} {name}", pick(&GIVEN_NAMES, rng));
                }
            }
            debug_assert_eq!(names.len(), count);
            let named = |name| Entity { name, entity_type };
            self.entities.extend(names.into_iter().map(named));
        }
    }

    /// Draws one object for each subject and relation, independently but for three: spouses come in
    /// couples, a capital lies in its country, and each country has a currency of its own.
    fn draw_facts(&mut self, rng: &mut ChaCha8Rng) {
        let mut people: Vec<usize> = self.entities_of(EntityType::Person).collect();
        people.shuffle(rng);
        let mut spouses = vec![0; people.len()];
        let first_person = self.entities_of(EntityType::Person).start;
        for couple in people.chunks_exact(2) {
            spouses[couple[0] - first_person] = couple[1];
            spouses[couple[1] - first_person] = couple[0];
        }
        let mut towns: Vec<usize> = self.entities_of(EntityType::Town).collect();
        towns.shuffle(rng);
        let first_country = self.entities_of(EntityType::Country).start;
        let first_currency = self.entities_of(EntityType::Currency).start;

        for index in 0..self.entities.len() {
            let subject = EntityId(index as u32);
            for relation in self.entities[index].entity_type.relations() {
                let object = match relation {
                    Relation::Spouse => spouses[index - first_person],
                    Relation::Capital => towns[index - first_country],
                    Relation::Currency => first_currency + index - first_country,
                    Relation::Country => {
                        let rank = towns.iter().position(|&it| it == index).unwrap_or(0);
                        let num_countries = EntityType::Country.count();
                        let any = rng.random_range(0..num_countries);
                        first_country + if rank < num_countries { rank } else { any }
                    }
                    _ => self.random_entity(relation.grammar().object, rng).0 as usize,
                };
                self.facts.push(Fact { subject, relation, object: EntityId(object as u32) });
            }
        }
    }
}

/// Draws an element of a list.
///
/// # Panics
///
/// Panics when the list is empty.
pub fn pick<'a, T>(items: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    items.choose(rng).expect("lists of the grammar are not empty")
}

/// Draws an index with the given weights; the last one where all are zero.
pub fn pick_weighted(weights: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let total: f64 = weights.iter().sum();
    let mut at = rng.random::<f64>() * total;
    for (index, weight) in weights.iter().enumerate() {
        if at < *weight {
            return index;
        }
        at -= weight;
    }
    weights.len() - 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns true if the type is a word of the grammar and not a name.
    fn is_literal(entity_type: EntityType) -> bool {
        matches!(entity_type, EntityType::Job | EntityType::Year)
    }

    fn names(world: &World) -> BTreeSet<&str> {
        let named = world.entities.iter().filter(|it| !is_literal(it.entity_type));
        // Given names are shared; the surname is what makes a person.
        named.map(|it| it.name.rsplit(' ').next().unwrap()).collect()
    }

    #[test]
    fn is_a_function_of_seed_and_split() {
        let world = World::generate(3, Split::Train);
        let again = World::generate(3, Split::Train);
        assert_eq!(world.passages(), again.passages());
        assert_ne!(world.passages(), World::generate(4, Split::Train).passages());
    }

    #[test]
    fn splits_never_share_a_name() {
        let of_split = |split| [0, 1, 2].map(|seed| World::generate(seed, split));
        let train = of_split(Split::Train);
        let validation = of_split(Split::Validation);
        let test = of_split(Split::Test);
        for (a, b) in [(&train, &validation), (&train, &test), (&validation, &test)] {
            for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
                assert!(names(a).is_disjoint(&names(b)), "{:?} {:?}", a.split, b.split);
            }
        }
        for world in train.iter().chain(&validation).chain(&test) {
            assert!(names(world).into_iter().all(|it| Split::of_name(it) == world.split));
            assert_eq!(names(world).len(), 790);
        }
    }

    #[test]
    fn facts_are_consistent() {
        let world = World::generate(5, Split::Validation);
        assert!(world.facts.is_sorted());
        for fact in &world.facts {
            let grammar = fact.relation.grammar();
            assert_eq!(world.entity_type(fact.subject), grammar.subject);
            assert_eq!(world.entity_type(fact.object), grammar.object);
            let about_object =
                |relation| world.fact_index(fact.object, relation).map(|it| world.facts[it].object);
            match fact.relation {
                Relation::Spouse => {
                    assert_eq!(about_object(Relation::Spouse), Some(fact.subject));
                }
                Relation::Capital => {
                    assert_eq!(about_object(Relation::Country), Some(fact.subject));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_entity_but_literals_is_in_a_fact() {
        let world = World::generate(5, Split::Test);
        let in_facts: BTreeSet<EntityId> =
            world.facts.iter().flat_map(|it| [it.subject, it.object]).collect();
        let named = |it: &&EntityId| !is_literal(world.entity_type(**it));
        assert_eq!(in_facts.iter().filter(named).count(), 790);
    }
}
