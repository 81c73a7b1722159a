//! Keeps the repository's own copy of what was taken in near to what the store has.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::look::Seen;
use super::taken::{self, Made};
use crate::scheduler::Scheduler;

/// The copy is written anew when so many bytes were added to it, or as many as it had.
const GROWN: u64 = 1 << 20;

/// However busy a repository is, its copy is not older than this.
const OLDEST: Duration = Duration::from_secs(600);

/// Keeps one copy.
#[derive(Debug, Default)]
pub struct Keeper {
    /// When it was last written as a whole, by this daemon.
    written: Option<Instant>,
    /// Its size then.
    size: u64,
    /// What was added since.
    grown: u64,
    /// Something was taken in since.
    is_behind: bool,
    /// Why it could not be written the last time.
    said: Option<String>,
}

impl Keeper {
    /// What was seen is stored, and these builds were made for it.
    pub async fn add(&mut self, repo: &str, hg: PathBuf, builds: Vec<Made>) {
        self.is_behind = true;
        if self.written.is_none() || builds.is_empty() {
            return;
        }
        let added = tokio::task::spawn_blocking(move || taken::append(&hg, &builds));
        match added.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(bytes) => self.grown += bytes,
            Err(error) => {
                tracing::warn!(repo, %error, "cannot add to .hg/hgci/taken; it is written anew");
                self.written = None;
            }
        }
    }

    /// Whether it is time to write it as a whole. `is_idle`: nothing else is to be done.
    pub fn is_due(&self, is_idle: bool) -> bool {
        self.is_behind
            && (is_idle
                || self.grown > self.size.max(GROWN)
                || self.written.is_none_or(|at| at.elapsed() > OLDEST))
    }

    /// Writes it as a whole: what was seen, and the builds that have not ended.
    pub async fn write(&mut self, scheduler: &Scheduler, repo: &str, hg: PathBuf, seen: Seen) {
        let name = repo.to_owned();
        let open = scheduler.ask(move |engine, _| {
            let builds = engine.builds().filter(|build| build.repo == name && !build.published);
            let made = |build: &hgci_core::engine::BuildRow| Made {
                push: build.push,
                build: build.id,
                node: build.node,
                trigger: build.trigger,
            };
            builds.map(made).collect::<Vec<_>>()
        });
        // While the store fails, the copy stays what it is.
        let Ok(builds) = open.await else { return };
        let written = tokio::task::spawn_blocking(move || taken::write(&hg, &seen, &builds));
        let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        self.written = Some(Instant::now());
        match written {
            Ok(size) => {
                (self.size, self.grown, self.is_behind, self.said) = (size, 0, false, None);
            }
            Err(error) => {
                let error = error.to_string();
                if self.said.as_ref() != Some(&error) {
                    tracing::warn!(
                        repo,
                        error,
                        "cannot write .hg/hgci/taken: were the store lost, builds in flight would \
                         be too"
                    );
                }
                self.said = Some(error);
            }
        }
    }
}
