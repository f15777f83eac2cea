//! Training text as tokens.

use zs_core::is_never_closed;
use zs_model::{TokenId, TokenRow, Tokenizer, TokenizerError};
use zs_world::Example;

/// Errors of making training text.
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

/// Encodes an example as tokens with their loss mask.
///
/// The first part is encoded as the start of a sequence; where it is only shown, as a prompt, in
/// the model's chat template if it has one. Parts are encoded one by one, as the
/// RL loop does with prompts, turns and observations; what follows a prompt is encoded without what
/// the prompt already holds ([`Tokenizer::encode_reply`]). A thinking block that the prompt opens and
/// the reply does not close is closed before it, since the reply is no thought. The very first token never carries loss,
/// since nothing precedes it; where the example [`ends`](Example::ends), `end` is appended and
/// learned.
///
/// # Errors
///
/// Fails when a part cannot be encoded.
pub fn encode_example(
    example: &Example,
    tokenizer: &Tokenizer,
    end: TokenId,
) -> Result<TokenRow, TokenizerError> {
    let mut row = TokenRow { tokens: Vec::new(), loss_mask: Vec::new() };
    for (index, segment) in example.segments.iter().enumerate() {
        let tokens = match index {
            0 if segment.learned => tokenizer.encode_start(&segment.text)?,
            0 => tokenizer.encode_prompt(&segment.text)?,
            1 if !example.segments[0].learned => {
                match is_never_closed(&segment.text, &tokenizer.prefill(&row.tokens)) {
                    true => tokenizer.encode(&format!("</think>\n\n{}", segment.text))?,
                    false => tokenizer.encode_reply(&row.tokens, &segment.text)?,
                }
            }
            _ => tokenizer.encode(&segment.text)?,
        };
        row.loss_mask.extend(vec![segment.learned; tokens.len()]);
        row.tokens.extend(tokens);
    }
    if example.ends {
        row.tokens.push(end);
        row.loss_mask.push(true);
    }
    if let Some(first) = row.loss_mask.first_mut() {
        *first = false;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use zs_model::ChatTemplate;
    use zs_model::testing::{BYTE_EOS, byte_tokenizer};

    use super::*;
    use crate::pretraining::world_tokenizer;

    #[test]
    fn only_learned_parts_and_the_end_carry_loss() {
        let mut example = Example::ending();
        example.show("Question: Who");
        example.learn("<answer> Anna </answer>");
        let row = encode_example(&example, &world_tokenizer(), 2).unwrap();
        // <bos> Question : Who | <answer> Anna </answer> <eos>
        let mask = [false, false, false, false, true, true, true, true];
        assert_eq!(row.loss_mask, mask);
        assert_eq!((row.tokens[0], row.tokens[7]), (1, 2));

        let mut thoughtful = Example::ending();
        thoughtful.show("who?");
        thoughtful.learn("<think>\nhm</think>");
        let chat = "{{ messages[0].content }}<think>{{ '\n' }}".to_owned();
        let chat = ChatTemplate::new(chat, String::new(), String::new()).unwrap();
        let tokenizer = byte_tokenizer().with_chat_template(Some(chat));
        let row = encode_example(&thoughtful, &tokenizer, BYTE_EOS).unwrap();
        assert_eq!(tokenizer.decode(&row.tokens), "who?<think>\nhm</think>");

        // A reply without thoughts is none.
        let mut plain = Example::ending();
        plain.show("who?");
        plain.learn("Anna");
        let row = encode_example(&plain, &tokenizer, BYTE_EOS).unwrap();
        assert_eq!(tokenizer.decode(&row.tokens), "who?<think>\n</think>\n\nAnna");

        let mut page = Example::default();
        page.learn("Anna");
        assert_eq!(encode_example(&page, &world_tokenizer(), 2).unwrap().loss_mask, [false, true]);
    }
}
