//! Keys of providers: read from the environment, sent where they belong, and shown nowhere.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::HttpError;

/// Text in place of a key.
const REDACTED: &str = "[redacted]";

/// Endings of the names of variables that hold keys. A run file of somebody else may name any
/// variable, and what it names is sent to an address that it names as well.
const NAMES: [&str; 2] = ["_API_KEY", "_TOKEN"];

/// A provider's key. Its `Debug` form does not show it, and it has no other.
///
/// ```
/// use zs_search::http::ApiKey;
///
/// assert!(!format!("{:?}", ApiKey::new("s3cret")).contains("s3cret"));
/// ```
#[derive(Clone, Debug)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// A key from wherever the caller has it.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(SecretString::from(key.trim()))
    }

    /// The key in an environment variable.
    ///
    /// # Errors
    ///
    /// Fails, naming the variable, when its name does not end in `_API_KEY` or `_TOKEN`, and when it is
    /// not set, empty, or not a word of printable ASCII.
    pub fn from_env(variable: &str) -> Result<Self, HttpError> {
        if !NAMES.iter().any(|it| variable.len() > it.len() && variable.ends_with(it)) {
            return Err(HttpError::NotAKey { variable: variable.to_owned() });
        }
        let missing = || HttpError::MissingKey { variable: variable.to_owned() };
        let key = std::env::var(variable).map_err(|_| missing())?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(missing());
        }
        Ok(Self::new(key))
    }

    /// The key in an environment variable, if one is named, with its place in requests.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub(crate) fn placed(
        variable: Option<&str>,
        place: KeyPlace,
    ) -> Result<Option<(Self, KeyPlace)>, HttpError> {
        variable.map(|it| Ok((Self::from_env(it)?, place))).transpose()
    }

    /// The key in an environment variable, if one is named, for `Authorization: Bearer KEY`.
    ///
    /// # Errors
    ///
    /// Fails as [`from_env`](Self::from_env).
    pub fn bearer(variable: Option<&str>) -> Result<Option<(Self, KeyPlace)>, HttpError> {
        Self::placed(variable, KeyPlace::BEARER)
    }

    /// The key itself, to be sent.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Text that a server sent, in which the key is not to be read: neither as it is nor, where the
    /// text is JSON, after its escapes are decoded.
    pub(super) fn redact(&self, text: String) -> String {
        let key = self.expose();
        if key.is_empty() {
            return text;
        }
        let text = if text.contains(key) { text.replace(key, REDACTED) } else { text };
        if !text.contains('\\') {
            return text;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(&text) else { return text };
        if redact_value(key, &mut value) { value.to_string() } else { text }
    }
}

/// Makes a key unreadable in the texts of a JSON value; returns true if it was in any.
fn redact_value(key: &str, value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.contains(key) => {
            *text = text.replace(key, REDACTED);
            true
        }
        // Each is looked at, whatever was found before.
        Value::Array(items) => {
            items.iter_mut().filter_map(|it| redact_value(key, it).then_some(())).count() > 0
        }
        Value::Object(fields) => {
            let in_values =
                fields.values_mut().filter_map(|it| redact_value(key, it).then_some(()));
            let mut found = in_values.count() > 0;
            if fields.keys().any(|it| it.contains(key)) {
                let renamed = std::mem::take(fields).into_iter();
                *fields = renamed.map(|(name, it)| (name.replace(key, REDACTED), it)).collect();
                found = true;
            }
            found
        }
        _ => false,
    }
}

/// Place of the key in a request.
#[derive(Clone, Copy, Debug)]
pub enum KeyPlace {
    /// In a header, after a prefix such as `"Bearer "`.
    Header {
        /// The header.
        name: &'static str,
        /// Text before the key.
        prefix: &'static str,
    },
    /// As a parameter of the query string.
    Parameter(&'static str),
}

impl KeyPlace {
    /// `Authorization: Bearer KEY`.
    pub const BEARER: Self = Self::Header { name: "Authorization", prefix: "Bearer " };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let key = ApiKey::new(" s3cret\n");
        assert_eq!(key.expose(), "s3cret");
        assert!(!format!("{key:?} {:#?}", Some(&key)).contains("s3cret"));
        assert_eq!(key.redact("no key s3cret here".to_owned()), "no key [redacted] here");
        assert_eq!(ApiKey::new("").redact("as it is".to_owned()), "as it is");
        let error = ApiKey::from_env("ZS_TEST_NO_SUCH_API_KEY").unwrap_err().to_string();
        assert!(error.contains("`ZS_TEST_NO_SUCH_API_KEY` holds no key"), "{error}");
    }

    #[test]
    fn keys_are_not_read_after_decoding_either() {
        let key = ApiKey::new("s3cret");
        let spelled = r"\u0073\u0033cre\u0074";
        let text = format!(r#"{{"a": ["x {spelled}", 1.50], "{spelled}": {{"b": "{spelled}"}}}}"#);
        let decoded: Value = serde_json::from_str(&key.redact(text)).unwrap();
        let expected = r#"{"a":["x [redacted]",1.5],"[redacted]":{"b":"[redacted]"}}"#.to_owned();
        assert_eq!(decoded.to_string(), expected);
        // What holds no key stays as it is.
        for text in [r#"{"a" : "line\n"}"#, r"no JSON \u0073"] {
            assert_eq!(key.redact(text.to_owned()), text);
        }
    }

    #[test]
    fn only_variables_of_keys_are_read() {
        for variable in ["PATH", "HOME", "AWS_SECRET_ACCESS_KEY", "_TOKEN", "ZS_TOKEN_FILE", ""] {
            let error = ApiKey::from_env(variable).unwrap_err();
            assert!(matches!(error, HttpError::NotAKey { .. }), "{variable}: {error}");
        }
    }
}
