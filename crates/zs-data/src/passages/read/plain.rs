//! Plain text: paragraphs between blank lines.

use crate::passages::text::{BlockKind, FileText, Place};

pub(super) fn read(text: &str) -> FileText {
    let mut read = FileText::default();
    let (mut paragraph, mut start) = (String::new(), 1);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            read.push(BlockKind::Paragraph, &std::mem::take(&mut paragraph), Place::Line(start));
        } else {
            if paragraph.is_empty() {
                start = number;
            }
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    read.push(BlockKind::Paragraph, &paragraph, Place::Line(start));
    read
}
