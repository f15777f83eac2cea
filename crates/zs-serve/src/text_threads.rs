//! Threads for work on the text of requests: reading JSON, encoding prompts, decoding completions. The
//! threads that answer connections do none of it, so that no text delays another client.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::api_error::ApiError;
use crate::body::{BodyShare, ReceivedBody};

/// Size up to which a text counts as short, in bytes. Short texts do not wait for long ones.
const SHORT: usize = 64 << 10;

/// Numbers of threads at work, by the size of their text.
#[derive(Debug)]
pub(crate) struct TextThreads {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Default for TextThreads {
    fn default() -> Self {
        Self { short: Arc::new(Semaphore::new(2)), long: Arc::new(Semaphore::new(1)) }
    }
}

impl TextThreads {
    /// Reads a body in a thread for it. Returns what was read with the share of the memory for bodies,
    /// which stays taken as long as what was read is needed.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        body: ReceivedBody,
        read: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(T, BodyShare), ApiError> {
        let num_bytes = body.bytes.len();
        self.run(num_bytes, move || Ok((read(&body.bytes)?, body.share))).await
    }

    /// Does some work on a text of this size in a thread for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        num_bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let threads = if num_bytes <= SHORT { &self.short } else { &self.long };
        let failed = |problem: &str| ApiError::Upstream(format!("the text was lost: {problem}"));
        let permit = Arc::clone(threads).acquire_owned().await;
        let permit = permit.map_err(|_| failed("the server stops"))?;
        let work = move || {
            let result = work();
            drop(permit);
            result
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(failed("its thread panicked; see the log of the server")))
    }
}
