//! Indexes on disk: built in shards, so that an interrupted build resumes where it stopped, and
//! opened memory-mapped.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use parking_lot::Mutex;
use tantivy::directory::MmapDirectory;
use tantivy::{Index, TantivyError};
use zs_core::Document;
use zs_data::{Note, open_regular};

use super::analysis::analyser;
use super::corpus::Corpus;
use super::digests::{check_digests, write_digests};
use super::files::{clear, io, move_into_place, partial_dir, refuse_taken};
use super::plan::Plan;
use super::read_only::ReadOnlyDirectory;
use super::schema::{Fields, Layout, build_segment};
use super::{Bm25Config, Bm25Engine, Bm25Error, Bm25Language, ScriptCounts};
use crate::corpus_file::CorpusFile;

/// The folder of the merged index inside the folder of a build.
const MERGED: &str = "merged";
/// The file that a running build holds a lock on.
const LOCK: &str = "lock";

/// Building an index on disk from a corpus file.
///
/// The corpus is read once, as a stream, and cut into shards that are indexed side by side; at the
/// end they are merged into one segment, whose documents stand in the order of the corpus. Until
/// then everything lies in `OUT.partial` beside the index. A build that was interrupted is taken up
/// by building again: finished shards are kept, if corpus and settings are the same.
///
/// ```
/// use zs_search::{Bm25Engine, IndexBuild};
///
/// let folder = tempfile::tempdir()?;
/// let corpus = folder.path().join("corpus.jsonl");
/// std::fs::write(&corpus, "{\"title\": \"Bamboo\", \"text\": \"A grass.\"}\n")?;
/// let index = folder.path().join("index");
/// let summary = IndexBuild::new(&corpus, &index).run(&mut |_| {})?;
/// assert_eq!(summary.num_documents, 1);
/// assert_eq!(Bm25Engine::open(&index)?.num_documents(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct IndexBuild {
    corpus: PathBuf,
    out: PathBuf,
    config: Bm25Config,
    shard_size: usize,
}

/// Progress of a build.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuildProgress {
    /// Documents read so far.
    pub num_documents: u64,
    /// The part of the corpus that has been read, in [0, 1].
    pub fraction: f64,
    /// True while the shards are merged: everything has been read and indexed.
    pub is_merging: bool,
}

/// Result of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSummary {
    /// Documents in the index.
    pub num_documents: u64,
    /// Of those, how many an earlier, interrupted build had indexed already.
    pub num_resumed: u64,
    /// Decisions of the reader of the corpus.
    pub notes: Vec<Note>,
    /// Scripts of the documents.
    pub scripts: ScriptCounts,
    /// Language of the index.
    pub language: Bm25Language,
}

/// A shard's number and its documents.
type Shard = (usize, Vec<Document>);

