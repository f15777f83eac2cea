//! `zs model card`: the contents of a model directory.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use zs_data::hub::Manifest;
use zs_model::ModelCard;

use crate::session::Session;

/// Special tokens that the text names; JSON has all.
const NUM_NAMED: usize = 8;

/// Arguments of `zs model card`.
#[derive(Debug, Args)]
pub struct ModelCardArgs {
    /// The model directory (Hugging Face layout).
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Card of a directory, with its origin on the hub.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    card: ModelCard,
    /// Origin of files from the hub, as `zs model pull` and `zs data fetch` keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched: Option<Manifest>,
}

/// Prints the card.
pub(crate) fn model_card(args: &ModelCardArgs, session: &Session) -> Result<()> {
    let report = Report { card: ModelCard::read(&args.dir)?, fetched: Manifest::read(&args.dir) };
    if args.json {
        session.print(&format!("{:#}\n", serde_json::to_value(&report)?));
    } else {
        session.print(&report.to_text());
    }
    Ok(())
}

/// Card of a directory as text.
pub(super) fn card_text(dir: &Path) -> Result<String> {
    Ok(Report { card: ModelCard::read(dir)?, fetched: Manifest::read(dir) }.to_text())
}

impl Report {
    fn to_text(&self) -> String {
        let it = &self.card;
        let mut lines = vec![
            (
                "architecture",
                format!(
                    "{}: width {}, depth {}, feed-forward {}, {} heads of {} ({} for keys and values)",
                    it.architecture,
                    it.hidden_size,
                    it.num_hidden_layers,
                    it.intermediate_size,
                    it.num_attention_heads,
                    it.head_dim,
                    it.num_key_value_heads
                ),
            ),
            ("parameters", format!("{}, {} head", millions(it.num_parameters), self.head())),
        ];
        let weights =
            it.weights.iter().map(|(dtype, count)| format!("{} {dtype}", millions(*count)));
        lines.push(("weights", weights.collect::<Vec<_>>().join(", ")));
        let scaling = it.rope_scaling_factor.map(|it| format!(", scaled by {it} as in Llama 3"));
        let scaling = scaling.unwrap_or_default();
        lines.push(("context", format!("{} tokens", it.context_length)));
        lines.push(("rotary base", format!("{}{scaling}", it.rope_theta)));
        lines.push(("vocabulary", format!("{} tokens, {} rows", it.num_tokens, it.vocab_size)));
        lines.push(("special tokens", self.special_tokens()));
        let ends: Vec<String> = it.eos_token_ids.iter().map(|id| self.token(*id)).collect();
        lines.push(("begins with", it.bos_token_id.map_or("–".to_owned(), |id| self.token(id))));
        lines.push(("ends with", if ends.is_empty() { "–".to_owned() } else { ends.join(", ") }));
        lines.push(("chat template", if it.has_chat_template { "yes" } else { "no" }.to_owned()));
        if let Some(it) = &it.provenance {
            let sha256 = it.sha256.as_deref().map(|it| format!(", SHA-256 {it}"));
            let sha256 = sha256.unwrap_or_default();
            lines.push(("imported from", format!("{}: {}{sha256}", it.file, it.summary())));
        }
        if let Some(it) = &self.fetched {
            let commit = it.commit.as_deref().map(|it| format!(", commit {it}"));
            let commit = commit.unwrap_or_default();
            lines.push(("fetched from", format!("{} at {}{commit}", it.source, it.revision)));
        }
        lines.iter().map(|(name, text)| format!("{name:<15} {}\n", plain(text))).collect()
    }

    fn head(&self) -> &'static str {
        if self.card.tie_word_embeddings { "tied" } else { "untied" }
    }

    fn special_tokens(&self) -> String {
        let special = &self.card.special_tokens;
        let mut names: Vec<String> = special.values().take(NUM_NAMED).cloned().collect();
        if special.len() > NUM_NAMED {
            names.push("…".to_owned());
        }
        format!("{}: {}", special.len(), names.join(" "))
    }

    /// A token by its text, if it is a special one.
    fn token(&self, id: u32) -> String {
        match self.card.special_tokens.get(&id) {
            Some(text) => format!("{text} ({id})"),
            None => id.to_string(),
        }
    }
}

/// Text of an untrusted file, without terminal control sequences.
fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '\u{FFFD}' } else { it }).collect()
}

fn millions(count: usize) -> String {
    if count < 1_000_000 { count.to_string() } else { format!("{:.1} M", count as f64 / 1e6) }
}

#[cfg(test)]
mod tests {
    use zs_model::testing::tiny_gguf;
    use zs_model::{ImportOptions, import_gguf};

    use super::*;

    #[test]
    fn a_card_names_architecture_tokens_and_origin() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, dir) = (scratch.path().join("tiny.gguf"), scratch.path().join("tiny"));
        std::fs::write(&file, tiny_gguf().bytes()).unwrap();
        let options = ImportOptions { sha256: Some("c0ffee".to_owned()), ..Default::default() };
        import_gguf(&file, &dir, &options).unwrap();
        let manifest =
            r#"{"source":"https://hub/o/n","revision":"main","commit":"abc","files":[]}"#;
        std::fs::write(dir.join("manifest.json"), manifest).unwrap();
        let expected = "\
architecture    Llama: width 32, depth 1, feed-forward 64, 4 heads of 8 (2 for keys and values)
parameters      17568, tied head
weights         17568 F32
context         64 tokens
rotary base     10000
vocabulary      258 tokens, 258 rows
special tokens  1: <eos>
begins with     –
ends with       <eos> (257)
chat template   yes
imported from   tiny.gguf: F32, dequantised, SHA-256 c0ffee
fetched from    https://hub/o/n at main, commit abc
";
        assert_eq!(card_text(&dir).unwrap(), expected);
        let report = Report { card: ModelCard::read(&dir).unwrap(), fetched: Manifest::read(&dir) };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["num_parameters"], 17_568);
        assert_eq!(json["weights"]["F32"], 17_568);
        assert_eq!(json["special_tokens"]["257"], "<eos>");
        assert_eq!(json["provenance"]["tensor_types"]["Q8_0"], 3);
        assert_eq!(json["fetched"]["commit"], "abc");
        let error = card_text(scratch.path()).unwrap_err();
        assert!(format!("{error:#}").contains("zs model import"), "{error:#}");
    }
}
