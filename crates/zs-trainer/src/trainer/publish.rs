//! The policy that has just learned, for whoever samples it.

use std::sync::Arc;

use tracing::info_span;
use zs_model::{Generator, LanguageModel};

use super::Trainer;
use super::log::Log;
use crate::TrainError;

impl Trainer {
    /// Hands the policy that has just learned to engines that ask it.
    pub(super) fn follow(&self, policy: &LanguageModel) {
        if let Some(engines) = self.engines.as_ref().filter(|it| it.asks_policy()) {
            let policy: Arc<dyn Generator> = Arc::new(policy.clone());
            engines.follow(&policy);
        }
    }

    /// The policy as it is sampled: in this process, or on servers, which are given the weights that
    /// the policy has after a step.
    pub(super) fn published<'a>(
        &'a self,
        policy: &'a LanguageModel,
        step: usize,
        log: &mut Log,
    ) -> Result<&'a dyn Generator, TrainError> {
        let Some(servers) = &self.servers else { return Ok(policy) };
        info_span!("publish").in_scope(|| servers.publish(policy, step))?;
        log.timings.lap("publish");
        Ok(servers)
    }
}
