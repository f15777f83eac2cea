//! A local retrieval engine: BM25 through tantivy, over documents in memory or an index on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::directory::{Directory, MmapDirectory, RamDirectory};
use tantivy::query::{BooleanQuery, BoostQuery, Query, TermQuery};
use tantivy::schema::{
    Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value,
};
use tantivy::tokenizer::{
    Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter, TextAnalyzer,
};
use tantivy::{DocAddress, Index, IndexReader, Searcher, TantivyDocument, TantivyError, Term, doc};
use zs_core::{Document, SearchEngine, SearchError, SearchRequest, SearchResult};

/// Names what text goes through on its way into the index; a change of it needs another name.
const ANALYSIS: &str = "zs_english_1";

/// Words that queries and documents are compared without: Lucene's English list.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

const WRITER_MEMORY: usize = 64 << 20;

/// BM25 over titles and texts.
///
/// ```text
/// score(q, d) = sum over fields f, terms t of q:
///     n(t, q) * ln(1 + (N - N_t + 1/2) / (N_t + 1/2)) * n(t, d_f) (k1 + 1)
///             / (n(t, d_f) + k1 (1 - b + b |d_f| / avg |d_f|))
/// ```
///
/// - `N`, `N_t`: documents, and those whose field holds `t`; `n(t, x)`: how often `x` holds `t`
/// - `k1 = 1.2`, `b = 0.75`, as tantivy has them; `|d_f|` is stored in one byte, as in Lucene
///
/// Text is split at everything but letters and digits, lower-cased, freed of stop words and
/// stemmed. The score of a document is that of its title plus that of its text. Equal scores keep
/// the order of the documents. A query without a usable word finds nothing.
///
/// # References
///
/// - Robertson and Zaragoza (2009), *The Probabilistic Relevance Framework: BM25 and Beyond*
///
/// ```
/// use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
/// use zs_simulator::Bm25Engine;
///
/// let engine = Bm25Engine::from_documents(vec![
///     Document::new("Bamboo", "Bamboo is a grass."),
///     Document::new("Oak", "Oaks are trees."),
/// ])?;
/// let question = Question::new("q", "Which tree?", ["oak"]);
/// let quality = DocumentQuality::Useful;
/// let request = SearchRequest { query: "a tree", question: &question, quality, read: &[], k: 3, seed: 0 };
/// assert_eq!(engine.search(request)?[0].title, "Oak");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Bm25Engine {
    fields: Fields,
    analyser: TextAnalyzer,
    reader: IndexReader,
    /// The documents of an engine in memory; an index on disk stores its own.
    documents: Option<Vec<Document>>,
}

#[derive(Clone, Copy)]
struct Fields {
    id: Field,
    title: Field,
    text: Field,
}

/// Why an index could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Bm25Error {
    /// There is nothing to search.
    #[error("the corpus has no documents")]
    EmptyCorpus,
    /// The folder for a new index has something in it.
    #[error("{path}: not empty; name a new folder for the index", path = path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path}: could not be written or read", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The folder holds no index that this version can search.
    #[error("{path}: not an index of this program ({message}); build it again", path = path.display())]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
        /// What is amiss.
        message: String,
    },
    /// tantivy failed.
    #[error("{place}: indexing failed")]
    Index {
        /// The folder, or that the index is in memory.
        place: String,
        /// tantivy's own error.
        #[source]
        source: TantivyError,
    },
}

impl Bm25Engine {
    /// Indexes documents in memory.
    ///
    /// # Errors
    ///
    /// Fails when there are none.
    pub fn from_documents(documents: Vec<Document>) -> Result<Self, Bm25Error> {
        let in_memory = |source| Bm25Error::Index { place: "in memory".to_owned(), source };
        let index = build_index(RamDirectory::create(), &documents, false, &in_memory)?;
        let fields = Fields::of(&index.schema()).map_err(in_memory)?;
        Self::over(&index, fields, Some(documents)).map_err(in_memory)
    }

