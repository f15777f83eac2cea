//! The grammar of the world: how entities are related, and how each relation is said, asked and
//! searched for.

use serde::{Deserialize, Serialize};

use super::{EntityType, WorldPreset};

/// A relation between a subject and an object, e.g. "director": film -> person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Person -> town.
    Birthplace,
    /// Person -> person; symmetric.
    Spouse,
    /// Person -> job.
    Job,
    /// Person -> company.
    Employer,
    /// Film -> person.
    Director,
    /// Film -> person.
    Composer,
    /// Film -> year.
    Release,
    /// Book -> person.
    Author,
    /// Book -> year.
    Publication,
    /// Town -> country.
    Country,
    /// Town -> person.
    Mayor,
    /// Country -> town.
    Capital,
    /// Country -> currency.
    Currency,
    /// Country -> person.
    President,
    /// Company -> person.
    Founder,
    /// Company -> town.
    Headquarters,
    /// Company -> year.
    Founding,
    /// Person -> year; of hard worlds alone, as all that follow.
    Birth,
    /// Person -> film, a list; the other way round of [`Relation::Director`].
    Films,
    /// Person -> book, a list; the other way round of [`Relation::Author`].
    Books,
}

/// Forms of a query for any relation; `{k}` is its keyword and `{t}` the subject's type.
pub const QUERIES: [&str; 3] = ["{s} {k}", "{k} of {s}", "{t} {s} {k}"];

impl Relation {
    /// Grammar of the relation.
    #[must_use]
    pub fn grammar(self) -> &'static Grammar {
        // The table lists the relations in the order of the enumeration; a test holds it to that.
        &RELATIONS[self as usize]
    }

    /// The noun that every sentence about it contains.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        self.grammar().keyword
    }

    /// Returns true if a subject has several objects, which are stated together.
    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Films | Self::Books)
    }

    /// Returns true if hard worlds state the relation with a date, since its object changes.
    pub(crate) fn is_dated(self) -> bool {
        let changes = [Self::Employer, Self::Mayor, Self::President, Self::Headquarters];
        self.is_list() || changes.contains(&self)
    }
}

/// Sentences, questions and queries of one relation; `{s}` is the subject and `{o}` the object.
#[derive(Debug)]
pub struct Grammar {
    /// The relation.
    pub relation: Relation,
    /// The subject's type.
    pub subject: EntityType,
    /// The object's type.
    pub object: EntityType,
    /// The noun that queries use; a word of every sentence, so that a keyword search finds them.
    pub keyword: &'static str,
    /// Sentences that state a fact; empty for lists, whose statements have dates.
    pub sentences: &'static [&'static str],
    /// Questions for the object; `{s}` is a name or a noun phrase.
    pub questions: &'static [&'static str],
    /// Noun phrases for the object, which make it the first hop of a longer question; empty for
    /// objects that are the subject of nothing.
    pub phrases: &'static [&'static str],
}

