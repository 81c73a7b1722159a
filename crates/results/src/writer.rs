//! Appending to the log: one process at a time.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use hgci_core::Node;
use hgci_core::result::{Entry, Origin};

use crate::error::{At, Damage, Error};
use crate::frame;
use crate::header::{Commit, HEADER_LEN, Header, Mark};
use crate::index::{Indexer, Prefix};
use crate::place::Place;
use crate::reader::record;
use crate::record::{Record, RecordId, encode, node_in, node_of};
use crate::recover::{self, is_at};
use crate::scan::{self, Scan, Window};

/// How many ids of records are kept in memory to know what was appended before.
const MAX_REMEMBERED: usize = 20_000;

/// A record as it lies in a log, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub id: RecordId,
    /// Kind, and version of its payload.
    pub kind: (u8, u8),
    pub payload: Vec<u8>,
}

impl Raw {
    pub fn of(id: RecordId, entry: &Entry) -> Result<Raw, postcard::Error> {
        let (kind, payload) = encode(entry)?;
        Ok(Raw { id, kind, payload })
    }

    /// The changeset it is about; the null node for what is about a log.
    pub fn node(&self) -> Option<Node> {
        node_in(self.kind.0, &self.payload)
    }
}

/// The one writer of a repository's log. Another one cannot be opened while it lives.
pub struct Writer {
    pub(crate) place: Place,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) commit: Commit,
    pub(crate) indexer: Indexer,
    origin: Origin,
    /// Ids of all records of the changesets that were appended to last.
    remembered: HashMap<Node, HashSet<RecordId>>,
    remembered_ids: usize,
    damage: Vec<Damage>,
    notes: Vec<String>,
    broken: bool,
}

/// What an append did. The entries are durable.
#[derive(Debug)]
pub struct Appended {
    /// How many records are new.
    pub written: usize,
    /// How many were in the log already.
    pub known: usize,
    /// The end of the log.
    pub end: Mark,
    /// Why the index is behind, where it is: lookups are slower until a later append mends it.
    pub index: Option<Error>,
}

impl Writer {
    /// Opens the log of a repository, or makes one; `origin` is what the records that follow come
    /// from. A torn tail is dropped, a missing or damaged index is made anew.
    pub fn open(place: &Place, origin: &Origin) -> Result<Writer, Error> {
        let mut writer = Writer::open_as_it_is(place, origin)?;
        let entry = Entry::Origin(origin.clone());
        if writer.last_origin()?.and_then(|last| last.entry).as_ref() != Some(&entry) {
            let origin = writer.raw(RecordId::of(&origin.daemon, &entry), &entry)?;
            writer.write(&[origin])?;
        }
        Ok(writer)
    }

    /// The same, without saying where what follows comes from.
    pub(crate) fn open_as_it_is(place: &Place, origin: &Origin) -> Result<Writer, Error> {
        place.prepare()?;
        let opened = recover::open(place)?;
        let end = opened.commit.end;
        let indexer = Indexer::open(place, end.log, end.offset)
            .unwrap_or_else(|_| Indexer::empty(place, end.log));
        let mut writer = Writer {
            place: place.clone(),
            path: place.log(),
            file: opened.file,
            commit: opened.commit,
            indexer,
            origin: origin.clone(),
            remembered: HashMap::new(),
            remembered_ids: 0,
            damage: opened.damage,
            notes: opened.notes,
            broken: false,
        };
        if let Err(error) = writer.index_up_to_end() {
            writer.notes.push(format!("the index is behind: {error}"));
        }
        Ok(writer)
    }

    /// The origin of what was appended last.
    pub(crate) fn last_origin(&mut self) -> Result<Option<Record>, Error> {
        let found = self.find(&Node::NULL)?.into_iter();
        Ok(found.rev().find(|found| matches!(found.entry, Some(Entry::Origin(_)))))
    }

    fn raw(&self, id: RecordId, entry: &Entry) -> Result<Raw, Error> {
        let raw = Raw::of(id, entry).map_err(io::Error::other);
        let raw = raw.and_then(|raw| match raw.payload.len() <= frame::MAX_PAYLOAD {
            true => Ok(raw),
            // Nobody could read it.
            false => Err(io::Error::other("it is too large")),
        });
        raw.at("encode a record for", &self.path)
    }

