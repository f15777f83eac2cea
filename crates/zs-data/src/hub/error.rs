//! Errors of fetching.

use std::path::PathBuf;

/// Failure to fetch files. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A file that cannot be digested, or a manifest that cannot be written.
    #[error(transparent)]
    Kept(#[from] crate::FileError),
    /// A name without an entry in the catalogue.
    #[error("`{name}` is not known; use one of {}", known.join(", "))]
    UnknownName {
        /// Name.
        name: String,
        /// Known names.
        known: Vec<&'static str>,
    },
    /// A repository that is not written as owner and name.
    #[error("`{name}` is not a repository; write OWNER/NAME")]
    NotARepository {
        /// Name.
        name: String,
    },
    /// A file that a repository or folder does not have.
    #[error("{place} has no file `{file}`")]
    NoFile {
        /// Repository, or the folders that were searched.
        place: String,
        /// File.
        file: String,
    },
    /// A repository or folder without files that this program reads.
    #[error("{place} has no file that this program reads")]
    NothingUseful {
        /// Repository or folder.
        place: String,
    },
    /// A path that leads out of its repository.
    #[error("`{path}` is not a path inside a repository")]
    UnsafePath {
        /// Path.
        path: String,
    },
    /// An address that the hub refuses.
    #[error("{url}: status {status}; {hint}")]
    Refused {
        /// Address.
        url: String,
        /// HTTP status.
        status: u16,
        /// Remedy.
        hint: &'static str,
    },
    /// A request that failed on its way, or for a reason that may pass.
    #[error("{url}: {problem}")]
    Interrupted {
        /// Address.
        url: String,
        /// Problem.
        problem: String,
    },
    /// A request that failed too often.
    #[error("gave up after {attempts} attempts: {last}")]
    GivenUp {
        /// Attempts in a row without a new byte.
        attempts: usize,
        /// Error of the last; part of the message, so not its source.
        last: Box<HubError>,
    },
    /// A reply of the hub that is not in its usual form.
    #[error("{url}: not a list of files: {error}")]
    Reply {
        /// Address.
        url: String,
        /// Error of the parser; part of the message, so not its source.
        error: serde_json::Error,
    },
    /// A client that cannot be made.
    #[error("cannot create a client for the hub: {problem}")]
    Client {
        /// Problem.
        problem: String,
    },
    /// File that is longer than its announced size.
    #[error("{url}: sent more than the {bytes} bytes that it announced; the file was discarded")]
    TooLong {
        /// Address.
        url: String,
        /// Announced size.
        bytes: u64,
    },
    /// A file without a checksum in the list of the hub.
    #[error("{path}: the hub gives no checksum for it; use another endpoint")]
    NoChecksum {
        /// File, by path in the repository.
        path: String,
    },
    /// A file with other contents than the hub announced.
    #[error("{path}: the checksum is wrong; fetch it again")]
    Checksum {
        /// File, by path in the repository.
        path: String,
    },
    /// A local file or folder that cannot be read or written.
    #[error("{path}: cannot {action}: {error}", path = path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// Failed action, e.g. `write`.
        action: &'static str,
        /// Error of the system; part of the message, so not its source.
        error: std::io::Error,
    },
}

impl HubError {
    /// Returns a constructor of [`HubError::File`].
    pub(super) fn file(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), action, error }
    }
}
