//! `bm25s` in a Python process of its own, told what to do line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{Result, Workload};

/// The other program, with its index built.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it on a corpus; returns how many seconds it took to index it.
    pub(crate) fn start(
        python: &Path,
        workload: &Workload,
        k: usize,
        folder: &Path,
    ) -> Result<(Self, f64)> {
        let queries: Vec<&str> = workload.questions.iter().map(|it| it.text.as_str()).collect();
        let path = folder.join("queries.json");
        std::fs::write(&path, json!(queries).to_string())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare/bm25s_bench.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg("--corpus")
            .arg(&workload.path)
            .arg("--queries")
            .arg(&path)
            .args(["--k", &k.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|it| format!("{}: {it}", python.display()))?;
        let input = child.stdin.take().ok_or("the other program has no input")?;
        let output = child.stdout.take().ok_or("the other program has no output")?;
        let mut peer = Self { child, input, output: BufReader::new(output) };
        let seconds = peer.answer()?;
        Ok((peer, seconds))
    }

    /// Seconds for a batch of all queries, a few times over.
    pub(crate) fn batch(&mut self, repeat: usize) -> Result<f64> {
        self.ask(&json!({ "batch": repeat }))
    }

    /// Seconds for the first queries, one after the other.
    pub(crate) fn single(&mut self, count: usize) -> Result<f64> {
        self.ask(&json!({ "single": count }))
    }

    /// Results of the peer: positions in the corpus, for every query.
    pub(crate) fn found(&mut self) -> Result<Vec<Vec<usize>>> {
        self.ask(&json!({ "found": 1 }))
    }

    fn ask<T: DeserializeOwned>(&mut self, what: &serde_json::Value) -> Result<T> {
        writeln!(self.input, "{what}")?;
        self.input.flush()?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the other program ended; see its message above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
