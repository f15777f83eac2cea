//! The engine of a world against the contract of `SearchEngine`.

use zs_search::conformance::check_engine;
use zs_world::{Split, World};

#[test]
fn bm25_over_a_world() {
    check_engine(World::generate(0, Split::Train).engine().as_ref());
}
