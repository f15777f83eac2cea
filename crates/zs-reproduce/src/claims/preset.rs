//! The settings and claims that come with `zs`: `presets/claims/`.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use zs_trainer::Components;
use zs_trainer::config::{Check, ensure, parse};

use crate::config::{ClaimConfig, ReproduceConfig, check_claims};

/// Files of `presets/claims/`, the most important claims first.
macro_rules! claim_files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../presets/claims/", $name)))),*]
    };
}

const BASE: &str = include_str!("../../presets/claims/base.toml");

const CLAIMS: [(&str, &str); 15] = claim_files![
    "simulator_or_real.toml",
    "curriculum.toml",
    "incentive_gap.toml",
    "masking.toml",
    "algorithms.toml",
    "tuned_or_prompted.toml",
    "mispaired.toml",
    "kl_sign.toml",
    "default_answer.toml",
    "no_stop_texts.toml",
    "better_simulator.toml",
    "reward.toml",
    "cost.toml",
    "sim_to_real.toml",
    "seeds.toml",
];

/// What the claims share; everything else is as in the preset `quick`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseFile {
    /// How many seeds.
    seeds: usize,
    /// Directory of results and report.
    out: PathBuf,
    /// Training steps of every arm.
    steps: usize,
    /// The validation questions are answered every so many steps.
    eval_every: usize,
    /// Validation questions of each kind.
    validation_per_hop: usize,
    /// Test questions of each kind.
    test_per_hop: usize,
}

impl Check for BaseFile {
    fn check(&self, _: &Components) -> Result<()> {
        ensure(self.seeds > 0, "seeds", "at least 1", self.seeds)?;
        ensure(self.steps > 0, "steps", "at least 1", self.steps)
    }
}

/// The claims and what they share.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimsPreset {
    /// The settings of every arm but for what the arm changes.
    pub base: ReproduceConfig,
    /// How many seeds.
    pub num_seeds: usize,
    /// The claims, the most important first.
    pub claims: Vec<ClaimConfig>,
}

/// The preset `claims`.
///
/// # Errors
///
/// Never: the preset is part of this crate and tested.
pub fn preset(components: &Components) -> Result<ClaimsPreset> {
    let file: BaseFile = parse(BASE, "presets/claims/base.toml", components)?;
    let mut base = crate::quick::preset(components)?;
    base.preset = "claims".to_owned();
    base.out = file.out;
    base.worlds.validation_per_hop = file.validation_per_hop;
    base.worlds.test_per_hop = file.test_per_hop;
    base.training.schedule.steps = file.steps;
    base.training.schedule.eval_every = file.eval_every;
    base.training.schedule.record_every = 0;
    // A piece of work is done again from its start.
    base.training.checkpoints.every = 0;
    base.training.checkpoints.minutes = 0.0;
    base.check(components)?;
    let claims = CLAIMS
        .iter()
        .map(|(name, text)| parse(text, &format!("presets/claims/{name}"), components))
        .collect::<Result<Vec<ClaimConfig>>>()?;
    check_claims(&base, &claims, components)?;
    Ok(ClaimsPreset { base, num_seeds: file.seeds, claims })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_is_whole() {
        let preset = preset(&Components::built_in()).unwrap();
        assert!(preset.num_seeds >= 5);
        let mut numbers: Vec<u32> = preset.claims.iter().map(|it| it.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        for claim in &preset.claims {
            assert!(!claim.arm_names().is_empty(), "{}", claim.id);
            let deciding = claim.comparisons.iter().filter(|it| it.decides).count();
            assert!(deciding > 0 || claim.comparisons.is_empty(), "{}", claim.id);
        }
    }

    #[test]
    fn every_file_of_the_folder_is_part_of_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets/claims");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut known: Vec<&str> = CLAIMS.iter().map(|it| it.0).chain(["base.toml"]).collect();
        files.sort();
        known.sort_unstable();
        assert_eq!(files, known);
    }
}
