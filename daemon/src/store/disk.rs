//! The sled database, and the descriptor that makes what it writes durable.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::error::{IoContext, StoreError, check_there};
use super::mirror::Numbers;
use super::record::{self, Stored};

/// Where the batch counter is stored in the tree of what is in flight.
pub(super) const COUNTER: &[u8] = &[0x01];

/// An open database.
pub(super) struct Disk {
    db: sled::Db,
    /// What is in flight, all of which is read at start.
    pub live: sled::Tree,
    /// What grows for ever.
    pub history: sled::Tree,
    data: File,
    path: PathBuf,
}

/// What the counter record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    /// Batches written so far.
    pub batches: u64,
    /// The wrapping sum of [`record::weight`] over all other records in flight.
    pub sum: u64,
    /// The highest numbers given out.
    pub numbers: Numbers,
}

impl Counter {
    /// The stored record.
    pub fn encode(&self) -> Vec<u8> {
        let fields = [self.batches, self.sum, self.numbers.push, self.numbers.build];
        let value: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        record::encode(COUNTER, 1, &value).remove(0).1
    }

    /// Reads a stored record.
    pub fn decode(bytes: &[u8]) -> Option<Counter> {
        let Ok(Stored::Whole { version: 1, value }) = record::decode(COUNTER, bytes) else {
            return None;
        };
        let mut fields = value.chunks_exact(8).map(|chunk| {
            let mut field = [0; 8];
            field.copy_from_slice(chunk);
            u64::from_le_bytes(field)
        });
        let mut next = || fields.next();
        Some(Counter {
            batches: next()?,
            sum: next()?,
            numbers: Numbers { push: next()?, build: next()? },
        })
    }
}

impl Disk {
    /// Opens or creates the database in a folder, and syncs the folder.
    pub fn open(path: &Path, cache: u64) -> Result<Disk, StoreError> {
        if !path.exists() {
            std::fs::DirBuilder::new().mode(0o700).create(path).on("create folder", path)?;
        }
        let (db, live, history) = guarded("open", || {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(cache)
                // Every batch is flushed by us: sled's own thread would only wake an idle machine.
                .flush_every_ms(None)
                .open()?;
            let live = db.open_tree("live")?;
            let history = db.open_tree("history")?;
            db.flush()?;
            Ok((db, live, history))
        })?;
        let file = path.join("db");
        let data = File::open(&file).on("open", &file)?;
        data.sync_all().on("sync", &file)?;
        for name in ["conf", "blobs", "."] {
            sync(&path.join(name))?;
        }
        if let Some(parent) = path.parent() {
            sync(parent)?;
        }
        Ok(Disk { db, live, history, data, path: file })
    }

    /// Writes to both trees, atomically and durably.
    pub fn write(&self, live: sled::Batch, history: Option<sled::Batch>) -> Result<(), StoreError> {
        guarded("write to", || {
            match history {
                None => self.live.apply_batch(live)?,
                Some(history) => {
                    let both = (&self.live, &self.history);
                    both.transaction(|(to_live, to_history)| {
                        to_history.apply_batch(&history)?;
                        to_live.apply_batch(&live)?;
                        Ok::<(), ConflictableTransactionError<()>>(())
                    })
                    .map_err(|error| match error {
                        TransactionError::Storage(error) => error,
                        TransactionError::Abort(()) => {
                            sled::Error::ReportableBug("aborted by nobody".into())
                        }
                    })?;
                }
            }
            self.db.flush()?;
            Ok(())
        })?;
        // sled's flush ends in sync_file_range, which leaves the drive's cache and the file's
        // length alone. The descriptor is always the same: the kernel reports a failed
        // write-back once to each descriptor that was open then.
        rustix::fs::fdatasync(&self.data).on("sync", &self.path)
    }

    /// Whether the data is still where it will be looked for.
    pub fn check_there(&self) -> Result<(), StoreError> {
        check_there(&self.data, &self.path, "")
    }

    /// The counter, where there is a sound one.
    pub fn counter(&self) -> Result<Option<Counter>, StoreError> {
        let stored = guarded("read", || self.live.get(COUNTER))?;
        Ok(stored.and_then(|bytes| Counter::decode(&bytes)))
    }
}

/// Calls sled, which reports some failures by panics.
///
/// Afterwards nothing is used of it but its destructors: the caller drops every handle.
pub(super) fn guarded<T>(
    operation: &'static str,
    call: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|source| StoreError::Sled { operation, source }),
        Err(panic) => Err(StoreError::Panicked { operation, message: panic_message(&*panic) }),
    }
}

/// The message of a panic, bounded.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    text.chars().take(500).collect()
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).on("sync", path)
}
