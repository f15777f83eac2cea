//! Reasons to leave an episode out of a set.

/// Reason to leave an episode out of a set; its text is the name in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// A row that cannot be read.
    #[error("unreadable_row")]
    UnreadableRow,
    /// The question is one of the excluded files.
    #[error("excluded_question")]
    Excluded,
    /// The question has no answer, or the episode has none.
    #[error("no_answer")]
    NoAnswer,
    /// The answer is yes, no or a part of the question, and too little was searched for it: documents
    /// hold it whether it is right or not.
    #[error("answer_in_question")]
    AnswerInQuestion,
    /// Every golden answer in the documents has too many words.
    #[error("long_answer")]
    LongAnswer,
    /// No query can be used: with tags, without words, too long, repeated, or without documents.
    #[error("no_usable_search")]
    NoUsableSearch,
    /// No golden answer occurs in the documents.
    #[error("answer_not_found")]
    AnswerNotFound,
    /// A search did not find the supporting document.
    #[error("title_not_found")]
    TitleNotFound,
    /// Neither the question nor a document that was read names the next supporting document.
    #[error("title_not_named")]
    TitleNotNamed,
    /// A search failed.
    #[error("search_failed")]
    SearchFailed,
    /// The record does not hold its question, and no file of questions does.
    #[error("unknown_question")]
    UnknownQuestion,
    /// The episode breaks the format: an invalid turn, or no answer.
    #[error("format")]
    Format,
    /// F1 of the answer is too low.
    #[error("low_f1")]
    LowF1,
    /// Too few searches.
    #[error("few_searches")]
    FewSearches,
    /// Too many searches.
    #[error("many_searches")]
    ManySearches,
    /// The same queries as an earlier episode of the question.
    #[error("duplicate")]
    Duplicate,
    /// The question has enough episodes.
    #[error("enough_of_question")]
    EnoughOfQuestion,
}
