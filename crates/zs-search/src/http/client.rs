//! One request over HTTP, until it is answered, refused, or out of attempts or time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use ureq::http::{Response, Uri};
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder};

use super::pool::{Health, Pool};
use super::{ApiKey, DAY_S, HttpConfig, HttpError, KeyPlace, seconds};
use crate::{Ledger, parallel};

/// Longest URL that servers accept, as a rule.
const LONGEST_URL: usize = 8000;

/// Maximum number of characters of a server's reply in an error.
const SHOWN: usize = 300;

/// A request, without server and key: what does not change between attempts.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// Path that is appended to the server's address, e.g. `"/chat/completions"`.
    pub path: &'static str,
    /// Parameters of the query string.
    pub parameters: Vec<(&'static str, String)>,
    /// A JSON body; with one, the method is POST, without, GET.
    pub body: Option<String>,
    /// Seed of the jitter of waits.
    pub seed: u64,
}

/// Asks one of several servers, again and elsewhere if need be, and never without end.
///
/// - The server with the least in flight is asked. One that fails `breaker_failures` times in a row
///   is paused, and one that answers 429 or 503 with `Retry-After` is left alone as long as it asks.
/// - Failed connections, deadlines, status 408, 425, 429 and 5xx, and replies that cannot be read
///   are tried again after a wait that doubles; other refusals are final.
/// - Redirects are not followed, since they would carry the key elsewhere.
#[derive(Debug)]
pub struct HttpClient {
    name: &'static str,
    agent: Agent,
    endpoints: Vec<Endpoint>,
    key: Option<(ApiKey, KeyPlace)>,
    pool: Pool,
    config: HttpConfig,
    ledger: Arc<Ledger>,
}

/// A server's address.
#[derive(Debug)]
struct Endpoint {
    /// Address that paths are appended to.
    base: String,
    /// Scheme, host and port: all that errors say.
    shown: String,
    /// Encrypted, or not beyond private networks.
    is_private: bool,
}

