//! Exercises for the skills that a transcript takes for granted: copying a name, reading a document.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zs_core::{Document, render_observation};

use super::relation::fill;
use super::{EntityType, Example, World, WorldPreset, pick};

/// Three documents, then a question about each in another order, each followed by its answer.
///
/// Only the answers are learned: dense practice in finding the document and copying a name.
#[must_use]
pub fn reading_drill(world: &World, rng: &mut ChaCha8Rng) -> Example {
    let mut passages: Vec<usize> = Vec::with_capacity(3);
    while passages.len() < 3 {
        let passage = rng.random_range(0..world.num_passages());
        if !passages.contains(&passage) && is_readable(world, passage) {
            passages.push(passage);
        }
    }
    let mut passages: Vec<_> = passages.iter().map(|&it| world.passage_with_mentions(it)).collect();
    let documents: Vec<Document> = passages.iter().map(|(document, _)| document.clone()).collect();
    let mut example = Example::ending();
    example.show(render_observation(&documents, false));
    passages.shuffle(rng);
    for (_, mentions) in passages {
        let askable: Vec<_> = mentions.into_iter().filter(|it| !is_list(world, it.0)).collect();
        // No number is drawn where there is no choice.
        let (fact, object) = if askable.len() == 1 { &askable[0] } else { pick(&askable, rng) };
        let fact = world.facts()[*fact];
        let question = pick(fact.relation.grammar().questions, rng);
        example.show(format!("{} <answer>", fill(question, &world.mention(fact.subject), "")));
        example.learn(format!(" {object} </answer>\n"));
    }
    example
}

/// Returns true if a passage states a fact that a question asks for with its object as the answer.
fn is_readable(world: &World, passage: usize) -> bool {
    world.current_facts(passage).into_iter().any(|it| !is_list(world, it))
}

fn is_list(world: &World, fact: usize) -> bool {
    world.facts()[fact].relation.is_list()
}

/// Every fact about an entity of an easy world, in any order and phrasing, or a passage of a hard
/// one; all of it is learned.
#[must_use]
pub fn page_example(world: &World, rng: &mut ChaCha8Rng) -> Example {
    if world.preset() == WorldPreset::Hard {
        let mut example = Example::ending();
        example.learn(world.passage(rng.random_range(0..world.num_passages())).text);
        return example;
    }
    let fact = rng.random_range(0..world.facts().len());
    let mut about: Vec<usize> = world.facts_about(world.facts()[fact].subject).collect();
    about.shuffle(rng);
    let mut example = Example::ending();
    for index in about {
        example.learn(format!("{} ", world.draw_sentence(world.facts()[index], rng)));
    }
    example
}

/// Statements "A is B." in two further orders after they were listed; given A, B is learned.
#[must_use]
pub fn induction_drill(world: &World, rng: &mut ChaCha8Rng) -> Example {
    const KEYS: [EntityType; 4] =
        [EntityType::Person, EntityType::Town, EntityType::Film, EntityType::Company];
    const VALUES: [EntityType; 4] =
        [EntityType::Person, EntityType::Town, EntityType::Book, EntityType::Country];
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let num_pairs = rng.random_range(3..=6);
    while pairs.len() < num_pairs {
        let key = world.name(world.random_entity(*pick(&KEYS, rng), rng));
        let value = world.name(world.random_entity(*pick(&VALUES, rng), rng));
        if pairs.iter().all(|it| it.0 != key) {
            pairs.push((key, value));
        }
    }
    let mut example = Example::ending();
    let listed: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key} is {value}.")).collect();
    example.show(listed.join(" "));
    for _ in 0..2 {
        pairs.shuffle(rng);
        for (key, value) in &pairs {
            example.show(format!(" {key} is"));
            example.learn(format!(" {value}."));
        }
    }
    example
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey, contains_words};

    use super::*;
    use crate::Split;

    #[test]
    fn answers_can_be_read_from_what_was_shown() {
        let world = World::generate(0, Split::Train);
        let mut rng = StreamKey::new(0).rng(Domain::Corpus);
        for _ in 0..50 {
            let example = reading_drill(&world, &mut rng);
            for learned in example.segments.iter().filter(|it| it.learned) {
                let answer = learned.text.trim().trim_end_matches(" </answer>");
                assert!(contains_words(&example.segments[0].text, answer), "{example:?}");
            }
            let example = induction_drill(&world, &mut rng);
            for learned in example.segments.iter().filter(|it| it.learned) {
                assert!(example.segments[0].text.contains(&format!("is{}", learned.text)));
            }
            let page = page_example(&world, &mut rng);
            assert!(page.segments.iter().all(|it| it.learned) && page.segments.len() >= 2);
        }
    }
}
