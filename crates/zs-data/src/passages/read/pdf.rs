//! PDF: the text of each page, in the order of its drawing.

use lopdf::{Document, Object};

use crate::passages::text::{BlockKind, FileText, Place};

/// Ligatures, which no query has, and their letters.
const LIGATURES: [(char, &str); 5] = [
    ('\u{fb00}', "ff"),
    ('\u{fb01}', "fi"),
    ('\u{fb02}', "fl"),
    ('\u{fb03}', "ffi"),
    ('\u{fb04}', "ffl"),
];

/// Stack of the thread that reads a file.
const STACK_BYTES: usize = 64 << 20;

/// Reads a file, on a thread of its own since a damaged one may panic.
///
/// # Errors
///
/// Fails with what is wrong with the file.
pub(super) fn read(bytes: &[u8]) -> Result<FileText, String> {
    std::thread::scope(|scope| {
        let work = || zs_core::caught(|| read_pages(bytes)).and_then(|it| it);
        let builder = std::thread::Builder::new().name("pdf".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(|it| it.to_string())?;
        thread.join().unwrap_or_else(|it| Err(zs_core::panic_message(&*it).to_owned()))
    })
}

fn read_pages(bytes: &[u8]) -> Result<FileText, String> {
    let document = Document::load_mem(bytes).map_err(|it| it.to_string())?;
    if document.is_encrypted() {
        return Err("it is encrypted; save it without a password".to_owned());
    }
    let mut read = FileText { title: title(&document), blocks: Vec::new() };
    for page in document.get_pages().into_keys() {
        let text = document.extract_text(&[page]);
        let mut text = text.map_err(|it| format!("page {page}: {it}"))?;
        for (ligature, letters) in LIGATURES {
            text = text.replace(ligature, letters);
        }
        for paragraph in text.split('\n') {
            read.push(BlockKind::Paragraph, paragraph, Place::Page(u64::from(page)));
        }
    }
    Ok(read)
}

/// The title that the file names.
fn title(document: &Document) -> Option<String> {
    let information = document.trailer.get(b"Info").ok()?;
    let information = document.dereference(information).ok()?.1;
    let title: &Object = information.as_dict().ok()?.get(b"Title").ok()?;
    let title = lopdf::decode_text_string(document.dereference(title).ok()?.1).ok()?;
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(title).filter(|it| !it.is_empty())
}
