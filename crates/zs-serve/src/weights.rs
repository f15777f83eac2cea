//! Weights of the served model, which are replaced while nothing is sampled.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{
    Mutex as AsyncMutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock as AsyncRwLock,
};
use zs_model::Generator;

use crate::api_error::ApiError;
use crate::config::Admin;

/// Version of the weights that a server was started with.
const FIRST_VERSION: &str = "0";

/// Weights that requests sample with.
#[derive(Debug)]
pub(crate) struct Weights {
    current: RwLock<Current>,
    /// Read by every request that uses the weights, written while the server is paused.
    gate: Arc<AsyncRwLock<()>>,
    pause: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
    /// Turn of the request that pauses or loads; another one waits for it.
    turn: AsyncMutex<()>,
}

#[derive(Clone, Debug)]
struct Current {
    generator: Arc<dyn Generator>,
    version: String,
}

/// Mark of a request that uses the weights: they stay as they are until it is dropped.
pub(crate) type InUse = OwnedRwLockReadGuard<()>;

impl Weights {
    pub(crate) fn new(generator: Arc<dyn Generator>) -> Self {
        let current = Current { generator, version: FIRST_VERSION.to_owned() };
        Self {
            current: RwLock::new(current),
            gate: Arc::default(),
            pause: Mutex::default(),
            turn: AsyncMutex::default(),
        }
    }

    pub(crate) fn generator(&self) -> Arc<dyn Generator> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).generator)
    }

    /// Version as the admin named it.
    pub(crate) fn version(&self) -> String {
        self.current.read().unwrap_or_else(PoisonError::into_inner).version.clone()
    }

    /// Marks a request that uses the weights; fails while the server is paused.
    pub(crate) fn enter(&self) -> Result<InUse, ApiError> {
        Arc::clone(&self.gate).try_read_owned().map_err(|_| ApiError::Paused)
    }

    /// Refuses new requests and waits for those in progress.
    pub(crate) async fn pause(&self) {
        let _turn = self.turn.lock().await;
        if !self.is_paused() {
            let guard = Arc::clone(&self.gate).write_owned().await;
            *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        }
    }

    pub(crate) fn resume(&self) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn set_version(&self, version: String) {
        self.current.write().unwrap_or_else(PoisonError::into_inner).version = version;
    }

    /// Replaces the weights by those of a directory.
    pub(crate) async fn reload(&self, admin: Arc<Admin>, dir: PathBuf) -> Result<(), ApiError> {
        let _turn = self.turn.lock().await;
        if !self.is_paused() {
            let message = "the server samples; POST /pause before its weights are replaced";
            return Err(ApiError::Invalid { field: None, message: message.to_owned() });
        }
        let old = self.generator();
        let load = move || {
            let loaded = zs_core::caught(|| load(&admin, &dir, old.as_ref()));
            loaded.unwrap_or_else(|panic| Err(ApiError::Upstream(format!("loading {panic}"))))
        };
        let generator = tokio::task::spawn_blocking(load)
            .await
            .map_err(|_| ApiError::Upstream("the thread that loads has ended".to_owned()))??;
        self.current.write().unwrap_or_else(PoisonError::into_inner).generator = generator;
        Ok(())
    }
}

/// Loads a model that can take the place of another one: the same tokenizer and context, below the
/// directory of weights.
fn load(admin: &Admin, dir: &Path, old: &dyn Generator) -> Result<Arc<dyn Generator>, ApiError> {
    let invalid = |message: String| ApiError::field("weights_path", message);
    let root = admin.weights_dir.canonicalize();
    let root = root.map_err(|error| invalid(format!("the directory of weights: {error}")))?;
    // Whether a path outside exists is nobody's business.
    let found = dir.canonicalize().ok().filter(|it| it.starts_with(&root));
    let found = found.ok_or_else(|| {
        ApiError::Forbidden(format!(
            "`{}` is no directory below the server's --weights-dir",
            dir.display()
        ))
    })?;
    let new = (admin.load)(&found).map_err(|error| invalid(error.to_string()))?;
    let tokens = |it: &dyn Generator| it.tokenizer().to_json().ok();
    if tokens(new.as_ref()) != tokens(old) {
        return Err(invalid(
            "the model there has another tokenizer than the served one".to_owned(),
        ));
    }
    if new.context_length() != old.context_length() {
        return Err(invalid("the model there has another context than the served one".to_owned()));
    }
    Ok(new)
}
