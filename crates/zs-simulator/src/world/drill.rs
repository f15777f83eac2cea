//! Exercises for the skills that a transcript takes for granted: copying a name, reading a document.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zs_core::{Document, render_observation};
use zs_model::{TokenId, TokenRow, Tokenizer};

use super::relation::fill;
use super::tokenizer::FIRST_ORDINARY_TOKEN;
use super::{EntityType, Example, ExampleError, World, pick};

/// Three documents, then a question about each in another order, each followed by its answer.
///
/// Only the answers are learned: dense practice in finding the document and copying a name.
#[must_use]
pub fn reading_drill(world: &World, rng: &mut ChaCha8Rng) -> Example {
    let mut facts: Vec<usize> = Vec::with_capacity(3);
    while facts.len() < 3 {
        let fact = rng.random_range(0..world.facts().len());
        if !facts.contains(&fact) {
            facts.push(fact);
        }
    }
    let documents: Vec<Document> = facts.iter().map(|&it| world.passage(it)).collect();
    let mut example = Example::ending();
    example.show(render_observation(&documents, false));
    facts.shuffle(rng);
    for index in facts {
        let fact = world.facts()[index];
        let question = pick(fact.relation.grammar().questions, rng);
        example.show(format!("{} <answer>", fill(question, world.name(fact.subject), "")));
        example.learn(format!(" {} </answer>\n", world.name(fact.object)));
    }
    example
}

/// Every fact about an entity, in any order and phrasing; all of it is learned.
#[must_use]
pub fn page_example(world: &World, rng: &mut ChaCha8Rng) -> Example {
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

/// A span of tokens that comes back twice from somewhere in its middle; all but the first token of
/// each return is learned, since nothing says where it starts.
///
/// Half of the tokens are drawn from the whole vocabulary, so nothing but copying helps: this is
/// what makes attention learn to look for what followed the same token before.
///
/// # Errors
///
/// Fails when the tokenizer cannot encode a sentence.
///
/// # References
///
/// - [Induction heads](https://arxiv.org/abs/2209.11895), section "Argument 4": repeated random
///   tokens as the test of copying
pub fn repetition_drill(
    world: &World,
    tokenizer: &Tokenizer,
    rng: &mut ChaCha8Rng,
) -> Result<TokenRow, ExampleError> {
    let mut text = String::new();
    for _ in 0..3 {
        text.push_str(world.sentence(rng.random_range(0..world.facts().len())));
        text.push(' ');
    }
    let mut tokens = tokenizer.encode_start(&text)?;
    let num_start = tokenizer.encode_start("")?.len();
    let len = rng.random_range(6..=24_usize).min(tokens.len() - num_start);
    tokens.truncate(num_start + len);
    let vocab_size = tokenizer.vocab_size() as TokenId;
    for token in &mut tokens[num_start..] {
        if rng.random_bool(0.5) {
            *token = rng.random_range(FIRST_ORDINARY_TOKEN..vocab_size);
        }
    }
    let span = tokens[num_start..].to_vec();
    let mut loss_mask = vec![false; tokens.len()];
    for _ in 0..2 {
        let from = rng.random_range(0..span.len().saturating_sub(4).max(1));
        tokens.extend(&span[from..]);
        loss_mask.extend((from..span.len()).map(|at| at > from));
    }
    Ok(TokenRow { tokens, loss_mask })
}

#[cfg(test)]
mod tests {
    use zs_core::{Domain, StreamKey};

    use super::*;
    use crate::world::{Split, contains_words, tokenizer};

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

    #[test]
    fn repetitions_repeat() {
        let world = World::generate(0, Split::Train);
        let tokenizer = tokenizer();
        let mut rng = StreamKey::new(0).rng(Domain::Corpus);
        for _ in 0..50 {
            let row = repetition_drill(&world, &tokenizer, &mut rng).unwrap();
            assert_eq!(row.tokens.len(), row.loss_mask.len());
            let num_shown = row.loss_mask.iter().position(|it| *it).unwrap() - 1;
            let shown = &row.tokens[..num_shown];
            for at in num_shown + 1..row.tokens.len() {
                let pair = &row.tokens[at - 1..=at];
                assert!(!row.loss_mask[at] || shown.windows(2).any(|it| it == pair));
            }
        }
    }
}
