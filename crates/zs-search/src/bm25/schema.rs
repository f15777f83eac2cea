//! Analysis of text into terms, and the fields of an index.

use serde::{Deserialize, Serialize};
use tantivy::directory::Directory;
use tantivy::schema::{
    Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::TokenizerManager;
use tantivy::{Index, TantivyDocument, TantivyError};
use zs_core::Document;

use super::analysis::analyser;
use super::{Bm25Error, Bm25Language, ScriptCounts};

const WRITER_MEMORY: usize = 64 << 20;

/// Fields in which the words of a query are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Bm25Fields {
    /// Title and text as one text, in which the title stands `title_weight` times.
    ///
    /// With a weight of 1 this is the `contents` of Search-R1's and Pyserini's indexes.
    Together {
        /// Weight of the words of the title; 0 leaves the title out.
        title_weight: u8,
    },
    /// Title and text each on its own; the score of a document is that of its title plus that of
    /// its text, so one match in a short title outweighs several in the text.
    Separate,
}

/// Title and text together, the title twice: the best of what was measured on public corpora (see
/// the crate's README), and one posting list a word to read.
impl Default for Bm25Fields {
    fn default() -> Self {
        Self::Together { title_weight: 2 }
    }
}

/// The fields of an index: which are searched, and which documents are read back from.
#[derive(Clone)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) title: Field,
    pub(super) text: Field,
    /// The fields that the words of a query are looked for in.
    pub(super) searched: Vec<Field>,
}

impl Fields {
    /// Language of an index; `None` where it is none of this version.
    pub(super) fn language(schema: &Schema) -> Option<Bm25Language> {
        let is_of = |language: &Bm25Language| {
            let fields = [Bm25Fields::default(), Bm25Fields::Separate];
            let mut layouts =
                fields.map(|fields| Layout { fields, language: *language }).into_iter();
            layouts.any(|it| *schema == self::schema(it, true))
        };
        Bm25Language::ALL.into_iter().find(is_of)
    }

    pub(super) fn of(schema: &Schema) -> Result<Self, TantivyError> {
        let (title, text) = (schema.get_field("title")?, schema.get_field("text")?);
        let searched = match schema.get_field("contents") {
            Ok(contents) => vec![contents],
            Err(_) => vec![title, text],
        };
        Ok(Self { id: schema.get_field("id")?, title, text, searched })
    }

    /// A document as a row of the index.
    fn row(&self, document: &Document, layout: Bm25Fields, is_stored: bool) -> TantivyDocument {
        let mut row = TantivyDocument::default();
        if let Bm25Fields::Together { title_weight } = layout {
            let [contents] = self.searched[..] else { unreachable!("one field is searched") };
            for _ in 0..title_weight {
                row.add_text(contents, &document.title);
            }
            row.add_text(contents, &document.text);
        }
        if is_stored || layout == Bm25Fields::Separate {
            row.add_text(self.id, &document.id);
            row.add_text(self.title, &document.title);
            row.add_text(self.text, &document.text);
        }
        row
    }
}

/// Settings of an index.
///
/// ```
/// use zs_core::Document;
/// use zs_search::{Bm25Config, Bm25Engine, Bm25Language};
///
/// let documents = vec![Document::new("Élections", "Les élections de 1848.")];
/// let config = Bm25Config { language: Some(Bm25Language::French), ..Bm25Config::default() };
/// let engine = Bm25Engine::with_config(documents, config)?;
/// assert_eq!(engine.search_indices("election", 1)?[0].0, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bm25Config {
    /// Fields.
    pub fields: Bm25Fields,
    /// Analysis of texts and queries; `None` takes [`ScriptCounts::language`]
    /// of the documents.
    pub language: Option<Bm25Language>,
}

/// Fields and language of an index.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) fields: Bm25Fields,
    pub(super) language: Bm25Language,
}

impl Layout {
    pub(super) fn of(config: Bm25Config, documents: &[Document]) -> Self {
        let language = config.language;
        let language = language.unwrap_or_else(|| ScriptCounts::of_first(documents).language());
        Self { fields: config.fields, language }
    }
}

pub(super) fn schema(layout: Layout, is_stored: bool) -> Schema {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(&layout.language.analysis())
        .set_index_option(IndexRecordOption::WithFreqs);
    let searched = TextOptions::default().set_indexing_options(indexing);
    let mut schema = Schema::builder();
    match layout.fields {
        Bm25Fields::Separate => {
            let (mut text, mut id) = (searched, STRING);
            if is_stored {
                text = text.set_stored();
                id = id | STORED;
            }
            schema.add_text_field("id", id);
            schema.add_text_field("title", text.clone());
            schema.add_text_field("text", text);
        }
        Bm25Fields::Together { .. } => {
            let kept = if is_stored {
                TextOptions::default().set_stored()
            } else {
                TextOptions::default()
            };
            schema.add_text_field("id", kept.clone());
            schema.add_text_field("title", kept.clone());
            schema.add_text_field("text", kept);
            schema.add_text_field("contents", searched);
        }
    }
    schema.build()
}

/// Writes one segment, on this thread, so that document numbers follow the order of the documents.
pub(super) fn build_segment(
    directory: impl Into<Box<dyn Directory>>,
    documents: &[Document],
    layout: Layout,
    is_stored: bool,
    failed: &impl Fn(TantivyError) -> Bm25Error,
) -> Result<Index, Bm25Error> {
    if documents.is_empty() {
        return Err(Bm25Error::EmptyCorpus);
    }
    let schema = schema(layout, is_stored);
    let fields = Fields::of(&schema).map_err(failed)?;
    let tokenizers = TokenizerManager::default();
    tokenizers.register(&layout.language.analysis(), analyser(layout.language));
    let mut writer = Index::builder()
        .schema(schema)
        .tokenizers(tokenizers)
        .single_segment_index_writer(directory, WRITER_MEMORY)
        .map_err(failed)?;
    for document in documents {
        writer.add_document(fields.row(document, layout.fields, is_stored)).map_err(failed)?;
    }
    writer.finalize().map_err(failed)
}
