//! Checkpoint files: shards, dtypes, and errors for malformed files.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use zs_core::StreamKey;
use zs_model::testing::{byte_tokenizer, tiny_config};
use zs_model::{
    GenerateError, Generator, LanguageModel, ModelConfig, PolicyModel, SamplingParams, SaveOptions,
    TokenRow, WeightDtype,
};

fn model() -> LanguageModel {
    let config = ModelConfig { tie_word_embeddings: false, ..tiny_config() };
    LanguageModel::initialize(config, byte_tokenizer(), 5, &Device::flex())
}

fn log_probs(model: &LanguageModel) -> Vec<f32> {
    let tokens: Vec<u32> = (0..20).map(|it| it * 11 % 250).collect();
    let row = TokenRow { loss_mask: (0..20).map(|it| it > 0).collect(), tokens };
    model.network().token_scores(&[row]).log_probs.into_data().iter::<f32>().collect()
}

fn shards(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "safetensors"));
    files.sort();
    files
}

#[test]
fn sharded_checkpoints_load_as_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let options = SaveOptions { max_shard_bytes: 30_000, ..SaveOptions::default() };
    model().save_with(&path, &options).unwrap();
    let shards = shards(&path);
    assert!(shards.len() > 3, "{shards:?}");
    let last = shards.last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(last, format!("model-{0:05}-of-{0:05}.safetensors", shards.len()));
    for shard in &shards {
        let bytes = std::fs::read(shard).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        // A tensor larger than a shard gets its own file.
        assert!(bytes.len() < 40_000 || metadata.tensors().len() == 1, "{}", bytes.len());
    }
    let text = std::fs::read_to_string(path.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let parameters =
        257 * 32 * 2 + 32 + 2 * (3 * 32 * 64 + 2 * 32 + 2 * 32 * 32 + 32 + 2 * 33 * 16);
    assert_eq!(index["metadata"]["total_size"], parameters * 4);
    let loaded = LanguageModel::load(&path, &Device::flex()).unwrap();
    assert_eq!(log_probs(&loaded), log_probs(&model()));
}

#[test]
fn half_precision_checkpoints_lose_only_their_rounding() {
    for (dtype, name, tolerance) in
        [(WeightDtype::Bf16, "bfloat16", 0.1), (WeightDtype::F16, "float16", 0.01)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let options = SaveOptions { dtype, ..SaveOptions::default() };
        model().save_with(&first, &options).unwrap();
        let config = std::fs::read_to_string(first.join("config.json")).unwrap();
        assert!(config.contains(&format!("\"torch_dtype\": \"{name}\"")), "{config}");
        let loaded = LanguageModel::load(&first, &Device::flex()).unwrap();
        let (exact, rounded) = (log_probs(&model()), log_probs(&loaded));
        assert_ne!(exact, rounded);
        for (a, b) in exact.iter().zip(&rounded) {
            assert!((a - b).abs() < tolerance, "{dtype:?}: {a} {b}");
        }
        // Rounding again changes nothing.
        loaded.save_with(&second, &options).unwrap();
        let file = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        assert_eq!(file(&first), file(&second));
    }
}

