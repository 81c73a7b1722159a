//! Reading: one record, a page of records, or all of a tree.

use std::ops::Bound;

use super::disk::{Disk, guarded};
use super::record::{self, Stored};
use super::{MAX_VALUE, Store, StoreError, Tree};

/// A record as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// [`Tree::version`] of the program that wrote it.
    pub version: u8,
    /// Its value.
    pub value: Vec<u8>,
}

/// Which records of a tree to read, and in which order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan<'a> {
    /// Only keys that start so.
    pub prefix: &'a [u8],
    /// Only keys that come after this one in the order of the scan: the last one of the page
    /// before.
    pub after: Option<&'a [u8]>,
    /// From the largest key to the smallest.
    pub backwards: bool,
}

impl Store {
    /// The record of a key.
    pub fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.reading(tree, |disk, from| {
            let stored = record::stored_key(tree, key);
            match guarded("read", || from.get(&stored))? {
                None => Ok(None),
                Some(bytes) => row(disk, tree, key, &bytes).map(Some),
            }
        })
    }

    /// At most `limit` records. Damaged ones are left out, with a line in the log.
    pub fn scan(&self, tree: Tree, scan: Scan<'_>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        if limit > 0 {
            self.visit(tree, scan, |row| {
                rows.push(row);
                rows.len() < limit
            })?;
        }
        Ok(rows)
    }

    /// Calls `each` with records until it returns false. Damaged ones are left out, with a line
    /// in the log. Nothing may be written meanwhile by the same thread.
    pub fn visit(
        &self,
        tree: Tree,
        scan: Scan<'_>,
        mut each: impl FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        let first = record::stored_key(tree, scan.prefix);
        let mut low = Bound::Included(first.clone());
        let mut high = after_prefix(&first).map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(after) = scan.after {
            let after = Bound::Excluded(record::stored_key(tree, after));
            if scan.backwards {
                high = after;
            } else {
                low = after;
            }
        }
        if is_empty(&low, &high) {
            return Ok(());
        }
        self.reading(tree, |disk, from| {
            let mut entries = guarded("read", || Ok(from.range::<Vec<u8>, _>((low, high))))?;
            loop {
                let next = guarded("read", || {
                    let next = if scan.backwards { entries.next_back() } else { entries.next() };
                    next.transpose()
                })?;
                // Bounds from a caller's `after` may lie outside of the prefix.
                let Some((key, bytes)) = next.filter(|(key, _)| key.starts_with(&first)) else {
                    return Ok(());
                };
                match row(disk, tree, &key[1..], &bytes) {
                    Ok(row) => {
                        if !each(row) {
                            return Ok(());
                        }
                    }
                    Err(error @ StoreError::Damaged { .. }) => {
                        tracing::warn!(%error, "left out of a list");
                    }
                    Err(error) => return Err(error),
                }
            }
        })
    }

    /// How many records have keys that start so, damaged ones among them. Reads no value that is
    /// in chunks.
    pub fn count(&self, tree: Tree, prefix: &[u8]) -> Result<usize, StoreError> {
        self.reading(tree, |_, from| {
            let mut keys = from.scan_prefix(record::stored_key(tree, prefix)).keys();
            guarded("read", || keys.try_fold(0, |n, key| key.map(|_| n + 1)))
        })
    }

    fn reading<T>(
        &self,
        tree: Tree,
        read: impl FnOnce(&Disk, &sled::Tree) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let disk = self.disk.read();
        let disk = disk.as_ref().ok_or(StoreError::Closed)?;
        let is_history = tree.is_history();
        let result = read(disk, if is_history { &disk.history } else { &disk.live });
        if is_history && result.as_ref().is_err_and(StoreError::is_damage) {
            self.history.met_damage();
        }
        result
    }
}

/// The value of a stored record, put together from its chunks where it has any.
fn row(disk: &Disk, tree: Tree, key: &[u8], bytes: &[u8]) -> Result<Row, StoreError> {
    let damaged = |why| StoreError::Damaged { tree, key: key.to_vec(), why };
    let stored = record::stored_key(tree, key);
    match record::decode(&stored, bytes).map_err(damaged)? {
        Stored::Whole { version, value } => {
            Ok(Row { key: key.to_vec(), version, value: value.to_vec() })
        }
        Stored::Part { .. } => Err(damaged("a chunk in place of a record")),
        Stored::Head { len, .. } if len > MAX_VALUE => Err(damaged("longer than any record")),
        Stored::Head { version, len, crc } => {
            let from = if tree.is_history() { &disk.history } else { &disk.live };
            let mut value = Vec::with_capacity(len);
            for key in record::chunk_keys(&stored, len) {
                let bytes = guarded("read", || from.get(&key))?;
                let bytes = bytes.ok_or_else(|| damaged("a chunk is missing"))?;
                match record::decode(&key, &bytes).map_err(damaged)? {
                    Stored::Part { value: part } => value.extend_from_slice(part),
                    _ => return Err(damaged("a record in place of a chunk")),
                }
            }
            if value.len() != len || crc32c::crc32c(&value) != crc {
                return Err(damaged("chunks of different values"));
            }
            Ok(Row { key: key.to_vec(), version, value })
        }
    }
}

/// The smallest key that is larger than all that start with `prefix`.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// Whether a range has no room for any key; sled panics on some such ranges.
fn is_empty(low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> bool {
    match (low, high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}
