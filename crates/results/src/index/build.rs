//! Keeping the index current: the writer's side.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use hgci_core::Node;

use super::search::Index;
use super::{Header, Key, MAX_RUNS, MAX_TAIL, PAGE, Prefix, RUN_KEYS, Run, pack};
use crate::error::{At, Error};
use crate::header::{HEADER_LEN, LogId};
use crate::place::Place;
use crate::recover::is_at;

/// How many keys are gathered in memory while an index is made anew: 12 MB.
const BULK: usize = 1_000_000;

/// How many pages are written at once while merging.
const WRITE_PAGES: usize = 64;

/// The index as its writer sees it. It holds the keys of all runs but the first in memory (at most
/// 800 kB), and those that are in no run yet.
pub(crate) struct Indexer {
    place: Place,
    path: PathBuf,
    log: LogId,
    on_disk: Option<OnDisk>,
    /// Keys that are in no run.
    pending: Vec<Key>,
    /// Every record below it is in a run or in `pending`.
    upto: u64,
}

struct OnDisk {
    index: Index,
    /// The sorted keys of `index.header.runs[1..]`.
    recent: Vec<Vec<Key>>,
}

/// The index cannot be read, or is not at its place; it must be made anew.
pub(crate) struct Damaged;

impl Indexer {
    /// Opens the index of a log of which `committed` bytes count, reading all of it. What is
    /// missing, damaged or of another log is as good as empty.
    pub fn open(place: &Place, log: LogId, committed: u64) -> Result<Indexer, Error> {
        let mut indexer = Indexer::empty(place, log);
        if let Ok(index) = Index::open(place, log)?
            && index.covered() <= committed
            && let Some(recent) = load(&index)?
        {
            // The handle of a reader cannot write.
            let file = place.open_file(&indexer.path, true).at("open", &indexer.path)?;
            indexer.upto = index.covered();
            indexer.on_disk = Some(OnDisk { index: Index { file, ..index }, recent });
        }
        Ok(indexer)
    }

    /// An index that has no run yet; what is on disk will be replaced.
    pub fn empty(place: &Place, log: LogId) -> Indexer {
        Indexer {
            place: place.clone(),
            path: place.index(),
            log,
            on_disk: None,
            pending: Vec::new(),
            upto: HEADER_LEN,
        }
    }

    /// Up to where records are known here.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// A record of `node` lies at `offset` and ends at `end`.
    pub fn add(&mut self, node: &Node, offset: u64, end: u64) {
        self.pending.push(Key::new(node, offset));
        self.upto = end;
    }

    /// There is nothing to look up below `end`.
    pub fn skip_to(&mut self, end: u64) {
        self.upto = end;
    }

    /// Writes what is pending if it is much. All of it must be committed in the log.
    pub fn settle(&mut self) -> Result<Result<(), Damaged>, Error> {
        // An index of another log, or none, is replaced at once: a reader could do nothing with it.
        let Some(disk) = &self.on_disk else { return self.merge() };
        // Deleted or replaced: nobody would read what is written there.
        if !is_at(&disk.index.file, &self.path) {
            return Ok(Err(Damaged));
        }
        let little = self.pending.len() < RUN_KEYS;
        if little && self.upto - disk.index.covered() < MAX_TAIL {
            return Ok(Ok(()));
        }
        // What is appended to no run at all would be the first run, which is not held in memory.
        let runs = disk.index.header.runs.len();
        if (1..MAX_RUNS).contains(&runs) && self.pending.len() <= 8 * RUN_KEYS {
            self.append_run().map(Ok)
        } else {
            self.merge()
        }
    }

    /// Like [`Indexer::settle`], while many records are added: keeps memory bounded.
    pub fn settle_bulk(&mut self) -> Result<Result<(), Damaged>, Error> {
        if self.pending.len() < BULK { Ok(Ok(())) } else { self.merge() }
    }

    /// The offsets of the records of `node`, ascending.
    pub fn offsets(&self, node: &Node) -> Result<Result<Vec<u64>, Damaged>, Error> {
        let mut offsets = Vec::new();
        if let Some(disk) = &self.on_disk {
            if let Some(first) = disk.index.header.runs.first()
                && disk.index.search(first, node, usize::MAX, &mut offsets)?.is_err()
            {
                return Ok(Err(Damaged));
            }
            offsets.reverse();
            for keys in &disk.recent {
                let start = keys.partition_point(|key| *key < Key::new(node, 0));
                let of_node = keys[start..].iter().take_while(|key| key.is_of(node));
                offsets.extend(of_node.map(Key::offset));
            }
        }
        offsets.extend(self.pending.iter().filter(|key| key.is_of(node)).map(Key::offset));
        Ok(Ok(offsets))
    }

