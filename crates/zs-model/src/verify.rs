//! Verification of a model directory against a reference implementation.

mod directory;
mod golden;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use zs_core::StreamKey;

use crate::checkpoint::{NamedTensor, load_network, map_file, named_gradients, parse, to_f32};
use crate::generate::LocalSession;
use crate::network::{FlatScores, PackedRows};
use crate::{
    CausalLm, CheckpointError, GenerateError, ModelConfig, SamplingParams, SequenceRequest,
    Session, TokenId, TokenRow, Tokenizer,
};

pub use directory::{DirectoryCheck, DirectoryState, WeightCheck, verify_directory};
pub use golden::write_golden;

/// Comparison with the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Compared item, e.g. `logits row 0, in a batch` or `grad.model.norm.weight`.
    pub name: String,
    /// Largest absolute difference; for tokens and text, the number of differing positions.
    pub max_abs_error: f64,
    /// Difference relative to the largest absolute reference value: of the row for logits, of all
    /// compared tensors for gradients.
    pub max_rel_error: f64,
    /// True if the difference is within the tolerance.
    pub passed: bool,
    /// First difference of tokens or text, if any.
    pub detail: String,
}

/// Comparisons of a model with a golden file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The model directory.
    pub model: PathBuf,
    /// Tolerance of relative errors.
    pub tolerance: f64,
    /// Comparisons, in order.
    pub checks: Vec<Check>,
}

impl VerifyReport {
    /// True if every comparison passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|it| it.passed)
    }
}

/// Error that prevents a comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The model cannot be loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Generation failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The golden file is unreadable.
    #[error("{path}: cannot read the golden file: {message}", path = path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// Description of the defect.
        message: String,
    },
}

/// Compares a model directory with a golden file.
///
/// - `*.safetensors`: `input_ids [r, t]`, `lengths [r]`, `logits [r, t, vocab]`, `greedy_ids [r, n]`,
///   `loss_row0 [1]` (mean next-token cross-entropy of row 0) and `grad.NAME` of that loss. Logits are
///   computed row by row and in one batch.
/// - `*.json`: `prompt_ids`, `greedy_ids` and, with a tokenizer in the directory, `text`.
///
/// Errors of logits are relative to the largest absolute reference value of the row. Errors of
/// gradients are relative to the largest gradient in the file, since an update moves all parameters
/// together and a tensor with nearly cancelling gradients has no scale of its own. Greedy tokens
/// and text must be equal. Loss and gradients are computed as in training.
///
/// Rotary frequencies are computed in f32 from `config.json`, as transformers does when it loads a
/// checkpoint of any dtype in f32. A reference that was converted to bfloat16 (e.g. by
/// `model.bfloat16().float()`) has frequencies rounded to 8 bits and agrees only to a few 1e-5.
///
/// # Errors
///
/// Fails if the model or the golden file cannot be read. A mismatch is not an error; it is part of
/// the report.
pub fn verify(
    dir: &Path,
    golden: &Path,
    tolerance: f64,
    device: &Device,
) -> Result<VerifyReport, VerifyError> {
    let config = ModelConfig::from_dir(dir).map_err(CheckpointError::from)?;
    let network = load_network(dir, &config, device)?;
    let subject = Subject { dir, config, network, golden, tolerance };
    let checks = if golden.extension().is_some_and(|it| it == "json") {
        subject.check_text()?
    } else {
        subject.check_tensors()?
    };
    Ok(VerifyReport { model: dir.to_owned(), tolerance, checks })
}

struct Subject<'a> {
    dir: &'a Path,
    config: ModelConfig,
    network: CausalLm,
    golden: &'a Path,
    tolerance: f64,
}

