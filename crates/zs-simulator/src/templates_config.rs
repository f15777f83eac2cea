//! Choice of the prompts of a simulation LLM in a run file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zs_model::Tokenizer;

use crate::pretraining::is_world_tokenizer;
use crate::{SimulationTemplates, TemplateError};

/// Prompts of a simulation LLM.
///
/// ```
/// use zs_simulator::TemplatesConfig;
///
/// let config: TemplatesConfig = serde_json::from_str("\"query_grounded\"")?;
/// assert!(config.resolve(None).is_ok());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TemplatesConfig {
    /// [`Tiny`](Self::Tiny) for models over the embedded world's vocabulary, else
    /// [`Zerosearch`](Self::Zerosearch).
    #[default]
    Auto,
    /// Short prompts of models that were trained on embedded worlds.
    Tiny,
    /// Prompts of ZeroSearch's released simulation LLMs.
    Zerosearch,
    /// Prompts with an example, for models that were not tuned.
    ZerosearchPrompt,
    /// Prompts that show the query and never the question.
    QueryGrounded,
    /// Templates in files of your own.
    Files {
        /// Template of useful documents.
        useful: PathBuf,
        /// Template of noisy documents.
        noisy: PathBuf,
    },
    /// Templates of your own.
    Custom {
        /// Template of useful documents.
        useful: String,
        /// Template of noisy documents.
        noisy: String,
    },
}

impl TemplatesConfig {
    /// Reads and compiles the templates; `tokenizer` is that of the simulation LLM, where it is known.
    ///
    /// # Errors
    ///
    /// Fails on a template that cannot be read or used.
    pub fn resolve(
        &self,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<SimulationTemplates, TemplateError> {
        Ok(match self {
            Self::Auto if tokenizer.is_some_and(is_world_tokenizer) => SimulationTemplates::tiny(),
            Self::Tiny => SimulationTemplates::tiny(),
            Self::Auto | Self::Zerosearch => SimulationTemplates::zerosearch_sft(),
            Self::ZerosearchPrompt => SimulationTemplates::zerosearch_prompted(),
            Self::QueryGrounded => SimulationTemplates::query_grounded(),
            Self::Files { useful, noisy } => {
                SimulationTemplates::new(&read(useful)?, &read(noisy)?).map_err(|source| {
                    let (useful, noisy) = (useful.clone(), noisy.clone());
                    TemplateError::InFiles { useful, noisy, source: Box::new(source) }
                })?
            }
            Self::Custom { useful, noisy } => SimulationTemplates::new(useful, noisy)?,
        })
    }
}

fn read(path: &Path) -> Result<String, TemplateError> {
    zs_data::read_regular_text(path)
        .map_err(|source| TemplateError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let config: TemplatesConfig = serde_json::from_str(text).unwrap();
        let error = config.resolve(None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn unusable_templates_are_named() {
        check(r#"{"files": {"useful": "no-such.jinja", "noisy": "n"}}"#, "no-such.jinja: cannot");
        check(r#"{"custom": {"useful": "{{ qery }}", "noisy": ""}}"#, "template `useful`");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.jinja");
        std::fs::write(&path, "{{ qery }}").unwrap();
        let files = TemplatesConfig::Files { useful: path.clone(), noisy: path };
        check(&serde_json::to_string(&files).unwrap(), "broken.jinja");
    }
}
