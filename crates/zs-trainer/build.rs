//! Records the commit and the versions of the dependencies that compute.
//!
//! Nothing here needs a network, a repository or `git`: what cannot be found out is left out.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use vergen_gitcl::{Emitter, Gitcl};

/// The dependencies whose versions a run records.
const RECORDED: [&str; 3] = ["burn", "tantivy", "tokenizers"];

fn main() -> Result<(), Box<dyn Error>> {
    let git = Gitcl::builder().sha(false).dirty(false).build();
    Emitter::new().quiet().add_instructions(&git)?.emit()?;
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let lock_file = folder.ancestors().map(|it| it.join("Cargo.lock")).find(|it| it.is_file());
    let versions = lock_file.as_deref().map(versions).transpose()?.unwrap_or_default();
    println!("cargo::rustc-env=ZS_DEPENDENCIES={}", versions.join(","));
    Ok(())
}

/// `NAME VERSION` of each recorded dependency in a lock file.
///
/// Read as lines, where `cargo metadata` would download the crates of every platform and feature.
fn versions(lock_file: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", lock_file.display());
    let text = fs::read_to_string(lock_file)?;
    let version = |name: &&str| {
        let (_, entry) = text.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", entry.split_once('"')?.0))
    };
    Ok(RECORDED.iter().filter_map(version).collect())
}
