//! Token identifiers.

/// A token identifier.
pub type TokenId = u32;
