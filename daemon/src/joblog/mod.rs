//! Logs of attempts on disk: `logs/THOUSAND/BUILD/INDEX.N` in the state folder, appended by offset.
//!
//! A log is bytes as the job wrote them. Runners repeat what was not acknowledged, so an append
//! names its offset and what is there already is not written twice.

mod sweep;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hgci_api::run::LogOffset;
use hgci_core::{AttemptKey, BuildId};
use tokio::sync::watch;

use crate::metrics::Counter;

pub use sweep::Swept;

/// How many builds share a folder: one of a million entries is slow to list.
const GROUP: u64 = 1000;

/// What could not be done to a log.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}")]
pub struct LogError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl LogError {
    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The logs of one state folder.
pub struct JobLogs {
    root: PathBuf,
    /// Bytes kept of each log.
    limit: AtomicU64,
    /// Two calls about one attempt must not interleave; attempts share these by number.
    turns: [Mutex<()>; 64],
    /// Who waits for more of a log: the channel carries its length.
    watched: Mutex<HashMap<AttemptKey, watch::Sender<u64>>>,
    written: Counter,
}

impl JobLogs {
    /// Logs below `state/logs`, each cut at `limit` bytes.
    pub fn new(state: &Path, limit: u64) -> JobLogs {
        JobLogs {
            root: state.join("logs"),
            limit: AtomicU64::new(limit),
            turns: std::array::from_fn(|_| Mutex::new(())),
            watched: Mutex::default(),
            written: Counter::default(),
        }
    }

    /// From now on, logs are cut at so many bytes.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many bytes were written since the start.
    pub fn written(&self) -> &Counter {
        &self.written
    }

    fn folder(&self, build: BuildId) -> PathBuf {
        self.root.join((build.0 / GROUP).to_string()).join(build.to_string())
    }

    fn path(&self, attempt: AttemptKey) -> PathBuf {
        self.folder(attempt.job.build).join(format!("{}.{}", attempt.job.index, attempt.n))
    }

    /// Writes `bytes` at `offset`, which is where the caller believes the log to end.
    ///
    /// Returns where it ends now. A part that is there already is skipped; when there is a gap
    /// nothing is written, and the caller sends again from the offset returned.
    pub fn append(
        &self,
        attempt: AttemptKey,
        offset: u64,
        bytes: &[u8],
    ) -> Result<LogOffset, LogError> {
        let turn = (attempt.job.build.0 ^ u64::from(attempt.job.index)) as usize;
        let _turn =
            self.turns[turn % self.turns.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(attempt);
        let mut file = self.open_for_append(attempt, &path)?;
        let at = |doing| {
            let path = path.clone();
            move |source| LogError { doing, path, source }
        };
        let have = file.metadata().map_err(at("read the size of"))?.len();
        let Some(known) = have.checked_sub(offset) else {
            return Ok(LogOffset { offset: have, full: false });
        };
        let room = self.limit().saturating_sub(have);
        let new = bytes.get(usize::try_from(known).unwrap_or(usize::MAX)..).unwrap_or_default();
        let kept = &new[..new.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if let Err(error) = file.write_all(kept) {
            // What was written of it stays: the runner is told and goes on from there.
            let have = file.metadata().map_err(at("read the size of"))?.len();
            return if have > offset && error.kind() != io::ErrorKind::StorageFull {
                Ok(LogOffset { offset: have, full: false })
            } else {
                Err(at("append to")(error))
            };
        }
        let have = have + kept.len() as u64;
        self.written.add(kept.len() as u64);
        self.announce(attempt, have);
        Ok(LogOffset { offset: have, full: have >= self.limit() })
    }

    fn open_for_append(&self, attempt: AttemptKey, path: &Path) -> Result<File, LogError> {
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(self.folder(attempt.job.build))
                    .map_err(|source| LogError {
                        doing: "create the folder of",
                        path: path.into(),
                        source,
                    })?;
                open()
            }
            opened => opened,
        };
        opened.map_err(|source| LogError { doing: "open", path: path.into(), source })
    }

