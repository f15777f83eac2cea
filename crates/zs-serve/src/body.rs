//! Bodies of requests, read within limits of size, time and memory over all requests.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::ServeConfig;
use crate::api_error::ApiError;

/// Bytes of each body that are not counted, so that small requests are answered while large ones use
/// up the memory for bodies.
const UNCOUNTED: usize = 64 << 10;

/// Memory for the bodies of all requests in progress.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    bytes: Arc<Semaphore>,
    total: usize,
}

/// Share of the memory for bodies, which is taken until this is dropped. Small bodies need none.
pub(crate) type BodyShare = Option<OwnedSemaphorePermit>;

/// A body and its share of the memory.
#[derive(Debug)]
pub(crate) struct ReceivedBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) share: BodyShare,
}

impl BodyBudget {
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(total)), total }
    }

    /// Reads a body.
    pub(crate) async fn read(
        &self,
        config: &ServeConfig,
        mut body: Body,
    ) -> Result<ReceivedBody, ApiError> {
        let limit = config.max_body_bytes;
        if body.size_hint().lower() > limit as u64 {
            return Err(ApiError::TooLarge { limit });
        }
        let deadline = Instant::now() + config.receive_timeout;
        let mut received = ReceivedBody { bytes: Vec::new(), share: None };
        loop {
            let Ok(frame) = timeout_at(deadline, body.frame()).await else {
                return Err(ApiError::Timeout { seconds: config.receive_timeout.as_secs() });
            };
            let Some(frame) = frame else { return Ok(received) };
            let frame = frame.map_err(|error| ApiError::Invalid {
                field: None,
                message: format!("the request body is incomplete: {error}"),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if received.bytes.len() + data.len() > limit {
                return Err(ApiError::TooLarge { limit });
            }
            self.take_share(&mut received, &data)?;
            received.bytes.extend_from_slice(&data);
        }
    }

    /// Takes the memory for more bytes, or fails when there is none.
    fn take_share(&self, received: &mut ReceivedBody, data: &Bytes) -> Result<(), ApiError> {
        let counted = |length: usize| length.saturating_sub(UNCOUNTED);
        let held = received.bytes.len();
        let added = counted(held + data.len()) - counted(held);
        if added == 0 {
            return Ok(());
        }
        let share = u32::try_from(added)
            .ok()
            .and_then(|it| Arc::clone(&self.bytes).try_acquire_many_owned(it).ok())
            .ok_or_else(|| {
                let total = self.total;
                ApiError::Overloaded(format!("bodies of requests fill {total} bytes; retry later"))
            })?;
        match &mut received.share {
            Some(held) => held.merge(share),
            none => *none = Some(share),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(budget: &BodyBudget, length: usize) -> Result<ReceivedBody, ApiError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = ServeConfig { max_body_bytes: 300_000, ..ServeConfig::default() };
        runtime.block_on(budget.read(&config, Body::from(vec![b'x'; length])))
    }

    #[test]
    fn large_bodies_share_memory_and_small_ones_need_none() {
        let budget = BodyBudget::new(300_000);
        let first = read(&budget, 300_000).unwrap();
        assert_eq!(first.bytes.len(), 300_000);
        assert!(matches!(read(&budget, 200_000), Err(ApiError::Overloaded(_))));
        assert_eq!(read(&budget, UNCOUNTED).unwrap().bytes.len(), UNCOUNTED);
        drop(first);
        read(&budget, 200_000).unwrap();
        assert!(matches!(read(&budget, 300_001), Err(ApiError::TooLarge { .. })));
    }
}
