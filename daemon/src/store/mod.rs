//! What is in flight and the history that the API shows, kept by sled.
//!
//! This room alone knows sled. To the rest of the daemon a store is a set of [`Tree`]s of keys
//! and values, changed by a [`Batch`] that is durable when [`Store::commit`] returns. The store
//! can be lost, and says so at opening: see [`OpenReport`].
//!
//! - `tree`, `batch`: what there is, and what is written together
//! - `record`: the stored form of a record, with versions, checksum and chunks
//! - `disk`: the database, and how it is made durable
//! - `mirror`: the batch counter in a file of its own
//! - `probe`, `open`: opening under a deadline in a child process, setting aside, the report
//! - `history`: what is done when damage is met in what is over
//! - `lock`: one daemon for one state folder
//!
//! In the state folder it owns `store/`, `store.count`, `store.aside-*/`,
//! `store.new/` and `lock`.

mod batch;
mod disk;
mod error;
mod history;
mod lock;
mod mirror;
mod open;
pub mod probe;
mod read;
mod record;
mod tree;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

pub use batch::Batch;
pub use error::StoreError;
pub use lock::holder;
pub use mirror::Numbers;
pub use open::{OpenReport, Opened};
pub use read::{Row, Scan};
pub use tree::Tree;

use crate::metrics::{self, Histogram};
use disk::{COUNTER, Counter, Disk, guarded};
use error::IoContext;
use history::History;
use lock::Lock;
use mirror::{Count, Mirror};
use record::Stored;

/// The most bytes that a key may have.
pub const MAX_KEY: usize = 400;

/// The most bytes that a value may have.
pub const MAX_VALUE: usize = 4 << 20;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `hgcid` that is run as `hgcid store-probe DIR`, to try a store before it is opened.
    pub probe: PathBuf,
    /// How long opening may take, for a small store; a second more for each 20 MiB.
    pub deadline: Duration,
    /// Bytes of sled's cache.
    pub cache: u64,
    /// Bytes of the file system that the store leaves free: below it batches are refused before
    /// they are tried, since sled does not survive a full disk.
    pub reserve: u64,
    /// How many stores that could not be used are kept.
    pub keep_aside: usize,
}

impl Options {
    /// The default of `cache`.
    pub const CACHE: u64 = 16 << 20;

    /// The defaults, with the program that probes.
    pub fn new(probe: impl Into<PathBuf>) -> Options {
        Options {
            probe: probe.into(),
            deadline: Duration::from_secs(30),
            cache: Options::CACHE,
            reserve: 8 << 20,
            keep_aside: 3,
        }
    }
}

/// An open store. One thread writes; any may read meanwhile.
pub struct Store {
    state: PathBuf,
    options: Options,
    /// `None` between a failed write and the next opening.
    disk: RwLock<Option<Disk>>,
    writer: Mutex<Writer>,
    figures: Figures,
    history: History,
    lock: Lock,
}

/// What a store has done since it was opened.
#[derive(Debug, Default)]
pub struct Figures {
    /// How long batches took to be durable.
    pub(crate) batches: Histogram,
    /// Records that they touched.
    pub(crate) records: metrics::Counter,
    /// Batches that were refused.
    pub(crate) failures: metrics::Counter,
}

/// What only a writer needs.
struct Writer {
    mirror: Mirror,
    counter: Counter,
}