    /// At most `most` bytes from `offset`. Empty at the end, and for a log that nobody wrote.
    pub fn read(&self, attempt: AttemptKey, offset: u64, most: usize) -> Result<Vec<u8>, LogError> {
        let path = self.path(attempt);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => {
                opened.map_err(|source| LogError { doing: "open", path: path.clone(), source })?
            }
        };
        let length = file.metadata().map_err(|source| LogError {
            doing: "read the size of",
            path: path.clone(),
            source,
        })?;
        let there = usize::try_from(length.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(there)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(LogError { doing: "read", path, source }),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Whether there is one: a job that wrote nothing has none.
    pub fn is_there(&self, attempt: AttemptKey) -> bool {
        self.path(attempt).exists()
    }

    /// The length of a log; 0 where nobody wrote one.
    pub fn len(&self, attempt: AttemptKey) -> u64 {
        fs::metadata(self.path(attempt)).map_or(0, |metadata| metadata.len())
    }

    /// The last `most` bytes of a log.
    pub fn tail(&self, attempt: AttemptKey, most: usize) -> Result<Vec<u8>, LogError> {
        self.read(attempt, self.len(attempt).saturating_sub(most as u64), most)
    }

    /// A channel that carries the length of the log as it grows, for as long as it is held.
    pub fn watch(&self, attempt: AttemptKey) -> watch::Receiver<u64> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(attempt).or_insert_with(|| watch::channel(self.len(attempt)).0).subscribe()
    }

    /// Wakes those who wait for more of a log that is over.
    pub fn finished(&self, attempt: AttemptKey) {
        self.announce(attempt, self.len(attempt));
    }

    fn announce(&self, attempt: AttemptKey, length: u64) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&attempt) {
            sender.send_replace(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use hgci_core::JobKey;

    use super::*;

    const ATTEMPT: AttemptKey = AttemptKey { job: JobKey { build: BuildId(7), index: 0 }, n: 1 };

    fn logs(limit: u64) -> (tempfile::TempDir, JobLogs) {
        let folder = tempfile::tempdir().unwrap();
        let logs = JobLogs::new(folder.path(), limit);
        (folder, logs)
    }

    #[test]
    fn what_is_sent_twice_is_kept_once() {
        let (_folder, logs) = logs(1000);
        assert_eq!(logs.append(ATTEMPT, 0, b"one\n").unwrap().offset, 4);
        assert_eq!(logs.append(ATTEMPT, 0, b"one\n").unwrap().offset, 4);
        assert_eq!(logs.append(ATTEMPT, 2, b"e\ntwo\n").unwrap().offset, 8);
        assert_eq!(logs.read(ATTEMPT, 0, 100).unwrap(), b"one\ntwo\n");
        assert_eq!(logs.read(ATTEMPT, 4, 2).unwrap(), b"tw");
        assert_eq!(logs.tail(ATTEMPT, 4).unwrap(), b"two\n");
    }

    #[test]
    fn a_gap_is_refused_with_the_offset_to_go_on_from() {
        let (_folder, logs) = logs(1000);
        logs.append(ATTEMPT, 0, b"one\n").unwrap();
        let answer = logs.append(ATTEMPT, 9, b"three\n").unwrap();
        assert_eq!(answer, LogOffset { offset: 4, full: false });
        assert_eq!(logs.read(ATTEMPT, 0, 100).unwrap(), b"one\n");
    }

    #[test]
    fn a_log_is_cut_at_its_limit() {
        let (_folder, logs) = logs(6);
        let answer = logs.append(ATTEMPT, 0, b"one\ntwo\n").unwrap();
        assert_eq!(answer, LogOffset { offset: 6, full: true });
        assert!(logs.append(ATTEMPT, 6, b"more").unwrap().full);
        assert_eq!(logs.read(ATTEMPT, 0, 100).unwrap(), b"one\ntw");
        logs.set_limit(8);
        assert!(logs.append(ATTEMPT, 6, b"o\nthree\n").unwrap().full);
        assert_eq!(logs.read(ATTEMPT, 0, 100).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_log_that_nobody_wrote_is_empty() {
        let (_folder, logs) = logs(6);
        assert_eq!(logs.read(ATTEMPT, 5, 100).unwrap(), b"");
        assert_eq!(logs.len(ATTEMPT), 0);
    }

    #[test]
    fn who_waits_hears_of_more_and_of_the_end() {
        let (_folder, logs) = logs(100);
        let mut watch = logs.watch(ATTEMPT);
        logs.append(ATTEMPT, 0, b"one\n").unwrap();
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), 4);
        logs.finished(ATTEMPT);
        assert!(watch.has_changed().unwrap());
    }
}
