//! JSON objects of clients: known keys, null as a key left out, and no more memory than they need.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::api_error::ApiError;

/// Maximum number of characters of an unknown key in an error.
const MAX_SHOWN_KEY: usize = 64;

/// Maximum size of the value of an unsupported key that may still be neutral, in bytes.
const MAX_NEUTRAL_BYTES: usize = 64;

/// Keys that an object of a request may have. Any other key is refused, unless its value is null.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keys {
    /// Keys that are read.
    pub(crate) read: &'static [&'static str],
    /// Further keys that are read.
    pub(crate) also_read: &'static [&'static str],
    /// Keys that are not read, and do not change the response.
    pub(crate) ignored: &'static [&'static str],
    /// Keys that are not supported, each with a value that changes nothing, as JSON.
    pub(crate) neutral: &'static [(&'static str, &'static str)],
}

impl Keys {
    fn is_accepted(&self, key: &str) -> bool {
        [self.read, self.also_read, self.ignored].into_iter().any(|it| it.contains(&key))
    }

    /// Values with which a key changes nothing; none for other keys.
    fn neutral_values(&self, key: &str) -> impl Iterator<Item = &'static str> {
        self.neutral.iter().filter(move |(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn is_neutral(&self, key: &str) -> bool {
        self.neutral_values(key).next().is_some()
    }
}

/// Reads an object of a request; `place` names it in errors, e.g. `"query 3: "`.
///
/// The keys are checked in a pass of their own, which stores no values: an object with a million unknown
/// keys costs no memory.
pub(crate) fn read_object<'de, T: Deserialize<'de>>(
    text: &'de [u8],
    keys: Keys,
    place: &str,
) -> Result<T, ApiError> {
    let mut refused = None;
    let mut reader = serde_json::Deserializer::from_slice(without_mark(text));
    let check = KeyCheck { keys, refused: &mut refused };
    let checked = check.deserialize(&mut reader).and_then(|()| reader.end());
    match (refused, checked) {
        (Some(key), _) => Err(refusal(&key, keys, place)),
        (None, Err(error)) => Err(ApiError::body(format!("{place}{error}"))),
        (None, Ok(())) => read_known(text, place),
    }
}

/// Reads a part of an object whose keys were checked by [`read_object`].
pub(crate) fn read_known<'de, T: Deserialize<'de>>(
    text: &'de [u8],
    place: &str,
) -> Result<T, ApiError> {
    let text = without_mark(text);
    serde_json::from_slice(text).map_err(|error| {
        let mut again = serde_json::Deserializer::from_slice(text);
        let traced = serde_path_to_error::deserialize::<_, T>(&mut again).err();
        match traced.filter(|it| it.path().iter().len() > 0) {
            Some(traced) => {
                let field = traced.path().to_string();
                let problem = format!("{place}`{field}`: {error}");
                ApiError::body_field(Some(field), problem)
            }
            None => ApiError::body(format!("{place}{error}")),
        }
    })
}

/// Text without a byte-order mark, which says only that it is UTF-8.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// Reads a count: a whole number, also where a client writes it with a decimal point, as `3.0`.
pub(crate) fn whole<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    /// From here on, two whole numbers may have the same f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let is_whole = |it: &f64| it.fract() == 0.0 && (0.0..EXACT).contains(it);
    let count = number.as_u64().or_else(|| number.as_f64().filter(is_whole).map(|it| it as u64));
    let count = count.and_then(|it| T::try_from(it).ok());
    count.map(Some).ok_or_else(|| D::Error::custom(format_args!("{number} is not a count")))
}

fn refusal(key: &str, keys: Keys, place: &str) -> ApiError {
    let shown: String = key.chars().take(MAX_SHOWN_KEY).collect();
    if keys.is_neutral(key) {
        let message = format!("{place}`{shown}` is not supported; remove it");
        return ApiError::Invalid { field: Some(Cow::Owned(shown)), message };
    }
    let known = [keys.read, keys.also_read].concat().join("`, `");
    let problem = format!(
        "{place}the key `{shown}` is unknown or not supported; remove it (supported: `{known}`)"
    );
    ApiError::body_field(Some(shown), problem)
}

/// Pass over an object that notes the first key to refuse, and fails there.
struct KeyCheck<'a> {
    keys: Keys,
    refused: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for KeyCheck<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeyCheck<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let is_fine = if self.keys.is_accepted(&key) {
                map.next_value::<IgnoredAny>()?;
                true
            } else if self.keys.is_neutral(&key) {
                let value = map.next_value::<&RawValue>()?.get();
                self.keys.neutral_values(&key).any(|it| is_neutral(value, it))
            } else {
                map.next_value::<Option<IgnoredAny>>()?.is_none()
            };
            if !is_fine {
                *self.refused = Some(key);
                return Err(A::Error::custom("a refused key"));
            }
        }
        Ok(())
    }
}

/// Returns true for null and for a value that equals the neutral one.
fn is_neutral(value: &str, neutral: &str) -> bool {
    if value.len() > MAX_NEUTRAL_BYTES {
        return false;
    }
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (value, neutral) = (parse(value), parse(neutral));
    let is_same_number = value.as_f64().is_some_and(|it| Some(it) == neutral.as_f64());
    value.is_null() || is_same_number || value == neutral
}

