//! Hard worlds: passages with several facts, dates that contradict one another, second names, names
//! that two entities have, and near-duplicates.

mod entities;
mod facts;
mod index;
mod kinds;
mod passages;
mod questions;
mod render;
mod transcript;

use rand_chacha::ChaCha8Rng;
use zs_core::{Domain, StreamKey};

use crate::{Difficulty, DifficultyError, EntityId, EntityType, Fact, Relation, Split, World};

use index::Index;
use passages::Plan;
use questions::Composer;

/// State that hard worlds have beside entities and facts.
#[derive(Clone, Debug)]
pub(crate) struct Hard {
    difficulty: Difficulty,
    /// The second name of each entity that has one.
    aliases: Vec<Option<String>>,
    /// Entities whose name another one has.
    namesakes: Vec<bool>,
    /// Year of the current statement of each fact; 0 where statements have no date.
    years: Vec<u16>,
    /// Outdated statements, sorted by their facts.
    formers: Vec<Former>,
    plans: Vec<Plan>,
    /// Names of subjects that are no entities: one syllable away from one that is.
    lookalikes: Vec<String>,
    /// Passages that state each fact as current.
    stated_in: Vec<Vec<u32>>,
    index: Index,
}

impl Hard {
    pub(crate) fn num_passages(&self) -> usize {
        self.plans.len()
    }

    pub(crate) fn current_facts(&self, passage: usize) -> Vec<usize> {
        self.plans[passage].current_facts().collect()
    }

    /// Composes questions about the world that this is a part of.
    pub(crate) fn composer<'a>(&'a self, world: &'a World) -> Composer<'a> {
        Composer { world, hard: self, index: &self.index }
    }
}

/// An outdated statement.
#[derive(Clone, Debug)]
struct Former {
    /// The fact that holds now; the first one of a list.
    fact: usize,
    /// The objects that it used to have.
    objects: Vec<EntityId>,
    /// A year before that of the current statement.
    year: u16,
}

impl World {
    /// The hard world of this seed and split.
    ///
    /// A pure function of its arguments, as [`World::generate`] is, with the same partition of
    /// names. Passages are composed when they are read, so a corpus is written in constant memory.
    ///
    /// - Statements about what changes over time, and lists, have dates; the latest date holds.
    /// - Two entities may share a name. Texts and questions that mean one of them describe it; its
    ///   title has the description in brackets.
    /// - A passage names its subject in full once, with its second name where it has one, and may
    ///   shorten the name after that.
    ///
    /// # Errors
    ///
    /// Fails when a setting is out of its range.
    pub fn hard(seed: u64, split: Split, difficulty: &Difficulty) -> Result<Self, DifficultyError> {
        difficulty.check()?;
        let mut world = Self::empty(seed, split);
        let mut rng = world.hard_key().rng(Domain::World);
        let mut cast = entities::Cast::draw(split, difficulty, &mut rng);
        world.entities = std::mem::take(&mut cast.entities);
        world.type_starts = std::mem::take(&mut cast.type_starts);
        let (facts, years) = facts::draw_facts(&world, &cast.namesakes, &mut rng);
        world.facts = facts;
        let formers = facts::draw_formers(&world, &years, difficulty.stale, &mut rng);
        let plans = passages::draw_plans(&world, &mut cast, &formers, difficulty, &mut rng);
        let mut stated_in = vec![Vec::new(); world.facts.len()];
        for (index, plan) in plans.iter().enumerate() {
            for fact in plan.current_facts() {
                stated_in[fact].push(index as u32);
            }
        }
        world.hard = Some(Box::new(Hard {
            difficulty: difficulty.clone(),
            aliases: cast.aliases,
            namesakes: cast.namesakes,
            years,
            formers,
            plans,
            lookalikes: cast.lookalikes,
            stated_in,
            index: Index::of(&world),
        }));
        Ok(world)
    }

    /// The place of draws for a hard world; another than that of the easy world of the seed.
    fn hard_key(&self) -> StreamKey {
        StreamKey { group: self.split as u32, turn: 1, ..StreamKey::new(self.seed) }
    }

    /// The generator with which passage `index` of a hard world is composed.
    fn passage_rng(&self, index: usize) -> ChaCha8Rng {
        StreamKey { sample: index as u32, turn: 2, ..self.hard_key() }.rng(Domain::World)
    }

    /// An entity's second name.
    #[must_use]
    pub fn alias(&self, entity: EntityId) -> Option<&str> {
        self.hard.as_ref()?.aliases[entity.0 as usize].as_deref()
    }

    /// Returns true if another entity has the same name.
    #[must_use]
    pub fn is_namesake(&self, entity: EntityId) -> bool {
        self.hard.as_ref().is_some_and(|it| it.namesakes[entity.0 as usize])
    }

    /// The relation that tells entities of one name apart, by the type.
    pub(crate) fn describing_relation(entity_type: EntityType) -> Option<Relation> {
        match entity_type {
            EntityType::Person => Some(Relation::Job),
            EntityType::Film => Some(Relation::Release),
            EntityType::Book => Some(Relation::Publication),
            EntityType::Town => Some(Relation::Country),
            _ => None,
        }
    }

    /// The word that tells an entity apart from the other one of its name, e.g. `"painter"`.
    fn description(&self, entity: EntityId) -> Option<&str> {
        let relation = Self::describing_relation(self.entity_type(entity))?;
        let fact = self.fact_index(entity, relation).filter(|_| self.is_namesake(entity))?;
        Some(self.name(self.facts[fact].object))
    }

    /// The title of passages about an entity: its name, with a description in brackets where
    /// another one has the name too.
    #[must_use]
    pub fn title(&self, entity: EntityId) -> String {
        let name = self.name(entity);
        self.description(entity).map_or_else(|| name.to_owned(), |it| format!("{name} ({it})"))
    }

    /// An entity as a text mentions it: its name, with a description where another one has the name
    /// too, e.g. `"the film Badan of 1987"`.
    #[must_use]
    pub fn mention(&self, entity: EntityId) -> String {
        let (name, entity_type) = (self.name(entity), self.entity_type(entity));
        match (self.description(entity), entity_type) {
            (None, _) => name.to_owned(),
            (Some(it), EntityType::Person) => format!("the {it} {name}"),
            (Some(it), EntityType::Town) => format!("the town {name} in {it}"),
            (Some(it), _) => format!("the {} {name} of {it}", entity_type.noun()),
        }
    }

    /// The passages that state a fact as it is now.
    #[must_use]
    pub fn passages_that_state(&self, fact: Fact) -> Vec<usize> {
        let about = self.facts_about(fact.subject);
        let Some(index) = about.into_iter().find(|&it| self.facts[it] == fact) else {
            return Vec::new();
        };
        match &self.hard {
            None => vec![index],
            Some(hard) => hard.stated_in[index].iter().map(|&it| it as usize).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
