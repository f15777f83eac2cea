//! Digests of the files that say which segments an index has.

use std::collections::BTreeMap;
use std::path::Path;

use zs_data::{FileError, digest, read_json};

use super::Bm25Error;

/// The file with the digests of [`LISTS`].
const DIGESTS: &str = "digests.json";
/// The files that say which segments an index has; tantivy keeps checksums of the segments alone.
const LISTS: [&str; 2] = ["meta.json", ".managed.json"];

/// Keeps the digests of the lists of segments beside an index.
pub(super) fn write_digests(dir: &Path) -> Result<(), Bm25Error> {
    let digests =
        LISTS.iter().map(|name| Ok(((*name).to_owned(), digest::of_file(&dir.join(name))?)));
    let digests = digests.collect::<Result<BTreeMap<_, _>, FileError>>()?;
    Ok(zs_data::write_json(&dir.join(DIGESTS), &digests)?)
}

/// Compares the lists of segments with their digests; an index of an earlier version has none.
pub(super) fn check_digests(dir: &Path) -> Result<(), Bm25Error> {
    let path = dir.join(DIGESTS);
    if !path.exists() {
        return Ok(());
    }
    let digests: BTreeMap<String, String> = match read_json(&path) {
        Err(FileError::Json { .. }) => return Err(Bm25Error::Damaged { path }),
        digests => digests?,
    };
    for name in LISTS {
        let file = dir.join(name);
        if digests.get(name) != Some(&digest::of_file(&file)?) {
            return Err(Bm25Error::Damaged { path: file });
        }
    }
    Ok(())
}