/// A list of at most `N` items. Longer ones are refused while they are read.
#[derive(Debug)]
pub(crate) struct Capped<T, const N: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Capped<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CappedVisitor::<T, N>(PhantomData)).map(Self)
    }
}

struct CappedVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for CappedVisitor<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == N {
                return Err(A::Error::custom(format_args!("a list has more than {N} items")));
            }
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: Keys = Keys {
        read: &["a", "b"],
        also_read: &["c"],
        ignored: &["user"],
        neutral: &[("penalty", "0"), ("tools", "[]")],
    };

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Read {
        #[serde(default, deserialize_with = "whole")]
        a: Option<u32>,
        b: Option<String>,
    }

    #[track_caller]
    fn check(text: &str, expected: Result<(Option<u32>, Option<&str>), &str>) {
        match (read_object::<Read>(text.as_bytes(), KEYS, ""), expected) {
            (Ok(read), Ok((a, b))) => {
                assert_eq!((read.a, read.b.as_deref()), (a, b), "{text}");
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{text}: {error}");
            }
            (read, _) => panic!("{text}: {read:?}"),
        }
    }

    #[test]
    fn null_is_a_key_left_out_and_unknown_keys_are_refused() {
        check(r#"{"a": 1, "b": "x"}"#, Ok((Some(1), Some("x"))));
        check("{}", Ok((None, None)));
        check(r#"{"a": null, "b": null, "nobody": null, "tools": null}"#, Ok((None, None)));
        check(r#"{"user": {"any": [1]}, "c": 1, "penalty": 0.0, "tools": [ ]}"#, Ok((None, None)));
        check(r#"{"nobody": 0}"#, Err("the key `nobody` is unknown"));
        check(r#"{"nobody": {"deep": [null]}}"#, Err("supported: `a`, `b`, `c`"));
        check(r#"{"penalty": 0.5}"#, Err("`penalty` is not supported; remove it"));
        check(r#"{"tools": [{"type": "function"}]}"#, Err("`tools` is not supported"));
        check(&format!(r#"{{"tools": "{}"}}"#, "x".repeat(100)), Err("`tools` is not supported"));
        check("\u{feff}{\"a\": 1}", Ok((Some(1), None)));
        check(r#"{"a": 3.0}"#, Ok((Some(3), None)));
        check(r#"{"a": 3.5}"#, Err("`a`: 3.5 is not a count"));
        check(r#"{"a": -1}"#, Err("`a`: -1 is not a count"));
        check(r#"{"a": 4294967296}"#, Err("`a`: 4294967296 is not a count"));
        check(r#"{"a": 1e300}"#, Err("is not a count"));
        check(r#"{"a": 1e999}"#, Err("number out of range"));
        check(r#"{"a": 1, "a": 2}"#, Err("duplicate field `a`"));
        check(r#"{"b": [1]}"#, Err("`b`: invalid type"));
        check(r#"{"a": "x"}"#, Err("`a`: invalid type"));
        check("[1]", Err("not the JSON"));
        check(r#"{"a": 1} x"#, Err("not the JSON"));
        check("{oops", Err("not the JSON"));
        let long = format!(r#"{{"{}": 1}}"#, "k".repeat(1000));
        let error = read_object::<Read>(long.as_bytes(), KEYS, "").unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
    }

    #[test]
    fn lists_have_an_end() {
        let read = |text: &str| serde_json::from_str::<Capped<u32, 3>>(text);
        assert_eq!(read("[1, 2, 3]").unwrap().0, [1, 2, 3]);
        assert!(read("[1, 2, 3, 4]").unwrap_err().to_string().contains("more than 3 items"));
        assert!(read("1").is_err());
    }

    proptest! {
        /// A reader of untyped JSON gives the same verdict on every object.
        #[test]
        fn keys_are_judged_as_by_a_reader_of_whole_values(
            entries in proptest::collection::vec(("[a-e]|user|penalty|tools", value()), 0..6)
        ) {
            let object: serde_json::Map<String, Value> = entries.into_iter().collect();
            let is_fine = object.iter().all(|(key, value)| match key.as_str() {
                "a" => {
                    let is_count = |it: f64| it.fract() == 0.0 && (0.0..4_294_967_296.0).contains(&it);
                    value.is_null() || value.as_f64().is_some_and(is_count)
                }
                "b" => value.is_null() || value.is_string(),
                "c" | "user" => true,
                "penalty" => value.is_null() || value.as_f64() == Some(0.0),
                "tools" => value.is_null() || *value == serde_json::json!([]),
                _ => value.is_null(),
            });
            let text = Value::Object(object).to_string();
            let read = read_object::<Read>(text.as_bytes(), KEYS, "");
            prop_assert_eq!(read.is_ok(), is_fine, "{} {:?}", text, read);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::from(0)),
            Just(Value::from(0.0)),
            any::<f64>().prop_map(Value::from),
            ".{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 10, 3, |it| {
            prop_oneof![
                proptest::collection::vec(it.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec(("[a-c]", it), 0..3)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }
}
