//! Run files of supervised runs that are resumed: they must be those that the runs began with.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::TrainError;
use crate::components::Components;
use crate::config::{Check, load};
use crate::files::{CONFIG, RunDir};
use crate::run_dir_error::RunDirError;

/// Compares a run file with the one that a run began with.
///
/// # Errors
///
/// Fails when a setting differs, and names the first line that does.
pub(crate) fn check_unchanged<C>(
    run: &RunDir,
    file: &Path,
    config: &C,
    components: &Components,
) -> Result<(), TrainError>
where
    C: DeserializeOwned + Check + Serialize,
{
    let path = run.join(CONFIG);
    let before: C = load(&path, components)?;
    let (before, now) = (RunDir::config_text(&before)?, RunDir::config_text(config)?);
    let (mut before, mut now) = (before.lines(), now.lines());
    loop {
        match (before.next(), now.next()) {
            (None, None) => return Ok(()),
            (before, now) if before == now => {}
            (before, now) => {
                let text = |line: Option<&str>| line.unwrap_or_default().to_owned();
                let (file, now, before) = (file.to_owned(), text(now), text(before));
                return Err(RunDirError::SettingChanged { file, now, before, path }.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SftConfig;

    #[test]
    fn the_first_setting_that_differs_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let components = Components::built_in();
        let run = RunDir::create(&scratch.path().join("run")).unwrap();
        let text = "seed = 1\nout = \"run\"\nbase = \"base\"\n\
                    data = { kind = \"file\", train = \"rows.jsonl\" }\n\
                    tuning = { steps = 5, tokens_per_step = 400, micro_batch_tokens = 400, \
                    eval_every = 80, optimizer = { learning_rate = 1e-2 } }\n";
        let parse = |text: &str| -> SftConfig {
            crate::config::parse(text, "sft.toml", &components).unwrap()
        };
        run.write_config(&parse(text)).unwrap();
        let check = |text: &str| {
            let config = parse(text);
            check_unchanged(&run, Path::new("sft.toml"), &config, &components)
        };
        check(text).unwrap();
        let message = check(&text.replace("steps = 5", "steps = 6")).unwrap_err().to_string();
        let expected = "sft.toml: has changed since the run began: `steps = 6` was `steps = 5`";
        assert!(message.starts_with(expected), "{message}");
    }
}
