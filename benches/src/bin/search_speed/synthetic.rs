//! Passages that nobody wrote, as many as are wanted, with the word frequencies of natural text.

use std::path::Path;

use rand::{Rng, RngExt};
use zs_core::{Document, Domain, Question, StreamKey};

use crate::{Result, Workload, write_corpus};

/// Words that passages are made of.
const VOCABULARY: f64 = 300_000.0;
/// The most frequent words, which both programs leave out.
const STOP_WORDS: [&str; 33] = [
    "the", "of", "and", "in", "to", "a", "is", "was", "for", "as", "on", "with", "by", "that",
    "it", "at", "are", "be", "or", "an", "this", "not", "but", "they", "their", "such", "into",
    "if", "no", "then", "there", "these", "will",
];
const WORDS_PER_PASSAGE: usize = 60;
const QUESTIONS: usize = 1000;

/// Passages of 60 words in Zipf's distribution, and questions for some of them: the title, and six
/// words of the text.
pub(crate) fn workload(num_passages: usize, folder: &Path) -> Result<Workload> {
    let mut rng = StreamKey::new(1).rng(Domain::Corpus);
    let passages: Vec<Document> = (0..num_passages)
        .map(|id| {
            let title = words(3, &mut rng);
            let text = words(WORDS_PER_PASSAGE, &mut rng);
            Document { id: id.to_string(), ..Document::new(title, text) }
        })
        .collect();
    let questions = (0..QUESTIONS.min(num_passages))
        .map(|id| {
            let passage = &passages[rng.random_range(0..passages.len())];
            let text: Vec<&str> = passage.text.split(' ').collect();
            let mut query = passage.title.clone();
            for _ in 0..6 {
                query.push(' ');
                query.push_str(text[rng.random_range(0..text.len())]);
            }
            let gold_titles = vec![passage.title.clone()];
            Question { gold_titles, ..Question::new(id.to_string(), query, ["none"]) }
        })
        .collect();
    let path = folder.join("synthetic.jsonl");
    write_corpus(&path, &passages)?;
    Ok(Workload { name: "synthetic".to_owned(), path, passages, questions })
}

fn words(count: usize, rng: &mut impl Rng) -> String {
    (0..count).map(|_| word(rank(rng))).collect::<Vec<_>>().join(" ")
}

/// `P(rank) ~ 1 / (rank + 1)`: the inverse of its distribution, taken as continuous.
fn rank(rng: &mut impl Rng) -> usize {
    let uniform: f64 = rng.random();
    VOCABULARY.powf(uniform) as usize - 1
}

/// The word of a rank: a stop word, or syllables that spell the number.
fn word(rank: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "co", "di", "fu", "ga", "ho", "ki", "lu", "ma", "no", "pi", "ru", "ta", "vo", "zi",
        "ke",
    ];
    if let Some(word) = STOP_WORDS.get(rank) {
        return (*word).to_owned();
    }
    let mut rest = rank;
    let mut word = String::new();
    while rest > 0 {
        word.push_str(SYLLABLES[rest % SYLLABLES.len()]);
        rest /= SYLLABLES.len();
    }
    // Ends as no suffix does, so stemming keeps words apart.
    word.push('k');
    word
}
