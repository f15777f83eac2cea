//! Reading of run files, with errors that name file, line and key.

use std::path::Path;

use serde::de::DeserializeOwned;
use zs_core::registry::{Registry, RegistryError, Spec, nearest};
use zs_data::{read_regular, read_regular_text};

use super::RunFileError;
use super::set::{Assignment, apply};
use crate::components::Components;

/// A configuration whose values can be out of range.
pub trait Check {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Fails with the first key whose value is out of range, and what it must be.
    fn check(&self, components: &Components) -> Result<(), RunFileError>;

    /// Fills in the defaults of components that are chosen by name.
    ///
    /// # Errors
    ///
    /// Fails with the first key that a component does not know or accept.
    fn resolve(&mut self, components: &Components) -> Result<(), RunFileError> {
        let _ = components;
        Ok(())
    }
}

/// Keys of run files that were renamed: the former name, with the tables that lead to it, and the
/// present name. Former names are accepted in version 0.1 and refused from 0.2 on.
const RENAMED: [(&str, &str); 6] = [
    ("training.memory.products", "compute_dtype"),
    ("training.memory.recompute_blocks", "gradient_checkpointing"),
    ("tuning.memory.products", "compute_dtype"),
    ("tuning.memory.recompute_blocks", "gradient_checkpointing"),
    ("alarms.constant_groups", "zero_variance_groups"),
    ("consultants", "helper_models"),
];

/// Returns a line about each key of a run file that has another name by now.
///
/// ```
/// use zs_trainer::config::renamed_keys;
///
/// let notes = renamed_keys("[training.memory]\nproducts = \"bf16\"\n", "run.toml");
/// assert_eq!(
///     notes,
///     ["run.toml: `training.memory.products` is called `compute_dtype` now; the old name will be refused from version 0.2 on"]
/// );
/// ```
#[must_use]
pub fn renamed_keys(text: &str, source: &str) -> Vec<String> {
    let Ok(table) = text.parse::<toml::Table>() else { return Vec::new() };
    let has = |key: &str| {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|it| table.get(it));
        parts.fold(first, |value, part| value?.get(part)).is_some()
    };
    let note = |(old, new): &(&str, &str)| {
        format!(
            "{source}: `{old}` is called `{new}` now; the old name will be refused from version 0.2 on"
        )
    };
    RENAMED.iter().filter(|(old, _)| has(old)).map(note).collect()
}

/// Notes the renamed keys of a run file, if it can be read; [`load`] says why it cannot.
pub fn note_renamed_keys(path: &Path, note: &mut dyn FnMut(&str)) {
    if let Ok(text) = read_regular_text(path) {
        renamed_keys(&text, &path.display().to_string()).iter().for_each(|it| note(it));
    }
}

/// Fills in the defaults of a component.
///
/// # Errors
///
/// Fails on an unknown kind and on unknown or invalid settings, naming `table`.
pub fn resolved<T, C>(
    registry: &Registry<T, C>,
    spec: &Spec,
    table: &str,
) -> Result<Spec, RunFileError> {
    registry.resolve(spec).map_err(|error| RunFileError::in_table(error, table))
}

/// Reads and checks a run file.
///
/// # Errors
///
/// Fails when the file is missing, not UTF-8, not TOML, has an unknown key or a value out of range;
/// the message names the file, and the line where there is one.
pub fn load<C: DeserializeOwned + Check>(
    path: &Path,
    components: &Components,
) -> Result<C, RunFileError> {
    load_with(path, &[], components)
}

