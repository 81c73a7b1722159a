//! Obsolescence markers: how many there are, and which changesets they make obsolete.
//!
//! The file is append-only but for a strip, which takes markers out. Format 0 and 1 are told apart
//! by the first byte; see `mercurial/obsolete.py`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use hgci_core::Node;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::open;

/// So much of the end of the file is hashed.
const TAIL: u64 = 1024;

/// A marker has at most this many bytes; real ones have some hundred.
const MAX_MARKER: u32 = 16 << 20;

/// So many changesets that are not there are followed from one to the next, beside those asked for.
const MAX_FOLLOWED: usize = 10_000;

/// How often markers are read for that. In the usual order once is enough, in the worst order each
/// time leads one step on.
const MAX_PASSES: usize = 32;

/// What the obsstore looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObsState {
    /// Its length in bytes, up to the last whole marker.
    pub len: u64,
    /// How many markers it has.
    pub markers: u64,
    /// SHA-256 of its last KiB.
    pub tail: [u8; 32],
}

impl ObsState {
    /// Reads the store from where `before` ended, or all of it where that end is no more.
    pub(crate) fn read(store: &Path, before: Option<&ObsState>) -> Result<Self> {
        let path = store.join("obsstore");
        let Some(mut file) = open::file(&path)? else { return Ok(Self::default()) };
        let from = match before {
            Some(before) if before.is_in(&mut file, &path)? => before.clone(),
            _ => ObsState::default(),
        };
        let mut markers = from.markers;
        let len = walk(file, &path, from.len, |_| markers += 1)?;
        let Some(mut file) = open::file(&path)? else { return Ok(Self::default()) };
        let tail = tail(&mut file, len).map_err(Error::io("read", &path))?.unwrap_or_default();
        Ok(ObsState { len, markers, tail })
    }

    /// Whether the file only grew since.
    fn is_in(&self, file: &mut File, path: &Path) -> Result<bool> {
        let is = self.len > 0
            && tail(file, self.len).map_err(Error::io("read", path))? == Some(self.tail);
        Ok(is)
    }
}

/// What has become of a changeset that is obsolete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// What replaces it and is there, over others that are not: what is amended twice and then
    /// pushed has been on nobody's disk but its author's in between.
    pub successors: Vec<Node>,
    /// Nothing replaces it.
    pub pruned: bool,
}

/// What has become of those of some changesets that markers are about which `since` does not have.
pub(crate) fn fates(
    store: &Path,
    since: &ObsState,
    of: &BTreeSet<Node>,
    is_there: impl Fn(&Node) -> bool,
) -> Result<BTreeMap<Node, Fate>> {
    let path = store.join("obsstore");
    let Some(mut file) = open::file(&path)? else { return Ok(BTreeMap::new()) };
    let from = if since.is_in(&mut file, &path)? { since.len } else { 0 };
    let mut wanted: HashSet<Node> = of.iter().copied().collect();
    let mut known: HashMap<Node, BTreeSet<Node>> = HashMap::new();
    for _ in 0..MAX_PASSES {
        let Some(file) = open::file(&path)? else { break };
        let before = wanted.len();
        walk(file, &path, from, |marker| {
            if !wanted.contains(&marker.node) {
                return;
            }
            known.entry(marker.node).or_default().extend(&marker.successors);
            let gone = marker.successors.iter().filter(|node| !is_there(node));
            let room = (of.len() + MAX_FOLLOWED).saturating_sub(wanted.len());
            wanted.extend(gone.take(room));
        })?;
        if wanted.len() == before {
            break;
        }
    }
    let found = of.iter().filter(|node| known.contains_key(node));
    Ok(found.map(|node| (*node, fate(*node, &known, &is_there))).collect())
}

/// Follows markers to what is there.
fn fate(
    node: Node,
    known: &HashMap<Node, BTreeSet<Node>>,
    is_there: impl Fn(&Node) -> bool,
) -> Fate {
    let mut fate = Fate { successors: Vec::new(), pruned: true };
    let mut met = HashSet::from([node]);
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        let Some(successors) = known.get(&node) else {
            fate.pruned = false;
            continue;
        };
        for successor in successors.iter().filter(|successor| met.insert(**successor)) {
            if is_there(successor) {
                fate.successors.push(*successor);
            } else {
                open.push(*successor);
            }
        }
    }
    fate.successors.sort_unstable();
    fate.pruned &= fate.successors.is_empty();
    fate
}

