//! Runs whose policy is sampled on servers: the bytes of a local run, whatever becomes of a server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::Value;
use zs_core::{Domain, StreamKey};
use zs_search::http::testing::{CannedResponse, Received, TestServer};

use crate::common::{assert_same_files, number, tiny_model, train_toml};

/// Variable of the admin's key, and the key.
const KEY: (&str, &str) = ("ZS_TEST_ADMIN_TOKEN", "s3cret");

/// A `zs serve` process, killed when it is dropped.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    /// Serves a model directory on a free port.
    fn start(dir: &Path, model: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
            .current_dir(dir)
            .env(KEY.0, KEY.1)
            .args(["serve", "--model", model, "--port", "0", "--batch-invariant"])
            .args(["--admin-token-env", KEY.0, "--weights-dir", "weights"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a request on to a server.
fn forward(address: &str, received: &Received) -> CannedResponse {
    let Ok(mut socket) = TcpStream::connect(address) else { return CannedResponse::HalfClose };
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let key = received.headers.lines().find(|it| it.starts_with("authorization:"));
    let key = key.map(|it| format!("{it}\r\n")).unwrap_or_default();
    let Received { target, body, .. } = received;
    let length = body.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}Content-Length: \
         {length}\r\n\r\n{body}"
    );
    let mut reply = String::new();
    let sent = socket.write_all(request.as_bytes());
    if sent.and_then(|()| socket.read_to_string(&mut reply)).is_err() || reply.is_empty() {
        return CannedResponse::HalfClose;
    }
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    CannedResponse::status(status, body)
}

/// A run file, sampled here or on servers.
fn run_toml(out: &str, urls: &[String], more: &str) -> String {
    let run = train_toml(out);
    let servers = match urls {
        [] => String::new(),
        urls => format!(
            "[rollout.servers]\nkind = \"zs\"\nurls = {urls:?}\nadmin_key_variable = \"{}\"\n\
             weights_dir = \"weights\"\nmax_attempts = 1\n{more}",
            KEY.0
        ),
    };
    format!("{run}\n[training.memory]\nbatch_invariant = true\n{servers}")
}

fn train(dir: &Path, out: &str, urls: &[String], more: &str) -> Output {
    let file = format!("{out}.toml");
    fs::write(dir.join(&file), run_toml(out, urls, more)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
        .current_dir(dir)
        .env(KEY.0, KEY.1)
        .args(["train", &file])
        .output()
        .unwrap()
}

/// Trains, and returns the notes of the run.
#[track_caller]
fn train_ok(dir: &Path, out: &str, urls: &[String], more: &str) -> String {
    let output = train(dir, out, urls, more);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{out}: {stderr}");
    stderr
}

fn resume(dir: &Path, run: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
        .current_dir(dir)
        .env(KEY.0, KEY.1)
        .args(["train", "--resume", run])
        .output()
        .unwrap()
}

/// A directory with a model, and a run of it that is sampled here.
fn local_run(dir: &Path) {
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::create_dir(dir.join("weights")).unwrap();
    train_ok(dir, "local", &[], "");
}

/// Numbers of each step, whose keys have the name of the server left out.
fn timings(run: &Path) -> Vec<BTreeMap<String, f64>> {
    let text = fs::read_to_string(run.join("timings.jsonl")).unwrap();
    let number = |(key, value): (&String, &Value)| Some((key.clone(), value.as_f64()?));
    let row = |line: &str| {
        let row: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        row.iter().filter_map(number).collect()
    };
    text.lines().map(row).collect()
}

/// Sum over steps and servers.
fn total(run: &Path, key: &str) -> f64 {
    let rows = timings(run);
    let of_servers = rows.iter().flatten().filter(|(it, _)| it.starts_with("servers/"));
    of_servers.filter(|(it, _)| it.ends_with(key)).map(|(_, value)| value).sum()
}

#[test]
fn two_servers_write_the_bytes_of_a_local_run() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    local_run(dir);
    // A server's own weights do not matter.
    tiny_model(2).save(&dir.join("other")).unwrap();
    let servers = [Served::start(dir, "model"), Served::start(dir, "other")];
    train_ok(dir, "fleet", &[servers[0].url(), servers[1].url()], "");
    assert_same_files(&dir.join("local"), &dir.join("fleet"));
    for server in &servers {
        assert!(total(&dir.join("fleet"), &format!("{}/tokens", server.address)) > 0.0);
        assert_eq!(total(&dir.join("fleet"), &format!("{}/moved_rows", server.address)), 0.0);
    }
    let last = timings(&dir.join("fleet")).pop().unwrap();
    assert_eq!(last["servers/num_admitted"], 2.0);
    let mismatch = last[&format!("servers/{}/probe_k3", servers[0].address)];
    assert!((0.0..1e-8).contains(&mismatch), "{mismatch}");
    // Only the weights of the last step are kept.
    let kept = fs::read_dir(dir.join("weights")).unwrap();
    let kept: Vec<_> = kept.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(kept, ["step-3"]);
}

/// The trainer is killed at random moments, `ZS_TEST_KILLS` times, over servers that stay.
#[test]
fn a_killed_trainer_comes_to_the_bytes_of_a_local_run() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    fs::create_dir(dir.join("weights")).unwrap();
    let checkpoints = "[training.checkpoints]\nevery = 1\n";
    let file = |out: &str, urls: &[String]| {
        let text = format!("{}{checkpoints}", run_toml(out, urls, ""));
        fs::write(dir.join(format!("{out}.toml")), text).unwrap();
    };
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zs-under-test"));
        command.current_dir(dir).env(KEY.0, KEY.1).args(arguments);
        command
    };
    file("local", &[]);
    assert!(command(&["train", "local.toml"]).output().unwrap().status.success());
    let servers = [Served::start(dir, "model"), Served::start(dir, "model")];
    file("fleet", &servers.each_ref().map(Served::url));
    let start = Instant::now();
    assert!(command(&["train", "fleet.toml"]).output().unwrap().status.success());
    let took = start.elapsed();
    let num_kills = number("ZS_TEST_KILLS", 2);
    let key = StreamKey::new(number("ZS_TEST_SEED", 1));
    let mut num_killed = 0;
    for attempt in 0.. {
        assert_same_files(&dir.join("local"), &dir.join("fleet"));
        if num_killed == num_kills {
            break;
        }
        fs::remove_dir_all(dir.join("fleet")).unwrap();
        let moment: f64 = StreamKey { step: attempt, ..key }.rng(Domain::Corpus).random();
        let mut child = command(&["train", "fleet.toml"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took.mul_f64(moment));
        child.kill().unwrap();
        num_killed += u64::from(child.wait().unwrap().code().is_none());
        let again: &[&str] = match dir.join("fleet/config.toml").exists() {
            true => &["train", "--resume", "fleet"],
            false => &["train", "fleet.toml"],
        };
        if !dir.join("fleet/summary.json").exists() {
            let output = command(again).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "after {num_killed} kills: {stderr}");
        }
    }
    // A killed process leaves no weights behind for ever.
    let kept = fs::read_dir(dir.join("weights")).unwrap();
    let kept: Vec<_> = kept.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(kept, ["step-3"]);
}

