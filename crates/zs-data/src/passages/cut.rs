//! Text cut into passages: at headings, between paragraphs, between sentences, and between words only
//! where a sentence is too long.

use std::collections::BTreeSet;

use unicode_segmentation::UnicodeSegmentation;

use super::text::{Block, BlockKind, FileText, Place};

/// Passage of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Passage {
    /// Title of the file and the headings above the passage.
    pub(super) title: String,
    /// Text.
    pub(super) text: String,
    /// Place of its first paragraph.
    pub(super) place: Place,
}

/// Cuts a text into passages of at most `max_words` words, which never reach over a heading. `name` is
/// the title of a text that names none.
///
/// Words are separated by white space; in scripts without it (Chinese, Japanese, Thai, Lao, Burmese,
/// Khmer) a character or what Unicode's word boundaries (UAX 29) keep together is a word. Every word of
/// a paragraph is in exactly one passage. Headings are in titles; one without any text below it is a
/// passage of its own.
pub(super) fn passages(text: &FileText, name: &str, max_words: usize) -> Vec<Passage> {
    let mut sections = Sections {
        title: text.title.as_deref().unwrap_or(name),
        max_words,
        headings: Vec::new(),
        paragraphs: Vec::new(),
        is_bare: false,
        passages: Vec::new(),
    };
    for block in &text.blocks {
        match block.kind {
            BlockKind::Heading(level) => sections.begin(level, block),
            BlockKind::Paragraph => sections.paragraphs.push(block),
        }
    }
    sections.end(1);
    sections.passages
}

/// Number of words of a text.
pub(super) fn num_words(text: &str) -> usize {
    words(text).count()
}

/// Sections of a text, the last of which is open.
struct Sections<'t> {
    title: &'t str,
    max_words: usize,
    /// Headings above the open section, with their levels.
    headings: Vec<(u8, &'t Block)>,
    /// Paragraphs of the open section.
    paragraphs: Vec<&'t Block>,
    /// True if nothing has followed the last heading yet.
    is_bare: bool,
    passages: Vec<Passage>,
}

impl<'t> Sections<'t> {
    /// Begins the section of a heading.
    fn begin(&mut self, level: u8, heading: &'t Block) {
        self.end(level);
        self.headings.retain(|(above, _)| *above < level);
        self.headings.push((level, heading));
        self.is_bare = true;
    }

    /// Ends the open section before a heading of this level.
    fn end(&mut self, level: u8) {
        if let Some((last, heading)) = self.headings.last()
            && self.is_bare
            && self.paragraphs.is_empty()
            && level <= *last
        {
            self.paragraphs.push(heading);
        }
        if self.paragraphs.is_empty() {
            return;
        }
        let title = self.path();
        let mut packer = Packer { max_words: self.max_words, ..Packer::default() };
        self.paragraphs.drain(..).for_each(|it| packer.add(it));
        packer.finish();
        let passage = |(text, place)| Passage { title: title.clone(), text, place };
        self.passages.extend(packer.done.into_iter().map(passage));
        self.is_bare = false;
    }

    fn path(&self) -> String {
        let mut path = vec![self.title];
        let headings = self.headings.iter().map(|(_, it)| it.text.as_str());
        path.extend(headings.skip_while(|it| *it == self.title));
        path.join(": ")
    }
}

/// Passages that are being filled.
#[derive(Default)]
struct Packer {
    max_words: usize,
    /// Text of the open passage.
    text: String,
    /// Its words.
    words: usize,
    place: Option<Place>,
    done: Vec<(String, Place)>,
}

impl Packer {
    fn add(&mut self, paragraph: &Block) {
        let num_words = num_words(&paragraph.text);
        if !self.text.is_empty() {
            self.text.truncate(self.text.trim_end().len());
            self.text.push('\n');
        }
        if num_words <= self.max_words {
            return self.push(&paragraph.text, num_words, paragraph.place);
        }
        for sentence in sentences(&paragraph.text) {
            if sentence.len() <= self.max_words {
                self.push(&sentence.concat(), sentence.len(), paragraph.place);
            } else {
                sentence.iter().for_each(|it| self.push(it, 1, paragraph.place));
            }
        }
    }

    fn push(&mut self, piece: &str, num_words: usize, place: Place) {
        if self.words > 0 && self.words + num_words > self.max_words {
            self.finish();
        }
        self.text.push_str(piece);
        self.words += num_words;
        self.place.get_or_insert(place);
    }

    fn finish(&mut self) {
        let text = self.text.trim().to_owned();
        if let Some(place) = self.place.take()
            && !text.is_empty()
        {
            self.done.push((text, place));
        }
        self.text.clear();
        self.words = 0;
    }
}

/// Words of each sentence of a text (UAX 29); no sentence ends within a word.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let bounds: BTreeSet<usize> = text.split_sentence_bound_indices().map(|(at, _)| at).collect();
    let (mut sentences, mut at) = (Vec::<Vec<&str>>::new(), 0);
    for word in words(text) {
        match sentences.last_mut() {
            Some(sentence) if !bounds.contains(&at) => sentence.push(word),
            _ => sentences.push(vec![word]),
        }
        at += word.len();
    }
    sentences
}

