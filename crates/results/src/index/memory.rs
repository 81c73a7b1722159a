//! An index in memory, of a part of the log that the file does not cover.

use std::fs::File;
use std::path::Path;

use hgci_core::Node;

use super::Key;
use crate::error::{Damage, Error};
use crate::record::node_in;
use crate::scan::Scan;

/// The most damaged places that are kept.
const MAX_DAMAGE: usize = 1000;

/// The keys of a part of the log, 12 bytes for each record, so that the part is read once however
/// many changesets are looked up.
pub(crate) struct Memory {
    keys: Vec<Key>,
    /// The first damaged places of the part.
    pub damage: Vec<Damage>,
}

impl Memory {
    /// Reads the part from `offset` to `end`.
    pub fn read(file: &File, path: &Path, offset: u64, end: u64) -> Result<Memory, Error> {
        let mut memory = Memory { keys: Vec::new(), damage: Vec::new() };
        let mut scan = Scan::new(file, path, offset, end);
        while let Some(piece) = scan.next()? {
            match &piece.frame {
                Ok(frame) => {
                    let node = node_in(frame.kind, frame.payload);
                    memory.keys.extend(node.map(|node| Key::new(&node, piece.offset)));
                }
                Err(_) => {
                    if let Some(place) = piece.damage() {
                        place.found(&mut memory.damage, MAX_DAMAGE);
                    }
                }
            }
        }
        memory.keys.sort_unstable();
        Ok(memory)
    }

    /// The offsets of the records of `node`, and perhaps of others that start alike, ascending.
    pub fn offsets(&self, node: &Node) -> impl Iterator<Item = u64> {
        let start = self.keys.partition_point(|key| *key < Key::new(node, 0));
        self.keys[start..].iter().take_while(|key| key.is_of(node)).map(Key::offset)
    }
}
