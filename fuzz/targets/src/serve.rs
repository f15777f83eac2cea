//! Requests to `zs serve`: bodies of each route, and anything else that a socket carries.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use zs_model::testing::ScriptedGenerator;
use zs_search::FixedEngine;
use zs_serve::{ServeConfig, ServedModel, Server, Services};

use crate::Scratch;

/// Routes that read a body.
const ROUTES: [&str; 3] = ["/retrieve", "/v1/chat/completions", "/v1/completions"];

/// A server with a search engine and a scripted model.
#[derive(Debug)]
pub(crate) struct Served(Server);

impl Served {
    fn start() -> Self {
        let generator = ScriptedGenerator::new(|_, _| "ok".to_owned()).with_context_length(256);
        let model = ServedModel { name: "m".to_owned(), generator: Arc::new(generator) };
        let engine: Arc<dyn zs_core::SearchEngine> = Arc::new(FixedEngine::default());
        let services = Services { engine: Some(engine), model: Some(model) };
        let config = ServeConfig {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            max_body_bytes: 1 << 20,
            receive_timeout: Duration::from_millis(300),
            ..ServeConfig::default()
        };
        Self(Server::start(config, services).expect("a port of the loopback interface"))
    }

    /// Sends bytes, and returns what comes back until the server closes the connection.
    fn exchange(&self, parts: &[&[u8]]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.0.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        for part in parts {
            // A server may refuse before it has read everything.
            if stream.write_all(part).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        match stream.read_to_end(&mut reply) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server neither answers nor closes the connection")
            }
            _ => Ok(reply),
        }
    }

    fn check(&self, parts: &[&[u8]]) {
        // The ports of the machine may be used up for a while.
        let Ok(reply) = self.exchange(parts) else { return };
        let is_failure = reply.starts_with(b"HTTP/1.1 500");
        assert!(!is_failure, "{}", String::from_utf8_lossy(&reply));
    }
}

pub(crate) fn bodies(scratch: &Scratch, bytes: &[u8]) {
    let served = scratch.served.get_or_init(Served::start);
    for route in ROUTES {
        let head = format!(
            "POST {route} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        served.check(&[head.as_bytes(), bytes]);
    }
}

pub(crate) fn requests(scratch: &Scratch, bytes: &[u8]) {
    scratch.served.get_or_init(Served::start).check(&[bytes]);
}
