//! The bearer token, compared in constant time.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Digest of the expected token. Comparing digests hides both contents and length of the token from
/// timing.
#[derive(Clone)]
pub(crate) struct TokenGuard {
    digest: [u8; 32],
}

impl TokenGuard {
    pub(crate) fn new(token: &str) -> Self {
        Self { digest: Sha256::digest(token.as_bytes()).into() }
    }

    /// Returns true when the headers of a request carry the token.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).map(|it| it.as_bytes()).unwrap_or_default();
        let (scheme, token) = value.split_at(value.len().min("Bearer ".len()));
        let digest: [u8; 32] = Sha256::digest(token).into();
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(digest.ct_eq(&self.digest))
    }
}

impl std::fmt::Debug for TokenGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenGuard(…)")
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn admits_the_token_and_nothing_else() {
        let guard = TokenGuard::new("s3cret");
        let admits = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            guard.admits(&headers)
        };
        assert!(admits("Bearer s3cret"));
        assert!(admits("bearer s3cret"));
        for other in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret"] {
            assert!(!admits(other), "{other}");
        }
        assert!(!guard.admits(&HeaderMap::new()));
        assert!(!format!("{guard:?}").contains("s3cret"));
    }
}
