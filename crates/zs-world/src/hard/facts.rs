//! The facts of a hard world, and what used to hold instead of some.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Former;
use crate::{EntityId, EntityType, Fact, Relation, World, WorldPreset};

/// Works of one person at most.
const MAX_WORKS: usize = 3;

/// Every fact, sorted by subject and relation, with the year of its current statement; 0 where
/// statements have no date.
///
/// Objects are drawn independently but for these: spouses come in couples, a capital lies in its
/// country, each country has a currency of its own, people who made films made one to three, with
/// equal shares, and so with books. Entities of one name differ in what describes them.
pub(super) fn draw_facts(
    world: &World,
    namesakes: &[bool],
    rng: &mut ChaCha8Rng,
) -> (Vec<Fact>, Vec<u16>) {
    let couples = draw_couples(world, rng);
    let countries = draw_countries(world, namesakes, rng);
    let works = draw_works(world, namesakes, rng);
    let mut facts: Vec<Fact> = Vec::new();
    let mut years: Vec<u16> = Vec::new();
    let first = |entity_type| world.entities_of(entity_type).start;
    for index in 0..world.entities.len() {
        let subject = EntityId(index as u32);
        let entity_type = world.entity_type(subject);
        for relation in entity_type.relations_in(WorldPreset::Hard) {
            let objects = match relation {
                Relation::Spouse => vec![couples[index - first(EntityType::Person)]],
                Relation::Country => vec![countries.of_towns[index - first(EntityType::Town)]],
                Relation::Capital => vec![countries.capitals[index - first(EntityType::Country)]],
                Relation::Currency => {
                    vec![first(EntityType::Currency) + index - first(EntityType::Country)]
                }
                Relation::Director => vec![works.directors[index - first(EntityType::Film)]],
                Relation::Author => vec![works.authors[index - first(EntityType::Book)]],
                Relation::Films => works.films[index].clone(),
                Relation::Books => works.books[index].clone(),
                _ => vec![draw_object(world, namesakes, &facts, subject, relation, rng)],
            };
            // One year for all of a list.
            let year = if relation.is_dated() { rng.random_range(1950..2000) } else { 0 };
            for object in objects {
                facts.push(Fact { subject, relation, object: EntityId(object as u32) });
                years.push(year);
            }
        }
    }
    (facts, years)
}

/// Any object, but for namesakes one that describes them apart.
fn draw_object(
    world: &World,
    namesakes: &[bool],
    facts: &[Fact],
    subject: EntityId,
    relation: Relation,
    rng: &mut ChaCha8Rng,
) -> usize {
    let describes = World::describing_relation(world.entity_type(subject)) == Some(relation);
    // Namesakes follow each other; of the facts so far, the first one's is near the end.
    let taken = (describes && namesakes[subject.0 as usize]).then(|| {
        let earlier = |it: &&Fact| it.subject.0 + 1 == subject.0 && it.relation == relation;
        let namesake = facts.iter().rev().take(20).find(earlier)?;
        (world.name(namesake.subject) == world.name(subject)).then_some(namesake.object)
    });
    loop {
        let object = world.random_entity(relation.grammar().object, rng);
        if taken.flatten() != Some(object) {
            return object.0 as usize;
        }
    }
}

/// The spouse of each person.
fn draw_couples(world: &World, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let people = world.entities_of(EntityType::Person);
    let mut order: Vec<usize> = people.clone().collect();
    order.shuffle(rng);
    let mut spouses = vec![people.start; people.len()];
    for couple in order.chunks_exact(2) {
        spouses[couple[0] - people.start] = couple[1];
        spouses[couple[1] - people.start] = couple[0];
    }
    spouses
}

struct Countries {
    /// The country of each town.
    of_towns: Vec<usize>,
    /// The capital of each country.
    capitals: Vec<usize>,
}

fn draw_countries(world: &World, namesakes: &[bool], rng: &mut ChaCha8Rng) -> Countries {
    let towns = world.entities_of(EntityType::Town);
    let countries = world.entities_of(EntityType::Country);
    let mut order: Vec<usize> = towns.clone().collect();
    order.shuffle(rng);
    let capitals = order[..countries.len()].to_vec();
    let mut of_towns = vec![usize::MAX; towns.len()];
    for (country, town) in countries.clone().zip(&capitals) {
        of_towns[town - towns.start] = country;
    }
    let is_capital: Vec<bool> = of_towns.iter().map(|it| *it != usize::MAX).collect();
    for town in 0..of_towns.len() {
        if !is_capital[town] {
            of_towns[town] = rng.random_range(countries.clone());
        }
    }
    for town in 1..of_towns.len() {
        let index = towns.start + town;
        let (a, b) = (&world.entities[index - 1], &world.entities[index]);
        if namesakes[index] && a.name == b.name && of_towns[town - 1] == of_towns[town] {
            // One of the two is no capital: capitals lie in different countries.
            let other = if is_capital[town] { town - 1 } else { town };
            let next = of_towns[other] + 1;
            of_towns[other] = if next == countries.end { countries.start } else { next };
        }
    }
    Countries { of_towns, capitals }
}

