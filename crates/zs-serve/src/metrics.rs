//! Metrics of a server in the text format of Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Labels = Vec<(&'static str, String)>;

/// Counters of one server.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    latency: Family<Labels, Histogram>,
    /// Requests in progress.
    pub(crate) in_flight: Gauge,
    batches: Family<Labels, Histogram>,
    /// Processed queries.
    pub(crate) queries: Counter,
    /// Failed queries.
    pub(crate) failed_queries: Counter,
    /// Returned documents.
    pub(crate) documents: Counter,
    /// Prompt tokens.
    pub(crate) prompt_tokens: Counter,
    /// Sampled tokens.
    pub(crate) completion_tokens: Counter,
}

impl ServerMetrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("zs_serve");
        let requests = Family::<Labels, Counter>::default();
        registry.register("requests", "Requests by route and status", requests.clone());
        // 0.1 ms to 52 s.
        let seconds = || Histogram::new(exponential_buckets(1e-4, 2.0, 20));
        let latency = Family::<Labels, Histogram>::new_with_constructor(seconds);
        let help = "Time from the head of a request to the head of its response";
        registry.register_with_unit("request_duration", help, Unit::Seconds, latency.clone());
        let in_flight = Gauge::default();
        registry.register("in_flight", "Requests in progress", in_flight.clone());
        let sizes = || Histogram::new(exponential_buckets(1.0, 2.0, 11));
        let batches = Family::<Labels, Histogram>::new_with_constructor(sizes);
        let help = "Queries or sequences per batch";
        registry.register("batch_size", help, batches.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::<u64, AtomicU64>::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            queries: counter("queries", "Processed queries"),
            failed_queries: counter("failed_queries", "Failed queries"),
            documents: counter("documents", "Returned documents"),
            prompt_tokens: counter("prompt_tokens", "Prompt tokens"),
            completion_tokens: counter("completion_tokens", "Sampled tokens"),
            registry,
            requests,
            latency,
            in_flight,
            batches,
        }
    }

    /// Records an answered request.
    pub(crate) fn answered(&self, route: &str, status: u16, latency: Duration) {
        let labels = vec![("route", route.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        let route = vec![("route", route.to_owned())];
        self.latency.get_or_create(&route).observe(latency.as_secs_f64());
    }

    /// Records a batch.
    pub(crate) fn batch(&self, worker: &str, size: usize) {
        let labels = vec![("worker", worker.to_owned())];
        self.batches.get_or_create(&labels).observe(size as f64);
    }

    /// Returns all metrics, as `GET /metrics` shows them.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_under_their_names() {
        let metrics = ServerMetrics::new();
        metrics.answered("/retrieve", 200, Duration::from_millis(3));
        metrics.queries.inc_by(7);
        metrics.batch("retrieve", 7);
        let text = metrics.render();
        for line in [
            "zs_serve_requests_total{route=\"/retrieve\",status=\"200\"} 1",
            "zs_serve_queries_total 7",
            "zs_serve_request_duration_seconds_count{route=\"/retrieve\"} 1",
            "zs_serve_batch_size_sum{worker=\"retrieve\"} 7.0",
            "zs_serve_in_flight 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }
}
