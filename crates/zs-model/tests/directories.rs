//! Odd model directories, made of a good one by changes, with what is right for each: it loads, or is
//! refused by name. Loading and `verify_directory` must agree.
#![cfg(feature = "flex")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use burn::tensor::Device;
use serde_json::{Value, json};
use zs_model::testing::{BYTE_EOS, byte_tokenizer, tiny_config};
use zs_model::{
    Architecture, DirectoryState, Generator, LanguageModel, ModelConfig, SaveOptions, WeightCheck,
    verify_directory,
};

/// Change of one file of a directory.
enum Change<'a> {
    /// Sets fields of a JSON file, which is made if it is missing.
    Set(&'a str, Value),
    /// Writes a file.
    Write(&'a str, &'a str),
    Remove(&'a str),
    Rename(&'a str, &'a str),
}
use Change::{Remove, Rename, Set, Write};

fn apply(dir: &Path, change: &Change<'_>) {
    match change {
        Set(name, fields) => {
            let path = dir.join(name);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "{}".to_owned());
            let mut json: Value = serde_json::from_str(&text).unwrap();
            for (key, value) in fields.as_object().unwrap() {
                json[key] = value.clone();
            }
            std::fs::write(path, json.to_string()).unwrap();
        }
        Write(name, text) => {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Remove(name) => std::fs::remove_file(dir.join(name)).unwrap(),
        Rename(from, to) => std::fs::rename(dir.join(from), dir.join(to)).unwrap(),
    }
}

fn save(dir: &Path, max_shard_bytes: u64) {
    let config = ModelConfig {
        architecture: Architecture::Llama,
        qkv_bias: false,
        tie_word_embeddings: false,
        ..tiny_config()
    };
    let model = LanguageModel::initialize(config, byte_tokenizer(), 5, &Device::flex());
    model.save_with(dir, &SaveOptions { max_shard_bytes, ..SaveOptions::default() }).unwrap();
}

/// Checks a directory: without an expected error it loads, else finding and error hold the text.
#[track_caller]
fn check_in(dir: &Path, expected: &str) -> Option<LanguageModel> {
    let checks = verify_directory(dir, WeightCheck::Values);
    let problems: Vec<&str> = checks
        .iter()
        .filter(|it| it.state == DirectoryState::Problem)
        .map(|it| it.found.as_str())
        .collect();
    let loaded = LanguageModel::load(dir, &Device::flex());
    if expected.is_empty() {
        assert!(problems.is_empty(), "{problems:?}");
        return Some(loaded.unwrap());
    }
    assert!(problems.iter().any(|it| it.contains(expected)), "{expected}: {problems:?}");
    let error = loaded.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let message = format!("{error}: {cause}");
    assert!(message.contains(expected), "{expected}: {message}");
    None
}

#[track_caller]
fn check(changes: &[Change<'_>], expected: &str) -> Option<LanguageModel> {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    save(&model, u64::MAX);
    changes.iter().for_each(|it| apply(&model, it));
    check_in(&model, expected)
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";

#[test]
fn configurations() {
    let set = |fields: Value, expected: &str| {
        check(&[Set(CONFIG, fields)], expected);
    };
    set(json!({}), "");
    // Nulls count as left out.
    let nulls = json!({
        "rope_scaling": null, "rope_parameters": null, "sliding_window": null, "use_sliding_window": null,
        "layer_types": null, "quantization_config": null, "attention_bias": null, "mlp_bias": null,
        "hidden_act": null, "rms_norm_eps": null, "tie_word_embeddings": null, "bos_token_id": null,
        "eos_token_id": null, "head_dim": null, "num_experts": null, "max_position_embeddings": null,
        "partial_rotary_factor": null, "pad_token_id": null, "rope_theta": null,
    });
    set(nulls, "");
    set(json!({"architectures": null}), "");
    set(json!({"architectures": [], "model_type": "llama", "hidden_act": "swish"}), "");
    set(json!({"rope_scaling": {"rope_type": "default"}, "sliding_window": 4096}), "");
    set(json!({"rope_scaling": {"rope_type": null, "rope_theta": 5.0}}), "");
    set(json!({"rope_scaling": {"factor": 2.0}}), "no rope_type");
    set(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "rope_type = \"dynamic\"");
    set(json!({"rope_parameters": {"rope_theta": 5.0, "factor": 2.0}}), "no rope_type");
    set(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}),
        "rope_scaling: missing field",
    );
    set(
        json!({"quantization_config": {"quant_method": "awq", "bits": 4}}),
        "quantization_config = awq",
    );
    // Settings that programs read differently.
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    set(
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}, "rope_scaling": yarn}),
        "rope_parameters says otherwise",
    );
    set(json!({"rope_parameters": {"rope_theta": 5.0}, "rope_scaling": {"type": "default"}}), "");
    set(json!({"rope_parameters": {}, "rope_scaling": yarn}), "rope_type = \"yarn\"");
    set(json!({"rope_scaling": "linear"}), "rope_scaling = \"linear\"");
    set(json!({"rope_scaling": [2.0]}), "write an object");
    set(json!({"rope_scaling": {"rope_type": null, "type": "yarn"}}), "rope_type = \"yarn\"");
    for kind in ["linear", "longrope", "su", "mrope", "LLAMA3"] {
        set(json!({"rope_scaling": {"type": kind, "factor": 2.0}}), "use default or llama3");
    }
    for method in ["gptq", "fp8", "bitsandbytes", "compressed-tensors", "mxfp4"] {
        set(json!({"quantization_config": {"quant_method": method}}), method);
    }
    set(json!({"quantization_config": {"load_in_4bit": true}}), "quantization_config = unnamed");
    set(json!({"model_type": "qwen2"}), "model_type = qwen2");
    set(json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "llama"}), "another family");
    set(json!({"architectures": "LlamaForCausalLM"}), "architectures: invalid type");
    set(json!({"architectures": ["LlamaModel"]}), "architectures = LlamaModel");
    set(json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor = 0.5");
    set(json!({"hidden_act": "gelu"}), "hidden_act = gelu");
    set(json!({"mlp_bias": true}), "mlp_bias = true");
    set(json!({"max_position_embeddings": 256.0}), "max_position_embeddings: invalid type");
    for dtype in [json!("bfloat16"), json!("torch.float16"), json!("auto"), json!(null)] {
        set(json!({"dtype": dtype, "torch_dtype": dtype}), "");
    }
    set(json!({"num_experts": 8}), "mixtures of experts");
    set(json!({"architectures": ["MixtralForCausalLM"]}), "mixtures of experts");
    set(json!({"architectures": ["Qwen3MoeForCausalLM"]}), "mixtures of experts");
    set(json!({"architectures": ["Qwen2VLForConditionalGeneration"]}), "architectures = Qwen2VL");
    set(json!({"architectures": null, "model_type": null}), "architectures = (none)");
    set(json!({"use_sliding_window": true}), "use_sliding_window = true");
    set(json!({"layer_types": ["sliding_attention", "full_attention"]}), "sliding_attention");
    set(json!({"vocab_size": null}), "vocab_size is missing");
    set(json!({"vocab_size": 257.5}), "vocab_size: invalid type");
    set(json!({"eos_token_id": "<eos>"}), "eos_token_id: expected a token identifier");
    // Sizes are held against the files before memory is allocated.
    let huge = 1_u64 << 40;
    for field in ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"]
    {
        let message = format!("{huge} is not supported");
        set(json!({ field: huge }), if field == "head_dim" { "times head_dim" } else { &message });
        let large = match field {
            "num_hidden_layers" => "model.layers.2.",
            "head_dim" => "times head_dim",
            _ => "16777214",
        };
        set(json!({ field: 16_777_214 }), large);
    }
    set(json!({"max_position_embeddings": huge}), "max_position_embeddings");
    set(json!({"num_hidden_layers": 3}), "model.layers.2.");
    set(json!({"num_hidden_layers": 1}), "model.layers.1.");
    set(json!({"tie_word_embeddings": true}), "lm_head.weight differs");
    set(json!({"vocab_size": 258}), "calls for [258, 32]");
    check(&[Write(CONFIG, "{")], "config.json");
    check(&[Write(CONFIG, "\u{feff}{}")], "config.json");
    check(&[Write(CONFIG, POINTER)], "Git LFS pointer");
}

