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
        let value = serde_json::to_value(settings).map_err(SettingsError::malformed)?;
        let settings = match value {
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
        let given = Value::Object(self.settings.clone());
        let settings: S =
            serde_json::from_value(given.clone()).map_err(SettingsError::malformed)?;
        let written = serde_json::to_value(&settings).map_err(SettingsError::malformed)?;
        refuse_unknown(&given, &written, "")?;
        settings.check().map_err(|it| without_flattened(it, &written))?;
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

/// Drops the names of fields that serde flattens from the key of an error, since run files have no
/// such key.
fn without_flattened(error: SettingsError, written: &Value) -> SettingsError {
    match error {
        SettingsError::OutOfRange { key, requirement } => {
            let is_known =
                |it: &str| written.get(it.split(['.', '[']).next().unwrap_or(it)).is_some();
            let mut rest = key.as_str();
            while let (false, Some((_, tail))) = (is_known(rest), rest.split_once('.')) {
                rest = tail;
            }
            let key = if is_known(rest) { rest.to_owned() } else { key };
            SettingsError::OutOfRange { key, requirement }
        }
        other => other,
    }
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
