//! A local retrieval engine: BM25 through tantivy, over documents in memory or an index on disk.

mod analysis;
mod corpus;
mod digests;
mod disk;
mod error;
mod files;
mod impacts;
mod language;
mod plan;
mod read_only;
mod schema;
mod script;
mod segment;

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::query::{BooleanQuery, BoostQuery, Query, TermQuery};
use tantivy::schema::document::{DeserializeError, DocumentDeserialize, DocumentDeserializer};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::snippet::SnippetGenerator;
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{DocAddress, Index, IndexReader, Searcher, TantivyError, Term};
use zs_core::{Document, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult};

use self::analysis::analyser;
use self::impacts::{Impacts, Scores};
use self::schema::{Fields, Layout, build_segment};

pub use self::disk::{BuildProgress, IndexBuild, IndexSummary};
pub use self::error::Bm25Error;
pub use self::language::Bm25Language;
pub use self::schema::{Bm25Config, Bm25Fields};
pub use self::script::{Script, ScriptCounts};

/// Blocks of stored documents that are kept unpacked, 16 KiB each.
const CACHED_BLOCKS: usize = 2048;

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
/// Text becomes terms as its language asks, [`Bm25Language`]: English ones, unless the documents or a
/// setting ask for others. What the fields are is a choice, [`Bm25Fields`]: one of title and text
/// together, the title counted twice, unless told otherwise. Equal scores keep the order of the
/// documents. A query without a usable word finds nothing.
///
/// # References
///
/// - Robertson and Zaragoza (2009), *The Probabilistic Relevance Framework: BM25 and Beyond*
///
/// ```
/// use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
/// use zs_search::Bm25Engine;
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
    language: Bm25Language,
    analyser: TextAnalyzer,
    reader: IndexReader,
    /// Instead of tantivy's own search, where that is faster.
    impacts: Option<Impacts>,
    /// The documents of an engine in memory; an index on disk stores its own.
    documents: Option<Vec<Document>>,
    /// Maximum number of characters of a returned passage; `None` returns all of them.
    snippet_chars: Option<usize>,
}

impl Bm25Engine {
    /// Indexes documents in memory with default settings.
    ///
    /// # Errors
    ///
    /// Fails when there are none.
    pub fn from_documents(documents: Vec<Document>) -> Result<Self, Bm25Error> {
        Self::with_config(documents, Bm25Config::default())
    }

    /// Indexes the documents of a corpus file in memory, in a language or in that of their scripts.
    /// `note` is given a line for each decision of the reader, and one where documents are in scripts
    /// that the analysis does not know.
    ///
    /// # Errors
    ///
    /// Fails on an unreadable file, a malformed row, or no document at all.
    pub fn from_corpus(
        path: &Path,
        language: Option<Bm25Language>,
        mut note: impl FnMut(String),
    ) -> Result<Self, Bm25Error> {
        let corpus = zs_data::read_corpus(path)?;
        let mut scripts = ScriptCounts::default();
        for (document, row) in corpus.documents.iter().zip(1..) {
            scripts.add(&document.text, row);
        }
        let language = language.unwrap_or_else(|| scripts.language());
        let warning = scripts.warning("documents", language);
        let lines = corpus.notes.iter().map(ToString::to_string).chain(warning);
        lines.for_each(|line| note(format!("{}: {line}", path.display())));
        let config = Bm25Config { language: Some(language), ..Bm25Config::default() };
        Self::with_config(corpus.documents, config)
    }

    /// Indexes documents in memory.
    ///
    /// # Errors
    ///
    /// Fails when there are none.
    pub fn with_config(documents: Vec<Document>, config: Bm25Config) -> Result<Self, Bm25Error> {
        let in_memory = |source| Bm25Error::Index { place: "in memory".to_owned(), source };
        let layout = Layout::of(config, &documents);
        let index = build_segment(RamDirectory::create(), &documents, layout, false, &in_memory)?;
        let fields = Fields::of(&index.schema()).map_err(in_memory)?;
        Self::over(&index, fields, layout.language, Some(documents)).map_err(in_memory)
    }

