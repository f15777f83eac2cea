//! Exceptions from the rules on state and on files that are opened, each with what makes it one. The list only shrinks: an entry
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

/// A file whose code opens files by itself: path, reason.
pub(super) type Read = (&'static str, &'static str);

/// Files that open files elsewhere than in `zs_data::open_regular`.
pub(super) const READS: &[Read] = &[
    ("crates/zs-data/src/regular.rs", "decides which files are opened"),
    ("crates/zs-data/src/rows/mod.rs", "rows that a user names may come through a pipe"),
    ("crates/zs-data/src/write.rs", "directories are opened to be synced"),
    ("crates/zs-model/src/checkpoint/directory.rs", "what was just written is opened to be synced"),
    ("crates/zs-model/src/model_file.rs", "decides for model directories, without zs-data"),
    ("crates/zs-reproduce/src/environment.rs", "files of the kernel"),
    ("crates/zs-train/src/data/check.rs", "files that a user names may be pipes"),
    ("crates/zs-train/src/data/world.rs", "files that a user names may be pipes"),
    ("crates/zs-train/src/eval/run.rs", "files that a user names may be pipes"),
    ("crates/zs-train/src/simulate/mod.rs", "files that a user names may be pipes"),
    ("crates/zs-trainer/src/plan/control_group.rs", "files of the kernel"),
];