/// Every relation, in the order of [`Relation`].
pub static RELATIONS: [Grammar; 20] = [
    Grammar {
        relation: Relation::Birthplace,
        subject: EntityType::Person,
        object: EntityType::Town,
        keyword: "birthplace",
        sentences: &[
            "The birthplace of {s} is {o}.",
            "{s} calls {o} a birthplace.",
            "{o} was the birthplace of {s}.",
            "Born in {o}, {s} loves that birthplace.",
        ],
        questions: &[
            "Where was {s} born?",
            "What is the birthplace of {s}?",
            "In which town was {s} born?",
        ],
        phrases: &["the birthplace of {s}", "the town where {s} was born"],
    },
    Grammar {
        relation: Relation::Spouse,
        subject: EntityType::Person,
        object: EntityType::Person,
        keyword: "spouse",
        sentences: &[
            "The spouse of {s} is {o}.",
            "{s} married a spouse named {o}.",
            "{o} became the spouse of {s}.",
        ],
        questions: &["Who is the spouse of {s}?", "Who is married to {s}?", "Whom did {s} marry?"],
        phrases: &["the spouse of {s}", "the person married to {s}"],
    },
    Grammar {
        relation: Relation::Job,
        subject: EntityType::Person,
        object: EntityType::Job,
        keyword: "job",
        sentences: &["The job of {s} was {o}.", "{s} had a job as a {o}.", "By job, {s} is a {o}."],
        questions: &["What is the job of {s}?", "What does {s} work as?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::Employer,
        subject: EntityType::Person,
        object: EntityType::Company,
        keyword: "employer",
        sentences: &[
            "The employer of {s} is {o}.",
            "{s} works for the employer {o}.",
            "{o} became the employer of {s}.",
        ],
        questions: &[
            "Who is the employer of {s}?",
            "Which company employs {s}?",
            "For which company does {s} work?",
        ],
        phrases: &["the employer of {s}", "the company that employs {s}"],
    },
    Grammar {
        relation: Relation::Director,
        subject: EntityType::Film,
        object: EntityType::Person,
        keyword: "director",
        sentences: &[
            "The director of {s} is {o}.",
            "{s} is a film by the director {o}.",
            "{o} was the director of the film {s}.",
        ],
        questions: &["Who directed {s}?", "Who is the director of {s}?"],
        phrases: &["the director of {s}", "the person who directed {s}"],
    },
    Grammar {
        relation: Relation::Composer,
        subject: EntityType::Film,
        object: EntityType::Person,
        keyword: "composer",
        sentences: &[
            "The composer of {s} is {o}.",
            "{s} is a film with music by the composer {o}.",
            "{o} was the composer of the film {s}.",
        ],
        questions: &["Who composed the music of {s}?", "Who is the composer of {s}?"],
        phrases: &["the composer of {s}", "the person who composed the music of {s}"],
    },
    Grammar {
        relation: Relation::Release,
        subject: EntityType::Film,
        object: EntityType::Year,
        keyword: "release",
        sentences: &[
            "The release of {s} was in {o}.",
            "The film {s} had its release in {o}.",
            "{s} is a film whose release came in {o}.",
        ],
        questions: &["When was {s} released?", "In which year was {s} released?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::Author,
        subject: EntityType::Book,
        object: EntityType::Person,
        keyword: "author",
        sentences: &[
            "The author of {s} is {o}.",
            "{s} is a book by the author {o}.",
            "{o} was the author of the book {s}.",
        ],
        questions: &["Who wrote {s}?", "Who is the author of {s}?"],
        phrases: &["the author of {s}", "the person who wrote {s}"],
    },
    Grammar {
        relation: Relation::Publication,
        subject: EntityType::Book,
        object: EntityType::Year,
        keyword: "publication",
        sentences: &[
            "The publication of {s} was in {o}.",
            "The book {s} saw its publication in {o}.",
            "{s} is a book whose publication came in {o}.",
        ],
        questions: &["When was {s} published?", "In which year was {s} published?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::Country,
        subject: EntityType::Town,
        object: EntityType::Country,
        keyword: "country",
        sentences: &[
            "The country of {s} is {o}.",
            "{s} is a town in the country {o}.",
            "{o} is the country around {s}.",
        ],
        questions: &["In which country is {s}?", "What is the country of {s}?"],
        phrases: &["the country of {s}", "the country around {s}"],
    },
    Grammar {
        relation: Relation::Mayor,
        subject: EntityType::Town,
        object: EntityType::Person,
        keyword: "mayor",
        sentences: &[
            "The mayor of {s} is {o}.",
            "{s} elected {o} as its mayor.",
            "{o} was mayor of the town {s}.",
        ],
        questions: &["Who is the mayor of {s}?", "Who governs {s}?"],
        phrases: &["the mayor of {s}", "the person who governs {s}"],
    },
    Grammar {
        relation: Relation::Capital,
        subject: EntityType::Country,
        object: EntityType::Town,
        keyword: "capital",
        sentences: &[
            "The capital of {s} is {o}.",
            "{s} has {o} as its capital.",
            "{o} was the capital of the country {s}.",
        ],
        questions: &["What is the capital of {s}?", "Which town is the capital of {s}?"],
        phrases: &["the capital of {s}", "the town that is the capital of {s}"],
    },
    Grammar {
        relation: Relation::Currency,
        subject: EntityType::Country,
        object: EntityType::Currency,
        keyword: "currency",
        sentences: &[
            "The currency of {s} is the {o}.",
            "{s} uses the {o} as its currency.",
            "The {o} is the currency of {s}.",
        ],
        questions: &["What is the currency of {s}?", "What money is used in {s}?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::President,
        subject: EntityType::Country,
        object: EntityType::Person,
        keyword: "president",
        sentences: &[
            "The president of {s} is {o}.",
            "{s} elected {o} as its president.",
            "{o} was president of the country {s}.",
        ],
        questions: &["Who is the president of {s}?", "Who leads {s}?"],
        phrases: &["the president of {s}", "the person who leads {s}"],
    },
    Grammar {
        relation: Relation::Founder,
        subject: EntityType::Company,
        object: EntityType::Person,
        keyword: "founder",
        sentences: &[
            "The founder of {s} is {o}.",
            "{s} is a company with the founder {o}.",
            "{o} was the founder of the company {s}.",
        ],
        questions: &["Who founded {s}?", "Who is the founder of {s}?"],
        phrases: &["the founder of {s}", "the person who founded {s}"],
    },
    Grammar {
        relation: Relation::Headquarters,
        subject: EntityType::Company,
        object: EntityType::Town,
        keyword: "headquarters",
        sentences: &[
            "The headquarters of {s} are in {o}.",
            "{s} is a company with headquarters in {o}.",
            "{o} hosts the headquarters of {s}.",
        ],
        questions: &["Where are the headquarters of {s}?", "In which town is {s} based?"],
        phrases: &["the town with the headquarters of {s}", "the town where {s} is based"],
    },
    Grammar {
        relation: Relation::Founding,
        subject: EntityType::Company,
        object: EntityType::Year,
        keyword: "founding",
        sentences: &[
            "The founding of {s} was in {o}.",
            "The company {s} had its founding in {o}.",
            "{s} is a company whose founding came in {o}.",
        ],
        questions: &["When was {s} founded?", "In which year was {s} founded?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::Birth,
        subject: EntityType::Person,
        object: EntityType::Year,
        keyword: "birth",
        sentences: &[
            "The birth of {s} was in {o}.",
            "{o} was the year of the birth of {s}.",
            "{s} has {o} as the year of birth.",
        ],
        questions: &["When was {s} born?", "In which year was {s} born?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::Films,
        subject: EntityType::Person,
        object: EntityType::Film,
        keyword: "films",
        sentences: &[],
        questions: &["How many films did {s} direct?", "What is the number of films of {s}?"],
        phrases: &[],
    },
    Grammar {
        relation: Relation::Books,
        subject: EntityType::Person,
        object: EntityType::Book,
        keyword: "books",
        sentences: &[],
        questions: &["How many books did {s} write?", "What is the number of books of {s}?"],
        phrases: &[],
    },
];

/// The relations of the preset's worlds.
pub(crate) fn relations_of(preset: WorldPreset) -> &'static [Grammar] {
    match preset {
        WorldPreset::Easy => &RELATIONS[..Relation::Birth as usize],
        WorldPreset::Hard => &RELATIONS,
    }
}

/// A phrasing with subject and object filled in.
#[must_use]
pub(crate) fn fill(phrasing: &str, subject: &str, object: &str) -> String {
    phrasing.replace("{s}", subject).replace("{o}", object)
}

impl EntityType {
    /// Relations of easy worlds that the type is the subject of.
    pub fn relations(self) -> impl Iterator<Item = Relation> {
        self.relations_in(WorldPreset::Easy)
    }

    /// Relations of the preset's worlds that the type is the subject of.
    pub(crate) fn relations_in(self, preset: WorldPreset) -> impl Iterator<Item = Relation> {
        let of_type = move |it: &&Grammar| it.subject == self;
        relations_of(preset).iter().filter(of_type).map(|it| it.relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_follows_the_enumeration() {
        for (index, grammar) in RELATIONS.iter().enumerate() {
            assert_eq!(grammar.relation as usize, index);
        }
    }

    #[test]
    fn every_relation_is_fully_phrased() {
        for it in &RELATIONS {
            let name = it.keyword;
            assert_eq!(it.sentences.is_empty(), it.relation.is_list(), "{name}");
            assert!(it.relation.is_list() || it.sentences.len() >= 3, "{name}");
            assert!(it.questions.len() >= 2, "{name}");
            for sentence in it.sentences {
                assert!(sentence.contains("{s}") && sentence.contains("{o}"), "{sentence}");
                let words = sentence.split(|ch: char| !ch.is_alphanumeric());
                assert!(words.into_iter().any(|word| word == name), "{sentence}");
            }
            for question in it.questions {
                assert!(question.contains("{s}") && question.ends_with('?'), "{question}");
            }
            let bridges = it.object.relations().next().is_some() && !it.relation.is_list();
            assert_eq!(bridges, it.phrases.len() >= 2, "{name}");
        }
    }
}
