//! The source tree of a changeset as a stream of chunks, read on a thread of its own.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};

use axum::body::Bytes;
use hgci_core::{AttemptKey, Node};
use hgci_repo::{Archived, NotRead, Repository};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::complaints::Complaints;

/// Bytes in a chunk: large enough that handing one over costs little, small enough to hold some.
const CHUNK: usize = 128 * 1024;

/// Chunks that wait for a slow reader before the one who writes must wait, too.
const AHEAD: usize = 8;

/// What a stream carries: bytes, and at most one error, which ends it.
pub type Chunk = Result<Bytes, io::Error>;

/// A writer whose bytes come out of the receiver, in chunks. Writing fails when the receiver is
/// gone, so that nobody reads a tree for a caller who has left.
pub fn channel() -> (ChunkWriter, mpsc::Receiver<Chunk>) {
    let (chunks, receiver) = mpsc::channel(AHEAD);
    (ChunkWriter { chunks, buffer: Vec::with_capacity(CHUNK) }, receiver)
}

/// Why source trees of the repository are read by the `hg` command, where they are.
pub fn why_hg(repository: &Repository) -> Option<String> {
    repository.read_by().ok()?.1
}

/// Reads the source tree of a changeset into the stream. Blocking. `lasting` is told why, before
/// the stream breaks off, where it is no use to ask again soon.
pub fn archive(
    repository: &Repository,
    node: Node,
    mut writer: ChunkWriter,
    lasting: impl FnOnce(&NotRead),
) {
    let outcome = repository.archive(&node, &mut writer);
    match &outcome {
        Ok(Archived { why: Some(why), .. }) => {
            tracing::info!(%node, %why, "this source tree was read by hg");
        }
        Err(error) if error.lasts() => lasting(error),
        _ => {}
    }
    writer.finish(outcome.map(drop).map_err(io::Error::other));
}

/// Source trees that are not to be had, of attempts that have been given a part of theirs: a stream
/// can only break off, so they are told when they ask again.
#[derive(Debug, Default)]
pub struct Unreadable {
    why: Mutex<VecDeque<(AttemptKey, String)>>,
    complaints: Complaints,
}

impl Unreadable {
    /// Attempts that are remembered: those of runners that died do not ask again.
    const MOST: usize = 256;

    /// Says in the log that a tree could not be read.
    pub fn complain(&self, attempt: AttemptKey, repo: &str, error: &dyn Display) {
        if let Some(unsaid) = self.complaints.next() {
            tracing::error!(%attempt, repo, %error, unsaid, "a source tree cannot be read");
        }
    }

    /// Remembers why the attempt has no tree.
    pub fn add(&self, attempt: AttemptKey, why: String) {
        let mut all = self.why.lock();
        all.retain(|(of, _)| *of != attempt);
        if all.len() == Unreadable::MOST {
            all.pop_front();
        }
        all.push_back((attempt, why));
    }

    /// Why the attempt has none, said once.
    pub fn take(&self, attempt: AttemptKey) -> Option<String> {
        let mut all = self.why.lock();
        let at = all.iter().position(|(of, _)| *of == attempt)?;
        all.remove(at).map(|(_, why)| why)
    }
}

/// The end that is written to. Must be [`ChunkWriter::finish`]ed, or the reader sees an error.
pub struct ChunkWriter {
    chunks: mpsc::Sender<Chunk>,
    buffer: Vec<u8>,
}

impl ChunkWriter {
    /// Hands over what is left, or the error that ended it.
    pub fn finish(mut self, outcome: Result<(), io::Error>) {
        let last = outcome.and_then(|()| self.hand_over());
        if let Err(error) = last {
            let _reader_left = self.chunks.blocking_send(Err(error));
        }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.chunks
            .blocking_send(Ok(chunk.into()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader has left"))
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(receiver: &mut mpsc::Receiver<Chunk>) -> (Vec<u8>, Option<io::Error>) {
        let mut bytes = Vec::new();
        while let Some(chunk) = receiver.blocking_recv() {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => return (bytes, Some(error)),
            }
        }
        (bytes, None)
    }

    #[test]
    fn all_that_is_written_comes_out_in_order() {
        let (mut writer, mut receiver) = channel();
        let all: Vec<u8> = (0..3 * CHUNK + 17).map(|at| at as u8).collect();
        let expected = all.clone();
        let thread = std::thread::spawn(move || {
            writer.write_all(&all).unwrap();
            writer.finish(Ok(()));
        });
        let (bytes, error) = collect(&mut receiver);
        thread.join().unwrap();
        assert!(error.is_none());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn an_error_reaches_the_reader() {
        let (writer, mut receiver) = channel();
        writer.finish(Err(io::Error::other("gone")));
        assert_eq!(collect(&mut receiver).1.unwrap().to_string(), "gone");
    }

    #[test]
    fn why_a_tree_is_not_to_be_had_is_said_once_to_its_attempt() {
        let key = |n| format!("1.0.{n}").parse::<AttemptKey>().unwrap();
        let unreadable = Unreadable::default();
        unreadable.add(key(1), "one".into());
        unreadable.add(key(2), "two".into());
        assert_eq!(unreadable.take(key(2)).as_deref(), Some("two"));
        assert_eq!(unreadable.take(key(2)), None);
        (2..2 + Unreadable::MOST as u32).for_each(|n| unreadable.add(key(n), String::new()));
        assert_eq!(unreadable.take(key(1)), None);
        assert_eq!(unreadable.why.lock().len(), Unreadable::MOST);
    }

    #[test]
    fn a_reader_who_leaves_stops_the_writer() {
        let (mut writer, receiver) = channel();
        drop(receiver);
        assert!(writer.write_all(&vec![0; 2 * CHUNK]).is_err());
    }
}
