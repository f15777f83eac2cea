//! Training rows: prompts and completions as tokens.

use std::path::Path;

use serde::Deserialize;
use zs_core::{StreamKey, is_never_closed, with_causes};
use zs_data::{DataError, RowError, RowReader};
use zs_model::{Generator, LanguageModel, TokenId, TokenRow, Tokenizer, TokenizerError};
use zs_simulator::pretraining::encode_example;
use zs_simulator::tuning::{read_records, split_by_label, tuning_examples, world_tuning_examples};
use zs_world::{Example, Split, World};

use crate::LoadError;
use crate::config::{EpisodeFiles, RecordedSearches, ReplyContents, SftData, WorldExamples};
use crate::trajectories::EpisodeTokens;

/// Rows to learn from and rows to watch.
#[derive(Clone, Debug, Default)]
pub struct TuningRows {
    /// Rows of training.
    pub train: Vec<TokenRow>,
    /// Rows of the validation loss; may be empty.
    pub validation: Vec<TokenRow>,
    /// One line for each episode that cannot be used.
    pub left_out: Vec<String>,
    /// Searches of whose documents some are not shown, or not in full.
    pub num_cut_results: usize,
}

impl TuningRows {
    /// The rows that a run file describes.
    ///
    /// # Errors
    ///
    /// Fails, naming the file, on what cannot be read, encoded, or held by the model's context.
    pub(super) fn read(
        data: &SftData,
        model: &LanguageModel,
        seed: u64,
    ) -> Result<Self, LoadError> {
        match data {
            SftData::World(data) => world_rows(data, model, seed),
            SftData::Searches(data) => recorded_rows(data, model, seed),
            SftData::Trajectories(data) => episode_rows(data, model),
            SftData::File { train, validation } => Ok(Self {
                train: read_rows(train, model)?,
                validation: match validation {
                    Some(path) => read_rows(path, model)?,
                    None => Vec::new(),
                },
                ..Self::default()
            }),
        }
    }
}

/// Episodes as rows.
fn episode_rows(config: &EpisodeFiles, model: &LanguageModel) -> Result<TuningRows, LoadError> {
    let context = model.config().max_position_embeddings;
    let read =
        |paths: &[_]| EpisodeTokens::read(paths, model.tokenizer(), context, &config.rollout);
    let (train, validation) = (read(&config.train)?, read(&config.validation)?);
    Ok(TuningRows {
        train: train.rows,
        validation: validation.rows,
        left_out: [train.left_out, validation.left_out].concat(),
        num_cut_results: train.num_cut_results + validation.num_cut_results,
    })
}

/// Simulation examples out of embedded worlds, as rows.
///
/// # Errors
///
/// Fails when an example cannot be encoded or exceeds the model's context.
pub fn world_rows(
    config: &WorldExamples,
    model: &LanguageModel,
    seed: u64,
) -> Result<TuningRows, LoadError> {
    let templates = config.templates.resolve(Some(model.tokenizer()))?;
    let draw = |worlds: &[World], count: usize, step: u64| {
        let key = StreamKey { step, ..StreamKey::new(seed) };
        let WorldExamples { hops, queries, distractor_loss, .. } = config;
        let examples =
            world_tuning_examples(worlds, &templates, hops, queries, *distractor_loss, count, key)?;
        encode_all(&examples, model)
    };
    let seeds = config.first_seed..config.first_seed + config.worlds as u64;
    let worlds: Vec<World> = seeds.map(|it| config.world.generate(it, Split::Train)).collect();
    let unseen = [config.world.generate(config.first_seed, Split::Validation)];
    Ok(TuningRows {
        train: draw(&worlds, config.examples, 0)?,
        validation: draw(&unseen, config.validation_examples, 1)?,
        ..TuningRows::default()
    })
}

/// Simulation examples out of recorded searches, as rows.
fn recorded_rows(
    config: &RecordedSearches,
    model: &LanguageModel,
    seed: u64,
) -> Result<TuningRows, LoadError> {
    let templates = config.templates.resolve(Some(model.tokenizer()))?;
    let draw = |path: &Path, count: usize, step: u64| {
        let mut records = read_records(path)?;
        if config.replies == ReplyContents::Judged {
            records = split_by_label(&records);
        }
        let key = StreamKey { step, ..StreamKey::new(seed) };
        let examples = tuning_examples(&records, &templates, config.num_documents, count, key)?;
        encode_all(&examples, model)
            .map_err(|error| LoadError::In { path: path.to_owned(), source: Box::new(error) })
    };
    Ok(TuningRows {
        train: draw(&config.path, config.examples, 0)?,
        validation: match &config.validation {
            Some(path) => draw(path, config.validation_examples, 1)?,
            None => Vec::new(),
        },
        ..TuningRows::default()
    })
}

fn encode_all(examples: &[Example], model: &LanguageModel) -> Result<Vec<TokenRow>, LoadError> {
    let end = end_token(model)?;
    let rows: Vec<TokenRow> = examples
        .iter()
        .map(|it| encode_example(it, model.tokenizer(), end))
        .collect::<Result<_, _>>()?;
    let context = model.config().max_position_embeddings;
    match rows.iter().map(|it| it.tokens.len()).max() {
        Some(tokens) if tokens > context => Err(LoadError::TooLong { tokens, context }),
        _ => Ok(rows),
    }
}

