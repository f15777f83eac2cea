//! From descriptions in run files and arguments to questions, engines and models.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use zs_core::{Document, Question, SearchEngine};
use zs_data::read_documents;
use zs_model::{Generator, LanguageModel, Tokenizer};
use zs_rl::RolloutConfig;
use zs_rl::consult::{ConsultRegistry, GeneratorAgent};
use zs_rl::judge::LmJudge;
use zs_search::Bm25Engine;
use zs_simulator::{SimulatedConfig, SimulatedEngine, SimulationTemplates};
use zs_world::World;

use crate::RunContext;
use crate::config::{
    ConsultantsConfig, CorpusSource, EngineConfig, JudgeConfig, QuestionSource, TemplatesConfig,
    WorldSource,
};

/// Loads a model directory in Hugging Face layout.
///
/// # Errors
///
/// Fails, naming directory and file, on anything missing or malformed.
pub fn load_model(dir: &Path, device: &Device) -> Result<LanguageModel> {
    if !dir.is_dir() {
        bail!("{}: no such model directory", dir.display());
    }
    LanguageModel::load(dir, device).with_context(|| format!("model {}", dir.display()))
}

/// Loads a model directory onto the devices of a run.
///
/// # Errors
///
/// As [`load_model`].
pub fn load_policy(dir: &Path, context: &RunContext) -> Result<LanguageModel> {
    let model = load_model(dir, context.devices.first())?;
    Ok(model.with_devices(&context.devices.all()))
}

/// Reads or draws questions.
///
/// # Errors
///
/// Fails on an unreadable file or malformed row, and when there are no questions.
pub fn questions(source: &QuestionSource) -> Result<Vec<Question>> {
    match source {
        QuestionSource::File { path, limit } => {
            let mut questions = zs_data::read_questions(path)?;
            questions.truncate(limit.unwrap_or(usize::MAX));
            Ok(questions)
        }
        QuestionSource::World { world, per_hop } => {
            Ok(world_questions(&generate_world(*world), world.seed, *per_hop))
        }
    }
}

/// [`questions`] without the rows that are not one; how many these are, and the first of them, is said
/// on the console.
///
/// # Errors
///
/// Fails on an unreadable file, and when there is no sound row.
pub fn sound_questions(source: &QuestionSource, context: &RunContext) -> Result<Vec<Question>> {
    let QuestionSource::File { path, limit } = source else { return questions(source) };
    let (mut questions, skipped) = zs_data::read_valid_questions(path)?;
    if let Some(first) = skipped.first {
        let count = skipped.count;
        context.note(&format!("{}: {count} bad rows left out; the first: {first}", path.display()));
    }
    questions.truncate(limit.unwrap_or(usize::MAX));
    Ok(questions)
}

/// `per_hop` questions of one hop and as many of two, in turn.
#[must_use]
pub fn world_questions(world: &World, seed: u64, per_hop: usize) -> Vec<Question> {
    let one_hop = world.questions(seed, 1, per_hop);
    let two_hop = world.questions(seed, 2, per_hop);
    one_hop.into_iter().zip(two_hop).flat_map(|(one, two)| [one.question, two.question]).collect()
}

/// The world of a description.
#[must_use]
pub fn generate_world(source: WorldSource) -> World {
    World::generate(source.seed, source.split.into())
}

/// Opens a search engine by itself; [`Engines`](crate::engines::Engines) opens those of a run.
///
/// # Errors
///
/// Fails on an unreadable corpus, index, model or recording, an address that cannot be used, or a
/// key that the environment does not have.
pub fn engine(config: &EngineConfig, context: &RunContext) -> Result<Arc<dyn SearchEngine>> {
    crate::engines::open_alone(config, context)
}

/// Reads documents.
///
/// # Errors
///
/// Fails on an unreadable file, a malformed row, or no row at all.
pub fn corpus(source: &CorpusSource) -> Result<Vec<Document>> {
    match source {
        CorpusSource::File { path } => Ok(read_documents(path)?),
        CorpusSource::World { world } => Ok(generate_world(*world).passages()),
    }
}

