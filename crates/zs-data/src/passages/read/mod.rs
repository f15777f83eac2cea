//! Readers of text files by their format.

mod html;
mod markdown;
mod pdf;
mod plain;

use std::path::Path;

use super::SkipReason;
use super::text::FileText;

/// Format of a file that holds texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One document.
    Text(TextFormat),
    /// Rows of a corpus, each of which is a document.
    Rows,
}

/// Format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    Plain,
    Markdown,
    Html,
    Pdf,
}

impl Format {
    /// The format that the name of a file tells.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let bare = [".gz", ".zst"].iter().find_map(|it| name.strip_suffix(it));
        let (_, extension) = bare.unwrap_or(&name).rsplit_once('.')?;
        match extension {
            "jsonl" | "ndjson" | "json" | "csv" | "tsv" | "parquet" => Some(Self::Rows),
            _ if bare.is_some() => None,
            "txt" | "text" => Some(Self::Text(TextFormat::Plain)),
            "md" | "markdown" => Some(Self::Text(TextFormat::Markdown)),
            "html" | "htm" | "xhtml" => Some(Self::Text(TextFormat::Html)),
            "pdf" => Some(Self::Text(TextFormat::Pdf)),
            _ => None,
        }
    }
}

/// Reason that a file has no text, and what exactly is wrong.
type Unread = (SkipReason, Option<String>);

/// Reads the text of a file that holds one.
pub(super) fn read(format: TextFormat, bytes: &[u8]) -> Result<FileText, Unread> {
    if bytes.trim_ascii().is_empty() {
        return Err((SkipReason::Empty, None));
    }
    let read = match format {
        TextFormat::Pdf => pdf::read(bytes).map_err(|it| (SkipReason::Unreadable, Some(it)))?,
        TextFormat::Plain => plain::read(text(bytes)?),
        TextFormat::Markdown => markdown::read(text(bytes)?),
        TextFormat::Html => html::read(text(bytes)?),
    };
    match read.blocks.is_empty() {
        true => Err((SkipReason::NoText, None)),
        false => Ok(read),
    }
}

/// Paragraphs of a plain text.
pub(super) fn plain(text: &str) -> FileText {
    plain::read(text)
}

fn text(bytes: &[u8]) -> Result<&str, Unread> {
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|it| (SkipReason::NotUtf8, Some(it.to_string())))?;
    Ok(text.trim_start_matches('\u{feff}'))
}
