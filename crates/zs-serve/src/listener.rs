//! The accept loop: number of connections, timeouts of requests, graceful shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::connection::{Client, Socket};
use crate::registry::{Connection, Registry};
use crate::routes;
use crate::{ServeConfig, ServeError};

/// Pause after the system refused a connection, e.g. for lack of file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// Serves connections until `stopped`, then lets accepted requests finish.
///
/// A connection that has not sent the head of a request within `receive_timeout` is closed, so that
/// stalled clients block neither connections nor shutdown for longer. At the maximum of connections,
/// and where the system has no more file descriptors, the oldest one that has no request in progress
/// is closed for a new one, so that clients which send no whole head delay nobody.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    config: &ServeConfig,
    stopped: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = routes::router(&app);
    let permits = Arc::new(Semaphore::new(config.max_connections));
    let registry = Arc::new(Registry::default());
    let graceful = GracefulShutdown::new();
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(config.receive_timeout).half_close(true);
    let mut stopped = std::pin::pin!(stopped);
    for number in 0.. {
        let accept = async {
            let accepted = listener.accept().await;
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => Ok(permit),
                Err(_) => {
                    registry.close_oldest_idle();
                    Arc::clone(&permits).acquire_owned().await
                }
            };
            (permit, accepted)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stopped => break,
        };
        let (Ok(permit), Ok((stream, _))) = (permit, accepted) else {
            registry.close_oldest_idle();
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        // Responses are small: with Nagle's algorithm the last packet would wait for the client's ACK.
        let _ = stream.set_nodelay(true);
        let entry = registry.enter(number);
        let socket = Socket::new(stream, config.send_timeout);
        let service = ConnectionService {
            router: router.clone(),
            client: socket.client(),
            connection: Arc::clone(&entry.connection),
        };
        let connection = protocol.serve_connection(TokioIo::new(socket), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                // Errors come from the client: it disconnected, or did not send HTTP.
                _ = connection => {}
                () = entry.connection.told_to_close() => {}
            }
            drop((permit, entry));
        });
    }
    drop(listener);
    if tokio::time::timeout(config.drain_timeout, graceful.shutdown()).await.is_err() {
        return Err(ServeError::DrainTimeout { seconds: config.drain_timeout.as_secs() });
    }
    Ok(())
}

/// Routes, as one connection asks them.
#[derive(Debug)]
struct ConnectionService {
    router: Router,
    client: Client,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = self.connection.busy();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.client.clone());
        let responding = TowerToHyperService::new(self.router.clone()).call(request);
        Box::pin(async move {
            let response = responding.await?;
            // The connection is busy until the last part of the response is taken.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &busy;
                    frame
                }))
            }))
        })
    }
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