    /// The same, but of each passage that part in at most `chars` characters that has most of the
    /// query's words.
    #[must_use]
    pub fn with_snippets(mut self, chars: usize) -> Self {
        self.snippet_chars = Some(chars);
        self
    }

    /// Number of documents.
    #[must_use]
    pub fn num_documents(&self) -> usize {
        self.reader.searcher().num_docs() as usize
    }

    /// Analysis of the index, and of queries.
    #[must_use]
    pub fn language(&self) -> Bm25Language {
        self.language
    }

    /// The same index, if its language is the one that is asked for or none is.
    ///
    /// # Errors
    ///
    /// Fails when the index has another language.
    pub fn in_language(self, asked: Option<Bm25Language>) -> Result<Self, Bm25Error> {
        match asked {
            Some(asked) if asked != self.language => {
                Err(Bm25Error::OtherLanguage { asked, found: self.language })
            }
            _ => Ok(self),
        }
    }

    fn over(
        index: &Index,
        fields: Fields,
        language: Bm25Language,
        documents: Option<Vec<Document>>,
    ) -> Result<Self, TantivyError> {
        // The index never changes, so nothing watches its files.
        let policy = tantivy::ReloadPolicy::Manual;
        let reader = index
            .reader_builder()
            .reload_policy(policy)
            .doc_store_cache_num_blocks(CACHED_BLOCKS)
            .try_into()?;
        let reader: IndexReader = reader;
        let impacts = Impacts::of(&reader.searcher(), &fields.searched);
        let (analyser, snippet_chars) = (analyser(language), None);
        Ok(Self { fields, language, analyser, reader, impacts, documents, snippet_chars })
    }

    /// Finds the positions of the best documents in the corpus of an index in memory, with their
    /// scores.
    ///
    /// # Errors
    ///
    /// Fails when a file of an index on disk cannot be read.
    pub fn search_indices(&self, query: &str, k: usize) -> Result<Vec<(usize, f32)>, TantivyError> {
        let searcher = self.reader.searcher();
        let words = words(&mut self.analyser.clone(), query);
        let found = self.top(&searcher, &mut Scores::default(), &words, k)?;
        Ok(found.into_iter().map(|(score, at)| (at.doc_id as usize, score)).collect())
    }

    /// The best documents, the earlier one first where scores are equal.
    fn top(
        &self,
        searcher: &Searcher,
        scores: &mut Scores,
        words: &BTreeMap<String, u32>,
        k: usize,
    ) -> Result<Vec<(f32, DocAddress)>, TantivyError> {
        if k == 0 || words.is_empty() {
            return Ok(Vec::new());
        }
        match &self.impacts {
            Some(impacts) => impacts.top(searcher, scores, words, k),
            None => searcher.search(&self.query(words), &TopDocs::with_limit(k).order_by_score()),
        }
    }

    /// One clause a distinct word and field, weighted by how often the query has the word.
    fn query(&self, words: &BTreeMap<String, u32>) -> BooleanQuery {
        let mut clauses: Vec<Box<dyn Query>> =
            Vec::with_capacity(self.fields.searched.len() * words.len());
        for (word, count) in words {
            for field in &self.fields.searched {
                let term = Term::from_field_text(*field, word);
                let clause = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                clauses.push(match count {
                    1 => clause,
                    _ => Box::new(BoostQuery::new(clause, *count as f32)),
                });
            }
        }
        BooleanQuery::union(clauses)
    }

    fn documents(
        &self,
        searcher: &Searcher,
        scores: &mut Scores,
        words: &BTreeMap<String, u32>,
        k: usize,
    ) -> Result<Vec<Document>, TantivyError> {
        let mut documents = Vec::with_capacity(k.min(64));
        for (score, at) in self.top(searcher, scores, words, k)? {
            documents.push(Document { score: Some(score), ..self.document(searcher, at)? });
        }
        if let Some(chars) = self.snippet_chars {
            let field = self.fields.searched[self.fields.searched.len() - 1];
            let mut generator = SnippetGenerator::create(searcher, &self.query(words), field)?;
            generator.set_max_num_chars(chars);
            for document in &mut documents {
                document.text = snippet(&generator, &document.text, chars);
            }
        }
        Ok(documents)
    }