/// Words of a text, each with the white space after it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut after_space = true;
    let mut after_unspaced = false;
    let starts = text.split_word_bound_indices().filter_map(move |(at, segment)| {
        let is_space = segment.chars().all(char::is_whitespace);
        let is_unspaced = segment.starts_with(is_unspaced);
        let is_letter = segment.starts_with(char::is_alphanumeric);
        let starts = !is_space && (after_space || is_unspaced || (after_unspaced && is_letter));
        (after_space, after_unspaced) = (is_space, is_unspaced);
        starts.then_some(at)
    });
    // The first word has the white space before it too.
    let mut bounds: Vec<usize> = starts.collect();
    if let Some(first) = bounds.first_mut() {
        *first = 0;
    }
    let ends: Vec<usize> = bounds.iter().skip(1).copied().chain([text.len()]).collect();
    bounds.into_iter().zip(ends).map(|(start, end)| &text[start..end])
}

/// True for characters of scripts that are written without white space between words.
fn is_unspaced(character: char) -> bool {
    matches!(
        character,
        '\u{E00}'..='\u{EFF}'
            | '\u{1000}'..='\u{109F}'
            | '\u{1780}'..='\u{17FF}'
            | '\u{3040}'..='\u{30FF}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{20000}'..='\u{3FFFF}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(line: u64, text: &str) -> Block {
        let level = text.chars().take_while(|it| *it == '#').count();
        let kind = match level {
            0 => BlockKind::Paragraph,
            level => BlockKind::Heading(level as u8),
        };
        let text = text.trim_start_matches('#').trim().to_owned();
        Block { kind, text, place: Place::Line(line) }
    }

    /// Checks the passages of blocks, of which those that begin with `#` are headings.
    #[track_caller]
    fn check(max_words: usize, blocks: &[&str], expected: &[(&str, &str, u64)]) {
        let blocks = (1..).zip(blocks).map(|(line, it)| block(line, it)).collect();
        let cut = passages(&FileText { title: None, blocks }, "N", max_words);
        let cut: Vec<_> = cut
            .iter()
            .map(|it| match it.place {
                Place::Line(line) => (it.title.as_str(), it.text.as_str(), line),
                _ => unreachable!("blocks have lines"),
            })
            .collect();
        assert_eq!(cut, expected);
    }

    #[test]
    fn passages_end_where_readers_pause() {
        check(5, &["a b", "c d"], &[("N", "a b\nc d", 1)]);
        check(3, &["a b", "c d"], &[("N", "a b", 1), ("N", "c d", 2)]);
        check(3, &["see a?b. C d"], &[("N", "see a?b.", 1), ("N", "C d", 1)]);
        check(4, &["A b. C d e. F."], &[("N", "A b.", 1), ("N", "C d e. F.", 1)]);
        check(2, &["a b c d e", "f"], &[("N", "a b", 1), ("N", "c d", 1), ("N", "e\nf", 1)]);
        check(1, &["a  b"], &[("N", "a", 1), ("N", "b", 1)]);
        check(
            9,
            &["# N", "a", "## B", "b", "# C", "c"],
            &[("N", "a", 2), ("N: B", "b", 4), ("N: C", "c", 6)],
        );
        // A heading with a section below is in the titles there; one without is not lost.
        check(
            9,
            &["# A", "## B", "b", "## C", "# D"],
            &[("N: A: B", "b", 3), ("N: A: C", "C", 4), ("N: D", "D", 5)],
        );
        check(
            3,
            &["我是学生。", "你好 you"],
            &[("N", "我是学", 1), ("N", "生。", 1), ("N", "你好 you", 2)],
        );
        check(3, &[], &[]);
    }

    proptest! {
        #[test]
        fn every_word_is_in_one_passage(
            blocks in proptest::collection::vec("(#{1,3} )?[a-cé.?!我ไ。 \n]{1,60}", 0..12),
            max_words in 1_usize..12,
        ) {
            let blocks: Vec<Block> = (1..).zip(&blocks).map(|(line, it)| block(line, it)).collect();
            let paragraphs = blocks.iter().filter(|it| it.kind == BlockKind::Paragraph);
            let written: Vec<&str> = paragraphs.flat_map(|it| words(&it.text)).map(str::trim).collect();
            let text = FileText { title: None, blocks: blocks.clone() };
            let cut = passages(&text, "N", max_words);
            let of_paragraphs = |it: &&Passage| {
                let is_at = |block: &&Block| block.place == it.place;
                blocks.iter().find(is_at).is_some_and(|it| it.kind == BlockKind::Paragraph)
            };
            let cut_from = cut.iter().filter(of_paragraphs);
            let kept: Vec<&str> = cut_from.flat_map(|it| words(&it.text)).map(str::trim).collect();
            prop_assert_eq!(kept, written);
            for passage in &cut {
                prop_assert!(words(&passage.text).count() <= max_words, "{:?}", passage);
            }
        }
    }
}
