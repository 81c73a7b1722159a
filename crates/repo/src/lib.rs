//! Reading Mercurial repositories: in this process with hg-core, and by the `hg` command what
//! hg-core refuses.
//!
//! - [`Repository`] names a repository on disk. It is cheap, keeps nothing open and can be sent
//!   anywhere.
//! - [`Reader`] is one look at it: open one for each batch of work and drop it. What it says is of
//!   the moment at which it was opened, as far as somebody who strips lets it.
//! - [`mark`] remembers what was seen of a repository, and tells what changed since.
//!
//! hg never waits for a reader. A strip truncates files that are being read, so a reader may find
//! anything from a short read to a changeset that is gone: such errors say
//! [`Error::may_settle`], and [`Repository::read`] tries again on a fresh reader.

mod archive;
mod bookmarks;
mod changeset;
mod error;
mod files;
mod graph;
mod hg;
pub mod mark;
mod memory;
mod obsstore;
mod open;
mod phases;
mod reader;
mod repository;
mod revlog;
mod tags;
mod visible;

pub use archive::Archived;
pub use changeset::{Changeset, Date};
pub use error::{Error, Result};
pub use graph::Rev;
pub use mark::{Difference, Mark};
pub use obsstore::{Fate, ObsState};
pub use phases::PhaseRoots;
pub use reader::Reader;
pub use repository::{ReadBy, Repository};

/// Call this once, before the process has a second thread or serves anybody: hg-core learns the
/// umask by setting it to 0 for a moment, and a file that another thread makes in that moment would
/// be open to all. Later calls do nothing.
pub fn prepare() {
    ::hg::vfs::get_umask();
}
