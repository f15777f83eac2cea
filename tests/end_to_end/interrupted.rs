//! Commands that write directories, killed at random moments, on full disks and on disks that cannot be
//! written: what is resumed comes to the same bytes.
//!
//! `ZS_TEST_KILLS` and `ZS_TEST_FULL_DISKS` set how many of each a command meets, `ZS_TEST_SEED` the
//! moments.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use zs_core::{Domain, StreamKey};

use crate::common::{contents, number, run_of_six_steps, searcher, tiny_model, zs_ok};

/// A command, and the directory that it writes.
struct Job {
    start: &'static [&'static str],
    /// Arguments that go on with a directory that holds a run file.
    again: &'static [&'static str],
    out: &'static str,
}

const JOBS: [Job; 4] = [
    Job { start: &["train", "train.toml"], again: &["train", "--resume", "mnt/run"], out: "run" },
    Job { start: &["sft", "sft.toml"], again: &["sft", "sft.toml", "--resume"], out: "tuned" },
    Job { start: EVAL, again: EVAL, out: "evaluated" },
    Job { start: INDEX, again: INDEX, out: "index" },
];

const EVAL: &[&str] = &[
    "eval",
    "--model",
    "model",
    "--questions",
    "world/questions.jsonl",
    "--corpus",
    "world/corpus.jsonl",
    "--batch-size",
    "4",
    "--out",
    "mnt/evaluated",
];
const INDEX: &[&str] = &[
    "index",
    "build",
    "--corpus",
    "world/corpus.jsonl",
    "--shard-size",
    "40",
    "--out",
    "mnt/index",
];

/// Everything that the commands read; `mnt` is the folder that they write to.
fn inputs(dir: &Path) {
    searcher(dir);
    tiny_model(2).save(&dir.join("model")).unwrap();
    let world = ["data", "world", "--seed", "1", "--split", "test", "--questions", "12"];
    zs_ok(dir, &[&world[..], &["--out", "world"]].concat());
    fs::write(
        dir.join("train.toml"),
        run_of_six_steps("mnt/run", "searcher/checkpoints/final", ""),
    )
    .unwrap();
    let sft = r#"
seed = 1
out = "mnt/tuned"
base = "base"
data = { kind = "file", train = "lesson.jsonl" }
tuning = { steps = 40, tokens_per_step = 400, micro_batch_tokens = 400, eval_every = 10, checkpoint_every = 5 }
"#;
    fs::write(dir.join("sft.toml"), sft).unwrap();
    fs::create_dir(dir.join("mnt")).unwrap();
}

/// The contents of two directories are the same, but for the random names that tantivy gives the files
/// of an index.
#[track_caller]
fn assert_same(a: &Path, b: &Path, place: &str) {
    let written = |dir: &Path| {
        let mut files = contents(dir);
        files
            .retain(|name, _| !["meta.json", "digests.json", ".managed.json"].contains(&&name[..]));
        let is_random = |it: &str| it.len() == 32 && it.bytes().all(|it| it.is_ascii_hexdigit());
        let named = files.into_iter().map(|(name, bytes)| match name.split_once('.') {
            Some((stem, extension)) if is_random(stem) => (format!("segment.{extension}"), bytes),
            _ => (name, bytes),
        });
        named.collect::<BTreeMap<_, _>>()
    };
    let (a, b) = (written(a), written(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{place}");
    let differs: Vec<&String> =
        a.iter().filter(|(name, it)| b[*name] != **it).map(|it| it.0).collect();
    assert!(differs.is_empty(), "{place}: {differs:?} differ");
}

/// Runs a job to its end; its directory, and how long it took.
fn whole(dir: &Path, job: &Job) -> Duration {
    let start = Instant::now();
    zs_ok(dir, job.start);
    let took = start.elapsed();
    fs::rename(dir.join("mnt").join(job.out), dir.join(format!("whole-{}", job.out))).unwrap();
    took
}

/// Arguments that begin a job, or go on with it.
fn arguments(dir: &Path, job: &Job) -> &'static [&'static str] {
    match dir.join("mnt").join(job.out).join("config.toml").exists() {
        true => job.again,
        false => job.start,
    }
}

#[test]
fn killed_commands_come_to_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    inputs(dir);
    let num_kills = number("ZS_TEST_KILLS", 2);
    let key = StreamKey::new(number("ZS_TEST_SEED", 1));
    for (index, job) in JOBS.iter().enumerate() {
        let took = whole(dir, job);
        let out = dir.join("mnt").join(job.out);
        let mut num_killed = 0;
        for attempt in 0.. {
            let key = StreamKey { group: index as u32, step: attempt, ..key };
            let moment = took.mul_f64(key.rng(Domain::Corpus).random());
            let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
            command.current_dir(dir).arg("--quiet").args(arguments(dir, job));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(moment);
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            // Without a code, the signal ended it.
            if output.status.code().is_none() {
                num_killed += 1;
            } else {
                assert!(output.status.success(), "{} after {num_killed} kills: {said}", job.out);
            }
            let is_finished = output.status.success();
            if is_finished || num_killed == num_kills {
                if !is_finished {
                    zs_ok(dir, arguments(dir, job));
                }
                let place = format!("{}, killed {num_killed} times", job.out);
                assert_same(&dir.join(format!("whole-{}", job.out)), &out, &place);
                fs::remove_dir_all(&out).unwrap();
            }
            if num_killed == num_kills {
                break;
            }
        }
    }
}

