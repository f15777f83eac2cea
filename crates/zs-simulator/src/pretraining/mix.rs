//! The pre-training corpus: examples of every kind, drawn in given shares.

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zs_core::{Domain, StreamKey};
use zs_model::{TokenId, TokenRow, Tokenizer};
use zs_world::{
    BehaviourMix, EOS_TOKEN, Example, World, induction_drill, page_example, pick, pick_weighted,
    reading_drill, transcript,
};

use super::{ExampleError, encode_example, repetition_drill, simulation_example};
use crate::SimulationTemplates;

/// Relative frequency of each kind of example; weights need not sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusMix {
    /// Weight of [`transcript`].
    pub transcript: f64,
    /// Weight of [`simulation_example`], whose prompt names the right quality as often as
    /// [`BASE_FOLLOW`] says.
    pub simulation: f64,
    /// Weight of [`reading_drill`].
    pub reading: f64,
    /// Weight of [`page_example`].
    pub page: f64,
    /// Weight of [`repetition_drill`].
    pub repetition: f64,
    /// Weight of [`induction_drill`].
    pub induction: f64,
}

/// Fraction of simulation prompts of the pre-training corpus that deliberately name the quality of
/// their documents; the others name any.
pub const BASE_FOLLOW: f64 = 0.4;

impl Default for CorpusMix {
    fn default() -> Self {
        Self {
            transcript: 0.5,
            simulation: 0.25,
            reading: 0.2,
            page: 0.05,
            repetition: 0.0,
            induction: 0.0,
        }
    }
}

impl CorpusMix {
    /// Mix of the warm-up phase: much repetition, which the model needs to learn copying first.
    #[must_use]
    pub fn warm_up() -> Self {
        Self {
            transcript: 0.3,
            simulation: 0.1,
            reading: 0.15,
            page: 0.0,
            repetition: 0.45,
            induction: 0.0,
        }
    }
}

/// `n` examples as token rows, in parallel; row `i` is a function of its arguments and `i` alone.
///
/// # Errors
///
/// Fails when there is no world, the tokenizer is not a world's, or it cannot encode an example.
pub fn generate_examples(
    worlds: &[World],
    tokenizer: &Tokenizer,
    mix: &CorpusMix,
    behaviours: &BehaviourMix,
    n: usize,
    key: StreamKey,
) -> Result<Vec<TokenRow>, ExampleError> {
    if worlds.is_empty() {
        return Err(ExampleError::NoWorlds);
    }
    let end = tokenizer.token_id(EOS_TOKEN).ok_or_else(|| ExampleError::MissingToken {
        tokenizer: tokenizer.source().display().to_string(),
        token: EOS_TOKEN,
    })?;
    let drawer =
        Drawer { worlds, tokenizer, mix, behaviours, templates: SimulationTemplates::tiny(), end };
    (0..n)
        .into_par_iter()
        .map(|index| {
            let place = StreamKey { group: (index >> 32) as u32, sample: index as u32, ..key };
            drawer.draw(&mut place.rng(Domain::Corpus))
        })
        .collect()
}

struct Drawer<'a> {
    worlds: &'a [World],
    tokenizer: &'a Tokenizer,
    mix: &'a CorpusMix,
    behaviours: &'a BehaviourMix,
    templates: SimulationTemplates,
    end: TokenId,
}

impl Drawer<'_> {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<TokenRow, ExampleError> {
        type Kind = fn(&Drawer<'_>, &World, &mut ChaCha8Rng) -> Result<Example, ExampleError>;
        let kinds: [(f64, Kind); 5] = [
            (self.mix.transcript, |it, world, rng| it.transcript(world, rng)),
            (self.mix.simulation, |it, world, rng| it.simulation(world, rng)),
            (self.mix.reading, |_, world, rng| Ok(reading_drill(world, rng))),
            (self.mix.page, |_, world, rng| Ok(page_example(world, rng))),
            (self.mix.induction, |_, world, rng| Ok(induction_drill(world, rng))),
        ];
        let world = pick(self.worlds, rng);
        // The repetition drill alone is made of tokens and not of text.
        let others: f64 = kinds.iter().map(|it| it.0).sum();
        if pick_weighted(&[self.mix.repetition, others], rng) == 0 {
            return repetition_drill(world, self.tokenizer, rng);
        }
        let draw = kinds[pick_weighted(&kinds.map(|it| it.0), rng)].1;
        Ok(encode_example(&draw(self, world, rng)?, self.tokenizer, self.end)?)
    }

    fn transcript(&self, world: &World, rng: &mut ChaCha8Rng) -> Result<Example, ExampleError> {
        let question = world.draw_question(rng);
        Ok(transcript(world, &question, self.behaviours.draw(rng), rng))
    }

    fn simulation(&self, world: &World, rng: &mut ChaCha8Rng) -> Result<Example, ExampleError> {
        let question = world.draw_question(rng);
        Ok(simulation_example(world, &question, &self.templates, BASE_FOLLOW, rng)?)
    }
}

#[cfg(test)]
mod tests {
    use zs_world::{Difficulty, Split, WorldPreset};

    use super::*;
    use crate::pretraining::{preset_tokenizer, world_tokenizer};

    #[test]
    fn rows_are_deterministic_and_well_formed() {
        let worlds = [0, 1].map(|seed| World::generate(seed, Split::Train));
        let tokenizer = world_tokenizer();
        let mix = CorpusMix { repetition: 0.2, induction: 0.1, ..CorpusMix::default() };
        let behaviours = BehaviourMix::default();
        let generate = |n, step| {
            let key = StreamKey { step, ..StreamKey::new(1) };
            generate_examples(&worlds, &tokenizer, &mix, &behaviours, n, key).unwrap()
        };
        let rows = generate(300, 0);
        assert_eq!(rows[..40], generate(40, 0));
        assert_ne!(rows[..40], generate(40, 1));
        for row in &rows {
            assert_eq!(row.tokens.len(), row.loss_mask.len());
            assert!(!row.loss_mask[0] && row.loss_mask.contains(&true));
            assert!(!row.tokens.contains(&3), "unknown token in {:?}", row.tokens);
            assert!(row.tokens.len() < 400);
        }
    }

    #[test]
    fn rows_about_hard_worlds_are_well_formed() {
        let difficulty = Difficulty { passages: 2_000, ..Difficulty::default() };
        let worlds = [World::hard(0, Split::Train, &difficulty).unwrap()];
        let tokenizer = preset_tokenizer(WorldPreset::Hard);
        let mix = CorpusMix { repetition: 0.1, induction: 0.1, ..CorpusMix::default() };
        let (behaviours, key) = (BehaviourMix::default(), StreamKey::new(1));
        let rows = generate_examples(&worlds, &tokenizer, &mix, &behaviours, 300, key).unwrap();
        for row in &rows {
            assert!(!row.loss_mask[0] && row.loss_mask.contains(&true));
            assert!(!row.tokens.contains(&3), "unknown token in {:?}", row.tokens);
            assert!(row.tokens.len() < 1_024, "{}", row.tokens.len());
        }
    }

    #[test]
    fn unusable_inputs_are_errors() {
        let tokenizer = world_tokenizer();
        let (mix, behaviours) = (CorpusMix::default(), BehaviourMix::default());
        let key = StreamKey::new(0);
        let none = generate_examples(&[], &tokenizer, &mix, &behaviours, 1, key);
        assert!(matches!(none, Err(ExampleError::NoWorlds)));
    }
}
