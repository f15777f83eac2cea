//! Check of a safetensors header that its parser leaves out: a name that occurs twice.

use std::collections::BTreeSet;
use std::fmt::{Formatter, Result as FormatResult};

use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

/// Refuses a header in which a tensor is described twice; the parser would keep the last.
pub(super) fn check_names(header: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<UniqueNames>(header).map(drop)
}

/// Names of a JSON object, each of which occurs once.
struct UniqueNames;

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = UniqueNames;

            fn expecting(&self, f: &mut Formatter<'_>) -> FormatResult {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueNames, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                    if names.contains(&name) {
                        return Err(A::Error::custom(format!("tensor {name} is described twice")));
                    }
                    names.insert(name);
                }
                Ok(UniqueNames)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_occur_once() {
        check_names(br#"{"a": {"x": 1, "x": 2}, "b": 1}   "#).unwrap();
        let message = check_names(br#"{"a": 1, "b": 1, "a": 1}"#).unwrap_err().to_string();
        assert!(message.contains("tensor a is described twice"), "{message}");
    }
}