/// Loads the model that plays the agents which a policy may consult.
///
/// # Errors
///
/// Fails on an unreadable model or a template that cannot be used.
pub fn consultants(config: &ConsultantsConfig, device: &Device) -> Result<ConsultRegistry> {
    let model: Arc<dyn Generator> = Arc::new(load_model(&config.model, device)?);
    let mut registry = ConsultRegistry::new(config.budget);
    for &kind in &config.agents {
        let (template, sampling) = (config.templates.of(kind), config.sampling.clone());
        let agent = GeneratorAgent::new(kind, Arc::clone(&model), template, sampling)?;
        registry = registry.with(kind, Arc::new(agent));
    }
    Ok(registry)
}

/// Loads the model that compares episodes.
///
/// # Errors
///
/// Fails on an unreadable model or a template that cannot be used.
pub fn judge(config: &JudgeConfig, device: &Device) -> Result<LmJudge> {
    let model = Arc::new(load_model(&config.model, device)?);
    Ok(LmJudge::new(model, &config.template, config.max_new_tokens)?)
}

/// BM25 over a corpus file.
///
/// # Errors
///
/// Fails on an unreadable file, a malformed row, or no row at all.
pub fn corpus_engine(path: &Path) -> Result<Bm25Engine> {
    Bm25Engine::from_documents(read_documents(path)?).with_context(|| path.display().to_string())
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
) -> Result<SimulatedEngine> {
    let templates = simulation_templates(templates, Some(model.tokenizer()))?;
    Ok(SimulatedEngine::new(model, templates, sampling.clone()))
}

/// The prompts of a simulation LLM.
///
/// # Errors
///
/// Fails on a template that cannot be read or used.
pub fn simulation_templates(
    config: &TemplatesConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<SimulationTemplates> {
    Ok(match config {
        TemplatesConfig::Auto if tokenizer.is_some_and(speaks_of_worlds) => {
            SimulationTemplates::tiny()
        }
        TemplatesConfig::Tiny => SimulationTemplates::tiny(),
        TemplatesConfig::Auto | TemplatesConfig::Zerosearch => {
            SimulationTemplates::zerosearch_sft()
        }
        TemplatesConfig::ZerosearchPrompt => SimulationTemplates::zerosearch_prompted(),
        TemplatesConfig::QueryGrounded => SimulationTemplates::query_grounded(),
        TemplatesConfig::Files { useful, noisy } => {
            let read = |path: &Path| {
                std::fs::read_to_string(path)
                    .with_context(|| format!("{}: cannot read the template", path.display()))
            };
            SimulationTemplates::new(&read(useful)?, &read(noisy)?).with_context(|| {
                format!("templates {} and {}", useful.display(), noisy.display())
            })?
        }
        TemplatesConfig::Custom { useful, noisy } => SimulationTemplates::new(useful, noisy)?,
    })
}

/// How a policy is asked where no run file says it: models over the embedded world's vocabulary by
/// the short prompt that they were trained with, others by ZeroSearch's.
#[must_use]
pub fn default_rollout(tokenizer: &Tokenizer) -> RolloutConfig {
    if !speaks_of_worlds(tokenizer) {
        return RolloutConfig::default();
    }
    RolloutConfig {
        prompt_template: zs_world::PROMPT_TEMPLATE.to_owned(),
        max_new_tokens: 64,
        ..RolloutConfig::default()
    }
}

/// Whether a tokenizer is that of embedded worlds.
fn speaks_of_worlds(tokenizer: &Tokenizer) -> bool {
    let world = zs_simulator::pretraining::world_tokenizer();
    tokenizer.vocab_size() == world.vocab_size()
        && [zs_world::BOS_TOKEN, zs_world::EOS_TOKEN, zs_world::PAD_TOKEN, "<search>", "Doc 1:"]
            .iter()
            .all(|it| tokenizer.token_id(it) == world.token_id(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SplitName;

    #[test]
    fn world_questions_alternate_between_one_and_two_hops() {
        let world = WorldSource { seed: 3, split: SplitName::Train };
        let drawn = questions(&QuestionSource::World { world, per_hop: 4 }).unwrap();
        let hops: Vec<_> = drawn.iter().filter_map(|it| it.hops).collect();
        assert_eq!(hops, [1, 2, 1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn prompts_follow_the_tokenizer() {
        let tiny = default_rollout(&zs_simulator::pretraining::world_tokenizer());
        assert_eq!(tiny.prompt_template, zs_world::PROMPT_TEMPLATE);
        let other = default_rollout(&zs_model::testing::byte_tokenizer());
        assert_eq!(other, RolloutConfig::default());
    }
}
