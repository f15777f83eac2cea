//! Threads that run a device's work: a panic of one is noticed, whoever catches it.

use zs_trainer::DeviceHealth;

/// Beginnings of the names that cubecl gives to these threads, upstream and downstream of its queue.
const NAMES: [&str; 2] = ["DSU-", "DSD-"];

/// Watches the panics of the process, besides whatever handles them, for those of such threads.
pub(crate) fn watch_runners() -> DeviceHealth {
    let health = DeviceHealth::default();
    let (reported, before) = (health.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| NAMES.iter().any(|it| name.starts_with(it))) {
            reported.report(info.to_string());
        }
        before(info);
    }));
    health
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
}
