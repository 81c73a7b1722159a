//! Damage in what is over, which nothing looks at before it is read or written.
//!
//! The store is opened anew at the first sign, for sled may have panicked. What comes again after
//! that is in the files: then the history is left behind, and what is in flight goes on without it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// After so many openings that damage was the reason of, the history is given up.
const OPENINGS: u32 = 2;

/// What was met since the store was opened for the first time.
#[derive(Debug, Default)]
pub(super) struct History {
    suspect: AtomicBool,
    openings: AtomicU32,
}

impl History {
    /// Reading or writing it has failed as it does on damaged files.
    pub fn met_damage(&self) {
        if !self.suspect.swap(true, Relaxed) {
            self.openings.fetch_add(1, Relaxed);
        }
    }

    /// Whether the handles are not to be used any more.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Relaxed)
    }

    /// Whether the next opening is to leave it behind.
    pub fn is_lost(&self) -> bool {
        self.openings.load(Relaxed) >= OPENINGS
    }

    /// The store was opened, without it if it was lost.
    pub fn opened(&self) {
        if self.is_lost() {
            self.openings.store(0, Relaxed);
        }
        self.suspect.store(false, Relaxed);
    }
}
