//! Records by which a run can be audited: a hash-chained line a step, with the digests of everything
//! that went into it and came out of it. `docs/audit.md` documents the file.

mod error;
mod files;
mod line;
mod record;
mod writer;

pub use self::error::AuditError;

pub(crate) use self::files::{check_files, check_inputs, check_outputs, run_file_of};
#[cfg(test)]
pub(crate) use self::line::StepLine;
pub(crate) use self::record::AuditRecord;
pub(crate) use self::writer::{AuditWriter, rewards_digest};

/// File of a run with its record.
const AUDIT: &str = "audit.jsonl";
