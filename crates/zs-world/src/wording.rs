//! Wording of hard worlds beside the grammar of relations: passages, questions and transcripts.

/// Statements that an entity has a second name.
pub(crate) const ALIAS_SENTENCES: [&str; 2] =
    ["{s} is also known as {o}.", "Another name of {s} is {o}."];

/// Forms of a statement with a date; `{y}` is the year and `{v}` the verb.
pub(crate) const DATED_SENTENCES: [&str; 3] = [
    "In {y}, the {k} of {s} {v} {o}.",
    "By {y}, the {k} of {s} {v} {o}.",
    "The {k} of {s} in {y} {v} {o}.",
];

/// Verbs of dated statements, and words that join and describe names.
const PARTICLES: [&str; 2] = ["was were in", "the of and"];

// Questions.
pub(crate) const FILM_INTERSECTIONS: [&str; 2] = [
    "Which film of the director {s} has music by the composer {o}?",
    "Which film by {s} has {o} as its composer?",
];
pub(crate) const MAKER_INTERSECTIONS: [&str; 2] =
    ["Who directed {s} and wrote {o}?", "Who is the director of {s} and the author of {o}?"];
pub(crate) const OLDER_PERSON: [&str; 2] =
    ["Who is older, {s} or {o}?", "Who was born first, {s} or {o}?"];
pub(crate) const OLDER_FILM: [&str; 2] =
    ["Which film is older, {s} or {o}?", "Which film was released first, {s} or {o}?"];
pub(crate) const OLDER_BOOK: [&str; 2] =
    ["Which book is older, {s} or {o}?", "Which book was published first, {s} or {o}?"];
pub(crate) const OLDER_COMPANY: [&str; 2] =
    ["Which company is older, {s} or {o}?", "Which company was founded first, {s} or {o}?"];
pub(crate) const OLDER_MAKER: &str = "Which {t} has the older {k}, {s} or {o}?";
pub(crate) const IS_IT: &str = "Is {o} {s}?";
pub(crate) const IS_IT_ALSO: &str = "Is {s} also {o}?";
pub(crate) const ORDINAL_FILM: &str = "Which of the films of {s} was released {k}?";
pub(crate) const ORDINAL_BOOK: &str = "Which of the books of {s} was published {k}?";
pub(crate) const ORDINALS: [&str; 3] = ["first", "second", "third"];
pub(crate) const NUMBERS: [&str; 3] = ["one", "two", "three"];
pub(crate) const YES_OR_NO: [&str; 2] = ["yes", "no"];

// Transcripts.
pub(crate) const NEED_NAME: &str = "I need the other name of {s}.";
pub(crate) const NAME_QUERY: &str = "{s} known name";
pub(crate) const NAME_FOUND: &str = "{s} is {o}.";

/// Every phrase of this module.
pub(crate) fn phrases() -> impl Iterator<Item = &'static str> {
    let pairs = [
        ALIAS_SENTENCES,
        PARTICLES,
        FILM_INTERSECTIONS,
        MAKER_INTERSECTIONS,
        OLDER_PERSON,
        OLDER_FILM,
        OLDER_BOOK,
        OLDER_COMPANY,
        YES_OR_NO,
    ];
    let triples = [DATED_SENTENCES, ORDINALS, NUMBERS, [NEED_NAME, NAME_QUERY, NAME_FOUND]];
    let single = [OLDER_MAKER, IS_IT, IS_IT_ALSO, ORDINAL_FILM, ORDINAL_BOOK];
    pairs.into_iter().flatten().chain(triples.into_iter().flatten()).chain(single)
}