#[test]
fn weights() {
    let remove = |name, text| [Remove(WEIGHTS), Write(name, text)];
    check(&remove("pytorch_model.bin", "x"), "convert it with transformers");
    check(&remove("pytorch_model-00001-of-00002.bin", "x"), "convert it with transformers");
    check(&remove("model.gguf", "GGUF"), "GGUF does not load");
    check(&remove("adapter_config.json", "{}"), "LoRA adapters");
    check(&[Write("adapter_config.json", "{}")], "LoRA adapters in the same place");
    check(&[Write("pytorch_model.bin", "x"), Write("consolidated.safetensors", "x")], "");
    check(&[Rename(WEIGHTS, "model-00001-of-00002.safetensors")], "has another name");
    check(&[Remove(WEIGHTS)], "fetch the weights");
    check(&[Write(WEIGHTS, POINTER)], "Git LFS pointer");
    check(&[Write(WEIGHTS, "")], "it is empty");
    check(&[Write(WEIGHTS, "not safetensors at all")], "not a complete safetensors file");
    let index = "model.safetensors.index.json";
    for name in ["../model/x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", ""] {
        let map = json!({"weight_map": {"lm_head.weight": name}}).to_string();
        check(&[Remove(WEIGHTS), Write(index, &map)], "is not the name of a file");
    }
    check(&[Remove(WEIGHTS), Write(index, r#"{"weight_map": {"a": "b"}}"#)], "b: cannot be read");
    check(&[Remove(WEIGHTS), Write(index, "{}")], "not an index of weights");
}

#[cfg(unix)]
#[test]
fn pipes_are_not_opened_and_links_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    save(&path, 30_000);
    check_in(&path, "");
    let mut files = std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path());
    let shard = files.find(|it| it.to_string_lossy().contains("model-00001")).unwrap();
    // As in a hub cache, a shard may be a link.
    let blob = dir.path().join("blob");
    std::fs::rename(&shard, &blob).unwrap();
    std::os::unix::fs::symlink(&blob, &shard).unwrap();
    check_in(&path, "");
    std::fs::remove_file(&shard).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&shard).status().unwrap().success());
    check_in(&path, "not a regular file");
}

