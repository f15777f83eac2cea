//! The settings and claims that come with `zs`: `presets/quick/` and `presets/claims/`.

use serde::Deserialize;
use toml::{Table, Value};
use zs_world::WorldPreset;

use zs_trainer::Components;
use zs_trainer::config::{Check, RunFileError, parse};

use crate::ReproduceError;
use crate::config::{ClaimConfig, ReproduceConfig, check_claims};

/// Files of a folder of `presets/`, the most important claims first.
macro_rules! claim_files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        [$((
            concat!($folder, "/", $name),
            include_str!(concat!("../../presets/", $folder, "/", $name)),
        )),*]
    };
}

const QUICK: &str = include_str!("../../presets/reproduce_quick.toml");

/// Changes for the hard world.
const HARD: &str = include_str!("../../presets/hard.toml");

const QUICK_CLAIMS: [(&str, &str); 1] = claim_files!["quick": "simulator_or_real.toml"];

const BASE: &str = include_str!("../../presets/claims/base.toml");

const CLAIMS: [(&str, &str); 15] = claim_files![
    "claims":
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

/// Seeds of the claims, and the settings that differ from those of `quick`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseFile {
    seeds: usize,
    settings: Table,
}

/// Claims, the settings they share, and the way their results are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimsPreset {
    /// The settings of every arm but for what the arm changes.
    pub base: ReproduceConfig,
    /// Number of seeds.
    pub num_seeds: usize,
    /// The claims, the most important first.
    pub claims: Vec<ClaimConfig>,
    /// Keeps finished pieces of work, which the next call skips. Otherwise all work is done
    /// anew, with one seed, and the report replaces an earlier one when it is complete.
    pub resumes: bool,
}

impl ClaimsPreset {
    fn new(
        base: ReproduceConfig,
        num_seeds: Option<usize>,
        files: &[(&str, &str)],
        components: &Components,
    ) -> Result<Self, RunFileError> {
        let claims = files
            .iter()
            .map(|(name, text)| parse(text, &format!("presets/{name}"), components))
            .collect::<Result<Vec<ClaimConfig>, _>>()?;
        base.check(components)?;
        check_claims(&base, &claims, components)?;
        Ok(Self { base, num_seeds: num_seeds.unwrap_or(1), claims, resumes: num_seeds.is_some() })
    }
}

/// The settings of the preset `quick` in a world.
///
/// # Errors
///
/// Never: the preset is part of this crate and tested.
pub fn quick_config(
    world: WorldPreset,
    components: &Components,
) -> Result<ReproduceConfig, ReproduceError> {
    in_world(world, toml::from_str(QUICK)?, "presets/reproduce_quick.toml", components)
}

/// The preset `quick`, with custom settings.
///
/// # Errors
///
/// Fails on settings that are out of range.
pub fn quick(base: ReproduceConfig, components: &Components) -> Result<ClaimsPreset, RunFileError> {
    ClaimsPreset::new(base, None, &QUICK_CLAIMS, components)
}

/// The preset `claims` in a world.
///
/// # Errors
///
/// Never: the preset is part of this crate and tested.
pub fn preset(world: WorldPreset, components: &Components) -> Result<ClaimsPreset, ReproduceError> {
    let file: BaseFile = toml::from_str(BASE)?;
    let mut settings: Table = toml::from_str(QUICK)?;
    merge(&mut settings, file.settings);
    let base = in_world(world, settings, "presets/claims/base.toml", components)?;
    Ok(ClaimsPreset::new(base, Some(file.seeds), &CLAIMS, components)?)
}

/// Settings of a preset in a world, with a directory of their own.
fn in_world(
    world: WorldPreset,
    mut settings: Table,
    file: &str,
    components: &Components,
) -> Result<ReproduceConfig, ReproduceError> {
    if world == WorldPreset::Hard {
        merge(&mut settings, toml::from_str(HARD)?);
        if let Some(Value::String(out)) = settings.get_mut("out") {
            out.push_str("-hard");
        }
    }
    Ok(parse(&toml::to_string(&settings)?, file, components)?)
}

/// Replaces what `changes` has, table by table.
fn merge(settings: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (settings.get_mut(&key), change) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, change) => drop(settings.insert(key, change)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zs_trainer::config::TrainingConfig;

    #[test]
    fn the_preset_is_whole() {
        let preset = preset(WorldPreset::Easy, &Components::built_in()).unwrap();
        assert!(preset.num_seeds >= 5);
        // A piece of work is done again from its start, so it writes no checkpoints on its way.
        let TrainingConfig { schedule, checkpoints, .. } = &preset.base.training;
        assert_eq!((checkpoints.every, schedule.steps, schedule.group_size), (0, 60, 8));
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
    fn the_main_job_is_valid_and_asks_enough() {
        let components = Components::built_in();
        let config = quick_config(WorldPreset::Easy, &components).unwrap();
        assert!(2 * config.worlds.test_per_hop >= 500);
        assert_eq!(config.preset, "quick");
        assert_eq!(config.training.rollout.prompt_template, zs_world::PROMPT_TEMPLATE);
        // Worlds of the job are none of the worlds that models are tuned on.
        let tuning = config.data.first_seed..config.data.first_seed + config.data.worlds as u64;
        assert!(!tuning.contains(&config.worlds.first_seed));
        let written = toml::to_string_pretty(&config).unwrap();
        assert_eq!(parse::<ReproduceConfig>(&written, "written", &components).unwrap(), config);
        let quick = quick(config, &components).unwrap();
        assert_eq!(quick.claims[0].arm_names(), ["simulated", "base", "real"]);
        assert!(quick.num_seeds == 1 && !quick.resumes);
    }

    #[test]
    fn the_hard_world_changes_both_presets() {
        let components = Components::built_in();
        let easy = quick_config(WorldPreset::Easy, &components).unwrap();
        let quick = quick_config(WorldPreset::Hard, &components).unwrap();
        let claims = preset(WorldPreset::Hard, &components).unwrap().base;
        for (config, out) in [(&quick, "quick-hard"), (&claims, "claims-hard")] {
            assert!(config.out.ends_with(out), "{}", config.out.display());
            assert_eq!(config.worlds.world, WorldPreset::Hard);
            assert_eq!(config.training.rollout.max_searches, 6);
            assert_eq!(config.training.algorithm, easy.training.algorithm);
        }
        let mixed = ReproduceConfig { data: easy.data.clone(), ..quick };
        let error = mixed.check(&components).unwrap_err().to_string();
        assert!(error.contains("data.world"), "{error}");
    }

    #[test]
    fn every_file_of_the_folders_is_part_of_a_preset() {
        let names = |folder: &str| -> Vec<String> {
            let path = format!("{}/presets/{folder}", env!("CARGO_MANIFEST_DIR"));
            let entries = std::fs::read_dir(path).unwrap();
            let name = |it: std::fs::DirEntry| it.file_name().into_string().unwrap();
            entries.map(|it| format!("{folder}/{}", name(it.unwrap()))).collect()
        };
        let mut files = [names("claims"), names("quick")].concat();
        let known = CLAIMS.iter().chain(&QUICK_CLAIMS).map(|it| it.0);
        let mut known: Vec<&str> = known.chain(["claims/base.toml"]).collect();
        files.sort();
        known.sort_unstable();
        assert_eq!(files, known);
    }
}
