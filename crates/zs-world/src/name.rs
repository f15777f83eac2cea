//! Names from a grammar of syllables, partitioned between the splits for ever.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Split that a world belongs to. No name is ever used by worlds of two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training text and training questions.
    Train,
    /// Choosing between checkpoints.
    Validation,
    /// Final figures only.
    Test,
}

impl Split {
    /// The only split whose worlds may use this name (a surname, for a person).
    ///
    /// ```text
    /// FNV-1a(name) mod 5:  0 1 2 -> train,  3 -> validation,  4 -> test
    /// ```
    ///
    /// A fixed function of the name alone, so for *any* seeds no entity of a test world occurs in a
    /// training or validation world.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        match (hash ^ (hash >> 32)) % 5 {
            0..=2 => Self::Train,
            3 => Self::Validation,
            _ => Self::Test,
        }
    }

    /// `"train"`, `"validation"` or `"test"`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Given names of people, shared by all splits.
pub const GIVEN_NAMES: [&str; 40] = [
    "Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas",
    "Karin", "Louis", "Maria", "Nils", "Olga", "Peter", "Quinn", "Rosa", "Simon", "Tessa", "Ulric",
    "Vera", "Walter", "Xenia", "Yusuf", "Zoe", "Alma", "Bruno", "Cyrus", "Dora", "Edgar", "Flora",
    "Gavin", "Heidi", "Ivan", "Julia", "Kurt", "Laura", "Marcel", "Nora",
];

const VOWELS: [&str; 5] = ["a", "e", "i", "o", "u"];

/// Consonants that a name starts with.
const ONSETS: [&str; 16] =
    ["B", "D", "F", "G", "H", "K", "L", "M", "N", "P", "R", "S", "T", "V", "Z", "Br"];

/// Consonants that a later syllable starts and ends with. One ending a start, so that no syllable
/// begins with another and the longest match is the intended one.
const CONTINUATIONS: [(&str, &str); 16] = [
    ("b", "n"),
    ("ch", ""),
    ("d", ""),
    ("f", "r"),
    ("g", "l"),
    ("k", "m"),
    ("l", ""),
    ("m", "x"),
    ("n", "th"),
    ("p", ""),
    ("r", "k"),
    ("s", "t"),
    ("t", "n"),
    ("v", ""),
    ("w", "l"),
    ("z", "m"),
];

/// The 80 capitalised first syllables.
pub(crate) fn onsets() -> impl Iterator<Item = String> {
    ONSETS.iter().flat_map(|onset| VOWELS.iter().map(move |vowel| format!("{onset}{vowel}")))
}

/// The 80 later syllables.
pub(crate) fn continuations() -> impl Iterator<Item = String> {
    CONTINUATIONS
        .iter()
        .flat_map(|(start, end)| VOWELS.iter().map(move |vowel| format!("{start}{vowel}{end}")))
}

/// A name of this split: a first syllable and one or two more.
///
/// Names that begin with a given name or a word of the grammar are passed over, since a tokenizer
/// that takes the longest match would read that word.
pub(crate) fn draw_name(rng: &mut ChaCha8Rng, split: Split, words: &[String]) -> String {
    loop {
        let onset = ONSETS[rng.random_range(0..ONSETS.len())];
        let mut name = format!("{onset}{}", VOWELS[rng.random_range(0..VOWELS.len())]);
        let num_continuations = if rng.random_bool(1.0 / 3.0) { 2 } else { 1 };
        for _ in 0..num_continuations {
            let (start, end) = CONTINUATIONS[rng.random_range(0..CONTINUATIONS.len())];
            let vowel = VOWELS[rng.random_range(0..VOWELS.len())];
            name.extend([start, vowel, end]);
        }
        if Split::of_name(&name) == split && !words.iter().any(|it| name.starts_with(it)) {
            return name;
        }
    }
}

