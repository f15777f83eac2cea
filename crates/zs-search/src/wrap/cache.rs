//! Answers that are remembered across runs and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use zs_core::{Document, EngineScope, SearchEngine, SearchRequest, SearchResult};

use super::missing;
use crate::Ledger;

/// Address space that the database may grow into; the file is as large as what is in it.
const MAP_SIZE: usize = 1 << 37;

/// Processes and threads that may read at once.
const MAX_READERS: u32 = 1024;

/// Version of the contents of keys; a change of them needs another number.
const KEY_VERSION: u8 = 1;

/// Failure to open a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder cannot be made or found.
    #[error("{path}: cannot be used as a cache directory", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
    /// The database in it cannot be opened.
    #[error("{path}: the cache cannot be opened; remove the folder to start again", path = path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// The database's own error.
        #[source]
        source: heed::Error,
    },
    /// The database is cut short.
    #[error(
        "{path}: the cache has {found} bytes, but its pages need {expected}; remove the folder to \
         start again",
        path = path.display()
    )]
    Cut {
        /// The folder.
        path: PathBuf,
        /// Size of the file.
        found: u64,
        /// Size that its newest meta page needs.
        expected: u64,
    },
}

/// Remembers what an engine answered, in an embedded database that many processes may share.
///
/// A request is known by the engine's name, a version, its query and `k`; and, unless the engine
/// reads nothing else ([`EngineScope::Query`]), also by quality, seed, question with its golden
/// answers, and what was read before, so that a query never gets another question's documents.
/// Failures are not remembered. A cache that cannot be read or written is passed by: searches go to
/// the engine, as without it, and every such failure is counted.
///
/// The file is mapped into memory. One that is cut short is refused, but LMDB has no checksums: open
/// caches of your own only.
///
/// # References
///
/// - [LMDB](http://www.lmdb.tech/doc/), through [heed](https://docs.rs/heed): readers never wait, one
///   writer at a time, also across processes
#[derive(Debug)]
pub struct CachedEngine<E> {
    engine: E,
    version: String,
    store: Arc<Store>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Store {
    env: Env,
    answers: Database<Bytes, Bytes>,
}

/// The stores of this process: a database must not be opened twice in one.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Store>>> = Mutex::new(BTreeMap::new());

type Key = [u8; 32];

impl<E: SearchEngine> CachedEngine<E> {
    /// An engine whose answers are kept in the folder `dir`. Give another `version` when the engine
    /// answers differently than before: another model, index or template.
    ///
    /// # Errors
    ///
    /// Fails when the folder cannot be made, or holds something other than a cache.
    pub fn open(
        engine: E,
        dir: &Path,
        version: &str,
        ledger: Arc<Ledger>,
    ) -> Result<Self, CacheError> {
        Ok(Self { engine, version: version.to_owned(), store: Store::shared(dir)?, ledger })
    }

    fn key(&self, request: &SearchRequest<'_>) -> Key {
        let mut hash = Hasher(Sha256::new_with_prefix([KEY_VERSION]));
        hash.text(self.engine.name());
        hash.text(&self.version);
        hash.text(request.query);
        hash.number(request.k as u64);
        if self.engine.scope() == EngineScope::Request {
            hash.text(request.quality.word());
            hash.number(request.seed);
            hash.text(&request.question.id);
            hash.text(&request.question.text);
            hash.number(request.question.golden_answers.len() as u64);
            request.question.golden_answers.iter().for_each(|it| hash.text(it));
            hash.number(request.read.len() as u64);
            for document in request.read {
                hash.text(&document.title);
                hash.text(&document.text);
            }
        }
        hash.0.finalize().into()
    }
}

impl<E: SearchEngine> SearchEngine for CachedEngine<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn inner(&self) -> Option<&dyn SearchEngine> {
        Some(&self.engine)
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        let keys: Vec<Key> = requests.iter().map(|it| self.key(it)).collect();
        let read = self.store.read(&keys);
        let mut num_failures = u64::from(read.is_err());
        let mut known: BTreeMap<Key, SearchResult> = BTreeMap::new();
        for (key, documents) in keys.iter().zip(read.into_iter().flatten()) {
            if let Some(documents) = documents {
                known.insert(*key, Ok(documents));
            }
        }
        let num_hits = keys.iter().filter(|it| known.contains_key(*it)).count() as u64;

