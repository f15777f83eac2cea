//! The Hugging Face hub over HTTP: what a repository holds, and its files, resumed where a download
//! broke off.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, RANGE};

use super::catalogue::RepoKind;

/// Attempts in a row that bring nothing before a download is given up.
const MAX_ATTEMPTS: u32 = 5;

/// A hub.
#[derive(Debug)]
pub(super) struct Hub {
    endpoint: String,
    token: Option<String>,
    agent: ureq::Agent,
    /// Waited before the second attempt; twice as long before each further one.
    backoff: Duration,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Known for large files.
    pub(super) sha256: Option<String>,
}

#[derive(Deserialize)]
struct TreeEntry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

impl Hub {
    /// A hub at an address; the token goes to that address only, not to where it redirects.
    pub(super) fn new(endpoint: &str, token: Option<String>, backoff: Duration) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build()
            .into();
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token, agent, backoff }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every file of a repository.
    pub(super) fn files(
        &self,
        kind: RepoKind,
        repo: &str,
        revision: &str,
    ) -> Result<Vec<RemoteFile>> {
        let kind = match kind {
            RepoKind::Dataset => "datasets",
            RepoKind::Model => "models",
        };
        let url = format!("{}/api/{kind}/{repo}/tree/{revision}?recursive=true", self.endpoint);
        let mut entries: Vec<TreeEntry> = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next {
            let response = self.get(&url, 0)?;
            next = next_page(response.headers());
            let text = response
                .into_body()
                .read_to_string()
                .with_context(|| format!("{url}: cannot read the answer"))?;
            let page: Vec<TreeEntry> =
                serde_json::from_str(&text).with_context(|| format!("{url}: no list of files"))?;
            entries.extend(page);
        }
        let files = entries.into_iter().filter(|it| it.r#type == "file");
        Ok(files
            .map(|it| RemoteFile {
                bytes: it.lfs.as_ref().map_or(it.size, |lfs| lfs.size),
                sha256: it.lfs.map(|lfs| lfs.oid.trim_start_matches("sha256:").to_owned()),
                path: it.path,
            })
            .collect())
    }

    /// Downloads a file to `partial`, going on where an earlier download broke off. `on_bytes` hears
    /// how many bytes there are.
    ///
    /// What fails for a reason that may pass (a broken connection, a busy server) is tried again, up
    /// to five times in a row without a new byte.
    pub(super) fn download(
        &self,
        kind: RepoKind,
        repo: &str,
        revision: &str,
        file: &RemoteFile,
        partial: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let prefix = if kind == RepoKind::Dataset { "datasets/" } else { "" };
        let path: Vec<String> = file.path.split('/').map(percent_encoded).collect();
        let path = path.join("/");
        let url = format!("{}/{prefix}{repo}/resolve/{revision}/{path}", self.endpoint);
        let mut attempt = 0;
        loop {
            let before = size(partial);
            if before == file.bytes && partial.exists() {
                return Ok(());
            }
            let error = match self.attempt(&url, before, partial, on_bytes) {
                Ok(()) if size(partial) == file.bytes => return Ok(()),
                Ok(()) if size(partial) > file.bytes => {
                    fs::remove_file(partial)?;
                    anyhow::anyhow!("{url}: more than the {} bytes that were announced", file.bytes)
                }
                Ok(()) => anyhow::anyhow!("{url}: the connection ended early"),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => error,
            };
            attempt = if size(partial) > before { 1 } else { attempt + 1 };
            if attempt >= MAX_ATTEMPTS {
                return Err(error.context(format!("given up after {MAX_ATTEMPTS} attempts")));
            }
            std::thread::sleep(self.backoff * 2_u32.pow(attempt - 1));
        }
    }

    fn attempt(
        &self,
        url: &str,
        start: u64,
        partial: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let response = self.get(url, start)?;
        let continues = response.status() == StatusCode::PARTIAL_CONTENT
            && response.headers().get(CONTENT_RANGE).is_some_and(|it| {
                it.to_str().is_ok_and(|it| it.starts_with(&format!("bytes {start}-")))
            });
        let broken = |error: std::io::Error| {
            Failure::Passing(anyhow::Error::new(error).context(format!("{url}: broke off")))
        };
        let unwritable = |error: std::io::Error| {
            let context = format!("{}: cannot write", partial.display());
            Failure::Final(anyhow::Error::new(error).context(context))
        };
        let mut options = OpenOptions::new();
        options.create(true).append(continues).write(true).truncate(!continues);
        let mut file: File = options.open(partial).map_err(unwritable)?;
        let mut total = if continues { start } else { 0 };
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                return file.sync_data().map_err(unwritable);
            }
            file.write_all(&buffer[..count]).map_err(unwritable)?;
            total += count as u64;
            on_bytes(total);
        }
    }

    fn get(&self, url: &str, start: u64) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| {
            Failure::Passing(anyhow::Error::new(error).context(format!("{url}: no answer")))
        })?;
        let status = response.status();
        let hint = match status.as_u16() {
            200 | 206 => return Ok(response),
            401 | 403 => "set HF_TOKEN to a token that may read it",
            404 => "there is no such repository, revision or file, or HF_TOKEN may not see it",
            408 | 425 | 429 | 500..=599 => {
                return Err(Failure::Passing(anyhow::anyhow!("{url}: status {status}")));
            }
            _ => "the hub refuses it",
        };
        Err(Failure::Final(anyhow::anyhow!("{url}: status {status}; {hint}")))
    }
}

