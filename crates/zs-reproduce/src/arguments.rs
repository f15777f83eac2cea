//! Arguments of the command that reproduces.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use zs_world::WorldPreset;

use crate::error::{ReproduceError, Result};

/// Arguments of `zs reproduce`.
#[derive(Debug, clap::Args)]
pub struct ReproduceArgs {
    /// `quick`: the method end to end, once; `claims`: every claim of the paper at the embedded scale,
    /// over seeds; `paper`: the paper's runs on your own models; `real`: a small pretrained model on your
    /// own questions and passages.
    #[arg(long, value_enum, default_value_t)]
    pub preset: Preset,
    /// World of `quick` and `claims`: `easy`, or `hard` with a base model of its own (docs/worlds.md).
    #[arg(long, default_value = "easy", value_parser = world())]
    pub world: WorldPreset,
    /// Run the method once with the settings in this file, in place of `--preset` and `--world`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "world"])]
    pub config: Option<PathBuf>,
    /// Seed; the first one if there are several.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The base model (Hugging Face layout).
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Output directory; `claims` resumes the work in it.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Number of seeds.
    #[arg(long, value_name = "N", help_heading = "With --preset claims")]
    pub seeds: Option<usize>,
    /// Only this claim of `claims`, this run of `paper`, or this stage of `real`; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Number of jobs to run in parallel; by default one, and for `claims` one per core, as far as memory
    /// allows.
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Only write the report on finished jobs.
    #[arg(long, help_heading = "With --preset claims or real")]
    pub report_only: bool,
    /// Model directory of the policy.
    #[arg(long, value_name = "DIR", help_heading = "With --preset paper or real")]
    pub model: Option<PathBuf>,
    /// Model directory of the simulation LLM.
    #[arg(long, value_name = "DIR", help_heading = "With --preset paper")]
    pub simulator: Option<PathBuf>,
    /// Directory that `zs data fetch` wrote; for `real`, one with `data.toml` (docs/reproduce.md).
    #[arg(long, value_name = "DIR", help_heading = "With --preset paper or real")]
    pub data: Option<PathBuf>,
    /// Make every stage as short as it can be, to test the path.
    #[arg(long, help_heading = "With --preset real")]
    pub smoke: bool,
    /// Print the plan, and run nothing.
    #[arg(long)]
    pub dry_run: bool,
}

impl ReproduceArgs {
    /// Refuses arguments that the preset does not take.
    pub(crate) fn check(&self) -> Result<()> {
        use Preset::{Claims, Paper, Quick, Real};
        let arguments: [(&str, bool, &[Preset]); 10] = [
            ("--world", !self.world.is_easy(), &[Quick, Claims]),
            ("--base", self.base.is_some(), &[Quick, Claims]),
            ("--jobs", self.jobs.is_some(), &[Quick, Claims]),
            ("--seeds", self.seeds.is_some(), &[Claims]),
            ("--only", !self.only.is_empty(), &[Claims, Paper, Real]),
            ("--report-only", self.report_only, &[Claims, Real]),
            ("--model", self.model.is_some(), &[Paper, Real]),
            ("--simulator", self.simulator.is_some(), &[Paper]),
            ("--data", self.data.is_some(), &[Paper, Real]),
            ("--smoke", self.smoke, &[Real]),
        ];
        for (name, is_given, presets) in arguments {
            if is_given && !presets.contains(&self.preset) {
                let takers = presets.iter().filter_map(Preset::to_possible_value);
                let takers: Vec<String> =
                    takers.map(|it| format!("`--preset {}`", it.get_name())).collect();
                let takers = takers.join(" or ");
                return Err(ReproduceError::arguments(format!("`{name}` goes with {takers}")));
            }
        }
        Ok(())
    }
}

fn world() -> impl TypedValueParser<Value = WorldPreset> {
    let of = |word: String| if word == "hard" { WorldPreset::Hard } else { WorldPreset::Easy };
    PossibleValuesParser::new([WorldPreset::Easy, WorldPreset::Hard].map(WorldPreset::word)).map(of)
}

/// The settings that come with `zs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// The main job once, in minutes.
    #[default]
    Quick,
    /// Every claim of the paper at the embedded scale, over seeds.
    Claims,
    /// The paper's own runs, on real weights.
    Paper,
    /// A small pretrained model, on the user's questions and passages.
    Real,
}
