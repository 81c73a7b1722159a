//! What an hg server does when something came in: tell the daemon, or else write it down.
//!
//! The binary `hgci-hook` and the extension both end in [`deliver`]: it never fails, and never
//! takes longer than its deadline and one write to disk. The daemon uses [`spool`] and
//! [`adoption`] from the other side.
//!
//! - [`repository`]: where the repository is, and whether a hook acts there at all
//! - [`hint`]: what the variables of a hook say
//! - [`folder`]: folders below `.hg`, where no link leads astray
//! - [`spool`]: files for a daemon that does not answer
//! - [`adoption`]: the mark that a daemon leaves in a repository that it serves
//! - [`hgrc`]: the one setting that is read from a repository's own hgrc

pub mod adoption;
mod deliver;
pub mod folder;
pub mod hgrc;
pub mod hint;
pub mod repository;
pub mod spool;

pub use deliver::{DEADLINE, Delivered, Target, deliver};
pub use repository::Repository;

/// The folder in a share source's `.hg` that is ours: results log, spool, adoption mark.
pub const FOLDER: &str = "hgci";
