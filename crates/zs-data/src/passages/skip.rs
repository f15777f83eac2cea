//! Reasons to leave out a file, a row or a passage.

/// Reason to leave out a file, a row or a passage; its text is the name in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// The name tells no format that is read.
    #[error("unknown_format")]
    UnknownFormat,
    /// A file or folder whose name begins with a dot.
    #[error("hidden")]
    Hidden,
    /// A symbolic link in a folder.
    #[error("link")]
    Link,
    /// Nothing but white space.
    #[error("empty")]
    Empty,
    /// Bytes that are not UTF-8.
    #[error("not_utf8")]
    NotUtf8,
    /// A file without text, such as a PDF of scanned pages.
    #[error("no_text")]
    NoText,
    /// A damaged file, or one that the system does not let read.
    #[error("unreadable")]
    Unreadable,
    /// A malformed row of a corpus.
    #[error("unreadable_row")]
    UnreadableRow,
    /// A passage with the title and text of an earlier one.
    #[error("duplicate")]
    Duplicate,
}

impl SkipReason {
    /// Remedy, as part of a sentence.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::UnknownFormat => {
                "name it .txt, .md, .html or .pdf, or as a corpus (.jsonl, .json, .csv, .tsv, .parquet)"
            }
            Self::Hidden => "rename it without the dot, if it is to be read",
            Self::Link => "name it as an input, if it is to be read",
            Self::Empty => "nothing is lost",
            Self::NotUtf8 => "convert it, e.g. with `iconv -t UTF-8`",
            Self::NoText => "recognise the text of scanned pages first, e.g. with `ocrmypdf`",
            Self::Unreadable | Self::UnreadableRow => "repair or remove it",
            Self::Duplicate => "the earlier one is kept",
        }
    }
}
