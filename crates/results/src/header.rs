//! The log's header: three sectors of 512 bytes, each with a checksum over all of it.
//!
//! | sector | what |
//! |---|---|
//! | 0 | magic, format, length of the header, log id. Never changes |
//! | 1, 2 | the commit, twice: log id, committed length, number of frames, chain hash |
//!
//! Both copies of the commit are written one after the other once the frames are durable, so a
//! reader that comes in the middle of a write, or a flipped bit, finds one of them whole. They are
//! not synced: after a power cut an older commit may be found, and the writer takes in whole frames
//! beyond it when it opens the log.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{At, Damage, Error};
use crate::frame::{Chain, first_16};

/// The newest format that this program reads, and the one that it writes.
pub const FORMAT: u16 = 1;

/// Where frames start.
pub const HEADER_LEN: u64 = 1536;

const SECTOR: usize = 512;
const MAGIC: &[u8; 16] = b"hgci results log";
const COMMIT_MAGIC: &[u8; 8] = b"a commit";

/// How often a reader looks again when both copies of the commit are unreadable, 1 ms apart.
const RETRIES: u32 = 20;

/// The name of a log: random, another one after each compaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// A new one, from the system's random source.
    pub(crate) fn random(path: &Path) -> Result<LogId, Error> {
        let mut bytes = [0; 16];
        let mut source = File::open("/dev/urandom").at("open /dev/urandom for", path)?;
        io::Read::read_exact(&mut source, &mut bytes).at("read /dev/urandom for", path)?;
        Ok(LogId(bytes))
    }

    /// The chain before the first frame.
    pub fn chain(&self) -> Chain {
        Chain(first_16(Sha256::new().chain_update(b"hgci results log").chain_update(self.0)))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A position in a log, with what proves that it is the same log up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which log.
    pub log: LogId,
    /// The end of a frame, in bytes from the start of the file; [`HEADER_LEN`] before the first.
    pub offset: u64,
    /// The chain hash of that frame; [`LogId::chain`] before the first.
    pub chain: Chain,
}

impl Mark {
    /// Before the first frame.
    pub fn start(log: LogId) -> Mark {
        Mark { log, offset: HEADER_LEN, chain: log.chain() }
    }
}

/// What a header says.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// Where the committed part ends; `None` where both copies are destroyed.
    pub commit: Option<Commit>,
    pub log: LogId,
    /// Destroyed parts of the header.
    pub damage: Vec<Damage>,
}

/// How far the log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub end: Mark,
    /// How many frames there are below it.
    pub frames: u64,
}

impl Header {
    /// Reads the header of `file`, waiting a little for a writer that is just changing it.
    pub fn read(file: &File, path: &Path) -> Result<Header, Error> {
        let mut tries = 0;
        loop {
            let header = Header::read_once(file, path)?;
            tries += 1;
            // One look more tells a commit that is being written from one that is damaged.
            let enough = if header.commit.is_some() { 2 } else { RETRIES };
            if header.damage.is_empty() || tries >= enough {
                return Ok(header);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn read_once(file: &File, path: &Path) -> Result<Header, Error> {
        let mut bytes = [0; HEADER_LEN as usize];
        let len = read_up_to(file, &mut bytes, 0).at("read", path)?;
        let sector = |n: usize| &bytes[n * SECTOR..(n + 1) * SECTOR];
        let mut damage = Vec::new();
        let mut sealed = |n: usize| {
            let whole = len >= (n + 1) * SECTOR && is_sealed(sector(n));
            if !whole {
                let what = "a part of the header";
                damage.push(Damage { offset: (n * SECTOR) as u64, len: SECTOR as u64, what });
            }
            whole
        };
        let identity = sealed(0).then(|| sector(0)).filter(|first| first.starts_with(MAGIC));
        if let Some(first) = identity {
            let found = u16::from_le_bytes([first[16], first[17]]);
            if found > FORMAT {
                return Err(Error::TooNew { path: path.to_owned(), found });
            }
        }
        let log = identity.map(|first| LogId(array(&first[20..36])));
        let commit = [1, 2]
            .into_iter()
            .filter(|&n| sealed(n))
            .filter_map(|n| Commit::decode(sector(n)))
            .filter(|commit| log.is_none_or(|log| log == commit.end.log))
            .max_by_key(|commit| commit.end.offset);
        match log.or(commit.map(|commit| commit.end.log)) {
            Some(log) => Ok(Header { commit, log, damage }),
            None => Err(Error::NotALog { path: path.to_owned() }),
        }
    }
}

impl Commit {
    /// An empty log.
    pub fn start(log: LogId) -> Commit {
        Commit { end: Mark::start(log), frames: 0 }
    }

    /// Makes this commit the one that readers see.
    pub fn write(&self, file: &File, path: &Path) -> Result<(), Error> {
        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(COMMIT_MAGIC);
        sector[8..24].copy_from_slice(&self.end.log.0);
        sector[24..32].copy_from_slice(&self.end.offset.to_le_bytes());
        sector[32..40].copy_from_slice(&self.frames.to_le_bytes());
        sector[40..56].copy_from_slice(&self.end.chain.0);
        seal(&mut sector);
        for n in [1, 2] {
            file.write_all_at(&sector, (n * SECTOR) as u64).at("commit to", path)?;
        }
        Ok(())
    }

    fn decode(sector: &[u8]) -> Option<Commit> {
        if !sector.starts_with(COMMIT_MAGIC) {
            return None;
        }
        let offset = u64::from_le_bytes(array(&sector[24..32]));
        let log = LogId(array(&sector[8..24]));
        let end = Mark { log, offset, chain: Chain(array(&sector[40..56])) };
        let frames = u64::from_le_bytes(array(&sector[32..40]));
        (offset >= HEADER_LEN).then_some(Commit { end, frames })
    }
}

/// Writes the sector that never changes.
pub(crate) fn write_identity(file: &File, path: &Path, log: LogId) -> Result<(), Error> {
    let mut sector = [0; SECTOR];
    sector[..16].copy_from_slice(MAGIC);
    sector[16..18].copy_from_slice(&FORMAT.to_le_bytes());
    sector[18..20].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    sector[20..36].copy_from_slice(&log.0);
    seal(&mut sector);
    file.write_all_at(&sector, 0).at("write", path)
}

fn seal(sector: &mut [u8; SECTOR]) {
    let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
    sector[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(sector: &[u8]) -> bool {
    let (checked, crc) = sector.split_at(SECTOR - 4);
    crc32c::crc32c(checked).to_le_bytes() == crc
}

/// A slice of known length as an array; what is missing is zero.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let n = N.min(bytes.len());
    array[..n].copy_from_slice(&bytes[..n]);
    array
}

/// Fills `buf` from `offset`, as far as the file goes.
pub(crate) fn read_up_to(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
