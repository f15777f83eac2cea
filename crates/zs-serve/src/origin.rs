//! Requests that a web page sends through the browser of somebody else: host names, origins and content
//! types.
//!
//! A page may send a request to any address, a loopback one included, and, once its own name resolves to
//! that address, read the response. It cannot choose the headers `Host` and `Origin`.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

use crate::api_error::ApiError;

/// Names that a server answers to.
#[derive(Clone, Debug)]
pub(crate) struct OriginGuard {
    allowed: Vec<String>,
}

impl OriginGuard {
    pub(crate) fn new(allowed: &[String]) -> Self {
        Self { allowed: allowed.iter().map(|it| it.to_ascii_lowercase()).collect() }
    }

    /// Refuses requests that were sent to another name, or by a page of another site.
    pub(crate) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (None, _) => None,
            (Some(host), None) => Some(authority(host).ok_or_else(|| unknown_host(host))?),
            (Some(_), Some(second)) => return Err(unknown_host(second)),
        };
        let asked = [host.as_ref(), uri.authority()];
        if let Some(other) = asked.into_iter().flatten().find(|it| !self.is_own_name(name(it))) {
            return Err(unknown_host(other.as_str().as_bytes()));
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if !self.is_own_origin(origin, host.as_ref()) => {
                let origin = shown(origin.as_bytes());
                Err(ApiError::Forbidden(format!(
                    "pages of `{origin}` may not use this server; start it with --allowed-hosts to \
                     let them"
                )))
            }
            _ => Ok(()),
        }
    }

    /// True for names that no page of a stranger can have: loopback names, addresses, names without a
    /// dot, which only the local network resolves, and those that the operator lists.
    fn is_own_name(&self, name: &str) -> bool {
        is_loopback(name)
            || name.parse::<IpAddr>().is_ok()
            || !name.contains('.')
            || self.is_listed(name)
    }

    /// True for pages of this machine, of the very address that was asked, and of listed hosts.
    fn is_own_origin(&self, origin: &HeaderValue, host: Option<&Authority>) -> bool {
        let origin = origin.to_str().ok().and_then(|it| it.split_once("://"));
        let Some(page) = origin.and_then(|(_, it)| it.parse::<Authority>().ok()) else {
            return false;
        };
        is_loopback(name(&page))
            || self.is_listed(name(&page))
            || host.is_some_and(|it| it.as_str().eq_ignore_ascii_case(page.as_str()))
    }

    fn is_listed(&self, name: &str) -> bool {
        self.allowed.iter().any(|it| it.eq_ignore_ascii_case(name))
    }
}

/// Refuses bodies that say that they are no JSON. Pages may send other types to any address without
/// asking first.
pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_json = kind.eq_ignore_ascii_case("application/json")
        || (kind.to_ascii_lowercase().starts_with("application/") && kind.ends_with("+json"));
    match is_json {
        true => Ok(()),
        false => Err(ApiError::MediaType(shown(value.as_bytes()))),
    }
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    let authority: Authority = value.to_str().ok()?.parse().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

/// Name or address without port and brackets.
fn name(authority: &Authority) -> &str {
    let host = authority.host();
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
}

fn is_loopback(name: &str) -> bool {
    let is_local = |it: &str| it.eq_ignore_ascii_case("localhost");
    is_local(name)
        || name.rsplit_once('.').is_some_and(|(_, last)| is_local(last))
        || name.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn unknown_host(host: impl AsRef<[u8]>) -> ApiError {
    let host = shown(host.as_ref());
    ApiError::Forbidden(format!(
        "this server does not answer to the name `{host}`; start it with --allowed-hosts to let it"
    ))
}

/// Start of a header's value.
fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(pairs: &[(&'static str, &str)], is_allowed: bool) {
        let guard = OriginGuard::new(&["zs.example".to_owned()]);
        let uri = Uri::from_static("/retrieve");
        assert_eq!(guard.check(&headers(pairs), &uri).is_ok(), is_allowed, "{pairs:?}");
    }

    #[test]
    fn names_of_strangers_are_refused() {
        for host in [
            "localhost:8000",
            "LOCALHOST",
            "zs.localhost",
            "127.0.0.1:8000",
            "[::1]:8000",
            "10.0.0.7",
            "zs:8000",
            "zs.example:8000",
            "ZS.EXAMPLE",
            "zs.example.",
        ] {
            check(&[("host", host)], true);
        }
        for host in [
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a@localhost",
            "zs.example.evil",
            "",
            "é.example",
        ] {
            check(&[("host", host)], false);
        }
        check(&[], true);
        check(&[("host", "localhost"), ("host", "evil.example")], false);
        let guard = OriginGuard::new(&[]);
        let uri = Uri::from_static("http://evil.example/retrieve");
        assert!(guard.check(&headers(&[("host", "localhost")]), &uri).is_err());
    }

    #[test]
    fn pages_of_strangers_are_refused() {
        for origin in ["http://localhost:3000", "http://127.0.0.1", "https://zs.example"] {
            check(&[("host", "localhost:8000"), ("origin", origin)], true);
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://6.6.6.6",
            "http://zs",
            "",
            "http://localhost.evil",
        ] {
            check(&[("host", "localhost:8000"), ("origin", origin)], false);
        }
        check(&[("host", "10.0.0.7:8000"), ("origin", "http://10.0.0.7:8000")], true);
        check(&[("host", "10.0.0.7:8000"), ("origin", "http://10.0.0.7:3000")], false);
    }

    #[test]
    fn bodies_of_another_type_are_refused() {
        for (kind, is_fine) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.api+json", true),
            ("text/plain", false),
            ("text/plain; application/json", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=x", false),
            ("", false),
        ] {
            let checked = check_content_type(&headers(&[("content-type", kind)]));
            assert_eq!(checked.is_ok(), is_fine, "{kind}");
        }
        check_content_type(&HeaderMap::new()).unwrap();
    }
}
