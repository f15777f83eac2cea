//! Threads that run a device's work: a panic of one is noticed, whoever catches it, and so is an error
//! that the backend only logs.

use log::{Level, LevelFilter, Log, Metadata, Record};
use zs_model::DeviceHealth;

/// Beginnings of the names that cubecl gives to these threads, upstream and downstream of its queue.
const NAMES: [&str; 2] = ["DSU-", "DSD-"];
/// Beginnings of the modules of backends.
const BACKENDS: [&str; 2] = ["burn", "cubecl"];
/// Modules whose errors change what is measured, and not what is computed.
const MEASURES: &str = "cubecl_runtime::tune";

/// Watches the panics of the process, besides whatever handles them, for those of such threads, and the
/// errors that backends log.
pub(crate) fn watch_runners() -> DeviceHealth {
    let health = DeviceHealth::default();
    let (reported, before) = (health.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| NAMES.iter().any(|it| name.starts_with(it))) {
            reported.report(&info.to_string());
        }
        before(info);
    }));
    // A program that has a logger of its own keeps it.
    if log::set_boxed_logger(Box::new(BackendLog(health.clone()))).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
    health
}

/// The log of backends: shown in traces, and its errors reported.
///
/// cubecl logs failures whose results nobody waits for, and continues.
#[derive(Debug)]
struct BackendLog(DeviceHealth);

impl Log for BackendLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        BACKENDS.iter().any(|it| metadata.target().starts_with(it))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (target, message) = (record.target(), record.args());
        tracing::warn!(target: "backend", level = %record.level(), module = target, "{message}");
        if record.level() == Level::Error && !target.starts_with(MEASURES) {
            self.0.report(&format!("{target}: {message}"));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::thread::Builder;

    use super::*;

    /// Panics on a thread of a name, and catches it as cubecl does.
    fn panic_on(name: &str) {
        let work =
            || drop(std::panic::catch_unwind(|| panic!("Should run when selected by autotune.")));
        Builder::new().name(name.to_owned()).spawn(work).unwrap().join().unwrap();
    }

    #[test]
    fn a_panic_of_a_runner_is_noticed() {
        let health = watch_runners();
        panic_on("sampler");
        assert!(health.check().is_ok(), "others report their panics themselves");
        panic_on("DSU-0-0");
        let message = health.check().unwrap_err().to_string();
        assert!(message.contains("Should run when selected by autotune."), "{message}");
        assert!(message.contains("runners.rs"), "{message}");
        let second = watch_runners();
        assert!(second.check().is_ok());
        panic_on("DSD-1-0");
        assert!(second.check().is_err());
    }

    #[test]
    fn an_error_that_is_only_logged_is_noticed() {
        #[track_caller]
        fn check(level: Level, target: &str, expected: bool) {
            let health = DeviceHealth::default();
            let arguments = format_args!("sync_collective failed: {}", 7);
            let record = Record::builder().level(level).target(target).args(arguments).build();
            BackendLog(health.clone()).log(&record);
            let found = health.check().map_err(|it| it.to_string());
            assert_eq!(found.is_err(), expected, "{level} {target}: {found:?}");
            let is_named =
                |it: String| it.contains(&format!("{target}: sync_collective failed: 7"));
            assert!(found.map_or_else(is_named, |()| true));
        }
        check(Level::Error, "cubecl_runtime::client", true);
        check(Level::Error, "burn_cubecl::kernel", true);
        check(Level::Warn, "cubecl_runtime::client", false);
        check(Level::Error, "cubecl_runtime::tune::tune_benchmark", false);
        check(Level::Error, "hyper::client", false);
    }
}