    /// Indexes documents in a new folder and opens it.
    ///
    /// The index is built beside the folder and renamed, so that what is interrupted leaves no half
    /// of an index. The whole index is built in memory before it is written.
    ///
    /// # Errors
    ///
    /// Fails when there are no documents, the folder exists and is not empty, or a file cannot be
    /// written.
    pub fn create(dir: &Path, documents: &[Document]) -> Result<Self, Bm25Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Bm25Error::Io { path, source }
        };
        let exists = dir.exists();
        if exists {
            let mut entries = std::fs::read_dir(dir).map_err(io(dir))?;
            if entries.next().is_some() {
                return Err(Bm25Error::NotEmpty { path: dir.to_owned() });
            }
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(io(parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".index-")
            .suffix(".partial")
            .tempdir_in(parent)
            .map_err(io(parent))?;
        let failed = |source| Bm25Error::Index { place: dir.display().to_string(), source };
        let files = MmapDirectory::open(temporary.path()).map_err(|it| failed(it.into()))?;
        drop(build_index(files, documents, true, &failed)?);
        if exists {
            std::fs::remove_dir(dir).map_err(io(dir))?;
        }
        std::fs::rename(temporary.path(), dir).map_err(io(dir))?;
        // The folder has moved; there is nothing left to clean up.
        drop(temporary.keep());
        Self::open(dir)
    }

    /// Opens an index that [`create`](Self::create) made.
    ///
    /// # Errors
    ///
    /// Fails when the folder is missing or holds no index of this program.
    pub fn open(dir: &Path) -> Result<Self, Bm25Error> {
        if let Err(source) = std::fs::read_dir(dir) {
            return Err(Bm25Error::Io { path: dir.to_owned(), source });
        }
        let not_an_index = |it: TantivyError| Bm25Error::NotAnIndex {
            path: dir.to_owned(),
            message: it.to_string(),
        };
        let index = Index::open_in_dir(dir).map_err(not_an_index)?;
        index.tokenizers().register(ANALYSIS, analyser());
        let fields = Fields::of(&index.schema()).map_err(not_an_index)?;
        if index.schema() != schema(true) {
            let message = "its fields are analysed in another way".to_owned();
            return Err(Bm25Error::NotAnIndex { path: dir.to_owned(), message });
        }
        Self::over(&index, fields, None).map_err(not_an_index)
    }

    /// How many documents there are.
    #[must_use]
    pub fn num_documents(&self) -> usize {
        self.reader.searcher().num_docs() as usize
    }

    fn over(
        index: &Index,
        fields: Fields,
        documents: Option<Vec<Document>>,
    ) -> Result<Self, TantivyError> {
        // The index never changes, so nothing watches its files.
        let policy = tantivy::ReloadPolicy::Manual;
        let reader = index.reader_builder().reload_policy(policy).try_into()?;
        Ok(Self { fields, analyser: analyser(), reader, documents })
    }

    /// The places of the best documents in the corpus, with their scores.
    pub(crate) fn search_indices(
        &self,
        query: &str,
        k: usize,
    ) -> Result<Vec<(usize, f32)>, TantivyError> {
        let found = self.top(&self.reader.searcher(), query, k)?;
        Ok(found.into_iter().map(|(score, at)| (at.doc_id as usize, score)).collect())
    }

    fn top(
        &self,
        searcher: &Searcher,
        query: &str,
        k: usize,
    ) -> Result<Vec<(f32, DocAddress)>, TantivyError> {
        let clauses = self.clauses(query);
        if clauses.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        searcher.search(&BooleanQuery::union(clauses), &TopDocs::with_limit(k).order_by_score())
    }

    /// One clause a distinct word and field, weighted by how often the query has the word.
    fn clauses(&self, query: &str) -> Vec<Box<dyn Query>> {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut analyser = self.analyser.clone();
        let mut words = analyser.token_stream(query);
        while words.advance() {
            *counts.entry(words.token().text.clone()).or_default() += 1;
        }
        let mut clauses: Vec<Box<dyn Query>> = Vec::with_capacity(2 * counts.len());
        for (word, count) in counts {
            for field in [self.fields.title, self.fields.text] {
                let term = Term::from_field_text(field, &word);
                let clause = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                clauses.push(match count {
                    1 => clause,
                    _ => Box::new(BoostQuery::new(clause, count as f32)),
                });
            }
        }
        clauses
    }

    fn answer(&self, request: &SearchRequest<'_>) -> SearchResult {
        let searcher = self.reader.searcher();
        let found = self.top(&searcher, request.query, request.k);
        found
            .and_then(|found| {
                found
                    .into_iter()
                    .map(|(score, at)| {
                        Ok(Document { score: Some(score), ..self.document(&searcher, at)? })
                    })
                    .collect()
            })
            .map_err(|source| SearchError::Engine {
                engine: self.name().to_owned(),
                query: request.query.to_owned(),
                source: source.into(),
            })
    }

    fn document(&self, searcher: &Searcher, at: DocAddress) -> Result<Document, TantivyError> {
        if let Some(documents) = &self.documents {
            return Ok(documents[at.doc_id as usize].clone());
        }
        let stored: TantivyDocument = searcher.doc(at)?;
        let text_of = |field| {
            let value = stored.get_first(field);
            value.and_then(|it| it.as_str()).unwrap_or_default().to_owned()
        };
        Ok(Document {
            id: text_of(self.fields.id),
            title: text_of(self.fields.title),
            text: text_of(self.fields.text),
            score: None,
        })
    }
}

impl SearchEngine for Bm25Engine {
    fn name(&self) -> &str {
        "bm25"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        requests.par_iter().map(|it| self.answer(it)).collect()
    }
}

impl std::fmt::Debug for Bm25Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bm25Engine").field("num_documents", &self.num_documents()).finish()
    }
}

impl Fields {
    fn of(schema: &Schema) -> Result<Self, TantivyError> {
        Ok(Self {
            id: schema.get_field("id")?,
            title: schema.get_field("title")?,
            text: schema.get_field("text")?,
        })
    }
}

/// How text becomes terms.
fn analyser() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(64))
        .filter(LowerCaser)
        .filter(StopWordFilter::remove(STOP_WORDS.map(str::to_owned)))
        .filter(Stemmer::new(Language::English))
        .build()
}

