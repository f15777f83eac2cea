//! Writer of small GGUF files, which shares no code with the reader.

use half::f16;

use super::byte_alphabet;

/// GGUF file in memory, version 3: metadata and tensors in the order in which they are added.
///
/// ```
/// use zs_model::testing::GgufWriter;
///
/// let mut file = GgufWriter::default();
/// file.text("general.architecture", "llama");
/// file.f32_tensor("output_norm.weight", &[2], &[1.0, 1.0]);
/// assert!(file.bytes().starts_with(b"GGUF"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    fields: Vec<(String, Vec<u8>)>,
    tensors: Vec<GgufTestTensor>,
}

#[derive(Clone, Debug)]
struct GgufTestTensor {
    name: String,
    dimensions: Vec<u64>,
    kind: u32,
    data: Vec<u8>,
}

impl GgufWriter {
    /// Sets a text field.
    pub fn text(&mut self, key: &str, value: &str) {
        self.field(key, 8, &string(value));
    }

    /// Sets a u32 field.
    pub fn integer(&mut self, key: &str, value: u32) {
        self.field(key, 4, &value.to_le_bytes());
    }

    /// Sets an f32 field.
    pub fn number(&mut self, key: &str, value: f32) {
        self.field(key, 6, &value.to_le_bytes());
    }

    /// Sets a field of a truth value.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.field(key, 7, &[value.into()]);
    }

    /// Sets a list of texts.
    pub fn texts(&mut self, key: &str, values: &[impl AsRef<str>]) {
        let values: Vec<Vec<u8>> = values.iter().map(|it| string(it.as_ref())).collect();
        self.array(key, 8, &values);
    }

    /// Sets a list of i32.
    pub fn integers(&mut self, key: &str, values: &[i32]) {
        let values: Vec<Vec<u8>> = values.iter().map(|it| it.to_le_bytes().to_vec()).collect();
        self.array(key, 5, &values);
    }

    /// Sets a list of f32.
    pub fn numbers(&mut self, key: &str, values: &[f32]) {
        let values: Vec<Vec<u8>> = values.iter().map(|it| it.to_le_bytes().to_vec()).collect();
        self.array(key, 6, &values);
    }

    /// Sets a field of GGUF's value type `kind`; replaces an earlier one.
    pub fn field(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.remove(key);
        self.fields.push((key.to_owned(), [&kind.to_le_bytes(), value].concat()));
    }

    fn array(&mut self, key: &str, kind: u32, values: &[Vec<u8>]) {
        let length = values.len() as u64;
        let header = [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
        self.field(key, 9, &[header, values.concat()].concat());
    }

    /// Removes a field or a tensor.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|it| it.0 != name);
        self.tensors.retain(|it| it.name != name);
    }

    /// Adds an f32 tensor; `shape` is row-major.
    pub fn f32_tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let data = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        self.tensor(name, shape, 0, data);
    }

    /// Adds an f16 tensor; `shape` is row-major.
    pub fn f16_tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let data = values.iter().flat_map(|it| f16::from_f32(*it).to_le_bytes()).collect();
        self.tensor(name, shape, 1, data);
    }

    /// Adds a tensor of GGML's type `kind`, or replaces the one of that name; `shape` is row-major.
    pub fn tensor(&mut self, name: &str, shape: &[usize], kind: u32, data: Vec<u8>) {
        let dimensions = shape.iter().rev().map(|&it| it as u64).collect();
        self.tensors.retain(|it| it.name != name);
        self.tensors.push(GgufTestTensor { name: name.to_owned(), dimensions, kind, data });
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.fields.len() as u64).to_le_bytes());
        for (key, value) in &self.fields {
            out.extend(string(key));
            out.extend(value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|it| out.extend(it.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

/// Text with its length in front.
fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// GGUF file of a Llama with one block of width 32 and a byte-level tokenizer: token `i` is the byte
/// `i`, 256 is `ab`, and `<eos>` is 257. Matrices of the feed-forward layer are Q8_0, others f32.
#[must_use]
pub fn tiny_gguf() -> GgufWriter {
    let mut file = GgufWriter::default();
    file.text("general.architecture", "llama");
    file.text("general.name", "Tiny");
    file.text("general.license", "mit");
    for (key, value) in [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 8),
    ] {
        file.integer(&format!("llama.{key}"), value);
    }
    file.number("llama.attention.layer_norm_rms_epsilon", 1e-5);
    file.number("llama.rope.freq_base", 10_000.0);

    let mut tokens: Vec<String> = byte_alphabet().iter().map(char::to_string).collect();
    tokens.extend(["ab".to_owned(), "<eos>".to_owned()]);
    let mut types = vec![1; 258];
    types[257] = 3;
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", "smollm");
    file.texts("tokenizer.ggml.tokens", &tokens);
    file.integers("tokenizer.ggml.token_type", &types);
    file.texts("tokenizer.ggml.merges", &["a b"]);
    file.integer("tokenizer.ggml.eos_token_id", 257);
    file.text("tokenizer.chat_template", "{{ messages[0].content }}<eos>");

    let values = |count: usize, seed: usize| -> Vec<f32> {
        (0..count).map(|it| ((it * 37 + seed) % 101) as f32 / 64.0 - 0.75).collect()
    };
    let matrices: [(&str, [usize; 2]); 5] = [
        ("token_embd", [258, 32]),
        ("blk.0.attn_q", [32, 32]),
        ("blk.0.attn_k", [16, 32]),
        ("blk.0.attn_v", [16, 32]),
        ("blk.0.attn_output", [32, 32]),
    ];
    for (seed, (name, shape)) in matrices.into_iter().enumerate() {
        let values = values(shape[0] * shape[1], seed);
        file.f32_tensor(&format!("{name}.weight"), &shape, &values);
    }
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
        file.f32_tensor(&format!("{name}.weight"), &[32], &[1.0; 32]);
    }
    for (seed, name) in ["gate", "up", "down"].into_iter().enumerate() {
        let shape = if name == "down" { [32, 64] } else { [64, 32] };
        let block = |it: usize| {
            let quants = (0..32).map(move |at| ((it * 32 + at) * 29 + seed) as u8);
            f16::from_f32(0.007).to_le_bytes().into_iter().chain(quants)
        };
        let data = (0..64).flat_map(block).collect();
        file.tensor(&format!("blk.0.ffn_{name}.weight"), &shape, 8, data);
    }
    file
}
