//! Types of the entities of a world, and their numbers.

use serde::{Deserialize, Serialize};

/// Type of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityType {
    /// A given name and a surname.
    Person,
    /// A town.
    Town,
    /// A country.
    Country,
    /// A film.
    Film,
    /// A book.
    Book,
    /// A company.
    Company,
    /// A currency.
    Currency,
    /// A literal: one of [`JOBS`].
    Job,
    /// A literal: one of 1900 to 1999.
    Year,
}

impl EntityType {
    /// Every type, in the order in which a world lists its entities.
    pub const ALL: [Self; 9] = [
        Self::Person,
        Self::Town,
        Self::Country,
        Self::Film,
        Self::Book,
        Self::Company,
        Self::Currency,
        Self::Job,
        Self::Year,
    ];

    /// The word for it, e.g. `"town"`.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Town => "town",
            Self::Country => "country",
            Self::Film => "film",
            Self::Book => "book",
            Self::Company => "company",
            Self::Currency => "currency",
            Self::Job => "job",
            Self::Year => "year",
        }
    }

    /// Number of entities of the type in a world.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Person => 300,
            Self::Town => 80,
            Self::Country | Self::Currency => 25,
            Self::Film | Self::Book | Self::Company => 120,
            Self::Job => JOBS.len(),
            Self::Year => 100,
        }
    }
}

/// The jobs that people have.
pub const JOBS: [&str; 15] = [
    "painter", "baker", "doctor", "lawyer", "sailor", "teacher", "farmer", "singer", "dancer",
    "poet", "judge", "pilot", "miner", "tailor", "chef",
];