        // Requests with the same key ask the engine once.
        let mut asked: Vec<usize> = Vec::new();
        let mut is_asked: BTreeSet<Key> = BTreeSet::new();
        for (index, key) in keys.iter().enumerate() {
            if !known.contains_key(key) && is_asked.insert(*key) {
                asked.push(index);
            }
        }
        if !asked.is_empty() {
            let batch: Vec<SearchRequest<'_>> = asked.iter().map(|it| requests[*it]).collect();
            let results = self.engine.search_batch(&batch);
            let answered = asked.iter().map(|it| keys[*it]).zip(results);
            let answered: Vec<(Key, SearchResult)> = answered.collect();
            num_failures += u64::from(self.store.write(&answered).is_err());
            known.extend(answered);
        }
        self.ledger.record(self.name(), |usage| {
            usage.cache_lookups += requests.len() as u64;
            usage.cache_hits += num_hits;
            usage.cache_failures += num_failures;
        });
        let answer = |(key, request): (&Key, &SearchRequest<'_>)| match known.get(key) {
            Some(Ok(documents)) => Ok(documents.clone()),
            Some(Err(error)) => Err(error.repeated()),
            None => Err(missing(&self.engine, request)),
        };
        keys.iter().zip(requests).map(answer).collect()
    }
}

impl Store {
    /// The store in a folder, opened once a process.
    fn shared(dir: &Path) -> Result<Arc<Self>, CacheError> {
        let folder = |source| CacheError::Folder { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let path = dir.canonicalize().map_err(folder)?;
        let mut open = OPEN.lock();
        if let Some(store) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let store = Arc::new(Self::open(&path, dir)?);
        open.insert(path, Arc::downgrade(&store));
        Ok(store)
    }

    #[expect(unsafe_code, reason = "LMDB maps its file; nobody else may change it behind its back")]
    fn open(path: &Path, dir: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Open { path: dir.to_owned(), source };
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_SIZE).max_readers(MAX_READERS);
        // SAFETY: the file is changed through LMDB only, whose locks hold across processes, and it
        // is opened once in this one.
        let env = unsafe { options.open(path).map_err(failed)? };
        // A page behind the end of the file would end the process when it is read.
        let found = env.real_disk_size().map_err(failed)?;
        let num_pages = (env.info().last_page_number as u64).saturating_add(1);
        let expected = num_pages.saturating_mul(env.stat().page_size.into());
        if found < expected {
            return Err(CacheError::Cut { path: dir.to_owned(), found, expected });
        }
        // Readers that died without a word would keep old pages from being used again.
        env.clear_stale_readers().map_err(failed)?;
        let mut transaction = env.write_txn().map_err(failed)?;
        let answers = env.create_database(&mut transaction, None).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(Self { env, answers })
    }

    /// Reads the cached documents of some keys.
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Vec<Document>>>, heed::Error> {
        let transaction = self.env.read_txn()?;
        let read = |key: &Key| {
            let bytes = self.answers.get(&transaction, key)?;
            // An answer that cannot be read is one that is not known.
            Ok(bytes.and_then(|it| serde_json::from_slice(it).ok()))
        };
        keys.iter().map(read).collect()
    }

    fn write(&self, answers: &[(Key, SearchResult)]) -> Result<(), heed::Error> {
        let mut transaction = self.env.write_txn()?;
        for (key, result) in answers {
            let Ok(documents) = result else { continue };
            let bytes =
                serde_json::to_vec(documents).map_err(|it| heed::Error::Encoding(it.into()))?;
            self.answers.put(&mut transaction, key, &bytes)?;
        }
        transaction.commit()
    }
}

/// A hash of fields that cannot run into each other.
struct Hasher(Sha256);

impl Hasher {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use zs_core::{DocumentQuality, Question};

    use super::*;
    use crate::conformance::{check_engine, check_own_question};
    use crate::{FaultyEngine, FixedEngine};

    /// Says who asked, for what, and how often it was asked before.
    #[derive(Debug)]
    struct Counting(AtomicUsize, EngineScope);

    impl Counting {
        fn new(scope: EngineScope) -> Self {
            Self(AtomicUsize::new(0), scope)
        }
    }

