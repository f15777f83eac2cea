//! Questions and answers that a model writes from passages, filtered by rules, and by whether a model
//! answers them with the passage and without it.

mod filter;
mod manifest;
mod model;
mod prompt;
mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_core::{Document, StreamKey, YesNoRule, f1};
use zs_data::{DataError, FileError, JsonLinesWriter, digest, open_documents, read_whole_rows};

use crate::collect::{CollectEvent, Input, split_draw, text_hash};
use crate::resumable_set::{SetError, claim, finished};

pub use self::filter::PairDrop;
pub use self::manifest::{QuestionManifest, QuestionPart, QuestionSettings, QuestionSources};
pub use self::model::{LocalReplies, ReplyError, ReplyModel, ServerReplies};
pub use self::prompt::QuestionTemplates;

use self::filter::{Pair, Rules};
use self::prompt::{Prompts, parse_answer, parse_pair};
use self::set::QuestionSet;

/// Errors of making a set of questions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// Passages cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory holds something else.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A template cannot be used.
    #[error("template `{name}` cannot be used: {message}")]
    Template {
        /// Name of the template.
        name: &'static str,
        /// Message of the template engine.
        message: String,
    },
    /// The model does not reply.
    #[error("{source}; what it has written is kept: run the command again to continue")]
    Model {
        /// Cause; part of the message.
        source: ReplyError,
    },
    /// Every pair was dropped.
    #[error("no question for training is left; dropped: {dropped}")]
    Nothing {
        /// Numbers of dropped passages and pairs, by reason.
        dropped: String,
    },
}

/// Passages and models of a set of questions.
#[derive(Debug)]
pub struct QuestionSource<'a> {
    /// File of passages, in any form that [`open_documents`] reads.
    pub passages: &'a Path,
    /// Model that writes questions.
    pub writer: &'a dyn ReplyModel,
    /// Model that answers them.
    pub checker: &'a dyn ReplyModel,
    /// Prompts that a model is given at once.
    pub batch_size: usize,
    /// Other files that determine the contents, for the manifest.
    pub inputs: Vec<PathBuf>,
}

/// Makes a set of questions: `train.jsonl`, `validation.jsonl`, `test.jsonl`, `dropped.jsonl` and
/// `manifest.json` in `out`.
///
/// A finished set of the same settings is left as it is; an interrupted one is continued, and no reply is
/// asked for again. Sample `n` of a passage is a function of model, passage, seed and `n`. Passages are
/// split, so no two files have questions about the same one.
///
/// # Errors
///
/// Fails on passages that cannot be read, a set of other settings in the same place, a model that does
/// not reply, and when no question for training is left.
pub fn generate_questions(
    source: &QuestionSource<'_>,
    settings: &QuestionSettings,
    out: &Path,
    progress: &mut dyn FnMut(CollectEvent),
) -> Result<QuestionManifest, GenerationError> {
    let prompts = Prompts::new(&settings.templates, settings.max_answer_words)?;
    let inputs = [source.passages.to_owned()].into_iter().chain(source.inputs.iter().cloned());
    let input = |path: PathBuf| Ok(Input { sha256: digest::of_file(&path)?, path });
    let inputs = inputs.map(input).collect::<Result<_, FileError>>()?;
    let sources = QuestionSources { settings: settings.clone(), inputs };
    if let Some(manifest) = finished::<QuestionManifest>(out, &sources)? {
        progress(CollectEvent::Found);
        return Ok(manifest);
    }
    let passages = select(source.passages, settings)?;
    claim(out, &sources)?;
    let mut set = QuestionSet::new(&passages);
    let mut asking = Asking { out, batch_size: source.batch_size, progress };

    let mut written = Vec::new();
    for (index, passage) in passages.iter().enumerate() {
        if passage.text.split_whitespace().count() < settings.min_passage_words {
            set.drop(index, PairDrop::ShortPassage, None, None);
            continue;
        }
        let key = StreamKey { step: text_hash(&passage.text), ..StreamKey::new(settings.seed) };
        for sample in 0..settings.per_passage {
            let key = StreamKey { sample: sample as u32, ..key };
            written.push((index, (prompts.write(passage)?, key)));
        }
    }
    let (of_passage, written): (Vec<usize>, Vec<_>) = written.into_iter().unzip();
    let num_passages = of_passage.iter().collect::<BTreeSet<_>>().len();
    let replies = asking.ask("pairs.jsonl", "writing", source.writer, &written)?;
    let mut rules = Rules { max_answer_words: settings.max_answer_words, seen: BTreeSet::new() };
    let mut pairs = Vec::new();
    for (passage, reply) in of_passage.into_iter().zip(replies) {
        let reply = match reply {
            Asked::Reply(reply) => reply,
            Asked::Error(error) => {
                set.drop(passage, PairDrop::NoReply, None, Some(error));
                continue;
            }
        };
        let Some((question, answer)) = parse_pair(&reply) else {
            set.drop(passage, PairDrop::UnreadableReply, None, Some(reply));
            continue;
        };
        let pair = Pair { passage, question, answer };
        match rules.check(&pair, &passages[passage]) {
            Ok(()) => pairs.push(pair),
            Err(reason) => set.drop(passage, reason, Some(&pair), None),
        }
    }
    for (is_wanted, is_shown) in
        [(settings.check_with_passage, true), (settings.check_without_passage, false)]
    {
        if is_wanted {
            let check = Check { prompts: &prompts, source, settings, is_shown };
            pairs = check.kept(pairs, &passages, &mut set, &mut asking)?;
        }
    }
    set.write(pairs, num_passages, written.len(), sources, out)
}