    /// What was damaged when the log was opened. What is below is served without it.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// What was done when the log was opened, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The end of the log.
    pub fn end(&self) -> Mark {
        self.commit.end
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        self.commit.frames
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.commit.frames == 0
    }

    /// Whether the record of this entry is in the log.
    pub fn contains(&mut self, entry: &Entry) -> Result<bool, Error> {
        let id = RecordId::of(&self.origin.daemon, entry);
        Ok(self.ids_of(&node_of(entry))?.contains(&id))
    }

    /// Appends what is not in the log yet, and returns when all of it is durable, with one sync. On
    /// an error nothing of it can be seen, and the same call can be repeated:
    /// [`Error::is_no_space`] later, [`Error::Replaced`] and [`Error::Broken`] with a new writer.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Appended, Error> {
        self.check()?;
        let mut fresh = Vec::new();
        let mut in_group = HashSet::new();
        for entry in entries {
            let id = RecordId::of(&self.origin.daemon, entry);
            if in_group.insert(id) && !self.ids_of(&node_of(entry))?.contains(&id) {
                fresh.push(self.raw(id, entry)?);
            }
        }
        let index = self.append_raw(&fresh)?;
        let written = fresh.len();
        Ok(Appended { written, known: entries.len() - written, end: self.commit.end, index })
    }

    /// Appends records that the log does not have.
    pub(crate) fn append_raw(&mut self, fresh: &[Raw]) -> Result<Option<Error>, Error> {
        let index = if fresh.is_empty() { None } else { self.write(fresh)? };
        for raw in fresh {
            let ids = raw.node().and_then(|node| self.remembered.get_mut(&node));
            if let Some(ids) = ids {
                self.remembered_ids += usize::from(ids.insert(raw.id));
            }
        }
        Ok(index)
    }

    /// Whether the file is still the one that the path leads to, and in order.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let path = self.path.clone();
        // Whoever cut it off, or wrote over it, has taken what is believed to be there.
        let is_cut = self.file.metadata().is_ok_and(|about| about.len() < self.commit.end.offset);
        let is_ours = || {
            let header = Header::read(&self.file, &path);
            header.is_ok_and(|header| header.commit == Some(self.commit))
        };
        match (self.broken || is_cut || !is_ours(), is_at(&self.file, &path)) {
            (true, _) => Err(Error::Broken { path }),
            (_, false) => Err(Error::Replaced { path }),
            _ => Ok(()),
        }
    }

    fn write(&mut self, fresh: &[Raw]) -> Result<Option<Error>, Error> {
        let mut bytes = Vec::new();
        let mut commit = self.commit;
        let mut placed = Vec::new();
        for raw in fresh {
            let offset = self.commit.end.offset + bytes.len() as u64;
            let chain = &commit.end.chain;
            commit.end.chain = frame::write(&mut bytes, chain, raw.kind, &raw.id, &raw.payload);
            commit.frames += 1;
            placed.push((raw.node(), offset));
        }
        commit.end.offset += bytes.len() as u64;
        if let Err(error) = self.make_durable(&bytes, &commit) {
            // Behind the commit nobody looks, but a later writer would take whole frames in.
            let undone = self.file.set_len(self.commit.end.offset).is_ok();
            self.broken = !(undone && self.commit.write(&self.file, &self.path).is_ok());
            return Err(error);
        }
        self.commit = commit;
        let ends = placed.iter().skip(1).map(|(_, start)| *start).chain([commit.end.offset]);
        // An index that is behind the log by more than this must catch up first.
        if self.indexer.upto() == placed.first().map_or(0, |(_, start)| *start) {
            for ((node, offset), end) in placed.iter().zip(ends) {
                match node {
                    Some(node) => self.indexer.add(node, *offset, end),
                    None => self.indexer.skip_to(end),
                }
            }
        }
        Ok(self.index_up_to_end().err())
    }

    fn make_durable(&self, bytes: &[u8], commit: &Commit) -> Result<(), Error> {
        let offset = self.commit.end.offset;
        self.file.write_all_at(bytes, offset).at("append to", &self.path)?;
        self.file.sync_data().at("sync", &self.path)?;
        commit.write(&self.file, &self.path)
    }

    /// Brings the index to the end of the log, from wherever it is.
    pub(crate) fn index_up_to_end(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            let end = self.commit.end.offset;
            let mut scan = Scan::new(&self.file, &self.path, self.indexer.upto(), end);
            let mut settled = Ok(());
            while let Some(piece) = scan.next()? {
                match &piece.frame {
                    Ok(frame) => match node_in(frame.kind, frame.payload) {
                        Some(node) => self.indexer.add(&node, piece.offset, piece.end),
                        None => self.indexer.skip_to(piece.end),
                    },
                    Err(_) => self.indexer.skip_to(piece.end),
                }
                settled = self.indexer.settle_bulk()?;
                if settled.is_err() {
                    break;
                }
            }
            if settled.is_ok() && self.indexer.settle()?.is_ok() {
                return Ok(());
            }
            self.indexer = Indexer::empty(&self.place, self.commit.end.log);
        }
        Ok(())
    }

    /// The records of a changeset, as far as they can be read.
    fn find(&mut self, node: &Node) -> Result<Vec<Record>, Error> {
        let offsets = match self.indexer.offsets(node) {
            Ok(Ok(offsets)) => offsets,
            _ => {
                self.indexer = Indexer::empty(&self.place, self.commit.end.log);
                // What cannot be written stays in memory, and can be looked up there.
                let _ = self.index_up_to_end();
                match self.indexer.offsets(node) {
                    Ok(Ok(offsets)) => offsets,
                    _ => self.offsets_by_scan(node)?,
                }
            }
        };
        let mut records = Vec::new();
        let mut body = Vec::new();
        let limit = self.commit.end.offset;
        for offset in offsets {
            let piece = scan::read_one(&self.file, &self.path, offset, limit, &mut body)?;
            if let Ok(frame) = &piece.frame
                && node_in(frame.kind, frame.payload) == Some(*node)
            {
                records.extend(record(frame, piece.offset, piece.end));
            }
        }
        Ok(records)
    }

    fn offsets_by_scan(&self, node: &Node) -> Result<Vec<u64>, Error> {
        let mut offsets = Vec::new();
        let mut scan = Scan::new(&self.file, &self.path, HEADER_LEN, self.commit.end.offset);
        while let Some(piece) = scan.next()? {
            if let Ok(frame) = &piece.frame
                && node_in(frame.kind, frame.payload) == Some(*node)
            {
                offsets.push(piece.offset);
            }
        }
        Ok(offsets)
    }

    pub(crate) fn ids_of(&mut self, node: &Node) -> Result<&HashSet<RecordId>, Error> {
        if !self.remembered.contains_key(node) {
            let ids: HashSet<RecordId> = self.find(node)?.iter().map(|record| record.id).collect();
            if self.remembered_ids + ids.len() > MAX_REMEMBERED {
                self.forget();
            }
            self.remembered_ids += ids.len() + 1;
            self.remembered.insert(*node, ids);
        }
        Ok(&self.remembered[node])
    }

    /// The ids of the records of many changesets, and maybe of others, as far as they can be read.
    pub(crate) fn ids_among(&self, nodes: &HashSet<Prefix>) -> Result<HashSet<RecordId>, Error> {
        let mut ids = HashSet::new();
        let end = self.commit.end.offset;
        if let Ok(Ok(offsets)) = self.indexer.offsets_among(nodes)
            && self.indexer.upto() == end
        {
            let mut window = Window::new(&self.file, &self.path, end);
            for offset in offsets {
                ids.extend(window.frame(offset)?.frame.ok().map(|frame| frame.id));
            }
            return Ok(ids);
        }
        let mut scan = Scan::from_start(&self.file, &self.path, end);
        while let Some(piece) = scan.next()? {
            ids.extend(piece.frame.ok().map(|frame| frame.id));
        }
        Ok(ids)
    }

    pub(crate) fn forget(&mut self) {
        self.remembered.clear();
        self.remembered_ids = 0;
    }
}
