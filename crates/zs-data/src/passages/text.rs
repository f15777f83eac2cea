//! Text of a file in blocks, as its reader found it.

use std::fmt;

use serde::{Serialize, Serializer};

/// Text of a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FileText {
    /// Title that the file names.
    pub(super) title: Option<String>,
    /// Headings and paragraphs, in order.
    pub(super) blocks: Vec<Block>,
}

/// Heading or paragraph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    /// Kind.
    pub(super) kind: BlockKind,
    /// Text, not blank.
    pub(super) text: String,
    /// Place of its beginning.
    pub(super) place: Place,
}

/// Kind of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Heading of a level, 1 the highest.
    Heading(u8),
    /// Paragraph, item of a list, row of a table or block of code.
    Paragraph,
}

/// Place in a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Line of a text file.
    Line(u64),
    /// Page of a PDF.
    Page(u64),
    /// Row of a corpus.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Page(number) => write!(f, "page {number}"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FileText {
    /// Adds a block, unless its text is blank. White space becomes single blanks.
    pub(super) fn push(&mut self, kind: BlockKind, text: &str, place: Place) {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.push_verbatim(kind, &text, place);
    }

    /// Adds a block whose lines stay as they are.
    pub(super) fn push_verbatim(&mut self, kind: BlockKind, text: &str, place: Place) {
        let text = text.trim_end().trim_start_matches(['\r', '\n']);
        if !text.trim().is_empty() {
            self.blocks.push(Block { kind, text: text.to_owned(), place });
        }
    }
}
