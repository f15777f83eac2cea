//! Keys of a run file that are set on the command line: `--set training.schedule.steps=10`.

use std::fmt;
use std::str::FromStr;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::RunFileError;

/// Key and value of a setting.
///
/// The value is TOML. Text that is not TOML is taken as a string, so that quotes may be left out.
///
/// ```
/// use zs_trainer::config::Assignment;
///
/// let set: Assignment = "training.algorithm.kind=ppo".parse()?;
/// assert_eq!(set.to_string(), "training.algorithm.kind=ppo");
/// assert!("training".parse::<Assignment>().is_err());
/// # Ok::<(), zs_trainer::config::RunFileError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    tables: Vec<String>,
    key: String,
    value: String,
}

impl FromStr for Assignment {
    type Err = RunFileError;

    fn from_str(text: &str) -> Result<Self, RunFileError> {
        let Some((keys, value)) = text.split_once('=') else {
            let example = "write key=value, e.g. training.schedule.steps=10";
            return Err(RunFileError::invalid(format!("`{text}` sets nothing; {example}")));
        };
        let mut tables: Vec<String> = keys.split('.').map(|it| it.trim().to_owned()).collect();
        let key = tables.pop().unwrap_or_default();
        if key.is_empty() || tables.iter().any(String::is_empty) {
            return Err(RunFileError::invalid(format!("`{text}` has an empty key")));
        }
        Ok(Self { tables, key, value: value.trim().to_owned() })
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| write!(f, "{table}."))?;
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The text of a run file with some keys set.
///
/// # Errors
///
/// Fails where a key leads into something that is not a table.
pub(super) fn apply(text: &str, set: &[Assignment]) -> Result<String, RunFileError> {
    let mut document: DocumentMut =
        text.parse().map_err(|error| RunFileError::invalid(format!("not TOML: {error}")))?;
    for assignment in set {
        let Assignment { tables, key: last, value } = assignment;
        let mut item: &mut Item = document.as_item_mut();
        for key in tables {
            let inner = item.as_table_like_mut().and_then(|table| {
                if !table.contains_key(key) {
                    table.insert(key, Item::Table(Table::new()));
                }
                table.get_mut(key)
            });
            let Some(inner) = inner else {
                return Err(RunFileError::invalid(format!(
                    "--set {assignment}: `{key}` is inside a value"
                )));
            };
            item = inner;
        }
        let value = value.parse::<Value>().unwrap_or_else(|_| Value::from(value.as_str()));
        let Some(table) = item.as_table_like_mut() else {
            let table = tables.join(".");
            let problem = format!("--set {assignment}: `{table}` is a value, not a table");
            return Err(RunFileError::invalid(problem));
        };
        table.insert(last, Item::Value(value));
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "seed = 1 # the seed\n[training]\nschedule = { steps = 3 }\n";

    #[track_caller]
    fn check(set: &[&str], expected: Result<&str, &str>) {
        let set: Vec<Assignment> = set.iter().map(|it| it.parse().unwrap()).collect();
        match (apply(FILE, &set), expected) {
            (Ok(text), Ok(expected)) => {
                let found: toml::Table = toml::from_str(&text).unwrap();
                assert_eq!(found, toml::from_str(expected).unwrap(), "{text}");
            }
            (Err(error), Err(expected)) => {
                let message = error.to_string();
                assert!(message.contains(expected), "{message}");
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn keys_are_set_and_added() {
        check(&[], Ok(FILE));
        check(&["seed=2"], Ok("seed = 2\n[training]\nschedule = { steps = 3 }"));
        check(
            &["training.schedule.steps=10", "training.algorithm.kind=ppo"],
            Ok("seed = 1\n[training]\nschedule = { steps = 10 }\nalgorithm = { kind = \"ppo\" }"),
        );
        check(
            &["engine={kind=\"bm25\", k=[1, 2]}"],
            Ok(
                "seed = 1\nengine = { kind = \"bm25\", k = [1, 2] }\n[training]\nschedule = { steps = 3 }",
            ),
        );
        check(&["seed.x=1"], Err("--set seed.x=1: `seed` is a value"));
        check(&["seed.x.y=1"], Err("`x` is inside a value"));
    }
}
