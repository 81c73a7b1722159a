//! Writes results into the logs of repositories: one thread, one writer for each log, one sync for
//! all that waits.
//!
//! What cannot be written now is kept and tried again, in order; the engine's rows bring it back
//! after a restart. Writing twice is harmless, since the log knows what it has.
//!
//! - `log`: the log of one repository
//! - `mark`: up to where a log was written, remembered by the store
//! - `again`: what the store still knows of a log that is lost

mod again;
mod log;
mod mark;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use hgci_core::engine::{Event, Publication};
use hgci_core::result::{Entry, Origin};
use tokio::sync::oneshot;

use crate::config::Names;
use crate::losses::Losses;
use crate::scheduler::{Done, NotRecorded, Scheduler};
use crate::store::Store;
use again::Memory;
use log::Log;

/// The most messages that are taken at once.
const MOST: usize = 1024;

/// How long the engine may wait to hear that results are in their log. Nobody waits for that: it
/// goes into a batch of the store that is written anyhow, or into one for many.
const TELL_AFTER: Duration = Duration::from_millis(5);

/// What the publisher takes.
pub enum Publish {
    /// What is served now.
    Serve {
        /// The repositories, with their `.hg` folders.
        logs: BTreeMap<String, (PathBuf, Origin)>,
        /// Which names the configuration speaks for.
        names: Names,
    },
    /// Results to be appended.
    Entries {
        /// The repository's name.
        repo: String,
        /// What is to be appended, in order.
        entries: Vec<Entry>,
        /// What to tell the engine.
        publication: Publication,
    },
    /// The repository was looked at, and its disk answers: its log should be what it was.
    Look {
        /// Its name.
        repo: String,
    },
    /// To be called when all that came before for a repository is durable.
    Barrier {
        /// The repository's name.
        repo: String,
        /// Called.
        done: Done,
    },
}

/// Starts the publisher. It ends when the last sender is gone; the receiver is told, also when it
/// ends in another way.
pub fn start(
    scheduler: Scheduler,
    store: Arc<Store>,
    losses: Arc<Losses>,
) -> std::io::Result<(Sender<Publish>, oneshot::Receiver<Infallible>)> {
    let (sender, inbox) = std::sync::mpsc::channel();
    let (ends, ended) = oneshot::channel();
    std::thread::Builder::new().name("publisher".into()).spawn(move || {
        let _dropped_at_the_end = ends;
        Publisher {
            memory: Memory { scheduler: scheduler.clone(), store, losses },
            scheduler,
            logs: BTreeMap::new(),
            names: None,
            untold: Vec::new(),
            tell_at: None,
        }
        .run(&inbox);
    })?;
    Ok((sender, ended))
}

struct Publisher {
    scheduler: Scheduler,
    memory: Memory,
    logs: BTreeMap<String, Log>,
    /// `None` until it is said for the first time.
    names: Option<Names>,
    /// What is durable in its log, and the engine does not know it yet.
    untold: Vec<Publication>,
    tell_at: Option<Instant>,
}

impl Publisher {
    fn run(mut self, inbox: &Receiver<Publish>) {
        loop {
            let first = match self.next_try().into_iter().chain(self.tell_at).min() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let first = match first {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut barriers = Vec::new();
            let mut looks = BTreeSet::new();
            for message in first.into_iter().chain(inbox.try_iter().take(MOST)) {
                match message {
                    Publish::Serve { logs, names } => {
                        self.serve(logs);
                        self.names = Some(names);
                    }
                    Publish::Entries { repo, entries, publication } => {
                        self.log(&repo).add(entries, publication);
                    }
                    Publish::Look { repo } => drop(looks.insert(repo)),
                    Publish::Barrier { repo, done } => barriers.push((repo, done)),
                }
            }
            for (repo, log) in &mut self.logs {
                let is_gone = self.names.as_ref().is_some_and(|names| !names.has(repo));
                if is_gone && log.is_nowhere() {
                    self.untold.extend(log.give_up());
                    continue;
                }
                self.untold.extend(log.write(&self.memory));
                if looks.contains(repo) && !is_gone {
                    log.look(&self.memory);
                }
                if is_gone {
                    // Another daemon may serve it now: the log is not to stay locked.
                    log.close();
                }
            }
            self.tell();
            if self.untold.is_empty() && !looks.is_empty() {
                self.keep_marks();
            }
            for (repo, done) in barriers {
                let failure = self.logs.get(&repo).and_then(|log| log.failure());
                done(failure.map_or(Ok(()), |why| Err(NotRecorded(why))));
            }
        }
    }

    /// Tells the engine what is written, some time after the first of it was.
    fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        let now = Instant::now();
        if *self.tell_at.get_or_insert(now + TELL_AFTER) <= now {
            self.keep_marks();
            for publication in std::mem::take(&mut self.untold) {
                self.scheduler.tell(Event::Published(publication));
            }
            self.tell_at = None;
        }
    }

    fn keep_marks(&mut self) {
        let marks = self.logs.values_mut().filter_map(Log::mark_to_keep).collect();
        mark::keep(&self.scheduler, marks);
    }

    fn next_try(&self) -> Option<Instant> {
        self.logs.values().filter_map(Log::next_try).min()
    }

    fn serve(&mut self, repos: BTreeMap<String, (PathBuf, Origin)>) {
        for (repo, (dot_hg, origin)) in repos {
            let log = self.log(&repo);
            log.serve(dot_hg, origin);
        }
    }

    fn log(&mut self, repo: &str) -> &mut Log {
        self.logs.entry(repo.to_owned()).or_insert_with(|| Log::new(repo))
    }
}
