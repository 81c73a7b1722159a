//! What can go wrong with a results log, and where it is damaged.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a results log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `open`, `append to`, …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has neither a readable header nor a readable commit.
    #[error("{} is not a results log, or its header is destroyed", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer hgci.
    #[error("{} has format {found}, this hgci reads up to {}: upgrade it", path.display(), crate::FORMAT)]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
    },
    /// Somebody else writes.
    #[error("another process is writing {}", path.display())]
    Locked {
        /// The log.
        path: PathBuf,
    },
    /// The path leads to another file than the one that was opened: it was deleted or replaced.
    #[error("{} was deleted or replaced since it was opened: open it again", path.display())]
    Replaced {
        /// The log.
        path: PathBuf,
    },
    /// The file has fewer bytes than were committed: somebody cut it.
    #[error(
        "{} has {is} bytes, fewer than the {was} that were written: open it again", path.display()
    )]
    Shortened {
        /// The log.
        path: PathBuf,
        /// Its size.
        is: u64,
        /// Its committed length.
        was: u64,
    },
    /// An earlier failure could not be undone; what is committed is safe.
    #[error("an append to {} failed and could not be undone: open it again", path.display())]
    Broken {
        /// The log.
        path: PathBuf,
    },
    /// A position that this log does not have: another log, or another history of it.
    #[error("{} is not the log that was read to byte {offset}: read it from the start", path.display())]
    Mismatch {
        /// The log.
        path: PathBuf,
        /// The offset that was asked for.
        offset: u64,
    },
}

impl Error {
    /// Whether there was no room: worth another try later, by the same writer.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}

/// Says what was done to which file when it failed.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}

/// A place of the log that cannot be read. What is around it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it starts, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Damage {
    /// Adds a place to those that were found before, in the order of the log, `most` of them at
    /// most. What lies behind the last one without a gap is the same damage.
    pub(crate) fn found(self, places: &mut Vec<Damage>, most: usize) {
        let room = places.len() < most;
        match places.last_mut() {
            Some(last) if last.offset + last.len == self.offset => last.len += self.len,
            _ if room => places.push(self),
            _ => {}
        }
    }

    /// All of it in one line: which log, how many places, from where to where. `None` where there
    /// is none.
    pub fn line(path: &Path, places: &[Damage]) -> Option<String> {
        let log = path.display();
        if let [only] = places {
            return Some(format!("{log}: {only}"));
        }
        let from = places.iter().min_by_key(|place| place.offset)?;
        let to = places.iter().map(|place| place.offset + place.len).max()?;
        let (start, what, count) = (from.offset, from.what, places.len());
        Some(format!(
            "{log}: damaged in {count} places from byte {start} to {to}; the first: {what}"
        ))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged at byte {}, {} bytes: {}", self.offset, self.len, self.what)
    }
}
