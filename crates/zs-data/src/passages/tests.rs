use std::fs;

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document as Pdf, Object, Stream, dictionary};

use super::*;

/// A PDF of one page per text; a page without text is a scanned one.
fn pdf(pages: &[&str]) -> Vec<u8> {
    let mut pdf = Pdf::with_version("1.5");
    let root = pdf.new_object_id();
    let font = pdf.add_object(dictionary! {
        "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Courier",
    });
    let resources = pdf.add_object(dictionary! { "Font" => dictionary! { "F1" => font } });
    let page = |pdf: &mut Pdf, text: &str| -> Object {
        let mut operations = vec![
            Operation::new("BT", vec![]),
            Operation::new("Tf", vec!["F1".into(), 12.into()]),
            Operation::new("Tj", vec![Object::string_literal(text)]),
            Operation::new("ET", vec![]),
        ];
        if text.is_empty() {
            operations.clear();
        }
        let content = Content { operations }.encode().unwrap();
        let content = pdf.add_object(Stream::new(Dictionary::new(), content));
        let page = dictionary! { "Type" => "Page", "Parent" => root, "Contents" => content };
        pdf.add_object(page).into()
    };
    let kids: Vec<Object> = pages.iter().map(|it| page(&mut pdf, it)).collect();
    let pages = dictionary! {
        "Type" => "Pages", "Count" => kids.len() as i64, "Kids" => kids, "Resources" => resources,
        "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()],
    };
    pdf.objects.insert(root, Object::Dictionary(pages));
    let catalog = pdf.add_object(dictionary! { "Type" => "Catalog", "Pages" => root });
    pdf.trailer.set("Root", catalog);
    let mut bytes = Vec::new();
    pdf.save_to(&mut bytes).unwrap();
    bytes
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// Builds passages of at most six words from the folder `in`; the result is in `out`.
fn build(folder: &Path, inputs: &[&str]) -> Result<PassageManifest, PassageError> {
    let inputs: Vec<PathBuf> = inputs.iter().map(|it| folder.join(it)).collect();
    fs::create_dir_all(folder.join("in/out")).unwrap();
    build_passages(&inputs, PassageSettings { max_words: 6 }, &folder.join("in/out"), &mut |_| {})
}

/// Rows of a file of the result, of which some fields are kept.
fn rows(folder: &Path, name: &str, fields: [&str; 4]) -> Vec<String> {
    let text = fs::read_to_string(folder.join("in/out").join(name)).unwrap();
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |it: &str| row[it].as_str().unwrap_or_default().to_owned();
        let folder = format!("{}/in/", folder.display());
        fields.map(field).join(" | ").replace(&folder, "")
    };
    text.lines().map(row).collect()
}

/// Checks passages (title, text, source, place) and what is skipped of the files of a folder.
#[track_caller]
fn check(files: &[(&str, &[u8])], expected: &[&str], skipped: &[&str]) {
    let folder = folder(files);
    let manifest = build(folder.path(), &["in"]).unwrap();
    let kept = rows(folder.path(), "passages.jsonl", ["title", "text", "source", "place"]);
    assert_eq!(kept, expected);
    let left_out = rows(folder.path(), "skipped.jsonl", ["source", "place", "reason", ""]);
    let left_out: Vec<&str> = left_out.iter().map(|it| it.trim_end_matches(" | ")).collect();
    assert_eq!(left_out, skipped);
    assert_eq!(manifest.passages, expected.len());
    assert_eq!(manifest.skipped.values().sum::<usize>(), skipped.len());
    let read = crate::read_documents(&folder.path().join("in/out/passages.jsonl")).unwrap();
    assert_eq!(read.len(), expected.len());
}

