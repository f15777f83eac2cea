//! Writing of golden files from one device, for verification of another.

use std::path::Path;

use burn::tensor::Device;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use super::{Subject, VerifyError};
use crate::checkpoint::load_network;
use crate::{CheckpointError, ModelConfig, TokenId};

/// Writes the results of a model directory on a device as a golden file for
/// [`verify()`](crate::verify()) on another device. The inputs are three rows of arbitrary tokens
/// of different lengths.
///
/// # Errors
///
/// Fails if the model cannot be read or the file cannot be written.
pub fn write_golden(dir: &Path, golden: &Path, device: &Device) -> Result<(), VerifyError> {
    const LENGTHS: [usize; 3] = [24, 17, 5];
    const GREEDY: usize = 16;
    let config = ModelConfig::from_dir(dir).map_err(CheckpointError::from)?;
    let network = load_network(dir, &config, device)?;
    let vocab = config.vocab_size;
    let width =
        LENGTHS.map(|it| it.min(config.max_position_embeddings.saturating_sub(GREEDY).max(2)));
    let row = |row: usize| (0..width[row]).map(move |at| (row * 31 + at * 7 + 1) % vocab);
    let rows: Vec<Vec<TokenId>> =
        (0..LENGTHS.len()).map(|it| row(it).map(|token| token as TokenId).collect()).collect();
    let subject = Subject { dir, config, network, golden, tolerance: 0.0 };
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |row: &Vec<TokenId>| -> Vec<i64> {
        row.iter().map(|it| i64::from(*it)).chain(std::iter::repeat(0)).take(width).collect()
    };
    let mut logits = subject.logits(&rows);
    logits.iter_mut().for_each(|it| it.resize(width * vocab, 0.0));
    let greedy = subject.greedy(&rows, GREEDY)?;
    let bad = |message: String| VerifyError::Golden { path: golden.to_owned(), message };
    let (loss, gradients) = subject.loss(&rows[0]);
    let num = rows.len();
    let lengths = rows.iter().map(|it| it.len() as i64).collect();
    let ids = |rows: &[Vec<TokenId>]| rows.iter().flatten().map(|it| i64::from(*it)).collect();
    let mut entries = vec![
        ints("input_ids", &[num, width], rows.iter().flat_map(padded).collect()),
        ints("lengths", &[num], lengths),
        floats("logits", &[num, width, vocab], logits.concat()),
        ints("greedy_ids", &[num, GREEDY], ids(&greedy)),
        floats("loss_row0", &[1], vec![loss]),
    ];
    entries.extend(
        gradients
            .iter()
            .map(|it| floats(&format!("grad.{}", it.entry.name), &it.entry.shape, it.to_vec())),
    );
    let views = entries.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views: Vec<_> =
        views.collect::<Result<_, SafeTensorError>>().map_err(|it| bad(it.to_string()))?;
    safetensors::serialize_to_file(views, None, golden).map_err(|it| bad(it.to_string()))
}

/// Tensor of a golden file: name, dtype, shape and bytes.
type GoldenTensor = (String, Dtype, Vec<usize>, Vec<u8>);

fn ints(name: &str, shape: &[usize], values: Vec<i64>) -> GoldenTensor {
    let bytes = values.into_iter().flat_map(i64::to_le_bytes).collect();
    (name.to_owned(), Dtype::I64, shape.to_vec(), bytes)
}

fn floats(name: &str, shape: &[usize], values: Vec<f32>) -> GoldenTensor {
    let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
    (name.to_owned(), Dtype::F32, shape.to_vec(), bytes)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::testing::{byte_tokenizer, tiny_config};
    use crate::{LanguageModel, verify};

    #[test]
    fn a_device_agrees_with_itself_and_not_with_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, golden) = (folder.path().join("model"), folder.path().join("golden.safetensors"));
        let save = |seed| {
            let device = Device::flex();
            LanguageModel::initialize(tiny_config(), byte_tokenizer(), seed, &device)
                .save(&dir)
                .unwrap();
        };
        save(1);
        write_golden(&dir, &golden, &Device::flex()).unwrap();
        let report = verify(&dir, &golden, 1e-6, &Device::flex()).unwrap();
        assert!(report.passed(), "{report:#?}");
        // Logits twice and greedy tokens for three rows, a loss, and a gradient per tensor.
        assert_eq!(report.checks.len(), 9 + 1 + 26);
        save(2);
        assert!(!verify(&dir, &golden, 1e-2, &Device::flex()).unwrap().passed());
    }
}