#[test]
fn a_killed_server_changes_nothing_but_counters() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    local_run(dir);
    let stays = Served::start(dir, "model");
    let killed = std::sync::Mutex::new(Some(Served::start(dir, "model")));
    let address = killed.lock().unwrap().as_ref().unwrap().address.clone();
    let (stays_url, num_asked) = (stays.url(), AtomicUsize::new(0));
    let proxy = TestServer::start(move |_, received| {
        let is_sampling = received.target == "/inference/v1/generate";
        if is_sampling && num_asked.fetch_add(1, Ordering::SeqCst) == 20 {
            // In the middle of a rollout, and of this request.
            drop(killed.lock().unwrap().take());
        }
        forward(&address, received)
    });
    let said = train_ok(dir, "fleet", &[stays_url, proxy.url()], "");
    assert!(said.contains("is not sampled"), "{said}");
    assert_same_files(&dir.join("local"), &dir.join("fleet"));
    assert!(total(&dir.join("fleet"), "/moved_rows") > 0.0);
    assert_eq!(timings(&dir.join("fleet")).pop().unwrap()["servers/num_admitted"], 1.0);
}

/// A proxy that answers one request for tokens, by its number, in its own way.
fn faulty(address: &str, at: usize, fault: CannedResponse) -> TestServer {
    let (address, num_asked) = (address.to_owned(), AtomicUsize::new(0));
    TestServer::start(move |_, received| {
        let is_sampling = received.target == "/inference/v1/generate";
        match is_sampling && num_asked.fetch_add(1, Ordering::SeqCst) == at {
            true => fault.clone(),
            false => forward(&address, received),
        }
    })
}

/// One breaks a connection, and the other does not answer in time.
#[test]
fn a_server_that_comes_back_is_admitted_again() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    local_run(dir);
    let servers = [Served::start(dir, "model"), Served::start(dir, "model")];
    let [first, second] = servers.each_ref().map(|it| it.address.clone());
    let proxies =
        [faulty(&first, 15, CannedResponse::HalfClose), faulty(&second, 20, CannedResponse::Slow)];
    let urls = proxies.each_ref().map(TestServer::url);
    let said = train_ok(dir, "fleet", &urls, "request_timeout_s = 5.0\n");
    assert_eq!(said.matches("admitted again").count(), 2, "{said}");
    assert!(said.contains("no reply in time"), "{said}");
    assert_same_files(&dir.join("local"), &dir.join("fleet"));
    assert_eq!(timings(&dir.join("fleet")).pop().unwrap()["servers/num_admitted"], 2.0);
}

