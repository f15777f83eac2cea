//! Exceptions from the rule on state, each with what makes it one. The list only shrinks: an entry
//! that nothing needs any more is an error.

/// A static: crate, name, reason.
pub(super) type Static = (&'static str, &'static str, &'static str);

/// State of the whole process.
pub(super) const STATICS: &[Static] = &[
    ("zs-model", "CAPTURE_LOCK", "a capture of CUDA forbids the whole process to allocate"),
    ("zs-model", "SECOND", "streams of a device belong to the process"),
    ("zs-observe", "ACTIVE", "a process has one terminal, which a panic must give back"),
    ("zs-observe", "PANIC_HOOK", "a process has one panic hook"),
    ("zs-search", "OPEN", "LMDB may open a file only once in a process"),
    ("zs-simulator", "BULLET", "a regular expression, compiled once; changes no result"),
    ("zs-simulator", "MARKER", "a regular expression, compiled once; changes no result"),
    ("zs-train", "INSTALLED", "cubecl takes the folder of its kernels once a process"),
    ("zs-train", "SURVEY", "what the machine has, looked up once; changes no result"),
    ("zs-world", "WORDS", "a word list, built once; changes no result"),
];
