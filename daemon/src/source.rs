//! The source tree of a changeset as a stream of chunks, read on a thread of its own.

use std::io::{self, Write};

use axum::body::Bytes;
use hgci_core::Node;
use hgci_repo::{Archived, Repository};
use tokio::sync::mpsc;

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

/// Reads the source tree of a changeset into the stream. Blocking.
pub fn archive(repository: &Repository, node: Node, mut writer: ChunkWriter) {
    let outcome = repository.archive(&node, &mut writer);
    if let Ok(Archived { why: Some(why), .. }) = &outcome {
        tracing::info!(%node, %why, "this source tree was read by hg");
    }
    writer.finish(outcome.map(drop).map_err(io::Error::other));
}

/// Whether it is no use to ask for the same tree again soon: the changeset is gone, something of it is
/// too large, `hg` itself says no, as of a censored file, or a file of the repository is missing,
/// damaged, or not for us to read while nobody writes.
pub fn never(repository: &Repository, error: &io::Error) -> bool {
    use hgci_repo::Error::*;
    let why = error.get_ref().and_then(|why| why.downcast_ref());
    match why {
        Some(UnknownChangeset { .. } | TooLarge { .. } | Hg { .. }) => true,
        Some(NotARepository { .. } | NotAFile { .. } | Unsupported { .. }) => true,
        Some(Corrupt { .. }) => !repository.is_locked(),
        Some(Io { source, .. }) => {
            use io::ErrorKind::*;
            let is_the_files = matches!(
                source.kind(),
                PermissionDenied
                    | NotFound
                    | NotADirectory
                    | IsADirectory
                    | UnexpectedEof
                    | InvalidData
            );
            is_the_files && !repository.is_locked()
        }
        // The machine's: too many open files, no memory, a disk that fails.
        Some(Sink(_)) | None => false,
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
    fn a_reader_who_leaves_stops_the_writer() {
        let (mut writer, receiver) = channel();
        drop(receiver);
        assert!(writer.write_all(&vec![0; 2 * CHUNK]).is_err());
    }
}
