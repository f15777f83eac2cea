//! Decisions of a reader, counted with the first rows that they concern.

use serde::Serialize;

/// Rows that are named by number.
const NUM_NAMED: usize = 5;

/// Consequence of a decision for the rows that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteLevel {
    /// Rows are read by a rule that leaves no other reading.
    Decided,
    /// Rows could be read in another way.
    Ambiguous,
    /// Rows are left out.
    LeftOut,
}

/// Decision about rows that are not in the plainest form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoteKind {
    /// A list that is written inside a text.
    ListInText,
    /// A text in brackets that is not the list it looks like.
    ListLikeText,
    /// A whole number where text is expected.
    NumberAsText,
    /// A number with a fraction or decimal point where text is expected.
    FractionAsText,
    /// A null in a list of texts.
    NullInList,
    /// A date with a time of day where text is expected.
    TimeAsText,
    /// An answer that programs write for a missing value.
    MissingMarker,
    /// An answer of which scoring leaves nothing: `A`, `%`.
    NothingToMatch,
    /// A prediction with tags around the answer.
    TagsInPrediction,
    /// A text that was decoded or escaped wrongly.
    DamagedText,
    /// A question behind a known instruction.
    InstructionRemoved,
    /// A prompt without a known instruction, read whole as the question.
    WholePrompt,
    /// A prompt with several messages of the user, of which the last is read.
    LastMessage,
    /// Two fields that hold the same thing and differ.
    FieldsDiffer,
    /// A question without a letter.
    NoLetters,
    /// An id that is made unique by `data_source`.
    IdBySource,
    /// A table without a header.
    NoHeader,
    /// A quote that opens a cell of a table and is text.
    QuoteAsText,
    /// A cell of a table in quotes, which is also a valid cell in the other convention.
    QuotedCell,
    /// A title in quotes, in a file whose other titles are bare.
    QuotedTitle,
    /// A document without text and title.
    EmptyDocument,
    /// An occurrence of `"Title"\nText`; counts for [`QuotedTitle`](Self::QuotedTitle) only.
    #[serde(skip)]
    #[doc(hidden)]
    WrappedTitle,
    /// An occurrence of `Title\nText`; counts for [`QuotedTitle`](Self::QuotedTitle) only.
    #[serde(skip)]
    #[doc(hidden)]
    BareTitle,
}

impl NoteKind {
    /// Level of the decision.
    #[must_use]
    pub fn level(self) -> NoteLevel {
        match self {
            Self::ListLikeText
            | Self::FractionAsText
            | Self::TimeAsText
            | Self::MissingMarker
            | Self::NothingToMatch
            | Self::TagsInPrediction
            | Self::DamagedText
            | Self::WholePrompt
            | Self::LastMessage
            | Self::FieldsDiffer
            | Self::NoLetters
            | Self::QuotedCell
            | Self::QuotedTitle => NoteLevel::Ambiguous,
            Self::EmptyDocument => NoteLevel::LeftOut,
            _ => NoteLevel::Decided,
        }
    }

