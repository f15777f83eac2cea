//! Requests to `zs serve`: bodies of each route, and anything else that a socket carries.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use zs_model::testing::ScriptedGenerator;
use zs_search::FixedEngine;
use zs_serve::{ServeConfig, ServedModel, Server, Services};

/// Routes that read a body.
pub(crate) const ROUTES: [&str; 4] =
    ["/retrieve", "/v1/chat/completions", "/v1/completions", "/inference/v1/generate"];

/// A server with a search engine and a scripted model.
#[derive(Debug)]
pub(crate) struct Served(Server);

impl Served {
    pub(crate) fn start() -> Self {
        let generator = ScriptedGenerator::new(|_, _| "ok".to_owned()).with_context_length(256);
        let model = ServedModel { name: "m".to_owned(), generator: Arc::new(generator) };
        let engine: Arc<dyn zs_core::SearchEngine> = Arc::new(FixedEngine::default());
        let services = Services { engine: Some(engine), model: Some(model), ..Services::default() };
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

    /// Sends bytes; a server must answer, and not with an error of its own.
    pub(crate) fn check(&self, parts: &[&[u8]]) {
        // The ports of the machine may be used up for a while.
        let Ok(reply) = self.exchange(parts) else { return };
        let is_failure = reply.starts_with(b"HTTP/1.1 500");
        assert!(!is_failure, "{}", String::from_utf8_lossy(&reply));
    }
}