#[test]
fn values_must_be_finite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    save(&path, u64::MAX);
    let file = path.join(WEIGHTS);
    let mut bytes = std::fs::read(&file).unwrap();
    let len = bytes.len();
    bytes[len - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    check_in(&path, "holds NaN at position");
}

#[test]
fn what_is_no_model_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given");
    let check = |name: &str, text: &str, expected: &str| {
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir(&path).unwrap();
        apply(&path, &Write(name, text));
        check_in(&path, expected);
    };
    let adapter = r#"{"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}"#;
    check("adapter_config.json", adapter, "merge it into its base model Qwen/Qwen2.5-0.5B");
    check("snapshots/abc/config.json", "{}", "snapshots/abc");
    check("models--a--b/snapshots/abc/config.json", "{}", "a hub cache");
    check("q4.gguf", "GGUF", "a folder of GGUF files");
    check("consolidated.00.pth", "x", "layout of its authors");
    check("readme.md", "x", "config.json");
    check_in(&dir.path().join("none"), "config.json");
    let file = dir.path().join("m.GGUF");
    std::fs::write(&file, "GGUF").unwrap();
    check_in(&file, "a GGUF file");
}

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Checks the prompt that a message `Hi` becomes.
#[track_caller]
fn check_prompt(changes: &[Change<'_>], expected: &str) {
    let model = check(changes, "").unwrap();
    let prompt = model.tokenizer().encode_prompt("Hi").unwrap();
    assert_eq!(model.tokenizer().decode_with_special(&prompt), expected);
}

#[test]
fn templates() {
    const TEMPLATE: &str = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
    let text = |fields: Value| [Set(TOKENIZER_CONFIG, fields)];
    check_prompt(&[], "Hi");
    check_prompt(&text(json!({"chat_template": TEMPLATE, "eos_token": "<eos>"})), "Hi<eos>");
    check_prompt(
        &text(json!({"chat_template": TEMPLATE, "bos_token": {"content": "^"}, "eos_token": null})),
        "^Hi",
    );
    check_prompt(
        &[
            Write("chat_template.jinja", TEMPLATE),
            Write(
                "special_tokens_map.json",
                r#"{"bos_token": {"content": "^"}, "eos_token": "$"}"#,
            ),
        ],
        "^Hi$",
    );
    check_prompt(
        &[Write(
            "chat_template.json",
            &json!({ "chat_template": "p {{ messages[0].content }}" }).to_string(),
        )],
        "p Hi",
    );
    let named = json!([{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]);
    check_prompt(&text(json!({ "chat_template": named })), "d");
    check_prompt(&text(json!({"chat_template": {"default": "d", "rag": "r"}})), "d");
    check_prompt(&text(json!({ "chat_template": null })), "Hi");
    check_prompt(&[Write("additional_chat_templates/default.jinja", "a")], "a");
    check_prompt(&[Write("chat_template.jinja", "{{ strftime_now('%d %b %Y') }}")], "26 Jul 2024");
    check_prompt(
        &[
            Write("chat_template.jinja", "{{ strftime_now('%d %b %Y') }}"),
            Set(TOKENIZER_CONFIG, json!({"strftime_now": "2026-01-31"})),
        ],
        "31 Jan 2026",
    );
    check_prompt(&[Write("chat_template.jinja", r"{{ '\U0001F600 \/ \u00e9' }}")], "😀 \\/ é");
    let fails = |template: &str, expected: &str| {
        check(&[Write("chat_template.jinja", template)], expected);
    };
    fails("{% if %}", "chat_template.jinja");
    fails("{{ raise_exception('only with tools') }}", "only with tools");
    fails("{{ messages[0].content.no_such_method() }}", "chat_template.jinja");
    fails("{% for m in messages %}{{ m.content[0].text.x }}{% endfor %}", "chat_template.jinja");
    check(
        &text(json!({"chat_template": [{"name": "rag", "template": "r"}]})),
        "none of the templates",
    );
    check(&text(json!({ "chat_template": [] })), "none of the templates");
    check(&text(json!({ "chat_template": 3 })), "neither a text nor a list");
    check(
        &[
            Write("chat_template.jinja", "x"),
            Set(TOKENIZER_CONFIG, json!({"strftime_now": "today"})),
        ],
        "`today` is not a date",
    );
    check(&[Write(TOKENIZER_CONFIG, "[]")], TOKENIZER_CONFIG);
    check(&[Write("special_tokens_map.json", POINTER)], "Git LFS pointer");
}

#[test]
fn templates_of_strangers_end() {
    for template in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ (['a' * 1000] * 100000) | join('b' * 1000) }}",
        "{{ 'a' * 9999999999 }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages[0].content.ljust(9999999999) }}",
    ] {
        check(&[Write("chat_template.jinja", template)], "chat_template.jinja");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    check(&[Write("chat_template.jinja", &deep)], "chat_template.jinja");
    let long = "x".repeat((1 << 20) + 1);
    check(&[Write("chat_template.jinja", &long)], "KiB");
}

