//! Encoders that turn texts into vectors: the BERT family in Hugging Face layout, with the files of
//! sentence-transformers.

mod config;
mod digest;
mod error;
mod network;
mod settings;

use std::path::Path;

use burn::tensor::Device;
use rayon::prelude::*;
use zs_core::{EmbedResult, Embedder, SearchError, TextRole};

pub use self::error::EncoderError;

use self::config::EncoderConfig;
use self::network::EncoderNetwork;
use self::settings::{Pooling, Prefixes, SentenceSettings};
use crate::checkpoint::{CheckpointError, WeightFiles};
use crate::workers::is_host;
use crate::{ComputeDtype, TokenId, Tokenizer, TokenizerError};

/// Tokens that are computed at once, or one text.
const BATCH_TOKENS: usize = 4096;

/// Encoder of texts: E5, BGE, MiniLM and other models of the families BERT and RoBERTa.
///
/// ```text
/// v = pool(encoder(prefix + text)),   v / |v| if the model normalises
/// ```
///
/// Pooling, normalisation, longest text and prefixes are those of the model's own files; a longer text
/// is cut off at its end. Passages are computed in the order of their length and packed without padding,
/// so the vector of a passage does not depend on the others, up to rounding. A query is computed alone,
/// so its vector is bit-exact whatever the others are. Clones share the weights.
///
/// # References
///
/// - [Sentence-BERT](https://arxiv.org/abs/1908.10084), section 3: pooling
///
/// ```no_run
/// use burn::tensor::Device;
/// use zs_core::TextRole;
/// use zs_model::{ComputeDtype, TextEncoder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = "models/e5-base-v2".as_ref();
/// let encoder = TextEncoder::load(dir, ComputeDtype::Auto, &Device::flex())?;
/// let vectors = encoder.encode(&["What is bamboo?"], TextRole::Query)?;
/// assert_eq!(vectors[0].len(), encoder.dimension());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TextEncoder {
    network: EncoderNetwork,
    tokenizer: Tokenizer,
    /// Tokens that the tokenizer's template puts before and after a text.
    template: [Vec<TokenId>; 2],
    dimension: usize,
    pooling: Pooling,
    is_normalized: bool,
    max_tokens: usize,
    prefixes: Prefixes,
    /// Identity of weights, tokenizer and settings.
    digest: String,
}

