//! Engines that ask a model, by name: typed settings, and the services that they take from the
//! context of a run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use garde::Validate;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use zs_core::SearchEngine;
use zs_core::registry::{BoxedError, RegistryError, Settings, SettingsError};
use zs_model::{ComputeDtype, Generator, SamplingModel};
use zs_search::{EngineContext, EngineRegistry, EngineSettings, register_engine};

use crate::{SelfSearchEngine, SimulatedConfig, SimulatedEngine, TemplatesConfig};

/// Loader of simulation LLMs, a service of [`EngineContext`]: it knows the device.
pub struct ModelLoader(Box<Load>);

type Load = dyn Fn(&Path, ComputeDtype) -> Result<SamplingModel, BoxedError> + Send + Sync;

impl ModelLoader {
    /// Creates a loader of model directories.
    #[must_use]
    pub fn new(
        load: impl Fn(&Path, ComputeDtype) -> Result<SamplingModel, BoxedError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(load))
    }
}

impl fmt::Debug for ModelLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelLoader").finish_non_exhaustive()
    }
}

/// Policy that self-search asks, a service of [`EngineContext`].
#[derive(Debug)]
pub struct SearchedPolicy {
    policy: Mutex<Arc<dyn Generator>>,
    engines: Mutex<Vec<Arc<SelfSearchEngine>>>,
}

impl SearchedPolicy {
    /// Creates the service of a policy that no engine asks yet.
    #[must_use]
    pub fn new(policy: Arc<dyn Generator>) -> Self {
        Self { policy: Mutex::new(policy), engines: Mutex::default() }
    }

    /// Replaces the policy that engines sample after an update.
    pub fn follow(&self, policy: &Arc<dyn Generator>) {
        *self.policy.lock() = Arc::clone(policy);
        for engine in self.engines.lock().iter() {
            engine.set_policy(Arc::clone(policy));
        }
    }

    /// Returns `true` where an engine asks the policy.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.engines.lock().is_empty()
    }
}

/// Settings of `simulated`: a simulation LLM in this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct SimulatedSettings {
    /// Model directory.
    pub model: PathBuf,
    /// Prompts; by default those that the tokenizer suggests.
    #[serde(default)]
    pub templates: TemplatesConfig,
    /// Sampling.
    #[serde(default)]
    #[garde(dive)]
    pub sampling: SimulatedConfig,
    /// Data type of its matrix products and of its weights in memory.
    #[serde(default, skip_serializing_if = "ComputeDtype::is_f32")]
    pub compute_dtype: ComputeDtype,
}

impl Settings for SimulatedSettings {
    const KIND: &'static str = "simulated";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.model.clone()]
    }
}

impl EngineSettings for SimulatedSettings {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        let Some(ModelLoader(load)) = context.service() else {
            return Err("nothing loads models here: the context has no `ModelLoader`".into());
        };
        // Beside the policy, where they share a device.
        let model = zs_model::on_secondary_stream(|| load(&self.model, self.compute_dtype))?;
        let templates = self.templates.resolve(Some(model.tokenizer()))?;
        let engine = SimulatedEngine::new(Arc::new(model), templates, self.sampling);
        Ok(Arc::new(engine.with_ledger(Arc::clone(context.ledger()))))
    }
}

/// Settings of `self_search`: the policy itself writes the documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct SelfSearchSettings {
    /// Prompt, as a template with `query`, `k` and `words`.
    #[serde(default)]
    pub template: Option<String>,
    /// Sampling.
    #[serde(default)]
    #[garde(dive)]
    pub sampling: SimulatedConfig,
}

impl Settings for SelfSearchSettings {
    const KIND: &'static str = "self_search";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

impl EngineSettings for SelfSearchSettings {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        let Some(service) = context.service::<SearchedPolicy>() else {
            return Err("the engine asks the policy, and there is none here".into());
        };
        let templates = match &self.template {
            Some(text) => SelfSearchEngine::templates(text)?,
            None => SelfSearchEngine::default_templates(),
        };
        let policy = Arc::clone(&service.policy.lock());
        let engine = SelfSearchEngine::new(policy, templates, self.sampling);
        let engine = Arc::new(engine.with_ledger(Arc::clone(context.ledger())));
        service.engines.lock().push(Arc::clone(&engine));
        Ok(engine)
    }
}

/// Settings of `remote`: a simulation LLM on servers.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct RemoteSettings {
    /// Servers and sampling.
    #[garde(dive)]
    pub servers: crate::RemoteConfig,
    /// Prompts; those of `ZeroSearch` by default.
    #[serde(default)]
    pub templates: TemplatesConfig,
}

