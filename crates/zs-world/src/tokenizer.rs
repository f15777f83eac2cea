//! The tokenizer of models trained on worlds: one token a word of the grammar, two or three a name.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use zs_core::{INVALID_ACTION_MESSAGE, NO_DOCUMENTS, RESERVED_TAGS};

use super::relation::relations_of;
use super::{EntityType, GIVEN_NAMES, JOBS, QUERIES, WorldPreset, name, transcript, wording};

/// Padding; token 0.
pub const PAD_TOKEN: &str = "<pad>";
/// Start of a sequence, added by the tokenizer's template; token 1.
pub const BOS_TOKEN: &str = "<bos>";
/// End of a sequence; token 2.
pub const EOS_TOKEN: &str = "<eos>";

const UNKNOWN_TOKEN: &str = "[UNK]";

/// Longest word that is encoded, in characters: BERT's. `WordPiece` takes time that grows with the third
/// power of a word's length.
const MAX_WORD_CHARS: usize = 100;

/// The prompt for useful documents of models trained on worlds; short, since they are small.
pub const TINY_USEFUL: &str = "useful documents. Question: {{ question }} Answer: \
{{ golden_answer }} Query: {{ query }}\nDocuments: ";

/// The prompt for noisy documents of models trained on worlds.
pub const TINY_NOISY: &str = "noisy documents. Question: {{ question }} Answer: \
{{ golden_answer }} Query: {{ query }}\nDocuments: ";

/// Numbers of documents; like the tags of the loop, each is one token wherever it stands.
const NUMBERS: [&str; 5] = ["Doc 1:", "Doc 2:", "Doc 3:", "Doc 4:", "Doc 5:"];

/// Text that is one token wherever it stands.
fn whole() -> impl Iterator<Item = &'static str> {
    RESERVED_TAGS.into_iter().chain(NUMBERS)
}

/// The first token that a model may write as ordinary text.
pub const FIRST_ORDINARY_TOKEN: u32 = 4;

/// The tokenizer as the contents of a Hugging Face `tokenizer.json`.
///
/// `WordPiece` over white space and punctuation, case kept. The vocabulary is fixed, whatever the
/// seeds of the worlds: the grammar's words, given names, jobs, years, the syllables that names are
/// made of, and every printable ASCII character. So any ASCII text can be encoded, but for words of
/// more than 100 characters, which are one unknown token as with BERT. White space is not kept: a
/// line break is encoded like a space, and decoding writes one space between words.
#[must_use]
pub fn tokenizer_json() -> String {
    WorldPreset::Easy.tokenizer_json()
}

impl WorldPreset {
    /// The tokenizer of models of the preset's worlds; [`tokenizer_json`] is that of easy ones.
    #[must_use]
    pub fn tokenizer_json(self) -> String {
        tokenizer_of(&vocabulary(self))
    }
}

fn tokenizer_of(vocabulary: &[String]) -> String {
    let added_token = |(id, token): (usize, &String)| {
        let special = [PAD_TOKEN, BOS_TOKEN, EOS_TOKEN].contains(&token.as_str());
        (special || whole().any(|it| it == token)).then(|| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special
            })
        })
    };
    let added: Vec<Value> = vocabulary.iter().enumerate().filter_map(added_token).collect();
    let vocab: Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    let bos = json!({ "SpecialToken": { "id": BOS_TOKEN, "type_id": 0 } });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, sequence("A")],
            "pair": [bos, sequence("A"), sequence("B")],
            "special_tokens": {
                BOS_TOKEN: { "id": BOS_TOKEN, "ids": [1], "tokens": [BOS_TOKEN] }
            }
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": UNKNOWN_TOKEN, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MAX_WORD_CHARS, "vocab": vocab
        }
    })
    .to_string()
}

