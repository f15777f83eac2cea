//! A piece of training text: which parts of it a model learns to write.

use zs_model::{TokenId, TokenRow, Tokenizer, TokenizerError};

/// A part of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// Whether a model learns to write it; what it is only shown carries no loss.
    pub learned: bool,
}

/// One training sequence as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// The parts, in order.
    pub segments: Vec<Segment>,
    /// Whether the model learns to stop after the last part.
    pub ends: bool,
}

/// Why training text could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExampleError {
    /// The tokenizer could not encode a part.
    #[error("an example could not be encoded")]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer has no token that ends a sequence.
    #[error(
        "{tokenizer} has no token `{token}`, which training text on worlds ends with; \
         use a model made by `cargo xtask pretrain`, or tune on recorded searches"
    )]
    MissingToken {
        /// The tokenizer's file.
        tokenizer: String,
        /// The token.
        token: &'static str,
    },
    /// There is nothing to draw examples from.
    #[error("no world was given to draw examples from")]
    NoWorlds,
    /// A prompt template could not be rendered.
    #[error("an example's prompt could not be rendered")]
    Template(#[from] crate::TemplateError),
}

impl Example {
    /// An example that ends after its last part.
    #[must_use]
    pub fn ending() -> Self {
        Self { segments: Vec::new(), ends: true }
    }

    /// Adds text that is only shown.
    pub fn show(&mut self, text: impl Into<String>) {
        self.segments.push(Segment { text: text.into(), learned: false });
    }

    /// Adds text that is learned.
    pub fn learn(&mut self, text: impl Into<String>) {
        self.segments.push(Segment { text: text.into(), learned: true });
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        self.segments.iter().map(|it| it.text.as_str()).collect()
    }

    /// The example as tokens with their loss mask.
    ///
    /// The first part is encoded as the start of a sequence; where it is only shown, as a prompt, in
    /// the model's chat template if it has one. Parts are encoded one by one, as the
    /// RL loop does with prompts, turns and observations. The very first token never carries loss,
    /// since nothing precedes it; where the example [`ends`](Self::ends), `end` is appended and
    /// learned.
    ///
    /// # Errors
    ///
    /// Fails when a part cannot be encoded.
    pub fn encode(&self, tokenizer: &Tokenizer, end: TokenId) -> Result<TokenRow, TokenizerError> {
        let mut row = TokenRow { tokens: Vec::new(), loss_mask: Vec::new() };
        for (index, segment) in self.segments.iter().enumerate() {
            let tokens = match index {
                0 if segment.learned => tokenizer.encode_start(&segment.text)?,
                0 => tokenizer.encode_prompt(&segment.text)?,
                _ => tokenizer.encode(&segment.text)?,
            };
            row.loss_mask.extend(vec![segment.learned; tokens.len()]);
            row.tokens.extend(tokens);
        }
        if self.ends {
            row.tokens.push(end);
            row.loss_mask.push(true);
        }
        if let Some(first) = row.loss_mask.first_mut() {
            *first = false;
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tokenizer;

    #[test]
    fn only_learned_parts_and_the_end_carry_loss() {
        let mut example = Example::ending();
        example.show("Question: Who");
        example.learn("<answer> Anna </answer>");
        let row = example.encode(&tokenizer(), 2).unwrap();
        // <bos> Question : Who | <answer> Anna </answer> <eos>
        let mask = [false, false, false, false, true, true, true, true];
        assert_eq!(row.loss_mask, mask);
        assert_eq!((row.tokens[0], row.tokens[7]), (1, 2));

        let mut page = Example::default();
        page.learn("Anna");
        assert_eq!(page.encode(&tokenizer(), 2).unwrap().loss_mask, [false, true]);
    }
}
