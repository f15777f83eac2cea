//! Time and memory of a piece of work, and their report.

use std::time::Instant;

use serde_json::{Value, json};

/// A piece of work that was timed.
pub(super) struct Timing {
    pub(super) name: &'static str,
    pub(super) tokens: usize,
    pub(super) best: Best,
    pub(super) floor_seconds: f64,
    /// Largest resident size of the process meanwhile.
    pub(super) peak: Option<u64>,
}

/// The shortest of some tries, by the clock on the wall and by the processor time of all threads.
///
/// On a machine that others use at the same time the second is the one to compare.
#[derive(Clone, Copy)]
pub(super) struct Best {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
}

impl Best {
    /// The part that something shorter does not account for.
    pub(super) fn without(self, other: Self) -> Self {
        Self {
            seconds: (self.seconds - other.seconds).max(1e-9),
            cpu_seconds: (self.cpu_seconds - other.cpu_seconds).max(1e-9),
        }
    }
}

/// Prints a timing and gives it as JSON, with the ratios to another program's.
pub(super) fn report(timing: &Timing, other: Option<&Value>) -> Value {
    let Timing { name, tokens, best, floor_seconds, peak: _ } = *timing;
    let (rate, cpu_rate) = (tokens as f64 / best.seconds, tokens as f64 / best.cpu_seconds);
    let fraction = floor_seconds / best.seconds;
    let theirs = other.and_then(|it| it["runs"].as_array()?.iter().find(|it| it["name"] == name));
    let ratio_of = |key: &str, ours: f64| Some(ours / theirs?[key].as_f64()?);
    let ratio = ratio_of("tokens_per_s", rate);
    let cpu_ratio = ratio_of("tokens_per_cpu_s", cpu_rate);
    let beside = ratio.zip(cpu_ratio).map_or_else(String::new, |(ratio, cpu_ratio)| {
        let dtype = theirs.and_then(|it| it["dtype"].as_str()).unwrap_or("f32");
        format!(", {ratio:.2}x the other in {dtype} ({cpu_ratio:.2}x by processor time)")
    });
    let limit = 100.0 * fraction;
    let peak = timing.peak.map_or_else(String::new, |it| format!(", peak {:.2} GiB", gib(it)));
    println!(
        "{name:>8}: {rate:>9.0} tokens/s, {cpu_rate:.0} a processor second, {limit:.0} % of the limit{peak}{beside}"
    );
    json!({
        "name": name,
        "tokens": tokens,
        "seconds": best.seconds,
        "cpu_seconds": best.cpu_seconds,
        "tokens_per_s": rate,
        "tokens_per_cpu_s": cpu_rate,
        "fraction_of_floor": fraction,
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "peak_bytes": timing.peak,
    })
}

/// Best of some tries.
pub(super) fn best<E: std::fmt::Display>(
    tries: usize,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<Best, String> {
    let mut best = Best { seconds: f64::INFINITY, cpu_seconds: f64::INFINITY };
    for _ in 0..tries.max(1) {
        let (start, cpu_start) = (Instant::now(), cpu_seconds());
        work().map_err(|it| it.to_string())?;
        best.seconds = best.seconds.min(start.elapsed().as_secs_f64());
        best.cpu_seconds = best.cpu_seconds.min((cpu_seconds() - cpu_start).max(1e-9));
    }
    Ok(best)
}

/// Processor time of this process so far, ended threads included; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    // Fields 14 and 15, in hundredths of a second; the second field may hold spaces.
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
        Some(fields.next()?.ok()? + fields.next()?.ok()?)
    });
    ticks.unwrap_or(0.0) / 100.0
}

pub(super) fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Starts the measurement of the peak anew, where the system can; pages that the allocator keeps stay
/// counted.
pub(super) fn reset_peak() {
    // Elsewhere the peak is that of the process so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Largest resident size of this process since [`reset_peak`], where the system says so.
pub(super) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|it| it.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|it| it * 1024)
}