/// Every token, in the order of their identifiers.
fn vocabulary(preset: WorldPreset) -> Vec<String> {
    let fixed = [PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, UNKNOWN_TOKEN].into_iter().chain(whole());
    let mut tokens: Vec<String> = fixed.map(str::to_owned).collect();
    let mut rest: BTreeSet<String> = grammar_words(preset);
    rest.extend(GIVEN_NAMES.map(str::to_owned));
    rest.extend(JOBS.map(str::to_owned));
    rest.extend((1900..2000).map(|year| year.to_string()));
    rest.extend(name::onsets());
    rest.extend(name::continuations().map(|it| format!("##{it}")));
    for ch in (' '..='~').filter(|ch| *ch != ' ') {
        rest.insert(ch.to_string());
        // Punctuation always stands alone, so it never continues a word.
        if ch.is_ascii_alphanumeric() {
            rest.insert(format!("##{ch}"));
        }
    }
    tokens.extend(rest);
    tokens
}

/// The words of everything that worlds, the loop and the simulation prompt say.
fn grammar_words(preset: WorldPreset) -> BTreeSet<String> {
    let mut texts: Vec<&str> = vec![INVALID_ACTION_MESSAGE, NO_DOCUMENTS, TINY_USEFUL, TINY_NOISY];
    texts.extend(QUERIES);
    texts.extend(transcript::PHRASES);
    texts.extend(EntityType::ALL.map(EntityType::noun));
    if preset == WorldPreset::Hard {
        texts.extend(wording::phrases());
    }
    for it in relations_of(preset) {
        texts.push(it.keyword);
        texts.extend(it.sentences);
        texts.extend(it.questions);
        texts.extend(it.phrases);
    }
    texts.into_iter().flat_map(words_outside_of_marks).collect()
}

