//! The index: from a changeset to the offsets of its records. It can be thrown away at any time.
//!
//! The file is pages of 4096 bytes. Page 0 is the header: which log it belongs to, up to where it
//! covers it, and where its runs are. A run is pages of sorted keys; a key is the first 6 bytes of
//! the node and the record's offset, both big endian, so that keys sort as bytes. The first run is
//! large, those behind it are what was appended since; when there are too many, all are merged into
//! the first run of a new file, which replaces the old one by rename.
//!
//! Pages of runs never change once the header names them. Each page ends in a CRC-32C over the
//! file's random id, the page's number and its content, so that neither a flipped bit nor a page
//! that never reached the disk is taken for an answer: whoever finds one reads the log instead.

mod build;
mod memory;
mod search;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) use build::Indexer;
use hgci_core::Node;
pub(crate) use memory::Memory;
pub(crate) use search::Index;

use crate::error::{At, Error};
use crate::header::{LogId, array, read_up_to};

const PAGE: usize = 4096;
const KEYS_PER_PAGE: usize = 341;
const CRC_AT: usize = KEYS_PER_PAGE * Key::LEN;
const _: () = assert!(CRC_AT + 4 == PAGE);

const MAGIC: &[u8; 8] = b"hgci idx";
const FORMAT: u16 = 1;

/// Keys of a run that was appended: 6 full pages.
const RUN_KEYS: usize = 6 * KEYS_PER_PAGE;

/// The most runs that a file has before all are merged into one.
const MAX_RUNS: usize = 32;

/// A run is written, however few keys it has, when so many bytes of the log are not covered.
const MAX_TAIL: u64 = 1 << 20;

/// What a key has of a node: its first bytes.
pub(crate) type Prefix = [u8; 6];

/// What the keys of a changeset have of its node.
pub(crate) fn prefix(node: &Node) -> Prefix {
    array(&node.0[..6])
}

/// The first bytes of a node, and the offset of a record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key([u8; Key::LEN]);

impl Key {
    const LEN: usize = 12;

    fn new(node: &Node, offset: u64) -> Key {
        let mut key = [0; Key::LEN];
        key[..6].copy_from_slice(&node.0[..6]);
        // 48 bits are enough for a log of 256 TiB.
        key[6..].copy_from_slice(&offset.to_be_bytes()[2..]);
        Key(key)
    }

    fn is_of(&self, node: &Node) -> bool {
        self.prefix() == prefix(node)
    }

    fn prefix(&self) -> Prefix {
        array(&self.0[..6])
    }

    fn offset(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[6..]);
        u64::from_be_bytes(bytes)
    }
}

/// A run: `keys` sorted keys from page `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    keys: u64,
}

impl Run {
    fn pages(&self) -> u64 {
        self.keys.div_ceil(KEYS_PER_PAGE as u64)
    }

    /// How many keys there are on the `n`-th page of the run.
    fn keys_on(&self, n: u64) -> usize {
        (self.keys - n * KEYS_PER_PAGE as u64).min(KEYS_PER_PAGE as u64) as usize
    }
}

/// Page 0.
#[derive(Clone, Debug)]
struct Header {
    /// Random; part of every page's checksum.
    id: [u8; 16],
    log: LogId,
    /// Every record of the log below this offset has its key here.
    covered: u64,
    runs: Vec<Run>,
}

impl Header {
    /// `None` where there is no such header, or no whole one.
    fn read(file: &File, path: &Path) -> Result<Option<Header>, Error> {
        let mut page = [0; PAGE];
        let n = read_up_to(file, &mut page, 0).at("read", path)?;
        let id = array(&page[16..32]);
        if n < PAGE || !page.starts_with(MAGIC) || !is_sealed(&page, &id, 0) {
            return Ok(None);
        }
        let number = |at: usize| u64::from_le_bytes(array(&page[at..at + 8]));
        let count = u16::from_le_bytes([page[10], page[11]]) as usize;
        if page[8..10] != FORMAT.to_le_bytes() || count > MAX_RUNS + 1 {
            return Ok(None);
        }
        let runs = (0..count)
            .map(|n| Run { first: number(64 + n * 16), keys: number(72 + n * 16) })
            .collect();
        Ok(Some(Header { id, log: LogId(array(&page[32..48])), covered: number(48), runs }))
    }

