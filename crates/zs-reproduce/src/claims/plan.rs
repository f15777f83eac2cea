//! Work for some claims: every simulation LLM and every arm once a seed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use zs_trainer::config::TrainingConfig;

use crate::config::{ArmConfig, ArmEngine, ClaimConfig, ReproduceConfig};
use crate::error::{ReproduceError, Result};

/// A piece of work.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// Tuning and auditing a simulation LLM; the settings have the seed.
    Tune(Box<ReproduceConfig>),
    /// Training and evaluating a policy.
    Arm(Box<ArmWork>),
}

/// One arm with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArmWork {
    /// Its name.
    pub(super) name: String,
    /// Search engine in training.
    pub(super) engine: ArmEngine,
    /// Validates on the simulator too.
    pub(super) asks_simulator: bool,
    /// The settings, seed included.
    pub(super) settings: ReproduceConfig,
}

impl Work {
    fn settings(&self) -> &ReproduceConfig {
        match self {
            Self::Tune(settings) => settings,
            Self::Arm(arm) => &arm.settings,
        }
    }

    /// The name in progress and plan.
    pub(super) fn label(&self) -> String {
        let settings = self.settings();
        let what = match self {
            Self::Tune(_) => format!("simulator of {} steps", settings.tuning.steps),
            Self::Arm(arm) => arm.name.clone(),
        };
        format!("{what}, seed {}", settings.seed)
    }

    /// The directory of its results.
    pub(super) fn dir(&self, store: &Store) -> PathBuf {
        match self {
            Self::Tune(settings) => store.simulator(settings),
            Self::Arm(arm) if store.resumes => store.arm(arm),
            Self::Arm(arm) => store.out.join("evaluation").join(&arm.name),
        }
    }

    /// About how much work it is; a step of training on the simulator is 1.
    pub(super) fn size(&self) -> f64 {
        let settings = self.settings();
        match self {
            Self::Tune(_) => 0.25 * settings.tuning.steps as f64 + 5.0,
            Self::Arm(arm) if matches!(arm.engine, ArmEngine::Untrained {}) => 5.0,
            Self::Arm(_) => settings.training.schedule.steps as f64 + 10.0,
        }
    }
}

/// The directory of all results, and the places in it.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) out: PathBuf,
    /// Keeps finished pieces of work, each in a directory of its arm and seed.
    pub(super) resumes: bool,
}

impl Store {
    /// The run directory of a simulation LLM.
    pub(super) fn simulator(&self, settings: &ReproduceConfig) -> PathBuf {
        let ReproduceConfig { tuning, seed, .. } = settings;
        match self.resumes {
            true => self.out.join(format!("simulators/steps-{}/seed-{seed}", tuning.steps)),
            false => self.out.join("simulator"),
        }
    }

    fn arm(&self, arm: &ArmWork) -> PathBuf {
        self.out.join(format!("arms/{}/seed-{}", arm.name, arm.settings.seed))
    }

    /// The run directory of a policy.
    pub(super) fn training(&self, arm: &ArmWork) -> PathBuf {
        match self.resumes {
            true => self.arm(arm).join("training"),
            false => self.out.join(&arm.name),
        }
    }
}

/// The settings of a tuned simulation LLM: those of the base but for the steps, so that arms share it
/// whatever else they change.
fn tuning_settings(base: &ReproduceConfig, arm: &ReproduceConfig) -> ReproduceConfig {
    let rollout = base.training.rollout.clone();
    ReproduceConfig {
        tuning: arm.tuning.clone(),
        // Nothing of it matters to the tuning, so nothing of it makes a result out of date.
        training: TrainingConfig { rollout, ..TrainingConfig::default() },
        ..base.clone()
    }
}

/// The claims to be looked at: all, or those that are named.
///
/// # Errors
///
/// Fails on a name that no claim has.
pub(super) fn select(claims: &[ClaimConfig], only: &[String]) -> Result<Vec<ClaimConfig>> {
    if let Some(unknown) = only.iter().find(|it| claims.iter().all(|claim| claim.id != **it)) {
        let known: Vec<&str> = claims.iter().map(|it| it.id.as_str()).collect();
        let known = known.join(", ");
        let problem = format!("`--only {unknown}`: there is no such claim; there are {known}");
        return Err(ReproduceError::arguments(problem));
    }
    let is_asked = |it: &&ClaimConfig| only.is_empty() || only.contains(&it.id);
    Ok(claims.iter().filter(is_asked).cloned().collect())
}

