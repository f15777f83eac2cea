//! The entities of a hard world and their names.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::name::{draw_name, draw_similar_name};
use crate::tokenizer::capitalised_words;
use crate::{Difficulty, Entity, EntityType, GIVEN_NAMES, JOBS, Split, World, WorldPreset, pick};

/// Share of the passages that copies and lookalikes make up, about.
const SHARE_OF_DUPLICATES: f64 = 0.15;
/// Number of countries at least, so that none of them is a good guess.
const MIN_COUNTRIES: usize = 60;

/// Entities while they are drawn.
pub(super) struct Cast {
    pub(super) entities: Vec<Entity>,
    /// Index of the first entity of each type.
    pub(super) type_starts: Vec<usize>,
    pub(super) aliases: Vec<Option<String>>,
    pub(super) namesakes: Vec<bool>,
    /// Names of subjects that are no entities.
    pub(super) lookalikes: Vec<String>,
    /// Every name so far; of people, surnames and full names.
    used: BTreeSet<String>,
    split: Split,
}

impl Cast {
    pub(super) fn draw(split: Split, difficulty: &Difficulty, rng: &mut ChaCha8Rng) -> Self {
        let mut cast = Self {
            entities: Vec::new(),
            type_starts: Vec::new(),
            aliases: Vec::new(),
            namesakes: Vec::new(),
            lookalikes: Vec::new(),
            used: BTreeSet::new(),
            split,
        };
        let counts = counts(difficulty);
        for (entity_type, count) in EntityType::ALL.into_iter().zip(counts) {
            cast.type_starts.push(cast.entities.len());
            match entity_type {
                EntityType::Job => JOBS.iter().for_each(|it| cast.push(it, entity_type)),
                EntityType::Year => {
                    (1900..2000).for_each(|it| cast.push(&it.to_string(), entity_type));
                }
                _ => (0..count).for_each(|_| cast.draw_entity(entity_type, difficulty, rng)),
            }
        }
        cast
    }

    fn push(&mut self, name: &str, entity_type: EntityType) {
        self.entities.push(Entity { name: name.to_owned(), entity_type });
        self.aliases.push(None);
        self.namesakes.push(false);
    }

    fn draw_entity(
        &mut self,
        entity_type: EntityType,
        difficulty: &Difficulty,
        rng: &mut ChaCha8Rng,
    ) {
        let has_namesakes = World::describing_relation(entity_type).is_some();
        let first = *self.type_starts.last().unwrap_or(&0);
        let previous = self.entities.len().checked_sub(1).filter(|&it| it >= first);
        // Two entities for each name that is drawn twice.
        if let Some(previous) = previous
            && has_namesakes
            && !self.namesakes[previous]
            && self.aliases[previous].is_none()
            && rng.random_bool(difficulty.namesakes / 2.0)
        {
            let name = self.entities[previous].name.clone();
            self.push(&name, entity_type);
            self.namesakes[previous] = true;
            self.namesakes[previous + 1] = true;
            return;
        }
        let name = match entity_type {
            EntityType::Person => self.draw_person(first, difficulty.similar, rng),
            _ => self.draw_name(difficulty.similar, rng),
        };
        self.push(&name, entity_type);
        let has_alias = has_namesakes || entity_type == EntityType::Company;
        if has_alias && rng.random_bool(difficulty.aliases) {
            *self.aliases.last_mut().expect("an entity was added") = Some(self.fresh_name(rng));
        }
    }

    fn draw_name(&mut self, similar: f64, rng: &mut ChaCha8Rng) -> String {
        if !self.entities.is_empty() && rng.random_bool(similar) {
            let earlier = pick(&self.entities, rng).name.clone();
            if let Some(name) = self.similar_name(&earlier, rng) {
                return name;
            }
        }
        self.fresh_name(rng)
    }

    /// A given name and a surname; where the name resembles an earlier one, the same surname or a
    /// similar one with the same given name.
    fn draw_person(&mut self, first: usize, similar: f64, rng: &mut ChaCha8Rng) -> String {
        if first < self.entities.len() && rng.random_bool(similar) {
            let earlier = pick(&self.entities[first..], rng).name.clone();
            let (given, surname) = earlier.split_once(' ').unwrap_or(("", &earlier));
            let name = match rng.random_bool(0.5) {
                true => Some(format!("{} {surname}", pick(&GIVEN_NAMES, rng))),
                false => self.similar_name(surname, rng).map(|it| format!("{given} {it}")),
            };
            if let Some(name) = name.filter(|it| self.used.insert(it.clone())) {
                return name;
            }
        }
        let name = format!("{} {}", pick(&GIVEN_NAMES, rng), self.fresh_name(rng));
        self.used.insert(name.clone());
        name
    }

    fn fresh_name(&mut self, rng: &mut ChaCha8Rng) -> String {
        loop {
            let name = draw_name(rng, self.split, capitalised_words(WorldPreset::Hard));
            if self.used.insert(name.clone()) {
                return name;
            }
        }
    }

    /// A new name of one word that resembles another.
    fn similar_name(&mut self, name: &str, rng: &mut ChaCha8Rng) -> Option<String> {
        let words = capitalised_words(WorldPreset::Hard);
        let similar = draw_similar_name(rng, name, self.split, words);
        similar.filter(|it| self.used.insert(it.clone()))
    }

    /// The index of a new name that no entity has, and that resembles this one's.
    pub(super) fn draw_lookalike(&mut self, name: &str, rng: &mut ChaCha8Rng) -> Option<usize> {
        let lookalike = match name.split_once(' ') {
            Some((given, surname)) => {
                self.similar_name(surname, rng).map(|it| format!("{given} {it}"))
            }
            None => self.similar_name(name, rng),
        };
        self.lookalikes.push(lookalike?);
        Some(self.lookalikes.len() - 1)
    }
}

/// Number of entities of each type, so that what is said about them takes most of the passages.
fn counts(difficulty: &Difficulty) -> [usize; 9] {
    // Passages of an entity with so many facts that are no lists.
    let pages = |facts: usize| {
        let least = facts.div_ceil(difficulty.max_facts);
        least as f64 + if least < facts { 0.5 } else { 0.0 }
    };
    let stale = difficulty.stale;
    let (films, books, companies, towns) = (0.5, 0.4, 0.3, 0.2);
    // A list for every two works; a third of the lists is of one work, which never was shorter.
    let lists = (films + books) / 2.0 * (1.0 + stale * 2.0 / 3.0);
    let a_person = pages(5)
        + (films + companies) * pages(3)
        + (books + towns) * pages(2)
        + lists
        + (1.0 + companies + towns) * stale;
    // A country comes with its capital and its currency.
    let a_country = pages(3) + pages(2) + 2.0 * stale;
    let budget = difficulty.passages as f64 * (1.0 - SHARE_OF_DUPLICATES);
    let countries = MIN_COUNTRIES.max((budget / a_person / 50.0) as usize);
    let people = (budget - countries as f64 * a_country) / a_person;
    let of = |share: f64| (people * share) as usize;
    // Even, since people live in couples.
    let people = of(0.5) * 2;
    let towns = of(towns) + countries;
    let (films, books, companies) = (of(films), of(books), of(companies));
    let literals = [JOBS.len(), 100];
    [people, towns, countries, films, books, companies, countries, literals[0], literals[1]]
}