    /// The document at a position in the corpus.
    ///
    /// # Errors
    ///
    /// Fails when a file of an index on disk cannot be read, or the index has fewer documents.
    pub(crate) fn document_at(&self, position: usize) -> Result<Document, TantivyError> {
        // An index has one segment, in the order of the corpus.
        self.document(&self.reader.searcher(), DocAddress::new(0, position as u32))
    }

    fn document(&self, searcher: &Searcher, at: DocAddress) -> Result<Document, TantivyError> {
        if let Some(documents) = &self.documents {
            return Ok(documents[at.doc_id as usize].clone());
        }
        let Stored(mut values) = searcher.doc(at)?;
        let mut text_of = |field| {
            let place = values.iter().position(|it| it.0 == field);
            place.map_or_else(String::new, |it| values.swap_remove(it).1)
        };
        Ok(Document {
            id: text_of(self.fields.id),
            title: text_of(self.fields.title),
            text: text_of(self.fields.text),
            score: None,
        })
    }
}

/// A document of the index as it is stored, its texts read once and never copied.
struct Stored(Vec<(Field, String)>);

impl DocumentDeserialize for Stored {
    fn deserialize<'de, D: DocumentDeserializer<'de>>(
        mut deserializer: D,
    ) -> Result<Self, DeserializeError> {
        let mut values = Vec::with_capacity(deserializer.size_hint());
        while let Some(value) = deserializer.next_field()? {
            values.push(value);
        }
        Ok(Self(values))
    }
}

impl SearchEngine for Bm25Engine {
    fn name(&self) -> &str {
        "bm25"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let searcher = self.reader.searcher();
        let tools = || (self.analyser.clone(), Scores::default());
        let answer = |(analyser, scores): &mut (TextAnalyzer, Scores), it: &SearchRequest<'_>| {
            let words = words(analyser, it.query);
            self.documents(&searcher, scores, &words, it.k).map_err(|source| SearchError::Engine {
                engine: self.name().to_owned(),
                query: it.query.to_owned(),
                source: source.into(),
            })
        };
        // Each job has an array of all documents, so a few queries share one.
        requests.par_iter().with_min_len(8).map_init(tools, answer).collect()
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

/// The distinct words of a query, and how often it has each.
fn words(analyser: &mut TextAnalyzer, query: &str) -> BTreeMap<String, u32> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut words = analyser.token_stream(query);
    while words.advance() {
        match counts.get_mut(&words.token().text) {
            Some(count) => *count += 1,
            None => {
                counts.insert(words.token().text.clone(), 1);
            }
        }
    }
    counts
}

/// The part of a passage that has most of the query's words; its start where it has none of them.
fn snippet(generator: &SnippetGenerator, text: &str, chars: usize) -> String {
    let best = generator.snippet(text);
    if !best.is_empty() {
        return best.fragment().to_owned();
    }
    let end = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let start = &text[..end];
    let whole_words = if end < text.len() { start.rfind(char::is_whitespace) } else { None };
    start[..whole_words.unwrap_or(end)].to_owned()
}

