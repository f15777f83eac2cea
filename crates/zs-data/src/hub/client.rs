//! Client of the Hugging Face hub: lists of files, and downloads that resume.
//!
//! Addresses, headers and connections are those of the crate hf-hub. Its own downloads are not used:
//! they have no deadlines, do not check that a server honours the range of a resumed download, and
//! send the token to the host that a download is redirected to.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use ureq::http::{Response, StatusCode};
use ureq::typestate::WithoutBody;
use ureq::{Body, RequestBuilder};

use super::HubError;

/// Attempts in a row without a new byte before a download is given up.
const MAX_ATTEMPTS: usize = 5;
/// Times that a download is resumed after it has got new bytes.
const MAX_RESUMES: usize = 1000;
/// Bytes of a list of files.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// Bytes of a path that addresses write otherwise.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Client of a hub.
pub struct Hub {
    endpoint: String,
    api: Api,
    backoff: ExponentialBuilder,
}

/// File of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
}

/// Checksum that the hub gives for a file, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// SHA-256 of the contents, for large files.
    Sha256(String),
    /// SHA-1 that git names the contents by, for small files.
    GitBlob(String),
}

/// Files of a repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// Commit that the revision stands for, if the hub tells.
    pub(super) commit: Option<String>,
    pub(super) files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct RepoInfo {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: u64,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: String,
    size: u64,
}

