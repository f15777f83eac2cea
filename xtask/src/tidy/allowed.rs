//! Exceptions from the rules on modules and on state, each with what makes it one. These
//! lists only shrink: an entry that nothing needs any more is an error.

/// An edge of a cycle: crate, module, the module that it should not use, reason.
pub(super) type Edge = (&'static str, &'static str, &'static str, &'static str);

/// Cycles are broken where these edges are taken out.
pub(super) const EDGES: &[Edge] = &[];

/// A static: crate, name, reason.
pub(super) type Static = (&'static str, &'static str, &'static str);

/// State of the whole process.
pub(super) const STATICS: &[Static] = &[
    ("zs-model", "CAPTURED", "counts decoding steps; belongs to the model that decodes"),
    ("zs-model", "REFUSED", "counts decoding steps; belongs to the model that decodes"),
    ("zs-model", "REPLAYED", "counts decoding steps; belongs to the model that decodes"),
    ("zs-model", "SECOND", "streams of a device belong to the process"),
    ("zs-model", "TURN", "a capture of CUDA forbids the whole process to allocate"),
    ("zs-simulator", "BULLET", "a regular expression, compiled once; changes no result"),
    ("zs-simulator", "MARKER", "a regular expression, compiled once; changes no result"),
    ("zs-simulator", "OPEN", "LMDB may open a file only once in a process"),
    ("zs-simulator", "WORDS", "a word list, built once; changes no result"),
    ("zs-train", "ACTIVE", "a process has one terminal, which a panic must give back"),
    ("zs-train", "CHOSEN", "devices of the command line; belongs in a context of the run"),
    ("zs-train", "CLOCK", "the clock of traces; belongs in a context of the run"),
    ("zs-train", "INSTALLED", "cubecl takes the folder of its kernels once a process"),
    ("zs-train", "PANIC_HOOK", "a process has one panic hook"),
    ("zs-train", "SURVEY", "what the machine has, looked up once; changes no result"),
];