impl std::fmt::Debug for Bm25Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bm25Engine").field("num_documents", &self.num_documents()).finish()
    }
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
        for fields in [Bm25Fields::default(), Bm25Fields::Separate] {
            let layout = Bm25Config { fields, ..Bm25Config::default() };
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("index");
            let created = Bm25Engine::create(&dir, &documents(), layout).unwrap();
            let opened = Bm25Engine::open(&dir).unwrap();
            let in_memory = Bm25Engine::with_config(documents(), layout).unwrap();
            for query in ["red", "fish blue", "fish fish one"] {
                assert_eq!(search(&in_memory, query, 3), search(&created, query, 3));
                assert_eq!(search(&in_memory, query, 3), search(&opened, query, 3));
            }
            assert_eq!(opened.num_documents(), 4);
            let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
            assert_eq!(left.len(), 1);
        }
    }

    /// In two documents of two words each and one of one, `oak` stands in a title, in a text, or in
    /// neither.
    #[test]
    fn titles_count_as_often_as_told() {
        let documents = || {
            vec![
                Document::new("pine", "oak beech"),
                Document::new("oak", "pine beech"),
                Document::new("elm", "lime beech"),
            ]
        };
        let score = |fields| {
            let layout = Bm25Config { fields, ..Bm25Config::default() };
            let engine = Bm25Engine::with_config(documents(), layout).unwrap();
            let found = search(&engine, "oak", 3);
            let score = |title: &str| found.iter().find(|it| it.title == title)?.score;
            (score("oak"), score("pine"))
        };
        let (title, text) = score(Bm25Fields::Together { title_weight: 1 });
        assert_eq!(title, text);
        let (title, text) = score(Bm25Fields::Together { title_weight: 2 });
        assert!(title > text && text.is_some());
        let (title, text) = score(Bm25Fields::Together { title_weight: 0 });
        assert!(title.is_none() && text.is_some());
        // Title and text are each of average length in their field, so a match is worth the same.
        let (title, text) = score(Bm25Fields::Separate);
        assert!(title == text && text.is_some());
    }

    /// Adding up impacts finds what tantivy's own search finds, twice: when they are worked out, and
    /// when they are known.
    #[test]
    fn impacts_are_those_of_the_index() {
        let world = zs_world::World::generate(2, zs_world::Split::Train);
        let engine = Bm25Engine::from_documents(world.passages()).unwrap();
        assert!(engine.impacts.is_some());
        let mut plain = Bm25Engine::from_documents(world.passages()).unwrap();
        plain.impacts = None;
        for asked in world.questions(3, 2, 40) {
            let query = format!("{0} {0} born", asked.question.text);
            let expected = search(&plain, &query, 7);
            for _ in 0..2 {
                let found = search(&engine, &query, 7);
                assert_eq!(found.len(), expected.len());
                for (a, b) in found.iter().zip(&expected) {
                    let (a, b) = (a.score.unwrap(), b.score.unwrap());
                    assert!((a - b).abs() <= 1e-5 * b, "{query}: {a} {b}");
                }
                assert_eq!(found[0].id, expected[0].id, "{query}");
            }
        }
    }

    #[test]
    fn snippets_hold_what_was_asked_for() {
        let text =
            format!("{} the red fox sleeps {}", "filler words ".repeat(30), "end ".repeat(30));
        let documents = vec![Document::new("Fox", text), Document::new("Red", "short")];
        let engine = Bm25Engine::from_documents(documents).unwrap().with_snippets(40);
        let found = search(&engine, "red foxes", 2);
        assert!(found[0].text.contains("red fox") && found[0].text.len() <= 40, "{found:?}");
        // `red` stands in the title only.
        assert_eq!(found[1].text, "short");
        let long = vec![Document::new("Red", "one two three four")];
        let engine = Bm25Engine::from_documents(long).unwrap().with_snippets(9);
        assert_eq!(search(&engine, "red", 1)[0].text, "one two");
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let layout = Bm25Config::default();
        assert!(matches!(Bm25Engine::from_documents(vec![]), Err(Bm25Error::EmptyCorpus)));
        let none = Bm25Engine::create(&dir.join("a"), &[], layout);
        assert!(matches!(none, Err(Bm25Error::EmptyCorpus)));
        assert!(!dir.join("a").exists());
        assert!(matches!(Bm25Engine::open(&dir.join("a")), Err(Bm25Error::Io { .. })));
        assert!(matches!(Bm25Engine::open(dir), Err(Bm25Error::NotAnIndex { .. })));
        std::fs::write(dir.join("file"), "x").unwrap();
        let taken = Bm25Engine::create(dir, &documents(), layout);
        assert!(matches!(taken, Err(Bm25Error::NotEmpty { .. })));
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
    }
}
