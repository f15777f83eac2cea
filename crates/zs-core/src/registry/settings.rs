//! Typed settings of a component.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::nearest;

/// Typed settings of one registered kind.
///
/// # Implementing
///
/// [`KIND`](Self::KIND) is enough for a type that serde can read and write. Every setting must be
/// written again, except for `Option`s that are `None`: what is not written again counts as an
/// unknown key. Put groups of settings that several kinds share into one type with
/// `#[serde(flatten)]`. A type that derives `Default` and `garde::Validate` is implemented by
/// [`settings!`](crate::settings) in one line.
pub trait Settings: Serialize + DeserializeOwned + 'static {
    /// Name in run files, e.g. `"grpo"`.
    const KIND: &'static str;

    /// Checks what types do not say, usually by `#[derive(garde::Validate)]`.
    ///
    /// # Errors
    ///
    /// Fails with the first setting out of range.
    fn check(&self) -> Result<(), SettingsError> {
        Ok(())
    }

    /// Settings that hold where a run file gives none, key by key. `None` leaves defaults to
    /// `#[serde(default)]`, which cannot give those of a flattened group to each kind.
    fn defaults() -> Option<Self> {
        None
    }

    /// Paths of settings that hold the [`Spec`](super::Spec) of another component of the same
    /// registry, e.g. `engine` or `terms.0.reward`.
    fn nested(&self) -> Vec<String> {
        Vec::new()
    }

    /// Files and directories that the component will read; runs record their digests.
    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// Implements [`Settings`](crate::registry::Settings) for a type that derives `Default` and
/// `garde::Validate`: its default settings, and its checks.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zs_core::registry::{Settings, Spec, check};
///
/// #[derive(Default, Serialize, Deserialize, garde::Validate)]
/// struct Scaled {
///     #[garde(custom(check::non_negative))]
///     factor: f64,
/// }
///
/// zs_core::settings!(Scaled, "scaled");
///
/// assert_eq!(Spec::named("scaled").parse::<Scaled>()?.factor, 0.0);
/// assert!(Spec::named("scaled").with("factor", -1.0).parse::<Scaled>().is_err());
/// # Ok::<(), zs_core::registry::SettingsError>(())
/// ```
#[macro_export]
macro_rules! settings {
    ($type:ty, $kind:literal) => {
        impl $crate::registry::Settings for $type {
            const KIND: &'static str = $kind;

            fn check(&self) -> Result<(), $crate::registry::SettingsError> {
                Ok(garde::Validate::validate(self)?)
            }

            fn defaults() -> Option<Self> {
                Some(Self::default())
            }
        }
    };
}

/// Reads settings inside of other settings, for `#[serde(deserialize_with = "with_defaults")]`:
/// their own [`defaults`](Settings::defaults) hold where a key is missing.
///
/// # Errors
///
/// As [`Spec::parse`](super::Spec::parse).
pub fn with_defaults<'de, S: Settings, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<S, D::Error> {
    let settings = serde_json::Map::deserialize(deserializer)?;
    let spec = super::Spec { kind: S::KIND.to_owned(), settings };
    spec.parse().map_err(|it| serde::de::Error::custom(it.describe("settings of", S::KIND)))
}

/// Settings that a kind does not know or accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A setting that the kind does not have.
    #[error("unknown setting `{key}`")]
    Unknown {
        /// Setting, with the keys that lead to it.
        key: String,
        /// Setting that is nearly called so.
        nearest: Option<String>,
        /// Settings that stand beside it.
        known: Vec<String>,
    },
    /// A setting out of range.
    #[error("`{key}` must {requirement}")]
    OutOfRange {
        /// Setting, with the keys that lead to it.
        key: String,
        /// Requirement and value, e.g. `be above 0, is -1`.
        requirement: String,
    },
    /// Settings that are missing or of the wrong type.
    #[error("{message}")]
    Malformed {
        /// Message of the deserializer.
        message: String,
    },
}

impl SettingsError {
    /// Creates the error of a setting out of range.
    #[must_use]
    pub fn out_of_range(key: impl Into<String>, requirement: impl Into<String>) -> Self {
        Self::OutOfRange { key: key.into(), requirement: requirement.into() }
    }

    /// Notes an error of the deserializer; a field that a `deny_unknown_fields` refuses is an unknown
    /// setting as others are.
    pub(super) fn malformed(error: serde_json::Error) -> Self {
        let message = error.to_string();
        if message.starts_with("unknown field `") {
            let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
            let key = names.next().unwrap_or_default();
            let known: Vec<String> = names.collect();
            let nearest = nearest(&key, known.iter().map(String::as_str)).map(str::to_owned);
            return Self::Unknown { key, nearest, known };
        }
        Self::Malformed { message }
    }

