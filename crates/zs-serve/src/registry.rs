//! Connections that are open, and which of them may be closed to make room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Open connections in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

/// State of one connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Requests whose heads have arrived and whose responses are not written.
    num_requests: AtomicUsize,
    closed: Notify,
}

/// Entry of a connection, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Arc<Registry>,
    number: u64,
    pub(crate) connection: Arc<Connection>,
}

/// Mark of a request in progress on its connection.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Registry {
    pub(crate) fn enter(self: &Arc<Self>, number: u64) -> Entry {
        let connection = Arc::new(Connection::default());
        self.lock().insert(number, Arc::clone(&connection));
        Entry { registry: Arc::clone(self), number, connection }
    }

    /// Tells the oldest connection without a request in progress to close. One that has sent half of a
    /// head is such a connection.
    pub(crate) fn close_oldest_idle(&self) {
        let mut connections = self.lock();
        let idle = connections.iter().find(|(_, it)| it.num_requests.load(Ordering::Acquire) == 0);
        if let Some(number) = idle.map(|(number, _)| *number)
            && let Some(connection) = connections.remove(&number)
        {
            connection.closed.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Marks the connection until the mark is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.num_requests.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Waits until the connection is told to close.
    pub(crate) async fn told_to_close(&self) {
        self.closed.notified().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.num_requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(entry: &Entry) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = entry.connection.told_to_close();
        runtime
            .block_on(async { tokio::time::timeout(std::time::Duration::ZERO, told).await })
            .is_ok()
    }

    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let registry = Arc::new(Registry::default());
        let entries: Vec<Entry> = (0..3).map(|it| registry.enter(it)).collect();
        let busy = entries[0].connection.busy();
        registry.close_oldest_idle();
        assert_eq!(entries.iter().map(is_told).collect::<Vec<_>>(), [false, true, false]);
        drop(busy);
        registry.close_oldest_idle();
        assert_eq!(entries.iter().map(is_told).collect::<Vec<_>>(), [true, false, false]);
        drop(entries);
        registry.close_oldest_idle();
        assert!(registry.lock().is_empty());
    }
}
