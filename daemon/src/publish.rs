//! Writes results into the logs of repositories: one thread, one writer for each log, one sync for
//! all that waits.
//!
//! What cannot be written now is kept and tried again, in order; the engine's rows bring it back
//! after a restart. Writing twice is harmless, since the log knows what it has. Nobody else waits for
//! it meanwhile: a runner that did would keep its slot from other repositories.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use hgci_core::BuildId;
use hgci_core::engine::{Event, Publication};
use hgci_core::result::{Entry, Origin};
use hgci_results::{Error, Place, Writer};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::Names;
use crate::scheduler::{Done, Scheduler};

/// The most messages that are taken at once.
const MOST: usize = 1024;

/// How long the engine may wait to hear that results are in their log. Nobody waits for that: it
/// goes into a batch of the store that is written anyhow, or into one for many.
const TELL_AFTER: Duration = Duration::from_millis(5);

/// The first pause before a log that could not be written is tried again; it doubles.
const RETRY: Duration = Duration::from_millis(500);

/// The longest such pause.
const RETRY_MOST: Duration = Duration::from_secs(30);

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
    /// To be called when all that came before is durable in its log, or known to wait for a log
    /// that cannot be written.
    Barrier(Done),
}

/// Results that wait for their log, by repository, where one cannot be written now.
pub type Unwritten = Arc<Mutex<BTreeMap<String, Waiting>>>;

/// Results of a repository that cannot be written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many: ends of jobs and of builds.
    pub results: usize,
    /// Why.
    pub why: String,
}

/// Starts the publisher, which keeps `unwritten` up to date. It ends when the last sender is gone; the
/// receiver is told, also when it ends in another way.
pub fn start(
    scheduler: Scheduler,
    unwritten: Unwritten,
) -> std::io::Result<(Sender<Publish>, oneshot::Receiver<Infallible>)> {
    let (sender, inbox) = std::sync::mpsc::channel();
    let (ends, ended) = oneshot::channel();
    std::thread::Builder::new().name("publisher".into()).spawn(move || {
        let _dropped_at_the_end = ends;
        Publisher {
            scheduler,
            unwritten,
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
    unwritten: Unwritten,
    logs: BTreeMap<String, Log>,
    /// `None` until it is said for the first time.
    names: Option<Names>,
    /// What is durable in its log, and the engine does not know it yet.
    untold: Vec<Publication>,
    tell_at: Option<Instant>,
}

/// The log of one repository.
struct Log {
    dot_hg: PathBuf,
    origin: Origin,
    writer: Option<Writer>,
    /// What is not written yet.
    waiting: VecDeque<(Vec<Entry>, Publication)>,
    /// The ends of jobs and builds in it: the engine asks for some of them more than once.
    ends: BTreeSet<(BuildId, Option<u32>)>,
    /// After a failure: not before then, and the pause that led there.
    not_before: Option<(Instant, Duration)>,
    /// Why it fails.
    failure: Option<String>,
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
            for message in first.into_iter().chain(inbox.try_iter().take(MOST)) {
                match message {
                    Publish::Serve { logs, names } => {
                        self.serve(logs);
                        self.names = Some(names);
                    }
                    Publish::Entries { repo, entries, publication } => {
                        self.log(&repo).add(entries, publication);
                    }
                    Publish::Barrier(done) => barriers.push(done),
                }
            }
            for (repo, log) in &mut self.logs {
                let is_gone = self.names.as_ref().is_some_and(|names| !names.has(repo));
                if is_gone && log.dot_hg.as_os_str().is_empty() {
                    self.untold.extend(log.give_up(repo));
                    continue;
                }
                self.untold.extend(log.write());
                if is_gone {
                    // Another daemon may serve it now: the log is not to stay locked.
                    log.writer = None;
                }
            }
            self.tell();
            self.say_what_waits();
            barriers.into_iter().for_each(|done| done(Ok(())));
        }
    }

    fn say_what_waits(&self) {
        let failing = self.logs.iter().filter_map(|(repo, log)| {
            let (results, why) = (log.ends.len(), log.failure.clone()?);
            Some((repo.clone(), Waiting { results, why }))
        });
        let failing: BTreeMap<_, _> = failing.collect();
        let mut said = self.unwritten.lock();
        if *said != failing {
            *said = failing;
        }
    }

    /// Tells the engine what is written, some time after the first of it was.
    fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        let now = Instant::now();
        if *self.tell_at.get_or_insert(now + TELL_AFTER) <= now {
            for publication in self.untold.drain(..) {
                self.scheduler.tell(Event::Published(publication));
            }
            self.tell_at = None;
        }
    }

    fn next_try(&self) -> Option<Instant> {
        self.logs.values().filter_map(|log| log.not_before.map(|(at, _)| at)).min()
    }

    fn serve(&mut self, repos: BTreeMap<String, (PathBuf, Origin)>) {
        for (repo, (dot_hg, origin)) in repos {
            let log = self.log(&repo);
            if (&log.dot_hg, &log.origin) != (&dot_hg, &origin) {
                (log.dot_hg, log.origin, log.writer) = (dot_hg, origin, None);
                log.not_before = None;
            }
        }
    }

    fn log(&mut self, repo: &str) -> &mut Log {
        self.logs.entry(repo.to_owned()).or_insert_with(|| Log {
            dot_hg: PathBuf::new(),
            origin: Origin::default(),
            writer: None,
            waiting: VecDeque::new(),
            ends: BTreeSet::new(),
            not_before: None,
            failure: None,
        })
    }
}