#[test]
fn every_format_is_read() {
    check(
        &[
            ("a.txt", "\u{feff}First line\nsecond.\r\n\r\n\nThird one.".as_bytes()),
            ("b/c.md", b"# Oak\n\nA *big* tree, [here](x).\n\n## Use\n\n- wood\n- `bark`\n\n| a | b |\n|---|---|\n| c | d |\n"),
            ("b/d.html", b"<html><head><title>Ash &amp; Elm</title><style>p {}</style></head><body><nav>Home</nav>\n<h1>Ash</h1><p>One<br>two <b>three</b>.</p>\n<script>if (a<b) {}</script><h2>Elm</h2><div>Four <div>five"),
            ("e.pdf", &pdf(&["Page one.", "", "Page three."])),
            ("f.jsonl", b"{\"id\": 7, \"title\": \"T\", \"text\": \"x  y\"}\n{\"id\": 7, \"text\": \"a b c d. E f g h.\"}\n"),
        ],
        &[
            "a | First line second.\nThird one. | a.txt | line 1",
            "Oak | A big tree, here. | b/c.md | line 3",
            "Oak: Use | wood\nbark\na | b | b/c.md | line 7",
            "Oak: Use | c | d | b/c.md | line 12",
            "Ash & Elm: Ash | One two three. | b/d.html | line 2",
            "Ash & Elm: Ash: Elm | Four\nfive | b/d.html | line 3",
            "e | Page one.\nPage three. | e.pdf | page 1",
            "T | x  y | f.jsonl | row 1",
            " | a b c d. | f.jsonl | row 2",
            " | E f g h. | f.jsonl | row 2",
        ],
        &[],
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let damaged = &pdf(&["Page one."])[..200];
    check(
        &[
            (".git/a.txt", b"x"),
            ("a.txt", b"Same."),
            ("b.txt", b" \n"),
            ("c.md", b"<!-- nothing -->"),
            ("d.pdf", &pdf(&["", ""])),
            ("e.pdf", damaged),
            ("f.txt", b"\xff\xfe"),
            ("g.rs", b"fn main() {}"),
            ("h.jsonl", b"{\"id\": \"a\", \"title\": \"a\", \"text\": \"Same.\"}\n{oops\n{\"text\": \"Other.\"}\n"),
            ("i.json", b"{\n\"name\": \"a package\"\n}"),
        ],
        &["a | Same. | a.txt | line 1", " | Other. | h.jsonl | row 3"],
        &[
            ".git |  | hidden",
            "b.txt |  | empty",
            "c.md |  | no_text",
            "d.pdf |  | no_text",
            "e.pdf |  | unreadable",
            "f.txt |  | not_utf8",
            "g.rs |  | unknown_format",
            "h.jsonl | row 1 | duplicate",
            "h.jsonl | row 2 | unreadable_row",
            "i.json |  | unreadable",
        ],
    );
}

#[test]
fn nothing_readable_is_one_line_and_leaves_nothing() {
    let folder = folder(&[("a.rs", b"x"), ("b.txt", b"")]);
    let message = build(folder.path(), &["in"]).unwrap_err().to_string();
    assert!(
        message.contains("nothing readable in") && message.contains("1 empty (nothing"),
        "{message}"
    );
    assert!(message.contains("1 unknown_format (name it .txt"), "{message}");
    assert!(fs::read_dir(folder.path().join("in/out")).unwrap().next().is_none());
    let message = build(folder.path(), &["none.txt"]).unwrap_err().to_string();
    assert!(message.ends_with("none.txt: cannot be read"), "{message}");
    let settings = PassageSettings { max_words: 0 };
    assert!(build_passages(&[], settings, folder.path(), &mut |_| {}).is_err());
}

#[test]
fn inputs_are_merged_in_order_with_stable_ids() {
    let a: &[u8] = b"{\"id\": \"1\", \"text\": \"One.\"}\n{\"id\": \"2\", \"text\": \"Two.\"}\n";
    let b: &[u8] = b"{\"id\": \"1\", \"text\": \"Three.\"}\n{\"id\": \"9\", \"text\": \"Two.\"}\n";
    let files = [("a.jsonl", a), ("b.jsonl", b), ("c.txt", &b"Four."[..])];
    let ids = |inputs: &[&str]| {
        let folder = folder(&files);
        build(folder.path(), inputs).unwrap();
        rows(folder.path(), "passages.jsonl", ["id", "text", "", ""])
    };
    let id = |title: &str, text: &str| {
        crate::digest::of_bytes(format!("{title}\0{text}").as_bytes())[..20].to_owned()
    };
    let expected = [
        "1 | One. |  | ".to_owned(),
        "2 | Two. |  | ".to_owned(),
        format!("{} | Three. |  | ", id("", "Three.")),
        format!("{} | Four. |  | ", id("c", "Four.")),
    ];
    assert_eq!(ids(&["in"]), expected);
    assert_eq!(ids(&["in/a.jsonl", "in/b.jsonl", "in/c.txt"]), expected);
    let turned = ids(&["in/c.txt", "in/b.jsonl"]);
    assert_eq!(turned[0], expected[3]);
    assert_eq!(turned[1], "1 | Three. |  | ");
}

/// Depth costs nothing, and bytes of strangers do no harm.
#[test]
fn damaged_and_deep_files_end() {
    let deep = "<div>".repeat(100_000) + "end";
    assert_eq!(read::read(TextFormat::Html, deep.as_bytes()).unwrap().blocks.len(), 1);
    let quotes = ">".repeat(20_000) + " end";
    assert!(read::read(TextFormat::Markdown, quotes.as_bytes()).is_ok());
    let whole = pdf(&["Page one.", "Page two."]);
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x15;
        let _ = read::read(TextFormat::Pdf, &damaged);
    }
}
