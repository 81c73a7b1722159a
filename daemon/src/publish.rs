//! Writes results into the logs of repositories: one thread, one writer for each log, one sync for
//! all that waits.
//!
//! What cannot be written now is kept and tried again, in order; the engine's rows bring it back
//! after a restart. Writing twice is harmless, since the log knows what it has. A log that is not
//! what it was is given back what the store's history has of it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use hgci_core::engine::{Event, Publication};
use hgci_core::result::{Entry, Origin};
use hgci_results::{Error, Place, Writer};
use tokio::sync::oneshot;

use crate::config::Names;
use crate::losses::Losses;
use crate::restore;
use crate::scheduler::Scheduler;
use crate::store::Store;
use crate::troubles::{Troubles, What};

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
    /// Look whether the log is still what it was.
    Look {
        /// The repository's name.
        repo: String,
    },
    /// To be called when all that came before is durable, or waits for a log that cannot be written
    /// now.
    Barrier(Box<dyn FnOnce() + Send>),
}

/// What the publisher works with.
pub struct Around {
    /// Told what is written.
    pub scheduler: Scheduler,
    /// Its history.
    pub store: Arc<Store>,
    /// Where it is said what was lost.
    pub losses: Arc<Losses>,
    /// Where it is said what cannot be written.
    pub troubles: Arc<Troubles>,
}

/// Starts the publisher. It ends when the last sender is gone; the receiver is told, also when it
/// ends in another way.
pub fn start(around: Around) -> std::io::Result<(Sender<Publish>, oneshot::Receiver<Infallible>)> {
    let (sender, inbox) = std::sync::mpsc::channel();
    let (ends, ended) = oneshot::channel();
    std::thread::Builder::new().name("publisher".into()).spawn(move || {
        let _dropped_at_the_end = ends;
        Publisher { around, logs: BTreeMap::new(), names: None, untold: Vec::new(), tell_at: None }
            .run(&inbox);
    })?;
    Ok((sender, ended))
}

struct Publisher {
    around: Around,
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
    /// After a failure: not before then, and the pause that led there.
    not_before: Option<(Instant, Duration)>,
    /// Why it fails.
    failure: Option<String>,
    /// The file as it was left, by device, number and size: it only grows, and by us alone.
    left: Option<(u64, u64, u64)>,
    /// It may not be what it was: it is compared with the store's history before anything is written.
    doubt: bool,
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
                    Publish::Look { repo } => {
                        if let Some(log) = self.logs.get_mut(&repo) {
                            log.look();
                        }
                    }
                    Publish::Barrier(done) => barriers.push(done),
                }
            }
            for (repo, log) in &mut self.logs {
                let is_gone = self.names.as_ref().is_some_and(|names| !names.has(repo));
                if is_gone && log.dot_hg.as_os_str().is_empty() {
                    self.untold.extend(log.give_up(repo));
                    self.around.troubles.clear(repo, What::Results);
                    continue;
                }
                self.untold.extend(log.write(&self.around, repo));
                match &log.failure {
                    Some(why) => {
                        let why = format!("{}: {why}", log.results());
                        self.around.troubles.set(repo, What::Results, why);
                    }
                    None => self.around.troubles.clear(repo, What::Results),
                }
                if is_gone {
                    // Another daemon may serve it now: the log is not to stay locked.
                    log.writer = None;
                }
            }
            self.tell();
            barriers.into_iter().for_each(|done| done());
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
                self.around.scheduler.tell(Event::Published(publication));
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
                (log.not_before, log.left, log.doubt) = (None, None, true);
            }
        }
    }

    fn log(&mut self, repo: &str) -> &mut Log {
        self.logs.entry(repo.to_owned()).or_insert_with(|| Log {
            dot_hg: PathBuf::new(),
            origin: Origin::default(),
            writer: None,
            waiting: VecDeque::new(),
            not_before: None,
            failure: None,
            left: None,
            doubt: false,
        })
    }
}

impl Log {
    /// How many results wait.
    fn results(&self) -> usize {
        self.waiting.iter().map(|(entries, _)| entries.len()).sum()
    }