impl Log {
    /// Puts entries behind those that wait. While a log fails the engine asks again.
    fn add(&mut self, entries: Vec<Entry>, publication: Publication) {
        if self.failure.is_none() || self.waiting.iter().all(|(_, waits)| *waits != publication) {
            self.ends.extend(entries.iter().filter_map(end));
            self.waiting.push_back((entries, publication));
        }
    }

    /// Writes all that waits, unless it failed just now; returns what is written.
    fn write(&mut self) -> Vec<Publication> {
        if self.waiting.is_empty() {
            (self.not_before, self.failure) = (None, None);
            return Vec::new();
        }
        if self.not_before.is_some_and(|(at, _)| at > Instant::now()) {
            return Vec::new();
        }
        let entries: Vec<Entry> =
            self.waiting.iter().flat_map(|(entries, _)| entries.iter().cloned()).collect();
        match self.append(&entries) {
            Ok(()) => {
                (self.not_before, self.failure) = (None, None);
                self.ends.clear();
                self.waiting.drain(..).map(|(_, publication)| publication).collect()
            }
            Err(error) => {
                let pause = self.not_before.map_or(RETRY, |(_, pause)| (pause * 2).min(RETRY_MOST));
                self.not_before = Some((Instant::now() + pause, pause));
                tracing::error!(%error, waiting = self.waiting.len(), "results wait for their log");
                self.failure = Some(error);
                Vec::new()
            }
        }
    }

    /// The repository is no longer in the configuration, and where it is nobody knows: what waits is
    /// as good as written, for the store's history keeps how it ended.
    fn give_up(&mut self, repo: &str) -> Vec<Publication> {
        (self.not_before, self.failure) = (None, None);
        self.ends.clear();
        let given_up: Vec<_> = self.waiting.drain(..).map(|(_, publication)| publication).collect();
        for Publication { build, .. } in &given_up {
            tracing::warn!(
                repo, %build,
                "results are not written: the repository is no longer in the configuration"
            );
        }
        given_up
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        if self.dot_hg.as_os_str().is_empty() {
            return Err("the repository is not served now".into());
        }
        for try_again in [true, false] {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    let place = Place::new(&self.dot_hg);
                    let writer = Writer::open(&place, &self.origin).map_err(|e| e.to_string())?;
                    writer.notes().iter().for_each(|note| tracing::warn!("{note}"));
                    writer.damage().iter().for_each(|damage| tracing::error!("{damage}"));
                    none.insert(writer)
                }
            };
            match writer.append(entries) {
                Ok(appended) => {
                    if let Some(error) = appended.index {
                        tracing::warn!(%error, "the index of a results log is behind");
                    }
                    return Ok(());
                }
                Err(Error::Replaced { .. } | Error::Broken { .. }) if try_again => {
                    self.writer = None;
                }
                Err(error) => {
                    self.writer = None;
                    return Err(error.to_string());
                }
            }
        }
        Err("the results log is being replaced again and again".into())
    }
}

/// Of what an entry is the end: a build, or a job of it by its place in the plan.
fn end(entry: &Entry) -> Option<(BuildId, Option<u32>)> {
    match entry {
        Entry::Origin(_) => None,
        Entry::Job(job) => Some((job.build, Some(job.index))),
        Entry::Build(build) => Some((build.build, None)),
    }
}
