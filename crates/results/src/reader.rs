//! Reading the log: by changeset, or one record after the other.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hgci_core::Node;
use hgci_core::result::Origin;

use crate::error::{At, Damage, Error};
use crate::frame::{Chain, Frame};
use crate::header::{HEADER_LEN, Header, LogId, Mark};
use crate::index::{Index, Memory};
use crate::place::Place;
use crate::record::{Record, RecordId, decode, node_in};
use crate::scan::{self, Scan};

/// The most records that a lookup returns: the newest.
pub const MAX_FOUND: usize = 65_536;

/// The results of a repository as they were when this was opened or refreshed. Takes no lock.
pub struct Reader {
    place: Place,
    pub(crate) path: std::path::PathBuf,
    pub(crate) file: File,
    log: LogId,
    end: Mark,
    frames: u64,
    index: Result<Index, &'static str>,
    damage: Vec<Damage>,
    /// What the index does not cover, and all of the log for where there is none: read when a
    /// lookup needs it.
    tail: OnceCell<Memory>,
    whole: OnceCell<Memory>,
    /// Read when first asked for.
    pub(crate) origins: OnceCell<Vec<(u64, RecordId, Origin)>>,
}

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The records of the changeset, in the order of the log.
    pub records: Vec<Record>,
    /// Places that the lookup came by and could not read: a record may be missing.
    pub damage: Vec<Damage>,
    /// Why the whole log had to be read, where it had: what is wrong with the index.
    pub without_index: Option<&'static str>,
}

impl Reader {
    /// Opens the log of a repository; `None` where there is none.
    pub fn open(place: &Place) -> Result<Option<Reader>, Error> {
        let path = place.log();
        // The header is read twice, around the index, so that the index is never ahead of it.
        for _ in 0..3 {
            let file = match place.open_file(&path, false) {
                Err(error) if is_missing(&error) => return Ok(None),
                result => result.at("open", &path)?,
            };
            let log = Header::read(&file, &path)?.log;
            let index = match Index::open(place, log) {
                Ok(index) => index,
                Err(_) => Err("cannot be read"),
            };
            let header = Header::read(&file, &path)?;
            let len = file.metadata().at("look at", &path)?.len();
            let end = header.commit.map_or(Mark { offset: len, ..Mark::start(log) }, |c| c.end);
            let mut reader = Reader {
                place: place.clone(),
                path: path.clone(),
                file,
                log,
                end,
                frames: header.commit.map_or(0, |commit| commit.frames),
                index,
                damage: header.damage,
                tail: OnceCell::new(),
                whole: OnceCell::new(),
                origins: OnceCell::new(),
            };
            if len < end.offset {
                let (offset, len) = (len.max(HEADER_LEN), end.offset - len.max(HEADER_LEN));
                reader.damage.push(Damage { offset, len, what: "the end of the log is missing" });
                reader.end.offset = offset;
            }
            if reader.index.as_ref().is_ok_and(|index| index.covered() > reader.end.offset) {
                reader.index = Err("covers more than there is");
            }
            // A compaction between the two opens gives an old log and a new index.
            if reader.index.as_ref().err() != Some(&"belongs to another log") || reader.is_current()
            {
                return Ok(Some(reader));
            }
        }
        Err(Error::Replaced { path })
    }

    /// Sees what was appended since, also when the log was compacted.
    pub fn refresh(&mut self) -> Result<(), Error> {
        match Reader::open(&self.place)? {
            Some(reader) => *self = reader,
            None => return Err(Error::Replaced { path: self.path.clone() }),
        }
        Ok(())
    }

