//! What the tests of this crate share: verl's numbers, and a policy small enough to reason about.

pub(crate) mod bigram;
pub(crate) mod episodes;
pub(crate) mod reference;