/// The words of a phrasing, without `{placeholders}` and `<tags>`.
fn words_outside_of_marks(text: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let kept: String = text
        .chars()
        .map(|ch| {
            match ch {
                '{' | '<' => depth += 1,
                '}' | '>' => depth = depth.saturating_sub(1),
                _ if depth == 0 => return ch,
                _ => {}
            }
            ' '
        })
        .collect();
    let words = kept.split(|ch: char| !ch.is_alphanumeric());
    words.filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Capitalised words, given names included, that are longer than the first syllable of a name.
///
/// No name may begin with one: the longest match would read the word.
pub(crate) fn capitalised_words(preset: WorldPreset) -> &'static [String] {
    static WORDS: [OnceLock<Vec<String>>; 2] = [const { OnceLock::new() }; 2];
    WORDS[preset as usize].get_or_init(|| {
        let mut words = grammar_words(preset);
        words.extend(GIVEN_NAMES.map(str::to_owned));
        let onsets: BTreeSet<String> = name::onsets().collect();
        let is_reserved = |it: &String| it.starts_with(char::is_uppercase) && !onsets.contains(it);
        words.into_iter().filter(is_reserved).collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zs_core::{Action, Document, parse_action, render_observation};

    use super::*;
    use crate::{Split, World};

    fn tokenizer() -> zs_model::Tokenizer {
        zs_model::Tokenizer::from_bytes(tokenizer_json().as_bytes(), "tokenizer.json").unwrap()
    }

    /// The words that begin sentences here are no names for [`zs_core::names_in`] either.
    #[test]
    fn capitalised_words_are_no_names() {
        // Every word of easy worlds is one of hard worlds too.
        let words = capitalised_words(WorldPreset::Hard).iter().map(String::as_str);
        let words: Vec<&str> = words.filter(|it| !GIVEN_NAMES.contains(it)).collect();
        assert_eq!(words, zs_core::SENTENCE_WORDS);
    }

    #[test]
    fn vocabulary_is_as_documented() {
        let tokenizer = tokenizer();
        for (id, token) in [PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, UNKNOWN_TOKEN].iter().enumerate() {
            assert_eq!(tokenizer.token_id(token), Some(id as u32));
        }
        assert_eq!(tokenizer.token_id("<think>"), Some(FIRST_ORDINARY_TOKEN));
        let size = tokenizer.vocab_size();
        assert!((600..800).contains(&size), "{size}");
        assert_eq!(vocabulary(WorldPreset::Easy).len(), size);
        assert_eq!(tokenizer.encode_start("a").unwrap()[0], 1);
        assert_eq!(tokenizer.decode(&[1, tokenizer.token_id("born").unwrap(), 2]), "born");
    }

    #[test]
    fn tags_are_one_token_next_to_text() {
        let tokenizer = tokenizer();
        let text = render_observation(&[Document::new("", "Anna"), Document::new("", "b")], false);
        let tokens = tokenizer.encode(&text).unwrap();
        assert_eq!(tokens.len(), 6, "{tokens:?}");
        assert_eq!(tokenizer.decode(&tokens), "<information> Doc 1: Anna Doc 2: b </information>");
    }

    #[test]
    fn words_without_end_are_unknown() {
        let encode = |length: usize| tokenizer().encode(&"a".repeat(length)).unwrap();
        assert!(!encode(100).contains(&3));
        assert_eq!(encode(101), [3]);
        assert_eq!(encode(1_000_000), [3]);
    }

    #[test]
    fn decoded_turns_parse() {
        let tokenizer = tokenizer();
        let world = World::generate(2, Split::Test);
        let check = |written: &str, expected: Action| {
            let decoded = tokenizer.decode(&tokenizer.encode(written).unwrap());
            assert_eq!(parse_action(&decoded), expected, "{decoded}");
        };
        for fact in world.facts().iter().step_by(37) {
            let query = format!("{} {}", world.name(fact.subject), fact.relation.keyword());
            check(&format!("<search>{query}</search>"), Action::Search(query.clone()));
            check(
                &format!("<think> x. </think> <search> {query} </search>"),
                Action::Search(query),
            );
            let answer = world.name(fact.object);
            check(&format!("<answer> {answer} </answer>"), Action::Answer(answer.to_owned()));
        }
    }

    #[test]
    fn names_are_two_or_three_syllable_tokens_and_sentences_round_trip() {
        let tokenizer = tokenizer();
        for split in [Split::Train, Split::Test] {
            let world = World::generate(8, split);
            for entity in world.entities() {
                let tokens = tokenizer.encode(&entity.name).unwrap().len();
                let expected = match entity.entity_type {
                    EntityType::Person => 3..=4,
                    EntityType::Job | EntityType::Year => 1..=1,
                    _ => 2..=3,
                };
                assert!(expected.contains(&tokens), "{entity:?}: {tokens}");
            }
            let mut longest = 0;
            for index in 0..world.facts().len() {
                let sentence = world.sentence(index);
                let tokens = tokenizer.encode(sentence).unwrap();
                assert_eq!(tokenizer.decode(&tokens), sentence);
                longest = longest.max(tokens.len());
            }
            assert!(longest <= 18, "{longest}");
        }
    }

    #[test]
    fn names_are_read_syllable_by_syllable() {
        let tokenizer = tokenizer();
        for onset in name::onsets() {
            for continuation in name::continuations() {
                let name = format!("{onset}{continuation}");
                if capitalised_words(WorldPreset::Easy)
                    .iter()
                    .any(|it| name.starts_with(it.as_str()))
                {
                    continue;
                }
                let expected: Vec<_> = [onset.clone(), format!("##{continuation}")]
                    .iter()
                    .map(|it| tokenizer.token_id(it).unwrap())
                    .collect();
                assert_eq!(tokenizer.encode(&name).unwrap(), expected, "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn printable_ascii_never_becomes_unknown(text in "[ -~]{0,60}") {
            let tokens = tokenizer().encode(&text).unwrap();
            prop_assert!(!tokens.contains(&3), "{}", text);
        }
    }
}
