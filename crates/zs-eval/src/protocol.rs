//! Scoring protocols: named sets of quirks, each of which can be switched alone.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A difference between the reference evaluation and plain exact match. Each can be switched on in any
/// protocol, so that its effect can be measured alone.
///
/// # References
///
/// - ZeroSearch reference code: `qa_em.py` 70-117, `main_ppo.py` 26-136, `generation.py` 351-565,
///   `ray_trainer.py` 419-536
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Quirk {
    /// `exact_match` is containment: the prediction must contain a golden answer.
    Containment,
    /// Answers are also searched for in the prompt. Its last example replaces a missing answer:
    /// "Beijing".
    PromptAnswers,
    /// Answers are also searched for in the message about invalid actions, which yields the answer
    /// "and".
    MessageAnswers,
    /// Answers are also searched for inside `<information>`.
    DocumentAnswers,
    /// `f1` is a copy of `exact_match`.
    F1IsExactMatch,
    /// The first 500 questions of every set are evaluated.
    Subset,
    /// Questions are batched by 64, and a short last batch is dropped.
    DropLast,
    /// Five searches of five documents, then one more turn; 500 tokens per turn, 2,048 per observation.
    ReferenceLimits,
    /// The prompt of ZeroSearch, regardless of the prompt of training.
    ReferencePrompt,
    /// "Greedy" evaluation samples at temperature 1 and `top_p` 0.95.
    Sampled,
}

/// Stage of an evaluation that a [`Quirk`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuirkStage {
    /// Selection of questions.
    Selection,
    /// Rollout of episodes.
    Play,
    /// Scoring of episodes.
    Scoring,
}

impl Quirk {
    /// All quirks, in the order of a report.
    pub const ALL: [Self; 10] = [
        Self::Containment,
        Self::PromptAnswers,
        Self::MessageAnswers,
        Self::DocumentAnswers,
        Self::F1IsExactMatch,
        Self::Subset,
        Self::DropLast,
        Self::ReferenceLimits,
        Self::ReferencePrompt,
        Self::Sampled,
    ];

    /// Returns the name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containment => "containment",
            Self::PromptAnswers => "prompt-answers",
            Self::MessageAnswers => "message-answers",
            Self::DocumentAnswers => "document-answers",
            Self::F1IsExactMatch => "f1-is-exact-match",
            Self::Subset => "subset",
            Self::DropLast => "drop-last",
            Self::ReferenceLimits => "reference-limits",
            Self::ReferencePrompt => "reference-prompt",
            Self::Sampled => "sampled",
        }
    }

    /// Returns the stage that it changes.
    #[must_use]
    pub fn stage(self) -> QuirkStage {
        match self {
            Self::Containment
            | Self::PromptAnswers
            | Self::MessageAnswers
            | Self::DocumentAnswers
            | Self::F1IsExactMatch => QuirkStage::Scoring,
            Self::Subset | Self::DropLast => QuirkStage::Selection,
            Self::ReferenceLimits | Self::ReferencePrompt | Self::Sampled => QuirkStage::Play,
        }
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quirk {
    type Err = ProtocolError;

    fn from_str(name: &str) -> Result<Self, ProtocolError> {
        Self::ALL
            .into_iter()
            .find(|it| it.name() == name)
            .ok_or_else(|| ProtocolError::UnknownQuirk { name: name.to_owned() })
    }
}

/// A named way of scoring episodes; it is printed with every score.
///
/// | | `strict` | `zs-compat` |
/// |---|---|---|
/// | exact match | equality | containment |
/// | questions | all | the first 500 of a set |
/// | source of answers | the policy's own text | also prompt, messages and documents |
/// | missing answer | 0 | "Beijing", or "and" after an invalid action |
/// | last batch | counts | counts, unless `drop-last` is switched on |
/// | prompt and limits | as configured | those of the reference code |
///
/// `zs-compat` is the reference evaluation except for three quirks that are off by default: it drops no
/// batch, does not sample in greedy evaluation, and reports F1 as F1.
///
/// ```
/// use zs_eval::{Protocol, Quirk};
///
/// let protocol = Protocol::strict().with(Quirk::Containment);
/// assert_eq!(protocol.to_string(), "strict + containment");
/// assert!("zs-compat".parse::<Protocol>()?.has(Quirk::PromptAnswers));
/// # Ok::<(), zs_eval::ProtocolError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Protocol {
    base: Base,
    quirks: BTreeSet<Quirk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Strict,
    ZsCompat,
}