impl Store {
    /// Opens the store of a state folder, which is made if it is not there, and locks the folder.
    pub fn open(state: &Path, options: Options) -> Result<(Store, OpenReport), StoreError> {
        if !state.exists() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(state)
                .on("create folder", state)?;
        }
        let lock = Lock::take(state)?;
        check_room(state, options.reserve)?;
        let (parts, report) = open::open(state, &options, false)?;
        let store = Store {
            state: state.to_owned(),
            options,
            disk: RwLock::new(Some(parts.disk)),
            writer: Mutex::new(Writer { mirror: parts.mirror, counter: parts.counter }),
            figures: Figures::default(),
            history: History::default(),
            lock,
        };
        Ok((store, report))
    }

    /// Closes and opens again. To be called after a failed [`Store::commit`], until it succeeds;
    /// then whatever is kept in memory is to be read anew: the batch that failed may be there or
    /// not.
    pub fn reopen(&self) -> Result<OpenReport, StoreError> {
        let mut writer = self.writer.lock();
        self.close();
        self.lock.check_there()?;
        check_room(&self.state, self.options.reserve)?;
        let (parts, mut report) = open::open(&self.state, &self.options, self.history.is_lost())?;
        if report.how == Opened::New && writer.counter.batches > 0 {
            // All of it was taken away, with the sign that there had been one.
            report.how = Opened::Fresh;
        }
        self.history.opened();
        *writer = Writer { mirror: parts.mirror, counter: parts.counter };
        *self.disk.write() = Some(parts.disk);
        Ok(report)
    }

    /// Writes a batch; it is durable when this returns `Ok`. With an empty one, only looks whether
    /// the store's files are still there.
    ///
    /// After an error with which something was tried the store is closed: see [`Store::reopen`]. Not
    /// tried is what is too large or has no room, or while the state folder is not there.
    pub fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        for ((tree, key), value) in &batch.changes {
            let value = value.as_ref().map_or(0, Vec::len);
            if key.len() > MAX_KEY || value > MAX_VALUE {
                return Err(StoreError::TooLarge { tree: *tree, key: key.len(), value });
            }
        }
        let mut writer = self.writer.lock();
        if self.history.is_suspect() && !batch.is_empty() {
            self.figures.failures.one();
            self.close();
            return Err(StoreError::History);
        }
        let started = Instant::now();
        let tried = self.lock.check_there().and_then(|()| match batch.is_empty() {
            true => Ok(()),
            false => check_room(&self.state, self.options.reserve),
        });
        let result = tried.and_then(|()| {
            let disk = self.disk.read();
            let disk = disk.as_ref().ok_or(StoreError::Closed)?;
            let written = if batch.is_empty() { Ok(()) } else { writer.write(disk, batch) };
            // Last: files that are gone take all that is written into them.
            Ok(written.and_then(|()| disk.check_there()).and_then(|()| writer.mirror.check_there()))
        });
        match &result {
            Ok(Ok(())) if batch.is_empty() => {}
            Ok(Ok(())) => {
                self.figures.batches.took(started.elapsed());
                self.figures.records.add(batch.len() as u64);
            }
            Ok(Err(error)) => {
                if error.is_damage() && batch.changes().any(|(tree, ..)| tree.is_history()) {
                    self.history.met_damage();
                }
                self.figures.failures.one();
                self.close();
            }
            Err(_) => self.figures.failures.one(),
        }
        result.and_then(|written| written)
    }

    /// What it has done.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Whether a failed write has closed it.
    pub fn is_closed(&self) -> bool {
        self.disk.read().is_none()
    }

    /// Drops every handle. sled's destructors try to write, and may panic where they cannot.
    fn close(&self) {
        let disk = self.disk.write().take();
        let _ = guarded("close", || {
            drop(disk);
            Ok(())
        });
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Writer {
    fn write(&mut self, disk: &Disk, batch: &Batch) -> Result<(), StoreError> {
        let mut counter = Counter {
            batches: self.counter.batches + 1,
            sum: self.counter.sum,
            numbers: self.counter.numbers.max(batch.numbers),
        };
        let (mut live, mut history) = (sled::Batch::default(), None);
        for ((tree, key), value) in &batch.changes {
            let key = record::stored_key(*tree, key);
            let (from, to) = if tree.is_history() {
                (&disk.history, history.get_or_insert_with(sled::Batch::default))
            } else {
                (&disk.live, &mut live)
            };
            let mut sum = 0u64;
            for (key, old) in stored_records(from, &key)? {
                sum = sum.wrapping_sub(record::weight(&old));
                to.remove(key);
            }
            if let Some(value) = value {
                for (key, new) in record::encode(&key, tree.version(), value) {
                    sum = sum.wrapping_add(record::weight(&new));
                    to.insert(key, new);
                }
            }
            if !tree.is_history() {
                counter.sum = counter.sum.wrapping_add(sum);
            }
        }
        live.insert(COUNTER, counter.encode());
        disk.write(live, history)?;
        let new_numbers = counter.numbers != self.counter.numbers;
        let count = Count { batches: counter.batches, numbers: counter.numbers };
        self.mirror.write(count, new_numbers)?;
        self.counter = counter;
        Ok(())
    }
}

/// What is stored for a record now: itself, and its chunks if it has any.
fn stored_records(tree: &sled::Tree, key: &[u8]) -> Result<Vec<(Vec<u8>, sled::IVec)>, StoreError> {
    guarded("read", || {
        let Some(bytes) = tree.get(key)? else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        if let Ok(Stored::Head { len, .. }) = record::decode(key, &bytes) {
            for key in record::chunk_keys(key, len.min(MAX_VALUE)) {
                if let Some(bytes) = tree.get(&key)? {
                    records.push((key, bytes));
                }
            }
        }
        records.push((key.to_vec(), bytes));
        Ok(records)
    })
}

/// Refuses where less than the reserve is free.
fn check_room(dir: &Path, reserve: u64) -> Result<(), StoreError> {
    let room = rustix::fs::statvfs(dir).on("examine the file system of", dir)?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < reserve {
        return Err(StoreError::NoRoom { dir: dir.to_owned(), free, reserve });
    }
    Ok(())
}
