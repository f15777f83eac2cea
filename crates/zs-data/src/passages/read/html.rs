//! HTML, as its tokens come: no tree is built, so depth costs nothing and unclosed tags lose no text.

use std::cell::RefCell;

use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use crate::passages::text::{BlockKind, FileText, Place};

/// Elements whose contents nobody reads, and menus.
const HIDDEN: [&str; 8] =
    ["script", "style", "template", "svg", "noscript", "iframe", "nav", "noframes"];

/// Elements inside of a paragraph.
const INLINE: [&str; 40] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "cite", "code", "data", "del",
    "dfn", "em", "font", "i", "img", "input", "ins", "kbd", "label", "mark", "meter", "output",
    "q", "rp", "rt", "ruby", "s", "samp", "select", "small", "span", "strike", "strong", "sub",
    "sup", "time", "u", "var",
];

pub(super) fn read(text: &str) -> FileText {
    let input = BufferQueue::default();
    input.push_back(text.into());
    let tokenizer = Tokenizer::new(Sink::default(), TokenizerOpts::default());
    // The sink never asks to stop, so one call reads all.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let mut reader = tokenizer.sink.0.into_inner();
    reader.end(BlockKind::Paragraph);
    let mut read = reader.read;
    let first = || read.blocks.iter().find(|it| it.kind == BlockKind::Heading(1));
    read.title = read.title.take().or_else(|| first().map(|it| it.text.clone()));
    read
}

#[derive(Default)]
struct Sink(RefCell<Reader>);

#[derive(Default)]
struct Reader {
    read: FileText,
    /// Text of the open block, and the line that it begins in.
    open: String,
    line: u64,
    /// Element that hides what is in it, and how often it is open.
    hidden: Option<(String, usize)>,
    is_pre: bool,
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<()> {
        let mut reader = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) if reader.hidden.is_none() => reader.text(&text, line),
            Token::TagToken(tag) => return reader.tag(&tag, line),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl Reader {
    fn text(&mut self, text: &str, line: u64) {
        if self.open.trim().is_empty() {
            self.line = line;
        }
        self.open.push_str(text);
    }

    fn tag(&mut self, tag: &Tag, line: u64) -> TokenSinkResult<()> {
        let name: &str = &tag.name;
        let is_start = tag.kind == TagKind::StartTag;
        match &mut self.hidden {
            Some((hidden, depth)) if hidden == name => {
                *depth = if is_start { *depth + 1 } else { *depth - 1 };
                if *depth == 0 {
                    self.hidden = None;
                }
            }
            Some(_) => {}
            None if HIDDEN.contains(&name) => {
                self.end(BlockKind::Paragraph);
                if is_start && !tag.self_closing {
                    self.hidden = Some((name.to_owned(), 1));
                }
            }
            None => self.visible(tag, name, is_start, line),
        }
        match name {
            _ if !is_start => TokenSinkResult::Continue,
            "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
            "style" | "iframe" | "noframes" | "xmp" => TokenSinkResult::RawData(RawKind::Rawtext),
            "script" => TokenSinkResult::RawData(RawKind::ScriptData),
            _ => TokenSinkResult::Continue,
        }
    }

    fn visible(&mut self, tag: &Tag, name: &str, is_start: bool, line: u64) {
        let attribute = |name: &str| tag.attrs.iter().find(|it| &*it.name.local == name);
        match name {
            "img" => {
                let alt = attribute("alt").map(|it| format!(" {} ", it.value));
                self.text(&alt.unwrap_or_default(), line);
            }
            "br" | "wbr" => self.open.push(if self.is_pre { '\n' } else { ' ' }),
            "td" | "th" if !is_start => self.open.push_str(" | "),
            "td" | "th" => {}
            "title" if !is_start => {
                let title = std::mem::take(&mut self.open);
                let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
                self.read.title =
                    self.read.title.take().or(Some(title)).filter(|it| !it.is_empty());
            }
            _ if INLINE.contains(&name) => {}
            _ => {
                let level = name.strip_prefix('h').and_then(|it| it.parse().ok());
                let level = level.filter(|it| (1..=6).contains(it) && !is_start);
                self.end(level.map_or(BlockKind::Paragraph, BlockKind::Heading));
                self.is_pre = is_start && name == "pre";
            }
        }
    }

    fn end(&mut self, kind: BlockKind) {
        let (text, place) = (std::mem::take(&mut self.open), Place::Line(self.line));
        match self.is_pre {
            true => self.read.push_verbatim(kind, &text, place),
            false => self.read.push(kind, text.trim().trim_end_matches('|'), place),
        }
    }
}