#[cfg(feature = "http")]
impl Settings for RemoteSettings {
    const KIND: &'static str = "remote";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }
}

#[cfg(feature = "http")]
impl EngineSettings for RemoteSettings {
    fn open(self, context: &EngineContext) -> Result<Arc<dyn SearchEngine>, BoxedError> {
        let (templates, ledger) = (self.templates.resolve(None)?, Arc::clone(context.ledger()));
        Ok(Arc::new(crate::RemoteEngine::new(self.servers, templates, ledger)?))
    }
}

/// Registers the engines of this crate: `simulated`, `self_search` and, with the feature `http`,
/// `remote`.
///
/// ```
/// use zs_core::registry::{Registry, Spec};
///
/// let mut registry = Registry::new("search engine");
/// zs_simulator::register_engines(&mut registry)?;
/// let spec = Spec::named("simulated").with("model", "simulator");
/// assert_eq!(registry.inputs(&spec)?, [std::path::Path::new("simulator")]);
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
///
/// # Errors
///
/// Fails when a name is taken.
pub fn register_engines(registry: &mut EngineRegistry) -> Result<(), RegistryError> {
    register_engine::<SimulatedSettings>(registry)?;
    register_engine::<SelfSearchSettings>(registry)?;
    #[cfg(feature = "http")]
    register_engine::<RemoteSettings>(registry)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zs_core::registry::{Registry, Spec};
    use zs_core::{DocumentQuality, Question, SearchRequest};
    use zs_model::testing::ScriptedGenerator;

    use super::*;

    fn registry() -> EngineRegistry {
        let mut registry = Registry::new("search engine");
        register_engines(&mut registry).unwrap();
        registry
    }

    fn policy(reply: &'static str) -> Arc<dyn Generator> {
        Arc::new(ScriptedGenerator::new(move |_, _| format!("Doc 1: {reply}")))
    }

    #[test]
    fn self_search_follows_the_policy() {
        let service = SearchedPolicy::new(policy("old"));
        let context = EngineContext::default().with_service(service);
        let service: &SearchedPolicy = context.service().unwrap();
        assert!(!service.is_asked());
        let engine = registry().build(&Spec::named("self_search"), &context).unwrap();
        assert!(service.is_asked());
        let question = Question::new("q", "?", ["a"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "q", question: &question, quality, read: &[], k: 1, seed: 0 };
        assert_eq!(engine.search(request).unwrap()[0].text, "old");
        service.follow(&policy("new"));
        assert_eq!(engine.search(request).unwrap()[0].text, "new");
    }

    #[track_caller]
    fn check(settings: Value, expected: &str, key: Option<&str>) {
        let spec: Spec = serde_json::from_value(settings).unwrap();
        let error = match registry().resolve(&spec) {
            Ok(spec) => registry().build(&spec, &EngineContext::default()).err().unwrap(),
            Err(error) => error,
        };
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        assert!(format!("{error}: {cause}").contains(expected), "{error}: {cause}");
        assert_eq!(error.key().as_deref(), key);
    }

    #[test]
    fn settings_are_checked() {
        check(json!({ "kind": "self_search" }), "asks the policy", None);
        check(json!({ "kind": "simulated", "model": "m" }), "`ModelLoader`", None);
        check(json!({ "kind": "simulated" }), "missing field `model`", None);
        let sampling = json!({ "top_p": 0.0 });
        check(
            json!({ "kind": "simulated", "model": "m", "sampling": sampling }),
            "(0, 1]",
            Some("sampling.top_p"),
        );
        let sampling = json!({ "batch_size": 0 });
        check(
            json!({ "kind": "self_search", "sampling": sampling }),
            "at least 1",
            Some("sampling.batch_size"),
        );
        check(
            json!({ "kind": "simulated", "model": "m", "temperature": 1 }),
            "unknown setting `temperature`",
            Some("temperature"),
        );
    }

    #[cfg(feature = "http")]
    #[test]
    fn settings_of_servers_are_checked() {
        let servers = |servers: Value| json!({ "kind": "remote", "servers": servers });
        check(servers(json!({ "endpoints": [] })), "at least one address", None);
        check(
            servers(json!({ "endpoints": ["http://a"], "temperature": -1 })),
            "not negative",
            Some("servers.temperature"),
        );
        check(
            servers(json!({ "endpoints": ["http://a"], "http": { "max_attempts": 0 } })),
            "at least 1",
            Some("servers.http.max_attempts"),
        );
        check(
            servers(json!({ "endpoints": ["http://a"], "api": "completions", "system": "s" })),
            "left out where `api` is `completions`",
            Some("servers.system"),
        );
    }
}
