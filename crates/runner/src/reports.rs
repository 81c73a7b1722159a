//! Finding a job's reports in its tree and adding up their counts.
//!
//! The job is over and its processes are dead, but the tree is what the job made of it: only
//! regular files count, no symlink is followed, a fifo cannot make us wait, and the number of
//! files and directories looked at has a limit.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hgci_core::result::Tests;
use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat, openat};
use rustix::io::Errno;

use crate::glob::{Pattern, Progress};
use crate::junit::{self, JunitError};

/// Directories deeper than this are not searched.
const MAX_DEPTH: usize = 64;

/// Entries that are looked at in all.
const MAX_ENTRIES: usize = 1_000_000;

/// Reports that are read in all.
const MAX_REPORTS: usize = 10_000;

/// Bytes that are read of all reports.
pub const MAX_BYTES: u64 = 256 << 20;

/// Notes that are kept; the rest is counted.
const MAX_NOTES: usize = 20;

/// What the reports say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The sum of all readable reports; `None` when there was none.
    pub tests: Option<Tests>,
    /// What could not be read, and patterns that took nothing.
    pub notes: Vec<String>,
}

/// Reads all regular files in `tree` that one of the patterns takes, at most [`MAX_BYTES`] of them.
/// Never fails: what cannot be read becomes a note. `stop` is asked again and again, and ends it.
pub fn collect(tree: BorrowedFd<'_>, patterns: &[String], stop: &mut dyn FnMut() -> bool) -> Found {
    let mut search = Search {
        found: Found::default(),
        seen: BTreeSet::new(),
        left: MAX_ENTRIES,
        more: 0,
        budget: MAX_BYTES,
        over: false,
        stop,
    };
    for text in patterns {
        if search.over {
            break;
        }
        match Pattern::parse(text) {
            Ok(pattern) => {
                let before = search.seen.len();
                let progress = pattern.start();
                search.folder(tree, &pattern, &progress, &mut Vec::new(), 0);
                if search.seen.len() == before && !search.over {
                    search.note(format!("reports: nothing matches {text:?}"));
                }
            }
            Err(why) => search.note(format!("reports: {text:?} is {why}")),
        }
    }
    if search.left == 0 {
        search
            .note(format!("reports: more than {MAX_ENTRIES} files and folders; not all searched"));
    }
    if search.more > 0 {
        search.found.notes.push(format!("reports: {} more notes", search.more));
    }
    search.found
}

struct Search<'s> {
    found: Found,
    /// Paths that were read: a file counts once, however many patterns take it.
    seen: BTreeSet<Vec<u8>>,
    left: usize,
    more: usize,
    /// Bytes that may still be read.
    budget: u64,
    /// Nothing more is looked at.
    over: bool,
    stop: &'s mut dyn FnMut() -> bool,
}

impl Search<'_> {
    fn note(&mut self, note: String) {
        if self.found.notes.len() < MAX_NOTES {
            self.found.notes.push(note);
        } else {
            self.more += 1;
        }
    }

    /// Depth first, so the handles that are open at once are as many as the depth.
    fn folder(
        &mut self,
        here: BorrowedFd<'_>,
        pattern: &Pattern,
        progress: &Progress,
        path: &mut Vec<u8>,
        depth: usize,
    ) {
        let Ok(entries) = list(here, &mut self.left) else {
            self.note(format!("reports: cannot list {:?}", show(path)));
            return;
        };
        for (name, kind) in entries {
            if !self.over && (self.stop)() {
                self.note("reports: stopped; not all are read".into());
                self.over = true;
            }
            if self.over {
                return;
            }
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let deeper = pattern.enter(progress, &name);
            if matches!(kind, FileType::Directory | FileType::Unknown)
                && !deeper.is_over()
                && depth < MAX_DEPTH
                && let Ok(handle) = open(here, &name, OFlags::DIRECTORY)
            {
                self.folder(handle.as_fd(), pattern, &deeper, path, depth + 1);
            } else if matches!(kind, FileType::RegularFile | FileType::Unknown)
                && pattern.accepts(progress, &name)
                && !self.seen.contains(path.as_slice())
            {
                self.report(here, &name, path);
            }
            path.truncate(length);
        }
    }

    fn report(&mut self, here: BorrowedFd<'_>, name: &[u8], path: &[u8]) {
        if self.seen.len() == MAX_REPORTS {
            self.note(format!("reports: more than {MAX_REPORTS}; {:?} is not read", show(path)));
            return;
        }
        let file = match open(here, name, OFlags::NONBLOCK) {
            Ok(file) => file,
            // Not what the directory said it was.
            Err(Errno::LOOP) => return,
            Err(errno) => {
                self.seen.insert(path.to_vec());
                self.note(format!("report {:?}: {}", show(path), std::io::Error::from(errno)));
                return;
            }
        };
        let regular = fstat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if !regular {
            return;
        }
        self.seen.insert(path.to_vec());
        let report = BufReader::with_capacity(64 << 10, std::fs::File::from(file));
        match junit::count(report, &mut self.budget) {
            Ok(counted) => {
                let sum = self.found.tests.get_or_insert_default();
                sum.passed = sum.passed.saturating_add(counted.passed);
                sum.failed = sum.failed.saturating_add(counted.failed);
                sum.skipped = sum.skipped.saturating_add(counted.skipped);
            }
            Err(JunitError::Spent) => {
                let mib = MAX_BYTES >> 20;
                self.note(format!(
                    "reports: more than {mib} MiB; {:?} is not read, nor are others",
                    show(path)
                ));
                self.over = true;
            }
            Err(error) => self.note(format!("report {:?}: {error}", show(path))),
        }
    }
}

fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars().take(200).collect()
}

fn open(here: BorrowedFd<'_>, name: &[u8], more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | more;
    openat(here, name, flags, Mode::empty())
}

/// The entries of a directory, by name, at most `left`, which goes down by as many.
fn list(here: BorrowedFd<'_>, left: &mut usize) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    // A handle of our own: `here` may only name a place, and has no reading position to share.
    let handle = open(here, b".", OFlags::DIRECTORY)?;
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut listing = RawDir::new(&handle, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if *left == 0 {
            break;
        }
        *left -= 1;
        entries.push((name.to_vec(), entry.file_type()));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}
