//! Choice of the server that is asked next: the one with the least to do, among those that are not
//! paused after failures.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::HttpError;

/// Servers with what each is doing, and a limit on what all are doing together.
#[derive(Debug)]
pub(super) struct Pool {
    servers: Mutex<Vec<Server>>,
    freed: Condvar,
    max_in_flight: usize,
    max_failures: u32,
    pause: Duration,
}

#[derive(Clone, Debug, Default)]
struct Server {
    in_flight: usize,
    num_served: u64,
    /// Failures since the last success.
    num_failures: u32,
    /// Not to be asked before; after that, by one request at a time until one succeeds.
    paused_until: Option<Instant>,
}

/// Outcome of a call, as far as the server's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, be it with a refusal of this very request.
    Good,
    /// It was out of reach or out of order.
    Bad,
    /// It asked to be left alone for a while.
    Throttled(Option<Duration>),
}

impl Pool {
    pub(super) fn new(
        num_servers: usize,
        max_in_flight: usize,
        max_failures: u32,
        pause: Duration,
    ) -> Self {
        Self {
            servers: Mutex::new(vec![Server::default(); num_servers]),
            freed: Condvar::new(),
            max_in_flight: max_in_flight.max(1),
            max_failures: max_failures.max(1),
            pause,
        }
    }

    /// Waits for a server, at most until the deadline; it must be given back with
    /// [`release`](Self::release).
    pub(super) fn acquire(&self, deadline: Instant) -> Result<usize, HttpError> {
        let mut servers = self.lock();
        loop {
            let now = Instant::now();
            let in_flight: usize = servers.iter().map(|it| it.in_flight).sum();
            let mut wake = deadline;
            if in_flight < self.max_in_flight {
                if let Some(index) = choose(&servers, now) {
                    servers[index].in_flight += 1;
                    servers[index].num_served += 1;
                    return Ok(index);
                }
                wake = servers.iter().filter_map(|it| it.paused_until).min().unwrap_or(deadline);
                if wake > deadline && in_flight == 0 {
                    return Err(HttpError::AllPaused);
                }
            }
            if now >= deadline {
                return Err(HttpError::AllPaused);
            }
            // A probe that is under way may be followed by a release; wake for it, too.
            let wait = wake.min(deadline).saturating_duration_since(now);
            let wait = if wait.is_zero() { Duration::from_millis(10) } else { wait };
            self.freed.wait_for(&mut servers, wait);
        }
    }

    /// Gives a server back, with how its call ended.
    pub(super) fn release(&self, index: usize, health: Health) {
        let mut servers = self.lock();
        let server = &mut servers[index];
        server.in_flight -= 1;
        server.learn(health, Instant::now(), self.max_failures, self.pause);
        drop(servers);
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Server>> {
        self.servers.lock()
    }
}

impl Server {
    fn is_available(&self, now: Instant) -> bool {
        self.paused_until.is_none_or(|until| until <= now && self.in_flight == 0)
    }

    fn learn(&mut self, health: Health, now: Instant, max_failures: u32, pause: Duration) {
        match health {
            Health::Good => {
                self.num_failures = 0;
                self.paused_until = None;
            }
            Health::Bad => {
                self.num_failures += 1;
                if self.num_failures >= max_failures {
                    self.paused_until = Some(now + pause);
                }
            }
            Health::Throttled(None) => {}
            Health::Throttled(Some(wait)) => self.paused_until = Some(now + wait),
        }
    }
}

/// The available server with the least in flight; among equals, the one that has served least.
fn choose(servers: &[Server], now: Instant) -> Option<usize> {
    let available = servers.iter().enumerate().filter(|(_, it)| it.is_available(now));
    available.min_by_key(|(_, it)| (it.in_flight, it.num_served)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn the_least_loaded_server_is_asked() {
        let pool = Pool::new(3, 100, 3, PAUSE);
        let deadline = Instant::now() + PAUSE;
        let first: Vec<usize> = (0..4).map(|_| pool.acquire(deadline).unwrap()).collect();
        assert_eq!(first, [0, 1, 2, 0]);
        pool.release(2, Health::Good);
        assert_eq!(pool.acquire(deadline).unwrap(), 2);
    }

    #[test]
    fn failures_pause_a_server_and_one_success_brings_it_back() {
        let now = Instant::now();
        let mut servers = vec![Server::default(); 2];
        for _ in 0..3 {
            assert_eq!(choose(&servers, now), Some(0));
            servers[0].learn(Health::Bad, now, 3, PAUSE);
        }
        assert_eq!(choose(&servers, now), Some(1));
        assert_eq!(choose(&servers[..1], now), None);
        // After the pause, one request at a time.
        let later = now + PAUSE;
        assert_eq!(choose(&servers[..1], later), Some(0));
        servers[0].in_flight = 1;
        assert_eq!(choose(&servers[..1], later), None);
        servers[0].in_flight = 0;
        servers[0].learn(Health::Bad, later, 3, PAUSE);
        assert_eq!(choose(&servers[..1], later), None);
        servers[0].learn(Health::Good, later, 3, PAUSE);
        assert_eq!(choose(&servers[..1], later), Some(0));
    }

    #[test]
    fn a_throttled_server_is_left_alone_as_long_as_it_asks() {
        let now = Instant::now();
        let mut servers = vec![Server::default()];
        servers[0].learn(Health::Throttled(None), now, 1, PAUSE);
        assert_eq!(choose(&servers, now), Some(0));
        servers[0].learn(Health::Throttled(Some(2 * PAUSE)), now, 1, PAUSE);
        assert_eq!(choose(&servers, now + PAUSE), None);
        assert_eq!(choose(&servers, now + 2 * PAUSE), Some(0));
    }

    #[test]
    fn nobody_waits_beyond_the_deadline() {
        let pool = Pool::new(1, 1, 1, PAUSE);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(pool.acquire(soon).unwrap(), 0);
        // The limit on what is in flight is reached.
        assert!(matches!(pool.acquire(soon), Err(HttpError::AllPaused)));
        pool.release(0, Health::Bad);
        // The only server is paused for longer than there is time.
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(pool.acquire(soon), Err(HttpError::AllPaused)));
    }
}