/// The changesets that markers replace or prune, known or not.
pub(crate) fn precursors(store: &Path) -> Result<HashSet<Node>> {
    let path = store.join("obsstore");
    let Some(file) = open::file(&path)? else { return Ok(HashSet::new()) };
    let mut precursors = HashSet::new();
    walk(file, &path, 0, |marker| {
        precursors.insert(marker.node);
    })?;
    Ok(precursors)
}

/// The hash of the last [`TAIL`] bytes below `len`; `None` where the file is shorter.
fn tail(file: &mut File, len: u64) -> io::Result<Option<[u8; 32]>> {
    let start = len.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(len - start).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 == len - start).then(|| Sha256::digest(&bytes).into()))
}

/// A marker, as far as it is of use here.
#[derive(Default)]
struct Marker {
    /// What it is about.
    node: Node,
    /// What replaces that.
    successors: Vec<Node>,
}

/// Reads a marker; returns its size in bytes, or `None` where there is none.
type Next = fn(&mut BufReader<File>, &mut Marker) -> io::Result<Option<u32>>;

/// Calls `see` with each whole marker from `start` on. Returns where
/// the last whole marker ends: somebody may be appending.
fn walk(mut file: File, path: &Path, start: u64, mut see: impl FnMut(&Marker)) -> Result<u64> {
    let failed = |error: io::Error| Error::io("read", path)(error);
    let mut version = [0];
    file.rewind().map_err(failed)?;
    if file.read(&mut version).map_err(failed)? == 0 {
        return Ok(0);
    }
    let corrupt = |why: String| Error::Corrupt { path: path.to_owned(), why };
    let next: Next = match version[0] {
        0 => next_v0,
        1 => next_v1,
        other => return Err(corrupt(format!("unknown format {other} of markers"))),
    };
    let mut at = start.max(1);
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut marker = Marker::default();
    loop {
        match next(&mut reader, &mut marker) {
            Ok(Some(size)) => {
                at += u64::from(size);
                see(&marker);
            }
            Ok(None) => return Err(corrupt(format!("no marker at byte {at}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(at),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Format 1: size of the marker, date, zone, flags, three counts, the changeset, its successors, the
/// rest.
fn next_v1(reader: &mut BufReader<File>, marker: &mut Marker) -> io::Result<Option<u32>> {
    const HEAD: usize = 39;
    /// Its names of changesets have 32 bytes. No Mercurial writes such.
    const SHA256: u16 = 2;
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if !(HEAD as u32..MAX_MARKER).contains(&size) {
        return Ok(None);
    }
    marker.node = node(&head[19..]);
    let long = u16::from_be_bytes([head[14], head[15]]) & SHA256 != 0;
    let count = if long { 0 } else { head[16] };
    let Some(rest) = (size - HEAD as u32).checked_sub(u32::from(count) * 20) else {
        return Ok(None);
    };
    marker.read_successors(reader, count)?;
    skip(reader, rest.into())?;
    Ok(Some(size))
}

/// Format 0: number of successors, size of the metadata, flags, the changeset, its successors, the
/// rest.
fn next_v0(reader: &mut BufReader<File>, marker: &mut Marker) -> io::Result<Option<u32>> {
    const HEAD: usize = 26;
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let metadata = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if metadata > MAX_MARKER {
        return Ok(None);
    }
    marker.node = node(&head[6..]);
    marker.read_successors(reader, head[0])?;
    skip(reader, metadata.into())?;
    Ok(Some(HEAD as u32 + u32::from(head[0]) * 20 + metadata))
}

impl Marker {
    fn read_successors(&mut self, reader: &mut BufReader<File>, count: u8) -> io::Result<()> {
        self.successors.clear();
        let mut name = [0; 20];
        for _ in 0..count {
            reader.read_exact(&mut name)?;
            self.successors.push(Node(name));
        }
        Ok(())
    }
}

fn skip(reader: &mut BufReader<File>, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink())?;
    if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// The first 20 bytes.
fn node(bytes: &[u8]) -> Node {
    let mut node = [0; 20];
    node.copy_from_slice(&bytes[..20]);
    Node(node)
}
