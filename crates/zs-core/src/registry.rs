//! Components by name: the one way in which algorithms, rewards, program functions, curricula,
//! engines, sources of questions and trackers, built in or a user's own, come from a run file.

mod settings;
mod spec;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

pub use self::settings::{Settings, SettingsError, check, with_defaults};
pub use self::spec::Spec;

/// A cause of any type.
pub type BoxedError = Box<dyn Error + Send + Sync>;

/// Constructors of one sort of component, by the name that run files give as `kind`.
///
/// `T` is what they construct, `C` what they are given besides their settings.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zs_core::registry::{Registry, Settings, Spec};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(default)]
/// struct Scaled {
///     factor: f64,
/// }
///
/// impl Default for Scaled {
///     fn default() -> Self {
///         Self { factor: 2.0 }
///     }
/// }
///
/// impl Settings for Scaled {
///     const KIND: &'static str = "scaled";
/// }
///
/// let mut registry: Registry<f64> = Registry::new("scale");
/// registry.register(|it: Scaled, _: &(), _| Ok(it.factor))?;
/// let spec: Spec = serde_json::from_str(r#"{"kind": "scaled", "factor": 3.0}"#)?;
/// assert_eq!(registry.build(&spec, &())?, 3.0);
///
/// let spec: Spec = serde_json::from_str(r#"{"kind": "scaled", "facto": 3.0}"#)?;
/// let error = registry.build(&spec, &()).unwrap_err();
/// assert_eq!(error.to_string(), "unknown setting `facto` of scale `scaled` (did you mean `factor`?)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry<T, C = ()> {
    noun: &'static str,
    entries: BTreeMap<&'static str, Entry<T, C>>,
}

/// One registered kind.
struct Entry<T, C> {
    resolve: fn(&Spec) -> Result<Resolved, SettingsError>,
    build: Box<Build<T, C>>,
}

type Build<T, C> = dyn Fn(&Spec, &C, &Registry<T, C>) -> Result<T, BuildFailure> + Send + Sync;

/// Failure of a constructor, before the name of its kind is known.
enum BuildFailure {
    Settings(SettingsError),
    Constructor(BoxedError),
}

/// Settings with every default filled in.
struct Resolved {
    spec: Spec,
    nested: Vec<String>,
    inputs: Vec<PathBuf>,
}

impl<T, C> Registry<T, C> {
    /// Creates a registry without entries; `noun` names its sort of component in errors.
    #[must_use]
    pub fn new(noun: &'static str) -> Self {
        Self { noun, entries: BTreeMap::new() }
    }

    /// Registers a constructor under the name of its settings.
    ///
    /// The constructor is given the settings, the context and this registry, for components that
    /// hold others.
    ///
    /// # Errors
    ///
    /// Fails when the name is taken.
    pub fn register<S, F>(&mut self, build: F) -> Result<(), RegistryError>
    where
        S: Settings,
        F: Fn(S, &C, &Self) -> Result<T, BoxedError> + Send + Sync + 'static,
    {
        if self.entries.contains_key(S::KIND) {
            return Err(RegistryError::Taken { noun: self.noun, kind: S::KIND });
        }
        let build = move |spec: &Spec, context: &C, registry: &Self| {
            let settings = spec.parse::<S>().map_err(BuildFailure::Settings)?;
            build(settings, context, registry).map_err(BuildFailure::Constructor)
        };
        self.entries.insert(S::KIND, Entry { resolve: resolve::<S>, build: Box::new(build) });
        Ok(())
    }