impl IndexBuild {
    /// A build of the index `out` from the corpus file `corpus`, in any form that
    /// [`read_documents`](zs_data::read_documents) knows.
    #[must_use]
    pub fn new(corpus: &Path, out: &Path) -> Self {
        Self {
            corpus: corpus.to_owned(),
            out: out.to_owned(),
            config: Bm25Config::default(),
            shard_size: 1 << 16,
        }
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_config(mut self, config: Bm25Config) -> Self {
        self.config = config;
        self
    }

    /// The same with another number of documents a shard: what is lost when a build is interrupted,
    /// and, times the number of cores, what is in memory at once. The index is the same.
    #[must_use]
    pub fn with_shard_size(mut self, documents: usize) -> Self {
        self.shard_size = documents.max(1);
        self
    }

    /// Builds the index, or resumes an interrupted build; `progress` is called for every document.
    /// An index that the same build has finished is left as it is.
    ///
    /// # Errors
    ///
    /// Fails when the corpus has a malformed row or none, `out` holds something else, another
    /// build is under way, what an interrupted build left belongs to another corpus, or a file
    /// cannot be written.
    pub fn run(&self, progress: &mut dyn FnMut(BuildProgress)) -> Result<IndexSummary, Bm25Error> {
        let partial = partial_dir(&self.out);
        if let Err(taken) = refuse_taken(&self.out) {
            return self.finished(&partial)?.ok_or(taken);
        }
        let file = self.corpus_file()?;
        fs::create_dir_all(&partial).map_err(io(&partial))?;
        let lock = File::create(partial.join(LOCK)).map_err(io(&partial))?;
        if lock.try_lock().is_err() {
            return Err(Bm25Error::Busy { path: partial });
        }
        let corpus = Corpus::open(&self.corpus, self.config.language)?;
        let layout = Layout { fields: self.config.fields, language: corpus.language };
        let plan = Plan::new(file, layout, self.shard_size);
        plan.keep(&partial)?;
        let summary = self.build_shards(corpus, layout, &partial, progress)?;
        if summary.num_documents == 0 {
            fs::remove_dir_all(&partial).map_err(io(&partial))?;
            return Err(Bm25Error::EmptyCorpus);
        }
        progress(BuildProgress {
            num_documents: summary.num_documents,
            fraction: 1.0,
            is_merging: true,
        });
        let merged = self.merge(&partial, summary.num_documents)?;
        plan.write(&merged)?;
        write_digests(&merged)?;
        move_into_place(&merged, &self.out)?;
        drop(lock);
        fs::remove_dir_all(&partial).map_err(io(&partial))?;
        Ok(summary)
    }

    fn corpus_file(&self) -> Result<CorpusFile, Bm25Error> {
        CorpusFile::of(&self.corpus).map_err(|(path, source)| Bm25Error::Io { path, source })
    }

    /// Summary of the index that is there, where this build has made it and the process may have been
    /// killed after that; what is left of the build goes.
    fn finished(&self, partial: &Path) -> Result<Option<IndexSummary>, Bm25Error> {
        if !Plan::is_in(&self.out) {
            return Ok(None);
        }
        let language = Corpus::open(&self.corpus, self.config.language)?.language;
        let layout = Layout { fields: self.config.fields, language };
        let file = self.corpus_file()?;
        if !Plan::new(file, layout, self.shard_size).is_of(&self.out) {
            return Ok(None);
        }
        let num_documents = Bm25Engine::open(&self.out)?.num_documents() as u64;
        if partial.exists() {
            fs::remove_dir_all(partial).map_err(io(partial))?;
        }
        let (notes, scripts) = (Vec::new(), ScriptCounts::default());
        let num_resumed = num_documents;
        Ok(Some(IndexSummary { num_documents, num_resumed, notes, scripts, language }))
    }

    /// Reads the corpus on this thread and indexes its shards on others.
    fn build_shards(
        &self,
        mut corpus: Corpus,
        layout: Layout,
        partial: &Path,
        progress: &mut dyn FnMut(BuildProgress),
    ) -> Result<IndexSummary, Bm25Error> {
        let num_workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (sender, receiver) = sync_channel::<Shard>(1);
        let receiver = Mutex::new(receiver);
        let failure: Mutex<Option<Bm25Error>> = Mutex::new(None);
        let (mut num_documents, mut num_resumed) = (0, 0);
        let mut scripts = ScriptCounts::default();
        let read = std::thread::scope(|scope| {
            for _ in 0..num_workers {
                scope.spawn(|| index_shards(partial, layout, &receiver, &failure));
            }
            let mut shard: Shard = (0, Vec::new());
            let mut send = |shard: &mut Shard| {
                let (number, documents) = std::mem::replace(shard, (shard.0 + 1, Vec::new()));
                if shard_dir(partial, number).is_dir() {
                    num_resumed += documents.len() as u64;
                    return ControlFlow::Continue(());
                }
                if has_failed(&failure) || sender.send((number, documents)).is_err() {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            let mut read = Ok(());
            while let Some((document, row)) = corpus.next() {
                let document = match document {
                    Ok(document) => document,
                    Err(error) => {
                        read = Err(error);
                        break;
                    }
                };
                scripts.add(&document.text, row);
                shard.1.push(document);
                num_documents += 1;
                let fraction = corpus.documents.fraction();
                progress(BuildProgress { num_documents, fraction, is_merging: false });
                if shard.1.len() == self.shard_size && send(&mut shard).is_break() {
                    break;
                }
            }
            if read.is_ok() && !shard.1.is_empty() {
                // A failure here is found in `failure`, as any of a worker.
                let _ = send(&mut shard);
            }
            drop(sender);
            read
        });
        if let Some(error) = failure.into_inner() {
            return Err(error);
        }
        read?;
        let notes = corpus.documents.notes();
        let language = layout.language;
        Ok(IndexSummary { num_documents, num_resumed, notes, scripts, language })
    }

    /// One segment of all shards, in order; a single shard is taken as it is.
    fn merge(&self, partial: &Path, num_documents: u64) -> Result<PathBuf, Bm25Error> {
        let num_shards = num_documents.div_ceil(self.shard_size as u64) as usize;
        if num_shards == 1 {
            return Ok(shard_dir(partial, 0));
        }
        let merged = partial.join(MERGED);
        clear(&merged)?;
        let failed = index_error(&merged);
        let mut shards = Vec::with_capacity(num_shards);
        for number in 0..num_shards {
            shards.push(Index::open_in_dir(shard_dir(partial, number)).map_err(&failed)?);
        }
        let files = MmapDirectory::open(&merged).map_err(|it| failed(it.into()))?;
        tantivy::indexer::merge_indices(&shards, files).map_err(&failed)?;
        Ok(merged)
    }
}

impl Bm25Engine {
    /// Indexes documents in a new folder and opens it.
    ///
    /// The index is built beside the folder and renamed, so that what is interrupted leaves no half
    /// of an index. For a corpus that does not fit in memory, there is [`IndexBuild`].
    ///
    /// # Errors
    ///
    /// Fails when there are no documents, the folder exists and is not empty, or a file cannot be
    /// written.
    pub fn create(
        dir: &Path,
        documents: &[Document],
        config: Bm25Config,
    ) -> Result<Self, Bm25Error> {
        refuse_taken(dir)?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(io(parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".index-")
            .suffix(".partial")
            .tempdir_in(parent)
            .map_err(io(parent))?;
        let failed = index_error(dir);
        let files = MmapDirectory::open(temporary.path()).map_err(|it| failed(it.into()))?;
        let layout = Layout::of(config, documents);
        drop(build_segment(files, documents, layout, true, &failed)?);
        write_digests(temporary.path())?;
        move_into_place(temporary.path(), dir)?;
        // The folder has moved; there is nothing left to clean up.
        drop(temporary.keep());
        Self::open(dir)
    }

    /// Opens an index that [`IndexBuild`] or [`create`](Self::create) made. Its files are mapped
    /// into memory and read as they are needed; before, each is read once, and compared with its
    /// checksum.
    ///
    /// # Errors
    ///
    /// Fails when the folder is missing or holds no index of this program, and when a file is damaged.
    pub fn open(dir: &Path) -> Result<Self, Bm25Error> {
        // What is no regular file is refused before the index opens it.
        for entry in fs::read_dir(dir).map_err(io(dir))? {
            let path = entry.map_err(io(dir))?.path();
            if !path.is_dir() {
                open_regular(&path).map_err(io(&path))?;
            }
        }
        let not_an_index = |it: TantivyError| Bm25Error::NotAnIndex {
            path: dir.to_owned(),
            message: it.to_string(),
        };
        check_digests(dir)?;
        let files = ReadOnlyDirectory::open(dir).map_err(|it| not_an_index(it.into()))?;
        let index = Index::open(files).map_err(not_an_index)?;
        if let Some(file) = index.validate_checksum().map_err(not_an_index)?.into_iter().min() {
            return Err(Bm25Error::Damaged { path: dir.join(file) });
        }
        let fields = Fields::of(&index.schema()).map_err(not_an_index)?;
        let Some(language) = Fields::language(&index.schema()) else {
            let message = "its fields are analysed in another way".to_owned();
            return Err(Bm25Error::NotAnIndex { path: dir.to_owned(), message });
        };
        index.tokenizers().register(&language.analysis(), analyser(language));
        Self::over(&index, fields, language, None).map_err(not_an_index)
    }
}

/// Indexes shards on one worker until there are no more, or one has failed.
fn index_shards(
    partial: &Path,
    layout: Layout,
    receiver: &Mutex<Receiver<Shard>>,
    failure: &Mutex<Option<Bm25Error>>,
) {
    loop {
        let next = receiver.lock().recv();
        let Ok((number, documents)) = next else { return };
        // After a failure, shards are taken and dropped, so that the reader is never stuck.
        if has_failed(failure) {
            continue;
        }
        if let Err(error) = index_shard(&shard_dir(partial, number), layout, &documents) {
            failure.lock().get_or_insert(error);
        }
    }
}

fn index_shard(dir: &Path, layout: Layout, documents: &[Document]) -> Result<(), Bm25Error> {
    let unfinished = partial_dir(dir);
    clear(&unfinished)?;
    let failed = index_error(&unfinished);
    let files = MmapDirectory::open(&unfinished).map_err(|it| failed(it.into()))?;
    drop(build_segment(files, documents, layout, true, &failed)?);
    fs::rename(&unfinished, dir).map_err(io(dir))
}

fn has_failed(failure: &Mutex<Option<Bm25Error>>) -> bool {
    failure.lock().is_some()
}

fn index_error(dir: &Path) -> impl Fn(TantivyError) -> Bm25Error + use<> {
    let place = dir.display().to_string();
    move |source| Bm25Error::Index { place: place.clone(), source }
}

fn shard_dir(partial: &Path, number: usize) -> PathBuf {
    partial.join(format!("shard-{number:06}"))
}

#[cfg(test)]
mod tests {
    use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest};

    use super::super::Bm25Fields;
    use super::super::plan::ABOUT;
    use super::*;

    const WORDS: [&str; 5] = ["red", "fish", "blue", "tree", "stone"];

    /// A corpus of `count` rows, of which row `bad`, if any, is malformed.
    fn corpus(folder: &Path, count: usize, bad: Option<usize>) -> PathBuf {
        let rows = (0..count).map(|row| {
            let (a, b) = (WORDS[row % 5], WORDS[row / 5 % 5]);
            match bad {
                Some(bad) if bad == row => "{\"title\": \"no text\"}\n".to_owned(),
                _ => {
                    format!("{{\"id\": {row}, \"title\": \"{a}\", \"text\": \"{a} {b} {row}\"}}\n")
                }
            }
        });
        let path = folder.join("corpus.jsonl");
        fs::write(&path, rows.collect::<String>()).unwrap();
        path
    }

    fn ids(engine: &Bm25Engine, query: &str) -> Vec<String> {
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query, question: &question, quality, read: &[], k: 7, seed: 0 };
        engine.search(request).unwrap().into_iter().map(|it| it.id).collect()
    }

    #[test]
    fn opening_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = corpus(folder.path(), 9, None);
        let out = folder.path().join("index");
        IndexBuild::new(&corpus, &out).run(&mut |_| {}).unwrap();
        let names = || {
            let names = fs::read_dir(&out).unwrap().map(|it| it.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let (before, long_ago) = (names(), std::time::SystemTime::UNIX_EPOCH);
        File::open(&out).unwrap().set_modified(long_ago).unwrap();
        let engine = Bm25Engine::open(&out).unwrap();
        assert!(!ids(&engine, "red").is_empty());
        drop(engine);
        assert_eq!(names(), before);
        // Files that come and go change the folder's time.
        assert_eq!(fs::metadata(&out).unwrap().modified().unwrap(), long_ago);
    }

    #[test]
    fn shards_add_up_to_the_same_index() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = corpus(folder.path(), 23, None);
        let documents = zs_data::read_documents(&corpus).unwrap();
        let expected = Bm25Engine::from_documents(documents).unwrap();
        for shard_size in [1, 4, 23, 100] {
            let out = folder.path().join(format!("index-{shard_size}"));
            let build = IndexBuild::new(&corpus, &out).with_shard_size(shard_size);
            let mut last = None;
            let summary = build.run(&mut |it| last = Some(it)).unwrap();
            assert_eq!((summary.num_documents, summary.num_resumed), (23, 0));
            assert!(last.is_some_and(|it| it.is_merging && it.num_documents == 23));
            let engine = Bm25Engine::open(&out).unwrap();
            assert_eq!(engine.num_documents(), 23);
            for query in WORDS {
                assert_eq!(ids(&engine, query), ids(&expected, query), "{query}, {shard_size}");
            }
            assert!(!partial_dir(&out).exists());
            // As a process leaves it that is killed once the index is in its place.
            fs::create_dir_all(partial_dir(&out).join("shard-000000")).unwrap();
            let again = build.run(&mut |_| {}).unwrap();
            assert_eq!((again.num_documents, again.num_resumed), (23, 23));
            assert!(!partial_dir(&out).exists());
            let other = build.clone().with_shard_size(shard_size + 1);
            assert!(matches!(other.run(&mut |_| {}), Err(Bm25Error::NotEmpty { .. })));
        }
    }

    #[test]
    fn an_interrupted_build_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = corpus(folder.path(), 23, None);
        let out = folder.path().join("index");
        let build = IndexBuild::new(&path, &out).with_shard_size(5);
        let partial = partial_dir(&out);
        // As an interruption leaves it: two shards done, a third half written.
        let documents = zs_data::read_documents(&path).unwrap();
        fs::create_dir_all(partial_dir(&shard_dir(&partial, 2))).unwrap();
        fs::write(partial_dir(&shard_dir(&partial, 2)).join("junk"), "x").unwrap();
        let language = Bm25Language::English;
        let layout = Layout { fields: Bm25Fields::default(), language };
        let plan = Plan::new(CorpusFile::of(&path).unwrap(), layout, 5);
        plan.keep(&partial).unwrap();
        for number in 0..2 {
            let rows = &documents[5 * number..5 * (number + 1)];
            index_shard(&shard_dir(&partial, number), layout, rows).unwrap();
        }
        let fields = Bm25Fields::Separate;
        for other in [
            Bm25Config { fields, ..Bm25Config::default() },
            Bm25Config { language: Some(Bm25Language::French), ..Bm25Config::default() },
        ] {
            let other = build.clone().with_config(other);
            assert!(matches!(other.run(&mut |_| {}), Err(Bm25Error::OtherBuild { .. })));
        }
        let held = File::create(partial.join(LOCK)).unwrap();
        held.lock().unwrap();
        assert!(matches!(build.run(&mut |_| {}), Err(Bm25Error::Busy { .. })));
        drop(held);
        let summary = build.run(&mut |_| {}).unwrap();
        assert_eq!((summary.num_documents, summary.num_resumed), (23, 10));
        let expected = Bm25Engine::from_documents(documents).unwrap();
        assert_eq!(ids(&Bm25Engine::open(&out).unwrap(), "fish"), ids(&expected, "fish"));
    }

    #[test]
    fn a_bad_row_stops_the_build_and_keeps_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        let path = corpus(folder.path(), 23, Some(17));
        let out = folder.path().join("index");
        let build = IndexBuild::new(&path, &out).with_shard_size(5);
        let error = build.run(&mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("row 18"), "{error}");
        assert!(!out.exists() && shard_dir(&partial_dir(&out), 0).is_dir());
        let missing = IndexBuild::new(&folder.path().join("none.jsonl"), &out).run(&mut |_| {});
        assert!(matches!(missing, Err(Bm25Error::Io { .. })));
    }

