//! `zs model import`: a model directory of a file for llama.cpp.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use zs_data::digest;
use zs_model::{ImportOptions, WeightDtype, import_gguf};

use crate::session::Session;

/// Arguments of `zs model import`.
#[derive(Debug, Args)]
pub struct ModelImportArgs {
    /// The GGUF file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The directory to create.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Dtype of the written weights; `exact` is the narrowest that holds every value.
    #[arg(long, default_value = "exact")]
    pub dtype: ImportDtype,
}

/// Dtype of imported weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportDtype {
    /// bf16 or f16 for files of these, else f32.
    Exact,
    /// f32.
    F32,
    /// bfloat16; rounds f32 and dequantised values.
    Bf16,
    /// IEEE half precision; rounds f32 and dequantised values.
    F16,
}

/// Writes the directory and prints its origin.
pub(crate) fn model_import(args: &ModelImportArgs, session: &Session) -> Result<()> {
    let dtype = match args.dtype {
        ImportDtype::Exact => None,
        ImportDtype::F32 => Some(WeightDtype::F32),
        ImportDtype::Bf16 => Some(WeightDtype::Bf16),
        ImportDtype::F16 => Some(WeightDtype::F16),
    };
    let sha256 = Some(digest::of_file(&args.file)?);
    let imported = import_gguf(&args.file, &args.out, &ImportOptions { dtype, sha256 })?;
    session.print(&format!(
        "wrote {}: {:?}, {:.1} M parameters, {} written as {:?}\n",
        args.out.display(),
        imported.config.architecture,
        imported.config.num_parameters() as f64 / 1e6,
        imported.provenance.summary(),
        imported.dtype,
    ));
    Ok(())
}