/// Mounts a small disk, or one that cannot be written, in a name space of its own; runs the job there;
/// and with space again.
const ON_A_DISK: &str = r#"
mount -t tmpfs -o "$OPTIONS" none mnt || exit 90
"$ZS" --quiet $START 2> said && exit 91
grep -q . said || exit 92
mount -o remount,rw,size=1g mnt || exit 90
again=$START
if [ -e "mnt/$OUT/config.toml" ]; then again=$AGAIN; fi
"$ZS" --quiet $again 2> said-then || exit 93
mkdir kept && cp -r "mnt/$OUT" kept
"#;

fn on_a_disk(dir: &Path, job: &Job, options: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", ON_A_DISK]).current_dir(dir);
    command.env("ZS", env!("CARGO_BIN_EXE_zs-under-test")).env("OPTIONS", options);
    command.env("START", job.start.join(" ")).env("AGAIN", job.again.join(" "));
    command.env("OUT", job.out).output().unwrap()
}

/// Tests whether this machine lets a test mount something.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn may_mount() -> bool {
    let script = "mount -t tmpfs none /mnt";
    let arguments = ["--map-root-user", "--mount", "sh", "-c", script];
    let may = Command::new("unshare").args(arguments).output();
    let may = may.is_ok_and(|it| it.status.success());
    if !may {
        eprintln!("skipped: nothing can be mounted in a name space of one's own here");
    }
    may
}

#[test]
fn full_and_read_only_disks_are_named_and_left_behind() {
    if !may_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    inputs(dir);
    let num_disks = number("ZS_TEST_FULL_DISKS", 3);
    let key = StreamKey::new(number("ZS_TEST_SEED", 1));
    for (index, job) in JOBS.iter().enumerate() {
        whole(dir, job);
        let whole = dir.join(format!("whole-{}", job.out));
        let size: usize = contents(&whole).values().map(|it| it.len().next_multiple_of(4096)).sum();
        let key = StreamKey { group: index as u32, ..key };
        let mut rng = key.rng(Domain::Corpus);
        let full = (0..num_disks).map(|disk| {
            // A disk of a page first, and none that would hold everything.
            let size = if disk == 0 { 4096 } else { rng.random_range(4096..size * 4 / 5) };
            (format!("size={size}"), "No space left on device")
        });
        for (options, expected) in full.chain([("ro".to_owned(), "Read-only file system")]) {
            let output = on_a_disk(dir, job, &options);
            let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
            let (said, then) = (read("said"), read("said-then"));
            let place = format!("{} on {options}", job.out);
            assert!(output.status.success(), "{place}: {output:?}\n{said}\n{then}");
            assert_eq!(said.lines().count(), 1, "{place}: {said}");
            assert!(said.contains("mnt/") && said.contains(expected), "{place}: {said}");
            assert_same(&whole, &dir.join("kept").join(job.out), &place);
            fs::remove_dir_all(dir.join("kept")).unwrap();
        }
    }
}
