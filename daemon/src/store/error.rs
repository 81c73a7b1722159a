//! What can go wrong with the store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Tree;

/// Why the store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on a file or folder failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `create folder`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// Another process has the state folder.
    #[error("{} is in use by another hgcid, process {pid}; stop it first, or give this one a \
             state folder of its own", dir.display())]
    Locked {
        /// The state folder.
        dir: PathBuf,
        /// The process id that the other one wrote into the lock file, or `unknown`.
        pid: String,
    },
    /// The file system has no room left, and nothing was tried.
    #[error("{} has {free} bytes free, and the store keeps {reserve} in reserve", dir.display())]
    NoRoom {
        /// The state folder.
        dir: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// sled failed in what was asked of it.
    #[error("{operation} the store: {source}")]
    Sled {
        /// What was tried, as a verb.
        operation: &'static str,
        /// What sled said.
        source: sled::Error,
    },
    /// sled panicked.
    #[error("{operation} the store: sled panicked: {message}")]
    Panicked {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The panic's message.
        message: String,
    },
    /// What is written goes into a file that nobody will find again.
    #[error("{} was removed or replaced under the running hgcid{mend}", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
        /// What to do about it; empty where hgcid makes it anew by itself.
        mend: &'static str,
    },
    /// An earlier write failed, and [`super::Store::reopen`] has not been called since.
    #[error("the store is closed after a failed write")]
    Closed,
    /// Reading what is over has met damage: it is left behind when the store opens again.
    #[error("the history is damaged; the store is opened anew")]
    History,
    /// It did not open in time although the probe before did.
    #[error("the store in {} did not open within {seconds} s", dir.display())]
    Hanging {
        /// The state folder.
        dir: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The probe could not be run at all.
    #[error("start {} to try the store: {source}", exe.display())]
    NoProbe {
        /// The executable.
        exe: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A record does not have the checksum that it was written with.
    #[error("a record of {tree} is damaged, key {}: {why}", key.escape_ascii())]
    Damaged {
        /// Its tree.
        tree: Tree,
        /// Its key.
        key: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A batch holds what the store does not take. Nothing was written.
    #[error("a record of {tree} is too large: key of {key} bytes, value of {value} bytes")]
    TooLarge {
        /// Its tree.
        tree: Tree,
        /// Bytes of its key.
        key: usize,
        /// Bytes of its value.
        value: usize,
    },
}

impl StoreError {
    /// Whether files are damaged, as far as sled can tell; not a fault of the surroundings.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            _ if self.is_elsewhere() => false,
            StoreError::Sled { operation, source: sled::Error::Io(_) } => *operation == "read",
            StoreError::Sled { .. } | StoreError::Panicked { .. } => true,
            _ => false,
        }
    }

    /// Whether it is the surroundings that fail: the store may be well, and must not be set aside.
    pub(super) fn is_elsewhere(&self) -> bool {
        use io::ErrorKind::*;
        let of_io = |error: &io::Error| {
            matches!(
                error.kind(),
                StorageFull | QuotaExceeded | FileTooLarge | PermissionDenied | ReadOnlyFilesystem
            ) || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
        };
        match self {
            StoreError::Io { source, .. } => of_io(source),
            StoreError::Sled { source: sled::Error::Io(source), .. } => of_io(source),
            // sled unwraps some results; the kind of the error is in the message then.
            StoreError::Panicked { message, .. } => {
                message.contains("StorageFull") || message.contains("No space left")
            }
            _ => false,
        }
    }
}

/// Refuses where a path does not lead to this open file any more: what is written into it is lost
/// when it is closed, whatever the kernel says of the writes.
pub(super) fn check_there(file: &File, path: &Path, mend: &'static str) -> Result<(), StoreError> {
    let ours = rustix::fs::fstat(file).on("examine", path)?;
    match rustix::fs::stat(path) {
        Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => Ok(()),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
            Err(StoreError::Gone { path: path.to_owned(), mend })
        }
        Err(error) => Err(error).on("examine", path),
    }
}

/// Says which operation failed on which path.
pub(super) trait IoContext<T> {
    fn on(self, operation: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn on(self, operation: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Io {
            operation,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
