//! A running server: its threads, its address, and its end.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::app::App;
use crate::{ServeConfig, ServeError, Services, listener};

/// A server on threads of its own. Dropping it stops it, as [`stop`](Self::stop) does.
///
/// The example at the top of the crate sends a request to one.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Server {
    /// Binds the address and serves until stopped.
    ///
    /// # Errors
    ///
    /// Fails when a setting is out of range, no service is given, or the address cannot be bound.
    ///
    /// ```
    /// use zs_serve::{ServeConfig, Server, Services};
    ///
    /// let error = Server::start(ServeConfig::default(), Services::default()).unwrap_err();
    /// assert!(error.to_string().contains("give a search engine, a model, or both"));
    /// ```
    pub fn start(config: ServeConfig, services: Services) -> Result<Self, ServeError> {
        if services.engine.is_none() && services.model.is_none() {
            return Err(ServeError::NoService);
        }
        config.check()?;
        if services.admin.as_ref().is_some_and(|it| it.token.is_empty()) {
            return Err(ServeError::Setting {
                field: "admin.token",
                allowed: "a text of at least one character".to_owned(),
                value: "empty".to_owned(),
            });
        }
        let failed =
            |source| ServeError::Start { what: "the threads of the server".to_owned(), source };
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("zs-serve")
            .enable_all()
            .build()
            .map_err(failed)?;
        let address = config.address;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(|source| ServeError::Listen { address, source })?;
        let address =
            listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
        let app = App::new(config.clone(), services)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            // An error means that the sender was dropped, which stops the server too.
            let stopped = async { stopped.await.unwrap_or(()) };
            runtime.block_on(listener::serve(listener, app, &config, stopped))
        };
        let thread = std::thread::Builder::new().name("zs-serve".to_owned());
        let thread = thread.spawn(serve).map_err(failed)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, finishes the accepted requests, and returns.
    ///
    /// # Errors
    ///
    /// Fails when accepted requests did not finish within the drain timeout.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.finish()
    }

    /// Serves until the process receives SIGINT or SIGTERM, then stops as [`stop`](Self::stop) does.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop), and when the signals cannot be handled.
    pub fn run_until_signal(self) -> Result<(), ServeError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.and_then(|it| it.block_on(listener::stop_signal())).map_err(ServeError::Signal)?;
        self.stop()
    }

    fn finish(&mut self) -> Result<(), ServeError> {
        // The receiver is gone only when the server has ended by itself, which `join` reports.
        let _ = self.stop.take().map(|it| it.send(()));
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Callers that need the result call `stop`.
        let _ = self.finish();
    }
}