    /// The end of what this reader sees.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// How many records there are, as the writer counted them.
    pub fn len(&self) -> u64 {
        self.frames
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.end.offset <= HEADER_LEN
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with the log as a whole: its header, its length. [`Reader::records`] finds
    /// what else is.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The records of a changeset; [`Node::NULL`] for those about the log itself.
    pub fn find(&self, node: &Node) -> Result<Found, Error> {
        let mut found = Found { damage: self.damage.clone(), ..Found::default() };
        let (offsets, rest, without_index) = self.offsets(node)?;
        found.without_index = without_index;
        for offset in &offsets[offsets.len().saturating_sub(MAX_FOUND)..] {
            self.pick(*offset, node, &mut found)?;
        }
        found.damage.extend_from_slice(&rest.damage);
        Ok(found)
    }

    /// Where records of a changeset lie, and perhaps of others that start alike, ascending; what was
    /// read for it beside the index, and why that could not be used.
    pub(crate) fn offsets(
        &self,
        node: &Node,
    ) -> Result<(Vec<u64>, &Memory, Option<&'static str>), Error> {
        let indexed = match &self.index {
            Ok(index) => match index.offsets(node, MAX_FOUND) {
                Ok(Ok(offsets)) => Ok((offsets, index.covered())),
                Ok(Err(why)) => Err(why),
                Err(_) => Err("cannot be read"),
            },
            Err(why) => Err(*why),
        };
        let (mut offsets, rest, why) = match indexed {
            Ok((offsets, covered)) => (offsets, self.memory(&self.tail, covered)?, None),
            Err(why) => (Vec::new(), self.memory(&self.whole, HEADER_LEN)?, Some(why)),
        };
        offsets.extend(rest.offsets(node));
        Ok((offsets, rest, why))
    }

    fn memory<'r>(&'r self, cell: &'r OnceCell<Memory>, from: u64) -> Result<&'r Memory, Error> {
        if let Some(memory) = cell.get() {
            return Ok(memory);
        }
        let memory = Memory::read(&self.file, &self.path, from, self.end.offset)?;
        Ok(cell.get_or_init(|| memory))
    }

    fn pick(&self, offset: u64, node: &Node, found: &mut Found) -> Result<(), Error> {
        let mut body = Vec::new();
        let piece = scan::read_one(&self.file, &self.path, offset, self.end.offset, &mut body)?;
        match &piece.frame {
            Err(_) => found.damage.extend(piece.damage()),
            // Another node may start with the same bytes.
            Ok(frame) if node_in(frame.kind, frame.payload) != Some(*node) => {}
            Ok(frame) => match record(frame, piece.offset, piece.end) {
                Ok(record) => found.records.push(record),
                Err(damage) => found.damage.push(damage),
            },
        }
        Ok(())
    }

    /// All records, checking the chain: reads the whole log.
    pub fn records(&self) -> Records<'_> {
        self.read_on(Mark::start(self.log))
    }

    /// The records after a mark that an earlier reader of this log gave, however long ago.
    /// [`Error::Mismatch`] where the log is another one, or not the same up to there.
    pub fn since(&self, mark: &Mark) -> Result<Records<'_>, Error> {
        let mismatch = || Error::Mismatch { path: self.path.clone(), offset: mark.offset };
        if mark.log != self.log || mark.offset < HEADER_LEN || mark.offset > self.end.offset {
            return Err(mismatch());
        }
        let chain = match mark.offset {
            HEADER_LEN => Some(self.log.chain()),
            offset => scan::chain_before(&self.file, &self.path, HEADER_LEN, offset)?,
        };
        if chain == Some(mark.chain) { Ok(self.read_on(*mark)) } else { Err(mismatch()) }
    }

    fn read_on(&self, mark: Mark) -> Records<'_> {
        Records {
            scan: Scan::new(&self.file, &self.path, mark.offset, self.end.offset),
            chain: Some(mark.chain),
            held: None,
        }
    }

    /// Whether the path still leads to the file that is open.
    fn is_current(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(path)) => (open.dev(), open.ino()) == (path.dev(), path.ino()),
            _ => false,
        }
    }
}

/// Records in the order of the log, and damaged places between them.
pub struct Records<'r> {
    scan: Scan<'r>,
    /// The chain after the record before; unknown behind a damaged place.
    chain: Option<Chain>,
    /// A record whose break of the chain was told first.
    held: Option<Record>,
}

impl Iterator for Records<'_> {
    /// A record, or a place that is damaged, or an error that ends the reading.
    type Item = Result<Result<Record, Damage>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.held.take() {
            return Some(Ok(Ok(record)));
        }
        let piece = match self.scan.next() {
            Ok(piece) => piece?,
            Err(error) => return Some(Err(error)),
        };
        let frame = match &piece.frame {
            Ok(frame) => frame,
            Err(_) => {
                self.chain = None;
                return piece.damage().map(|damage| Ok(Err(damage)));
            }
        };
        let broken = self.chain.is_some_and(|before| !frame.follows(&before));
        self.chain = Some(frame.chain);
        match record(frame, piece.offset, piece.end) {
            Ok(record) if broken => {
                let (offset, what) = (record.offset, "the chain of records is broken here");
                self.held = Some(record);
                Some(Ok(Err(Damage { offset, len: 0, what })))
            }
            result => Some(Ok(result)),
        }
    }
}

/// The record of a frame.
pub(crate) fn record(frame: &Frame<'_>, offset: u64, end: u64) -> Result<Record, Damage> {
    match decode((frame.kind, frame.version), frame.payload) {
        Ok(entry) => Ok(Record { id: frame.id, offset, end, chain: frame.chain, entry }),
        Err(what) => Err(Damage { offset, len: end - offset, what }),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
