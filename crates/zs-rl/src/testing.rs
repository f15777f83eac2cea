//! Shared fixtures of this crate's tests: reference numbers of verl and a bigram policy.

pub(crate) mod bigram;
pub(crate) mod episodes;
pub(crate) mod reference;
