//! Reading a run file: what is wrong with it is said with the file, the line and the key.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use super::set::{Assignment, apply};

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
    load_with(path, &[])
}

/// [`load`] with some keys set to other values.
///
/// # Errors
///
/// As [`load`]; also where a key leads into something that is not a table.
pub fn load_with<C: DeserializeOwned + Check>(path: &Path, set: &[Assignment]) -> Result<C> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("{}: cannot read the run file", path.display()))?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{}: the run file is not UTF-8 text", path.display());
    };
    let source = path.display().to_string();
    if set.is_empty() {
        return parse(&text, &source);
    }
    // Errors of the file itself are said with the lines of the file.
    if let Err(error) = toml::from_str::<C>(&text)
        && !error.message().starts_with("missing field")
    {
        return Err(describe(&text, &source, &error));
    }
    let set_text = apply(&text, set).with_context(|| source.clone())?;
    let set: Vec<String> = set.iter().map(|it| format!("--set {it}")).collect();
    let source = format!("{source} with {}", set.join(" "));
    let config: C = toml::from_str(&set_text).map_err(|error| {
        let message = suggest(error.message().trim()).replace('\n', " ");
        anyhow!("{source}: {message}")
    })?;
    config.check().with_context(|| source)?;
    Ok(config)
}

/// Parses and checks the text of a run file; `source` names it in errors.
///
/// # Errors
///
/// As [`load`].
///
/// ```
/// use zs_trainer::config::{TrainConfig, parse};
///
/// let error = parse::<TrainConfig>("seed = 1\nsteps = 3\n", "run.toml").unwrap_err();
/// assert!(format!("{error:#}").starts_with("run.toml: line 2: unknown field `steps`"));
/// ```
pub fn parse<C: DeserializeOwned + Check>(text: &str, source: &str) -> Result<C> {
    let config: C = toml::from_str(text).map_err(|error| describe(text, source, &error))?;
    config.check().with_context(|| source.to_owned())?;
    Ok(config)
}

fn describe(text: &str, source: &str, error: &toml::de::Error) -> anyhow::Error {
    let message = suggest(error.message().trim()).replace('\n', " ");
    match line_of(text, error) {
        Some(line) => anyhow!("{source}: line {line}: {message}"),
        None => anyhow!("{source}: {message}"),
    }
}

/// Puts the nearest name behind an unknown one: ``unknown field `step` (did you mean `steps`?)``.
fn suggest(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown ") else { return message.to_owned() };
    let names: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let [unknown, known @ ..] = names.as_slice() else { return message.to_owned() };
    let distance = |name: &&&str| strsim::damerau_levenshtein(unknown, name);
    let nearest = known.iter().min_by_key(distance);
    // A third of the letters may be wrong, and always two.
    let is_near = |name: &&&str| distance(name) <= (unknown.chars().count() / 3).max(2);
    match nearest.filter(is_near) {
        None => message.to_owned(),
        Some(nearest) => {
            let marked = format!("`{unknown}`");
            message.replacen(&marked, &format!("{marked} (did you mean `{nearest}`?)"), 1)
        }
    }
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
///
/// # Errors
///
/// Fails where `in_range` is false.
pub fn ensure(in_range: bool, key: &str, must: &str, value: impl std::fmt::Display) -> Result<()> {
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
    fn set_keys_are_checked_like_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        std::fs::write(&path, "seed = 1\n[engine]\nkind = \"bm25\"\n").unwrap();
        let set = |texts: &[&str]| {
            let set: Vec<Assignment> = texts.iter().map(|it| it.parse().unwrap()).collect();
            load_with::<File>(&path, &set)
        };
        // What the file lacks may be set.
        assert_eq!(set(&["engine.corpus=c"]).unwrap().seed, 1);
        for (texts, expected) in [
            (&["engine.corpu=c"][..], "with --set engine.corpu=c: unknown field `corpu` (did you"),
            (&["engine.corpus=1"], "invalid type"),
            (&["engine.corpus=c", "seed=0"], "must be positive"),
        ] {
            let message = format!("{:#}", set(texts).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
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
        check(
            &format!("sed = 1\n{engine}"),
            "run.toml: line 1: unknown field `sed` (did you mean `seed`?), expected",
        );
        check(
            "seed = 1\n[engine]\nkind = \"bm52\"\n",
            "run.toml: line 3: unknown variant `bm52` (did you mean `bm25`?), expected",
        );
        check("seed = = 1", "run.toml: line 1:");
        check("seed = 1\n[engine]\nkind = \"google\"\n", "run.toml: line ");
        check("seed = 1\n", "run.toml: line 1: missing field `engine`");
    }
}