/// [`load`] with some keys set to other values.
///
/// # Errors
///
/// As [`load`]; also where a key leads into something that is not a table.
pub fn load_with<C: DeserializeOwned + Check>(
    path: &Path,
    set: &[Assignment],
    components: &Components,
) -> Result<C, RunFileError> {
    let bytes = read_regular(path)
        .map_err(|source| RunFileError::Read { path: path.to_owned(), source })?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(RunFileError::NotUtf8 { path: path.to_owned() });
    };
    let source = path.display().to_string();
    if set.is_empty() {
        return parse(&text, &source, components);
    }
    // Errors of the file itself are said with the lines of the file.
    if let Err(error) = toml::from_str::<C>(&text)
        && !error.message().starts_with("missing field")
    {
        return Err(describe(&text, &source, &error));
    }
    let set_text = apply(&text, set).map_err(|error| error.at(&source))?;
    let set: Vec<String> = set.iter().map(|it| format!("--set {it}")).collect();
    let source = format!("{source} with {}", set.join(" "));
    let mut config: C = toml::from_str(&set_text)
        .map_err(|error| RunFileError::Toml { place: source.clone(), message: message(&error) })?;
    config
        .resolve(components)
        .and_then(|()| config.check(components))
        .map_err(|error| error.at(source))?;
    Ok(config)
}

/// Parses and checks the text of a run file; `source` names it in errors.
///
/// # Errors
///
/// As [`load`].
///
/// ```
/// use zs_trainer::Components;
/// use zs_trainer::config::{TrainConfig, parse};
///
/// let error = parse::<TrainConfig>("seed = 1\nsteps = 3\n", "run.toml", &Components::built_in()).unwrap_err();
/// assert!(error.to_string().starts_with("run.toml: line 2: unknown field `steps`"));
/// ```
pub fn parse<C: DeserializeOwned + Check>(
    text: &str,
    source: &str,
    components: &Components,
) -> Result<C, RunFileError> {
    let mut config: C = toml::from_str(text).map_err(|error| describe(text, source, &error))?;
    config.resolve(components).and_then(|()| config.check(components)).map_err(|error| {
        let line = match &error {
            RunFileError::Component { table, error, .. } => line_of_component(text, table, error),
            _ => None,
        };
        error.at(place(source, line))
    })?;
    Ok(config)
}

/// Line of the setting at fault, or of the innermost table around it that the file has.
fn line_of_component(text: &str, table: &str, error: &RegistryError) -> Option<usize> {
    let document = toml_edit::Document::parse(text).ok()?;
    let key = match error {
        RegistryError::Unknown { .. } => Some("kind".to_owned()),
        error => error.key().map(|it| it.replace('[', ".").replace(']', "")),
    };
    let mut item = document.as_item();
    let mut span = None;
    for part in table.split('.').chain(key.iter().flat_map(|it| it.split('.'))) {
        let next = match part.parse::<usize>() {
            Ok(index) => item.get(index),
            Err(_) => item.as_table_like().and_then(|table| {
                span = table.get_key_value(part).and_then(|(key, _)| key.span()).or(span.take());
                table.get(part)
            }),
        };
        let Some(next) = next else { break };
        item = next;
    }
    span.map(|it| text[..it.start.min(text.len())].matches('\n').count() + 1)
}

fn describe(text: &str, source: &str, error: &toml::de::Error) -> RunFileError {
    RunFileError::Toml { place: place(source, line_of(text, error)), message: message(error) }
}

fn place(source: &str, line: Option<usize>) -> String {
    line.map_or_else(|| source.to_owned(), |line| format!("{source}: line {line}"))
}

fn message(error: &toml::de::Error) -> String {
    suggest(error.message().trim()).replace('\n', " ")
}