fn schema(is_stored: bool) -> Schema {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(ANALYSIS)
        .set_index_option(IndexRecordOption::WithFreqs);
    let mut text = TextOptions::default().set_indexing_options(indexing);
    let mut id = STRING;
    if is_stored {
        text = text.set_stored();
        id = id | STORED;
    }
    let mut schema = Schema::builder();
    schema.add_text_field("id", id);
    schema.add_text_field("title", text.clone());
    schema.add_text_field("text", text);
    schema.build()
}

/// Writes one segment, on this thread, so that document numbers follow the order of the documents.
fn build_index(
    directory: impl Into<Box<dyn Directory>>,
    documents: &[Document],
    is_stored: bool,
    failed: &impl Fn(TantivyError) -> Bm25Error,
) -> Result<Index, Bm25Error> {
    if documents.is_empty() {
        return Err(Bm25Error::EmptyCorpus);
    }
    let schema = schema(is_stored);
    let fields = Fields::of(&schema).map_err(failed)?;
    let tokenizers = tantivy::tokenizer::TokenizerManager::default();
    tokenizers.register(ANALYSIS, analyser());
    let mut writer = Index::builder()
        .schema(schema)
        .tokenizers(tokenizers)
        .single_segment_index_writer(directory, WRITER_MEMORY)
        .map_err(failed)?;
    for document in documents {
        let row = doc!(
            fields.id => document.id.as_str(),
            fields.title => document.title.as_str(),
            fields.text => document.text.as_str(),
        );
        writer.add_document(row).map_err(failed)?;
    }
    writer.finalize().map_err(failed)
}

#[cfg(test)]
mod tests {
    use zs_core::{DocumentQuality, Question};

    use super::*;

    fn documents() -> Vec<Document> {
        let texts = ["a red fish", "one fish two fish", "blue", "a red fish"];
        let numbered = texts.iter().enumerate();
        numbered
            .map(|(id, text)| Document { id: id.to_string(), ..Document::new("", *text) })
            .collect()
    }

    fn search(engine: &Bm25Engine, query: &str, k: usize) -> Vec<Document> {
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        engine
            .search(SearchRequest { query, question: &question, quality, read: &[], k, seed: 0 })
            .unwrap()
    }

    #[track_caller]
    fn check(query: &str, k: usize, expected: &[&str]) {
        let engine = Bm25Engine::from_documents(documents()).unwrap();
        let found = search(&engine, query, k);
        let ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, expected, "{query}");
    }

    #[test]
    fn ranks_by_score_then_order() {
        check("red", 5, &["0", "3"]);
        check("red", 1, &["0"]);
        check("Fishes, RED!", 5, &["0", "3", "1"]);
        check("blue", 5, &["2"]);
        check("green", 5, &[]);
        check("the of a", 5, &[]);
        check("", 5, &[]);
        check("fish", 0, &[]);
    }

    /// `red`: N = 4, N_t = 2, so idf = ln 2; |d| = 2 and the average is (2 + 4 + 1 + 2) / 4 = 2.25,
    /// so the score is ln 2 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 2.25)) = 0.726107...
    #[test]
    fn scores_follow_the_formula() {
        let engine = Bm25Engine::from_documents(documents()).unwrap();
        let expected = 2.0_f64.ln() * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 2.0 / 2.25));
        let once = f64::from(search(&engine, "red", 1)[0].score.unwrap());
        let twice = f64::from(search(&engine, "red red", 1)[0].score.unwrap());
        assert!((once - expected).abs() < 1e-6, "{once} {expected}");
        assert!((twice - 2.0 * expected).abs() < 1e-6, "{twice}");
    }

    #[test]
    fn an_index_on_disk_answers_alike() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("index");
        let created = Bm25Engine::create(&dir, &documents()).unwrap();
        let opened = Bm25Engine::open(&dir).unwrap();
        let in_memory = Bm25Engine::from_documents(documents()).unwrap();
        for query in ["red", "fish blue", "fish fish one"] {
            assert_eq!(search(&in_memory, query, 3), search(&created, query, 3));
            assert_eq!(search(&in_memory, query, 3), search(&opened, query, 3));
        }
        assert_eq!(opened.num_documents(), 4);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert!(matches!(Bm25Engine::from_documents(vec![]), Err(Bm25Error::EmptyCorpus)));
        let none = Bm25Engine::create(&dir.join("a"), &[]);
        assert!(matches!(none, Err(Bm25Error::EmptyCorpus)));
        assert!(!dir.join("a").exists());
        assert!(matches!(Bm25Engine::open(&dir.join("a")), Err(Bm25Error::Io { .. })));
        assert!(matches!(Bm25Engine::open(dir), Err(Bm25Error::NotAnIndex { .. })));
        std::fs::write(dir.join("file"), "x").unwrap();
        let taken = Bm25Engine::create(dir, &documents());
        assert!(matches!(taken, Err(Bm25Error::NotEmpty { .. })));
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
    }
}