    /// The language of an index is that of its corpus or the setting, and holds for queries.
    #[test]
    fn an_index_knows_its_language() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus.jsonl");
        let texts = ["北京是首都", "竹子的茎是空心的", "Les élections de 1848"];
        let row = |text: &str| format!("{{\"id\": \"{text}\", \"text\": \"{text}\"}}\n");
        fs::write(&corpus, texts.map(row).concat()).unwrap();
        let check = |language, expected: Bm25Language, query: &str, found: &[&str]| {
            let out = folder.path().join(format!("{language:?}"));
            let config = Bm25Config { language, ..Bm25Config::default() };
            let build = IndexBuild::new(&corpus, &out).with_config(config).with_shard_size(1);
            assert_eq!(build.run(&mut |_| {}).unwrap().language, expected);
            let engine = Bm25Engine::open(&out).unwrap().in_language(Some(expected)).unwrap();
            assert_eq!(ids(&engine, query), found, "{query} in {expected}");
            let in_memory =
                Bm25Engine::with_config(zs_data::read_documents(&corpus).unwrap(), config);
            assert_eq!(ids(&in_memory.unwrap(), query), found, "{query} in {expected}");
            engine.in_language(Some(Bm25Language::Turkish)).unwrap_err().to_string()
        };
        let multilingual = Bm25Language::Multilingual;
        check(None, multilingual, "首都在哪里", &[texts[0]]);
        check(Some(Bm25Language::French), Bm25Language::French, "election", &[texts[2]]);
        let error = check(Some(Bm25Language::English), Bm25Language::English, "首都在哪里", &[]);
        assert!(error.contains("in the language `english`, not `turkish`"), "{error}");
        // An analysis of another version.
        let out = folder.path().join("None");
        let meta = fs::read_to_string(out.join("meta.json")).unwrap();
        fs::write(out.join("meta.json"), meta.replace("zs_multilingual_1", "zs_klingon_1"))
            .unwrap();
        fs::remove_file(out.join("digests.json")).unwrap();
        let error = Bm25Engine::open(&out).unwrap_err().to_string();
        assert!(error.contains("analysed in another way") && error.contains("build it"), "{error}");
    }

    /// Flips one bit of each file at many places: an index that opens answers as before.
    #[test]
    fn damage_is_found_at_opening() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = corpus(folder.path(), 23, None);
        let out = folder.path().join("index");
        IndexBuild::new(&corpus, &out).run(&mut |_| {}).unwrap();
        let expected = ids(&Bm25Engine::open(&out).unwrap(), "fish");
        for file in fs::read_dir(&out).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let is_lock = path.extension().is_some_and(|it| it == "lock");
            let step = (bytes.len() / 40).max(1);
            for at in (0..bytes.len()).step_by(step) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                fs::write(&path, damaged).unwrap();
                match Bm25Engine::open(&out) {
                    Ok(engine) => assert_eq!(ids(&engine, "fish"), expected, "{}", path.display()),
                    Err(error) => assert!(!is_lock, "{error}"),
                }
            }
            if bytes.len() > 1 {
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(Bm25Engine::open(&out).is_err() || name == ABOUT || is_lock, "{name}");
            }
            fs::write(&path, bytes).unwrap();
        }
        assert_eq!(ids(&Bm25Engine::open(&out).unwrap(), "fish"), expected);
    }
}