impl TextEncoder {
    /// Loads a model directory in the layout of sentence-transformers, or in Hugging Face's alone:
    /// then the mean of the tokens, normalised, without prefixes.
    ///
    /// # Errors
    ///
    /// Fails, naming the file, on anything missing, malformed or unsupported.
    pub fn load(
        dir: &Path,
        compute_dtype: ComputeDtype,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let settings = SentenceSettings::from_dir(dir)?;
        let config = EncoderConfig::from_dir(&settings.transformer)?;
        let tokenizer = Tokenizer::from_dir(&settings.transformer)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(EncoderError::Checkpoint(CheckpointError::TokenizerTooLarge {
                tokenizer: tokenizer.source().to_owned(),
                tokens: tokenizer.vocab_size(),
                vocab_size: config.vocab_size,
            }));
        }
        let template = template(&tokenizer)?;
        let max_tokens = settings.max_tokens.unwrap_or(usize::MAX).min(config.max_tokens());
        if max_tokens <= template.iter().map(Vec::len).sum() {
            return Err(EncoderError::NoRoom { dir: dir.to_owned(), max_tokens });
        }
        let digest = digest::of_model(&settings, &config, max_tokens)?;
        let files = WeightFiles::open_model(&settings.transformer)?;
        let compute_dtype = compute_dtype.resolved(!is_host(device));
        Ok(Self {
            network: EncoderNetwork::load(files, &config, compute_dtype, device)?,
            tokenizer,
            template,
            dimension: config.hidden_size,
            pooling: settings.pooling,
            is_normalized: settings.is_normalized,
            max_tokens,
            prefixes: settings.prefixes,
            digest,
        })
    }

    /// Length of the vectors.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Vectors of texts, in their order.
    ///
    /// # Errors
    ///
    /// Fails on a text that the tokenizer has no tokens for.
    pub fn encode(&self, texts: &[&str], role: TextRole) -> Result<Vec<Vec<f32>>, TokenizerError> {
        let texts: Vec<Vec<TokenId>> =
            texts.par_iter().map(|it| self.tokens(it, role)).collect::<Result<_, _>>()?;
        Ok(self.vectors(&texts, role))
    }

    /// Tokens of a text with prefix and template, cut off at the longest length.
    fn tokens(&self, text: &str, role: TextRole) -> Result<Vec<TokenId>, TokenizerError> {
        let prefix = match role {
            TextRole::Query => &self.prefixes.query,
            TextRole::Passage => &self.prefixes.passage,
        };
        let [before, after] = &self.template;
        let mut body = self.tokenizer.encode(&format!("{prefix}{text}"))?;
        body.truncate(self.max_tokens - before.len() - after.len());
        Ok([before, &body[..], after].concat())
    }

    /// Vectors of tokens, in their order.
    fn vectors(&self, texts: &[Vec<TokenId>], role: TextRole) -> Vec<Vec<f32>> {
        if role == TextRole::Query {
            return texts.iter().flat_map(|it| self.batch(&[it])).collect();
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|it| texts[*it].len());
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = &order[..];
        while !rest.is_empty() {
            let mut num_tokens = 0;
            let fits = |it: &&usize| {
                num_tokens += texts[**it].len();
                num_tokens <= BATCH_TOKENS
            };
            let (places, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = others;
            let batch: Vec<&[TokenId]> = places.iter().map(|it| &texts[*it][..]).collect();
            for (place, vector) in places.iter().zip(self.batch(&batch)) {
                vectors[*place] = vector;
            }
        }
        vectors
    }

    /// Vectors of texts that are computed together.
    fn batch(&self, texts: &[&[TokenId]]) -> Vec<Vec<f32>> {
        let hidden = self.network.forward(texts).into_data();
        let hidden: Vec<f32> = hidden.iter::<f32>().collect();
        let mut rest = &hidden[..];
        let pooled = texts.iter().map(|text| {
            let (of_text, following) = rest.split_at(text.len() * self.dimension);
            rest = following;
            self.pool(of_text)
        });
        pooled.collect()
    }

    /// Vector of a text, given the hidden states of its tokens.
    fn pool(&self, hidden: &[f32]) -> Vec<f32> {
        let mut tokens = hidden.chunks_exact(self.dimension);
        let num_tokens = tokens.len() as f32;
        let mut vector = tokens.next().unwrap_or_default().to_vec();
        if self.pooling == Pooling::Mean {
            for token in tokens {
                vector.iter_mut().zip(token).for_each(|(sum, it)| *sum += it);
            }
            vector.iter_mut().for_each(|it| *it /= num_tokens);
        }
        if self.is_normalized {
            // As sentence-transformers does for a vector of zeros.
            let length = vector.iter().map(|it| it * it).sum::<f32>().sqrt().max(1e-12);
            vector.iter_mut().for_each(|it| *it /= length);
        }
        vector
    }
}

/// Tokens that a tokenizer's template puts before and after a text.
fn template(tokenizer: &Tokenizer) -> Result<[Vec<TokenId>; 2], TokenizerError> {
    const PROBE: &str = "a";
    let (body, whole) = (tokenizer.encode(PROBE)?, tokenizer.encode_start(PROBE)?);
    let start = whole.windows(body.len().max(1)).position(|it| it == body).unwrap_or(whole.len());
    let after = whole.get(start + body.len()..).unwrap_or_default().to_vec();
    Ok([whole[..start].to_vec(), after])
}

impl Embedder for TextEncoder {
    fn embed(&self, texts: &[&str], role: TextRole, _: u64) -> Vec<EmbedResult> {
        let tokens: Vec<_> = texts.par_iter().map(|it| self.tokens(it, role)).collect();
        let mut known = Vec::with_capacity(texts.len());
        let failures: Vec<Option<SearchError>> = tokens
            .into_iter()
            .zip(texts)
            .map(|(tokens, text)| match tokens {
                Ok(tokens) => {
                    known.push(tokens);
                    None
                }
                Err(error) => Some(SearchError::Engine {
                    engine: "encoder".to_owned(),
                    query: (*text).to_owned(),
                    source: error.into(),
                }),
            })
            .collect();
        let mut vectors = self.vectors(&known, role).into_iter();
        failures
            .into_iter()
            .map(|failure| match failure {
                Some(failure) => Err(failure),
                None => Ok(vectors.next().unwrap_or_default()),
            })
            .collect()
    }

    /// SHA-256 of weights, tokenizer and the settings that vectors depend on, in hexadecimal.
    fn identity(&self) -> String {
        self.digest.clone()
    }
}
