//! Program functions in run files: `"name"` where there is nothing to set, a table where there is.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use zs_core::registry::Spec;

/// Writes specifications, those without settings as their names.
pub(crate) fn serialize<S: Serializer>(specs: &[Spec], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(specs.iter().map(Written))
}

/// Reads names and tables.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Spec>, D::Error> {
    Ok(Vec::<Read>::deserialize(deserializer)?.into_iter().map(|it| it.0).collect())
}

struct Written<'a>(&'a Spec);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.settings.is_empty() {
            true => serializer.serialize_str(&self.0.kind),
            false => self.0.serialize(serializer),
        }
    }
}

struct Read(Spec);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable).map(Self)
    }
}

struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = Spec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or a table with `kind` and settings")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Spec, E> {
        Ok(Spec::named(name))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Spec, A::Error> {
        Spec::deserialize(MapAccessDeserializer::new(table))
    }
}

#[cfg(test)]
mod tests {
    use crate::RolloutConfig;

    #[track_caller]
    fn check(given: &str, written: &str) {
        let given = format!("{{\"programs\":{given}}}");
        let config: RolloutConfig = serde_json::from_str(&given).unwrap();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["programs"].to_string(), written);
        assert_eq!(serde_json::from_value::<RolloutConfig>(json).unwrap(), config);
    }

    #[test]
    fn names_and_tables_are_read() {
        check("[]", "null");
        check("[\"a\",{\"kind\":\"b\"}]", "[\"a\",\"b\"]");
        check("[{\"kind\":\"a\",\"x\":1}]", "[{\"kind\":\"a\",\"x\":1}]");
        let error = serde_json::from_str::<RolloutConfig>("{\"programs\":[1]}").unwrap_err();
        assert!(error.to_string().contains("a name, or a table with `kind`"), "{error}");
    }
}
