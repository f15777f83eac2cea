//! The presets of the embedded world, and the difficulty dial of the hard one.

use serde::{Deserialize, Serialize};

use super::{Split, World};

/// Searches that an episode may make, for questions of one to four hops.
pub const SEARCH_BUDGETS: [usize; 4] = [3, 4, 5, 6];

/// The budget of a question that needs so many searches.
pub(crate) fn max_searches(hops: usize) -> usize {
    SEARCH_BUDGETS[hops.clamp(1, SEARCH_BUDGETS.len()) - 1]
}

/// Passages that a hard world may have.
const PASSAGES: std::ops::RangeInclusive<usize> = 1_000..=100_000;

/// Embedded world by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorldPreset {
    /// One fact a passage, questions of one and two hops.
    #[default]
    Easy,
    /// [`World::hard`] with the default [`Difficulty`].
    Hard,
}

impl WorldPreset {
    /// The preset's world of a seed and split.
    #[must_use]
    pub fn generate(self, seed: u64, split: Split) -> World {
        match self {
            Self::Easy => World::generate(seed, split),
            Self::Hard => World::hard(seed, split, &Difficulty::default())
                .expect("the default difficulty is valid, as a test checks"),
        }
    }

    /// Returns `true` for [`Easy`](Self::Easy), which files leave out.
    #[must_use]
    pub fn is_easy(&self) -> bool {
        *self == Self::Easy
    }

    /// `"easy"` or `"hard"`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Hard => "hard",
        }
    }
}

/// Settings of a hard world; shares are in `[0, 1]`.
///
/// ```
/// use zs_world::{Difficulty, Split, World};
///
/// let calm = Difficulty { passages: 2_000, stale: 0.0, namesakes: 0.0, ..Difficulty::default() };
/// let world = World::hard(1, Split::Train, &calm)?;
/// assert_eq!(world.num_passages(), 2_000);
/// # Ok::<(), zs_world::DifficultyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Difficulty {
    /// Number of passages, 1,000 to 100,000; the number of entities follows from it.
    pub passages: usize,
    /// Largest number of facts that a passage states about its subject.
    pub max_facts: usize,
    /// Share of people, films, books, towns and companies with a second name.
    pub aliases: f64,
    /// Share of people, films, books and towns whose name another one of their type has too; a
    /// description tells them apart.
    pub namesakes: f64,
    /// Share of names that resemble an earlier name.
    pub similar: f64,
    /// Share of facts that change over time, and of lists, with a passage of an earlier date that
    /// contradicts the current one.
    pub stale: f64,
    /// Share of mentions that shorten a name: a surname, "the film".
    pub partial: f64,
    /// Share of people whose given name a question misspells.
    pub misspelled: f64,
    /// Weights of one to four hops among questions that follow a chain.
    pub hops: [f64; 4],
    /// Weights of the kinds of questions; one-hop questions belong to the chains.
    pub kinds: KindMix,
}

impl Default for Difficulty {
    fn default() -> Self {
        Self {
            passages: 20_000,
            max_facts: 3,
            aliases: 0.15,
            namesakes: 0.16,
            similar: 0.3,
            stale: 0.6,
            partial: 0.4,
            misspelled: 0.1,
            hops: [0.25, 0.35, 0.25, 0.15],
            kinds: KindMix::default(),
        }
    }
}

/// Weights of the kinds of questions; they need not sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KindMix {
    /// Weight of chains of one to four hops.
    pub chain: f64,
    /// Weight of [`QuestionKind::Intersection`](crate::QuestionKind::Intersection).
    pub intersection: f64,
    /// Weight of [`QuestionKind::Ordinal`](crate::QuestionKind::Ordinal).
    pub ordinal: f64,
    /// Weight of [`QuestionKind::Comparison`](crate::QuestionKind::Comparison).
    pub comparison: f64,
    /// Weight of [`QuestionKind::YesNo`](crate::QuestionKind::YesNo).
    pub yes_no: f64,
    /// Weight of [`QuestionKind::Count`](crate::QuestionKind::Count).
    pub count: f64,
}

impl Default for KindMix {
    fn default() -> Self {
        Self {
            chain: 0.6,
            intersection: 0.1,
            ordinal: 0.08,
            comparison: 0.1,
            yes_no: 0.06,
            count: 0.06,
        }
    }
}

impl KindMix {
    /// The weights, in the order of the fields.
    pub(crate) fn weights(&self) -> [f64; 6] {
        let Self { chain, intersection, ordinal, comparison, yes_no, count } = *self;
        [chain, intersection, ordinal, comparison, yes_no, count]
    }
}

/// Unusable settings of a hard world.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DifficultyError {
    /// The number of passages is out of range.
    #[error("`passages` is {passages}; set it to 1,000 to 100,000")]
    Passages {
        /// The number.
        passages: usize,
    },
    /// Passages would state nothing.
    #[error("`max_facts` is 0; set it to 1 or more")]
    MaxFacts,
    /// A share is no share.
    #[error("`{field}` is {share}; set it to a number from 0 to 1")]
    Share {
        /// The setting.
        field: &'static str,
        /// Its value.
        share: f64,
    },
    /// Weights of which nothing can be drawn.
    #[error("`{field}` has no usable weights; set them to 0 or more, and one of them above 0")]
    Weights {
        /// The setting.
        field: &'static str,
    },
}

impl Difficulty {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// Fails on the first setting that is out of its range.
    pub fn check(&self) -> Result<(), DifficultyError> {
        if !PASSAGES.contains(&self.passages) {
            return Err(DifficultyError::Passages { passages: self.passages });
        }
        if self.max_facts == 0 {
            return Err(DifficultyError::MaxFacts);
        }
        let shares = [
            ("aliases", self.aliases),
            ("namesakes", self.namesakes),
            ("similar", self.similar),
            ("stale", self.stale),
            ("partial", self.partial),
            ("misspelled", self.misspelled),
        ];
        for (field, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(DifficultyError::Share { field, share });
            }
        }
        let kinds = self.kinds.weights();
        for (field, weights) in [("hops", &self.hops[..]), ("kinds", &kinds[..])] {
            let are_weights = weights.iter().all(|it| it.is_finite() && *it >= 0.0);
            if !are_weights || weights.iter().sum::<f64>() <= 0.0 {
                return Err(DifficultyError::Weights { field });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Difficulty), expected: &str) {
        let mut difficulty = Difficulty::default();
        change(&mut difficulty);
        let message = difficulty.check().err().map_or_else(String::new, |it| it.to_string());
        assert!(message.starts_with(expected) && message.is_empty() == expected.is_empty());
    }

    #[test]
    fn settings_are_checked() {
        check(|_| {}, "");
        check(|it| it.passages = 100_001, "`passages` is 100001");
        check(|it| it.max_facts = 0, "`max_facts` is 0");
        check(|it| it.stale = 1.5, "`stale` is 1.5");
        check(|it| it.aliases = f64::NAN, "`aliases` is NaN");
        check(|it| it.hops = [0.0; 4], "`hops` has no usable weights");
        check(|it| it.kinds.count = -1.0, "`kinds` has no usable weights");
    }
}
