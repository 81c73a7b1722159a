//! Obsolescence markers: how many there are, and which changesets they make obsolete.
//!
//! The file is append-only but for a strip, which takes markers out. Format 0 and 1 are told apart
//! by the first byte; see `mercurial/obsolete.py`.

use std::collections::HashSet;
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
        let mut from = ObsState { len: 0, ..Self::default() };
        if let Some(before) = before.filter(|before| before.len > 0)
            && tail(&mut file, before.len).map_err(Error::io("read", &path))? == Some(before.tail)
        {
            from = before.clone();
        }
        let mut markers = from.markers;
        let len = walk(file, &path, from.len, |_| markers += 1)?;
        let Some(mut file) = open::file(&path)? else { return Ok(Self::default()) };
        let tail = tail(&mut file, len).map_err(Error::io("read", &path))?.unwrap_or_default();
        Ok(ObsState { len, markers, tail })
    }
}

/// The changesets that markers replace or prune, known or not.
pub(crate) fn precursors(store: &Path) -> Result<HashSet<Node>> {
    let path = store.join("obsstore");
    let Some(file) = open::file(&path)? else { return Ok(HashSet::new()) };
    let mut precursors = HashSet::new();
    walk(file, &path, 0, |node| {
        precursors.insert(node);
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

/// Reads a marker: what it is about, and its size in bytes; `None` where there is none.
type Next = fn(&mut BufReader<File>) -> io::Result<Option<(Node, u32)>>;

/// Calls `see` with the changeset that each whole marker from `start` on is about. Returns where
/// the last whole marker ends: somebody may be appending.
fn walk(mut file: File, path: &Path, start: u64, mut see: impl FnMut(Node)) -> Result<u64> {
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
    loop {
        match next(&mut reader) {
            Ok(Some((node, size))) => {
                at += u64::from(size);
                see(node);
            }
            Ok(None) => return Err(corrupt(format!("no marker at byte {at}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(at),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Format 1: size of the marker, date, zone, flags, three counts, the changeset, the rest.
fn next_v1(reader: &mut BufReader<File>) -> io::Result<Option<(Node, u32)>> {
    const HEAD: usize = 39;
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if !(HEAD as u32..MAX_MARKER).contains(&size) {
        return Ok(None);
    }
    skip(reader, u64::from(size) - HEAD as u64)?;
    Ok(Some((node(&head[19..]), size)))
}

/// Format 0: number of successors, size of the metadata, flags, the changeset, the rest.
fn next_v0(reader: &mut BufReader<File>) -> io::Result<Option<(Node, u32)>> {
    const HEAD: usize = 26;
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let metadata = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if metadata > MAX_MARKER {
        return Ok(None);
    }
    let rest = u32::from(head[0]) * 20 + metadata;
    skip(reader, u64::from(rest))?;
    Ok(Some((node(&head[6..]), HEAD as u32 + rest)))
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