/// All work for some claims: the simulation LLMs, then the arms that train with them, both claim by
/// claim and seed by seed.
pub(super) fn plan(
    base: &ReproduceConfig,
    seeds: &[u64],
    all: &[ClaimConfig],
    wanted: &[ClaimConfig],
) -> Vec<Work> {
    let arms: BTreeMap<&str, &ArmConfig> =
        all.iter().flat_map(|it| &it.arms).map(|(name, arm)| (name.as_str(), arm)).collect();
    let mut names: Vec<&str> = Vec::new();
    for name in wanted.iter().flat_map(ClaimConfig::arm_names) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Where results lie is no part of what they depend on.
    let base = &ReproduceConfig { out: PathBuf::new(), ..base.clone() };
    let (mut simulators, mut policies) = (Vec::new(), Vec::new());
    for (name, arm) in names.iter().filter_map(|it| Some((*it, *arms.get(it)?))) {
        for &seed in seeds {
            let settings = ReproduceConfig { seed, ..arm.settings(base) };
            let is_tuned = matches!(arm.engine, ArmEngine::Simulated { .. });
            if is_tuned && settings.tuning.steps > 0 {
                let base = ReproduceConfig { seed, ..base.clone() };
                let work = Work::Tune(Box::new(tuning_settings(&base, &settings)));
                if !simulators.contains(&work) {
                    simulators.push(work);
                }
            }
            policies.push(Work::Arm(Box::new(ArmWork {
                name: name.to_owned(),
                engine: arm.engine.clone(),
                asks_simulator: arm.asks_simulator,
                settings,
            })));
        }
    }
    simulators.append(&mut policies);
    simulators
}

#[cfg(test)]
mod tests {
    use super::super::preset;
    use super::*;

    fn labels(only: &[&str], seeds: &[u64]) -> Vec<String> {
        let preset =
            preset(zs_world::WorldPreset::Easy, &zs_trainer::Components::built_in()).unwrap();
        let only: Vec<String> = only.iter().map(|it| (*it).to_owned()).collect();
        let wanted = select(&preset.claims, &only).unwrap();
        let work = plan(&preset.base, seeds, &preset.claims, &wanted);
        assert!(work.is_sorted_by_key(|it| matches!(it, Work::Arm(_))), "simulators come first");
        work.iter().map(Work::label).collect()
    }

    #[test]
    fn work_is_shared() {
        let found = labels(&["simulator_or_real"], &[1, 2]);
        let simulators = "simulator of 300 steps, seed";
        let expected = [
            format!("{simulators} 1"),
            format!("{simulators} 2"),
            "simulated, seed 1".to_owned(),
            "simulated, seed 2".to_owned(),
            "real, seed 1".to_owned(),
            "real, seed 2".to_owned(),
        ];
        assert_eq!(found, expected);
        let mut all = labels(&[], &[1]);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "nothing is done twice");
    }

    #[test]
    fn unknown_claims_are_refused() {
        let preset =
            preset(zs_world::WorldPreset::Easy, &zs_trainer::Components::built_in()).unwrap();
        let error = select(&preset.claims, &["moon".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`--only moon`") && error.contains("curriculum"), "{error}");
    }

    #[test]
    fn results_depend_on_settings_and_not_on_their_place() {
        let preset =
            preset(zs_world::WorldPreset::Easy, &zs_trainer::Components::built_in()).unwrap();
        let tasks = |base: &ReproduceConfig| plan(base, &[1], &preset.claims, &preset.claims);
        let moved = ReproduceConfig { out: "elsewhere".into(), ..preset.base.clone() };
        assert_eq!(tasks(&preset.base), tasks(&moved));
        let mut other = preset.base.clone();
        other.tuning.optimizer.learning_rate *= 2.0;
        assert_ne!(tasks(&preset.base)[0], tasks(&other)[0]);
        // Training is no part of a simulator.
        let mut longer = preset.base.clone();
        longer.training.schedule.steps *= 2;
        assert_eq!(tasks(&preset.base)[0], tasks(&longer)[0]);
        assert_ne!(tasks(&preset.base).last(), tasks(&longer).last());
    }
}
