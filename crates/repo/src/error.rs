//! What can go wrong when a repository is read.

use std::io;
use std::path::{Path, PathBuf};

use hg::errors::{HgError, IoErrorContext};
use hg::revlog::RevlogError;
use hgci_core::Node;

/// Why a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path names no repository that could be served.
    #[error("{path} is no Mercurial repository: {why}")]
    NotARepository {
        /// The path that was given.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The operating system refused.
    #[error("could not {operation} {path}: {source}")]
    Io {
        /// The verb: `read`, `open`, …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A fifo, a folder or a device is where a file should be.
    #[error("{path} is no regular file")]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// hg-core does not read this; the `hg` command does.
    #[error("hg-core cannot read {path}: {what}")]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// The feature.
        what: String,
    },
    /// What is on disk makes no sense, also after reading it anew several times.
    #[error("{path} looks corrupt: {why}")]
    Corrupt {
        /// The repository or the file in it.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// The repository has no such changeset, perhaps no more.
    #[error("{path} has no changeset {node}")]
    UnknownChangeset {
        /// The repository.
        path: PathBuf,
        /// The changeset asked for.
        node: Node,
    },
    /// Something is bigger than what the caller, or we, want to hold in memory.
    #[error("{what} in {path} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The repository.
        path: PathBuf,
        /// A file or a changeset.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The `hg` command, asked for what hg-core refuses, failed.
    #[error("`{command}` in {path} failed: {why}")]
    Hg {
        /// The repository.
        path: PathBuf,
        /// The command line, for people.
        command: String,
        /// Exit status and the end of its stderr, or why it did not start.
        why: String,
    },
    /// Whoever takes the stream of a source tree does not take any more.
    #[error("could not pass on the source tree: {0}")]
    Sink(#[source] io::Error),
}

/// What reading a repository returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether reading anew may help, because somebody was writing: a file cut short by a strip, an
    /// index that is ahead of its data, a file that is being replaced.
    pub fn may_settle(&self) -> bool {
        match self {
            Error::Corrupt { .. } => true,
            Error::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::Interrupted
                    // Another process has a lease on the file, and is told to give it up.
                    | io::ErrorKind::WouldBlock
            ),
            _ => false,
        }
    }

    /// For `map_err` on an I/O result.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { operation, path, source }
    }

    /// For `map_err` on what hg-core returns. `path` is the repository.
    pub(crate) fn hg(path: &Path) -> impl FnOnce(HgError) -> Error {
        let path = path.to_owned();
        move |error| match error {
            HgError::IoError { error: source, context, .. } => {
                let (operation, within) = match context {
                    IoErrorContext::ReadingMetadata(file) => ("stat", file),
                    IoErrorContext::ReadingFile(file) => ("read", file),
                    _ => ("use", PathBuf::new()),
                };
                // hg-core names files of a revlog relative to the store.
                Error::Io { operation, path: path.join(".hg/store").join(within), source }
            }
            HgError::CorruptedRepository(why, _) => Error::Corrupt { path, why },
            HgError::UnsupportedFeature(what, _) => Error::Unsupported { path, what },
            HgError::CensoredNodeError(node, _) => {
                Error::Unsupported { path, what: format!("censored revision {node:x}") }
            }
            // `Abort` is how hg-core reports chunks that cannot be decompressed.
            other => Error::Corrupt { path, why: other.to_string() },
        }
    }

    /// The same for what revlogs return.
    pub(crate) fn revlog(path: &Path) -> impl FnOnce(RevlogError) -> Error {
        let path = path.to_owned();
        move |error| match error {
            RevlogError::Other(error) => Error::hg(&path)(error),
            other => Error::Corrupt { path, why: other.to_string() },
        }
    }
}