#[test]
fn a_server_is_refused_by_its_log_probabilities_and_not_by_what_it_says() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    local_run(dir);
    tiny_model(2).save(&dir.join("other")).unwrap();
    let honest = Served::start(dir, "model");
    // Loads the first weights alone, and takes every version for its own.
    let keeps = Served::start(dir, "model");
    let (address, num_loaded) = (keeps.address.clone(), AtomicUsize::new(0));
    let old = TestServer::start(move |_, received| match received.target.as_str() {
        "/collective_rpc" if num_loaded.fetch_add(1, Ordering::SeqCst) > 0 => {
            CannedResponse::ok(r#"{"results": [null]}"#)
        }
        _ => forward(&address, received),
    });
    let said = train_ok(dir, "fleet", &[honest.url(), old.url()], "");
    let name = old.url().replace("http://", "");
    let refusal =
        format!("rollout server {name} is not sampled: it still has the weights from before");
    assert!(said.contains(&refusal), "{said}");
    assert_same_files(&dir.join("local"), &dir.join("fleet"));

    // Another model, alone: the run ends with a line that names it, and resumes once the server has the
    // policy.
    let other = Served::start(dir, "other");
    let (address, is_honest) = (other.address.clone(), std::sync::Arc::new(AtomicUsize::new(0)));
    let flag = std::sync::Arc::clone(&is_honest);
    let liar = TestServer::start(move |_, received| match received.target.as_str() {
        "/collective_rpc" if flag.load(Ordering::SeqCst) == 0 => CannedResponse::ok("{}"),
        _ => forward(&address, received),
    });
    let output = train(dir, "alone", &[liar.url()], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = liar.url().replace("http://", "");
    assert!(!output.status.success() && said.contains(&name), "{said}");
    assert!(said.contains("log-probabilities of fixed sequences are not the trainer's"), "{said}");
    is_honest.store(1, Ordering::SeqCst);
    let resumed = resume(dir, "alone");
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_same_files(&dir.join("local"), &dir.join("alone"));
}

#[test]
fn a_run_without_a_server_ends_and_resumes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    local_run(dir);
    let server = Served::start(dir, "model");
    let (address, num_asked) = (server.address.clone(), AtomicUsize::new(0));
    let is_dead = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dead = std::sync::Arc::clone(&is_dead);
    let proxy = TestServer::start(move |_, received| {
        let is_sampling = received.target == "/inference/v1/generate";
        if is_sampling && num_asked.fetch_add(1, Ordering::SeqCst) == 50 {
            dead.store(true, Ordering::SeqCst);
        }
        match dead.load(Ordering::SeqCst) {
            true => CannedResponse::HalfClose,
            false => forward(&address, received),
        }
    });
    let output = train(dir, "fleet", &[proxy.url()], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = proxy.url().replace("http://", "");
    assert!(!output.status.success(), "{said}");
    for expected in ["no server of `rollout.servers`", &name, "`zs train --resume"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    is_dead.store(false, Ordering::SeqCst);
    let resumed = resume(dir, "fleet");
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    // The step before the failure was saved.
    fs::remove_dir_all(dir.join("fleet/checkpoints/step-000001")).unwrap();
    assert_same_files(&dir.join("local"), &dir.join("fleet"));
}

#[test]
fn settings_that_no_server_can_follow_are_refused_before_the_run() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    tiny_model(1).save(&dir.join("model")).unwrap();
    let check = |change: &dyn Fn(String) -> String, expected: &str| {
        let toml = change(run_toml("run", &["http://127.0.0.1:1".to_owned()], ""));
        fs::write(dir.join("run.toml"), toml).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_zs-under-test"))
            .current_dir(dir)
            .env(KEY.0, KEY.1)
            .args(["train", "run.toml"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{expected}: {said}");
        assert!(!dir.join("run").exists(), "{expected}");
    };
    let vllm = |it: String| it.replace("kind = \"zs\"", "kind = \"vllm\"");
    let cold = |it: String| it.replace("max_searches = 2", "max_searches = 2\ntemperature = 0.7");
    check(
        &|it| cold(vllm(it)),
        "vllm returns log-probabilities of the full softmax at temperature 1 alone",
    );
    check(&|it| it.replace("kind = \"zs\"", "kind = \"tgi\""), "unknown variant `tgi`");
    check(&|it| it.replace("max_attempts = 1", "concurrency = 0"), "rollout.servers.concurrency");
    check(&|it| it.replace("max_attempts = 1", "request_timeout_s = 0.0"), "request_timeout_s");
    check(
        &|it| it.replace("max_attempts = 1", "max_probe_k3 = 0.0"),
        "max_probe_k3` must be above 0",
    );
    check(&|it| it.replace("http://127.0.0.1:1", "ftp://x"), "neither http:// nor https://");
    check(&|it| it.replace(KEY.0, "ZS_TEST_NO_SUCH_TOKEN"), "`ZS_TEST_NO_SUCH_TOKEN` holds no key");
}