/// Reads rows of `{"prompt", "completion"}`, in any format of [`RowReader`].
///
/// # Errors
///
/// Fails, naming file and row, on a row that is malformed or longer than the model's context, when
/// there is no row, and where the chat template opens a thinking block that completions never close:
/// only the file can say whether they are thoughts alone or replies without thoughts.
pub fn read_rows(path: &Path, model: &LanguageModel) -> Result<Vec<TokenRow>, LoadError> {
    #[derive(Deserialize)]
    struct TuningRow {
        prompt: String,
        completion: String,
    }
    let (end, most) = (end_token(model)?, model.config().max_position_embeddings);
    let rows = RowReader::new("prompt with completion").open::<TuningRow>(path)?;
    let numbered = rows.try_map(|row, number| Ok((number, row))).collect_all()?;
    let refused = |row: usize, problem: String| {
        let error = RowError::invalid(problem);
        DataError::Row { path: path.to_owned(), row, error }
    };
    let mut unclosed = Vec::new();
    for (number, row) in &numbered {
        let prompt = model.tokenizer().encode_prompt(&row.prompt);
        let prompt = prompt.map_err(|error| refused(*number, with_causes(&error)))?;
        if is_never_closed(&row.completion, &model.tokenizer().prefill(&prompt)) {
            unclosed.push(*number);
        }
    }
    if let Some(&first) = unclosed.first() {
        let problem = format!(
            "the chat template opens `<think>`, and {} of {} completions never close it, so that they \
             would be learned as thoughts alone; begin a reply without thoughts with `</think>`",
            unclosed.len(),
            numbered.len()
        );
        return Err(refused(first, problem).into());
    }
    let encoded = numbered.into_iter().map(|(number, row)| {
        let refused = |problem: String| refused(number, problem);
        let row = encode(&row.prompt, &row.completion, model.tokenizer(), end)
            .map_err(|error| refused(with_causes(&error)))?;
        match row.tokens.len() {
            tokens if tokens > most => {
                Err(refused(format!("{tokens} tokens exceed the model's context of {most}")))
            }
            _ => Ok(row),
        }
    });
    Ok(encoded.collect::<Result<_, _>>()?)
}

/// Prompt, completion and end of sequence; what comes after the prompt is learned.
fn encode(
    prompt: &str,
    completion: &str,
    tokenizer: &Tokenizer,
    end: TokenId,
) -> Result<TokenRow, TokenizerError> {
    let mut tokens = tokenizer.encode_prompt(prompt)?;
    let prompt_len = tokens.len().max(1);
    let reply = tokenizer.encode_reply(&tokens, completion)?;
    tokens.extend(reply);
    tokens.push(end);
    let loss_mask = (0..tokens.len()).map(|it| it >= prompt_len).collect();
    Ok(TokenRow { tokens, loss_mask })
}

fn end_token(model: &LanguageModel) -> Result<TokenId, LoadError> {
    let end = model.config().eos_token_ids.first().copied();
    end.ok_or(LoadError::NoEndToken)
}

#[cfg(test)]
mod tests {
    use zs_model::ChatTemplate;
    use zs_model::testing::{BYTE_EOS, byte_tokenizer};

    use super::*;

    /// Checks a row under a chat template that ends with `opened`: the whole text and the learned one.
    #[track_caller]
    fn check(opened: &str, completion: &str, whole: &str, learned: &str) {
        let source = format!("[{{{{ messages[0].content }}}}]{{{{ {opened:?} }}}}");
        let chat = ChatTemplate::new(source, String::new(), String::new()).unwrap();
        let tokenizer = byte_tokenizer().with_chat_template(Some(chat));
        let row = encode("q", completion, &tokenizer, BYTE_EOS).unwrap();
        assert_eq!(tokenizer.decode(&row.tokens), whole);
        let tokens = row.tokens.iter().zip(&row.loss_mask);
        let tokens: Vec<TokenId> = tokens.filter_map(|(it, loss)| loss.then_some(*it)).collect();
        assert_eq!(tokenizer.decode(&tokens), learned);
    }

    #[test]
    fn what_the_chat_template_opens_is_not_opened_twice() {
        let whole = "[q]<think>\na</think>b";
        check("<think>\n", "<think>\na</think>b", whole, "a</think>b");
        check("<think>\n", "<think>a</think>b", whole, "a</think>b");
        check("<think>\n", "a</think>b", whole, "a</think>b");
        check("", "<think>\na</think>b", whole, "<think>\na</think>b");
        check("<think></think>", "<think></think>b", "[q]<think></think>b", "b");
    }

    #[test]
    fn completions_that_never_close_the_thoughts_are_refused() {
        let chat = |source: &str| {
            ChatTemplate::new(source.to_owned(), String::new(), String::new()).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let read = |source: &str, completions: &[&str]| {
            let row =
                |it: &&str| format!("{}\n", serde_json::json!({"prompt": "q", "completion": it}));
            std::fs::write(&path, completions.iter().map(row).collect::<String>()).unwrap();
            let tokenizer = byte_tokenizer().with_chat_template(Some(chat(source)));
            let model = LanguageModel::initialize(
                zs_model::testing::tiny_config(),
                tokenizer,
                1,
                &burn::tensor::Device::flex(),
            );
            read_rows(&path, &model).map(|it| it.len()).map_err(|it| with_causes(&it))
        };
        let opened = "{{ messages[0].content }}<think>\n";
        assert_eq!(read(opened, &["a</think>b", "</think>b", "<think>a</think>b"]), Ok(3));
        let error = read(opened, &["a</think>b", "b", "<think>b"]).unwrap_err();
        assert!(error.contains("row 2") && error.contains("2 of 3 completions"), "{error}");
        assert_eq!(read("{{ messages[0].content }}", &["b"]), Ok(1));
        assert_eq!(read("{{ messages[0].content }}<think></think>", &["b"]), Ok(1));
    }
}
