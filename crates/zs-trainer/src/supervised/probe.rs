//! Probe of copying, the skill that everything else builds on.

use zs_core::{Domain, StreamKey};
use zs_model::{CausalLm, TokenRow, Tokenizer, TokenizerError, teacher_forced_matches};
use zs_simulator::pretraining::encode_example;
use zs_world::{Behaviour, Example, World, transcript};

/// Transcripts of a validation world, cut where the policy is about to write the name that it has
/// just read. No training text holds these names.
#[derive(Clone, Debug)]
pub(crate) struct CopyProbe {
    rows: Vec<TokenRow>,
}

impl CopyProbe {
    /// A probe of up to `questions` 1-hop questions about a world.
    pub(crate) fn new(
        world: &World,
        questions: usize,
        seed: u64,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TokenizerError> {
        let mut rows = Vec::new();
        for (index, question) in world.questions(seed, 1, questions).iter().enumerate() {
            let place = StreamKey { sample: index as u32, ..StreamKey::new(seed) };
            let mut rng = place.rng(Domain::Corpus);
            let whole = transcript(world, question, Behaviour::Good, &mut rng);
            if let Some(cut) = cut(&whole, &question.question.golden_answers[0]) {
                // Without an end, the end token is not used.
                rows.push(encode_example(&cut, tokenizer, 0)?);
            }
        }
        Ok(Self { rows })
    }

    /// The share of names that greedy decoding would write in full.
    pub(crate) fn accuracy(&self, network: &CausalLm, max_tokens: usize) -> f64 {
        let matches = teacher_forced_matches(network, &self.rows, max_tokens);
        matches.iter().filter(|it| **it).count() as f64 / matches.len().max(1) as f64
    }
}

/// The transcript up to "… is NAME", of which the name alone is learned.
fn cut(whole: &Example, name: &str) -> Option<Example> {
    let (last, shown) = whole.segments.split_last()?;
    let at = last.text.find(&format!(" is {name}."))? + " is".len();
    let mut example = Example::default();
    for segment in shown {
        example.show(segment.text.clone());
    }
    example.show(&last.text[..at]);
    example.learn(format!(" {name}"));
    Some(example)
}

#[cfg(test)]
mod tests {
    use zs_world::Split;

    use super::*;

    #[test]
    fn the_name_alone_is_learned() {
        let tokenizer = zs_simulator::pretraining::world_tokenizer();
        let world = World::generate(1, Split::Validation);
        let probe = CopyProbe::new(&world, 20, 1, &tokenizer).unwrap();
        assert!(probe.rows.len() >= 15, "{}", probe.rows.len());
        let names: Vec<&str> = world.entities().iter().map(|it| it.name.as_str()).collect();
        for row in &probe.rows {
            let learned: Vec<u32> = row
                .tokens
                .iter()
                .zip(&row.loss_mask)
                .filter(|(_, learned)| **learned)
                .map(|(token, _)| *token)
                .collect();
            let text = tokenizer.decode(&learned);
            assert!(names.contains(&text.trim()), "{text}");
            let read = row.tokens.windows(learned.len()).filter(|it| *it == learned).count();
            assert!(read >= 2, "`{text}` must stand in the documents too");
        }
    }
}
