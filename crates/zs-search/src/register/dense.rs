//! The engine `dense` by name, and the service that loads its model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zs_core::registry::{BoxedError, Settings};
use zs_core::{Embedder, SearchEngine};

use super::{EngineContext, EngineSettings};
use crate::dense::MANIFEST;
use crate::{DenseEngine, VECTORS_DIR};

/// Loader of embedders, a service of [`EngineContext`]: it knows the device and the models.
pub struct EmbedderLoader(Box<Load>);

type Load = dyn Fn(&Path) -> Result<Arc<dyn Embedder>, BoxedError> + Send + Sync;

impl EmbedderLoader {
    /// Creates a loader of model directories.
    #[must_use]
    pub fn new(
        load: impl Fn(&Path) -> Result<Arc<dyn Embedder>, BoxedError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(load))
    }
}

impl fmt::Debug for EmbedderLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedderLoader").finish_non_exhaustive()
    }
}

/// Settings of `dense`: an index with vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseSettings {
    /// Index that was built with `--dense`.
    pub index: PathBuf,
    /// Model of the queries, where it is no longer where it embedded the passages.
    #[serde(default)]
    pub model: Option<PathBuf>,
}

impl Settings for DenseSettings {
    const KIND: &'static str = "dense";

    fn inputs(&self) -> Vec<PathBuf> {
        // An index is known by the lists of its segments and of its vectors.
        let lists = [self.index.join("meta.json"), self.index.join(VECTORS_DIR).join(MANIFEST)];
        lists.into_iter().chain(self.model.clone()).collect()
    }
}

impl EngineSettings for DenseSettings {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        let Some(EmbedderLoader(load)) = context.service() else {
            return Err("nothing loads models here: the context has no `EmbedderLoader`".into());
        };
        let model = self.model.map_or_else(|| DenseEngine::model_of(&self.index), Ok)?;
        Ok(Arc::new(DenseEngine::open(&self.index, load(&model)?)?))
    }
}