/// A name of this split with the first two syllables of another and a third of its own; `None`
/// where chance finds none.
pub(crate) fn draw_similar_name(
    rng: &mut ChaCha8Rng,
    name: &str,
    split: Split,
    words: &[String],
) -> Option<String> {
    const ATTEMPTS: usize = 60;
    let onset = onsets().filter(|it| name.starts_with(it.as_str())).max_by_key(String::len)?;
    let second = continuations().find(|it| name[onset.len()..].starts_with(it.as_str()))?;
    (0..ATTEMPTS).find_map(|_| {
        let (start, end) = CONTINUATIONS[rng.random_range(0..CONTINUATIONS.len())];
        let vowel = VOWELS[rng.random_range(0..VOWELS.len())];
        let other = format!("{onset}{second}{start}{vowel}{end}");
        let is_usable = other != name && Split::of_name(&other) == split;
        (is_usable && !words.iter().any(|it| other.starts_with(it))).then_some(other)
    })
}

/// A given name with two neighbouring letters after the first swapped, e.g. `"Daivd"`.
pub(crate) fn misspell_given_name(given: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters = given.as_bytes().to_vec();
    let places: Vec<usize> =
        (1..letters.len() - 1).filter(|&it| letters[it] != letters[it + 1]).collect();
    let at = places[rng.random_range(0..places.len())];
    letters.swap(at, at + 1);
    String::from_utf8_lossy(&letters).into_owned()
}

/// A name as a poor copyist writes it: given name and first syllable right, the rest not.
///
/// The result is a name of the same split, so that no text ever holds a name of another.
pub(crate) fn misspell_name(name: &str, split: Split, rng: &mut ChaCha8Rng) -> String {
    let (given, surname) = name.rsplit_once(' ').map_or((None, name), |(a, b)| (Some(a), b));
    let onset = onsets().filter(|it| surname.starts_with(it.as_str())).max_by_key(String::len);
    let onset = onset.unwrap_or_default();
    loop {
        let mut other = draw_name(rng, split, &[]);
        let rest = onsets().filter(|it| other.starts_with(it.as_str())).map(|it| it.len()).max();
        other.replace_range(..rest.unwrap_or_default(), &onset);
        if other != surname && Split::of_name(&other) == split {
            return given.map_or(other.clone(), |given| format!("{given} {other}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn syllables_do_not_begin_with_one_another() {
        for syllables in [onsets().collect::<Vec<_>>(), continuations().collect()] {
            assert_eq!(syllables.iter().collect::<BTreeSet<_>>().len(), 80);
            for a in &syllables {
                assert!(syllables.iter().all(|b| a == b || !b.starts_with(a.as_str())), "{a}");
            }
        }
    }

    #[test]
    fn similar_names_differ_in_the_last_syllable() {
        let mut rng = zs_core::StreamKey::new(0).rng(zs_core::Domain::World);
        for (name, kept) in [("Badan", "Bada"), ("Bradanka", "Brada"), ("Zochama", "Zocha")] {
            let similar = draw_similar_name(&mut rng, name, Split::Test, &[]).unwrap();
            assert!(similar.starts_with(kept), "{similar}");
            assert_ne!(similar, name);
            assert_eq!(Split::of_name(&similar), Split::Test);
        }
        for given in GIVEN_NAMES {
            let misspelled = misspell_given_name(given, &mut rng);
            assert!(!GIVEN_NAMES.contains(&misspelled.as_str()), "{given} {misspelled}");
        }
    }

    #[test]
    fn splits_share_the_names_three_to_one_to_one() {
        let mut counts = [0_usize; 3];
        for onset in onsets() {
            for continuation in continuations() {
                counts[Split::of_name(&format!("{onset}{continuation}")) as usize] += 1;
            }
        }
        assert!((3600..4100).contains(&counts[0]), "{counts:?}");
        assert!((1100..1450).contains(&counts[1]), "{counts:?}");
        assert!((1100..1450).contains(&counts[2]), "{counts:?}");
        // A change of the partition would let old training text contain new test names.
        assert_eq!(Split::of_name("Badan"), PINNED);
    }

    const PINNED: Split = Split::Train;
}