struct Works {
    /// The director of each film.
    directors: Vec<usize>,
    /// The author of each book.
    authors: Vec<usize>,
    /// Films by person, in order.
    films: Vec<Vec<usize>>,
    /// Books by person, in order.
    books: Vec<Vec<usize>>,
}

/// The directors of films and the authors of books. For some names that two films have, one of the
/// directors wrote one of two books of one name: who made both is found by intersection alone.
fn draw_works(world: &World, namesakes: &[bool], rng: &mut ChaCha8Rng) -> Works {
    let films = world.entities_of(EntityType::Film);
    let books = world.entities_of(EntityType::Book);
    let (directors, films_of) = draw_owners(world, films.clone(), &[], rng);
    let firsts = |works: &std::ops::Range<usize>| -> Vec<usize> {
        let pairs = works.clone().zip(works.start + 1..works.end);
        let share_name = |a: usize, b: usize| world.entities[a].name == world.entities[b].name;
        pairs.filter(|&(a, b)| namesakes[a] && share_name(a, b)).map(|it| it.0).collect()
    };
    let mut given: Vec<(usize, usize)> = Vec::new();
    for (film, book) in firsts(&films).into_iter().zip(firsts(&books)) {
        let director = directors[film - films.start];
        if given.iter().all(|it| it.1 != director) {
            given.push((book, director));
        }
    }
    let (authors, books_of) = draw_owners(world, books, &given, rng);
    Works { directors, authors, films: films_of, books: books_of }
}

/// The owner of each work, and the works of each person; some works have an owner given.
fn draw_owners(
    world: &World,
    works: std::ops::Range<usize>,
    given: &[(usize, usize)],
    rng: &mut ChaCha8Rng,
) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut people: Vec<usize> = world.entities_of(EntityType::Person).collect();
    people.shuffle(rng);
    people.retain(|person| given.iter().all(|it| it.1 != *person));
    let mut pool: Vec<usize> = works.clone().collect();
    pool.shuffle(rng);
    pool.retain(|work| given.iter().all(|it| it.0 != *work));
    let mut owners = vec![0; works.len()];
    let mut works_of = vec![Vec::new(); world.entities.len()];
    let given = given.iter().map(|&(work, person)| (Some(work), person));
    for (work, person) in given.chain(people.into_iter().map(|it| (None, it))) {
        let mut group: Vec<usize> = work.into_iter().collect();
        let wanted = rng.random_range(1..=MAX_WORKS) - group.len();
        group.extend(pool.drain(pool.len().saturating_sub(wanted)..));
        group.sort_unstable();
        for &work in &group {
            owners[work - works.start] = person;
        }
        works_of[person] = group;
    }
    debug_assert!(pool.is_empty(), "there are more people than works");
    (owners, works_of)
}

/// Outdated statements of a share of what has dates.
pub(super) fn draw_formers(
    world: &World,
    years: &[u16],
    stale: f64,
    rng: &mut ChaCha8Rng,
) -> Vec<Former> {
    let mut formers = Vec::new();
    let mut at = 0;
    while at < world.facts.len() {
        let fact = world.facts[at];
        let objects = world.facts[at..].iter();
        let len =
            objects.take_while(|it| (it.subject, it.relation) == (fact.subject, fact.relation));
        let len = len.count();
        if fact.relation.is_dated() && rng.random_bool(stale) {
            let year = rng.random_range(1900..years[at]);
            let objects = match fact.relation.is_list() {
                true => {
                    let kept = rng.random_range(0..len);
                    world.facts[at..at + kept].iter().map(|it| it.object).collect()
                }
                false => vec![another(world, fact, rng)],
            };
            // A list that was empty had no passage.
            if !objects.is_empty() {
                formers.push(Former { fact: at, objects, year });
            }
        }
        at += len;
    }
    formers
}

/// An object of the same type that the fact does not have.
fn another(world: &World, fact: Fact, rng: &mut ChaCha8Rng) -> EntityId {
    loop {
        let object = world.random_entity(fact.relation.grammar().object, rng);
        if object != fact.object && object != fact.subject {
            return object;
        }
    }
}
