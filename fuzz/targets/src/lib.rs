//! Fuzz targets: one function for each reader of a stranger's bytes.
//!
//! A target takes any bytes and must return: no panic, no hang over a second, no memory over 1 GiB. An
//! error of the reader is a good outcome. [`TARGETS`] lists them by the names of their corpora in
//! `fuzz/corpus`. libFuzzer drives them in `fuzz/fuzz_targets`, [`Mutator`] and the program of this crate
//! on stable Rust.
//!
//! ```
//! use zs_fuzz::{Scratch, TARGETS};
//!
//! let target = TARGETS.iter().find(|it| it.name == "actions").unwrap();
//! (target.run)(&Scratch::default(), b"<search> a </search>");
//! ```

mod data;
mod model;
mod mutate;
mod replies;
mod runs;
mod scratch;
mod serve;
mod text;
mod wire;

pub use mutate::{Mutator, read_corpus};
pub use scratch::Scratch;

/// One reader, or a few alike.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the target, and of its corpus.
    pub name: &'static str,
    /// Function that is given a stranger's bytes.
    pub run: fn(&Scratch, &[u8]),
}

macro_rules! targets {
    ($($name:ident: $function:path,)*) => {
        /// Every target, light ones first.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $function }),*];
    };
}

targets! {
    actions: text::actions,
    simulator_replies: text::simulator_replies,
    verdicts: text::verdicts,
    answers: text::answers,
    model_config: model::config,
    run_file: runs::run_file,
    run_records: runs::run_records,
    metrics: runs::metrics,
    audit_record: runs::audit_record,
    manifest: runs::manifest,
    spending_journal: runs::spending_journal,
    questions: data::questions,
    documents: data::documents,
    episodes: data::episodes,
    text_files: data::text_files,
    chat_template: model::chat_template,
    tokenizer_config: model::tokenizer_config,
    tokenizer: model::tokenizer,
    safetensors: model::safetensors,
    safetensors_index: model::safetensors_index,
    special_tokens: model::special_tokens,
    adapter: model::adapter,
    gguf: model::gguf,
    search_replies: wire::search_replies,
    completion_replies: wire::completion_replies,
    request_bodies: wire::request_bodies,
    requests: wire::requests,
}