    /// Registered names, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.entries.keys().copied()
    }

    /// Constructs a component.
    ///
    /// # Errors
    ///
    /// Fails on an unknown kind, unknown or invalid settings, and when the constructor fails.
    pub fn build(&self, spec: &Spec, context: &C) -> Result<T, RegistryError> {
        let entry = self.entry(&spec.kind)?;
        (entry.build)(spec, context, self).map_err(|failure| match failure {
            BuildFailure::Settings(error) => self.settings_error(&spec.kind, error),
            BuildFailure::Constructor(source) => match source.downcast::<RegistryError>() {
                Ok(inner) => *inner,
                Err(source) => {
                    RegistryError::Build { noun: self.noun, kind: spec.kind.clone(), source }
                }
            },
        })
    }

    /// Checks settings and those nested in them, and fills in their defaults.
    ///
    /// # Errors
    ///
    /// Fails on an unknown kind and on unknown or invalid settings.
    pub fn resolve(&self, spec: &Spec) -> Result<Spec, RegistryError> {
        let mut resolved = self.resolved(spec)?;
        for path in std::mem::take(&mut resolved.nested) {
            let inner =
                resolved.spec.nested(&path).map_err(|it| self.settings_error(&spec.kind, it))?;
            let inner = self.resolve(&inner).map_err(|it| it.inside(&path))?;
            resolved.spec.replace_nested(&path, inner);
        }
        Ok(resolved.spec)
    }

    /// Visits a specification and all that are nested in it, outermost first.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub fn visit(&self, spec: &Spec, visitor: &mut dyn FnMut(&Spec)) -> Result<(), RegistryError> {
        visitor(spec);
        let resolved = self.resolved(spec)?;
        for path in &resolved.nested {
            let inner =
                resolved.spec.nested(path).map_err(|it| self.settings_error(&spec.kind, it))?;
            self.visit(&inner, visitor).map_err(|it| it.inside(path))?;
        }
        Ok(())
    }

    /// Files that a specification names, its nested ones included.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub fn inputs(&self, spec: &Spec) -> Result<Vec<PathBuf>, RegistryError> {
        let mut inputs = Vec::new();
        let mut failure = None;
        self.visit(spec, &mut |it| match self.resolved(it) {
            Ok(resolved) => inputs.extend(resolved.inputs),
            Err(error) => failure = Some(error),
        })?;
        failure.map_or(Ok(inputs), Err)
    }

    fn resolved(&self, spec: &Spec) -> Result<Resolved, RegistryError> {
        let entry = self.entry(&spec.kind)?;
        (entry.resolve)(spec).map_err(|it| self.settings_error(&spec.kind, it))
    }

    fn entry(&self, kind: &str) -> Result<&Entry<T, C>, RegistryError> {
        self.entries.get(kind).ok_or_else(|| RegistryError::Unknown {
            noun: self.noun,
            kind: kind.to_owned(),
            nearest: nearest(kind, self.kinds()).map(str::to_owned),
            known: self.kinds().collect(),
        })
    }

    fn settings_error(&self, kind: &str, error: SettingsError) -> RegistryError {
        let (noun, kind, error) = (self.noun, kind.to_owned(), Box::new(error));
        RegistryError::Settings { noun, kind, path: Vec::new(), error }
    }
}

impl<T, C> fmt::Debug for Registry<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds().collect();
        f.debug_struct("Registry").field("noun", &self.noun).field("kinds", &kinds).finish()
    }
}

fn resolve<S: Settings>(spec: &Spec) -> Result<Resolved, SettingsError> {
    let settings = spec.parse::<S>()?;
    let (nested, inputs) = (settings.nested(), settings.inputs());
    Ok(Resolved { spec: Spec::of(&settings)?, nested, inputs })
}

/// The name among `known` that a misspelt one probably means: at most a third of its letters, or
/// two, differ.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(2);
    let scored = known.into_iter().map(|it| (strsim::damerau_levenshtein(name, it), it));
    scored.min().filter(|(distance, _)| *distance <= limit).map(|(_, it)| it)
}

/// Failure to register, resolve or construct a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A name that is registered already.
    #[error("{noun} `{kind}` is registered already; register yours under another name")]
    Taken {
        /// Sort of component.
        noun: &'static str,
        /// Name.
        kind: &'static str,
    },
    /// A name that is not registered.
    #[error(
        "unknown {noun} `{kind}`{}, {}",
        did_you_mean(nearest.as_deref()),
        expected(known)
    )]
    Unknown {
        /// Sort of component.
        noun: &'static str,
        /// Name.
        kind: String,
        /// Registered name that is nearly the same.
        nearest: Option<String>,
        /// Registered names.
        known: Vec<&'static str>,
    },
    /// Settings that a kind does not know or accept.
    #[error("{}", error.describe(noun, kind))]
    Settings {
        /// Sort of component.
        noun: &'static str,
        /// Name.
        kind: String,
        /// Keys that lead from the outermost component to this one.
        path: Vec<String>,
        /// Error; part of the message, so not its source.
        error: Box<SettingsError>,
    },
    /// Failure of a constructor.
    #[error("cannot build {noun} `{kind}`")]
    Build {
        /// Sort of component.
        noun: &'static str,
        /// Name.
        kind: String,
        /// Cause.
        #[source]
        source: BoxedError,
    },
}

impl RegistryError {
    /// Notes that the failing component is nested in another one, under `path`.
    fn inside(mut self, outer: &str) -> Self {
        if let Self::Settings { path, .. } = &mut self {
            path.insert(0, outer.to_owned());
        }
        self
    }

    /// Keys that lead from the outermost component to the setting at fault, joined by dots.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        let Self::Settings { path, error, .. } = self else { return None };
        let parts = path.iter().map(String::as_str).chain(error.key());
        Some(parts.collect::<Vec<_>>().join(".")).filter(|it| !it.is_empty())
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |it| format!(" (did you mean `{it}`?)"))
}

fn expected(names: &[&'static str]) -> String {
    if names.is_empty() {
        return "and none is registered".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|it| format!("`{it}`")).collect();
    format!("expected one of {}", quoted.join(", "))
}

#[cfg(test)]
mod tests;
