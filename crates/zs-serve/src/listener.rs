//! The accept loop: number of connections, timeouts of requests, graceful shutdown.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::routes;
use crate::{ServeConfig, ServeError};

/// Pause after the system refused a connection, e.g. for lack of file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `stopped`, then lets accepted requests finish.
///
/// A connection that has not sent the head of a request within `receive_timeout` is closed, so that
/// stalled clients block neither connections nor shutdown for longer.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    config: &ServeConfig,
    stopped: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = routes::router(&app);
    let connections = Arc::new(Semaphore::new(config.max_connections));
    let graceful = GracefulShutdown::new();
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(config.receive_timeout).half_close(true);
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let accept = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stopped => break,
        };
        let (Ok(permit), Ok((socket, _))) = (permit, accepted) else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        // Responses are small: with Nagle's algorithm the last packet would wait for the client's ACK.
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(protocol.serve_connection(TokioIo::new(socket), service));
        tokio::spawn(async move {
            // Errors come from the client: it disconnected, or did not send HTTP.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(config.drain_timeout, graceful.shutdown()).await.is_err() {
        return Err(ServeError::DrainTimeout { seconds: config.drain_timeout.as_secs() });
    }
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn stop_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
