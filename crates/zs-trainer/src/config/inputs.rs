//! The files that a training run reads, as its run file names them.

use std::path::PathBuf;

use super::{CorpusSource, EngineConfig, QuestionSource, TrainConfig};

impl TrainConfig {
    /// Files, and directories that stand for all files in them; an index on disk is known by the list
    /// of its segments.
    pub(crate) fn inputs(&self) -> Vec<PathBuf> {
        let mut inputs = vec![self.policy.clone()];
        inputs.extend(of_questions(&self.questions));
        of_engine(&self.engine, &mut inputs);
        if let Some(validation) = &self.validation {
            inputs.extend(of_questions(&validation.questions));
            if let Some(engine) = &validation.engine {
                of_engine(engine, &mut inputs);
            }
        }
        inputs.extend(self.helper_models.as_ref().map(|it| it.model.clone()));
        inputs.extend(self.judge.as_ref().map(|it| it.model.clone()));
        if let Some(CorpusSource::File { path }) = &self.corpus {
            inputs.push(path.clone());
        }
        inputs.extend(self.training.ptx.as_ref().map(|it| it.path.clone()));
        inputs.sort();
        inputs.dedup();
        inputs
    }
}

fn of_questions(source: &QuestionSource) -> Option<PathBuf> {
    match source {
        QuestionSource::File { path, .. } => Some(path.clone()),
        QuestionSource::World { .. } => None,
    }
}

fn of_engine(engine: &EngineConfig, inputs: &mut Vec<PathBuf>) {
    match engine.innermost() {
        EngineConfig::Bm25 { corpus, index, .. } => {
            inputs.extend(corpus.clone());
            inputs.extend(index.as_ref().map(|it| it.join("meta.json")));
        }
        EngineConfig::Simulated { model, .. } => inputs.push(model.clone()),
        EngineConfig::Replay { turns } => inputs.push(turns.clone()),
        _ => {}
    }
}