impl Subject<'_> {
    fn check_tensors(&self) -> Result<Vec<Check>, VerifyError> {
        let map = map_file(self.golden).map_err(|it| self.bad(it.to_string()))?;
        let golden = parse(self.golden, &map).map_err(|it| self.bad(it.to_string()))?;
        let (input_ids, shape) = self.ints(&golden, "input_ids")?;
        let (lengths, _) = self.ints(&golden, "lengths")?;
        let [rows, width] = shape[..] else { return Err(self.bad("input_ids is not a matrix")) };
        let fits = |it: &i64| (1..=width as i64).contains(it);
        if lengths.len() != rows || rows == 0 || !lengths.iter().all(fits) {
            return Err(self.bad(format!("lengths are not {rows} numbers from 1 to {width}")));
        }
        let rows: Vec<Vec<TokenId>> = (0..rows)
            .map(|row| input_ids[row * width..][..lengths[row] as usize].to_vec())
            .map(|row| row.into_iter().map(|it| it as TokenId).collect())
            .collect();
        let mut checks = Vec::new();
        let logits = self.floats(&golden, "logits")?;
        let vocab = self.config.vocab_size;
        if logits.len() != rows.len() * width * vocab {
            return Err(self.bad(format!("logits do not have {vocab} columns")));
        }
        let expected = |row: usize| &logits[row * width * vocab..][..rows[row].len() * vocab];
        let together = self.logits(&rows);
        for (row, tokens) in rows.iter().enumerate() {
            let alone = self.logits(std::slice::from_ref(tokens)).remove(0);
            checks.push(self.compare(format!("logits row {row}, alone"), &alone, expected(row)));
            let name = format!("logits row {row}, in a batch");
            checks.push(self.compare(name, &together[row], expected(row)));
        }
        let (greedy, shape) = self.ints(&golden, "greedy_ids")?;
        if shape.len() != 2 || shape[0] != rows.len() || shape[1] == 0 {
            return Err(self.bad(format!("greedy_ids is not a matrix of {} rows", rows.len())));
        }
        let wanted: Vec<Vec<TokenId>> = greedy
            .chunks(shape[1])
            .map(|row| row.iter().map(|it| *it as TokenId).collect())
            .collect();
        for (row, (actual, wanted)) in self.greedy(&rows, shape[1])?.iter().zip(&wanted).enumerate()
        {
            checks.push(equal(format!("greedy tokens row {row}"), actual, wanted));
        }
        checks.extend(self.check_loss(&golden, &rows[0])?);
        Ok(checks)
    }

    fn check_loss(
        &self,
        golden: &SafeTensors<'_>,
        tokens: &[TokenId],
    ) -> Result<Vec<Check>, VerifyError> {
        if tokens.len() < 2 {
            return Err(self.bad("row 0 needs two tokens for a loss"));
        }
        let mut wanted = Vec::new();
        for name in golden.names().into_iter().filter(|it| it.starts_with("grad.")) {
            wanted.push((name.to_owned(), self.floats(golden, name)?));
        }
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        let scale = wanted.iter().map(|(_, it)| largest(it)).fold(0.0, f64::max);
        let wanted_loss = self.floats(golden, "loss_row0")?;

        let (loss, gradients) = self.loss(tokens);
        let mut checks = vec![self.compare("loss row 0".to_owned(), &[loss], &wanted_loss)];
        for (name, expected) in wanted {
            let found =
                gradients.iter().find(|it| name.strip_prefix("grad.") == Some(&it.entry.name));
            let found =
                found.ok_or_else(|| self.bad(format!("the model has no tensor for {name}")))?;
            checks.push(self.compare_at(name, &found.to_vec(), &expected, scale));
        }
        Ok(checks)
    }

    /// Mean next-token cross-entropy of a row and its gradients.
    fn loss(&self, tokens: &[TokenId]) -> (f32, Vec<NamedTensor>) {
        let mut loss_mask = vec![true; tokens.len()];
        loss_mask[0] = false;
        let rows = PackedRows::new(&[TokenRow { tokens: tokens.to_vec(), loss_mask }]);
        let network = self.network.clone().train();
        let (grads, loss) = network.flat_gradients(&rows, false, |scores: FlatScores| {
            let loss = -scores.log_probs.mean();
            (loss.clone(), loss.into_scalar::<f32>())
        });
        (loss, named_gradients(&network, &grads))
    }

    fn check_text(&self) -> Result<Vec<Check>, VerifyError> {
        #[derive(Deserialize)]
        struct Golden {
            prompt_ids: Vec<TokenId>,
            greedy_ids: Vec<TokenId>,
            text: Option<String>,
        }
        let text =
            crate::model_file::read_text(self.golden).map_err(|it| self.bad(it.to_string()))?;
        let golden: Golden = serde_json::from_str(&text).map_err(|it| self.bad(it.to_string()))?;
        let prompts = [golden.prompt_ids];
        let tokens = self.greedy(&prompts, golden.greedy_ids.len())?.remove(0);
        let mut checks = vec![equal("greedy tokens".to_owned(), &tokens, &golden.greedy_ids)];
        if let Some(wanted) = golden.text {
            let tokenizer = Tokenizer::from_dir(self.dir).map_err(CheckpointError::from)?;
            let decoded: Vec<char> = tokenizer.decode(&tokens).chars().collect();
            checks.push(equal("text".to_owned(), &decoded, &wanted.chars().collect::<Vec<_>>()));
        }
        Ok(checks)
    }

    /// Logits of every token of each row, `[len * vocab]` per row.
    fn logits(&self, rows: &[Vec<TokenId>]) -> Vec<Vec<f32>> {
        let hidden = self.network.model.predicting(&PackedRows::whole(rows));
        let logits: Vec<f32> = self.network.head(hidden).into_data().iter::<f32>().collect();
        let mut rest = &logits[..];
        let mut of_row = |row: &Vec<TokenId>| {
            let (logits, others) = rest.split_at(row.len() * self.config.vocab_size);
            rest = others;
            logits.to_vec()
        };
        rows.iter().map(&mut of_row).collect()
    }

    /// Greedy continuations with the KV cache, ignoring end-of-sequence tokens.
    fn greedy(&self, rows: &[Vec<TokenId>], new: usize) -> Result<Vec<Vec<TokenId>>, VerifyError> {
        let config = ModelConfig { eos_token_ids: Vec::new(), ..self.config.clone() };
        let network = std::slice::from_ref(&self.network);
        let mut session =
            LocalSession::new(network, &config, None, [rows.len(); 2], &Arc::default());
        let requests: Vec<SequenceRequest<'_>> = rows
            .iter()
            .enumerate()
            .map(|(sequence, append)| SequenceRequest { sequence, append, key: StreamKey::new(0) })
            .collect();
        let params =
            SamplingParams { temperature: 0.0, max_new_tokens: new, ..SamplingParams::default() };
        let completions = session.extend(&requests, &params, &mut |_, _| {})?;
        Ok(completions.into_iter().map(|it| it.tokens).collect())
    }

    fn compare(&self, name: String, actual: &[f32], expected: &[f32]) -> Check {
        self.compare_at(name, actual, expected, largest(expected))
    }

    /// Compares values with errors relative to `scale`.
    fn compare_at(&self, name: String, actual: &[f32], expected: &[f32], scale: f64) -> Check {
        let differences = actual.iter().zip(expected).map(|(a, e)| f64::from(*a) - f64::from(*e));
        // `max` would drop a NaN, which must fail.
        let max_abs_error = differences
            .fold(0.0_f64, |max, it| if it.is_nan() { f64::INFINITY } else { max.max(it.abs()) });
        let max_rel_error = max_abs_error / scale.max(f64::MIN_POSITIVE);
        let passed = actual.len() == expected.len() && max_rel_error <= self.tolerance;
        Check { name, max_abs_error, max_rel_error, passed, detail: String::new() }
    }

    fn bad(&self, message: impl Into<String>) -> VerifyError {
        VerifyError::Golden { path: self.golden.to_owned(), message: message.into() }
    }

    fn floats(&self, golden: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, VerifyError> {
        let view = golden.tensor(name).map_err(|it| self.bad(format!("{name}: {it}")))?;
        to_f32(view.dtype(), view.data())
            .ok_or_else(|| self.bad(format!("{name} has no floating-point values")))
    }

    fn ints(
        &self,
        golden: &SafeTensors<'_>,
        name: &str,
    ) -> Result<(Vec<i64>, Vec<usize>), VerifyError> {
        let view = golden.tensor(name).map_err(|it| self.bad(format!("{name}: {it}")))?;
        if view.dtype() != Dtype::I64 {
            return Err(self.bad(format!("{name} does not hold I64")));
        }
        let values = view.data().as_chunks::<8>().0.iter().map(|it| i64::from_le_bytes(*it));
        Ok((values.collect(), view.shape().to_vec()))
    }
}

/// Largest absolute value.
fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |max, it| f64::max(max, f64::from(it.abs())))
}

fn equal<T: PartialEq + std::fmt::Debug>(name: String, actual: &[T], expected: &[T]) -> Check {
    let differing = actual.iter().zip(expected).filter(|(a, e)| a != e).count()
        + actual.len().abs_diff(expected.len());
    let first =
        (0..actual.len().max(expected.len())).find(|&it| actual.get(it) != expected.get(it));
    let detail = first.map_or_else(String::new, |at| {
        format!("position {at}: {:?}, expected {:?}", actual.get(at), expected.get(at))
    });
    Check {
        name,
        max_abs_error: differing as f64,
        max_rel_error: differing as f64 / expected.len().max(1) as f64,
        passed: differing == 0,
        detail,
    }
}
