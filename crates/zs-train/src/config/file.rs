//! Reading a run file: what is wrong with it is said with the file, the line and the key.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

/// A configuration whose values can be out of range.
pub trait Check {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Fails with the first key whose value is out of range, and what it must be.
    fn check(&self) -> Result<()>;
}

/// Reads and checks a run file.
///
/// # Errors
///
/// Fails when the file is missing, not UTF-8, not TOML, has an unknown key or a value out of range;
/// the message names the file, and the line where there is one.
pub fn load<C: DeserializeOwned + Check>(path: &Path) -> Result<C> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("{}: cannot read the run file", path.display()))?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{}: the run file is not UTF-8 text", path.display());
    };
    parse(&text, &path.display().to_string())
}

/// Parses and checks the text of a run file; `source` names it in errors.
///
/// # Errors
///
/// As [`load`].
///
/// ```
/// use zs_train::config::{TrainConfig, parse};
///
/// let error = parse::<TrainConfig>("seed = 1\nsteps = 3\n", "run.toml").unwrap_err();
/// assert!(format!("{error:#}").starts_with("run.toml: line 2: unknown field `steps`"));
/// ```
pub fn parse<C: DeserializeOwned + Check>(text: &str, source: &str) -> Result<C> {
    let config: C = toml::from_str(text).map_err(|error| {
        let message = error.message().trim().replace('\n', " ");
        match line_of(text, &error) {
            Some(line) => anyhow!("{source}: line {line}: {message}"),
            None => anyhow!("{source}: {message}"),
        }
    })?;
    config.check().with_context(|| source.to_owned())?;
    Ok(config)
}

/// The line of an error, counted from 1. Errors inside a tagged table carry the table's place only,
/// so an unknown key is looked up by its name.
fn line_of(text: &str, error: &toml::de::Error) -> Option<usize> {
    let span = error.span();
    let start = span.as_ref().map_or(0, |it| it.start);
    let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let key = error.message().strip_prefix("unknown field `").and_then(|it| it.split('`').next());
    let Some(key) = key else { return span.map(|it| line_at(it.start)) };
    let names_key = |line: &str| {
        line.split(['{', ',', '[', '.']).any(|it| {
            it.trim_start().strip_prefix(key).is_some_and(|rest| {
                matches!(rest.trim_start().chars().next(), Some('=' | ']' | '.'))
            })
        })
    };
    let first = line_at(start);
    let lines = || text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let found = lines().skip(first - 1).find(|(_, line)| names_key(line));
    found.or_else(|| lines().find(|(_, line)| names_key(line))).map(|(number, _)| number)
}

/// Fails with `key` unless its value is in range.
pub(crate) fn ensure(
    in_range: bool,
    key: &str,
    must: &str,
    value: impl std::fmt::Display,
) -> Result<()> {
    if in_range {
        return Ok(());
    }
    bail!("`{key}` must be {must}, is {value}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it fails to parse is looked at")]
    struct File {
        seed: u64,
        engine: Engine,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it fails to parse is looked at")]
    enum Engine {
        Bm25 { corpus: String },
    }

    impl Check for File {
        fn check(&self) -> Result<()> {
            ensure(self.seed > 0, "seed", "positive", self.seed)
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let message = format!("{:#}", parse::<File>(text, "run.toml").unwrap_err());
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let engine = "[engine]\nkind = \"bm25\"\ncorpus = \"c\"\n";
        check(
            &format!("seed = 1\nsteps = 2\n{engine}"),
            "run.toml: line 2: unknown field `steps`, expected `seed` or `engine`",
        );
        check(
            &format!("seed = 1\n{engine}index = \"i\"\n"),
            "run.toml: line 5: unknown field `index`",
        );
        check(&format!("seed = \"x\"\n{engine}"), "run.toml: line 1: invalid type");
        check(&format!("seed = 0\n{engine}"), "run.toml: `seed` must be positive, is 0");
        check("seed = = 1", "run.toml: line 1:");
        check("seed = 1\n[engine]\nkind = \"google\"\n", "run.toml: line ");
        check("seed = 1\n", "run.toml: line 1: missing field `engine`");
    }
}