    impl SearchEngine for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
            let answer = |it: &SearchRequest<'_>| {
                let count = self.0.fetch_add(1, Ordering::SeqCst);
                let answer = it.question.golden_answers.first().cloned().unwrap_or_default();
                Ok(vec![Document::new("", format!("{count} {answer}"))])
            };
            requests.iter().map(answer).collect()
        }

        fn scope(&self) -> EngineScope {
            self.1
        }
    }

    #[test]
    fn answers_are_remembered_by_what_the_engine_reads() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::default());
        let open = |scope, version| {
            CachedEngine::open(Counting::new(scope), folder.path(), version, Arc::clone(&ledger))
                .unwrap()
        };
        let (first, second) = (Question::new("a", "?", ["a"]), Question::new("b", "?", ["b"]));
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "q", question: &first, quality, read: &[], k: 3, seed: 1 };
        let read = [Document::new("", "read")];
        let others = [
            SearchRequest { question: &second, ..request },
            SearchRequest { quality: DocumentQuality::Noisy, ..request },
            SearchRequest { seed: 2, ..request },
            SearchRequest { read: &read, ..request },
        ];
        let always = [SearchRequest { query: "r", ..request }, SearchRequest { k: 4, ..request }];
        let engine = open(EngineScope::Request, "1");
        let all: Vec<SearchRequest<'_>> =
            std::iter::once(request).chain(others).chain(always).collect();
        let answers: Vec<_> = engine.search_batch(&all).into_iter().map(Result::unwrap).collect();
        let texts: Vec<&str> = answers.iter().map(|it| it[0].text.as_str()).collect();
        assert_eq!(texts, ["0 a", "1 b", "2 a", "3 a", "4 a", "5 a", "6 a"]);
        // Another engine over the same folder, as in another run.
        drop(engine);
        let engine = open(EngineScope::Request, "1");
        // What stands twice in a batch is asked for once.
        let twice = SearchRequest { query: "twice", ..request };
        let doubled = engine.search_batch(&[twice, twice]);
        assert_eq!(doubled[0].as_ref().unwrap(), doubled[1].as_ref().unwrap());
        let again: Vec<_> = engine.search_batch(&all).into_iter().map(Result::unwrap).collect();
        assert_eq!(again, answers);
        let usage = ledger.totals()[0].usage;
        assert_eq!((usage.cache_lookups, usage.cache_hits, usage.cache_failures), (16, 7, 0));
        assert_eq!(open(EngineScope::Request, "2").search(request).unwrap()[0].text, "0 a");

        let engine = open(EngineScope::Query, "3");
        let texts: Vec<String> = std::iter::once(request)
            .chain(others)
            .map(|it| engine.search(it).unwrap().remove(0).text)
            .collect();
        assert_eq!(texts, ["0 a"; 5]);
        assert_eq!(engine.search(always[0]).unwrap()[0].text, "1 a");
    }

    #[test]
    fn failures_are_not_remembered_and_the_contract_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let fixed = || FixedEngine::new(vec![Document::new("a", "b"), Document::new("c", "d")]);
        let open = |engine| CachedEngine::open(engine, folder.path(), "", Arc::default()).unwrap();
        let engine = open(FaultyEngine::new(fixed(), |request| request.seed % 3 == 1));
        check_engine(&engine);
        check_engine(&engine);
        check_own_question(&engine);
        let question = Question::new("a", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "q", question: &question, quality, read: &[], k: 2, seed: 1 };
        assert!(engine.search(request).is_err());
        let healed = open(FaultyEngine::new(fixed(), |_| false));
        assert!(healed.search(request).is_ok());
    }

    #[test]
    fn folders_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = CachedEngine::open(FixedEngine::default(), &file, "", Arc::default());
        assert!(matches!(error.unwrap_err(), CacheError::Folder { .. }));
        std::fs::write(folder.path().join("data.mdb"), "not a database".repeat(1000)).unwrap();
        let error = CachedEngine::open(FixedEngine::default(), folder.path(), "", Arc::default());
        assert!(matches!(error.unwrap_err(), CacheError::Open { .. }));
    }

    #[test]
    fn a_cache_that_is_cut_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let engine = FixedEngine::new(vec![Document::new("a", "b".repeat(100_000))]);
            CachedEngine::open(engine, folder.path(), "", Arc::default())
        };
        let question = Question::new("a", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        for query in ["q", "r", "s"] {
            let request =
                SearchRequest { query, question: &question, quality, read: &[], k: 2, seed: 1 };
            open().unwrap().search(request).unwrap();
        }
        let path = folder.path().join("data.mdb");
        let bytes = std::fs::read(&path).unwrap();
        for length in [bytes.len() - 4096, bytes.len() / 2, 3 * 4096, 8192] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = open().unwrap_err();
            assert!(matches!(error, CacheError::Cut { .. }), "{length}: {error}");
        }
        for length in [100, 4096] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(open().is_err(), "{length}");
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(open().is_ok());
    }
}
