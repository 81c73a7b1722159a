//! Up to where a results log was written, remembered by the store: so a log that is gone, or is not
//! what it was, is known for that after a restart too.

use std::path::{Path, PathBuf};

use hgci_results::Mark;
use serde::{Deserialize, Serialize};

use crate::scheduler::Scheduler;
use crate::store::{Store, Tree};

/// Up to here a log was durable. It may have more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The `.hg` that it is in: under another one, the name means another repository.
    dot_hg: PathBuf,
    /// Its log id, hexadecimal.
    log: String,
    /// Its committed length.
    offset: u64,
}

impl Written {
    pub fn of(dot_hg: &Path, end: Mark) -> Written {
        Written { dot_hg: dot_hg.to_owned(), log: end.log.to_string(), offset: end.offset }
    }

    pub fn is_in(&self, dot_hg: &Path) -> bool {
        self.dot_hg == dot_hg
    }

    /// What became of it where a log now ends there; `None` where it is all there.
    pub fn lost(&self, end: Mark) -> Option<Lost> {
        match self.offset.saturating_sub(end.offset) {
            _ if self.log != end.log.to_string() => Some(Lost::Other),
            0 => None,
            bytes => Some(Lost::Cut(bytes)),
        }
    }
}

/// What became of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// There is none.
    Deleted,
    /// There is another one, or none with a readable header.
    Other,
    /// So many bytes are missing at its end.
    Cut(u64),
}

/// Key in [`Tree::Meta`]. A repository's name has no NUL.
fn key(repo: &str) -> Vec<u8> {
    [b"results\0", repo.as_bytes()].concat()
}

/// What the store remembers of a repository's log.
pub fn load(store: &Store, repo: &str) -> Option<Written> {
    let row = store.get(Tree::Meta, &key(repo)).ok().flatten()?;
    serde_json::from_slice(&row.value).ok()
}

/// Has the store remember these, with the next batch. Should that fail, it remembers older ones.
pub fn keep(scheduler: &Scheduler, marks: Vec<(String, Written)>) {
    let rows = marks.into_iter();
    let rows = rows.map(|(repo, mark)| (key(&repo), serde_json::to_vec(&mark).unwrap_or_default()));
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        scheduler.also(move |turn| {
            rows.into_iter().for_each(|(key, json)| turn.batch.put(Tree::Meta, key, json));
        });
    }
}