    /// Puts entries behind those that wait. While a log fails the engine asks again.
    fn add(&mut self, entries: Vec<Entry>, publication: Publication) {
        if self.failure.is_none() || self.waiting.iter().all(|(_, waits)| *waits != publication) {
            self.waiting.push_back((entries, publication));
        }
    }

    /// Writes all that waits, unless it failed just now; returns what is written.
    fn write(&mut self, around: &Around, repo: &str) -> Vec<Publication> {
        if self.waiting.is_empty() && !self.doubt {
            (self.not_before, self.failure) = (None, None);
            return Vec::new();
        }
        if self.not_before.is_some_and(|(at, _)| at > Instant::now()) {
            return Vec::new();
        }
        let entries: Vec<Entry> =
            self.waiting.iter().flat_map(|(entries, _)| entries.iter().cloned()).collect();
        let compared = if self.doubt { self.compare(around, repo) } else { Ok(()) };
        let appended = match compared {
            Ok(()) if entries.is_empty() => Ok(()),
            Ok(()) => self.append(&entries),
            Err(why) => Err(why),
        };
        if appended.is_ok() && self.doubt {
            // It was replaced while it was appended to.
            return self.write(around, repo);
        }
        self.left = self.identity();
        match appended {
            Ok(()) => {
                (self.not_before, self.failure) = (None, None);
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
        let given_up: Vec<_> = self.waiting.drain(..).map(|(_, publication)| publication).collect();
        for Publication { build, .. } in &given_up {
            tracing::warn!(
                repo, %build,
                "results are not written: the repository is no longer in the configuration"
            );
        }
        given_up
    }

    /// The writer, opened where it is not.
    fn writer(&mut self) -> Result<&mut Writer, String> {
        if self.dot_hg.as_os_str().is_empty() {
            return Err("the repository is not served now".into());
        }
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => {
                let place = Place::new(&self.dot_hg);
                let writer = Writer::open(&place, &self.origin).map_err(|e| e.to_string())?;
                writer.notes().iter().for_each(|note| tracing::warn!("{note}"));
                let log = place.log();
                let damage = writer.damage();
                damage.iter().for_each(|damage| tracing::error!("{}: {damage}", log.display()));
                Ok(none.insert(writer))
            }
        }
    }

    /// Which file the log is, and how long it is.
    fn identity(&self) -> Option<(u64, u64, u64)> {
        let about = std::fs::symlink_metadata(Place::new(&self.dot_hg).log()).ok()?;
        Some((about.dev(), about.ino(), about.len()))
    }

    /// Doubts a log that is another one, or shorter, than when we left it.
    fn look(&mut self) {
        let Some((dev, ino, len)) = self.left else { return };
        let same = self.identity().is_some_and(|now| (now.0, now.1) == (dev, ino) && now.2 >= len);
        if !same {
            (self.writer, self.left, self.doubt) = (None, None, true);
        }
    }

    /// Gives a log that is not what it was what the store's history has of it.
    fn compare(&mut self, around: &Around, repo: &str) -> Result<(), String> {
        let place = Place::new(&self.dot_hg);
        if restore::has_lost(&around.store, &place, repo) {
            match restore::restore(&around.store, self.writer()?, repo) {
                Ok(0) => {}
                Ok(records) => around.losses.say(format!(
                    "{repo}: {} had lost results; {records} records are there again, from the \
                     store's history",
                    place.log().display()
                )),
                Err(error) => {
                    self.writer = None;
                    return Err(error.to_string());
                }
            }
        }
        self.doubt = false;
        Ok(())
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        for try_again in [true, false] {
            match self.writer()?.append(entries) {
                Ok(appended) => {
                    if let Some(error) = appended.index {
                        tracing::warn!(%error, "the index of a results log is behind");
                    }
                    return Ok(());
                }
                Err(Error::Replaced { .. } | Error::Broken { .. }) if try_again => {
                    (self.writer, self.doubt) = (None, true);
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