impl Hub {
    /// Creates a client; the token goes to `endpoint` only, not to hosts that it redirects to.
    ///
    /// # Errors
    ///
    /// Fails where no client can be made.
    pub fn new(endpoint: &str, token: Option<SecretString>) -> Result<Self, HubError> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        // The cache of hf-hub is not used; a relative path spares it the search for a home directory.
        let api = ApiBuilder::from_cache(Cache::new("hub".into()))
            .with_endpoint(endpoint.clone())
            .with_token(token.map(|it| it.expose_secret().to_owned()))
            .build()
            .map_err(|it| HubError::Client { problem: it.to_string() })?;
        let backoff = ExponentialBuilder::new().with_max_times(MAX_ATTEMPTS - 1);
        Ok(Self { endpoint, api, backoff }.with_backoff(Duration::from_secs(1)))
    }

    /// Creates a client with the token of `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or the file that
    /// `hf auth login` writes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_env(endpoint: &str) -> Result<Self, HubError> {
        let variable = |name: &&str| std::env::var(name).ok().filter(|it| !it.trim().is_empty());
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(variable);
        let has_home = std::env::var_os("HF_HOME").is_some() || std::env::home_dir().is_some();
        let token = token.or_else(|| has_home.then(|| Cache::from_env().token()).flatten());
        Self::new(endpoint, token.map(|it| it.trim().into()))
    }

    /// Waits this long before a second attempt, and twice as long before each further one.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration) -> Self {
        self.backoff = self.backoff.with_min_delay(first);
        self
    }

    /// Address of the hub.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Lists every file of a repository, from one reply: no link to a further page is followed.
    pub(super) fn files(&self, repo: &Repo) -> Result<Listing, HubError> {
        let url = format!("{}/api/{}", self.endpoint, repo.api_url());
        let list = || -> Result<String, HubError> {
            let request = self.request(repo).query("blobs", "true");
            let mut body = send(request, &url)?.into_body();
            body.with_config().limit(MAX_LIST_BYTES).read_to_string().map_err(interrupted(&url))
        };
        let text = list.retry(self.backoff).sleep(std::thread::sleep).when(is_passing).call();
        let text = text.map_err(given_up)?;
        let info: RepoInfo =
            serde_json::from_str(&text).map_err(|error| HubError::Reply { url, error })?;
        let files = info.siblings.into_iter().map(|it| {
            let (bytes, checksum) = match (it.lfs, it.blob_id) {
                (Some(lfs), _) => (lfs.size, Checksum::Sha256(lfs.sha256)),
                (None, Some(id)) => (it.size, Checksum::GitBlob(id)),
                (None, None) => return Err(HubError::NoChecksum { path: it.rfilename }),
            };
            Ok(RemoteFile { path: it.rfilename, bytes, checksum })
        });
        Ok(Listing { commit: info.sha, files: files.collect::<Result<_, _>>()? })
    }

    /// Downloads a file to `partial`, from where an earlier download broke off. `on_bytes` is given
    /// the number of bytes that are there.
    ///
    /// A failure for a reason that may pass (a broken connection, a busy server) is tried again, up
    /// to five times in a row without a new byte.
    pub(super) fn download(
        &self,
        repo: &Repo,
        file: &RemoteFile,
        partial: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let path = utf8_percent_encode(&file.path, ESCAPED).to_string();
        let url = self.api.repo(repo.clone()).url(&path);
        for _ in 0..MAX_RESUMES {
            let before = size(partial);
            let attempt = || self.attempt(repo, &url, file.bytes, partial, on_bytes);
            let result = attempt
                .retry(self.backoff)
                .sleep(std::thread::sleep)
                .when(|it| is_passing(it) && size(partial) <= before)
                .call();
            match result {
                Err(error) if is_passing(&error) && size(partial) > before => {}
                result => return result.map_err(given_up),
            }
        }
        let problem = "the connection ends again and again".to_owned();
        Err(HubError::GivenUp {
            attempts: MAX_RESUMES,
            last: Box::new(HubError::Interrupted { url, problem }),
        })
    }

    fn attempt(
        &self,
        repo: &Repo,
        url: &str,
        bytes: u64,
        partial: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let unwritable = HubError::file(partial, "write");
        let mut start = size(partial);
        if start > bytes {
            fs::remove_file(partial).map_err(&unwritable)?;
            start = 0;
        }
        if start == bytes && partial.exists() {
            return Ok(());
        }
        // Ranges count the bytes of the file, not those of a compressed form.
        let mut request = self.request(repo).uri(url).header(ACCEPT_ENCODING, "identity");
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = send(request, url)?;
        let continues = response.status() == StatusCode::PARTIAL_CONTENT
            && response.headers().get(CONTENT_RANGE).is_some_and(|it| {
                it.to_str().is_ok_and(|it| it.starts_with(&format!("bytes {start}-")))
            });
        let mut options = OpenOptions::new();
        options.create(true).append(continues).write(true).truncate(!continues);
        let mut file = options.open(partial).map_err(&unwritable)?;
        let mut total = if continues { start } else { 0 };
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).map_err(interrupted(url))?;
            if count == 0 {
                break;
            }
            total += count as u64;
            if total > bytes {
                fs::remove_file(partial).map_err(&unwritable)?;
                return Err(HubError::TooLong { url: url.to_owned(), bytes });
            }
            file.write_all(&buffer[..count]).map_err(&unwritable)?;
            on_bytes(total);
        }
        file.sync_data().map_err(&unwritable)?;
        if total == bytes {
            return Ok(());
        }
        let problem = "the connection ended early".to_owned();
        Err(HubError::Interrupted { url: url.to_owned(), problem })
    }

    /// A request with the headers of hf-hub, and deadlines.
    fn request(&self, repo: &Repo) -> RequestBuilder<WithoutBody> {
        self.api
            .repo(repo.clone())
            .info_request()
            .config()
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

fn send(request: RequestBuilder<WithoutBody>, url: &str) -> Result<Response<Body>, HubError> {
    let response = request.call().map_err(interrupted(url))?;
    let status = response.status().as_u16();
    let hint = match status {
        200 | 206 => return Ok(response),
        401 | 403 => "set HF_TOKEN to a token that may read it",
        404 => "there is no such repository, revision or file, or HF_TOKEN may not see it",
        408 | 425 | 429 | 500..=599 => return Err(interrupted(url)(format!("status {status}"))),
        _ => "the hub refuses it",
    };
    Err(HubError::Refused { url: url.to_owned(), status, hint })
}

/// Returns a constructor of [`HubError::Interrupted`].
fn interrupted<E: fmt::Display>(url: &str) -> impl Fn(E) -> HubError {
    move |error| HubError::Interrupted { url: url.to_owned(), problem: error.to_string() }
}

fn is_passing(error: &HubError) -> bool {
    matches!(error, HubError::Interrupted { .. })
}

fn given_up(error: HubError) -> HubError {
    match error {
        HubError::Interrupted { .. } => {
            HubError::GivenUp { attempts: MAX_ATTEMPTS, last: Box::new(error) }
        }
        other => other,
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

/// Refuses a path that would leave the folder that it is meant for.
pub(super) fn check_path(path: &str) -> Result<(), HubError> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
    if !path.split('/').all(is_plain) {
        return Err(HubError::UnsafePath { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use hf_hub::RepoType;

    use super::*;

    const INFO: &str = r#"{"id":"o/n","sha":"c0","siblings":[
        {"rfilename":"data/a b.jsonl","size":20,"blobId":"x","lfs":
         {"sha256":"6bc14bdc4517a7a682c6910de2e2946eb8e1ecd04090728fef6d092a7ceb62c5","size":20}},
        {"rfilename":"data/small.jsonl","size":20,"blobId":"56ff40728f21b53527a89782b698b6b9cf15bc65"},
        {"rfilename":"README.md","size":3,"blobId":"y"}]}"#;
    const FILE: &[u8] = b"0123456789abcdefghij";
    /// Output of `sha256sum` for it.
    const SHA256: &str = "6bc14bdc4517a7a682c6910de2e2946eb8e1ecd04090728fef6d092a7ceb62c5";

    /// Starts a hub on this machine, whose first download breaks off after 8 bytes.
    fn serve(requests: &Arc<Mutex<Vec<String>>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::clone(requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &requests);
            }
        });
        address
    }

    fn answer(mut stream: TcpStream, requests: &Mutex<Vec<String>>) {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while reader.read_line(&mut head).unwrap() > 2 {}
        let head = head.to_lowercase();
        let line = head.lines().next().unwrap_or_default().to_owned();
        let range = head.lines().find_map(|it| it.strip_prefix("range: bytes=")).map(str::to_owned);
        let is_known = head.contains("authorization: bearer secret");
        let count = {
            let mut requests = requests.lock().unwrap();
            requests.push(format!("{line} {range:?}"));
            requests.len()
        };
        let (status, extra, body, announced): (_, _, &[u8], _) = match () {
            () if line.contains("/elsewhere") && is_known => ("418 Leak", String::new(), b"", 0),
            () if line.contains("/elsewhere") => ("200 OK", String::new(), FILE, 20),
            () if !is_known => ("401 Unauthorized", String::new(), b"", 0),
            () if line.contains("moved") => {
                let port = stream.local_addr().unwrap().port();
                let extra = format!("Location: http://localhost:{port}/elsewhere\r\n");
                ("302 Found", extra, b"", 0)
            }
            () if line.contains("/api/") => {
                // A further page, which is never asked for.
                let extra = "Link: <http://localhost:1/elsewhere>; rel=\"next\"\r\n".to_owned();
                ("200 OK", extra, INFO.as_bytes(), INFO.len())
            }
            () if line.contains("busy") => ("503 Busy", String::new(), b"", 0),
            () if line.contains("endless") => {
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                // Ends when the other side does.
                _ = stream.write_all(head.as_bytes());
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
                return;
            }
            () if line.contains("small.jsonl") => ("200 OK", String::new(), FILE, 20),
            () if !line.contains("a%20b.jsonl") => ("404 Not Found", String::new(), b"", 0),
            () => match range {
                Some(range) => {
                    let start: usize = range.trim_end_matches('-').parse().unwrap();
                    let extra = format!("Content-Range: bytes {start}-19/20\r\n");
                    ("206 Partial Content", extra, &FILE[start..], 20 - start)
                }
                None if count < 3 => ("200 OK", String::new(), &FILE[..8], 20),
                None => ("200 OK", String::new(), FILE, 20),
            },
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Length: {announced}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
    }

    pub(crate) fn hub(requests: &Arc<Mutex<Vec<String>>>, token: &str) -> Hub {
        Hub::new(&serve(requests), Some(token.into())).unwrap().with_backoff(Duration::ZERO)
    }

    fn file(path: &str) -> RemoteFile {
        RemoteFile { path: path.to_owned(), bytes: 20, checksum: Checksum::GitBlob("y".into()) }
    }

    #[test]
    fn lists_and_resumes() {
        let requests = Arc::default();
        let hub = hub(&requests, "secret");
        let repo = Repo::with_revision("o/n".to_owned(), RepoType::Dataset, "main".to_owned());
        let Listing { commit, files } = hub.files(&repo).unwrap();
        let large =
            RemoteFile { checksum: Checksum::Sha256(SHA256.into()), ..file("data/a b.jsonl") };
        let small = RemoteFile { bytes: 3, ..file("README.md") };
        assert_eq!(commit.as_deref(), Some("c0"));
        assert_eq!((&files[0], &files[2], files.len()), (&large, &small, 3));
        let dir = tempfile::tempdir().unwrap();
        let partial = dir.path().join("x.partial");
        let mut seen = 0;
        hub.download(&repo, &large, &partial, &mut |it| seen = it).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), FILE);
        assert_eq!(seen, 20);
        let requests = requests.lock().unwrap().join("\n");
        assert!(requests.contains("get /api/datasets/o/n/revision/main?blobs=true"), "{requests}");
        assert!(
            requests.ends_with("resolve/main/data/a%20b.jsonl http/1.1 Some(\"8-\")"),
            "{requests}"
        );
    }

    #[track_caller]
    fn check_refuses(token: &str, path: &str, expected: &str) {
        let requests = Arc::default();
        let hub = hub(&requests, token);
        let dir = tempfile::tempdir().unwrap();
        let partial = dir.path().join("x.partial");
        let repo = Repo::new("o/n".to_owned(), RepoType::Model);
        let error = hub.download(&repo, &file(path), &partial, &mut |_| {}).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains(path), "{message}");
        assert!(size(&partial) <= 20, "{message}");
    }

    #[test]
    fn says_what_to_do() {
        check_refuses("wrong", "config.json", "HF_TOKEN");
        check_refuses("secret", "nowhere", "no such repository, revision or file");
        check_refuses("secret", "busy", "gave up after 5 attempts");
        check_refuses("secret", "endless", "sent more than the 20 bytes that it announced");
    }

    #[test]
    fn the_token_stays_with_the_hub() {
        let requests = Arc::default();
        let dir = tempfile::tempdir().unwrap();
        let partial = dir.path().join("x.partial");
        let repo = Repo::new("o/n".to_owned(), RepoType::Model);
        hub(&requests, "secret").download(&repo, &file("moved"), &partial, &mut |_| {}).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), FILE);
        assert!(requests.lock().unwrap()[1].starts_with("get /elsewhere"));
    }

    #[test]
    fn paths_stay_inside() {
        assert!(check_path("data/train.parquet").is_ok());
        for path in ["../x", "/etc/passwd", "a//b", "", "a\\b", "c:/x"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}
