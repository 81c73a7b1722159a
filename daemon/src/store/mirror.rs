//! The batch counter beside the store: a small file that tells what the store must have.
//!
//! Two slots of one block each are written in turn, so that a torn write leaves the other.
//!
//! It is written with every batch, and so always right when a process dies. Where numbers of pushes
//! or builds went up it is synced with the batch, since no number may be given twice. Where they
//! did not, its write is started and not waited for: the drive is told to keep it when the data of
//! the batches after it are synced. Should the machine die, it may be two batches behind the store,
//! which takes nothing from the store; waiting would be a third of what a batch costs.
//!
//! ```text
//! 0   8 bytes  "hgcicnt1"
//! 8   u64 le   batches acknowledged
//! 16  u64 le   highest push number
//! 24  u64 le   highest build number
//! 32  u32 le   crc32c of what is before
//! ```

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{IoContext, StoreError, check_there};

const MAGIC: &[u8; 8] = b"hgcicnt1";
const SLOT: u64 = 4096;
const LEN: usize = 36;

/// The highest numbers given to pushes and builds so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Highest [`hgci_core::PushId`].
    pub push: u64,
    /// Highest [`hgci_core::BuildId`].
    pub build: u64,
}

impl Numbers {
    /// The higher ones of both.
    pub fn max(self, other: Numbers) -> Numbers {
        Numbers { push: self.push.max(other.push), build: self.build.max(other.build) }
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Batches that were acknowledged as durable.
    pub batches: u64,
    /// The highest numbers used in them.
    pub numbers: Numbers,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Mirror {
    path: PathBuf,
    file: File,
    slot: u64,
}

impl Mirror {
    /// Opens or creates the file; tells what it says, `None` where it is new or unreadable.
    pub fn open(path: &Path) -> Result<(Mirror, Option<Count>), StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A FIFO or device in its place must not make us wait.
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .on("open", path)?;
        let slots = [read_slot(&file, 0), read_slot(&file, SLOT)];
        let newest = usize::from(slots[1] > slots[0]);
        let count = slots[newest]
            .map(|(batches, push, build)| Count { batches, numbers: Numbers { push, build } });
        if file.metadata().on("examine", path)?.len() < 2 * SLOT {
            // Written once in full, so that later writes change no metadata.
            file.write_all_at(&[0; 2 * SLOT as usize - LEN], LEN as u64).on("write", path)?;
            file.sync_all().on("sync", path)?;
        }
        let mirror = Mirror { path: path.to_owned(), file, slot: SLOT * (1 - newest as u64) };
        Ok((mirror, count))
    }

    /// Whether the file is still where it will be looked for.
    pub fn check_there(&self) -> Result<(), StoreError> {
        check_there(&self.file, &self.path, "")
    }

    /// Writes. With `sync`, it is durable afterwards.
    pub fn write(&mut self, count: Count, sync: bool) -> Result<(), StoreError> {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&count.batches.to_le_bytes());
        bytes[16..24].copy_from_slice(&count.numbers.push.to_le_bytes());
        bytes[24..32].copy_from_slice(&count.numbers.build.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&bytes, self.slot).on("write", &self.path)?;
        if sync || !start_write_back(&self.file, self.slot) {
            rustix::fs::fdatasync(&self.file).on("sync", &self.path)?;
        }
        self.slot = SLOT - self.slot;
        Ok(())
    }
}

/// Starts to write a slot to the drive; whether that was possible.
fn start_write_back(file: &File, slot: u64) -> bool {
    // Both are small constants.
    let (slot, length) = (slot.cast_signed(), SLOT.cast_signed());
    // SAFETY: the call is about a descriptor that is open, and touches no memory.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), slot, length, libc::SYNC_FILE_RANGE_WRITE) == 0
    }
}

/// Batches and numbers of a slot, where it is sound.
fn read_slot(file: &File, at: u64) -> Option<(u64, u64, u64)> {
    let mut bytes = [0; LEN];
    file.read_exact_at(&mut bytes, at).ok()?;
    let number = |from: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(number)
    };
    let sound =
        bytes[..8] == MAGIC[..] && crc32c::crc32c(&bytes[..32]).to_le_bytes() == bytes[32..];
    sound.then(|| (number(8), number(16), number(24)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(batches: u64) -> Count {
        Count { batches, numbers: Numbers { push: 7, build: batches * 2 } }
    }

    #[test]
    fn the_newest_sound_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("count");
        let (mut mirror, before) = Mirror::open(&path).unwrap();
        assert_eq!(before, None);
        for n in 1..=5 {
            mirror.write(count(n), n % 2 == 0).unwrap();
            let (_, now) = Mirror::open(&path).unwrap();
            assert_eq!(now, Some(count(n)));
        }
        // The fifth is in the first slot or the second; damage both in turn.
        for (at, left) in [(10, [4, 5]), (SLOT + 10, [4, 5])] {
            let whole = std::fs::read(&path).unwrap();
            let mut torn = whole.clone();
            torn[at as usize] ^= 0xff;
            std::fs::write(&path, torn).unwrap();
            let (_, now) = Mirror::open(&path).unwrap();
            assert!(left.contains(&now.unwrap().batches));
            std::fs::write(&path, whole).unwrap();
        }
        std::fs::write(&path, b"rubbish").unwrap();
        assert_eq!(Mirror::open(&path).unwrap().1, None);
    }
}
