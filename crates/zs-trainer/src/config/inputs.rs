//! The files that a training run reads, as its run file names them.

use std::path::PathBuf;

use zs_core::registry::RegistryError;

use super::{CorpusSource, TrainConfig};
use crate::components::Components;

impl TrainConfig {
    /// Files, and directories that stand for all files in them.
    pub(crate) fn inputs(&self, components: &Components) -> Result<Vec<PathBuf>, RegistryError> {
        let Components { engines, question_sources, teachers, .. } = components;
        let mut inputs = vec![self.policy.clone()];
        inputs.extend(question_sources.inputs(&self.questions)?);
        inputs.extend(engines.inputs(&self.engine)?);
        if let Some(validation) = &self.validation {
            inputs.extend(question_sources.inputs(&validation.questions)?);
            if let Some(engine) = &validation.engine {
                inputs.extend(engines.inputs(engine)?);
            }
        }
        inputs.extend(self.helper_models.as_ref().map(|it| it.model.clone()));
        if let Some(teacher) = &self.teacher {
            inputs.extend(teachers.inputs(teacher)?);
        }
        inputs.extend(self.judge.as_ref().map(|it| it.model.clone()));
        if let Some(CorpusSource::File { path }) = &self.corpus {
            inputs.push(path.clone());
        }
        inputs.extend(self.training.ptx.as_ref().map(|it| it.path.clone()));
        inputs.sort();
        inputs.dedup();
        Ok(inputs)
    }
}