    fn write(&self, file: &File, path: &Path) -> Result<(), Error> {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(MAGIC);
        page[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        page[10..12].copy_from_slice(&(self.runs.len() as u16).to_le_bytes());
        page[16..32].copy_from_slice(&self.id);
        page[32..48].copy_from_slice(&self.log.0);
        page[48..56].copy_from_slice(&self.covered.to_le_bytes());
        for (n, run) in self.runs.iter().enumerate() {
            page[64 + n * 16..72 + n * 16].copy_from_slice(&run.first.to_le_bytes());
            page[72 + n * 16..80 + n * 16].copy_from_slice(&run.keys.to_le_bytes());
        }
        seal(&mut page, &self.id, 0);
        file.write_all_at(&page, 0).at("write", path)
    }

    /// The first page behind all runs.
    fn pages(&self) -> u64 {
        self.runs.last().map_or(1, |run| run.first + run.pages())
    }
}

fn checksum(page: &[u8; PAGE], id: &[u8; 16], number: u64) -> [u8; 4] {
    let seed = crc32c::crc32c_append(crc32c::crc32c(id), &number.to_le_bytes());
    crc32c::crc32c_append(seed, &page[..CRC_AT]).to_le_bytes()
}

fn seal(page: &mut [u8; PAGE], id: &[u8; 16], number: u64) {
    let crc = checksum(page, id, number);
    page[CRC_AT..].copy_from_slice(&crc);
}

fn is_sealed(page: &[u8; PAGE], id: &[u8; 16], number: u64) -> bool {
    page[CRC_AT..] == checksum(page, id, number)
}

/// Puts sorted keys into pages; the rest of the last page is zero.
fn pack(keys: &[Key], id: &[u8; 16], first: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(keys.len().div_ceil(KEYS_PER_PAGE) * PAGE);
    for (number, keys) in (first..).zip(keys.chunks(KEYS_PER_PAGE)) {
        let mut page = [0; PAGE];
        for (slot, key) in page.chunks_exact_mut(Key::LEN).zip(keys) {
            slot.copy_from_slice(&key.0);
        }
        seal(&mut page, id, number);
        bytes.extend(page);
    }
    bytes
}

/// A page of a run, in memory. Boxed, since a lookup holds one per run.
struct Page {
    bytes: Box<[u8; PAGE]>,
    keys: usize,
}

impl Page {
    /// Reads the `n`-th page of a run; `None` where it is not what was written.
    fn read(
        file: &File,
        path: &Path,
        id: &[u8; 16],
        run: &Run,
        n: u64,
    ) -> Result<Option<Page>, Error> {
        let number = run.first + n;
        let mut bytes = Box::new([0; PAGE]);
        let Some(at) = number.checked_mul(PAGE as u64) else { return Ok(None) };
        let len = read_up_to(file, &mut bytes[..], at).at("read", path)?;
        let whole = len == PAGE && is_sealed(&bytes, id, number);
        Ok(whole.then(|| Page { bytes, keys: run.keys_on(n) }))
    }

    fn key(&self, n: usize) -> Key {
        Key(array(&self.bytes[n * Key::LEN..(n + 1) * Key::LEN]))
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.keys).map(|n| self.key(n))
    }

    fn last(&self) -> Key {
        self.key(self.keys.saturating_sub(1))
    }

    /// The position of the first key that is not below `key`.
    fn lower_bound(&self, key: &Key) -> usize {
        let (mut low, mut high) = (0, self.keys);
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) < *key { low = middle + 1 } else { high = middle }
        }
        low
    }
}
