//! Look-up tables that questions about a hard world are drawn with.

use std::collections::{BTreeMap, BTreeSet};

use crate::{EntityId, EntityType, Relation, World};

/// Tables over the facts of a world.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Entities with the same object of a relation, two or more each.
    pub(super) sharing: BTreeMap<Relation, Vec<Vec<EntityId>>>,
    /// Subjects of the lists of a relation, by the number of their objects less one.
    pub(super) list_owners: BTreeMap<Relation, [Vec<EntityId>; 3]>,
    /// Pairs of films and of books of one name each, of which the first ones have one maker.
    pub(super) crossings: Vec<[EntityId; 4]>,
    /// Surnames of more than one person.
    shared_surnames: BTreeSet<String>,
}

impl Index {
    pub(super) fn of(world: &World) -> Self {
        let sharing = [Relation::Birthplace, Relation::Director, Relation::Author];
        let lists = [Relation::Films, Relation::Books];
        Self {
            sharing: sharing.map(|it| (it, sharing_object(world, it))).into(),
            list_owners: lists.map(|it| (it, list_owners(world, it))).into(),
            crossings: crossings(world),
            shared_surnames: shared_surnames(world),
        }
    }

    /// Returns true if no other person has the surname.
    pub(super) fn has_own_surname(&self, name: &str) -> bool {
        let surname = name.rsplit(' ').next().unwrap_or(name);
        !self.shared_surnames.contains(surname)
    }
}

fn sharing_object(world: &World, relation: Relation) -> Vec<Vec<EntityId>> {
    let mut subjects: BTreeMap<EntityId, Vec<EntityId>> = BTreeMap::new();
    for fact in world.facts.iter().filter(|it| it.relation == relation) {
        subjects.entry(fact.object).or_default().push(fact.subject);
    }
    subjects.into_values().filter(|it| it.len() > 1).collect()
}

fn list_owners(world: &World, relation: Relation) -> [Vec<EntityId>; 3] {
    let mut owners = [const { Vec::new() }; 3];
    let of_relation: Vec<_> = world.facts.iter().filter(|it| it.relation == relation).collect();
    for list in of_relation.chunk_by(|a, b| a.subject == b.subject) {
        owners[list.len() - 1].push(list[0].subject);
    }
    owners
}

fn crossings(world: &World) -> Vec<[EntityId; 4]> {
    let maker = |work, relation| Some(world.facts[world.fact_index(work, relation)?].object);
    let film_pairs = pairs_of_one_name(world, EntityType::Film);
    let book_pairs = pairs_of_one_name(world, EntityType::Book);
    let mut crossings = Vec::new();
    // Directors and authors were matched in this order.
    for ([film, other_film], [book, other_book]) in film_pairs.into_iter().zip(book_pairs) {
        let directors = [film, other_film].map(|it| maker(it, Relation::Director));
        let authors = [book, other_book].map(|it| maker(it, Relation::Author));
        let is_crossing = directors[0] == authors[0]
            && directors[1] != directors[0]
            && authors[1] != authors[0]
            && directors[1] != authors[1];
        if is_crossing {
            crossings.push([film, other_film, book, other_book]);
        }
    }
    crossings
}

/// Entities of one name follow each other.
fn pairs_of_one_name(world: &World, entity_type: EntityType) -> Vec<[EntityId; 2]> {
    let ids: Vec<EntityId> = world.entities_of(entity_type).map(|it| EntityId(it as u32)).collect();
    let pairs = ids.windows(2).map(|it| [it[0], it[1]]);
    pairs.filter(|it| world.name(it[0]) == world.name(it[1])).collect()
}

fn shared_surnames(world: &World) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let people = &world.entities[world.entities_of(EntityType::Person)];
    let surnames = people.iter().filter_map(|it| it.name.rsplit(' ').next());
    surnames.filter(|it| !seen.insert(*it)).map(str::to_owned).collect()
}
