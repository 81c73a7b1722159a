//! What the store still knows of a results log that is lost.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use hgci_core::result::Entry;
use hgci_results::Writer;

use super::mark::{self, Written};
use crate::losses::Losses;
use crate::scheduler::{Records, Scheduler, published};
use crate::store::Store;

/// How many builds are read and written at a time.
const BUILDS: usize = 500;

/// How long the loop may take to tell what is in flight.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where what was published is known too.
pub struct Memory {
    pub scheduler: Scheduler,
    pub store: Arc<Store>,
    pub losses: Arc<Losses>,
}

impl Memory {
    /// Up to where the log of a repository was written.
    pub fn written(&self, repo: &str) -> Option<Written> {
        mark::load(&self.store, repo)
    }

    /// Whether the history has a build of a repository that was published.
    pub fn has_published(&self, repo: &str) -> bool {
        let first = Records::published(&self.store, repo, 0, 1);
        first.is_ok_and(|part| !part.entries.is_empty())
    }

    /// Writes into a log what the store still knows of it and the log has not. Returns how many
    /// records that were.
    pub fn write_again(&self, repo: &str, writer: &mut Writer) -> Result<usize, String> {
        // First what is in flight: from there it goes into the history, and never back.
        let in_flight = self.in_flight(repo)?;
        let mut written = 0;
        let mut append = |entries: &[Entry]| {
            let appended = writer.append(entries).map_err(|error| error.to_string())?;
            written += appended.written;
            Ok::<_, String>(())
        };
        let mut after = Some(0);
        while let Some(from) = after {
            let part = Records::published(&self.store, repo, from, BUILDS);
            let part = part.map_err(|error| error.to_string())?;
            append(&part.entries)?;
            after = part.next;
        }
        append(&in_flight)?;
        Ok(written)
    }

    fn in_flight(&self, repo: &str) -> Result<Vec<Entry>, String> {
        let (answer, answered) = channel();
        let repo = repo.to_owned();
        self.scheduler.also(move |turn| {
            let builds = turn.engine().builds().filter(|build| build.repo == repo);
            let entries = builds.flat_map(|build| published(build, &turn.engine().jobs(build.id)));
            let _given_up = answer.send(entries.collect());
        });
        let entries = answered.recv_timeout(PATIENCE);
        entries.map_err(|_| "what is in flight is not known while the store fails".to_owned())
    }
}