    /// Setting at fault, where one is known.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Unknown { key, .. } | Self::OutOfRange { key, .. } => Some(key),
            Self::Malformed { .. } => None,
        }
    }

    pub(super) fn describe(&self, noun: &str, kind: &str) -> String {
        match self {
            Self::Unknown { key, nearest: Some(nearest), .. } => {
                format!("unknown setting `{key}` of {noun} `{kind}` (did you mean `{nearest}`?)")
            }
            Self::Unknown { key, nearest: None, known } if known.is_empty() => {
                format!("unknown setting `{key}` of {noun} `{kind}`, which has no settings")
            }
            Self::Unknown { key, nearest: None, known } => {
                let known = known.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
                format!("unknown setting `{key}` of {noun} `{kind}`, expected one of {known}")
            }
            Self::OutOfRange { key, requirement } => {
                format!("`{key}` of {noun} `{kind}` must {requirement}")
            }
            Self::Malformed { message } => format!("{noun} `{kind}`: {message}"),
        }
    }
}

/// The first error of a report, under the key that run files use: fields that serde flattens are no
/// part of it.
impl From<garde::Report> for SettingsError {
    fn from(report: garde::Report) -> Self {
        let first = report.iter().next();
        let (key, requirement) = first.map_or_else(Default::default, |(path, error)| {
            (path.to_string(), error.message().to_owned())
        });
        Self::OutOfRange { key, requirement }
    }
}

/// Checks of single values for `#[garde(custom(…))]`: each message continues "must …".
pub mod check {
    use std::fmt::Display;

    fn ensure(holds: bool, must: &str, value: impl Display) -> garde::Result {
        if holds { Ok(()) } else { Err(garde::Error::new(format!("{must}, is {value}"))) }
    }

    /// Accepts finite numbers of at least 0.
    ///
    /// # Errors
    ///
    /// Fails on others.
    pub fn non_negative<T: Into<f64> + Copy>(value: &T, _: &()) -> garde::Result {
        let value: f64 = (*value).into();
        ensure(value.is_finite() && value >= 0.0, "be finite and not negative", value)
    }

    /// Accepts finite numbers above 0.
    ///
    /// # Errors
    ///
    /// Fails on others.
    pub fn positive<T: Into<f64> + Copy>(value: &T, _: &()) -> garde::Result {
        let value: f64 = (*value).into();
        ensure(value.is_finite() && value > 0.0, "be finite and above 0", value)
    }

    /// Accepts numbers in `[0, 1]`.
    ///
    /// # Errors
    ///
    /// Fails on others.
    pub fn fraction<T: Into<f64> + Copy>(value: &T, _: &()) -> garde::Result {
        let value: f64 = (*value).into();
        ensure((0.0..=1.0).contains(&value), "lie in [0, 1]", value)
    }

    /// Accepts numbers in `(0, 1]`.
    ///
    /// # Errors
    ///
    /// Fails on others.
    pub fn positive_fraction<T: Into<f64> + Copy>(value: &T, _: &()) -> garde::Result {
        let value: f64 = (*value).into();
        ensure(value > 0.0 && value <= 1.0, "lie in (0, 1]", value)
    }

    /// Accepts numbers in `[0, 1)`.
    ///
    /// # Errors
    ///
    /// Fails on others.
    pub fn below_one<T: Into<f64> + Copy>(value: &T, _: &()) -> garde::Result {
        let value: f64 = (*value).into();
        ensure((0.0..1.0).contains(&value), "lie in [0, 1)", value)
    }

    /// Accepts finite numbers above 1.
    ///
    /// # Errors
    ///
    /// Fails on others.
    pub fn above_one<T: Into<f64> + Copy>(value: &T, _: &()) -> garde::Result {
        let value: f64 = (*value).into();
        ensure(value.is_finite() && value > 1.0, "be finite and above 1", value)
    }

    /// Accepts values up to that of another setting.
    pub fn at_most<T: Copy + PartialOrd + Display>(
        name: &str,
        limit: T,
    ) -> impl FnOnce(&T, &()) -> garde::Result {
        move |value, (): &()| ensure(*value <= limit, &format!("be at most `{name}`"), *value)
    }

    /// Accepts values from that of another setting on.
    pub fn at_least<T: Copy + PartialOrd + Display>(
        name: &str,
        limit: T,
    ) -> impl FnOnce(&T, &()) -> garde::Result {
        move |value, (): &()| ensure(*value >= limit, &format!("be at least `{name}`"), *value)
    }

    /// Accepts counts of at least 1.
    ///
    /// # Errors
    ///
    /// Fails on 0.
    pub fn at_least_one<T: Copy + PartialOrd + From<u8> + Display>(
        value: &T,
        _: &(),
    ) -> garde::Result {
        ensure(*value >= T::from(1), "be at least 1", *value)
    }
}