    /// Decision and reason, without the count.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ListInText => "a list written inside a text is read as a list",
            Self::ListLikeText => {
                "a text in brackets is read as one text, since it is not a list of texts; write a JSON \
                 list"
            }
            Self::NumberAsText => "a number where text is expected is read as its digits",
            Self::FractionAsText => {
                "a number with a decimal point is read as its digits; write it as text, as it should read"
            }
            Self::NullInList => "a null in a list is dropped",
            Self::TimeAsText => {
                "a date with a time of day is read as `2020-01-02 03:04:05`; write it as text, as it \
                 should read"
            }
            Self::NothingToMatch => {
                "nothing is left of an answer without articles and punctuation (`A`, `%`), so an empty \
                 prediction matches it; write it in words"
            }
            Self::TagsInPrediction => {
                "a prediction holds `<answer>` and is compared with it; call the field `transcript`"
            }
            Self::DamagedText => {
                "a text was decoded or escaped wrongly (U+FFFD, `Ã©`, `\\u00e9`, `&amp;`) and is read \
                 as it stands; correct it"
            }
            Self::LastMessage => {
                "a prompt has several messages of the user, and the last is read as the question; add \
                 a field `question`"
            }
            Self::MissingMarker => {
                "`nan`, `None`, `NA` and the like, which programs write for a missing value, are read as \
                 text; remove the row if it is one"
            }
            Self::InstructionRemoved => {
                "the question is what follows the instruction in its prompt"
            }
            Self::WholePrompt => {
                "the whole prompt is read as the question, since there is no field `question` or \
                 `extra_info.question`; add one if the prompt holds an instruction"
            }
            Self::FieldsDiffer => {
                "two fields hold different values for the same thing; the first of the documented \
                 order is read; remove the other"
            }
            Self::NoLetters => "the question has no letter; check that the columns are in order",
            Self::IdBySource => {
                "ids restart in another data source, so they are made unique by `data_source`"
            }
            Self::NoHeader => {
                "the table has no header, so its two columns are read as question and answers"
            }
            Self::QuoteAsText => {
                "a cell starts with a quote that is text, since the file is not consistent as quoted \
                 CSV"
            }
            Self::QuotedCell => {
                "a cell in quotes could also be read in the other convention (with its quotes as \
                 text, or over several lines); write JSON Lines to be sure"
            }
            Self::QuotedTitle => {
                "a title in quotes is read without them, but other titles of the file have none; \
                 write `title` and `text` as two fields"
            }
            Self::EmptyDocument => "a document without text and title is left out",
            Self::WrappedTitle | Self::BareTitle => "",
        }
    }
}

/// Decision of a reader with the number of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Decision.
    pub kind: NoteKind,
    /// Number of times it was taken.
    pub count: usize,
    /// First rows that it concerns, as errors number them.
    pub first_rows: Vec<usize>,
}

impl Note {
    /// A decision about some rows; `None` where there is no row.
    #[must_use]
    pub fn of_rows(kind: NoteKind, rows: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut notes = Notes::default();
        rows.into_iter().for_each(|row| notes.add(kind, row));
        notes.0.pop()
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows: Vec<String> = self.first_rows.iter().map(ToString::to_string).collect();
        let more = if self.count > rows.len() { ", …" } else { "" };
        let noun = if rows.len() == 1 { "row" } else { "rows" };
        write!(f, "{} ({}×, {noun} {}{more})", self.kind.text(), self.count, rows.join(", "))
    }
}

/// Notes of one reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn add(&mut self, kind: NoteKind, row: usize) {
        let at = self.0.iter().position(|it| it.kind == kind).unwrap_or_else(|| {
            self.0.push(Note { kind, count: 0, first_rows: Vec::new() });
            self.0.len() - 1
        });
        let note = &mut self.0[at];
        note.count += 1;
        if note.first_rows.len() < NUM_NAMED && note.first_rows.last() != Some(&row) {
            note.first_rows.push(row);
        }
    }

    /// Notes in the order of their kinds.
    pub(crate) fn report(&self) -> Vec<Note> {
        let of = |kind| self.0.iter().find(|it| it.kind == kind);
        let mut notes: Vec<Note> = self
            .0
            .iter()
            .filter(|it| !matches!(it.kind, NoteKind::WrappedTitle | NoteKind::BareTitle))
            .cloned()
            .collect();
        if let (Some(wrapped), Some(_)) = (of(NoteKind::WrappedTitle), of(NoteKind::BareTitle)) {
            notes.push(Note { kind: NoteKind::QuotedTitle, ..wrapped.clone() });
        }
        notes.sort_by_key(|it| it.kind);
        notes
    }

    /// Adds the notes of the source that rows come from.
    pub(crate) fn merged(&self, other: Option<&Self>) -> Self {
        let mut all = self.clone();
        all.0.extend(other.into_iter().flat_map(|it| it.0.iter().cloned()));
        all
    }
}