/// Puts the nearest name behind an unknown one: ``unknown field `step` (did you mean `steps`?)``.
fn suggest(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown ") else { return message.to_owned() };
    let names: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let [unknown, known @ ..] = names.as_slice() else { return message.to_owned() };
    match nearest(unknown, known.iter().copied()) {
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
pub fn ensure(
    in_range: bool,
    key: &str,
    must: &str,
    value: impl std::fmt::Display,
) -> Result<(), RunFileError> {
    if in_range {
        return Ok(());
    }
    let (key, must, value) = (key.to_owned(), must.to_owned(), value.to_string());
    Err(RunFileError::OutOfRange { key, must, value })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use zs_core::with_causes;

    use super::*;
    use crate::config::TrainConfig;

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
        fn check(&self, _: &Components) -> Result<(), RunFileError> {
            ensure(self.seed > 0, "seed", "positive", self.seed)
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = parse::<File>(text, "run.toml", &Components::built_in()).unwrap_err();
        let message = with_causes(&error);
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
            load_with::<File>(&path, &set, &Components::built_in())
        };
        // What the file lacks may be set.
        assert_eq!(set(&["engine.corpus=c"]).unwrap().seed, 1);
        for (texts, expected) in [
            (&["engine.corpu=c"][..], "with --set engine.corpu=c: unknown field `corpu` (did you"),
            (&["engine.corpus=1"], "invalid type"),
            (&["engine.corpus=c", "seed=0"], "must be positive"),
        ] {
            let message = with_causes(&set(texts).unwrap_err());
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

    #[track_caller]
    fn check_component(text: &str, expected: &str) {
        let run = "seed = 1\nout = \"o\"\npolicy = \"p\"\nquestions = { kind = \"file\", path = \"q\" }\n\
                   engine = { kind = \"fixed\", documents = [{ text = \"x\" }] }\n";
        let error =
            parse::<TrainConfig>(&format!("{run}{text}"), "run.toml", &Components::built_in())
                .unwrap_err();
        let message = with_causes(&error);
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn settings_of_components_are_named_with_their_lines() {
        check_component(
            "[training.algorithm]\nkind = \"grpo\"\nkl_coeff = 0.1\n",
            "run.toml: line 8: training.algorithm: unknown setting `kl_coeff` of algorithm `grpo` (did \
             you mean `kl_coef`?)",
        );
        check_component(
            "[training.algorithm]\nkind = \"grop\"\n",
            "run.toml: line 7: training.algorithm: unknown algorithm `grop` (did you mean `grpo`?)",
        );
        check_component(
            "[training.algorithm]\nkind = \"grpo\"\nclip = { low = 0.2, high = -1 }\n",
            "run.toml: line 8: training.algorithm: `clip.high` of algorithm `grpo` must be finite and \
             not negative, is -1",
        );
        check_component(
            "[training.algorithm]\nkind = \"grpo\"\nkl_coef = \"x\"\n",
            "run.toml: line 6: training.algorithm: algorithm `grpo`: invalid type: string \"x\"",
        );
        check_component(
            "[training]\ncurriculum = { kind = \"constant\", probability = 1.5 }\n",
            "run.toml: line 7: training.curriculum: `probability` of curriculum `constant`",
        );
        check_component(
            "[training.reward]\nkind = \"sum\"\n[[training.reward.terms]]\nweight = 1.0\n\
             reward = { kind = \"f1\", rule = 1 }\n",
            "run.toml: line 10: training.reward: unknown setting `rule` of reward `f1`",
        );
        check_component(
            "[training.reward]\nkind = \"rubric\"\n",
            "run.toml: `training.reward` needs a judge; add the table `judge`",
        );
    }

    #[track_caller]
    fn check_engine(text: &str, expected: &str) {
        let run = format!(
            "seed = 1\nout = \"o\"\npolicy = \"p\"\nquestions = {{ kind = \"file\", path = \"q\" }}\n{text}"
        );
        let error = parse::<TrainConfig>(&run, "run.toml", &Components::built_in()).unwrap_err();
        let message = with_causes(&error);
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn settings_of_engines_are_named_with_their_lines() {
        check_engine(
            "[engine]\nkind = \"bm52\"\n",
            "run.toml: line 6: engine: unknown search engine `bm52` (did you mean `bm25`?)",
        );
        check_engine(
            "[engine]\nkind = \"bm25\"\ncorpu = \"c\"\n",
            "run.toml: line 7: engine: unknown setting `corpu` of search engine `bm25` (did you mean",
        );
        check_engine(
            "[engine]\nkind = \"bm25\"\ncorpus = \"c\"\nindex = \"i\"\n",
            "run.toml: line 7: engine: `corpus` of search engine `bm25` must be the only one of",
        );
        check_engine(
            "[engine]\nkind = \"simulated\"\nmodel = \"m\"\nsampling = { top_p = 2.0 }\n",
            "run.toml: line 8: engine: `sampling.top_p` of search engine `simulated` must lie in (0, 1]",
        );
        check_engine(
            "[engine]\nkind = \"retried\"\n[engine.engine]\nkind = \"rate_limited\"\n\
             limit = { per_second = 0 }\nengine = { kind = \"web\", provider = \"serper\" }\n",
            "run.toml: line 9: engine: `limit.per_second` of search engine `rate_limited` must be",
        );
        check_engine(
            "engine = { kind = \"self_search\" }\n[validation]\n\
             questions = { kind = \"world\", world = { seed = 1, split = \"test\" }, per_hop = 0 }\n",
            "run.toml: line 7: validation.questions: `per_hop` of question source `world` must be",
        );
        check_engine(
            "engine = { kind = \"self_search\" }\n[[logging.trackers]]\nkind = \"tensorbord\"\n",
            "run.toml: line 7: logging.trackers.0: unknown tracker `tensorbord`",
        );
    }

    /// Caches are kept apart by the description of their engine: a change of its bytes would forget
    /// what they hold.
    #[test]
    fn descriptions_of_engines_keep_their_bytes() {
        for (given, expected) in [
            (
                r#"{"model": "m", "kind": "simulated"}"#,
                r#"{"kind":"simulated","model":"m","templates":"auto","sampling":{"temperature":0.8,"top_p":1.0,"max_new_tokens":600,"batch_size":64,"gate":"open"}}"#,
            ),
            (
                r#"{"kind": "bm25", "world": {"split": "train", "seed": 1}}"#,
                r#"{"kind":"bm25","world":{"seed":1,"split":"train"}}"#,
            ),
            (
                r#"{"kind": "retried", "engine": {"kind": "fixed", "documents": [{"text": "x"}]}}"#,
                r#"{"kind":"retried","engine":{"kind":"fixed","documents":[{"id":"","title":"","text":"x"}]},"retry":{"max_attempts":3,"backoff_s":1.0,"max_backoff_s":30.0}}"#,
            ),
            (
                r#"{"kind": "web", "provider": "serper"}"#,
                r#"{"kind":"web","provider":"serper","http":{"max_in_flight":32,"connect_timeout_s":5.0,"read_timeout_s":60.0,"total_timeout_s":180.0,"max_attempts":5,"backoff_s":0.5,"max_backoff_s":20.0,"breaker_failures":5,"breaker_pause_s":10.0,"max_reply_bytes":8388608}}"#,
            ),
        ] {
            let spec: Spec = serde_json::from_str(given).unwrap();
            let resolved = Components::built_in().engines.resolve(&spec).unwrap();
            assert_eq!(serde_json::to_string(&resolved).unwrap(), expected);
        }
    }

    #[test]
    fn defaults_of_components_are_filled_in() {
        let run = "seed = 1\nout = \"o\"\npolicy = \"p\"\nquestions = { kind = \"file\", path = \"q\" }\n\
                   engine = { kind = \"fixed\", documents = [{ text = \"x\" }] }\n\
                   training.algorithm.kind = \"cispo\"\n";
        let config: TrainConfig = parse(run, "run.toml", &Components::built_in()).unwrap();
        let written = toml::to_string_pretty(&config).unwrap();
        assert!(written.contains("entropy_coef = 0.0"), "{written}");
        assert_eq!(
            parse::<TrainConfig>(&written, "written", &Components::built_in()).unwrap(),
            config
        );
    }
}
