//! `POST /retrieve` over loopback beside the same searches as plain calls.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use zs_core::{DocumentQuality, SearchEngine, SearchRequest};
use zs_search::Bm25Engine;
use zs_serve::{ServeConfig, Server, Services};

use crate::{Result, Workload};

/// Clients side by side.
const CLIENTS: [usize; 3] = [1, 8, 64];
/// Requests of each setting.
const REQUESTS: usize = 8000;

pub(crate) fn bench(workload: &Workload, k: usize) -> Result<Value> {
    let engine: Arc<dyn SearchEngine> =
        Arc::new(Bm25Engine::from_documents(workload.passages.clone())?);
    let plain = plain_calls(engine.as_ref(), workload, k)?;
    println!("  plain calls: {plain}");
    let config = ServeConfig {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..ServeConfig::default()
    };
    let server = Server::start(config, Services { engine: Some(engine), ..Services::default() })?;
    let mut json = json!({ "plain": plain.json() });
    for num_clients in CLIENTS {
        let served = clients(server.address(), workload, k, num_clients)?;
        println!("  {num_clients} clients: {served}");
        json[format!("clients_{num_clients}")] = served.json();
        if num_clients == 1 {
            let overhead = served.quantile(0.5) - plain.quantile(0.5);
            println!("  overhead at the median: {:.3} ms", 1e3 * overhead);
            json["overhead_p50_ms"] = (1e3 * overhead).into();
        }
    }
    server.stop()?;
    Ok(json)
}

/// Seconds of every request, in order, and of all together.
struct Latencies {
    sorted: Vec<f64>,
    seconds: f64,
}

impl Latencies {
    fn new(mut each: Vec<f64>, seconds: f64) -> Self {
        each.sort_by(f64::total_cmp);
        Self { sorted: each, seconds }
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let at = (quantile * (self.sorted.len() - 1) as f64).round() as usize;
        self.sorted[at]
    }

    fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.seconds
    }

    fn json(&self) -> Value {
        json!({
            "requests_per_s": self.per_second(),
            "p50_ms": 1e3 * self.quantile(0.5),
            "p99_ms": 1e3 * self.quantile(0.99),
        })
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (1e3 * self.quantile(0.5), 1e3 * self.quantile(0.99));
        write!(f, "{:.0} requests/s, p50 {p50:.3} ms, p99 {p99:.3} ms", self.per_second())
    }
}

fn plain_calls(engine: &dyn SearchEngine, workload: &Workload, k: usize) -> Result<Latencies> {
    let mut each = Vec::with_capacity(REQUESTS);
    let begin = Instant::now();
    for question in workload.questions.iter().cycle().take(REQUESTS) {
        let start = Instant::now();
        let (query, quality) = (question.text.as_str(), DocumentQuality::Useful);
        engine.search(SearchRequest { query, question, quality, read: &[], k, seed: 0 })?;
        each.push(start.elapsed().as_secs_f64());
    }
    Ok(Latencies::new(each, begin.elapsed().as_secs_f64()))
}

/// So many clients, each with a connection that it keeps and one request at a time.
fn clients(
    address: SocketAddr,
    workload: &Workload,
    k: usize,
    num_clients: usize,
) -> Result<Latencies> {
    let begin = Instant::now();
    let each = std::thread::scope(|scope| {
        let client = |first: usize| {
            let questions = workload.questions.iter().cycle().skip(first * 7);
            let mut connection = Connection::open(address).map_err(|it| it.to_string())?;
            let timed = questions.take(REQUESTS / num_clients).map(|question| {
                let body = json!({ "queries": [question.text], "topk": k, "return_scores": true });
                let start = Instant::now();
                connection.post("/retrieve", &body.to_string()).map_err(|it| it.to_string())?;
                Ok(start.elapsed().as_secs_f64())
            });
            timed.collect::<std::result::Result<Vec<f64>, String>>()
        };
        let running: Vec<_> =
            (0..num_clients).map(|first| scope.spawn(move || client(first))).collect();
        let ended = running.into_iter().map(|it| it.join().map_err(|_| "a client panicked"));
        ended.collect::<Vec<_>>()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let mut all = Vec::new();
    for client in each {
        all.extend(client??);
    }
    Ok(Latencies::new(all, seconds))
}

/// HTTP/1.1, as far as this server speaks it: a length, and no chunks.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn post(&mut self, path: &str, body: &str) -> Result<Vec<u8>> {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the server said {line:?}").into());
        }
        let mut length = None;
        while line != "\r\n" {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
        }
        let mut reply = vec![0; length.ok_or("the server sent no length")?];
        self.stream.read_exact(&mut reply)?;
        Ok(reply)
    }
}
