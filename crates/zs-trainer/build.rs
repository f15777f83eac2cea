//! Tells the crate which commit and which dependencies it was built from.

use vergen_gitcl::{Cargo, Emitter, Gitcl};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let git = Gitcl::builder().sha(false).dirty(false).build();
    let dependencies = "^(burn|tokenizers|tantivy)$";
    let cargo = Cargo::builder().dependencies(true).name_filter(dependencies).build();
    // Outside of a repository both are marked as unknown; that is no reason not to build.
    Emitter::new().quiet().add_instructions(&git)?.add_instructions(&cargo)?.emit()?;
    Ok(())
}
