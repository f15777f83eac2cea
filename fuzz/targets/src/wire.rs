//! Bytes that come over a wire: replies of servers to clients, requests of clients to a server.

use crate::Scratch;
use crate::replies::Engines;
use crate::serve::{ROUTES, Served};

pub(crate) fn search_replies(scratch: &Scratch, bytes: &[u8]) {
    let engines = scratch.engines.get_or_init(Engines::start);
    engines.ask(bytes, &engines.search);
}

pub(crate) fn completion_replies(scratch: &Scratch, bytes: &[u8]) {
    let engines = scratch.engines.get_or_init(Engines::start);
    engines.ask(bytes, &engines.completion);
}

pub(crate) fn request_bodies(scratch: &Scratch, bytes: &[u8]) {
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
