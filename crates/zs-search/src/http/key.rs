//! Keys of providers: read from the environment, sent where they belong, and shown nowhere.

use secrecy::{ExposeSecret, SecretString};

use super::HttpError;

/// Text in place of a key.
const REDACTED: &str = "[redacted]";

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
    /// Fails, naming the variable, when it is not set, empty, or not a word of printable ASCII.
    pub fn from_env(variable: &str) -> Result<Self, HttpError> {
        let missing = || HttpError::MissingKey { variable: variable.to_owned() };
        let key = std::env::var(variable).map_err(|_| missing())?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(missing());
        }
        Ok(Self::new(key))
    }

    /// The key itself, to be sent.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Text that a server sent, in which the key is not to be read.
    pub(super) fn redact(&self, text: String) -> String {
        let key = self.expose();
        if key.is_empty() || !text.contains(key) {
            return text;
        }
        text.replace(key, REDACTED)
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
        let error = ApiKey::from_env("ZS_TEST_NO_SUCH_KEY").unwrap_err().to_string();
        assert!(error.contains("ZS_TEST_NO_SUCH_KEY"), "{error}");
    }
}
