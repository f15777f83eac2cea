//! From descriptions in run files and arguments to questions, engines and models.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use zs_core::registry::{BoxedError, Spec};
use zs_core::{Document, Question};
use zs_data::{Corpus, DataError, QuestionSet, SkippedRows, read_corpus};
use zs_model::{
    ComputeDtype, Generator, LanguageModel, MemoryConfig, SamplingModel, TextEncoder, Tokenizer,
};
use zs_rl::RolloutConfig;
use zs_rl::consult::{GeneratorHelper, HelperRegistry};
use zs_rl::judge::LmJudge;
use zs_search::Ledger;
use zs_simulator::pretraining::is_world_tokenizer;
use zs_simulator::{SimulatedConfig, SimulatedEngine, TemplateError, TemplatesConfig};

use crate::config::{CorpusSource, HelperModelsConfig, JudgeConfig};
use crate::teacher::{Teacher, TeacherContext};
pub use crate::world::{generate_world, world_questions};
use crate::{LoadError, RunContext};

/// Loads a model directory in Hugging Face layout.
///
/// # Errors
///
/// Fails, naming directory and file, on anything missing or malformed.
pub fn load_model(dir: &Path, device: &Device) -> Result<LanguageModel, LoadError> {
    if !dir.is_dir() {
        return Err(LoadError::NoModel { dir: dir.to_owned() });
    }
    LanguageModel::load(dir, device)
        .map_err(|source| LoadError::Model { dir: dir.to_owned(), source: Box::new(source) })
}

/// Loads a model directory for sampling alone.
///
/// # Errors
///
/// As [`load_model`].
pub fn load_for_sampling(
    dir: &Path,
    devices: &[Device],
    memory: impl Into<MemoryConfig>,
) -> Result<SamplingModel, LoadError> {
    if !dir.is_dir() {
        return Err(LoadError::NoModel { dir: dir.to_owned() });
    }
    SamplingModel::load(dir, devices, memory)
        .map_err(|source| LoadError::Model { dir: dir.to_owned(), source: Box::new(source) })
}

/// Loads the model directory of an encoder.
///
/// # Errors
///
/// As [`load_model`].
pub fn load_encoder(
    dir: &Path,
    compute_dtype: ComputeDtype,
    device: &Device,
) -> Result<TextEncoder, LoadError> {
    if !dir.is_dir() {
        return Err(LoadError::NoModel { dir: dir.to_owned() });
    }
    TextEncoder::load(dir, compute_dtype, device)
        .map_err(|source| LoadError::Encoder { dir: dir.to_owned(), source: Box::new(source) })
}

/// Loads a model directory onto the devices of a run.
///
/// # Errors
///
/// As [`load_model`].
pub fn load_policy(dir: &Path, context: &RunContext) -> Result<LanguageModel, LoadError> {
    let model = load_model(dir, context.devices.first())?;
    Ok(model.with_devices(&context.devices.all()))
}

/// Reads or generates questions. With `skip_bad_rows`, malformed rows are left out; their number and
/// the first of them are said on the console.
///
/// # Errors
///
/// Fails on an unreadable file or malformed row, and when there are no questions.
pub fn questions(
    source: &Spec,
    skip_bad_rows: bool,
    context: &RunContext,
) -> Result<Vec<Question>, LoadError> {
    let source = context.components.question_sources.build(source, &())?;
    let QuestionSet { questions, skipped, notes } =
        source.read(skip_bad_rows).map_err(LoadError::Questions)?;
    for note in notes {
        context.note(&format!("questions: {note}"));
    }
    if let SkippedRows { count, first: Some(first) } = skipped {
        context.note(&format!("{count} bad rows of questions skipped; the first: {first}"));
    }
    Ok(questions)
}

/// Reads documents; decisions of the reader are said on the console.
///
/// # Errors
///
/// Fails on an unreadable file, a malformed row, or no row at all.
pub fn corpus(source: &CorpusSource, context: &RunContext) -> Result<Vec<Document>, DataError> {
    match source {
        CorpusSource::File { path } => {
            let Corpus { documents, notes } = read_corpus(path)?;
            notes.iter().for_each(|it| context.note(&format!("{}: {it}", path.display())));
            Ok(documents)
        }
        CorpusSource::World { world } => Ok(generate_world(*world).passages()),
    }
}

/// Loads the model that serves as the helper models of a policy.
///
/// # Errors
///
/// Fails on an unreadable model or a template that cannot be used.
pub fn consultants(
    config: &HelperModelsConfig,
    device: &Device,
) -> Result<HelperRegistry, LoadError> {
    let on = std::slice::from_ref(device);
    let model = load_for_sampling(&config.model, on, config.compute_dtype)?;
    let model: Arc<dyn Generator> = Arc::new(model);
    let mut registry = HelperRegistry::new(config.budget);
    for &kind in &config.agents {
        let (template, sampling) = (config.templates.of(kind), config.sampling.clone());
        let agent = GeneratorHelper::new(kind, Arc::clone(&model), template, sampling)?;
        registry = registry.with(kind, Arc::new(agent));
    }
    Ok(registry)
}

/// Loads the model that compares episodes.
///
/// # Errors
///
/// Fails on an unreadable model or a template that cannot be used.
pub fn judge(config: &JudgeConfig, device: &Device) -> Result<LmJudge, LoadError> {
    let on = std::slice::from_ref(device);
    let model = Arc::new(load_for_sampling(&config.model, on, config.compute_dtype)?);
    Ok(LmJudge::new(model, &config.template, config.max_new_tokens)?)
}

/// Opens a teacher; its calls, where it is on servers, are written to the ledger.
///
/// # Errors
///
/// Fails on an unreadable model, an address that cannot be used, or a key that the environment does not
/// have.
pub fn teacher(
    spec: &Spec,
    context: &RunContext,
    ledger: &Arc<Ledger>,
) -> Result<Teacher, LoadError> {
    let on = context.clone();
    let load = move |dir: &Path| load_policy(dir, &on).map_err(BoxedError::from);
    let opened = TeacherContext::new(load, Arc::clone(ledger));
    Ok(context.components.teachers.build(spec, &opened)?)
}

/// A simulation LLM as an engine.
///
/// # Errors
///
/// Fails on a template that cannot be used.
pub fn simulated(
    model: Arc<LanguageModel>,
    templates: &TemplatesConfig,
    sampling: &SimulatedConfig,
) -> Result<SimulatedEngine, TemplateError> {
    let templates = templates.resolve(Some(model.tokenizer()))?;
    Ok(SimulatedEngine::new(model, templates, sampling.clone()))
}

/// Default rollout settings of a policy: for models over the embedded world's vocabulary, the short
/// prompt that they were trained with; for others, ZeroSearch's.
#[must_use]
pub fn default_rollout(tokenizer: &Tokenizer) -> RolloutConfig {
    if !is_world_tokenizer(tokenizer) {
        return RolloutConfig::default();
    }
    RolloutConfig {
        prompt_template: zs_world::PROMPT_TEMPLATE.to_owned(),
        max_new_tokens: 64,
        ..RolloutConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_follow_the_tokenizer() {
        let tiny = default_rollout(&zs_simulator::pretraining::world_tokenizer());
        assert_eq!(tiny.prompt_template, zs_world::PROMPT_TEMPLATE);
        let other = default_rollout(&zs_model::testing::byte_tokenizer());
        assert_eq!(other, RolloutConfig::default());
    }
}