impl Base {
    fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::ZsCompat => "zs-compat",
        }
    }

    fn quirks(self) -> BTreeSet<Quirk> {
        match self {
            Self::Strict => BTreeSet::new(),
            Self::ZsCompat => BTreeSet::from([
                Quirk::Containment,
                Quirk::PromptAnswers,
                Quirk::MessageAnswers,
                Quirk::DocumentAnswers,
                Quirk::Subset,
                Quirk::ReferenceLimits,
                Quirk::ReferencePrompt,
            ]),
        }
    }
}

/// Failure to parse the name of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The protocol is unknown.
    #[error("unknown protocol `{name}`; use `strict` or `zs-compat`")]
    UnknownProtocol {
        /// The name.
        name: String,
    },
    /// The quirk is unknown.
    #[error(
        "`{name}` is not a quirk; use one of {}",
        Quirk::ALL.map(Quirk::name).join(", ")
    )]
    UnknownQuirk {
        /// The name.
        name: String,
    },
}

impl Protocol {
    /// Returns the protocol without quirks: equality, all questions, the policy's own text.
    #[must_use]
    pub fn strict() -> Self {
        Self { base: Base::Strict, quirks: Base::Strict.quirks() }
    }

    /// Returns the protocol of the reference code.
    #[must_use]
    pub fn zs_compat() -> Self {
        Self { base: Base::ZsCompat, quirks: Base::ZsCompat.quirks() }
    }

    /// Switches a quirk on.
    #[must_use]
    pub fn with(mut self, quirk: Quirk) -> Self {
        self.quirks.insert(quirk);
        self
    }

    /// Switches a quirk off.
    #[must_use]
    pub fn without(mut self, quirk: Quirk) -> Self {
        self.quirks.remove(&quirk);
        self
    }

    /// Returns true when a quirk is on.
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// Iterates over the quirks that are on.
    pub fn quirks(&self) -> impl Iterator<Item = Quirk> {
        self.quirks.iter().copied()
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self::strict()
    }
}

/// Writes the name and the differences from the named protocol: `strict + containment`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.name())?;
        let usual = self.base.quirks();
        for quirk in self.quirks.difference(&usual) {
            write!(f, " + {quirk}")?;
        }
        for quirk in usual.difference(&self.quirks) {
            write!(f, " - {quirk}")?;
        }
        Ok(())
    }
}

/// Parses the form of [`Display`](fmt::Display).
impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        let mut words = text.split_whitespace();
        let mut protocol = match words.next() {
            Some("strict") => Self::strict(),
            Some("zs-compat") => Self::zs_compat(),
            _ => return Err(ProtocolError::UnknownProtocol { name: text.to_owned() }),
        };
        while let Some(sign) = words.next() {
            let quirk = words.next().unwrap_or_default().parse()?;
            protocol = match sign {
                "+" => protocol.with(quirk),
                "-" => protocol.without(quirk),
                _ => return Err(ProtocolError::UnknownProtocol { name: text.to_owned() }),
            };
        }
        Ok(protocol)
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

impl TryFrom<String> for Protocol {
    type Error = ProtocolError;

    fn try_from(text: String) -> Result<Self, ProtocolError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(protocol: &Protocol, name: &str) {
        assert_eq!(protocol.to_string(), name);
        assert_eq!(&name.parse::<Protocol>().unwrap(), protocol);
        let json = serde_json::to_string(protocol).unwrap();
        assert_eq!(&serde_json::from_str::<Protocol>(&json).unwrap(), protocol);
    }

    #[test]
    fn names_say_what_is_switched() {
        check(&Protocol::strict(), "strict");
        check(&Protocol::zs_compat(), "zs-compat");
        let both = Protocol::strict().with(Quirk::DropLast).with(Quirk::Containment);
        check(&both, "strict + containment + drop-last");
        let less = Protocol::zs_compat().without(Quirk::Subset).with(Quirk::Sampled);
        check(&less, "zs-compat + sampled - subset");
        for quirk in Quirk::ALL {
            assert_eq!(quirk.name().parse::<Quirk>().unwrap(), quirk);
            assert_eq!(serde_json::to_value(quirk).unwrap(), quirk.name());
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        for (text, expected) in [("lenient", "zs-compat"), ("strict + magic", "containment")] {
            let message = text.parse::<Protocol>().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
