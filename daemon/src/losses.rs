//! What was lost: said in the log when it is found, and in `hgcid status` for as long as somebody
//! may want to know.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::wall_ms;
use crate::scheduler::Scheduler;
use crate::store::{Store, Tree};

/// How many are kept: the newest.
const MOST: usize = 50;

/// How long they are shown: 30 days, in milliseconds.
const SHOWN_MS: i64 = 30 * 24 * 3600 * 1000;

/// Key of the losses in [`Tree::Meta`].
const KEY: &[u8] = b"losses";

/// Something that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// When that was found: milliseconds since 1970.
    pub at_ms: i64,
    /// What it is, and what became of it.
    pub what: String,
}

/// All that was lost lately. It outlives the daemon in the store.
pub struct Losses {
    scheduler: Scheduler,
    said: Mutex<Vec<Loss>>,
}

impl Losses {
    /// Those that the store remembers.
    pub fn load(store: &Store, scheduler: Scheduler) -> Losses {
        let row = store.get(Tree::Meta, KEY).ok().flatten();
        let said = row.and_then(|row| serde_json::from_slice(&row.value).ok()).unwrap_or_default();
        Losses { scheduler, said: Mutex::new(said) }
    }

    /// Says it, in the log too. What was said already is not said again.
    pub fn say(&self, what: impl Into<String>) {
        let what = what.into();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ms = wall_ms();
        if said.iter().any(|loss| loss.what == what && at_ms - loss.at_ms < SHOWN_MS) {
            return;
        }
        tracing::error!("{what}");
        said.push(Loss { at_ms, what });
        let surplus = said.len().saturating_sub(MOST);
        said.drain(..surplus);
        let json = serde_json::to_vec(&*said).unwrap_or_default();
        self.scheduler.also(move |turn| turn.batch.put(Tree::Meta, KEY, json));
    }

    /// What is still worth to be shown, the oldest first.
    pub fn shown(&self) -> Vec<Loss> {
        let since = wall_ms().saturating_sub(SHOWN_MS);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().filter(|loss| loss.at_ms >= since).cloned().collect()
    }
}
