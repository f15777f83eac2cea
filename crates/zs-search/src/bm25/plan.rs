//! Plans of builds: what an index is made of.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_data::{FileError, read_json};

use super::files::{io, partial_dir};
use super::schema::Layout;
use super::{Bm25Error, Bm25Fields};
use crate::corpus_file::CorpusFile;

/// The file beside an index, and in an unfinished build, that holds the plan.
pub(super) const ABOUT: &str = "zs.json";

/// Corpus and settings of an index; only a build with the same plan resumes another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    version: u32,
    analysis: String,
    fields: Bm25Fields,
    corpus: PathBuf,
    corpus_bytes: u64,
    corpus_modified_ns: u128,
    shard_size: usize,
}

impl Plan {
    pub(super) fn new(corpus: CorpusFile, layout: Layout, shard_size: usize) -> Self {
        Self {
            version: 1,
            analysis: layout.language.analysis(),
            fields: layout.fields,
            corpus: corpus.path,
            corpus_bytes: corpus.bytes,
            corpus_modified_ns: corpus.modified_ns,
            shard_size,
        }
    }

    /// Notes the plan of a new build, or checks it against that of the build to be taken up.
    pub(super) fn keep(&self, partial: &Path) -> Result<(), Bm25Error> {
        let path = partial.join(ABOUT);
        if !path.exists() {
            return self.write(partial);
        }
        match read_json::<Self>(&path) {
            Ok(earlier) if earlier == *self => Ok(()),
            Err(error @ FileError::Io { .. }) => Err(error.into()),
            _ => Err(Bm25Error::OtherBuild { path: partial.to_owned() }),
        }
    }

    /// Tests whether a folder has the plan of an index.
    pub(super) fn is_in(dir: &Path) -> bool {
        dir.join(ABOUT).exists()
    }

    /// Tests whether a folder has this plan.
    pub(super) fn is_of(&self, dir: &Path) -> bool {
        read_json::<Self>(&dir.join(ABOUT)).is_ok_and(|it| it == *self)
    }

    /// Writes the plan into a folder.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Bm25Error> {
        let text = serde_json::to_string_pretty(self).unwrap_or_else(|it| {
            unreachable!("numbers and paths that were read from disk have a JSON form: {it}")
        });
        let path = dir.join(ABOUT);
        let unfinished = partial_dir(&path);
        fs::write(&unfinished, text).map_err(io(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(io(&path))
    }
}