/// Why an attempt failed, and whether another makes sense.
enum Failure {
    Final(anyhow::Error),
    Passing(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Final(error) | Failure::Passing(error) => error,
        }
    }
}

/// The address of the next page of a list.
fn next_page(headers: &ureq::http::HeaderMap) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|it| it.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

fn percent_encoded(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

/// Refuses a path that would leave the folder that it is meant for.
pub(super) fn check_path(path: &str) -> Result<()> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
    if !path.split('/').all(is_plain) {
        bail!("`{path}` is no path inside a repository");
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;

    const TREE: &str = r#"[{"type":"directory","path":"data"},
        {"type":"file","path":"data/a b.jsonl","size":10,"oid":"x",
         "lfs":{"oid":"6bc14bdc4517a7a682c6910de2e2946eb8e1ecd04090728fef6d092a7ceb62c5","size":20}},
        {"type":"file","path":"README.md","size":3,"oid":"y"}]"#;
    const FILE: &[u8] = b"0123456789abcdefghij";
    /// What `sha256sum` prints for it.
    const SHA256: &str = "6bc14bdc4517a7a682c6910de2e2946eb8e1ecd04090728fef6d092a7ceb62c5";

    /// A hub on this machine. The first download breaks off after 8 bytes; tokens stay here.
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
            () if !is_known => ("401 Unauthorized", String::new(), b"", 0),
            () if line.contains("/tree/") => ("200 OK", String::new(), TREE.as_bytes(), TREE.len()),
            () if line.contains("busy") => ("503 Busy", String::new(), b"", 0),
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
        Hub::new(&serve(requests), Some(token.to_owned()), Duration::ZERO)
    }

    fn file(path: &str) -> RemoteFile {
        RemoteFile { path: path.to_owned(), bytes: 20, sha256: None }
    }

    #[test]
    fn lists_and_resumes() {
        let requests = Arc::default();
        let hub = hub(&requests, "secret");
        let files = hub.files(RepoKind::Dataset, "o/n", "main").unwrap();
        let large = RemoteFile { sha256: Some(SHA256.into()), ..file("data/a b.jsonl") };
        let small = RemoteFile { path: "README.md".into(), bytes: 3, sha256: None };
        assert_eq!(files, [large.clone(), small]);
        let dir = tempfile::tempdir().unwrap();
        let partial = dir.path().join("x.partial");
        let mut seen = 0;
        hub.download(RepoKind::Dataset, "o/n", "main", &large, &partial, &mut |it| seen = it)
            .unwrap();
        assert_eq!(fs::read(&partial).unwrap(), FILE);
        assert_eq!(seen, 20);
        let requests = requests.lock().unwrap().join("\n");
        assert!(requests.contains("get /api/datasets/o/n/tree/main?recursive=true"), "{requests}");
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
        let error = hub
            .download(RepoKind::Model, "o/n", "main", &file(path), &partial, &mut |_| {})
            .unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains(expected) && message.contains(path), "{message}");
    }

    #[test]
    fn says_what_to_do() {
        check_refuses("wrong", "config.json", "HF_TOKEN");
        check_refuses("secret", "nowhere", "no such repository, revision or file");
        check_refuses("secret", "busy", "given up after 5 attempts");
    }

    #[test]
    fn paths_stay_inside() {
        assert!(check_path("data/train.parquet").is_ok());
        for path in ["../x", "/etc/passwd", "a//b", "", "a\\b", "c:/x"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}