#[test]
fn tokenizers() {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(&byte_tokenizer().to_json().unwrap()).unwrap();
        change(&mut json);
        json.to_string()
    };
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        check(&[Write("tokenizer.json", &changed(change))], expected);
    };
    check(&[Write("tokenizer.json", POINTER)], "Git LFS pointer");
    check(&[Write("tokenizer.json", "{}")], "tokenizer.json");
    check(&[Remove("tokenizer.json")], "tokenizer.json");
    check(&[Rename("tokenizer.json", "tokenizer.model")], "convert it with transformers");
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
    let many = json!({"type": "Sequence", "normalizers": vec![replace; 30]});
    refused(&|it| it["normalizer"] = many.clone(), "lengthen a text");
    let broken = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
    refused(&|it| it["normalizer"] = broken.clone(), "tokenizer.json");
    let more = json!({"id": 300, "content": "<more>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    refused(&|it| it["added_tokens"].as_array_mut().unwrap().push(more.clone()), "only 257 rows");
}

/// Checks the tokens of a text with tags, by their texts, of a model whose embedding has rows to spare.
#[track_caller]
fn check_tokens(changes: &[Change<'_>], text: &str, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::fs::write(path.join("tokenizer.json"), byte_tokenizer().to_json().unwrap()).unwrap();
    changes.iter().for_each(|it| apply(path, it));
    let tokenizer = zs_model::Tokenizer::from_dir(path).unwrap();
    let tokens = tokenizer.encode(text).unwrap();
    let texts: Vec<String> = tokens.iter().map(|it| tokenizer.token_text(*it).unwrap()).collect();
    assert_eq!(texts, expected);
    assert_eq!(tokenizer.decode_with_special(&tokens), text);
}

/// The tokens that transformers 5.24 has for the same files.
#[test]
fn tokens_that_the_configuration_adds() {
    let object = |flags: Value| {
        let mut token = json!({"content": "<s1>", "special": true, "lstrip": false, "rstrip": false,
            "single_word": false, "normalized": false});
        for (name, value) in flags.as_object().unwrap() {
            token[name] = value.clone();
        }
        token
    };
    let config = |fields: Value| Set(TOKENIZER_CONFIG, fields);
    let split = ["<", "s", "1", ">"];
    check_tokens(&[], "<s1>", &split);
    check_tokens(
        &[config(json!({"added_tokens_decoder": {"300": object(json!({}))}}))],
        "<s1>",
        &["<s1>"],
    );
    check_tokens(
        &[config(json!({"additional_special_tokens": ["<s1>"]}))],
        "a<s1>",
        &["a", "<s1>"],
    );
    check_tokens(
        &[config(json!({"extra_special_tokens": [object(json!({}))]}))],
        "<s1>",
        &["<s1>"],
    );
    check_tokens(&[Write("added_tokens.json", r#"{"<s1>": 300}"#)], "<s1>", &["<s1>"]);
    let map = r#"{"additional_special_tokens": ["<s1>"]}"#;
    check_tokens(&[Write("special_tokens_map.json", map)], "<s1>", &["<s1>"]);
    // A list in `tokenizer_config.json` holds in place of the files of older versions.
    let list = json!({"added_tokens_decoder": {}});
    check_tokens(
        &[
            config(list),
            Write("added_tokens.json", r#"{"<s1>": 300}"#),
            Write("special_tokens_map.json", map),
        ],
        "<s1>",
        &split,
    );
    // The flags of a token that is there already.
    let eos = object(json!({"content": "<eos>", "lstrip": true}));
    check_tokens(&[config(json!({"added_tokens_decoder": {"256": eos}}))], "<eos>", &["<eos>"]);
    check_tokens(
        &[config(json!({"split_special_tokens": true}))],
        "<eos>",
        &["<", "e", "o", "s", ">"],
    );
    // A role alone adds no token; beside others its token comes first, as in transformers.
    check_tokens(&[config(json!({"eos_token": "<s1>"}))], "<s1>", &split);
    let both = json!({"eos_token": "<s1>", "additional_special_tokens": ["<s2>"]});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), byte_tokenizer().to_json().unwrap()).unwrap();
    apply(dir.path(), &config(both));
    let tokenizer = zs_model::Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!((tokenizer.token_id("<s1>"), tokenizer.token_id("<s2>")), (Some(257), Some(258)));
    let broken = json!({"added_tokens_decoder": {"x": "<s1>"}});
    check(&[config(broken)], "`added_tokens_decoder` holds what is no token");
    check(&[Write("added_tokens.json", r#"{"<s1>": "300"}"#)], "added_tokens.json");
    // The model has no row for it.
    check(&[config(json!({"additional_special_tokens": ["<s1>"]}))], "only 257 rows");
}

/// A vocabulary of words that takes tags apart, until it holds them as tokens.
#[test]
fn tags_that_do_not_come_back_are_named() {
    let words = ["[UNK]", "a", "b", "search", "answer", "think", "<", ">", "</"];
    let vocab: serde_json::Map<String, Value> =
        words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
    let tokenizer = |added: &[&str]| {
        let token = |(content, id): (&&str, usize)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": false})
        };
        let added: Vec<Value> = added.iter().zip(words.len()..).map(token).collect();
        json!({"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}})
        .to_string()
    };
    let lost = |added: &[&str]| {
        let bytes = tokenizer(added).into_bytes();
        zs_model::Tokenizer::from_bytes(&bytes, "tokenizer.json").unwrap().lost_tags()
    };
    let apart = lost(&[]);
    assert_eq!((apart.len(), &apart[0]), (6, &("<search>", "a < search > b".to_owned())));
    let tags = ["<search>", "</search>", "<answer>", "</answer>", "<think>", "</think>"];
    assert_eq!(lost(&tags), []);
    assert_eq!(lost(&tags[..4]).len(), 2);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    save(&path, u64::MAX);
    std::fs::write(path.join("tokenizer.json"), tokenizer(&[])).unwrap();
    let checks = verify_directory(&path, WeightCheck::Headers);
    let tags = checks.iter().find(|it| it.name == "tags").unwrap();
    assert!(tags.found.contains("comes back as `a < search > b`"), "{}", tags.found);
}

/// Checks the tokens that end a sequence.
#[track_caller]
fn check_ends(changes: &[Change<'_>], expected: &[u32]) {
    let model = check(changes, "").unwrap();
    assert_eq!(model.config().eos_token_ids, expected);
}

#[test]
fn sequences_end_with_the_tokens_of_every_file() {
    const GENERATION: &str = "generation_config.json";
    let none = || Set(CONFIG, json!({"eos_token_id": null}));
    check_ends(&[none(), Write(GENERATION, "{}"), Write(TOKENIZER_CONFIG, "{}")], &[]);
    check_ends(&[none(), Write(GENERATION, r#"{"eos_token_id": null}"#)], &[BYTE_EOS]);
    check_ends(
        &[
            Set(CONFIG, json!({"eos_token_id": 7})),
            Write(GENERATION, r#"{"eos_token_id": [7, 8]}"#),
            Write(TOKENIZER_CONFIG, r#"{"eos_token": {"content": "<eos>"}}"#),
        ],
        &[7, 8, BYTE_EOS],
    );
    check_ends(
        &[
            none(),
            Remove(GENERATION),
            Write(TOKENIZER_CONFIG, "{}"),
            Write("special_tokens_map.json", r#"{"eos_token": "<eos>"}"#),
        ],
        &[BYTE_EOS],
    );
}

/// Makes every text of a list a special token of the byte tokenizer, from 257 on.
fn with_special(texts: &[&str]) -> String {
    let mut json: Value = serde_json::from_str(&byte_tokenizer().to_json().unwrap()).unwrap();
    for (id, text) in (257..).zip(texts) {
        json["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }));
    }
    json.to_string()
}

#[test]
fn tags_that_are_special_tokens_are_text() {
    let text =
        "<think> a </think> <search> b </search><|im_end|>[PAD]<answer> c </answer><stop><eos>";
    let special = [
        "<think>",
        "</think>",
        "<search>",
        "</search>",
        "<|im_end|>",
        "[PAD]",
        "<answer>",
        "</answer>",
        "<stop>",
    ];
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), with_special(&special)).unwrap();
    std::fs::write(dir.path().join(TOKENIZER_CONFIG), r#"{"eos_token": "<stop>"}"#).unwrap();
    let tokenizer = zs_model::Tokenizer::from_dir(dir.path()).unwrap();
    let tokens = tokenizer.encode(text).unwrap();
    assert!(tokens.len() < text.len() - 60, "{tokens:?}");
    let kept = "<think> a </think> <search> b </search><answer> c </answer>";
    assert_eq!(tokenizer.decode(&tokens), kept);
    assert_eq!(tokenizer.decode_with_special(&tokens), text);
    assert_eq!(tokenizer.prefill(&tokenizer.encode("Hi <think>\n").unwrap()), "<think>\n");
}