/// Reads the passages, of which at most so many are kept, drawn by their texts, in order.
fn select(path: &Path, settings: &QuestionSettings) -> Result<Vec<Document>, DataError> {
    let limit = settings.max_passages.unwrap_or(usize::MAX);
    let mut kept: BTreeMap<(u64, usize), Document> = BTreeMap::new();
    for (index, document) in open_documents(path)?.enumerate() {
        let document = document?;
        // Draws are not negative, so their bits have their order.
        let draw = split_draw(&document.text, settings.seed.wrapping_add(1)).to_bits();
        kept.insert((draw, index), document);
        if kept.len() > limit {
            kept.pop_last();
        }
    }
    let mut kept: Vec<(usize, Document)> =
        kept.into_iter().map(|((_, index), document)| (index, document)).collect();
    kept.sort_by_key(|(index, _)| *index);
    Ok(kept.into_iter().map(|(_, document)| document).collect())
}

/// Reply to a prompt, or the reason that there is none: a row of a file of replies.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Reply(String),
    Error(String),
}

/// Asking of models, batch by batch into files that can be continued.
struct Asking<'a> {
    out: &'a Path,
    batch_size: usize,
    progress: &'a mut dyn FnMut(CollectEvent),
}

impl Asking<'_> {
    fn ask(
        &mut self,
        name: &str,
        what: &'static str,
        model: &dyn ReplyModel,
        prompts: &[(String, StreamKey)],
    ) -> Result<Vec<Asked>, GenerationError> {
        let path = self.out.join(name);
        let mut asked: Vec<Asked> = read_whole_rows(&path)?;
        asked.truncate(prompts.len());
        let mut file = JsonLinesWriter::resume(&path, asked.len())?;
        (self.progress)(CollectEvent::Begins { what, total: prompts.len() });
        (self.progress)(CollectEvent::Advances(asked.len()));
        for batch in prompts[asked.len()..].chunks(self.batch_size.max(1)) {
            for reply in model.replies(batch) {
                let row = match reply {
                    Ok(reply) => Asked::Reply(reply),
                    Err(ReplyError::Prompt { message }) => Asked::Error(message),
                    Err(source) => return Err(GenerationError::Model { source }),
                };
                file.push(&row)?;
                asked.push(row);
            }
            (self.progress)(CollectEvent::Advances(batch.len()));
        }
        (self.progress)(CollectEvent::Ends(format!("{} replies", asked.len())));
        Ok(asked)
    }
}

/// Check of pairs by a model that answers their questions.
struct Check<'a> {
    prompts: &'a Prompts,
    source: &'a QuestionSource<'a>,
    settings: &'a QuestionSettings,
    /// True if the model is shown the passage.
    is_shown: bool,
}

impl Check<'_> {
    /// The pairs whose question is answered rightly where the passage is shown, and wrongly where not.
    fn kept(
        &self,
        pairs: Vec<Pair>,
        passages: &[Document],
        set: &mut QuestionSet<'_>,
        asking: &mut Asking<'_>,
    ) -> Result<Vec<Pair>, GenerationError> {
        let (name, what, reason) = match self.is_shown {
            true => ("with_passage.jsonl", "answering with", PairDrop::WrongWithPassage),
            false => ("without_passage.jsonl", "answering without", PairDrop::RightWithoutPassage),
        };
        let mut prompts = Vec::new();
        for pair in &pairs {
            let passage = Some(&passages[pair.passage]).filter(|_| self.is_shown);
            let key = StreamKey {
                step: text_hash(&pair.question),
                turn: 1 + u32::from(self.is_shown),
                ..StreamKey::new(self.settings.seed)
            };
            prompts.push((self.prompts.answer(&pair.question, passage)?, key));
        }
        let replies = asking.ask(name, what, self.source.checker, &prompts)?;
        let mut kept = Vec::new();
        for (pair, reply) in pairs.into_iter().zip(replies) {
            match reply {
                Asked::Error(error) => {
                    set.drop(pair.passage, PairDrop::NoReply, Some(&pair), Some(error));
                }
                Asked::Reply(reply) => {
                    let golden = std::slice::from_ref(&pair.answer);
                    let score = f1(parse_answer(&reply), golden, YesNoRule::Ignore);
                    match (score >= self.settings.min_f1) == self.is_shown {
                        true => kept.push(pair),
                        false => set.drop(pair.passage, reason, Some(&pair), Some(reply)),
                    }
                }
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
