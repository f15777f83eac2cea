//! Markdown, with tables and front matter; HTML in it is read as HTML.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::html;
use crate::passages::text::{Block, BlockKind, FileText, Place};

pub(super) fn read(text: &str) -> FileText {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut reader = Reader { source: Lines::of(text), ..Reader::default() };
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        reader.event(event, &range);
    }
    reader.end(None);
    let mut read = reader.read;
    // A document that begins with a heading is named by it.
    read.title =
        read.blocks.first().filter(|it| it.kind == BlockKind::Heading(1)).map(|it| it.text.clone());
    read
}

/// Beginnings of lines.
#[derive(Default)]
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self([0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> u64 {
        self.0.partition_point(|it| *it <= at) as u64
    }
}

#[derive(Default)]
struct Reader {
    read: FileText,
    source: Lines,
    /// Text of the open block, and the byte that it begins at.
    open: String,
    start: usize,
    /// True inside of front matter.
    is_hidden: bool,
    is_code: bool,
    is_html: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, range: &Range<usize>) {
        match event {
            Event::Start(tag) if is_block(&tag) => {
                self.end(None);
                self.start = range.start;
                self.is_hidden = matches!(tag, Tag::MetadataBlock(_));
                self.is_code = matches!(tag, Tag::CodeBlock(_));
                self.is_html = matches!(tag, Tag::HtmlBlock);
            }
            Event::End(TagEnd::Heading(level)) => self.end(Some(level as u8)),
            Event::End(TagEnd::TableCell) => self.open.push_str(" | "),
            Event::End(
                TagEnd::Paragraph
                | TagEnd::Item
                | TagEnd::CodeBlock
                | TagEnd::HtmlBlock
                | TagEnd::TableHead
                | TagEnd::TableRow
                | TagEnd::MetadataBlock(_),
            ) => self.end(None),
            Event::Text(text) | Event::Code(text) | Event::Html(text) => {
                if self.open.is_empty() {
                    self.start = range.start;
                }
                self.open.push_str(&text);
            }
            Event::InlineHtml(tag) if !tag.starts_with("<br") => {}
            Event::SoftBreak | Event::HardBreak | Event::InlineHtml(_) => self.open.push(' '),
            _ => {}
        }
    }

    /// Ends the open block, as a heading where it has a level.
    fn end(&mut self, level: Option<u8>) {
        let kind = level.map_or(BlockKind::Paragraph, BlockKind::Heading);
        let (text, line) = (std::mem::take(&mut self.open), self.source.line(self.start));
        let place = Place::Line(line);
        if self.is_html {
            let shift = |it: Block| match it.place {
                Place::Line(inner) => Block { place: Place::Line(line + inner - 1), ..it },
                _ => it,
            };
            self.read.blocks.extend(html::read(&text).blocks.into_iter().map(shift));
        } else if self.is_code {
            self.read.push_verbatim(kind, &text, place);
        } else if !self.is_hidden {
            self.read.push(kind, text.trim_end_matches(" | "), place);
        }
        (self.is_hidden, self.is_code, self.is_html) = (false, false, false);
    }
}

/// True for what text stands in, apart from the text around it.
fn is_block(tag: &Tag<'_>) -> bool {
    !matches!(
        tag,
        Tag::Emphasis
            | Tag::Strong
            | Tag::Strikethrough
            | Tag::Superscript
            | Tag::Subscript
            | Tag::Link { .. }
            | Tag::Image { .. }
            | Tag::TableCell
    )
}