#[test]
fn auxiliary_files_are_preserved() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    model().save(&first).unwrap();
    let extra = [
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer_config.json", "{\"chat_template\": \"x\"}"),
        ("special_tokens_map.json", "{}"),
        ("merges.txt", "#version: 0.2"),
    ];
    for (name, text) in extra {
        std::fs::write(first.join(name), text).unwrap();
    }
    std::fs::write(first.join("README.md"), "not a model file").unwrap();
    let config = std::fs::read_to_string(first.join("config.json")).unwrap();
    let config = config.replacen('{', "{\n  \"pad_token_id\": 7,", 1);
    std::fs::write(first.join("config.json"), config).unwrap();

    // Other weights with the same files.
    let trained = LanguageModel::load(&first, &Device::flex()).unwrap();
    trained.with_network(model().network()).save(&second).unwrap();
    for (name, text) in extra {
        assert_eq!(std::fs::read_to_string(second.join(name)).unwrap(), text);
    }
    assert!(!second.join("README.md").exists());
    let config = std::fs::read_to_string(second.join("config.json")).unwrap();
    assert!(config.contains("\"pad_token_id\": 7"), "{config}");
    // A trailing slash names the same directory.
    trained.save(&second.join("")).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Tensors of a file by name: dtype, shape and bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn rewrite(path: &Path, edit: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .iter()
        .map(|(name, it)| (name.to_owned(), (it.dtype(), it.shape().to_vec(), it.data().to_vec())))
        .collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[track_caller]
fn refuses(options: &SaveOptions, break_it: impl FnOnce(&Path), expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model().save_with(&path, options).unwrap();
    break_it(&path);
    let message = LanguageModel::load(&path, &Device::flex()).unwrap_err().to_string();
    for expected in expected {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn errors_name_the_file_and_the_tensor() {
    const FILE: &str = "model.safetensors";
    let whole = SaveOptions::default();
    let edit = |edit: fn(&mut Tensors)| move |dir: &Path| rewrite(&dir.join(FILE), edit);
    refuses(
        &whole,
        edit(|it| drop(it.remove("model.norm.weight"))),
        &[FILE, "model.norm.weight is missing"],
    );
    refuses(
        &whole,
        edit(|it| drop(it.remove("lm_head.weight"))),
        &[FILE, "lm_head.weight is missing"],
    );
    refuses(
        &whole,
        edit(|it| {
            let norm = it["model.norm.weight"].clone();
            it.insert("model.layers.0.self_attn.q_norm.weight".into(), norm);
        }),
        &[FILE, "q_norm.weight is not part of the model"],
    );
    refuses(
        &whole,
        edit(|it| it.get_mut("model.norm.weight").unwrap().1 = vec![2, 16]),
        &[FILE, "model.norm.weight has shape [2, 16], but config.json calls for [32]"],
    );
    refuses(
        &whole,
        edit(|it| it.get_mut("model.norm.weight").unwrap().0 = Dtype::I32),
        &[FILE, "model.norm.weight holds I32"],
    );
    refuses(
        &whole,
        |dir| std::fs::write(dir.join(FILE), b"not a file of weights").unwrap(),
        &[FILE, "not a complete safetensors file"],
    );
}

#[test]
fn errors_name_the_shard() {
    const INDEX: &str = "model.safetensors.index.json";
    let sharded = SaveOptions { max_shard_bytes: 30_000, ..SaveOptions::default() };
    refuses(
        &sharded,
        |dir| std::fs::remove_file(&shards(dir)[1]).unwrap(),
        &["model-00002-of-", "cannot be read"],
    );
    refuses(
        &sharded,
        |dir| {
            let shard = &shards(dir)[1];
            let bytes = std::fs::read(shard).unwrap();
            std::fs::write(shard, &bytes[..bytes.len() - 4]).unwrap();
        },
        &["model-00002-of-", "not a complete safetensors file"],
    );
    refuses(
        &sharded,
        |dir| {
            let mut found = false;
            for shard in shards(dir) {
                rewrite(&shard, |it| found |= it.remove("model.norm.weight").is_some());
            }
            assert!(found);
        },
        &["model-000", "model.norm.weight is missing"],
    );
    refuses(
        &sharded,
        |dir| {
            let shards = shards(dir);
            let bytes = std::fs::read(&shards[0]).unwrap();
            std::fs::write(&shards[1], bytes).unwrap();
        },
        &["model-00002-of-", "is also in", "model-00001-of-"],
    );
    refuses(&sharded, |dir| std::fs::write(dir.join(INDEX), "{}").unwrap(), &[INDEX, "weight_map"]);
}

#[test]
fn weights_that_are_not_finite_are_named() {
    const NAME: &str = "model.layers.1.self_attn.q_proj.weight";
    for (dtype, bytes, value) in [
        (WeightDtype::F32, f32::NAN.to_le_bytes().to_vec(), "NaN"),
        (WeightDtype::F32, f32::INFINITY.to_le_bytes().to_vec(), "inf"),
        (WeightDtype::Bf16, half::bf16::NEG_INFINITY.to_le_bytes().to_vec(), "-inf"),
        (WeightDtype::F16, half::f16::NAN.to_le_bytes().to_vec(), "NaN"),
    ] {
        let edit = |dir: &Path| {
            rewrite(&dir.join("model.safetensors"), |it| {
                let width = bytes.len();
                it.get_mut(NAME).unwrap().2[5 * width..6 * width].copy_from_slice(&bytes);
            });
        };
        let expected = format!("model.safetensors: tensor {NAME} holds {value} at position 5");
        refuses(&SaveOptions { dtype, ..SaveOptions::default() }, edit, &[&expected]);
    }
}

#[test]
fn logits_that_are_not_finite_are_an_error_that_names_row_and_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    model().save(&path).unwrap();
    // Finite weights whose products are not.
    rewrite(&path.join("model.safetensors"), |it| {
        let norm = &mut it.get_mut("model.norm.weight").unwrap().2;
        norm.chunks_exact_mut(4).for_each(|it| it.copy_from_slice(&f32::MAX.to_le_bytes()));
    });
    let broken = LanguageModel::load(&path, &Device::flex()).unwrap();
    // One worker, and several with a share of the sequences each.
    for num_sequences in [1, 40] {
        for temperature in [0.0, 1.0] {
            let params = SamplingParams { temperature, ..SamplingParams::default() };
            let prompts: Vec<_> =
                (0..num_sequences).map(|it| (vec![65; 3], StreamKey::new(it))).collect();
            let error = broken.generate(&prompts, &params).unwrap_err();
            let is_named = matches!(error, GenerateError::NotFinite { sequence: 0, position: 3 });
            assert!(is_named, "{error:?}");
        }
    }
}

#[test]
fn a_copy_of_a_tied_head_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let tied = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 5, &Device::flex());
    tied.save(&path).unwrap();
    rewrite(&path.join("model.safetensors"), |it| {
        let embedding = it["model.embed_tokens.weight"].clone();
        it.insert("lm_head.weight".into(), embedding);
        it.insert(
            "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
            (Dtype::F32, vec![1], vec![0; 4]),
        );
    });
    let loaded = LanguageModel::load(&path, &Device::flex()).unwrap();
    assert_eq!(log_probs(&loaded), log_probs(&tied));
}
