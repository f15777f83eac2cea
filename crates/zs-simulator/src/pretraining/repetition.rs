//! An exercise for copying, made of tokens and not of text.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use zs_model::{TokenId, TokenRow, Tokenizer};
use zs_world::{FIRST_ORDINARY_TOKEN, World};

use super::ExampleError;

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
        text.push_str(&world.passage(rng.random_range(0..world.num_passages())).text);
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
    use zs_world::Split;

    use super::*;
    use crate::pretraining::world_tokenizer;

    #[test]
    fn repetitions_repeat() {
        let world = World::generate(0, Split::Train);
        let tokenizer = world_tokenizer();
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
