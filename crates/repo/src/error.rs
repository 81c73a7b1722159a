//! What can go wrong when a repository is read.

use std::io;
use std::path::{Path, PathBuf};

use hg::errors::{HgError, IoErrorContext};
use hg::revlog::RevlogError;
use hgci_core::Node;
use rustix::io::Errno;

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

/// Why a source tree could not be had, and whether it was while somebody wrote.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotRead {
    /// What the last try came to.
    pub error: Error,
    /// Whether somebody held the store's lock, from before that try on.
    pub locked: bool,
}

impl From<NotRead> for Error {
    fn from(NotRead { error, .. }: NotRead) -> Error {
        error
    }
}

impl NotRead {
    /// Whether the same will be said as long as nobody mends something: not what a transaction
    /// under way explains, nor a want of descriptors or memory, nor a reader that has left.
    pub fn lasts(&self) -> bool {
        match &self.error {
            Error::Io { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::ACCESS | Errno::PERM) => true,
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => false,
                Some(Errno::INTR | Errno::AGAIN | Errno::TIMEDOUT) => false,
                _ => !self.locked,
            },
            Error::NotARepository { .. }
            | Error::Corrupt { .. }
            | Error::UnknownChangeset { .. } => !self.locked,
            Error::NotAFile { .. }
            | Error::Unsupported { .. }
            | Error::TooLarge { .. }
            | Error::Hg { .. } => true,
            Error::Sink(_) => false,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Without anybody who writes, and with somebody.
    fn lasts(error: impl Fn() -> Error) -> [bool; 2] {
        [false, true].map(|locked| NotRead { error: error(), locked }.lasts())
    }

    #[test]
    fn what_a_transaction_explains_may_pass_and_what_nobody_may_read_does_not() {
        let path = PathBuf::from("/srv/hg/w/.hg/store/data/a.i");
        let of = |errno: Errno| {
            let io = || Error::Io { operation: "open", path: path.clone(), source: errno.into() };
            lasts(io)
        };
        assert_eq!([Errno::ACCESS, Errno::PERM].map(of), [[true, true]; 2]);
        assert_eq!([Errno::NOENT, Errno::IO, Errno::NOTDIR].map(of), [[true, false]; 3]);
        assert_eq!(
            [Errno::MFILE, Errno::NFILE, Errno::INTR, Errno::NOMEM].map(of),
            [[false; 2]; 4]
        );
        assert_eq!(lasts(|| Error::NotAFile { path: path.clone() }), [true, true]);
        let corrupt = || Error::Corrupt { path: path.clone(), why: "short".into() };
        assert_eq!(lasts(corrupt), [true, false]);
        let gone = || Error::UnknownChangeset { path: path.clone(), node: Node::NULL };
        assert_eq!(lasts(gone), [true, false]);
        assert_eq!(lasts(|| Error::Sink(io::ErrorKind::BrokenPipe.into())), [false, false]);
    }
}