impl HttpClient {
    /// A client for servers that are interchangeable; `name` is what its calls are booked under.
    ///
    /// # Errors
    ///
    /// Fails when there is no address, or one is not `http://` or `https://` with a host, or holds a
    /// password or parameters; and when a key would be sent over `http://` to a host that is neither
    /// this machine nor in a private network.
    pub fn new(
        name: &'static str,
        urls: &[String],
        key: Option<(ApiKey, KeyPlace)>,
        config: HttpConfig,
        ledger: Arc<Ledger>,
    ) -> Result<Self, HttpError> {
        let endpoints: Vec<Endpoint> =
            urls.iter().map(|it| Endpoint::parse(it)).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(HttpError::NoEndpoint);
        }
        if let (Some(_), Some(open)) = (&key, endpoints.iter().find(|it| !it.is_private)) {
            return Err(HttpError::PlainKey { endpoint: open.shown.clone() });
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(seconds(config.connect_timeout_s)))
            .max_idle_connections(config.max_in_flight)
            .max_idle_connections_per_host(config.max_in_flight)
            .user_agent(concat!("zs/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let pause = seconds(config.breaker_pause_s);
        let pool = Pool::new(endpoints.len(), config.max_in_flight, config.breaker_failures, pause);
        Ok(Self { name, agent, endpoints, key, pool, config, ledger })
    }

    /// Name that calls are booked under.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Ledger that calls are written to.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Sends a request until `read` can read a reply to it.
    ///
    /// # Errors
    ///
    /// Fails when the request is refused for good, or attempts or time are used up.
    pub fn send<T>(
        &self,
        request: &HttpRequest,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, HttpError> {
        let deadline = Instant::now() + seconds(self.config.total_timeout_s);
        let mut waits = ExponentialBuilder::new()
            .with_min_delay(seconds(self.config.backoff_s))
            .with_max_delay(seconds(self.config.max_backoff_s))
            .with_factor(2.0)
            .with_max_times(self.config.max_attempts.saturating_sub(1) as usize)
            .with_jitter()
            .with_jitter_seed(request.seed)
            .build();
        let mut last: Option<HttpError> = None;
        let mut attempts = 0;
        loop {
            let give_up = |last: Option<HttpError>, error| match last {
                Some(last) => HttpError::GaveUp { attempts, last: Box::new(last) },
                None => error,
            };
            let index = match self.pool.acquire(deadline) {
                Ok(index) => index,
                Err(error) => return Err(give_up(last, error)),
            };
            let outcome = self.attempt(index, request, deadline, attempts > 0, &read);
            self.pool.release(index, health(&outcome));
            attempts += 1;
            let error = match outcome {
                Ok(reply) => return Ok(reply),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match waits.next() {
                Some(wait) if wait < left => std::thread::sleep(wait),
                _ => return Err(HttpError::GaveUp { attempts, last: Box::new(error) }),
            }
            last = Some(error);
        }
    }

    /// One call, written into the books.
    fn attempt<T>(
        &self,
        index: usize,
        request: &HttpRequest,
        deadline: Instant,
        is_retry: bool,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, HttpError> {
        let endpoint = &self.endpoints[index];
        let length = endpoint.base.len() + request.path.len() + encoded_length(request);
        if length > LONGEST_URL {
            return Err(HttpError::TooLong { endpoint: endpoint.shown.clone(), length });
        }
        let start = Instant::now();
        let left = deadline.saturating_duration_since(start);
        let timeout = seconds(self.config.read_timeout_s).min(left);
        let reply = self
            .exchange(endpoint, request, timeout.max(Duration::from_millis(1)))
            .map_err(|error| endpoint.error(&error))
            .and_then(|response| self.text(endpoint, response));
        let num_received = reply.as_ref().map_or(0, |it| it.len() as u64);
        let result = reply.and_then(|text| {
            read(&text)
                .map_err(|problem| HttpError::Reply { endpoint: endpoint.shown.clone(), problem })
        });
        self.ledger.record_call(self.name, start.elapsed(), |usage| {
            usage.retries += u64::from(is_retry);
            usage.failed_calls += u64::from(result.is_err());
            usage.bytes_sent += request.body.as_ref().map_or(0, |it| it.len() as u64);
            usage.bytes_received += num_received;
        });
        result
    }

    fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &HttpRequest,
        timeout: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let url = format!("{}{}", endpoint.base, request.path);
        match &request.body {
            None => {
                let dressed = self.dress(self.agent.get(url), request);
                dressed.config().timeout_global(Some(timeout)).build().call()
            }
            Some(body) => {
                let dressed: RequestBuilder<WithBody> = self.dress(self.agent.post(url), request);
                let dressed = dressed.header("Content-Type", "application/json");
                dressed.config().timeout_global(Some(timeout)).build().send(body.as_bytes())
            }
        }
    }

    /// Puts parameters and key where they belong.
    fn dress<B>(&self, builder: RequestBuilder<B>, request: &HttpRequest) -> RequestBuilder<B> {
        let parameters = request.parameters.iter();
        let builder = parameters.fold(builder, |it, (name, value)| it.query(*name, value));
        match &self.key {
            None => builder,
            Some((key, KeyPlace::Parameter(name))) => builder.query(*name, key.expose()),
            Some((key, KeyPlace::Header { name, prefix })) => {
                builder.header(*name, format!("{prefix}{}", key.expose()))
            }
        }
    }

    /// The text of a reply, the key made unreadable in it.
    fn text(&self, endpoint: &Endpoint, mut response: Response<Body>) -> Result<String, HttpError> {
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|it| retry_after(it.to_str().ok()?, std::time::SystemTime::now()));
        let body = response.body_mut().with_config().limit(self.config.max_reply_bytes);
        let bytes = body.read_to_vec().map_err(|error| endpoint.error(&error))?;
        let redact = |text: String| match &self.key {
            Some((key, _)) => key.redact(text),
            None => text,
        };
        let endpoint = endpoint.shown.clone();
        if !status.is_success() {
            let body = redact(String::from_utf8_lossy(&bytes).into_owned());
            let body = body.split_whitespace().collect::<Vec<_>>().join(" ");
            let body = body.chars().take(SHOWN).collect();
            return Err(HttpError::Status { endpoint, status: status.as_u16(), body, retry_after });
        }
        match std::str::from_utf8(&bytes) {
            // A byte-order mark says only that it is UTF-8.
            Ok(text) => Ok(redact(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())),
            Err(_) => Err(HttpError::Reply { endpoint, problem: "it is not UTF-8".to_owned() }),
        }
    }

    /// Does something for every item, as many at once as the client has calls in flight, and
    /// returns the results in order.
    pub fn for_each<I: Sync, T: Send>(&self, items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
        parallel::for_each(self.config.max_in_flight, items, work)
    }
}

impl Endpoint {
    fn parse(url: &str) -> Result<Self, HttpError> {
        let base = url.trim().trim_end_matches('/');
        // A password is not repeated, not even to say that there must be none.
        let (scheme, rest) = base.split_once("://").map_or(("", base), |(it, rest)| (it, rest));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let host = rest.split(['?', '#']).next().unwrap_or_default();
        let shown = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
        let refuse = |problem| HttpError::Url { url: shown.clone(), problem };
        let uri: Uri = base.parse().map_err(|_| refuse("it is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(refuse("it starts with neither http:// nor https://"));
        }
        if authority.as_str().contains('@') {
            return Err(refuse("it contains a user name or password; set keys in the environment"));
        }
        if uri.query().is_some() || base.contains('#') {
            return Err(refuse("it has parameters; name the address alone"));
        }
        let scheme = uri.scheme_str().unwrap_or_default();
        let is_private = scheme == "https" || is_private_host(authority.host());
        Ok(Self { shown: format!("{scheme}://{authority}"), base: base.to_owned(), is_private })
    }

    /// Error of the transport, without the address that it asked, which may hold the key.
    fn error(&self, error: &ureq::Error) -> HttpError {
        let endpoint = self.shown.clone();
        let problem = match error {
            ureq::Error::Timeout(which) => {
                return HttpError::Timeout { endpoint, what: which.to_string() };
            }
            ureq::Error::BodyExceedsLimit(limit) => {
                return HttpError::Reply {
                    endpoint,
                    problem: format!("it is longer than {limit} bytes"),
                };
            }
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::Protocol(error) => format!("not HTTP: {error}"),
            ureq::Error::Rustls(error) => format!("TLS: {error}"),
            ureq::Error::Tls(error) => format!("TLS: {error}"),
            _ => "the request could not be sent".to_owned(),
        };
        HttpError::Transport { endpoint, problem }
    }
}

/// Returns true for this machine and for hosts of private networks.
pub(crate) fn is_private_host(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(it)) => it.is_loopback() || it.is_private() || it.is_link_local(),
        Ok(IpAddr::V6(it)) => {
            it.is_loopback() || it.is_unique_local() || it.is_unicast_link_local()
        }
        Err(_) => {
            // A number without dots is an address, too.
            let is_name = host.starts_with(|it: char| it.is_ascii_alphabetic());
            let endings = [".localhost", ".local", ".internal"];
            is_name && (!host.contains('.') || endings.iter().any(|it| host.ends_with(it)))
        }
    }
}

/// The bytes of all parameters once encoded.
fn encoded_length(request: &HttpRequest) -> usize {
    let encoded = |value: &str| -> usize {
        value.bytes().map(|it| if it.is_ascii_alphanumeric() { 1 } else { 3 }).sum()
    };
    request.parameters.iter().map(|(name, value)| name.len() + 2 + encoded(value)).sum()
}

/// Health of a server, as the outcome of a call shows it.
fn health<T>(outcome: &Result<T, HttpError>) -> Health {
    match outcome {
        Err(HttpError::Status { status: 429 | 503, retry_after: Some(wait), .. }) => {
            Health::Throttled(Some(*wait))
        }
        Err(HttpError::Status { status: 429, .. }) => Health::Throttled(None),
        Err(error) if error.is_retryable() => Health::Bad,
        Ok(_) | Err(_) => Health::Good,
    }
}

/// `Retry-After`, as seconds or as a date; at most a day, however far off what the server names is.
fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    let longest = seconds(DAY_S);
    if !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit()) {
        return Some(value.parse().map_or(longest, |it| Duration::from_secs(it).min(longest)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(longest))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CannedResponse, TestServer, config};
    use super::*;

    fn client(urls: &[String], config: HttpConfig) -> (HttpClient, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::default());
        let key = Some((ApiKey::new("s3cret"), KeyPlace::Parameter("api_key")));
        (HttpClient::new("test", urls, key, config, Arc::clone(&ledger)).unwrap(), ledger)
    }

    fn send(client: &HttpClient) -> Result<String, HttpError> {
        let request = HttpRequest { path: "/ask", seed: 3, ..HttpRequest::default() };
        client.send(&request, |text| match text.strip_prefix("ok ") {
            Some(rest) => Ok(rest.to_owned()),
            None => Err("no ok".to_owned()),
        })
    }

    /// A server that goes through some replies, and what comes of it.
    #[track_caller]
    fn check(
        replies: Vec<CannedResponse>,
        config: HttpConfig,
        expected: Result<&str, &str>,
        calls: u64,
    ) {
        let server = TestServer::start(move |number, _| {
            replies.get(number).cloned().unwrap_or_else(|| CannedResponse::ok("ok late"))
        });
        let (client, ledger) = client(&[server.url()], config);
        match (send(&client), expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(expected)) => {
                let message = format!("{error} {error:?}");
                assert!(message.contains(expected), "{message}");
                assert!(!message.contains("s3cret"), "{message}");
            }
            (result, expected) => panic!("{result:?} is not {expected:?}"),
        }
        assert_eq!(ledger.totals()[0].usage.calls, calls);
        assert_eq!(server.num_requests() as u64, calls);
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        let good = || CannedResponse::ok("ok fine");
        check(vec![good()], config(), Ok("fine"), 1);
        check(vec![CannedResponse::status(503, "busy"), good()], config(), Ok("fine"), 2);
        check(
            vec![CannedResponse::status(429, ""), CannedResponse::status(500, ""), good()],
            config(),
            Ok("fine"),
            3,
        );
        check(vec![CannedResponse::HalfClose, good()], config(), Ok("fine"), 2);
        check(vec![CannedResponse::Garbage, good()], config(), Ok("fine"), 2);
        check(vec![CannedResponse::ok("what?"), good()], config(), Ok("fine"), 2);
        check(vec![CannedResponse::Truncated, good()], config(), Ok("fine"), 2);
        check(vec![CannedResponse::status(401, "no key s3cret")], config(), Err("[redacted]"), 1);
        check(
            vec![CannedResponse::status(404, "nothing")],
            config(),
            Err("status 404: nothing"),
            1,
        );
        check(vec![CannedResponse::Redirect], config(), Err("status 302"), 1);
        let many = vec![CannedResponse::status(500, "broken"); 9];
        check(many, config(), Err("gave up after 3 attempts"), 3);
        let short = HttpConfig { max_reply_bytes: 4, max_attempts: 1, ..config() };
        check(vec![good()], short, Err("longer than 4 bytes"), 1);
    }

    #[test]
    fn deadlines_hold() {
        let slow = || vec![CannedResponse::Slow; 9];
        let impatient = HttpConfig { read_timeout_s: 0.05, max_attempts: 2, ..config() };
        check(slow(), impatient, Err("no reply in time"), 2);
        let out_of_time = HttpConfig { total_timeout_s: 0.05, ..config() };
        check(slow(), out_of_time, Err("no reply in time"), 1);
        let patient = CannedResponse::status(429, "later").with("Retry-After: 60");
        let config = HttpConfig { total_timeout_s: 1.0, ..config() };
        check(vec![patient], config, Err("gave up after 1 attempts"), 1);
    }

    #[test]
    fn a_server_that_fails_is_left_for_another() {
        let bad = TestServer::start(|_, _| CannedResponse::status(500, "broken"));
        let good = TestServer::start(|_, _| CannedResponse::ok("ok fine"));
        let config = HttpConfig { breaker_failures: 2, breaker_pause_s: 60.0, ..config() };
        let (client, ledger) = client(&[bad.url(), good.url()], config);
        for _ in 0..20 {
            assert_eq!(send(&client).unwrap(), "fine");
        }
        assert_eq!(bad.num_requests(), 2);
        let usage = ledger.totals()[0].usage;
        assert_eq!((usage.calls, usage.retries, usage.failed_calls), (22, 2, 2));
    }

    #[test]
    fn a_server_that_is_gone_is_a_transport_error() {
        let url = TestServer::start(|_, _| CannedResponse::ok("ok")).url();
        let (client, _) = client(&[url], config());
        let error = send(&client).unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("gave up after 3 attempts"), "{error}");
    }

    #[test]
    fn keys_and_parameters_are_sent_and_encoded() {
        let server =
            TestServer::start(|_, request| CannedResponse::ok(&format!("ok {}", request.target)));
        let (client, _) = client(&[server.url()], config());
        let parameters = vec![("q", "a b&c=é".to_owned())];
        let request = HttpRequest { path: "/ask", parameters, ..HttpRequest::default() };
        let target = client.send(&request, |text| Ok(text.to_owned())).unwrap();
        // The server's echo of the key is made unreadable.
        assert_eq!(target, "ok /ask?q=a%20b%26c%3D%C3%A9&api_key=[redacted]");
        assert!(!format!("{client:?}").contains("s3cret"));
        let parameters = vec![("q", "x".repeat(70_000))];
        let request = HttpRequest { path: "/ask", parameters, ..HttpRequest::default() };
        let error = client.send(&request, |text| Ok(text.to_owned())).unwrap_err();
        assert!(matches!(error, HttpError::TooLong { .. }) && !error.is_transient(), "{error}");
    }

    #[track_caller]
    fn check_url(url: &str, expected: Result<&str, &str>) {
        match (Endpoint::parse(url), expected) {
            (Ok(endpoint), Ok(shown)) => assert_eq!(endpoint.shown, shown),
            (Err(error), Err(expected)) => {
                let message = error.to_string();
                assert!(message.contains(expected) && !message.contains("s3cr3t"), "{message}");
            }
            (parsed, expected) => panic!("{parsed:?} is not {expected:?}"),
        }
    }

    #[test]
    fn addresses_are_checked() {
        check_url("http://127.0.0.1:6001/v1/", Ok("http://127.0.0.1:6001"));
        check_url("https://example.com", Ok("https://example.com"));
        check_url("example.com", Err("cannot be used"));
        check_url("ftp://example.com", Err("neither http"));
        check_url("https://me:s3cr3t@example.com/v1", Err("set keys in the environment"));
        check_url("https://example.com?key=s3cr3t", Err("parameters"));
        let none = HttpClient::new("x", &[], None, config(), Arc::default());
        assert!(matches!(none, Err(HttpError::NoEndpoint)));
    }

    #[test]
    fn keys_are_not_sent_in_clear() {
        let check = |url: &str, is_sent: bool| {
            let key = || Some((ApiKey::new("s3cret"), KeyPlace::Parameter("key")));
            let new = |key| HttpClient::new("x", &[url.to_owned()], key, config(), Arc::default());
            match (new(key()), is_sent) {
                (Ok(_), true) => {}
                (Err(HttpError::PlainKey { endpoint }), false) => assert_eq!(endpoint, url),
                (other, _) => panic!("{url}: {other:?}"),
            }
            assert!(new(None).is_ok(), "{url}");
        };
        for url in [
            "http://example.com",
            "http://8.8.8.8:80",
            "http://[2001:db8::1]:80",
            "http://134744072",
            "http://0x8080808",
        ] {
            check(url, false);
        }
        for url in [
            "https://example.com",
            "http://localhost:1",
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://10.0.0.5:8000",
            "http://192.168.1.2",
            "http://gpu-1:8000",
            "http://llm.internal",
        ] {
            check(url, true);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Tue, 01 Jul 2025 00:00:00 GMT").unwrap();
        let check = |value: &str, expected: Option<u64>| {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        };
        check("7", Some(7));
        check("Tue, 01 Jul 2025 00:01:00 GMT", Some(60));
        check("Mon, 30 Jun 2025 00:00:00 GMT", Some(0));
        check("soon", None);
        check("-3", None);
        check("", None);
        let day = Some(86_400);
        check("86401", day);
        check("18446744073709551615", day);
        check("99999999999999999999999999", day);
        check("Fri, 31 Dec 9999 23:59:59 GMT", day);
    }

    #[test]
    fn a_server_may_ask_for_any_wait() {
        for wait in ["18446744073709551615", "9223372036854775807", "99999999999999999999"] {
            let busy = CannedResponse::status(503, "busy").with(&format!("Retry-After: {wait}"));
            check(vec![busy], config(), Err("gave up after 1 attempts"), 1);
        }
    }
}
