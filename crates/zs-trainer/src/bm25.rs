//! BM25 as run files choose it: over a corpus, an index or an embedded world.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::SearchEngine;
use zs_core::registry::{BoxedError, Settings, SettingsError};
use zs_search::{Bm25Engine, Bm25Language, EngineContext, EngineSettings};

use crate::world::{WorldSource, generate_world};

/// Settings of `bm25`: exactly one of a corpus, an index and a world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bm25Settings {
    /// Corpus, indexed in memory.
    #[serde(default)]
    pub corpus: Option<PathBuf>,
    /// Index on disk.
    #[serde(default)]
    pub index: Option<PathBuf>,
    /// World whose passages are searched.
    #[serde(default)]
    pub world: Option<WorldSource>,
    /// Language of a corpus, else by its scripts; an index must have been built in it.
    #[serde(default)]
    pub language: Option<Bm25Language>,
}

impl Settings for Bm25Settings {
    const KIND: &'static str = "bm25";

    fn check(&self) -> Result<(), SettingsError> {
        let given = [self.corpus.is_some(), self.index.is_some(), self.world.is_some()];
        match given.iter().filter(|it| **it).count() {
            1 if self.world.is_some() && self.language.is_some() => {
                Err(SettingsError::out_of_range("language", "not be given with `world`"))
            }
            1 => Ok(()),
            count => {
                let must =
                    format!("be the only one of `corpus`, `index` and `world`: {count} are given");
                Err(SettingsError::out_of_range("corpus", must))
            }
        }
    }

    fn inputs(&self) -> Vec<PathBuf> {
        // An index is known by the list of its segments.
        let index = self.index.as_ref().map(|it| it.join("meta.json"));
        self.corpus.iter().cloned().chain(index).collect()
    }
}

impl EngineSettings for Bm25Settings {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        Ok(match (&self.corpus, &self.index, self.world) {
            (Some(path), ..) => {
                let note = |line| context.note(line);
                Arc::new(Bm25Engine::from_corpus(path, self.language, note)?)
            }
            (_, Some(dir), _) => Arc::new(Bm25Engine::open(dir)?.in_language(self.language)?),
            (.., Some(world)) => Arc::clone(generate_world(world).engine()) as _,
            (None, None, None) => {
                return Err("none of `corpus`, `index` and `world` is given".into());
            }
        })
    }
}
