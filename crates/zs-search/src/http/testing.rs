//! Small real servers on the loopback interface, which misbehave as they are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::HttpConfig;

/// Settings under which nothing takes long.
#[must_use]
pub fn config() -> HttpConfig {
    HttpConfig {
        max_in_flight: 4,
        connect_timeout_s: 5.0,
        read_timeout_s: 20.0,
        total_timeout_s: 30.0,
        max_attempts: 3,
        backoff_s: 0.001,
        max_backoff_s: 0.001,
        breaker_failures: 100,
        breaker_pause_s: 0.001,
        ..HttpConfig::default()
    }
}

/// Request that a server received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Path and parameters.
    pub target: String,
    /// All headers, in lower case.
    pub headers: String,
    /// Body.
    pub body: String,
}

/// Reply of a server to a request.
#[derive(Clone, Debug)]
pub enum CannedResponse {
    /// A whole reply.
    Whole {
        /// Status code.
        status: u16,
        /// Further header line.
        header: Option<String>,
        /// Body.
        body: Vec<u8>,
    },
    /// Closes the connection without a word.
    HalfClose,
    /// Bytes that are not HTTP.
    Garbage,
    /// A reply that is shorter than its header says.
    Truncated,
    /// Nothing, for longer than any test waits.
    Slow,
    /// Points to somewhere else.
    Redirect,
}

impl CannedResponse {
    /// Creates a reply of status 200.
    #[must_use]
    pub fn ok(body: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::status(200, body)
    }

    /// Creates a reply of another status.
    #[must_use]
    pub fn status(status: u16, body: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::Whole { status, header: None, body: body.as_ref().to_vec() }
    }

    /// Adds a header line.
    #[must_use]
    pub fn with(self, line: &str) -> Self {
        match self {
            Self::Whole { status, body, .. } => {
                Self::Whole { status, header: Some(line.to_owned()), body }
            }
            other => other,
        }
    }
}

/// A server; it stops when it is dropped.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    num_requests: Arc<AtomicUsize>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Starts a server that replies to its n-th request, from 0, as `reply` says.
    pub fn start(
        reply: impl Fn(usize, &Received) -> CannedResponse + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface");
        let address = listener.local_addr().expect("a bound listener has an address");
        let num_requests = Arc::new(AtomicUsize::new(0));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (Arc::clone(&num_requests), Arc::clone(&is_stopped));
        let reply = Arc::new(reply);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (count, reply) = (Arc::clone(&count), Arc::clone(&reply));
                let stopped = Arc::clone(&stopped);
                std::thread::spawn(move || {
                    // A client that went away is part of the test.
                    let _ = stream.map(|it| serve(it, &count, &stopped, reply.as_ref()));
                });
            }
        });
        Self { address, num_requests, is_stopped, thread: Some(thread) }
    }

    /// Address, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Number of requests so far.
    #[must_use]
    pub fn num_requests(&self) -> usize {
        self.num_requests.load(Ordering::SeqCst)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    count: &AtomicUsize,
    is_stopped: &AtomicBool,
    reply: &(dyn Fn(usize, &Received) -> CannedResponse + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut headers, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            headers.push_str(&line);
            headers.push('\n');
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let number = count.fetch_add(1, Ordering::SeqCst);
        match reply(number, &Received { target, headers, body }) {
            CannedResponse::Whole { status, header, body } => {
                let header = header.map(|it| format!("{it}\r\n")).unwrap_or_default();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{header}");
                // In one piece: a second one would wait until the first is acknowledged.
                stream.write_all(&[format!("{head}\r\n").as_bytes(), &body].concat())?;
                stream.flush()?;
            }
            CannedResponse::HalfClose => return stream.shutdown(Shutdown::Both),
            CannedResponse::Garbage => {
                stream.write_all(b"\x00\xff this is not HTTP\r\n\r\n")?;
                return stream.shutdown(Shutdown::Both);
            }
            CannedResponse::Truncated => {
                stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\nok fi")?;
                return stream.shutdown(Shutdown::Both);
            }
            CannedResponse::Slow => {
                while !is_stopped.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
            CannedResponse::Redirect => {
                let line = "Location: http://127.0.0.1:1/";
                write!(stream, "HTTP/1.1 302 X\r\nContent-Length: 0\r\n{line}\r\n\r\n")?;
            }
        }
    }
}
