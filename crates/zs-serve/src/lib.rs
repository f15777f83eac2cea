//! HTTP server for search engines and language models of `zs`: trainers in any language can search
//! with a [`SearchEngine`](zs_core::SearchEngine) and sample from a [`Generator`](zs_model::Generator).
//!
//! ```text
//! connection -> listener (limits, timeouts) -> routes (origin, token, admission)
//!            -> retrieve | completion -> batchers: threads that call the engine or the model
//! ```
//!
//! A batcher collects the requests of all connections into batches for the engine or the model. Short
//! requests have a separate batcher, and large ones are split into parts that take turns.
//!
//! **Invariant:** this crate alone is asynchronous. Engines and models stay synchronous, and are called
//! from separate threads; the threads that answer connections process no text.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{Ipv4Addr, SocketAddr, TcpStream};
//! use std::sync::Arc;
//! use zs_core::Document;
//! use zs_serve::{ServeConfig, Server, Services};
//! use zs_search::FixedEngine;
//!
//! let engine = Arc::new(FixedEngine::new(vec![Document::new("Bamboo", "A grass.")]));
//! let services = Services { engine: Some(engine), ..Services::default() };
//! let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
//! let server = Server::start(ServeConfig { address, ..ServeConfig::default() }, services)?;
//!
//! let body = r#"{"queries": ["grass"], "topk": 1, "return_scores": false}"#;
//! let mut socket = TcpStream::connect(server.address())?;
//! write!(
//!     socket,
//!     "POST /retrieve HTTP/1.1\r\nHost: zs\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
//!     body.len(),
//! )?;
//! let mut response = String::new();
//! socket.read_to_string(&mut response)?;
//! assert!(response.ends_with(r#"{"result":[[{"id":"","contents":"\"Bamboo\"\nA grass."}]]}"#));
//! server.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admin;
mod api_error;
mod app;
mod auth;
mod batcher;
mod body;
mod completion;
mod config;
mod connection;
mod error;
mod json;
mod listener;
mod metrics;
mod origin;
mod registry;
mod retrieve;
mod routes;
mod sample_worker;
mod search_worker;
mod server;
mod text_threads;
mod weights;

pub use batcher::BatchConfig;
pub use config::{Admin, LoadModel, ServeConfig, ServedModel, Services};
pub use error::ServeError;
pub use server::Server;
