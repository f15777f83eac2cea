//! Settings of a component that is not constructed yet.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Settings, SettingsError, nearest};

/// Name and settings of one component, as a run file gives them.
///
/// ```
/// use zs_core::registry::Spec;
///
/// let spec: Spec = serde_json::from_str(r#"{"kind": "grpo", "kl_coef": 0.001}"#)?;
/// assert_eq!(spec.kind, "grpo");
/// assert_eq!(spec.settings["kl_coef"], 0.001);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Name that the component is registered under.
    pub kind: String,
    /// Its other keys.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

impl Spec {
    /// Creates the specification of a kind with default settings.
    #[must_use]
    pub fn named(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), settings: Map::new() }
    }

    /// Adds or replaces one setting.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Writes typed settings as a specification. Settings that are `None` are left out.
    ///
    /// # Errors
    ///
    /// Fails when the settings do not serialize to a table.
    pub fn of<S: Settings>(settings: &S) -> Result<Self, SettingsError> {
        let settings = match written(settings)? {
            Value::Object(settings) => settings,
            Value::Null => Map::new(),
            other => {
                return Err(SettingsError::Malformed {
                    message: format!("settings serialize to {other}, not to a table"),
                });
            }
        };
        let settings = settings.into_iter().filter(|(_, it)| !it.is_null()).collect();
        Ok(Self { kind: S::KIND.to_owned(), settings })
    }

    /// Reads typed settings and checks them.
    ///
    /// # Errors
    ///
    /// Fails on settings that are unknown, missing, of the wrong type or out of range.
    pub fn parse<S: Settings>(&self) -> Result<S, SettingsError> {
        let mut all = match S::defaults() {
            Some(defaults) => Self::of(&defaults)?.settings,
            None => Map::new(),
        };
        all.extend(self.settings.clone());
        let settings: S =
            serde_json::from_value(Value::Object(all)).map_err(SettingsError::malformed)?;
        let written = written(&settings)?;
        refuse_unknown(&Value::Object(self.settings.clone()), &written, "")?;
        settings.check().map_err(|it| with_key_of_run_files(it, &written))?;
        Ok(settings)
    }

    /// The specification at a path such as `engine` or `terms.0.reward`.
    pub(super) fn nested(&self, path: &str) -> Result<Self, SettingsError> {
        let pointer = pointer(path);
        let (head, tail) = pointer[1..].split_once('/').unwrap_or((&pointer[1..], ""));
        let found = self.settings.get(head).and_then(|it| match tail {
            "" => Some(it),
            tail => it.pointer(&format!("/{tail}")),
        });
        let message = || format!("no component at `{path}`");
        let found = found.ok_or_else(|| SettingsError::Malformed { message: message() })?;
        serde_json::from_value(found.clone()).map_err(SettingsError::malformed)
    }

    /// Replaces the specification at a path that [`nested`](Self::nested) has found.
    pub(super) fn replace_nested(&mut self, path: &str, inner: Self) {
        let mut settings = Value::Object(std::mem::take(&mut self.settings));
        if let (Some(place), Ok(inner)) =
            (settings.pointer_mut(&pointer(path)), serde_json::to_value(inner))
        {
            *place = inner;
        }
        if let Value::Object(settings) = settings {
            self.settings = settings;
        }
    }
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// Settings as JSON. Through text, so that a 32-bit 0.1 is 0.1 and not 0.10000000149011612.
fn written<S: Settings>(settings: &S) -> Result<Value, SettingsError> {
    let text = serde_json::to_string(settings).map_err(SettingsError::malformed)?;
    serde_json::from_str(&text).map_err(SettingsError::malformed)
}

/// Names the setting at fault as run files do: without fields that serde flattens, and with the
/// names of enum variants.
fn with_key_of_run_files(error: SettingsError, written: &Value) -> SettingsError {
    match error {
        SettingsError::OutOfRange { key, requirement } => {
            let key = key_of_run_files(&key, written).unwrap_or(key);
            SettingsError::OutOfRange { key, requirement }
        }
        other => other,
    }
}

fn key_of_run_files(key: &str, written: &Value) -> Option<String> {
    let (mut path, mut value) = (Vec::new(), Some(written));
    for part in key.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        let field = |it: &'_ Value| it.get(name).is_some();
        let table = value.and_then(Value::as_object);
        if value.is_some_and(field) {
            value = value.and_then(|it| it.get(name));
        } else if let Some((variant, fields)) = table
            .filter(|it| it.len() == 1)
            .and_then(|it| it.iter().next())
            .filter(|it| field(it.1))
        {
            path.push(variant.clone());
            value = fields.get(name);
        } else {
            continue;
        }
        path.push(part.to_owned());
        if let Ok(index) = index.trim_end_matches(']').parse::<usize>() {
            value = value.and_then(|it| it.get(index));
        }
    }
    (!path.is_empty()).then(|| path.join("."))
}

/// Fails on a key of `given` that typed settings did not take over into `written`.
fn refuse_unknown(given: &Value, written: &Value, path: &str) -> Result<(), SettingsError> {
    match (given, written) {
        (Value::Object(given), Value::Object(written)) => {
            given.iter().try_for_each(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match written.get(key) {
                    Some(written) => refuse_unknown(value, written, &path),
                    None => {
                        let known: Vec<String> = written.keys().cloned().collect();
                        let nearest = nearest(key, known.iter().map(String::as_str));
                        let nearest = nearest.map(str::to_owned);
                        Err(SettingsError::Unknown { key: path, nearest, known })
                    }
                }
            })
        }
        (Value::Array(given), Value::Array(written)) => {
            given.iter().zip(written).enumerate().try_for_each(|(index, (given, written))| {
                refuse_unknown(given, written, &format!("{path}.{index}"))
            })
        }
        _ => Ok(()),
    }
}
