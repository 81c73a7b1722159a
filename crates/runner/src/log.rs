//! The job's log on the host: all of it that is kept, until the daemon has it.
//!
//! Short logs stay in memory; a longer one moves into a nameless file in the attempt's folder.
//! So the job never waits for the daemon, memory is bounded, and the runner can send again from
//! whatever offset the daemon names, also from the first byte. What bounds the file is the log
//! limit: past it, bytes are counted and dropped.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hgci_core::quantity::format_size;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Logs up to this size need no file.
const IN_MEMORY: usize = 256 << 10;

/// Kept free below the limit for what the runner itself says at the end.
const RESERVE: u64 = 4096;

/// A log as far as it is kept.
#[derive(Debug)]
pub struct Log {
    limit: u64,
    memory: Vec<u8>,
    file: Option<Arc<File>>,
    length: u64,
    dropped: u64,
    last: u8,
    broken: Option<String>,
}

impl Log {
    /// An empty log that keeps `limit` bytes.
    pub fn new(limit: u64) -> Log {
        Log {
            limit,
            memory: Vec::new(),
            file: None,
            length: 0,
            dropped: 0,
            last: b'\n',
            broken: None,
        }
    }

    /// Bytes that are kept.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes what the job wrote. `folder` is where a file is made when it gets too much.
    pub fn append(&mut self, bytes: &[u8], folder: BorrowedFd<'_>) {
        let room = self.limit.saturating_sub(RESERVE).saturating_sub(self.length);
        let take = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
        self.dropped += (bytes.len() - take) as u64;
        self.keep(&bytes[..take], folder);
    }

    /// Appends a line of the runner's own, on a line of its own.
    pub fn line(&mut self, text: &str, folder: BorrowedFd<'_>) {
        let start = if self.last == b'\n' { "" } else { "\n" };
        let line = format!("{start}{text}\n");
        let room = usize::try_from(self.limit.saturating_sub(self.length)).unwrap_or(usize::MAX);
        self.keep(&line.as_bytes()[..line.len().min(room)], folder);
    }

    /// Ends the log: says what was dropped, in the log and in the note that is returned.
    pub fn close(&mut self, folder: BorrowedFd<'_>) -> Option<String> {
        let note = match &self.broken {
            Some(why) => format!("log cut: {why}; {} bytes dropped", self.dropped),
            None if self.dropped > 0 => format!(
                "log cut: the limit of {} is reached; {} bytes dropped",
                format_size(self.limit),
                self.dropped
            ),
            None => return None,
        };
        self.line(&format!("hgci: {note}"), folder);
        Some(note)
    }

    fn keep(&mut self, bytes: &[u8], folder: BorrowedFd<'_>) {
        let Some(last) = bytes.last() else { return };
        if self.broken.is_some() {
            self.dropped += bytes.len() as u64;
            return;
        }
        match self.store(bytes, folder) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.last = *last;
            }
            Err(error) => {
                // The job goes on: whether it needs the disk itself is its own affair.
                self.broken = Some(format!("keeping it on the host failed: {error}"));
                self.dropped += bytes.len() as u64;
            }
        }
    }

    fn store(&mut self, bytes: &[u8], folder: BorrowedFd<'_>) -> io::Result<()> {
        if self.file.is_none() {
            if self.memory.len() + bytes.len() <= IN_MEMORY {
                self.memory.extend_from_slice(bytes);
                return Ok(());
            }
            let file = nameless(folder)?;
            file.write_all_at(&self.memory, 0)?;
            self.file = Some(Arc::new(file));
            self.memory = Vec::new();
        }
        match &self.file {
            Some(file) => file.write_all_at(bytes, self.length),
            None => Ok(()),
        }
    }

    /// A part of the log, from `offset`, at most `most` bytes; to be read without holding the log.
    pub fn part(&self, offset: u64, most: usize) -> Part {
        let left = self.length.saturating_sub(offset);
        let length = usize::try_from(left).map_or(most, |left| left.min(most));
        match &self.file {
            Some(file) => Part::File { file: file.clone(), offset, length },
            // Below `IN_MEMORY`, so the offset fits.
            None => {
                let start = (offset as usize).min(self.memory.len());
                Part::Memory(self.memory[start..start + length].to_vec())
            }
        }
    }
}

/// Where a part of the log lies.
#[derive(Debug)]
pub enum Part {
    /// Copied, since it is short.
    Memory(Vec<u8>),
    /// In the file, which only grows.
    File {
        /// The file.
        file: Arc<File>,
        /// Where the part starts.
        offset: u64,
        /// How long it is.
        length: usize,
    },
}

impl Part {
    /// Its bytes.
    pub fn read(self) -> io::Result<Vec<u8>> {
        match self {
            Part::Memory(bytes) => Ok(bytes),
            Part::File { file, offset, length } => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
        }
    }
}

/// A file that is gone when the last handle is closed.
fn nameless(folder: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(folder, ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // A file system that cannot.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    let file = openat(folder, "log", flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    unlinkat(folder, "log", AtFlags::empty())?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn all(log: &Log) -> Vec<u8> {
        log.part(0, usize::MAX).read().unwrap()
    }

    #[test]
    fn a_log_reads_the_same_from_memory_and_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let handle = File::open(folder.path()).unwrap();
        let mut log = Log::new(u64::MAX);
        let mut expected = Vec::new();
        for n in 0..20_000_u32 {
            let piece = format!("{n} \u{1b}[31mred\u{1b}[0m \n").into_bytes();
            log.append(&piece, handle.as_fd());
            expected.extend(piece);
        }
        assert!(log.file.is_some());
        assert_eq!(all(&log), expected);
        assert_eq!(log.part(7, 11).read().unwrap(), expected[7..18]);
        assert_eq!(log.part(u64::MAX, 5).read().unwrap(), b"");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_past_the_limit_is_counted_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let handle = File::open(folder.path()).unwrap();
        let mut log = Log::new(10_000);
        log.append(&[b'x'; 20_000], handle.as_fd());
        log.append(b"more", handle.as_fd());
        let note = log.close(handle.as_fd()).unwrap();
        assert_eq!(note, "log cut: the limit of 9.8KiB is reached; 14100 bytes dropped");
        assert!(log.length() <= 10_000);
        assert!(all(&log).ends_with(format!("x\nhgci: {note}\n").as_bytes()));
    }
}
