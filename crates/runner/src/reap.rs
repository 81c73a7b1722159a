//! Clearing away what is left of an attempt whose runner is gone.
//!
//! A runner clears up after itself, and when it is killed its job dies with it (see
//! [`crate::warden`]). What can still be left is the attempt's folder, and processes where runner
//! and warden were killed at once. The pool that started the runner calls [`sweep`] when it sees
//! the runner end, however it ended, and at its own start for the folders that it finds.

use std::io;
use std::path::Path;

use crate::procs::{all, kill_all, marked};
use crate::remove::remove_tree;

/// What could not be cleared away.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Processes that do not die: of another account, or stuck in the kernel.
    #[error("processes of the attempt that cannot be killed: {0:?}")]
    Alive(Vec<i32>),
    /// The folder, or part of it.
    #[error(transparent)]
    Folder(#[from] io::Error),
}

/// Kills every process that is left of an attempt and removes its folder. `instance` is the
/// runner's, where the daemon knows it: it is the value of [`crate::procs::MARKER`] in the
/// environment of each of the attempt's processes, or of one above it. The runner itself must be dead. Harmless when
/// there is nothing to do, and twice.
pub fn sweep(work: &Path, instance: Option<&str>) -> Result<(), SweepError> {
    if let Some(instance) = instance {
        kill_all(|| marked(instance, &all()), || ())
            .map_err(|left| SweepError::Alive(left.iter().map(|process| process.pid).collect()))?;
    }
    Ok(remove_tree(work)?)
}
