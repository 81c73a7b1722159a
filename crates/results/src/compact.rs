//! Leaving out what is not wanted any more: a new log in the place of the old one.

use std::os::unix::fs::FileExt;

use hgci_core::Node;

use crate::error::{At, Error};
use crate::frame;
use crate::header::{Commit, Mark};
use crate::index::Indexer;
use crate::reader::record;
use crate::record::{Record, node_of};
use crate::recover::{create_unnamed, lock};
use crate::scan::Scan;
use crate::writer::Writer;

/// How much is gathered before it is written.
const CHUNK: usize = 256 * 1024;

impl Writer {
    /// Writes a new log with the records for which `keep` says yes, in the same order, and puts it
    /// in the place of the old one, under a new log id: whoever has a mark of the old one reads
    /// anew. Records about the log itself, and those that only a newer hgci understands, are kept
    /// without asking; damaged places are left out. On an error the old log stays.
    ///
    /// Readers that have the old file open go on seeing it as it was.
    pub fn compact(&mut self, mut keep: impl FnMut(&Record) -> bool) -> Result<Mark, Error> {
        self.check()?;
        let (file, path, mut commit) = create_unnamed(&self.place)?;
        let mut bytes = Vec::with_capacity(CHUNK);
        let mut written = commit.end.offset;
        let mut scan = Scan::new(
            &self.file,
            &self.path,
            Mark::start(self.end().log).offset,
            self.end().offset,
        );
        while let Some(piece) = scan.next()? {
            let Ok(frame) = &piece.frame else { continue };
            let Ok(record) = record(frame, piece.offset, piece.end) else { continue };
            let asked = matches!(&record.entry, Some(entry) if node_of(entry) != Node::NULL);
            if asked && !keep(&record) {
                continue;
            }
            let kind = (frame.kind, frame.version);
            let before = bytes.len();
            let chain = frame::write(&mut bytes, &commit.end.chain, kind, &frame.id, frame.payload);
            let offset = commit.end.offset + (bytes.len() - before) as u64;
            commit =
                Commit { end: Mark { offset, chain, ..commit.end }, frames: commit.frames + 1 };
            if bytes.len() >= CHUNK {
                file.write_all_at(&bytes, written).at("write", &path)?;
                written += bytes.len() as u64;
                bytes.clear();
            }
        }
        file.write_all_at(&bytes, written).at("write", &path)?;
        commit.write(&file, &path)?;
        file.sync_all().at("sync", &path)?;
        // Locked before it has its name, so that no other writer can come in between.
        lock(&file, &path)?;
        self.place.rename(&path, &self.path).at("rename", &path)?;
        self.place.sync_folder()?;

        self.file = file;
        self.commit = commit;
        self.forget();
        self.indexer = Indexer::empty(&self.place, commit.end.log);
        self.index_up_to_end()?;
        Ok(commit.end)
    }
}