    /// The offsets of the records of many changesets, and rarely of one that starts with the same
    /// bytes, ascending. It reads the whole index, once.
    pub fn offsets_among(
        &self,
        nodes: &HashSet<Prefix>,
    ) -> Result<Result<Vec<u64>, Damaged>, Error> {
        let mut offsets = Vec::new();
        let mut add = |key: Key| {
            if nodes.contains(&key.prefix()) {
                offsets.push(key.offset());
            }
        };
        if let Some(disk) = &self.on_disk {
            if let Some(first) = disk.index.header.runs.first() {
                for n in 0..first.pages() {
                    let Some(page) = disk.index.page(first, n)? else { return Ok(Err(Damaged)) };
                    page.keys().for_each(&mut add);
                }
            }
            disk.recent.iter().flatten().copied().for_each(&mut add);
        }
        self.pending.iter().copied().for_each(&mut add);
        offsets.sort_unstable();
        Ok(Ok(offsets))
    }

    fn append_run(&mut self) -> Result<(), Error> {
        let Some(disk) = &mut self.on_disk else { return Ok(()) };
        self.pending.sort_unstable();
        let run = Run { first: disk.index.header.pages(), keys: self.pending.len() as u64 };
        let bytes = pack(&self.pending, &disk.index.header.id, run.first);
        let file = &disk.index.file;
        file.write_all_at(&bytes, run.first * PAGE as u64).at("write", &self.path)?;
        file.sync_data().at("sync", &self.path)?;
        let mut header = disk.index.header.clone();
        if !self.pending.is_empty() {
            header.runs.push(run);
            disk.recent.push(std::mem::take(&mut self.pending));
        }
        header.covered = self.upto;
        disk.index.header = header;
        disk.index.header.write(file, &self.path)
    }

    /// Writes a new file with one run and puts it in the place of the old one.
    fn merge(&mut self) -> Result<Result<(), Damaged>, Error> {
        let mut fresh = self.pending.clone();
        if let Some(disk) = &self.on_disk {
            fresh.extend(disk.recent.iter().flatten());
        }
        fresh.sort_unstable();

        let path = self.path.with_extension("idx.new");
        self.place.remove(&path)?;
        let file = self.place.create(&path)?;
        let id = LogId::random(&path)?.0;
        let mut run = Run { first: 1, keys: 0 };
        let mut out = Vec::with_capacity(WRITE_PAGES * super::KEYS_PER_PAGE);
        let mut put = |key: Key, run: &mut Run| -> Result<(), Error> {
            out.push(key);
            if out.len() == out.capacity() {
                write_pages(&file, &path, &id, run, &mut out)
            } else {
                Ok(())
            }
        };
        let mut fresh = fresh.into_iter().peekable();
        if let Some(disk) = &self.on_disk
            && let Some(first) = disk.index.header.runs.first()
        {
            for n in 0..first.pages() {
                let Some(page) = disk.index.page(first, n)? else { return Ok(Err(Damaged)) };
                for old in page.keys() {
                    while let Some(new) = fresh.next_if(|new| *new < old) {
                        put(new, &mut run)?;
                    }
                    put(old, &mut run)?;
                }
            }
        }
        for new in fresh {
            put(new, &mut run)?;
        }
        write_pages(&file, &path, &id, &mut run, &mut out)?;

        let runs = if run.keys == 0 { Vec::new() } else { vec![run] };
        let header = Header { id, log: self.log, covered: self.upto, runs };
        header.write(&file, &path)?;
        file.sync_data().at("sync", &path)?;
        self.place.rename(&path, &self.path).at("rename", &path)?;
        let index = Index { path: self.path.clone(), file, header };
        self.on_disk = Some(OnDisk { index, recent: Vec::new() });
        self.pending.clear();
        Ok(Ok(()))
    }
}

fn write_pages(
    file: &File,
    path: &std::path::Path,
    id: &[u8; 16],
    run: &mut Run,
    keys: &mut Vec<Key>,
) -> Result<(), Error> {
    // All but the last call come with full pages, so the next page is behind them.
    let first = run.first + run.pages();
    file.write_all_at(&pack(keys, id, first), first * PAGE as u64).at("write", path)?;
    run.keys += keys.len() as u64;
    keys.clear();
    Ok(())
}

/// Checks every page, and returns the keys of all runs but the first.
fn load(index: &Index) -> Result<Option<Vec<Vec<Key>>>, Error> {
    let mut recent = Vec::new();
    for (n, run) in index.header.runs.iter().enumerate() {
        let mut keys = Vec::new();
        for page in 0..run.pages() {
            let Some(page) = index.page(run, page)? else { return Ok(None) };
            if n > 0 {
                keys.extend(page.keys());
            }
        }
        if n > 0 {
            recent.push(keys);
        }
    }
    Ok(Some(recent))
}
