//! Self-search: the policy writes the documents itself, from what it knows.

use std::sync::Arc;

use parking_lot::RwLock;
use zs_core::{SearchEngine, SearchRequest, SearchResult};
use zs_model::Generator;
use zs_search::Ledger;

use crate::{SimulatedConfig, SimulatedEngine, SimulationTemplates, TemplateError};

/// Search in the policy's own memory, after SSRL: the model that asks also writes the documents.
///
/// The prompt has the query and nothing of the question: unlike a simulation LLM, the policy must not
/// be told the golden answer. Quality is not asked for either, so a request for noisy documents gets
/// what the policy knows, too. Whoever trains the policy says so after every update
/// ([`set_policy`](Self::set_policy)).
///
/// ```
/// use std::sync::Arc;
/// use zs_core::{DocumentQuality, Question, SearchEngine, SearchRequest};
/// use zs_model::testing::ScriptedGenerator;
/// use zs_simulator::SelfSearchEngine;
///
/// let policy = ScriptedGenerator::new(|_, _| "Doc 1: Bamboo is a grass.".to_owned());
/// let templates = SelfSearchEngine::default_templates();
/// let engine = SelfSearchEngine::new(Arc::new(policy), templates, Default::default());
/// let question = Question::new("q", "What is bamboo?", ["a grass"]);
/// let quality = DocumentQuality::Useful;
/// let request = SearchRequest { query: "bamboo", question: &question, quality, read: &[], k: 1, seed: 0 };
/// assert_eq!(engine.search(request)?[0].text, "Bamboo is a grass.");
/// # Ok::<(), zs_core::SearchError>(())
/// ```
///
/// # References
///
/// - Fan et al. (2025), *SSRL: Self-Search Reinforcement Learning*, arXiv 2508.10874. There the
///   policy writes its `<information>` within one sampled sequence; here it is asked with a prompt of
///   its own, so that rollouts, masks and rewards are those of every other engine.
#[derive(Debug)]
pub struct SelfSearchEngine {
    current: RwLock<Arc<SimulatedEngine>>,
    templates: SimulationTemplates,
    config: SimulatedConfig,
    ledger: Arc<Ledger>,
}

impl SelfSearchEngine {
    /// An engine that asks a policy. Templates that show the golden answer defeat its purpose.
    #[must_use]
    pub fn new(
        policy: Arc<dyn Generator>,
        templates: SimulationTemplates,
        config: SimulatedConfig,
    ) -> Self {
        let ledger = Arc::default();
        let current = asking(policy, &templates, &config, &ledger);
        Self { current: RwLock::new(current), templates, config, ledger }
    }

    /// Records the tokens of its prompts and replies in this ledger.
    #[must_use]
    pub fn with_ledger(self, ledger: Arc<Ledger>) -> Self {
        let policy = Arc::clone(self.current().generator());
        let current = asking(policy, &self.templates, &self.config, &ledger);
        Self { current: RwLock::new(current), ledger, ..self }
    }

    /// The prompt in `templates/self_search.jinja`, for both qualities.
    #[must_use]
    pub fn default_templates() -> SimulationTemplates {
        Self::templates(include_str!("../templates/self_search.jinja")).expect("a tested template")
    }

    /// A prompt of one's own, for both qualities.
    ///
    /// # Errors
    ///
    /// Fails when it has a syntax error or an unknown variable.
    pub fn templates(prompt: &str) -> Result<SimulationTemplates, TemplateError> {
        SimulationTemplates::new(prompt, prompt)
    }

    /// Asks another policy from now on: the same one with new weights.
    pub fn set_policy(&self, policy: Arc<dyn Generator>) {
        let engine = asking(policy, &self.templates, &self.config, &self.ledger);
        *self.current.write() = engine;
    }

    fn current(&self) -> Arc<SimulatedEngine> {
        Arc::clone(&self.current.read())
    }
}

const NAME: &str = "self_search";

fn asking(
    policy: Arc<dyn Generator>,
    templates: &SimulationTemplates,
    config: &SimulatedConfig,
    ledger: &Arc<Ledger>,
) -> Arc<SimulatedEngine> {
    let engine = SimulatedEngine::new(policy, templates.clone(), config.clone());
    Arc::new(engine.with_name(NAME).with_ledger(Arc::clone(ledger)))
}

impl SearchEngine for SelfSearchEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        self.current().search_batch(requests)
    }

    fn is_deterministic(&self) -> bool {
        self.current().is_deterministic()
    }
}

#[cfg(test)]
mod tests {
    use zs_core::{DocumentQuality, Question};
    use zs_model::testing::ScriptedGenerator;

    use super::*;
    use zs_search::conformance::{check_engine, check_own_question};

    fn policy(version: u32) -> Arc<dyn Generator> {
        let reply = move |prompt: &str, _| {
            format!("Doc 1: version {version}\nDoc 2: {}", prompt.replace('\n', " "))
        };
        Arc::new(ScriptedGenerator::new(reply))
    }

    #[test]
    fn the_policy_answers_without_knowing_the_question() {
        let templates = SelfSearchEngine::default_templates();
        let engine = SelfSearchEngine::new(policy(1), templates, SimulatedConfig::default());
        check_engine(&engine);
        check_own_question(&engine);
        let question = Question::new("q", "Who wrote Hamlet?", ["Shakespeare"]);
        let search = || {
            let quality = DocumentQuality::Noisy;
            let query = "Hamlet author";
            let request =
                SearchRequest { query, question: &question, quality, read: &[], k: 2, seed: 0 };
            engine.search(request).unwrap()
        };
        let documents = search();
        assert_eq!(documents[0].text, "version 1");
        let prompt = &documents[1].text;
        assert!(prompt.contains("Hamlet author") && prompt.contains("2 documents"), "{prompt}");
        assert!(!prompt.contains("Shakespeare") && !prompt.contains("Who wrote"), "{prompt}");
        engine.set_policy(policy(2));
        assert_eq!(search()[0].text, "version 2");
    }
}
