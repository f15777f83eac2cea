//! Numbers of records that are not finite: JSON has no such numbers and holds `null` in their place.

use serde::{Deserialize, Deserializer};

/// Numbers, or lists of them, that [`null_as_nan`] reads.
pub trait NullAsNan: Sized {
    /// The same with an option in the place of each number.
    type Nullable<'de>: Deserialize<'de>;

    /// Puts NaN in the place of what is missing.
    fn from_nullable(nullable: Self::Nullable<'_>) -> Self;
}

impl NullAsNan for f32 {
    type Nullable<'de> = Option<f32>;

    fn from_nullable(nullable: Self::Nullable<'_>) -> Self {
        nullable.unwrap_or(Self::NAN)
    }
}

impl<T: NullAsNan> NullAsNan for Vec<T> {
    type Nullable<'de> = Vec<T::Nullable<'de>>;

    fn from_nullable(nullable: Self::Nullable<'_>) -> Self {
        nullable.into_iter().map(T::from_nullable).collect()
    }
}

impl<T: NullAsNan> NullAsNan for Option<Vec<T>> {
    type Nullable<'de> = Option<Vec<T::Nullable<'de>>>;

    fn from_nullable(nullable: Self::Nullable<'_>) -> Self {
        nullable.map(Vec::from_nullable)
    }
}

/// Reads numbers of a record, and `null` as NaN; for `#[serde(deserialize_with)]`.
///
/// serde_json writes NaN and infinities as `null`. The episodes of a step that was skipped for such a
/// number are those that are most worth reading.
///
/// # Errors
///
/// Fails on anything but numbers and `null`.
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Row {
///     #[serde(deserialize_with = "zs_core::null_as_nan")]
///     log_probs: Vec<f32>,
/// }
///
/// let text = serde_json::to_string(&Row { log_probs: vec![-0.5, f32::NAN] })?;
/// assert_eq!(text, r#"{"log_probs":[-0.5,null]}"#);
/// let row: Row = serde_json::from_str(&text)?;
/// assert!(row.log_probs[0] == -0.5 && row.log_probs[1].is_nan());
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn null_as_nan<'de, T: NullAsNan, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::Nullable::deserialize(deserializer).map(T::from_nullable)
}
