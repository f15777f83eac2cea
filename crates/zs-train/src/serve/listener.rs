//! The accept loop: how many connections there are, how long their requests may take to arrive, and
//! how they end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::ServeConfig;
use super::app::App;

/// How long to wait after the system refused a connection, e.g. for want of file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `stopped`, then lets accepted requests finish.
///
/// A connection that has not sent a request's head within `receive_timeout` is closed, so clients
/// that stall cannot keep the server's connections, nor its shutdown, for longer.
pub(super) async fn serve(
    listener: TcpListener,
    app: App,
    config: &ServeConfig,
    stopped: impl Future<Output = ()>,
) -> Result<()> {
    let router = app.router();
    let connections = Arc::new(Semaphore::new(config.max_connections));
    let graceful = GracefulShutdown::new();
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(config.receive_timeout).half_close(true);
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let accept = async {
            let place = Arc::clone(&connections).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stopped => break,
        };
        let (Ok(place), Ok((socket, _))) = (place, accepted) else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        // Answers are small; without this, the last packet of each would wait for the client's ACK.
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(protocol.serve_connection(TokioIo::new(socket), service));
        tokio::spawn(async move {
            // An error is the client's: it went away, or spoke no HTTP.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(config.drain_timeout, graceful.shutdown()).await.is_err() {
        let seconds = config.drain_timeout.as_secs();
        bail!("some requests had not finished {seconds} s after the server was told to stop");
    }
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub(super) async fn stop_signal() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result.context("cannot wait for SIGINT"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}
